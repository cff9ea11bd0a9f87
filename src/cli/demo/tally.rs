//! What the demo's callers saw, and the report at its end.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;

use crate::cli::demo::stage::{GUARD, LIMIT, Stage, WINDOW};

pub(super) struct Tally(Mutex<Vec<Row>>);

struct Row {
    name: &'static str,
    calls: usize,
    good: usize,
    waits: Vec<Duration>,
}

impl Tally {
    pub(super) fn new<const N: usize>(parts: [(&'static str, usize); N]) -> Self {
        let row = |(name, calls)| Row { name, calls, good: 0, waits: Vec::new() };
        Self(Mutex::new(parts.into_iter().map(row).collect()))
    }

    pub(super) fn answered(&self, index: usize, status: Option<StatusCode>, took: Duration) {
        let row = &mut self.rows()[index];
        row.good += usize::from(status == Some(StatusCode::OK));
        row.waits.push(took);
    }

    /// `dashboard 3/20  sync 11/46  …`.
    pub(super) fn line(&self) -> String {
        let rows = self.rows();
        let parts: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {:>2}/{}", row.name, row.waits.len(), row.calls))
            .collect();
        parts.join("  ")
    }

    /// Prints what happened; whether it is what was promised.
    pub(super) fn report(&self, stage: &Stage, took: Duration) -> bool {
        let mut rows = self.rows();
        println!("What the callers saw:\n");
        println!("  {:<10} {:>6} {:>8} {:>10} {:>10}", "caller", "calls", "200", "wait p50", "p95");
        let mut all = Vec::new();
        for row in rows.iter_mut() {
            all.extend_from_slice(&row.waits);
            line(row.name, row.waits.len(), row.good, &mut row.waits);
        }
        let good: usize = rows.iter().map(|row| row.good).sum();
        let calls = all.len();
        line("all", calls, good, &mut all);

        let fake = stage.fake();
        let (highest, refusals) = (fake.highest_in_any_window(WINDOW), fake.refusals());
        println!("\nWhat Omni saw, by its own log:\n");
        println!("  arrivals                        {:>6}", fake.arrived());
        println!("  most in any rolling minute      {highest:>6}   (limit {LIMIT})");
        println!("  answered with 429               {refusals:>6}");
        let sends = u32::try_from(calls.saturating_sub(1)).unwrap_or(u32::MAX);
        let least = (WINDOW + GUARD) * sends / LIMIT.get();
        println!(
            "\nAll of it took {:.1} s; at {LIMIT} each {} s, {calls} calls cannot take less than {:.1} s.",
            took.as_secs_f64(),
            (WINDOW + GUARD).as_secs(),
            least.as_secs_f64(),
        );
        good == calls && refusals == 0 && highest <= LIMIT.get() as usize
    }

    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(name: &str, calls: usize, good: usize, waits: &mut [Duration]) {
    waits.sort();
    let at = |share: f64| {
        let index = (waits.len().saturating_sub(1) as f64 * share).round() as usize;
        waits.get(index).map_or(0.0, Duration::as_secs_f64)
    };
    println!("  {name:<10} {calls:>6} {good:>8} {:>8.1} s {:>8.1} s", at(0.5), at(0.95));
}

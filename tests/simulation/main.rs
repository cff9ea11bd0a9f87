//! Sixteen instances share a budget while everything fails that can: virtual time, the shipped code of an
//! instance, and the shipped script. What arrives at Omni is the judge.
//!
//!   cargo test --test simulation                                  4 seeds of an hour, as tests/run does
//!   SEED=1 SEEDS=50 cargo test --test simulation -- --nocapture      three minutes on two cores
//!   SEED=1 SEEDS=1000 HOURS=6 cargo test --release --test simulation -- --nocapture
//!
//! `SEED` alone repeats one run, and `TELL=yes` tells what happened in it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it saw, and ends by panicking"
)]

#[path = "../engine/mod.rs"]
mod engine;

mod chance;
mod fleet;
mod world;

use std::time::Duration;

use fleet::{LIMIT, Outcome, WINDOW};
use tokio::time::Instant;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn no_61st_request_arrives_whatever_fails() {
    let first = number("SEED").unwrap_or(1);
    let seeds = number("SEEDS").unwrap_or(if number("SEED").is_some() { 1 } else { 4 });
    let hours = number("HOURS").unwrap_or(1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let next = std::sync::atomic::AtomicU64::new(first);
    let began = Instant::now();
    let failed: Vec<String> = std::thread::scope(|scope| {
        let runs = (0..threads).map(|_| {
            scope.spawn(|| {
                let mut failed = Vec::new();
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= first + seeds {
                        return failed;
                    }
                    let outcome = fleet::run(seed, Duration::from_secs(hours * 3_600));
                    println!("{}", told(seed, &outcome));
                    if let Some(what) = wrong(&outcome) {
                        failed.push(format!("SEED={seed} HOURS={hours}: {what}"));
                    }
                }
            })
        });
        let runs: Vec<_> = runs.collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    println!("{seeds} seeds of {hours} h in {:.0} s", began.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn where_the_store_is_lost_to_all_shares_keep_the_bound_also_while_it_comes_back() {
    for seed in 1..=3 {
        let outcome = fleet::run_lost_to_all(seed);
        println!("{}", told(seed, &outcome));
        assert_eq!(wrong(&outcome), None, "seed {seed}");
    }
}

fn told(seed: u64, outcome: &Outcome) -> String {
    format!(
        "seed {seed}: {} arrivals, worst {} in {} s, {} script runs, {} faults ({}), busy {:.1} %",
        outcome.arrivals,
        outcome.worst,
        WINDOW.as_secs(),
        outcome.runs,
        outcome.faults.len(),
        outcome.kinds(),
        outcome.share() * 100.0,
    )
}

fn wrong(outcome: &Outcome) -> Option<String> {
    if outcome.worst > LIMIT as usize {
        return Some(format!("{} arrivals in {WINDOW:?}", outcome.worst));
    }
    // A fleet that sends nothing keeps every limit.
    (outcome.share() < 0.2).then(|| format!("it hardly sends: {:.1} %", outcome.share() * 100.0))
}

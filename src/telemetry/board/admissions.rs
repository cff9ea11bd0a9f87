//! What was granted of one budget, in steps of five seconds.

use std::time::Duration;

use crate::base::Priority;

/// The length of a step.
pub const STEP: Duration = Duration::from_secs(5);

/// How many steps are told: a quarter of an hour.
pub const STEPS: usize = 180;

/// Grants by priority, the oldest step first; the last one runs.
pub type Admitted = [Vec<u32>; 3];

/// A ring of steps.
#[derive(Debug)]
pub(super) struct Steps {
    by_priority: [[u32; STEPS]; 3],
    /// The latest step in it.
    last: u64,
}

impl Default for Steps {
    fn default() -> Self {
        Self { by_priority: [[0; STEPS]; 3], last: 0 }
    }
}

/// Which step a board of this age is in.
pub(super) fn step(age: Duration) -> u64 {
    age.as_secs() / STEP.as_secs()
}

/// How much of it has passed.
pub(super) fn into_step(age: Duration) -> Duration {
    age.saturating_sub(STEP * u32::try_from(step(age)).unwrap_or(u32::MAX))
}

impl Steps {
    pub(super) fn count(&mut self, step: u64, priority: Priority) {
        for empty in (self.last + 1..=step).rev().take(STEPS) {
            for steps in &mut self.by_priority {
                steps[place(empty)] = 0;
            }
        }
        self.last = self.last.max(step);
        // Somebody slept between the clock and the lock; a quarter of an hour is too long.
        if self.last - step < STEPS as u64 {
            let count = &mut self.by_priority[priority as usize][place(step)];
            *count = count.saturating_add(1);
        }
    }

    pub(super) fn view(&self, now: u64) -> Admitted {
        let now = now.max(self.last);
        let oldest = (now + 1).saturating_sub(STEPS as u64);
        self.by_priority.each_ref().map(|steps| {
            let before = (now + 1).saturating_sub(oldest);
            let missing = STEPS - usize::try_from(before).unwrap_or(STEPS).min(STEPS);
            let known = (oldest..=now).map(|step| match step <= self.last && self.holds(step) {
                true => steps[place(step)],
                false => 0,
            });
            std::iter::repeat_n(0, missing).chain(known).collect()
        })
    }

    fn holds(&self, step: u64) -> bool {
        self.last - step < STEPS as u64
    }
}

fn place(step: u64) -> usize {
    (step % STEPS as u64) as usize
}

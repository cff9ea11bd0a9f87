//! The smoothing bucket: the generic cell rate algorithm (ITU-T I.371), as plain arithmetic.
//!
//! It keeps sends apart and never opens anything: the ledger is the gate.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// A bucket of `burst` tokens that gains one each `interval`.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    interval: Duration,
    /// How long before `full_at` the first token is there: (burst - 1) intervals.
    tolerance: Duration,
    /// When the bucket is full again (the algorithm's theoretical arrival time).
    full_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(burst: NonZeroU32, interval: Duration, now: Instant) -> Self {
        let tolerance = interval.saturating_mul(burst.get() - 1);
        Self { interval, tolerance, full_at: now }
    }

    /// When the next token is there; `now` if it is there already.
    pub(crate) fn ready_at(&self, now: Instant) -> Instant {
        // Compared before subtracting: an `Instant` cannot lie before the machine's start.
        if self.full_at <= now + self.tolerance { now } else { self.full_at - self.tolerance }
    }

    /// When the token after `ahead` further ones is there.
    pub(crate) fn nth_at(&self, ahead: usize, now: Instant) -> Instant {
        let wait = crate::shape::ledger::rounds(self.interval, ahead);
        let full_at = self.full_at.max(now) + wait;
        if full_at <= now + self.tolerance { now } else { full_at - self.tolerance }
    }

    pub(crate) fn take(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + self.interval;
    }

    pub(crate) fn give_back(&mut self) {
        // The token was taken by adding an interval, so there is one to subtract.
        self.full_at -= self.interval;
    }

    /// Begins anew, full at `at`.
    pub(crate) fn rewind(&mut self, at: Instant) {
        self.full_at = at;
    }

    /// Leaves exactly one token at `at`, unless there are fewer anyway.
    pub(crate) fn restart(&mut self, at: Instant) {
        self.full_at = self.full_at.max(at + self.tolerance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_full_bucket_gives_its_burst_at_once_and_then_one_each_interval() {
        let now = Instant::now();
        let mut bucket = Bucket::new(NonZeroU32::new(3).unwrap(), SECOND, now);
        for _ in 0..3 {
            assert_eq!(bucket.ready_at(now), now);
            bucket.take(now);
        }
        assert_eq!(bucket.ready_at(now), now + SECOND);
        assert_eq!(bucket.nth_at(4, now), now + 5 * SECOND);
    }

    #[test]
    fn a_token_that_comes_back_may_be_taken_again() {
        let now = Instant::now();
        let mut bucket = Bucket::new(NonZeroU32::MIN, SECOND, now);
        bucket.take(now);
        bucket.give_back();
        assert_eq!(bucket.ready_at(now), now);
    }

    #[test]
    fn a_restart_leaves_one_token() {
        let now = Instant::now();
        let mut bucket = Bucket::new(NonZeroU32::new(10).unwrap(), SECOND, now);
        bucket.restart(now + SECOND);
        assert_eq!(bucket.ready_at(now + SECOND), now + SECOND);
        bucket.take(now + SECOND);
        assert_eq!(bucket.ready_at(now + SECOND), now + 2 * SECOND);
    }
}

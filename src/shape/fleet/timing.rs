//! What the store's clock shows, as far as can be told from here. Pure; time comes as a value.
//!
//! The script of a call ran between its sending and its answer. The quicker the call, the less there
//! is to guess.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A time of the store's clock, in microseconds since 1970.
pub(crate) type StoreTime = u64;

/// After so long clocks may have drifted apart by more than matters.
const WORTHLESS: Duration = Duration::from_secs(600);

/// Two clocks drift apart by one part in so many at most, also while they are being set right.
const DRIFT: u32 = 2_000;

/// So many samples are kept.
const KEPT: usize = 16;

/// Against one sample in so long, for so long, each later one is held too: a clock that is set by a
/// little again and again, or goes wrong for a while, agrees with the latest sample every time.
const MARK_EVERY: Duration = Duration::from_secs(5);
const MARKED: Duration = Duration::from_secs(120);

/// One call whose script told what time it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) sent: Instant,
    pub(crate) received: Instant,
    pub(crate) store: StoreTime,
}

/// What is known of the store's clock.
#[derive(Debug, Default)]
pub(crate) struct Timing {
    samples: Vec<Sample>,
    /// Some of a longer time, the oldest first.
    marks: VecDeque<Sample>,
}

/// Whether a sample agrees with what was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agrees {
    Yes,
    /// The store's clock was set, or it is another clock.
    No,
}

impl Timing {
    /// Whether anything is known.
    pub(crate) fn is_known(&self, now: Instant) -> bool {
        self.best(now).is_some()
    }

    /// Forgets everything.
    pub(crate) fn forget(&mut self) {
        self.samples.clear();
        self.marks.clear();
    }

    /// Learns from a call. What does not agree by more than `tolerance` replaces all that was known.
    pub(crate) fn learn(&mut self, sample: Sample, tolerance: Duration) -> Agrees {
        let agrees = match self.best(sample.received) {
            Some(best) => best.agrees(&sample, tolerance),
            None => true,
        };
        let since = |mark: &Sample| sample.received.saturating_duration_since(mark.received);
        while self.marks.front().is_some_and(|mark| since(mark) > MARKED) {
            self.marks.pop_front();
        }
        let drifts = |mark: &Sample| tolerance + since(mark) / DRIFT;
        let agrees = agrees && self.marks.iter().all(|mark| mark.agrees(&sample, drifts(mark)));
        if !agrees {
            self.forget();
        }
        if self.marks.back().is_none_or(|mark| since(mark) >= MARK_EVERY) {
            self.marks.push_back(sample);
        }
        self.samples.push(sample);
        if self.samples.len() > KEPT {
            let worst =
                (0..self.samples.len()).max_by_key(|&at| self.samples[at].error(sample.received));
            worst.map(|at| self.samples.swap_remove(at));
        }
        if agrees { Agrees::Yes } else { Agrees::No }
    }

    /// What the clock shows at `at`, at a guess.
    pub(crate) fn store_at(&self, at: Instant) -> Option<StoreTime> {
        let best = self.best(at)?;
        let middle = best.sent + (best.received - best.sent) / 2;
        Some(shift(best.store, middle, at))
    }

    /// The moment at which the clock surely shows `time`, or more.
    pub(crate) fn surely(&self, time: StoreTime, now: Instant) -> Option<Instant> {
        let best = self.best(now)?;
        let ahead = Duration::from_micros(time.saturating_sub(best.store));
        let behind = Duration::from_micros(best.store.saturating_sub(time));
        let later = best.received.checked_add(ahead)?;
        Some(later.checked_sub(behind).unwrap_or(now))
    }

    /// The moment before which the clock surely did not show `time`.
    pub(crate) fn not_before(&self, time: StoreTime, now: Instant) -> Option<Instant> {
        let best = self.best(now)?;
        let ahead = Duration::from_micros(time.saturating_sub(best.store));
        let behind = Duration::from_micros(best.store.saturating_sub(time));
        let at = best.sent.checked_add(ahead)?.checked_sub(behind)?;
        let drift = now.saturating_duration_since(best.received) / DRIFT;
        at.checked_sub(drift)
    }

    /// The sample that leaves the least to guess.
    fn best(&self, now: Instant) -> Option<&Sample> {
        let known = self.samples.iter().filter(|one| now - one.received.min(now) <= WORTHLESS);
        known.min_by_key(|sample| sample.error(now))
    }
}

impl Sample {
    /// How far off it may be.
    fn error(&self, now: Instant) -> Duration {
        self.received - self.sent + now.saturating_duration_since(self.received) / DRIFT
    }

    /// Whether both can be readings of one clock that goes as ours does.
    fn agrees(&self, later: &Self, tolerance: Duration) -> bool {
        // Between the two scripts passed at least this, and at most that.
        let least = later.sent.saturating_duration_since(self.received);
        let most = later.received.saturating_duration_since(self.sent);
        let tolerance = micros(tolerance);
        later.store.saturating_add(tolerance) >= self.store.saturating_add(micros(least))
            && later.store <= self.store.saturating_add(micros(most)).saturating_add(tolerance)
    }
}

/// In whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn shift(base: StoreTime, from: Instant, to: Instant) -> StoreTime {
    let ahead = micros(to.saturating_duration_since(from));
    let behind = micros(from.saturating_duration_since(to));
    base.saturating_add(ahead).saturating_sub(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const GUARD: Duration = Duration::from_millis(500);

    /// A call that takes `rtt` ms, sent at `at` ms, of a store whose clock is ahead by 7 s.
    fn sample(start: Instant, at: u32, rtt: u32) -> Sample {
        let store = 7_000_000 + u64::from(at * 1_000 + rtt * 500);
        Sample { sent: start + at * MS, received: start + (at + rtt) * MS, store }
    }

    #[test]
    fn the_quickest_of_the_latest_calls_is_believed() {
        let (start, mut timing) = (Instant::now(), Timing::default());
        for (at, rtt) in [(0, 300), (1_000, 2), (2_000, 40)] {
            assert_eq!(timing.learn(sample(start, at, rtt), GUARD), Agrees::Yes);
        }
        assert_eq!(timing.store_at(start + 5_000 * MS), Some(12_000_000));
        // Never too early, and no later than a call takes.
        let surely = timing.surely(12_000_000, start + 2_100 * MS).unwrap();
        assert_eq!(surely, start + 5_001 * MS);
        // A call is never older than its sending, and no younger than it may be.
        let not_before = timing.not_before(12_000_000, start + 2_100 * MS).unwrap();
        assert!(not_before <= start + 5_000 * MS && not_before >= start + 4_998 * MS);
        assert_eq!(timing.store_at(start + 700_000 * MS), None);
    }

    #[test]
    fn a_clock_that_goes_wrong_little_by_little_is_found_out() {
        for (millionths, is_found) in [(20_000_i64, true), (-20_000, true), (450, false)] {
            let (start, mut timing) = (Instant::now(), Timing::default());
            let found = (0_u32..1_200).any(|nth| {
                let (at, true_store) = (nth * 100, 10_000_000_000 + u64::from(nth) * 100_000);
                let off = i64::from(nth) * millionths / 10;
                let store = true_store.saturating_add_signed(off);
                let (sent, received) = (start + at * MS, start + (at + 2) * MS);
                timing.learn(Sample { sent, received, store }, GUARD / 2) == Agrees::No
            });
            assert_eq!(found, is_found, "{millionths} millionths");
        }
    }

    #[test]
    fn a_slow_call_is_no_clock_that_was_set() {
        let (start, mut timing) = (Instant::now(), Timing::default());
        timing.learn(sample(start, 0, 1), GUARD);
        assert_eq!(timing.learn(sample(start, 100, 5_000), GUARD), Agrees::Yes);
    }

    #[test]
    fn a_clock_that_was_set_is_found_out_and_believed_from_then_on() {
        for step in [-3_600_000_000_i64, 3_600_000_000, -600_000, 600_000] {
            let (start, mut timing) = (Instant::now(), Timing::default());
            let base = 10_000_000_000;
            let at = |ms: u32, store| Sample {
                sent: start + ms * MS,
                received: start + (ms + 2) * MS,
                store,
            };
            timing.learn(at(0, base), GUARD / 2);
            let stepped = base.saturating_add_signed(step);
            assert_eq!(timing.learn(at(1_000, stepped + 1_000_000), GUARD / 2), Agrees::No);
            assert_eq!(timing.learn(at(2_000, stepped + 2_000_000), GUARD / 2), Agrees::Yes);
        }
    }
}

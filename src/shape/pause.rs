//! What a budget does after Omni said that it is too much. Pure; time comes as a value.
//!
//! Nobody sends until the pause is over; then one call goes, the probe. When Omni takes it, the others
//! follow at pace; when not, the next pause is twice as long.

use std::time::Duration;

use tokio::time::Instant;

use crate::shape::schedule::Next;

/// The first pause without a `Retry-After`; it doubles up to one window.
const FIRST: Duration = Duration::from_secs(10);

/// A probe that Omni has not refused after this time was taken: the limit is enforced in front of
/// the application, and answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a budget is paused, and why.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    state: State,
    /// Refusals in a row.
    refusals: u32,
    /// Grants that were made before this one knew nothing of the pause.
    since: u64,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    Closed {
        until: Instant,
    },
    Probing {
        since: Instant,
    },
}

impl Pause {
    /// When the next call may go, as far as the pause is concerned.
    pub(crate) fn next(&self, now: Instant) -> Next {
        match self.state {
            State::Open => Next::Now,
            State::Closed { until } if now < until => Next::At(until),
            State::Closed { .. } => Next::Now,
            State::Probing { since } if now < since + PATIENCE => Next::At(since + PATIENCE),
            State::Probing { .. } => Next::Now,
        }
    }

    /// Until when nobody sends, where that is known.
    pub(crate) fn until(&self) -> Option<Instant> {
        match self.state {
            State::Closed { until } => Some(until),
            State::Open | State::Probing { .. } => None,
        }
    }

    /// Whether the probe is out, and nobody knows yet.
    pub(crate) fn is_probing(&self) -> bool {
        matches!(self.state, State::Probing { .. })
    }

    pub(crate) fn is_on(&self) -> bool {
        !matches!(self.state, State::Open)
    }

    /// Whether nobody sends now: until it is over, and while the probe is out. Not once the next
    /// call would be the probe.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.next(now) != Next::Now
    }

    /// A call is granted. Says whether the pause is over with it.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        match self.state {
            State::Open => false,
            State::Closed { .. } => {
                self.state = State::Probing { since: now };
                false
            }
            State::Probing { .. } => self.end(),
        }
    }

    /// Omni refused a call that was granted as number `grant`. `jitter` is from 0 to 1.
    pub(crate) fn refused(
        &mut self,
        now: Instant,
        grant: u64,
        next_grant: u64,
        retry_after: Option<Duration>,
        window: Duration,
        jitter: f64,
    ) {
        let stale = self.is_on() && grant < self.since;
        if stale {
            // It set out before the pause began, and says nothing that is not known; but a
            // `Retry-After` is a promise, and the longest one counts.
            let later = retry_after.map(|wait| now + wait);
            if let (State::Closed { until }, Some(later)) = (&mut self.state, later) {
                *until = later.max(*until);
            }
            return;
        }
        let doubled = FIRST.saturating_mul(1 << self.refusals.min(16)).min(window.max(FIRST / 10));
        let wait = retry_after.unwrap_or_else(|| doubled.mul_f64(0.9 + 0.2 * jitter));
        self.refusals = self.refusals.saturating_add(1);
        self.state = State::Closed { until: now + wait };
        self.since = next_grant;
    }

    /// Omni took a call that was granted as number `grant`. Says whether the pause is over with it.
    pub(crate) fn taken(&mut self, grant: u64) -> bool {
        match self.state {
            State::Probing { .. } if grant >= self.since => self.end(),
            State::Open | State::Closed { .. } | State::Probing { .. } => false,
        }
    }

    /// A call that was granted as number `grant` ended without an answer.
    pub(crate) fn lost(&mut self, now: Instant, grant: u64) {
        if matches!(self.state, State::Probing { .. }) && grant >= self.since {
            self.state = State::Closed { until: now };
        }
    }

    /// A probe of somebody's is out, who shares the budget; it is taken to be good after `left`.
    pub(crate) fn others_probe(&mut self, now: Instant, left: Duration) {
        let since = (now + left).checked_sub(PATIENCE).unwrap_or(now);
        self.state = State::Probing { since };
    }

    /// Goes on with a pause of an earlier life, or of somebody who shares the budget.
    pub(crate) fn resume(&mut self, until: Instant) {
        self.state = State::Closed { until };
    }

    /// It is over, as those know who share the budget.
    pub(crate) fn end(&mut self) -> bool {
        self.state = State::Open;
        self.refusals = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn pauses_double_to_a_window_and_begin_anew_after_a_success() {
        let start = Instant::now();
        let mut pause = Pause::default();
        let mut now = start;
        for (grant, expected) in [(0, 10), (1, 20), (2, 40), (3, 60), (4, 60)] {
            pause.refused(now, grant, grant + 1, None, WINDOW, 0.5);
            assert_eq!(pause.next(now), Next::At(now + expected * SECOND));
            now += expected * SECOND;
            assert_eq!(pause.next(now), Next::Now);
            assert!(!pause.take(now));
            // One probe, and nobody behind it.
            assert_eq!(pause.next(now), Next::At(now + PATIENCE));
        }
        assert!(pause.taken(5));
        assert!(!pause.is_on());
        pause.refused(now, 6, 7, None, WINDOW, 0.5);
        assert_eq!(pause.until(), Some(now + 10 * SECOND));
    }

    #[test]
    fn many_refusals_of_one_storm_are_one_pause() {
        let now = Instant::now();
        let mut pause = Pause::default();
        pause.refused(now, 7, 10, None, WINDOW, 0.5);
        for grant in [8, 9, 3] {
            pause.refused(now + SECOND, grant, 10, None, WINDOW, 0.5);
        }
        assert_eq!(pause.until(), Some(now + 10 * SECOND));
        pause.refused(now + SECOND, 9, 10, Some(30 * SECOND), WINDOW, 0.5);
        assert_eq!(pause.until(), Some(now + 31 * SECOND));
    }

    #[test]
    fn a_late_success_of_before_does_not_end_the_pause() {
        let now = Instant::now();
        let mut pause = Pause::default();
        pause.refused(now, 4, 5, Some(3 * SECOND), WINDOW, 0.5);
        assert!(!pause.taken(4));
        pause.take(now + 3 * SECOND);
        assert!(!pause.taken(4));
        assert!(pause.is_on());
        assert!(pause.taken(5));
    }

    #[test]
    fn a_probe_that_is_lost_makes_room_for_another() {
        let now = Instant::now();
        let mut pause = Pause::default();
        pause.refused(now, 0, 1, Some(SECOND), WINDOW, 0.5);
        pause.take(now + SECOND);
        pause.lost(now + SECOND, 1);
        assert_eq!(pause.next(now + SECOND), Next::Now);
    }

    #[test]
    fn a_probe_that_omni_thinks_about_was_taken() {
        let now = Instant::now();
        let mut pause = Pause::default();
        pause.refused(now, 0, 1, Some(SECOND), WINDOW, 0.5);
        pause.take(now + SECOND);
        let later = now + SECOND + PATIENCE;
        assert_eq!(pause.next(later), Next::Now);
        assert!(pause.take(later));
        assert!(!pause.is_on());
    }
}

//! What became of the calls of one caller, or of one route, minute by minute.

use std::time::Duration;

use tokio::time::Instant;

use super::Ended;

/// The minute that runs, and a quarter of an hour before it.
pub(super) const MINUTES: usize = 16;

/// What became of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that ended.
    pub calls: u64,
    /// Attempts that were sent for them.
    pub sent: u64,
    /// Calls that cost no request.
    pub saved: u64,
    /// Calls that omnigate answered itself with a problem.
    pub refused: u64,
    /// Calls that upstream answered with 5xx.
    pub failed: u64,
    /// The longest wait for a turn.
    pub longest_wait: Duration,
    /// The mean wait for a turn, of those who needed one.
    pub mean_wait: Option<Duration>,
    /// The mean time that upstream took to its response head, of those that were sent.
    pub mean_upstream: Option<Duration>,
    /// Since the start.
    pub calls_ever: u64,
    /// Calls that cost no request, since the start.
    pub saved_ever: u64,
    /// When the last one ended, ago.
    pub seen: Option<Duration>,
}

/// The calls of the last minutes, and what is known of all.
#[derive(Debug, Default)]
pub(super) struct Ring {
    minutes: [Minute; MINUTES],
    calls_ever: u64,
    saved_ever: u64,
    last: Option<Instant>,
}

/// What ended in one minute. Sums are in microseconds: a million years fit.
#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    /// Which; what stands here of an older one counts no more.
    number: u32,
    calls: u32,
    sent: u32,
    saved: u32,
    refused: u32,
    failed: u32,
    waits: u32,
    answers: u32,
    longest_us: u64,
    waited_us: u64,
    upstream_us: u64,
}

impl Ring {
    pub(super) fn count(&mut self, minute: u32, now: Instant, what: &Ended<'_>) {
        self.calls_ever += 1;
        self.saved_ever += u64::from(what.is_saved());
        self.last = self.last.max(Some(now));
        let Some(slot) = slot(&mut self.minutes, minute, |one| &mut one.number) else { return };
        let one = |is: bool| u32::from(is);
        slot.calls += 1;
        slot.sent = slot.sent.saturating_add(what.attempts);
        slot.saved += one(what.is_saved());
        slot.refused += one(what.is_refused());
        slot.failed += one(what.is_failed());
        if let Some(waited) = what.waited {
            slot.waits += 1;
            slot.waited_us += micros(waited);
            slot.longest_us = slot.longest_us.max(micros(waited));
        }
        if let Some(took) = what.upstream.filter(|_| what.attempts > 0) {
            slot.answers += 1;
            slot.upstream_us += micros(took);
        }
    }

    pub(super) fn view(&self, minute: u32, now: Instant) -> Tally {
        let mut tally = Tally {
            calls_ever: self.calls_ever,
            saved_ever: self.saved_ever,
            seen: self.last.map(|last| now.saturating_duration_since(last)),
            ..Tally::default()
        };
        let (mut longest, mut waits, mut waited, mut answers, mut upstream) = (0, 0, 0, 0, 0);
        for slot in self.minutes.iter().filter(|slot| is_told(slot.number, minute)) {
            tally.calls += u64::from(slot.calls);
            tally.sent += u64::from(slot.sent);
            tally.saved += u64::from(slot.saved);
            tally.refused += u64::from(slot.refused);
            tally.failed += u64::from(slot.failed);
            longest = slot.longest_us.max(longest);
            waits += u64::from(slot.waits);
            waited += slot.waited_us;
            answers += u64::from(slot.answers);
            upstream += slot.upstream_us;
        }
        let mean = |sum: u64, of: u64| sum.checked_div(of).map(Duration::from_micros);
        tally.longest_wait = Duration::from_micros(longest);
        tally.mean_wait = mean(waited, waits);
        tally.mean_upstream = mean(upstream, answers);
        tally
    }
}

/// The place of a minute in a ring, emptied of what stood there before. `None` where a later one
/// stands there: somebody slept between the clock and the lock.
pub(super) fn slot<T: Default, const N: usize>(
    ring: &mut [T; N],
    minute: u32,
    number: impl Fn(&mut T) -> &mut u32,
) -> Option<&mut T> {
    let slot = ring.get_mut(minute as usize % N)?;
    let stands = *number(slot);
    if stands < minute {
        *slot = T::default();
        *number(slot) = minute;
    }
    (stands <= minute).then_some(slot)
}

/// Whether what ended in minute `number` is told in minute `now`.
pub(super) fn is_told(number: u32, now: u32) -> bool {
    now.saturating_sub(number) < MINUTES as u32
}

fn micros(time: Duration) -> u64 {
    // A thousand years at most, so that no sum runs over.
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(1 << 44)
}

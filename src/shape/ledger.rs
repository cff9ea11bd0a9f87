//! The exact log of the sends that still count. It is the hard gate of every profile.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::Priority;
use crate::shape::journal::Slot;

/// Counts `limit` sends per `span`, each from the moment it was stamped.
///
/// A permit in somebody's hand is *held*: it occupies a slot and has no time yet.
#[derive(Debug)]
pub(crate) struct Ledger {
    limit: usize,
    span: Duration,
    stamps: VecDeque<Stamp>,
    held: usize,
}

/// One send that still counts.
#[derive(Debug)]
pub(crate) struct Stamp {
    /// When its head was handed to the socket.
    pub(crate) at: Instant,
    /// Where it stands in the journal; given up when the stamp expires.
    pub(crate) slot: Option<Slot>,
    /// Whose; nobody knows of one of an earlier life.
    pub(crate) by: Option<By>,
}

/// Whose send it was. Eight bytes, since a ledger may hold many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct By {
    /// The index of the caller.
    pub(crate) caller: u32,
    pub(crate) priority: Priority,
}

impl Stamp {
    /// A send of which only the time counts.
    pub(crate) fn of_nobody(at: Instant) -> Self {
        Self { at, slot: None, by: None }
    }
}

impl Ledger {
    pub(crate) fn new(limit: usize, span: Duration) -> Self {
        Self { limit, span, stamps: VecDeque::new(), held: 0 }
    }

    /// Takes over sends of an earlier life, in any order.
    pub(crate) fn restore(&mut self, stamps: impl IntoIterator<Item = Stamp>) {
        self.stamps.extend(stamps);
        self.stamps.make_contiguous().sort_by_key(|stamp| stamp.at);
    }

    /// The sends that count, the oldest first.
    pub(crate) fn stamps(&self) -> impl ExactSizeIterator<Item = &Stamp> {
        self.stamps.iter()
    }

    /// Permits in hand.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// How many sends count now, permits in hand among them.
    pub(crate) fn used(&self) -> usize {
        self.stamps.len() + self.held
    }

    /// Whether a call that has to leave `reserve` slots free finds none.
    pub(crate) fn is_full(&self, reserve: usize) -> bool {
        self.used() + reserve >= self.limit
    }

    /// When the ledger stops being full by stamps alone; `None` where only a permit that comes
    /// back can make room. Asked only while it is full.
    pub(crate) fn frees_at(&self, reserve: usize) -> Option<Instant> {
        let over = self.used() + reserve - self.limit;
        self.stamps.get(over).map(|stamp| stamp.at + self.span)
    }

    /// Removes the oldest stamp if it no longer counts at `now`.
    pub(crate) fn expire_one(&mut self, now: Instant) -> Option<Stamp> {
        let due = self.stamps.front().is_some_and(|stamp| stamp.at + self.span <= now);
        due.then(|| self.stamps.pop_front()).flatten()
    }

    pub(crate) fn hold(&mut self) {
        self.held += 1;
    }

    /// Turns a held permit into a stamp. `at` never lies before an earlier stamp's: the clock is
    /// monotonic and the budget's lock is held.
    pub(crate) fn stamp(&mut self, stamp: Stamp) {
        self.held -= 1;
        self.stamps.push_back(stamp);
    }

    pub(crate) fn give_back(&mut self) {
        self.held -= 1;
    }

    /// When a slot is there for the call that has `ahead` calls before it, if all of them send as
    /// soon as they can. `returning`: whether permits in hand are taken to come back at once,
    /// which makes it a lower bound, or to be sent now, which makes it an estimate.
    /// Calls that have to leave `reserve` slots free go by a limit that is lower by so much.
    pub(crate) fn slot_at(
        &self,
        ahead: usize,
        now: Instant,
        returning: bool,
        reserve: usize,
    ) -> Instant {
        let limit = self.limit - reserve;
        let turn = ahead % limit;
        let used = if returning { self.stamps.len() } else { self.used() };
        let free = limit.saturating_sub(used);
        let first = match turn.checked_sub(free) {
            None => now,
            Some(nth) => self
                .stamps
                .get(nth + used.saturating_sub(limit))
                .map_or(now + self.span, |stamp| stamp.at + self.span),
        };
        first.max(now) + rounds(self.span, ahead / limit)
    }
}

/// `span` times `n`, at most a century.
pub(crate) fn rounds(span: Duration, n: usize) -> Duration {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    u32::try_from(n).ok().and_then(|n| span.checked_mul(n)).map_or(CENTURY, |d| d.min(CENTURY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(ledger: &mut Ledger, at: Instant) {
        ledger.hold();
        ledger.stamp(Stamp::of_nobody(at));
    }

    #[test]
    fn who_sent_costs_eight_bytes() {
        assert_eq!(size_of::<Option<By>>(), 8);
        assert_eq!(size_of::<Stamp>(), size_of::<(Instant, Option<Slot>)>() + 8);
    }

    #[test]
    fn a_stamp_counts_until_its_span_is_over_and_not_longer() {
        let start = Instant::now();
        let mut ledger = Ledger::new(1, Duration::from_secs(61));
        sent(&mut ledger, start);
        assert!(ledger.is_full(0));
        assert_eq!(ledger.frees_at(0), Some(start + Duration::from_secs(61)));
        assert!(ledger.expire_one(start + Duration::from_millis(60_999)).is_none());
        assert!(ledger.expire_one(start + Duration::from_secs(61)).is_some());
        assert!(!ledger.is_full(0));
    }

    #[test]
    fn a_held_permit_occupies_a_slot_without_an_end() {
        let mut ledger = Ledger::new(1, Duration::from_secs(61));
        ledger.hold();
        assert!(ledger.is_full(0));
        assert_eq!(ledger.frees_at(0), None);
        ledger.give_back();
        assert_eq!(ledger.used(), 0);
    }

    #[test]
    fn a_ledger_that_was_overfilled_by_an_earlier_life_opens_late() {
        let start = Instant::now();
        let later = |s| start + Duration::from_secs(s);
        let mut ledger = Ledger::new(2, Duration::from_secs(60));
        ledger.restore([3, 1, 2].map(|s| Stamp::of_nobody(later(s))));
        // Two of the three must expire before there is room for one.
        assert_eq!(ledger.frees_at(0), Some(later(62)));
        assert_eq!(ledger.slot_at(0, later(3), false, 0), later(62));
        assert_eq!(ledger.slot_at(1, later(3), false, 0), later(63));
        assert_eq!(ledger.slot_at(2, later(3), false, 0), later(122));
    }
}

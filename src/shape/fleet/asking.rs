//! Which calls the store is told of, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::Priority;
use crate::shape::fleet::call::{Head, Said};
use crate::shape::fleet::membership::{Known, Membership, Reach};
use crate::shape::line::{LaneIndex, Seat, Ticket};
use crate::shape::meter::{later, sooner as sooner_of};
use crate::shape::queue::{Queue, Stage};
use crate::shape::schedule::Next;

/// So many calls of one row the store is told of, so that it can grant several at once.
pub(crate) const PER_ROW: usize = 4;

/// So many it is told of in all.
const HEADS: usize = 32;

/// Of each class so many rows at least, where other classes have more rows than there is room for: the
/// store owes each class its due, and can grant only what it knows.
const PER_CLASS: usize = 8;

/// How long before the own ledger has a slot the store is asked: a grant that comes first waits.
const EARLY: Duration = Duration::from_millis(100);

impl Queue {
    /// Whether calls of this lane that may go have to ask the store.
    pub(in crate::shape) fn asks_store(&self, lane: LaneIndex) -> bool {
        let of_way =
            |meters: &[usize]| meters.iter().any(|&one| self.meters[one].sharing.asks_store());
        self.fleet.is_some() && self.lanes[lane].ways.iter().any(|way| of_way(&way.meters))
    }

    /// Whether calls of this lane share what they are charged to with other instances.
    pub(in crate::shape) fn is_shared(&self, lane: LaneIndex) -> bool {
        self.fleet.is_some() && self.lanes[lane].ways.iter().any(|way| !way.meters.is_empty())
    }

    /// Rings for the store where it has to be told something before it wants to be asked again.
    /// When somebody has to look again for its sake.
    pub(in crate::shape) fn tend_fleet(&mut self, now: Instant) -> Option<Instant> {
        let fleet = self.fleet.as_ref()?;
        let opens = self.meters.iter().filter_map(|meter| meter.sharing.until());
        let mut alarm = opens.filter(|at| *at > now).min();
        if fleet.reach != Reach::Joined {
            return alarm;
        }
        let mut sooner = |at: Instant| alarm = Some(alarm.map_or(at, |other| other.min(at)));
        fleet.credits.iter().for_each(|credit| sooner(credit.expires));
        let mut tell =
            !(fleet.returns.is_empty() && fleet.reports.is_empty() && fleet.stops.is_empty());
        tell |= fleet.known.iter().any(|(ticket, known)| !self.is_ready_at(*ticket, known.seat));
        for (seat, nth, ticket) in self.line.ready(1) {
            if nth > 0 || tell || fleet.has(ticket) || fleet.knows_row(seat) {
                continue;
            }
            if !fleet.has_room(seat.priority) {
                // As soon as one of those is granted.
                continue;
            }
            match self.offered(seat, now) {
                Next::Now => tell = true,
                Next::At(at) => sooner(at),
                Next::Untold => {}
            }
        }
        if tell {
            fleet.bell.notify_one();
        }
        alarm
    }

    fn is_ready_at(&self, ticket: Ticket, seat: Seat) -> bool {
        let waiter = self.waiters.get(&ticket);
        waiter.is_some_and(|one| one.seat == seat && matches!(one.stage, Stage::Ready))
    }

    /// When the store may be told of calls of this kind.
    fn offered(&self, seat: Seat, now: Instant) -> Next {
        if self.stop.holds(now) {
            return self.stop.next(now);
        }
        let ways = self.lanes[seat.lane].usable();
        let next = ways.filter_map(|(_, way)| self.way_offered(&way.meters, seat.priority, now));
        next.fold(Next::Untold, sooner_of)
    }

    fn way_offered(&self, meters: &[usize], priority: Priority, now: Instant) -> Option<Next> {
        let asks =
            !meters.is_empty() && meters.iter().all(|&one| self.meters[one].sharing.asks_store());
        let next = meters.iter().map(|&meter| self.meters[meter].next(now, priority));
        Some(match next.fold(Next::Now, later) {
            Next::At(at) if at <= now + EARLY => Next::Now,
            Next::At(at) => Next::At(at - EARLY),
            known @ (Next::Now | Next::Untold) => known,
        })
        .filter(|_| asks)
    }

    /// What there is to be said to the store now; from here on it is taken to know.
    pub(in crate::shape) fn say(&mut self, now: Instant) -> Said {
        self.advance(now);
        let mut known = BTreeMap::new();
        let mut heads = Vec::new();
        for (seat, ticket) in self.first_to_tell(now) {
            if heads.len() == HEADS {
                break;
            }
            if let Some((head, ways)) = self.head(seat, ticket, now) {
                known.insert(ticket, Known { seat, ways });
                heads.push(head);
            }
        }
        let Some(fleet) = &mut self.fleet else { return Said::default() };
        fleet.known = known;
        Said {
            heads,
            returns: std::mem::take(&mut fleet.returns),
            reports: std::mem::take(&mut fleet.reports),
            stops: std::mem::take(&mut fleet.stops),
        }
    }

    /// Those of whom the store may be told, the most important first: the first of each row before the
    /// second of any, some rows of each class before more of one, and callers by turns.
    fn first_to_tell(&self, now: Instant) -> Vec<(Seat, Ticket)> {
        let Some(fleet) = &self.fleet else { return Vec::new() };
        let mut rows = [0; Priority::ALL.len()];
        let mut first = Vec::new();
        for (seat, nth, ticket) in self.line.ready(PER_ROW) {
            let known = fleet.known.contains_key(&ticket);
            if fleet.has(ticket) || !known && self.offered(seat, now) != Next::Now {
                continue;
            }
            let of_class = &mut rows[seat.priority as usize];
            *of_class += usize::from(nth == 0);
            first.push(((nth, *of_class > PER_CLASS), seat, ticket));
        }
        // Who is equal stays in the order of turns.
        first.sort_by_key(|&(order, ..)| order);
        first.into_iter().map(|(_, seat, ticket)| (seat, ticket)).collect()
    }

    fn head(&self, seat: Seat, ticket: Ticket, now: Instant) -> Option<(Head, Vec<usize>)> {
        let fleet = self.fleet.as_ref()?;
        if self.stop.holds(now) {
            return None;
        }
        let ways = self.lanes[seat.lane].usable();
        let ways = ways.filter(|(_, way)| {
            // Who was told of stays told of: it has its turn among the others.
            let offered = self.way_offered(&way.meters, seat.priority, now);
            offered.is_some_and(|next| next == Next::Now || fleet.known.contains_key(&ticket))
        });
        let (ways, meters): (Vec<usize>, Vec<Vec<usize>>) =
            ways.map(|(index, way)| (index, way.meters.clone())).unzip();
        let head = Head {
            ticket,
            class: seat.priority,
            caller: self.callers.name(seat.caller)?.to_string(),
            arrived: self.waiters.get(&ticket)?.joined,
            ways: meters,
        };
        (!ways.is_empty()).then_some((head, ways))
    }

    /// What was said may not have been heard: it is said again.
    pub(in crate::shape) fn unsaid(&mut self, said: Said) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.returns.splice(0..0, said.returns);
        fleet.reports.splice(0..0, said.reports);
        for stop in said.stops {
            if fleet.stops.iter().all(|newer| newer.budget != stop.budget) {
                fleet.stops.push(stop);
            }
        }
        fleet.known.clear();
    }
}

impl Membership {
    /// Whether the store may be told of one more row of this class.
    fn has_room(&self, class: Priority) -> bool {
        let rows = self.known.values().map(|known| known.seat);
        let rows: BTreeSet<_> = rows.map(|seat| (seat.priority, seat.caller, seat.lane)).collect();
        let of_class = rows.iter().filter(|(priority, ..)| *priority == class);
        rows.len() < HEADS || of_class.count() < PER_CLASS
    }
}

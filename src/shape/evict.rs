//! Who is told to go: those who are sure to miss their deadline, have no key left, or would still wait
//! when the process ends.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::{CredentialId, Priority};
use crate::shape::fleet::Membership;
use crate::shape::lane::{Purpose, Service};
use crate::shape::line::{Count, LaneIndex, Seat, Ticket};
use crate::shape::queue::{Queue, Stage};
use crate::shape::refused::Refused;
use crate::shape::stop::Stop;

/// What those are told who wait for a store that is lost.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How many of those who are refused when the process ends are told an estimate.
const SHOWN: usize = 256;

impl Queue {
    /// Looks at the nearest deadlines: whoever is sure to miss its own is told now.
    pub(super) fn refuse_hopeless(&mut self, now: Instant) {
        while let Some(&(until, ticket)) = self.deadlines.first() {
            let Some(seat) = self.waiters.get(&ticket).map(|waiter| waiter.seat) else { return };
            let sure = self.rank(seat, ticket, Count::Sure, now);
            if self.lower_bound(seat, sure, now) <= until {
                return;
            }
            let late = self.late(ticket, seat, now, until);
            self.refuse(ticket, late);
        }
    }

    /// Takes a key out of service, or back in. Those who have no key left are refused.
    pub(crate) fn set_service(
        &mut self,
        now: Instant,
        credential: &CredentialId,
        service: Service,
    ) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.purpose == Purpose::Calls) {
            for way in lane.ways.iter_mut().filter(|way| way.credential == *credential) {
                way.service = service;
            }
        }
        let lanes = &self.lanes;
        let hopeless: Vec<Ticket> = self
            .waiters
            .iter()
            .filter(|(_, waiter)| waiter.queued() && lanes[waiter.seat.lane].all_out())
            .map(|(&ticket, _)| ticket)
            .collect();
        for ticket in hopeless {
            self.refuse(ticket, Refused::Rejected { credential: credential.clone() });
        }
        self.advance(now);
    }

    /// From now on only calls that are expected to go before `end` are kept.
    pub(crate) fn drain(&mut self, now: Instant, end: Instant) {
        self.draining = Some(end);
        self.advance(now);
        let queued: Vec<(Ticket, Seat)> = self
            .waiters
            .iter()
            .filter(|(_, waiter)| waiter.queued())
            .map(|(&ticket, waiter)| (ticket, waiter.seat))
            .collect();
        // Ranks first: a refusal changes those behind it, and they were not kept either.
        let mut cuts: BTreeMap<(LaneIndex, Priority), usize> = BTreeMap::new();
        let refused: Vec<(Ticket, Refused)> = queued
            .into_iter()
            .filter_map(|(ticket, seat)| {
                let kind = (seat.lane, seat.priority);
                let cut = *cuts.entry(kind).or_insert_with(|| self.first_after(seat, now, end));
                let position = self.rank(seat, ticket, Count::Expected, now);
                // So many may be told at once that only the first get more than the lower bound.
                let estimate = match position.checked_sub(cut)? {
                    0..SHOWN => self.lane_estimate(seat, position, now),
                    _ => self.lower_bound(seat, position, now).max(end) - now,
                };
                Some((ticket, Refused::Draining { position, estimate }))
            })
            .collect();
        for (ticket, refused) in refused {
            self.refuse(ticket, refused);
        }
    }

    /// The lowest rank at which a call of this kind would go after `end`.
    fn first_after(&self, seat: Seat, now: Instant, end: Instant) -> usize {
        if self.stop_of(seat.lane, now) == Stop::UntilResumed {
            return 0;
        }
        let after = |rank: usize| now + self.lane_estimate(seat, rank, now) > end;
        let (mut low, mut high) = (0, self.line.len() + 1);
        while low < high {
            let middle = low.midpoint(high);
            if after(middle) { high = middle } else { low = middle + 1 }
        }
        low
    }

    /// Why a waiter misses `deadline`.
    pub(super) fn late(
        &self,
        ticket: Ticket,
        seat: Seat,
        now: Instant,
        deadline: Instant,
    ) -> Refused {
        self.late_at(self.rank(seat, ticket, Count::Expected, now), seat, now, deadline)
    }

    /// Why a call that has `position` others before it misses `deadline`: for a pause by hand, where
    /// that would be enough.
    pub(super) fn late_at(
        &self,
        position: usize,
        seat: Seat,
        now: Instant,
        deadline: Instant,
    ) -> Refused {
        if self.fleet.as_ref().is_some_and(Membership::holds) {
            return Refused::Unshared { retry_after: ASK_AGAIN };
        }
        self.stop_of(seat.lane, now).refusal(now, deadline).unwrap_or_else(|| {
            let estimate = self.lane_estimate(seat, position, now);
            Refused::Late { position, estimate }
        })
    }

    pub(super) fn refuse(&mut self, ticket: Ticket, refused: Refused) {
        let Some(waiter) = self.waiters.get_mut(&ticket) else { return };
        let (seat, until, queued) = (waiter.seat, waiter.until(), waiter.queued());
        waiter.stage = Stage::Refused(refused);
        waiter.wake();
        if queued {
            self.line.leave(seat, ticket);
            self.forget(ticket, seat, until);
        }
    }
}

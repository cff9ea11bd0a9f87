//! Grants of the store, on their way to the calls that they were asked for.

use tokio::time::Instant;

use crate::base::Priority;
use crate::shape::fleet::membership::Credit;
use crate::shape::line::{LaneIndex, Seat, Ticket};
use crate::shape::meter::later;
use crate::shape::queue::{Queue, Stage};
use crate::shape::schedule::Next;

/// Who uses a grant of the store.
enum Taker {
    Found(Seat, Ticket, usize),
    /// Its call, as soon as the own ledger agrees.
    Waits,
    Nobody,
}

impl Queue {
    /// Hands a grant of the store over, to the call that it was asked for or else to the next one that
    /// pays the same. What nobody can use goes back.
    pub(in crate::shape) fn grant_paid(&mut self, now: Instant) -> bool {
        let mut nth = 0;
        while let Some(credit) = self.fleet.as_ref().and_then(|fleet| fleet.credits.get(nth)) {
            let credit = credit.clone();
            match self.taker(&credit, now) {
                Taker::Found(seat, ticket, way) => {
                    self.drop_credit(nth);
                    self.hand_over(now, seat, ticket, way, Some((credit.paid, credit.expires)));
                    return true;
                }
                Taker::Waits => nth += 1,
                Taker::Nobody => {
                    self.drop_credit(nth);
                    if let Some(fleet) = &mut self.fleet {
                        fleet.give_back(credit.paid);
                    }
                }
            }
        }
        false
    }

    fn drop_credit(&mut self, nth: usize) {
        if let Some(fleet) = &mut self.fleet {
            fleet.credits.remove(nth);
        }
    }

    fn taker(&mut self, credit: &Credit, now: Instant) -> Taker {
        if credit.expires <= now || self.stop.holds(now) {
            return Taker::Nobody;
        }
        let (lanes, meters) = (&self.lanes, &self.meters);
        // The way of a lane that pays what the credit paid, and when it may be used.
        let way = |lane: LaneIndex, priority| {
            let way = lanes[lane].way_that_pays(&credit.meters)?;
            let next = credit.meters.iter().map(|&meter| meters[meter].next(now, priority));
            Some((way, next.fold(Next::Now, later)))
        };
        let asked =
            self.waiters.get(&credit.ticket).filter(|one| matches!(one.stage, Stage::Ready));
        if let Some(waiter) = asked {
            let seat = waiter.seat;
            match way(seat.lane, seat.priority) {
                Some((way, Next::Now)) => {
                    self.line.grant(seat, credit.ticket);
                    return Taker::Found(seat, credit.ticket, way);
                }
                Some((_, Next::At(at))) if at < credit.expires => return Taker::Waits,
                Some((_, Next::At(_) | Next::Untold)) | None => {}
            }
        }
        // Of what is reserved for the urgent only they may take.
        let may = |lane, priority: Priority| {
            priority <= credit.priority
                && way(lane, priority).is_some_and(|(_, at)| at == Next::Now)
        };
        match self.line.pick(may) {
            Some((seat, ticket)) => match self.lanes[seat.lane].way_that_pays(&credit.meters) {
                Some(way) => Taker::Found(seat, ticket, way),
                None => Taker::Nobody,
            },
            None => Taker::Nobody,
        }
    }
}

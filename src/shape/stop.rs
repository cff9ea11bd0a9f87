//! Pauses by hand: an operator says that nothing is to be sent. Pure; time comes as a value.
//!
//! They have nothing to do with the pauses that Omni asks for: neither begins or ends the other, and
//! after one of these everything goes on by the schedule, as if nobody had come for a while.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::BudgetId;
use crate::shape::line::{LaneIndex, Ticket};
use crate::shape::queue::Queue;
use crate::shape::refused::Refused;
use crate::shape::schedule::Next;

/// What is told, and estimated, where nobody knows when somebody will resume.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Whether somebody has paused it by hand; the longer one is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// Nobody has.
    Off,
    /// It ends by itself.
    Until(Instant),
    /// It does not.
    UntilResumed,
}

impl Stop {
    /// From `now` on for so long, or until somebody resumes.
    pub(crate) fn lasting(now: Instant, time: Option<Duration>) -> Self {
        time.and_then(|time| now.checked_add(time)).map_or(Self::UntilResumed, Self::Until)
    }

    /// The same, or nothing once it is over.
    pub(crate) fn at(self, now: Instant) -> Self {
        match self {
            Self::Until(end) if end <= now => Self::Off,
            Self::Off | Self::Until(_) | Self::UntilResumed => self,
        }
    }

    pub(crate) fn holds(self, now: Instant) -> bool {
        self.at(now) != Self::Off
    }

    /// When the next call may go, as far as this is concerned.
    pub(crate) fn next(self, now: Instant) -> Next {
        match self.at(now) {
            Self::Off => Next::Now,
            Self::Until(end) => Next::At(end),
            Self::UntilResumed => Next::Untold,
        }
    }

    /// Until when surely nobody sends: somebody may resume at any time what has no end.
    pub(crate) fn until(self) -> Option<Instant> {
        match self {
            Self::Until(end) => Some(end),
            Self::Off | Self::UntilResumed => None,
        }
    }

    /// When it ends, or what is told where nobody knows.
    pub(crate) fn expected_end(self, now: Instant) -> Instant {
        match self.at(now) {
            Self::Off => now,
            Self::Until(end) => end,
            Self::UntilResumed => now + ASK_AGAIN,
        }
    }

    /// What a call is told that misses `deadline`, where this alone makes it.
    pub(crate) fn refusal(self, now: Instant, deadline: Instant) -> Option<Refused> {
        let is_why = match self.at(now) {
            Self::Off => false,
            Self::Until(end) => end > deadline,
            Self::UntilResumed => true,
        };
        is_why.then(|| Refused::Paused { retry_after: self.expected_end(now) - now })
    }
}

impl Queue {
    /// For how long somebody has paused a lane by hand.
    pub(super) fn stop_of(&self, lane: LaneIndex, now: Instant) -> Stop {
        self.lanes[lane].stop(&self.meters, now).max(self.stop.at(now))
    }

    /// Pauses one budget, or everything.
    pub(crate) fn pause(&mut self, now: Instant, budget: Option<&BudgetId>, stop: Stop) {
        self.set_stop(budget, stop);
        self.refuse_held_too_long(now);
        match self.draining {
            Some(end) => self.drain(now, end),
            None => self.advance(now),
        }
    }

    /// Ends the pause of one budget, or every one.
    pub(crate) fn resume(&mut self, now: Instant, budget: Option<&BudgetId>) {
        self.set_stop(budget, Stop::Off);
        if budget.is_none() {
            self.meters.iter_mut().for_each(|meter| meter.stop = Stop::Off);
        }
        self.advance(now);
    }

    fn set_stop(&mut self, budget: Option<&BudgetId>, stop: Stop) {
        let Some(budget) = budget else {
            self.stop = stop;
            return;
        };
        for meter in self.meters.iter_mut().filter(|meter| meter.budget == *budget) {
            meter.stop = stop;
        }
    }

    /// Tells everybody whose deadline comes before the end, also where somebody else's comes first
    /// who goes by another lane.
    fn refuse_held_too_long(&mut self, now: Instant) {
        let ends: Vec<Option<Instant>> =
            (0..self.lanes.len()).map(|lane| self.stop_of(lane, now).until()).collect();
        let Some(last) = ends.iter().copied().flatten().max() else { return };
        let early = self.deadlines.iter().take_while(|(until, _)| *until < last);
        let hopeless = early.filter_map(|&(until, ticket)| {
            let lane = self.waiters.get(&ticket)?.seat.lane;
            let end = ends[lane].filter(|end| *end > until)?;
            Some((ticket, end))
        });
        let hopeless: Vec<(Ticket, Instant)> = hopeless.collect();
        for (ticket, end) in hopeless {
            self.refuse(ticket, Refused::Paused { retry_after: end - now });
        }
    }
}

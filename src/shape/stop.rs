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
        // Where a pause without an end hid one with an end, that is what counts now.
        self.refuse_held_too_long(now);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;
    use crate::base::{CallerId, CredentialId, Priority};
    use crate::shape::callers::Callers;
    use crate::shape::journal::Sender;
    use crate::shape::lane::{Lane, Purpose, Service, Way};
    use crate::shape::line::Seat;
    use crate::shape::meter::Meter;
    use crate::shape::queue::{Look, Request};
    use crate::shape::schedule::Schedule;
    use crate::shape::settings::{BudgetSettings, ColdStart, Profile, Scope};

    const SECOND: Duration = Duration::from_secs(1);
    const LIMIT: usize = 8;
    const SPAN: Duration = Duration::from_secs(61);

    /// What each lane is charged to: one budget, the other, both, nothing.
    const CHARGED: [&[usize]; 4] = [&[0], &[1], &[0, 1], &[]];
    const BUDGETS: [&str; 2] = ["omni", "other"];

    fn settings(id: &str) -> BudgetSettings {
        BudgetSettings {
            id: BudgetId::new(id),
            limit: NonZeroU32::new(LIMIT as u32).unwrap(),
            window: 60 * SECOND,
            guard: SECOND,
            profile: Profile::Smooth { burst: NonZeroU32::new(3).unwrap() },
            reserve: 0,
            scope: Scope::Organization,
            max_queued: 100_000,
            max_wait: 120 * SECOND,
            batch_max_wait: 3_600 * SECOND,
            cold_start: ColdStart::Trust,
        }
    }

    /// A queue with four lanes, and what an operator has said: kept apart from the queue, to hold it
    /// against.
    struct World {
        queue: Queue,
        now: Instant,
        /// Everything, and each budget. None: not paused; the end, where there is one.
        said: [Option<Option<Instant>>; 3],
        places: BTreeMap<Ticket, (Seat, Instant)>,
        sends: [Vec<Instant>; 2],
        last: BTreeMap<(LaneIndex, usize, usize), Ticket>,
    }

    impl World {
        fn new() -> Self {
            let now = Instant::now();
            let mut queue = Queue::new(Callers::default(), None);
            let all = BUDGETS.map(settings);
            for one in &all {
                queue.meters.push(Meter::new(one, None, Schedule::new(one, now)));
            }
            for meters in CHARGED {
                let credential = CredentialId::new("org");
                let sender = Sender::credential(&credential);
                let meters = meters.to_vec();
                let paying: Vec<&BudgetSettings> = meters.iter().map(|&nth| &all[nth]).collect();
                let way = Way {
                    credential,
                    sender,
                    meters: meters.clone(),
                    service: Service::In,
                    last_used: 0,
                };
                queue.lanes.push(Lane::new(vec![way], Purpose::Calls, &paying));
            }
            for caller in ["a", "b"] {
                queue.callers.index(&CallerId::new(caller));
            }
            let (places, last) = (BTreeMap::new(), BTreeMap::new());
            Self { queue, now, said: [None; 3], places, sends: [Vec::new(), Vec::new()], last }
        }

        /// Until when a lane is paused; `None` where it is not, and no end where nobody knows.
        fn paused(&self, lane: LaneIndex) -> Option<Option<Instant>> {
            let all = CHARGED[lane].iter().map(|meter| self.said[meter + 1]);
            let on = all.chain([self.said[0]]).flatten();
            let on: Vec<Option<Instant>> =
                on.filter(|end| end.is_none_or(|end| end > self.now)).collect();
            match on.contains(&None) {
                true => Some(None),
                false => on.into_iter().flatten().max().map(Some),
            }
        }

        fn refused(&self, refused: &Refused, lane: LaneIndex, deadline: Instant) {
            let paused = self.paused(lane);
            match refused {
                Refused::Paused { retry_after } => match paused {
                    Some(Some(end)) => {
                        assert!(end > deadline, "it could have waited");
                        assert_eq!(*retry_after, end - self.now);
                    }
                    Some(None) => assert_eq!(*retry_after, ASK_AGAIN),
                    None => panic!("nobody paused it"),
                },
                Refused::Late { .. } => {
                    assert!(paused.is_none_or(|end| end.is_some_and(|end| end <= deadline)));
                }
                other => panic!("{other:?}"),
            }
        }

        fn join(&mut self, lane: LaneIndex, class: usize, caller: usize, max_wait: u64) {
            let seat = Seat { priority: Priority::ALL[class], caller, lane };
            let wait = Duration::from_secs(max_wait);
            let deadline = self.now + wait;
            match self.queue.join(self.now, Request { seat, max_wait: Some(wait) }) {
                Ok(ticket) => drop(self.places.insert(ticket, (seat, deadline))),
                Err(refused) => self.refused(&refused, lane, deadline),
            }
        }

        fn pause(&mut self, what: usize, time: Option<Duration>) {
            let budget = what.checked_sub(1).map(|nth| BudgetId::new(BUDGETS[nth]));
            self.said[what] = Some(time.map(|time| self.now + time));
            self.queue.pause(self.now, budget.as_ref(), Stop::lasting(self.now, time));
        }

        fn resume(&mut self, what: usize) {
            let budget = what.checked_sub(1).map(|nth| BudgetId::new(BUDGETS[nth]));
            match what {
                0 => self.said = [None; 3],
                _ => self.said[what] = None,
            }
            self.queue.resume(self.now, budget.as_ref());
        }

        /// Everybody looks; whoever is granted sends at once.
        fn look(&mut self) {
            self.queue.advance(self.now);
            let mut again = true;
            while std::mem::take(&mut again) {
                let all: Vec<_> =
                    self.places.iter().map(|(&ticket, &held)| (ticket, held)).collect();
                for (ticket, (seat, deadline)) in all {
                    match self.queue.look(ticket, Waker::noop()) {
                        Look::Prepare => {
                            self.queue.make_ready(self.now, ticket);
                            // That may have told others who stand before the next one: first come,
                            // first ready.
                            again = true;
                            break;
                        }
                        Look::Wait(_) => match self.queue.expire(self.now, ticket) {
                            Some(Err(refused)) => {
                                assert!(deadline <= self.now);
                                self.refused(&refused, seat.lane, self.now);
                                self.places.remove(&ticket);
                                again = true;
                            }
                            Some(Ok(_)) => panic!("everybody has looked"),
                            None => {}
                        },
                        Look::Refused(refused) => {
                            self.refused(&refused, seat.lane, deadline);
                            self.places.remove(&ticket);
                        }
                        Look::Granted(grant) => {
                            assert_eq!(self.paused(seat.lane), None, "granted while paused");
                            let row = (seat.lane, seat.priority as usize, seat.caller);
                            let before = self.last.insert(row, ticket);
                            assert!(before.is_none_or(|before| before < ticket), "overtaken");
                            self.queue.stamp(self.now, &grant);
                            self.queue.taken(self.now, &grant);
                            self.queue.leave(self.now, ticket);
                            self.places.remove(&ticket);
                            for &meter in CHARGED[seat.lane] {
                                self.sends[meter].push(self.now);
                            }
                            again = true;
                        }
                    }
                }
            }
            for sends in &self.sends {
                let counting = sends.iter().filter(|at| **at + SPAN > self.now).count();
                assert!(counting <= LIMIT, "{counting} sends count");
            }
            // Who is held so long that it is hopeless knows it by now.
            for (seat, deadline) in self.places.values() {
                let end = self.paused(seat.lane).flatten();
                assert!(end.is_none_or(|end| end <= *deadline), "waits in vain");
            }
        }

        /// Time goes by as the pump has it: nobody looks but when the alarm rings.
        fn pass(&mut self, time: Duration) {
            let until = self.now + time;
            for _ in 0..100_000 {
                let deadline = self.places.values().map(|(_, deadline)| *deadline).min();
                let next = self.queue.alarm.into_iter().chain(deadline).min();
                match next.filter(|next| *next <= until) {
                    Some(next) => self.now = next.max(self.now + Duration::from_nanos(1)),
                    None => break,
                }
                self.look();
            }
            self.now = until.max(self.now);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Of four lanes, three classes and two callers: nothing is granted while it is paused,
        /// who cannot wait so long is told, everybody else goes afterwards, in order and within the
        /// limit.
        #[test]
        fn whatever_is_paused_and_resumed_nothing_goes_meanwhile_and_everybody_afterwards(
            steps in prop::collection::vec(
                (0u64..20_000, 0usize..4, 0usize..3, 0usize..2, 0u8..12, 1u64..400),
                1..120,
            ),
        ) {
            let mut world = World::new();
            for (wait, lane, class, caller, deed, number) in steps {
                world.pass(Duration::from_millis(wait));
                match deed {
                    0..7 => world.join(lane, class, caller, number * 10),
                    7 => if let Some((&ticket, _)) = world.places.iter().nth(class) {
                        world.queue.leave(world.now, ticket);
                        world.places.remove(&ticket);
                    },
                    8 => world.pause(class, None),
                    9 => world.pause(class, Some(Duration::from_secs(number))),
                    _ => world.resume(class),
                }
                world.look();
            }
            world.resume(0);
            world.look();
            world.pass(Duration::from_secs(100_000));
            prop_assert!(world.places.is_empty(), "somebody was forgotten");
        }
    }

    #[test]
    fn a_pause_that_is_over_is_none() {
        let now = Instant::now();
        let stop = Stop::lasting(now, Some(SECOND));
        assert_eq!(stop.next(now), Next::At(now + SECOND));
        assert_eq!((stop.at(now + SECOND), stop.holds(now + SECOND)), (Stop::Off, false));
        assert_eq!(stop.expected_end(now + SECOND), now + SECOND);
        assert_eq!(Stop::lasting(now, Some(Duration::ZERO)).at(now), Stop::Off);
        // Longer than a clock can tell.
        assert_eq!(Stop::lasting(now, Some(Duration::MAX)), Stop::UntilResumed);
        assert!(Stop::Off < stop && stop < Stop::UntilResumed);
    }
}

//! All meters and all who wait for them. Synchronous; time comes as a value.
//!
//! One lock guards it, so that a permit is a slot in each of several ledgers, taken together, and so
//! that exactly one of cancel and grant wins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::{CredentialId, Priority};
use crate::shape::callers::Callers;
use crate::shape::fleet::{GrantId, Membership, PER_ROW};
use crate::shape::journal::{Journal, Slot};
use crate::shape::lane::Lane;
use crate::shape::line::{CallerIndex, Count, LaneIndex, Line, Seat, Ticket};
use crate::shape::meter::{Meter, later};
use crate::shape::refused::Refused;
use crate::shape::schedule::Next;
use crate::shape::stop::Stop;

/// How long before its turn a waiter prepares. Longer than a TLS handshake over an ocean, and
/// shorter than upstream keeps an idle connection.
const LEAD: Duration = Duration::from_secs(2);

/// A permit goes back if its send has not begun after this time (S14).
pub(crate) const PERMIT_LIFE: Duration = Duration::from_millis(100);

/// The meters, the line before them, and the journal behind.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) meters: Vec<Meter>,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) callers: Callers,
    pub(crate) journal: Option<Arc<Journal>>,
    /// Whether somebody has paused everything by hand, also what no budget pays.
    pub(super) stop: Stop,
    /// How it stands with those who share the budgets, where somebody does.
    pub(super) fleet: Option<Membership>,
    pub(super) line: Line,
    /// Everybody who holds a place, also while its grant is in its hands.
    pub(super) waiters: BTreeMap<Ticket, Waiter>,
    /// Those in the line, by deadline.
    pub(super) deadlines: BTreeSet<(Instant, Ticket)>,
    next_ticket: Ticket,
    /// How many grants there were; tells a send before a pause from one after it.
    pub(super) grants: u64,
    /// Set once the process is asked to end: calls that would go later are refused.
    pub(super) draining: Option<Instant>,
    /// When somebody has to look again.
    pub(super) alarm: Option<Instant>,
    /// When the pump will.
    pump: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) seat: Seat,
    /// When it came, however often it has waited since.
    pub(super) joined: Instant,
    pub(super) deadline: Instant,
    /// Until then it is not refused, whatever its deadline.
    grace: Instant,
    pub(super) stage: Stage,
    waker: Option<Waker>,
    /// How many calls were expected to go first when it joined.
    pub(super) position: usize,
}

#[derive(Debug)]
pub(super) enum Stage {
    Waiting,
    Preparing,
    Ready,
    Granted(Grant),
    /// Its grant was handed over. It is not in the line, and may come back.
    Away,
    Refused(Refused),
}

/// What one is told who stands nowhere any more.
pub(super) const LATE: Refused = Refused::Late { position: 0, estimate: Duration::ZERO };

/// Taken slots, on their way to a permit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) at: Instant,
    /// The send has to begin before.
    pub(crate) expires: Instant,
    /// What the store granted it by, where the budgets are shared.
    pub(crate) paid: Option<GrantId>,
    pub(crate) number: u64,
    pub(crate) lane: LaneIndex,
    /// Which of the lane's keys it is for.
    pub(crate) way: usize,
    pub(super) caller: CallerIndex,
    pub(crate) priority: Priority,
    pub(super) slot: Option<Slot>,
}

/// What a call asks when it joins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) seat: Seat,
    pub(crate) max_wait: Option<Duration>,
}

/// What a call may expect that joins now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    deadline: Instant,
    pub(crate) position: usize,
    pub(crate) estimate: Duration,
}

/// What a waiter finds when it looks.
#[derive(Debug)]
pub(crate) enum Look {
    /// Not yet, and until when; its waker was kept.
    Wait(Instant),
    /// Its turn is near.
    Prepare,
    Granted(Grant),
    Refused(Refused),
}

impl Queue {
    pub(crate) fn new(callers: Callers, journal: Option<Arc<Journal>>) -> Self {
        Self {
            meters: Vec::new(),
            lanes: Vec::new(),
            callers,
            journal,
            stop: Stop::Off,
            fleet: None,
            line: Line::default(),
            waiters: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next_ticket: 0,
            grants: 0,
            draining: None,
            alarm: None,
            pump: None,
        }
    }

    /// Whether the pump sleeps past the alarm; it is then taken to be woken.
    pub(crate) fn alarm_moved(&mut self) -> bool {
        let moved = self.alarm.is_some_and(|alarm| self.pump.is_none_or(|pump| alarm < pump));
        if moved {
            self.pump = self.alarm;
        }
        moved
    }

    /// Until when the pump may sleep.
    pub(crate) fn hear_alarm(&mut self) -> Option<Instant> {
        self.pump = self.alarm;
        self.pump
    }

    /// Takes a place, or refuses at once: too many wait, the caller has had its share, every key is
    /// out, or even the lower bound of the wait lies past the deadline.
    pub(crate) fn join(&mut self, now: Instant, request: Request) -> Result<Ticket, Refused> {
        let Expected { deadline, position, .. } = self.expect(now, request)?;
        let seat = request.seat;
        self.callers.join(seat.caller, now);
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.lanes[seat.lane].queued += 1;
        self.line.join(seat, ticket);
        self.deadlines.insert((deadline, ticket));
        let stage = Stage::Waiting;
        let waiter =
            Waiter { seat, joined: now, deadline, grace: now, stage, waker: None, position };
        self.waiters.insert(ticket, waiter);
        self.advance(now);
        Ok(ticket)
    }

    /// What a call that comes now may expect, or why it is refused at once.
    pub(crate) fn expect(&mut self, now: Instant, request: Request) -> Result<Expected, Refused> {
        self.advance(now);
        let seat = request.seat;
        let lane = &self.lanes[seat.lane];
        if lane.all_out() {
            return Err(Refused::Rejected { credential: lane.ways[0].credential.clone() });
        }
        let deadline = now + request.max_wait.unwrap_or_else(|| lane.max_wait(seat.priority));
        let first = self.rank_of_next(seat, Count::Sure, now);
        let last = self.rank_of_next(seat, Count::Expected, now);
        let estimate = self.lane_estimate(seat, last, now);
        let stop = self.stop_of(seat.lane, now);
        let goes_after = |end: &Instant| stop == Stop::UntilResumed || now + estimate > *end;
        if let Some(end) = self.draining.filter(goes_after) {
            let position = last;
            let estimate = estimate.max(end - now);
            return Err(Refused::Draining { position, estimate });
        }
        if self.lower_bound(seat, first, now) > deadline {
            return Err(self.late_at(last, seat, now, deadline));
        }
        // A call whose slot is free does not wait, even while it has no connection yet.
        let waits = !estimate.is_zero();
        if waits && lane.queued >= lane.max_queued {
            return Err(Refused::Full { queued: lane.queued, estimate });
        }
        self.callers.may_join(seat.caller, now, waits, estimate)?;
        Ok(Expected { deadline, position: last, estimate })
    }

    /// Puts a waiter whose permit came back, or was refused upstream, where it was in the order.
    pub(crate) fn rejoin(&mut self, now: Instant, ticket: Ticket) {
        let Some(waiter) = self.waiters.get_mut(&ticket) else { return };
        if !matches!(waiter.stage, Stage::Away) {
            return;
        }
        let seat = waiter.seat;
        let lane = &mut self.lanes[seat.lane];
        if lane.all_out() {
            let credential = lane.ways[0].credential.clone();
            waiter.stage = Stage::Refused(Refused::Rejected { credential });
            return;
        }
        if waiter.deadline < now {
            let (lane, deadline) = (seat.lane, waiter.deadline);
            let paused = self.stop_of(lane, now).refusal(now, deadline);
            if let Some(waiter) = self.waiters.get_mut(&ticket) {
                waiter.stage = Stage::Refused(paused.unwrap_or(LATE));
            }
            return;
        }
        waiter.stage = Stage::Preparing;
        lane.queued += 1;
        self.callers.rejoin(seat.caller);
        self.line.rejoin(seat, ticket);
        self.advance(now);
    }

    /// A waiter says that it has its connection. Connecting is not waiting: after it there is
    /// always a moment left to take a slot that is free.
    pub(crate) fn make_ready(&mut self, now: Instant, ticket: Ticket) {
        let Some(waiter) = self.waiters.get_mut(&ticket) else { return };
        if matches!(waiter.stage, Stage::Preparing) {
            waiter.stage = Stage::Ready;
            waiter.grace = now + PERMIT_LIFE;
            self.deadlines.insert((waiter.until(), ticket));
            self.line.make_ready(waiter.seat, ticket);
            self.advance(now);
        }
    }

    /// What `ticket` has come to. A grant or a refusal is handed over once; a refusal ends the
    /// place.
    pub(crate) fn look(&mut self, ticket: Ticket, waker: &Waker) -> Look {
        let Some(waiter) = self.waiters.get_mut(&ticket) else { return Look::Refused(LATE) };
        match &waiter.stage {
            Stage::Preparing => Look::Prepare,
            Stage::Waiting | Stage::Ready | Stage::Away => {
                waiter.waker = Some(waker.clone());
                Look::Wait(waiter.until())
            }
            Stage::Granted(grant) => {
                let grant = *grant;
                waiter.stage = Stage::Away;
                Look::Granted(grant)
            }
            Stage::Refused(refused) => {
                let refused = refused.clone();
                self.waiters.remove(&ticket);
                Look::Refused(refused)
            }
        }
    }

    /// Gives the place up. A grant that nobody fetched comes back.
    pub(crate) fn leave(&mut self, now: Instant, ticket: Ticket) {
        match self.remove(ticket) {
            Some(Stage::Granted(grant)) => self.give_back(now, &grant),
            Some(Stage::Waiting | Stage::Preparing | Stage::Ready) => self.advance(now),
            Some(Stage::Away | Stage::Refused(_)) | None => {}
        }
    }

    /// The time has come until which a waiter meant to wait: hands over a grant that came in the
    /// same moment, or says where it stood and ends the place. `None` where its deadline was put
    /// off meanwhile.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        ticket: Ticket,
    ) -> Option<Result<Grant, Refused>> {
        if self.waiters.get(&ticket).is_some_and(|waiter| waiter.until() > now) {
            return None;
        }
        self.advance(now);
        let late = self.refusal(now, ticket);
        if let Some(waiter) = self.waiters.get_mut(&ticket)
            && let Stage::Granted(grant) = waiter.stage
        {
            waiter.stage = Stage::Away;
            return Some(Ok(grant));
        }
        Some(Err(match self.remove(ticket) {
            Some(Stage::Refused(refused)) => refused,
            Some(Stage::Waiting | Stage::Preparing | Stage::Ready) => {
                self.advance(now);
                late
            }
            Some(Stage::Granted(_) | Stage::Away) | None => late,
        }))
    }

    /// Takes a waiter off, out of the line too if it is still in it.
    fn remove(&mut self, ticket: Ticket) -> Option<Stage> {
        let waiter = self.waiters.remove(&ticket)?;
        if waiter.queued() {
            self.line.leave(waiter.seat, ticket);
            self.forget(ticket, waiter.seat, waiter.until());
        }
        Some(waiter.stage)
    }

    pub(super) fn forget(&mut self, ticket: Ticket, seat: Seat, until: Instant) {
        self.deadlines.remove(&(until, ticket));
        self.lanes[seat.lane].queued -= 1;
        self.callers.leave(seat.caller);
    }

    /// Grants what may go, refuses what has become hopeless, tells whose turn is near, and sets the
    /// alarm for what comes next.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.tend_sharing(now);
        for meter in &mut self.meters {
            let journal = self.journal.as_deref();
            meter.expire(now, |slot| {
                if let Some(journal) = journal {
                    journal.forget(slot);
                }
            });
        }
        self.refuse_hopeless(now);
        while self.grant_paid(now) || self.grant_one(now) {}
        let turns = self.line.ready_lanes().into_iter().filter_map(|(lane, priority)| {
            match self.next(lane, now, priority) {
                Next::At(at) => Some(at),
                Next::Now | Next::Untold => None,
            }
        });
        let turns: Vec<Instant> = turns.collect();
        let near = self.tell_near(now);
        let fleet = self.tend_fleet(now);
        self.alarm = turns.into_iter().chain(near).chain(fleet).min();
    }

    /// When the next call of a lane may go.
    pub(super) fn next(&self, lane: LaneIndex, now: Instant, priority: Priority) -> Next {
        let (next, _) = self.lanes[lane].next(&self.meters, now, priority);
        later(self.stop.next(now), next)
    }

    fn grant_one(&mut self, now: Instant) -> bool {
        if self.stop.holds(now) {
            return false;
        }
        let (lanes, meters) = (&self.lanes, &self.meters);
        let shared = self.fleet.as_ref().map_or(0, |_| lanes.len());
        let asks: Vec<bool> = (0..shared).map(|lane| self.asks_store(lane)).collect();
        let may_send = |lane: LaneIndex, priority| {
            !asks.get(lane).is_some_and(|asks| *asks)
                && lanes[lane].next(meters, now, priority).0 == Next::Now
        };
        let Some((seat, ticket)) = self.line.pick(may_send) else { return false };
        let (_, way) = self.lanes[seat.lane].next(&self.meters, now, seat.priority);
        self.hand_over(now, seat, ticket, way, None);
        true
    }

    /// Takes the slots for a call that was just taken out of the line, and grants it.
    pub(super) fn hand_over(
        &mut self,
        now: Instant,
        seat: Seat,
        ticket: Ticket,
        index: usize,
        paid: Option<(GrantId, Instant)>,
    ) {
        self.lanes[seat.lane].ways[index].last_used = self.grants;
        let way = &self.lanes[seat.lane].ways[index];
        for &meter in &way.meters {
            self.meters[meter].take(now, seat.priority);
        }
        // Before the permit is handed out, and with the latest time at which it may be used, so
        // that a process that dies in between has not sent more than it wrote down.
        let journal = self.journal.as_deref().filter(|_| !way.meters.is_empty());
        let slot = journal.and_then(|journal| journal.record(now + PERMIT_LIFE, way.sender));
        let life = now + PERMIT_LIFE;
        let grant = Grant {
            at: now,
            expires: paid.map_or(life, |(_, expires)| life.min(expires)),
            paid: paid.map(|(paid, _)| paid),
            number: self.grants,
            lane: seat.lane,
            way: index,
            caller: seat.caller,
            priority: seat.priority,
            slot,
        };
        self.grants += 1;
        if let Some(waiter) = self.waiters.get_mut(&ticket) {
            waiter.stage = Stage::Granted(grant);
            waiter.wake();
            let until = waiter.until();
            self.forget(ticket, seat, until);
        }
    }

    fn tell_near(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let mut told = false;
            let mut alarm: Option<Instant> = None;
            for (seat, told_before, ticket) in self.line.next_to_prepare() {
                // Others send, too, and so many are enough to take what the store grants.
                if told_before >= PER_ROW && self.is_shared(seat.lane) {
                    continue;
                }
                // Nobody holds a connection until somebody resumes.
                if self.stop_of(seat.lane, now) == Stop::UntilResumed {
                    continue;
                }
                let rank = self.rank(seat, ticket, Count::Sure, now);
                let turn = self.lower_bound(seat, rank, now);
                if turn > now + LEAD {
                    let at = turn - LEAD;
                    alarm = Some(alarm.map_or(at, |other| other.min(at)));
                    continue;
                }
                self.line.prepare_next(seat);
                if let Some(waiter) = self.waiters.get_mut(&ticket) {
                    self.deadlines.remove(&(waiter.until(), ticket));
                    waiter.stage = Stage::Preparing;
                    waiter.wake();
                }
                told = true;
            }
            if !told {
                return alarm;
            }
        }
    }

    /// Whose bearer a grant is for.
    pub(crate) fn credential(&self, grant: &Grant) -> CredentialId {
        self.lanes[grant.lane].ways[grant.way].credential.clone()
    }
}

impl Waiter {
    pub(super) fn queued(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Preparing | Stage::Ready)
    }

    /// When it is refused at the latest.
    pub(super) fn until(&self) -> Instant {
        self.deadline.max(self.grace)
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;
    use crate::base::{BudgetId, CallerId};
    use crate::shape::journal::Sender;
    use crate::shape::lane::{Purpose, Service, Way};
    use crate::shape::schedule::Schedule;
    use crate::shape::settings::{BudgetSettings, ColdStart, Profile, Scope};

    const SPAN: Duration = Duration::from_secs(61);

    fn queue(limit: u32, profile: Profile, reserve: u32, now: Instant) -> Queue {
        let settings = BudgetSettings {
            id: BudgetId::new("omni"),
            limit: NonZeroU32::new(limit).unwrap(),
            window: Duration::from_secs(60),
            guard: Duration::from_secs(1),
            profile,
            reserve,
            scope: Scope::Organization,
            max_queued: 1_000,
            max_wait: Duration::from_secs(120),
            batch_max_wait: Duration::from_secs(3_600),
            cold_start: ColdStart::Trust,
        };
        let mut queue = Queue::new(Callers::default(), None);
        queue.meters.push(Meter::new(&settings, None, Schedule::new(&settings, now)));
        let credential = CredentialId::new("org");
        let sender = Sender::credential(&credential);
        let way = Way { credential, sender, meters: vec![0], service: Service::In, last_used: 0 };
        queue.lanes.push(Lane::new(vec![way], Purpose::Calls, &[&settings]));
        for caller in ["a", "b", "c"] {
            queue.callers.index(&CallerId::new(caller));
        }
        queue
    }

    /// A place, and what it should stand on.
    type Held = (Ticket, Seat, Instant);

    /// A world of callers around one queue, and what it saw.
    struct World {
        queue: Queue,
        now: Instant,
        places: Vec<Held>,
        permits: Vec<(Grant, Held)>,
        begun: Vec<(Grant, Held)>,
        sends: Vec<Instant>,
        /// The last ticket granted, by seat.
        last: BTreeMap<(usize, usize), Ticket>,
        /// Who went back to an old place may be passed over while it prepares anew, and who
        /// changed its seat came too late for some.
        returned: BTreeSet<Ticket>,
    }

    impl World {
        fn new(limit: u32, profile: Profile, reserve: u32) -> Self {
            let now = Instant::now();
            Self {
                queue: queue(limit, profile, reserve, now),
                now,
                places: Vec::new(),
                permits: Vec::new(),
                begun: Vec::new(),
                sends: Vec::new(),
                last: BTreeMap::new(),
                returned: BTreeSet::new(),
            }
        }

        fn join(&mut self, class: usize, caller: usize, max_wait: u64) {
            let seat = Seat { priority: Priority::ALL[class], caller, lane: 0 };
            let max_wait = Duration::from_secs(max_wait);
            let request = Request { seat, max_wait: Some(max_wait) };
            if let Ok(ticket) = self.queue.join(self.now, request) {
                self.places.push((ticket, seat, self.now + max_wait));
            }
        }

        /// Changes what one place stands on, wherever it is.
        fn change(&mut self, class: usize, caller: usize, max_wait: u64, pick: usize) {
            let in_hand = self.permits.iter_mut().chain(&mut self.begun).map(|(_, held)| held);
            let mut all: Vec<&mut Held> = self.places.iter_mut().chain(in_hand).collect();
            let count = all.len().max(1);
            let Some((ticket, seat, deadline)) = all.get_mut(pick % count) else { return };
            *seat = Seat { priority: Priority::ALL[class], caller, lane: 0 };
            let max_wait = if pick.is_multiple_of(5) { 0 } else { max_wait };
            *deadline = self.now + Duration::from_secs(max_wait);
            // Its own lane counts, whatever is said.
            let said = Seat { lane: 7, ..*seat };
            self.returned.insert(*ticket);
            self.queue.change(self.now, *ticket, said, *deadline);
        }

        /// Everybody looks; whoever may prepare is ready at once.
        fn look(&mut self) {
            self.queue.advance(self.now);
            let mut again = true;
            while std::mem::take(&mut again) {
                for place in std::mem::take(&mut self.places) {
                    let (ticket, seat, deadline) = place;
                    match self.queue.look(ticket, Waker::noop()) {
                        Look::Prepare => {
                            self.queue.make_ready(self.now, ticket);
                            again = true;
                            self.places.push(place);
                        }
                        Look::Wait(until) => {
                            assert!(deadline <= until, "waits less than it may");
                            match self.queue.expire(self.now, ticket) {
                                Some(Ok(grant)) => self.permits.push((grant, place)),
                                Some(Err(_)) => {
                                    assert!(until <= self.now, "refused before its deadline");
                                    again = true;
                                }
                                None => self.places.push(place),
                            }
                        }
                        Look::Granted(grant) => {
                            let latest = deadline + PERMIT_LIFE;
                            assert!(self.now <= latest, "granted after its deadline");
                            if !self.returned.contains(&ticket) {
                                let key = (seat.priority as usize, seat.caller);
                                let earlier = self.last.insert(key, ticket);
                                assert!(earlier.is_none_or(|one| one < ticket), "overtaken");
                            }
                            self.permits.push((grant, place));
                        }
                        Look::Refused(_) => {}
                    }
                }
            }
        }

        fn act(&mut self, deed: u8, pick: usize) {
            match deed {
                0..4 => {
                    if !self.permits.is_empty() {
                        let (grant, place) = self.permits.swap_remove(pick % self.permits.len());
                        self.queue.stamp(self.now, &grant);
                        self.sends.push(self.now);
                        self.begun.push((grant, place));
                    }
                }
                4 => {
                    if !self.permits.is_empty() {
                        let (grant, place) = self.permits.swap_remove(pick % self.permits.len());
                        self.queue.give_back(self.now, &grant);
                        self.queue.leave(self.now, place.0);
                    }
                }
                5 => {
                    if !self.permits.is_empty() {
                        let (grant, place) = self.permits.swap_remove(pick % self.permits.len());
                        self.queue.give_back(self.now, &grant);
                        self.back(place);
                    }
                }
                6 => {
                    if !self.places.is_empty() {
                        let (ticket, ..) = self.places.swap_remove(pick % self.places.len());
                        self.queue.leave(self.now, ticket);
                        self.places.sort_unstable_by_key(|place| place.0);
                    }
                }
                7 => {
                    if let Some((grant, place)) = self.begun.pop() {
                        let retry_after =
                            pick.is_multiple_of(2).then(|| Duration::from_secs(pick as u64 % 40));
                        self.queue.refused(self.now, &grant, retry_after, 0.5);
                        self.back(place);
                    }
                }
                8 => {
                    if let Some((grant, place)) = self.begun.pop() {
                        self.queue.lost(self.now, &grant);
                        self.queue.leave(self.now, place.0);
                    }
                }
                _ => {
                    if let Some((grant, place)) = self.begun.pop() {
                        self.queue.taken(self.now, &grant);
                        self.queue.leave(self.now, place.0);
                    }
                }
            }
        }

        fn back(&mut self, place: Held) {
            self.returned.insert(place.0);
            self.queue.rejoin(self.now, place.0);
            self.places.push(place);
            self.places.sort_unstable_by_key(|place| place.0);
        }

        /// Everybody is given time enough, and goes: whoever was forgotten would wait for ever.
        fn end(&mut self) {
            let deadline = self.now + Duration::from_secs(1_000_000);
            for (ticket, seat, until) in &mut self.places {
                *until = deadline;
                self.queue.change(self.now, *ticket, *seat, deadline);
            }
            self.look();
            for _ in 0..10_000 {
                for (grant, place) in std::mem::take(&mut self.permits) {
                    self.queue.stamp(self.now, &grant);
                    self.queue.taken(self.now, &grant);
                    self.queue.leave(self.now, place.0);
                }
                let Some(alarm) = self.queue.alarm else { break };
                self.now = self.now.max(alarm);
                self.look();
            }
            assert_eq!((self.places.len(), self.permits.len()), (0, 0), "somebody was forgotten");
        }

        fn check(&self, limit: usize) {
            let meter = &self.queue.meters[0];
            let counting = self.sends.iter().filter(|at| **at + SPAN > self.now).count();
            assert!(counting <= limit, "{counting} sends count");
            assert_eq!(meter.schedule.used(), counting + self.permits.len());
            assert_eq!(self.queue.line.len(), self.places.len());
            assert_eq!(self.queue.lanes[0].queued, self.places.len());
            assert_eq!(self.queue.deadlines.len(), self.places.len());
            let held = self.places.len() + self.permits.len() + self.begun.len();
            assert_eq!(self.queue.waiters.len(), held);
            for (ticket, seat, deadline) in &self.places {
                let waiter = &self.queue.waiters[ticket];
                assert_eq!((waiter.seat, waiter.deadline), (*seat, *deadline));
                assert!(self.queue.deadlines.contains(&(waiter.until(), *ticket)));
                let sure = self.queue.rank(*seat, *ticket, Count::Sure, self.now);
                assert!(sure <= self.queue.rank(*seat, *ticket, Count::Expected, self.now));
            }
            for caller in 0..3 {
                let queued = self.places.iter().filter(|(_, seat, _)| seat.caller == caller);
                assert_eq!(self.queue.callers.queued(caller), queued.count());
            }
            // Never idle: everybody near is ready, so if a slot were free somebody would have it.
            let stuck = self
                .queue
                .line
                .ready_lanes()
                .into_iter()
                .any(|(lane, priority)| self.queue.next(lane, self.now, priority) == Next::Now);
            assert!(!stuck, "a slot is free and somebody waits");
            if !self.places.is_empty() && self.permits.is_empty() {
                assert!(self.queue.alarm.is_some(), "nobody will look again");
            }
        }
    }

    fn any_profile() -> impl Strategy<Value = Profile> {
        let burst = |n: u32| NonZeroU32::new(n).unwrap();
        prop_oneof![
            Just(Profile::Burst),
            (1u32..8).prop_map(move |n| Profile::Smooth { burst: burst(n) }),
            (1u32..3).prop_map(move |n| Profile::Strict { burst: burst(n) }),
        ]
    }

    /// How many runs there are of what follows; `tests/run --all` has many more.
    fn cases() -> ProptestConfig {
        let said = std::env::var("CASES").ok().and_then(|cases| cases.parse().ok());
        ProptestConfig::with_cases(said.unwrap_or(300))
    }

    proptest! {
        #![proptest_config(cases())]

        /// Ten minutes of callers, priorities, hang-ups, permits that come back, changed terms,
        /// refusals by Omni and lost answers: never more than the limit, in order, and nobody is
        /// forgotten.
        #[test]
        fn whatever_happens_the_limit_holds_and_nobody_is_forgotten(
            limit in 1u32..20,
            reserve in 0u32..8,
            profile in any_profile(),
            steps in prop::collection::vec(
                (0u64..4_000, 0usize..3, 0usize..3, 1u64..300, 0u8..13, any::<u16>()),
                1..300,
            ),
        ) {
            let mut world = World::new(limit, profile, reserve.min(limit - 1));
            for (wait, class, caller, max_wait, deed, pick) in steps {
                world.now += Duration::from_millis(wait);
                world.look();
                world.join(class, caller, max_wait);
                match deed {
                    0..10 => world.act(deed, usize::from(pick)),
                    10.. => world.change(class, caller, max_wait, usize::from(pick)),
                }
                world.look();
                world.check(limit as usize);
            }
            world.end();
        }
    }
}

//! The part of the queue that is about the other instances: which calls the store was told of, what it
//! has granted, and what is done while it is lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::base::Priority;
use crate::shape::fleet::call::{
    Answer, GrantId, Head, MeterTold, PauseTold, Report, Said, Sent, SentId, StopTold,
};
use crate::shape::fleet::handle::{Blocked, OnLost};
use crate::shape::fleet::sharing::{Part, Seen, Sharing};
use crate::shape::line::{LaneIndex, Seat, Ticket};
use crate::shape::meter::{Meter, later};
use crate::shape::queue::{Queue, Stage};
use crate::shape::schedule::Next;

/// So many calls of one row the store is told of, so that it can grant several at once.
const PER_ROW: usize = 4;

/// So many it is told of in all.
const HEADS: usize = 32;

/// How long before the own ledger has a slot the store is asked: a grant that comes first waits.
const EARLY: Duration = Duration::from_millis(100);

/// For so long after the start nobody acts as if the store were lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// How it stands with the other instances.
#[derive(Debug)]
pub(crate) struct Membership {
    on_lost: OnLost,
    reach: Reach,
    /// Rung when the store has to be told something now.
    bell: Arc<Notify>,
    /// The calls that the store was told of, and the lane's ways that it may choose from.
    known: BTreeMap<Ticket, Known>,
    credits: Vec<Credit>,
    returns: Vec<GrantId>,
    reports: Vec<Report>,
    stops: Vec<StopTold>,
    /// When the store wants to be asked again.
    look: Option<Instant>,
    blocked: Option<(Instant, Blocked)>,
    /// What was sent while it still counts, the oldest first.
    sends: VecDeque<Sent>,
    /// The longest time for which a send counts.
    span: Duration,
    own_sends: u64,
    unshared: u64,
}

/// Whether the store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It has not answered since the start.
    Joining {
        since: Instant,
    },
    Joined,
    Lost {
        since: Instant,
    },
}

#[derive(Clone, Debug)]
struct Known {
    seat: Seat,
    ways: Vec<usize>,
}

/// A grant of the store that nobody has used yet.
#[derive(Clone, Debug)]
struct Credit {
    paid: Paid,
    ticket: Ticket,
    priority: Priority,
    /// What it charges.
    meters: Vec<usize>,
    expires: Instant,
}

/// A grant of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paid {
    pub(crate) id: GrantId,
    pub(crate) number: u64,
}

impl Membership {
    pub(crate) fn new(on_lost: OnLost, bell: Arc<Notify>, span: Duration, now: Instant) -> Self {
        Self {
            on_lost,
            reach: Reach::Joining { since: now },
            bell,
            known: BTreeMap::new(),
            credits: Vec::new(),
            returns: Vec::new(),
            reports: Vec::new(),
            stops: Vec::new(),
            look: None,
            blocked: None,
            sends: VecDeque::new(),
            span,
            own_sends: 0,
            unshared: 0,
        }
    }

    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    pub(crate) fn look(&self) -> Option<Instant> {
        self.look.filter(|_| !self.known.is_empty())
    }

    pub(crate) fn blocked(&self, now: Instant) -> Option<(Duration, Blocked)> {
        let (until, why) = self.blocked.filter(|(until, _)| *until > now)?;
        Some((until - now, why))
    }

    pub(crate) fn unshared(&self) -> u64 {
        self.unshared
    }

    /// What was sent lately, to be told to a store that may not know.
    pub(crate) fn sends(&self) -> impl Iterator<Item = &Sent> {
        self.sends.iter()
    }

    /// Whether calls wait for nothing but the store.
    pub(crate) fn holds(&self) -> bool {
        self.on_lost == OnLost::Hold && self.reach != Reach::Joined
    }

    /// An operator has paused or resumed.
    pub(crate) fn stopped(&mut self, stop: StopTold) {
        self.stops.retain(|other| other.budget != stop.budget);
        self.stops.push(stop);
        self.bell.notify_one();
    }

    /// Whether what is paused of this is known better here.
    pub(super) fn tells_stop(&self, budget: Option<&str>) -> bool {
        self.stops.iter().any(|stop| stop.budget.as_deref() == budget)
    }

    pub(crate) fn report(&mut self, report: Report) {
        self.reports.push(report);
        self.bell.notify_one();
    }

    pub(crate) fn give_back(&mut self, paid: Paid) {
        self.returns.push(paid.id);
        self.bell.notify_one();
    }

    /// A send has begun.
    pub(crate) fn sent(&mut self, at: Instant, paid: Option<Paid>, meters: &[usize]) {
        let id = match paid {
            Some(paid) => SentId::Granted(paid.id),
            None => {
                self.own_sends += 1;
                self.unshared += 1;
                SentId::Own(self.own_sends)
            }
        };
        while self.sends.front().is_some_and(|sent| sent.at + self.span <= at) {
            self.sends.pop_front();
        }
        self.sends.push_back(Sent { id, at, meters: meters.to_vec() });
    }

    /// Grants that charge one of these are not used any more.
    pub(in crate::shape) fn revoke(&mut self, charged: impl Fn(usize) -> bool) {
        let (revoked, kept): (Vec<Credit>, Vec<Credit>) =
            self.credits.drain(..).partition(|one| one.meters.iter().any(|&meter| charged(meter)));
        self.credits = kept;
        self.returns.extend(revoked.iter().map(|one| one.paid.id));
    }

    /// Whether a refusal by Omni is on its way to the store, which does not know of it yet.
    fn knows_better(&self, meter: usize) -> bool {
        self.reports.iter().any(|report| match report {
            Report::Limited { meters, .. } => meters.contains(&meter),
            Report::Taken { .. } | Report::Lost { .. } => false,
        })
    }

    /// Who decides about a meter now.
    fn sharing(&self, meter: &Meter, now: Instant) -> Option<Sharing> {
        let out_since = match self.reach {
            Reach::Joined => {
                let until = self.blocked.map(|(until, _)| until).filter(|until| *until > now);
                return match (&meter.sharing, until) {
                    (Sharing::Store(_), None) => None,
                    (_, None) => Some(Sharing::Store(Seen::default())),
                    (_, Some(until)) => Some(Sharing::Shut(Some(until))),
                };
            }
            Reach::Joining { since } => since + PATIENCE,
            Reach::Lost { since } => since,
        };
        match self.on_lost {
            OnLost::Hold => Some(Sharing::Shut(None)),
            OnLost::Local if now < out_since => Some(Sharing::Shut(Some(out_since))),
            OnLost::Local => Some(Sharing::Nobody),
            OnLost::Share { instances } => {
                let quiet = out_since + meter.schedule.span();
                if now < quiet {
                    return Some(Sharing::Shut(Some(quiet)));
                }
                if matches!(meter.sharing, Sharing::Part(_)) {
                    return None;
                }
                let part = Part::of(meter.schedule.settings(), instances, now);
                Some(part.map_or(Sharing::Shut(None), |part| Sharing::Part(Box::new(part))))
            }
        }
    }
}

impl Queue {
    /// Who decides about each budget at this moment.
    pub(in crate::shape) fn tend_sharing(&mut self, now: Instant) {
        let Some(fleet) = &self.fleet else { return };
        for meter in &mut self.meters {
            if let Some(sharing) = fleet.sharing(meter, now) {
                meter.sharing = sharing;
            }
        }
    }

    /// Whether calls of this lane that may go have to ask the store.
    pub(in crate::shape) fn asks_store(&self, lane: LaneIndex) -> bool {
        let of_way =
            |meters: &[usize]| meters.iter().any(|&one| self.meters[one].sharing.asks_store());
        self.fleet.is_some() && self.lanes[lane].ways.iter().any(|way| of_way(&way.meters))
    }

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
        if credit.expires <= now {
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
        next.fold(Next::Untold, crate::shape::meter::sooner)
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
        let mut first: Vec<(usize, Seat, Ticket)> = Vec::new();
        if let Some(fleet) = &self.fleet {
            let ready = self.line.ready(PER_ROW).filter(|(_, _, ticket)| !fleet.has(*ticket));
            first.extend(ready.map(|(seat, nth, ticket)| (nth, seat, ticket)));
        }
        // The first of each row before the second of any.
        first.sort_by_key(|&(nth, seat, ticket)| (nth, seat.priority, ticket));
        let mut known = BTreeMap::new();
        let mut heads = Vec::new();
        for (_, seat, ticket) in first.into_iter().take(HEADS) {
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

    /// The store has answered, and its times count from `base`; what it granted may be used until
    /// `expires`.
    pub(in crate::shape) fn hear(
        &mut self,
        now: Instant,
        base: Instant,
        answer: &Answer,
        expires: Instant,
    ) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.reach = Reach::Joined;
        fleet.blocked = answer.blocked.map(|(left, why)| (base + left, why));
        fleet.look = answer.look.map(|after| base + after);
        self.hear_stops(now, answer);
        self.tend_sharing(now);
        let probing = !answer.grants.is_empty();
        for (index, told) in answer.meters.iter().enumerate() {
            self.hear_of_meter(now, index, told, probing);
        }
        for granted in &answer.grants {
            let Some(fleet) = &mut self.fleet else { return };
            let paid = Paid { id: granted.id, number: granted.number };
            let known = fleet.known.remove(&granted.ticket);
            let way = known.as_ref().and_then(|known| known.ways.get(granted.way).copied());
            let (Some(known), Some(way)) = (known, way) else {
                fleet.returns.push(paid.id);
                continue;
            };
            let meters = self.lanes[known.seat.lane].ways[way].meters.clone();
            if meters.iter().any(|&meter| fleet.knows_better(meter)) {
                fleet.returns.push(paid.id);
                continue;
            }
            let (ticket, priority) = (granted.ticket, known.seat.priority);
            fleet.credits.push(Credit { paid, ticket, priority, meters, expires });
        }
        self.advance(now);
    }

    fn hear_of_meter(&mut self, now: Instant, index: usize, told: &MeterTold, probing: bool) {
        let Some(fleet) = &mut self.fleet else { return };
        let Some(meter) = self.meters.get_mut(index) else { return };
        if let Sharing::Store(seen) = &mut meter.sharing {
            *seen = Seen { used: told.used, others: told.others, from: fleet.look };
        }
        if !told.strict.is_zero() {
            meter.schedule.turn_strict(now, now + told.strict);
        }
        if fleet.knows_better(index) {
            return;
        }
        match told.pause {
            PauseTold::Open if meter.pause.is_on() => {
                meter.pause.end();
            }
            PauseTold::Open => {}
            PauseTold::Closed(left) => {
                meter.pause.resume(now + left);
                fleet.revoke(|charged| charged == index);
            }
            // What was granted in this call is the probe.
            PauseTold::Probe(_) if probing => meter.pause.resume(now),
            PauseTold::Probe(left) => meter.pause.others_probe(now, left),
        }
    }

    /// Omni has told another instance that it is too much.
    pub(in crate::shape) fn hear_pause(&mut self, now: Instant, meters: &[usize], left: Duration) {
        for &index in meters {
            if let Some(meter) = self.meters.get_mut(index) {
                meter.pause.resume(now + left);
            }
            if let Some(fleet) = &mut self.fleet {
                fleet.revoke(|charged| charged == index);
            }
        }
        self.advance(now);
    }

    /// The store wants to be asked then.
    pub(in crate::shape) fn look_at(&mut self, at: Instant) {
        if let Some(fleet) = &mut self.fleet {
            fleet.look = Some(at);
        }
    }

    /// The store granted what must not be used.
    pub(in crate::shape) fn return_unused(&mut self, ids: Vec<GrantId>) {
        if let Some(fleet) = &mut self.fleet {
            fleet.returns.extend(ids);
        }
    }

    /// The store does not answer any more.
    pub(in crate::shape) fn lose(&mut self, since: Instant, now: Instant) {
        let Some(fleet) = &mut self.fleet else { return };
        if fleet.reach == Reach::Joined {
            fleet.reach = Reach::Lost { since };
            (fleet.look, fleet.blocked) = (None, None);
            fleet.known.clear();
        }
        self.advance(now);
    }
}

/// Who uses a grant of the store.
enum Taker {
    Found(Seat, Ticket, usize),
    /// Its call, as soon as the own ledger agrees.
    Waits,
    Nobody,
}

impl Membership {
    /// Whether a call has a grant of the store that it waits to use.
    fn has(&self, ticket: Ticket) -> bool {
        self.credits.iter().any(|credit| credit.ticket == ticket)
    }

    fn knows_row(&self, seat: Seat) -> bool {
        self.known.values().any(|known| known.seat == seat)
    }
}

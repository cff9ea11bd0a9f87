//! What the store's answers change.

use std::time::Duration;

use tokio::time::Instant;

use crate::shape::fleet::call::{Answer, GrantId, MeterTold, PauseTold};
use crate::shape::fleet::membership::{Credit, Membership, Reach};
use crate::shape::fleet::sharing::{Seen, Sharing};
use crate::shape::queue::Queue;

impl Queue {
    /// The store has answered, and its times count from `base`; what it granted may be used until
    /// `expires`.
    pub(in crate::shape) fn hear(
        &mut self,
        now: Instant,
        base: Instant,
        answer: &Answer,
        expires: Instant,
    ) {
        let shortest = self.meters.iter().map(|meter| meter.schedule.span()).min();
        let Some(fleet) = &mut self.fleet else { return };
        fleet.join(now, shortest.unwrap_or_default());
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
            let paid = granted.id;
            let known = fleet.known.remove(&granted.ticket);
            let way = known.as_ref().and_then(|known| known.ways.get(granted.way).copied());
            let (Some(known), Some(way)) = (known, way) else {
                fleet.returns.push(paid);
                continue;
            };
            let meters = self.lanes[known.seat.lane].ways[way].meters.clone();
            if meters.iter().any(|&meter| fleet.knows_better(meter)) {
                fleet.returns.push(paid);
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

    /// The store answers, and grants nothing yet.
    pub(in crate::shape) fn settle(&mut self, now: Instant) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.look = None;
        if fleet.reach != Reach::Joined {
            fleet.settles = true;
            self.advance(now);
        }
    }

    /// Whether anything is ever sent without the store.
    pub(in crate::shape) fn sends_alone(&self) -> bool {
        self.fleet.as_ref().is_some_and(Membership::sends_alone)
    }

    /// The store does not answer any more.
    pub(in crate::shape) fn lose(&mut self, since: Instant, now: Instant) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.settles = false;
        if fleet.reach == Reach::Joined {
            fleet.reach = Reach::Lost { since };
            (fleet.look, fleet.blocked) = (None, None);
            fleet.known.clear();
        }
        self.advance(now);
    }
}

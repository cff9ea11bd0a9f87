//! Calls that may be charged to the same keys, and each key's ledgers.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::{CredentialId, Priority};
use crate::shape::journal::Sender;
use crate::shape::meter::{Meter, later, sooner};
use crate::shape::schedule::Next;
use crate::shape::settings::BudgetSettings;
use crate::shape::stop::Stop;

/// One key that a lane's calls may go with.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) credential: CredentialId,
    pub(crate) sender: Sender,
    /// Each is charged with every send; the one that counts longest first.
    pub(crate) meters: Vec<usize>,
    pub(crate) service: Service,
    /// The number of its last grant, so that equal keys take turns.
    pub(crate) last_used: u64,
}

/// Where no budget pays nobody waits, but for a connection; and while everything is paused by hand.
const UNBUDGETED_WAIT: Duration = Duration::from_secs(120);

/// So many wait there at most, as with a budget that does not say.
const UNBUDGETED_QUEUED: usize = 10_000;

/// Whether calls go with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// They do.
    In,
    /// They wait, until it is known whether Omni refuses it.
    OnTrial,
    /// Omni refuses it: those who have no other key are refused.
    Out,
}

/// Whose calls go in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Callers'.
    Calls,
    /// Our own, which ask whether a key is good; so it is never out.
    Probes,
}

/// Calls that may be charged to the same keys.
#[derive(Debug)]
pub(crate) struct Lane {
    /// At least one.
    pub(crate) ways: Vec<Way>,
    pub(crate) purpose: Purpose,
    pub(crate) queued: usize,
    pub(crate) max_queued: usize,
    max_wait: Duration,
    batch_max_wait: Duration,
}

impl Lane {
    /// A lane whose calls are charged to these budgets; the strictest word counts.
    pub(crate) fn new(ways: Vec<Way>, purpose: Purpose, budgets: &[&BudgetSettings]) -> Self {
        let least = |of: fn(&BudgetSettings) -> Duration| budgets.iter().map(|one| of(one)).min();
        Self {
            ways,
            purpose,
            queued: 0,
            max_queued: budgets.iter().map(|one| one.max_queued).min().unwrap_or(UNBUDGETED_QUEUED),
            max_wait: least(|one| one.max_wait).unwrap_or(UNBUDGETED_WAIT),
            batch_max_wait: least(|one| one.batch_max_wait).unwrap_or(UNBUDGETED_WAIT),
        }
    }

    /// How long a call waits where nobody else says.
    pub(crate) fn max_wait(&self, priority: Priority) -> Duration {
        match priority {
            Priority::Interactive | Priority::Normal => self.max_wait,
            Priority::Batch => self.batch_max_wait,
        }
    }

    pub(crate) fn all_out(&self) -> bool {
        self.ways.iter().all(|way| way.service == Service::Out)
    }

    /// Whether calls of both take the same slots, and can go whenever those of the other can.
    pub(crate) fn charges_like(&self, other: &Self) -> bool {
        let ways = || self.ways.iter().zip(&other.ways);
        self.ways.len() == other.ways.len()
            && ways().all(|(one, other)| one.meters == other.meters && one.service == other.service)
    }

    /// Whether calls of both may take the same slots.
    pub(crate) fn shares_with(&self, other: &Self) -> bool {
        let mut theirs = other.ways.iter().flat_map(|way| &way.meters);
        theirs.any(|meter| self.ways.iter().any(|way| way.meters.contains(meter)))
    }

    /// The keys that calls may still get.
    fn hopeful(&self) -> impl Iterator<Item = &Way> {
        self.ways.iter().filter(|way| way.service != Service::Out)
    }

    /// The keys that calls may get now.
    pub(crate) fn usable(&self) -> impl Iterator<Item = (usize, &Way)> {
        self.ways.iter().enumerate().filter(|(_, way)| way.service == Service::In)
    }

    /// The key that calls may get now which is charged exactly so.
    pub(crate) fn way_that_pays(&self, meters: &[usize]) -> Option<usize> {
        self.usable().find(|(_, way)| way.meters == meters).map(|(index, _)| index)
    }

    /// When the next call may go, and with which key: the one whose slot comes first, and among
    /// equals the one that rested longest.
    pub(crate) fn next(&self, meters: &[Meter], now: Instant, priority: Priority) -> (Next, usize) {
        let mut best: Option<(Next, u64, usize)> = None;
        for (index, way) in self.usable() {
            let next = way.meters.iter().map(|&meter| meters[meter].next(now, priority));
            let next = next.fold(Next::Now, later);
            let better = best.is_none_or(|(other, last_used, _)| match next == other {
                true => way.last_used < last_used,
                false => sooner(next, other) == next,
            });
            if better {
                best = Some((next, way.last_used, index));
            }
        }
        best.map_or((Next::Untold, 0), |(next, _, index)| (next, index))
    }

    /// The earliest moment at which a call with `ahead` calls before it can go.
    pub(crate) fn lower_bound(
        &self,
        meters: &[Meter],
        ahead: usize,
        now: Instant,
        priority: Priority,
    ) -> Instant {
        self.over_ways(meters, ahead, now, |meter, ahead| meter.lower_bound(ahead, now, priority))
    }

    pub(crate) fn estimate(
        &self,
        meters: &[Meter],
        ahead: usize,
        now: Instant,
        priority: Priority,
    ) -> Instant {
        self.over_ways(meters, ahead, now, |meter, ahead| meter.estimate(ahead, now, priority))
    }

    /// The earliest over all keys of the latest over each key's ledgers. Keys with ledgers of their
    /// own share the calls ahead among them.
    fn over_ways(
        &self,
        meters: &[Meter],
        ahead: usize,
        now: Instant,
        at: impl Fn(&Meter, usize) -> Instant,
    ) -> Instant {
        let keys = self.hopeful().count().max(1);
        let of_way = |way: &Way| {
            let each = way.meters.iter().map(|&meter| {
                let meter = &meters[meter];
                let ahead = if meter.key.is_some() { ahead / keys } else { ahead };
                at(meter, ahead)
            });
            each.fold(now, Instant::max)
        };
        self.hopeful().map(of_way).min().unwrap_or(now)
    }

    /// For how long somebody has paused every key by hand that calls may still get.
    pub(crate) fn stop(&self, meters: &[Meter], now: Instant) -> Stop {
        let of_way = |way: &Way| {
            let each = way.meters.iter().map(|&meter| meters[meter].stop.at(now));
            each.max().unwrap_or(Stop::Off)
        };
        self.hopeful().map(of_way).min().unwrap_or(Stop::Off)
    }

    /// Whether every key that calls may still get is held by a pause.
    pub(crate) fn is_paused(&self, meters: &[Meter], now: Instant) -> bool {
        let holds = |meter: &Meter| meter.pause.holds(now) || meter.stop.holds(now);
        let held = |way: &Way| way.meters.iter().any(|&meter| holds(&meters[meter]));
        !self.all_out() && self.hopeful().all(held)
    }

    /// How many calls could go at once.
    pub(crate) fn free(&self, meters: &[Meter], now: Instant, priority: Priority) -> usize {
        let of_way = |way: &Way| {
            let each = way.meters.iter().map(|&meter| {
                let meter = &meters[meter];
                match meter.next(now, priority) {
                    Next::Now => meter.free(now, priority),
                    Next::At(_) | Next::Untold => 0,
                }
            });
            each.min().unwrap_or(usize::MAX)
        };
        self.usable().map(|(_, way)| of_way(way)).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tokio::time::sleep;

    use super::*;
    use crate::base::{BudgetId, CallerId};
    use crate::shape::place::Permit;
    use crate::shape::refused::Refused;
    use crate::shape::settings::{ColdStart, Key, Profile, Scope};
    use crate::shape::shaper::{Ask, Outlook, Shaper, ShaperSettings};

    const SECOND: Duration = Duration::from_secs(1);

    fn shaper(keys: &[Key]) -> Shaper {
        let settings = BudgetSettings {
            id: BudgetId::new("omni"),
            limit: NonZeroU32::new(60).unwrap(),
            window: 60 * SECOND,
            guard: SECOND,
            profile: Profile::Burst,
            reserve: 0,
            scope: Scope::Credential,
            max_queued: 100,
            max_wait: 600 * SECOND,
            batch_max_wait: 600 * SECOND,
            cold_start: ColdStart::Trust,
        };
        let budgets = vec![settings];
        Shaper::open(ShaperSettings { budgets, keys: keys.to_vec(), callers: vec![] }, None)
            .unwrap()
    }

    fn outlook(shaper: &Shaper, keys: &[Key]) -> Outlook {
        let (lane, caller) = (shaper.lane(keys).unwrap(), &CallerId::new("anonymous"));
        shaper.outlook(&Ask { lane, caller, priority: Priority::Normal, max_wait: None })
    }

    async fn permit(shaper: &Shaper, keys: &[Key]) -> Permit {
        let (lane, caller) = (shaper.lane(keys).unwrap(), &CallerId::new("anonymous"));
        let ask = Ask { lane, caller, priority: Priority::Normal, max_wait: None };
        let mut place = shaper.join(&ask).unwrap();
        place.near().await.unwrap();
        place.turn().await.unwrap()
    }

    /// Omni says no to a call with one of these keys.
    async fn limit(shaper: &Shaper, keys: &[Key], seconds: u32) {
        let permit = permit(shaper, keys).await;
        let outcome = permit.outcome();
        permit.begin();
        outcome.limited(Some(seconds * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_held_by_a_pause_while_it_holds_every_key_that_they_may_go_with() {
        let budgets = vec![BudgetId::new("omni")];
        let key = |name| Key { credential: CredentialId::new(name), budgets: budgets.clone() };
        let keys = [key("a"), key("b")];
        let shaper = shaper(&keys);
        let paused = || {
            let of = |keys: &[Key]| outlook(&shaper, keys).paused;
            (of(&keys[..1]), of(&keys[1..]), of(&keys))
        };
        assert_eq!(paused(), (false, false, false));
        limit(&shaper, &keys[..1], 30).await;
        assert_eq!(paused(), (true, false, false));
        limit(&shaper, &keys[1..], 40).await;
        assert_eq!(paused(), (true, true, true));
        // A key that is out is none that they may go with; with no key at all nobody pauses.
        let [a, b] = keys.each_ref().map(|key| &key.credential);
        sleep(30 * SECOND).await;
        assert_eq!(paused(), (false, true, false));
        shaper.set_service(a, Service::Out);
        assert_eq!(paused(), (false, true, true));
        shaper.set_service(b, Service::Out);
        assert_eq!(paused(), (false, false, false));
    }

    /// Who keeps back calls while there is a pause must not keep back the one that ends it.
    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_nobody_once_the_next_call_is_the_probe_and_everybody_while_it_is_out() {
        let budgets = vec![BudgetId::new("omni")];
        let keys = [Key { credential: CredentialId::new("a"), budgets }];
        let shaper = shaper(&keys);
        limit(&shaper, &keys, 30).await;
        sleep(29 * SECOND).await;
        assert!(outlook(&shaper, &keys).paused);
        sleep(SECOND).await;
        assert!(!outlook(&shaper, &keys).paused);
        let probe = permit(&shaper, &keys).await;
        assert!(outlook(&shaper, &keys).paused);
        let outcome = probe.outcome();
        probe.begin();
        assert!(outlook(&shaper, &keys).paused);
        outcome.taken();
        assert!(!outlook(&shaper, &keys).paused);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_budget_pays_is_never_paused() {
        let keys = [Key { credential: CredentialId::new("a"), budgets: Vec::new() }];
        assert!(!outlook(&shaper(&keys), &keys).paused);
    }

    /// A pause of everything is the only thing that they wait for, and there is no end to who may come.
    #[tokio::test(start_paused = true)]
    async fn where_no_budget_pays_no_more_wait_for_the_end_of_a_pause_than_elsewhere() {
        let keys = [Key { credential: CredentialId::new("a"), budgets: Vec::new() }];
        let shaper = shaper(&keys);
        let (lane, caller) = (shaper.lane(&keys).unwrap(), &CallerId::new("anonymous"));
        let ask = Ask { lane, caller, priority: Priority::Normal, max_wait: None };
        shaper.pause(None, None);
        let mut waiting: Vec<_> =
            (0..UNBUDGETED_QUEUED).map(|_| shaper.join(&ask).unwrap()).collect();
        let full = shaper.join(&ask);
        assert!(matches!(full, Err(Refused::Full { queued: 10_000, .. })), "{full:?}");
        assert!(shaper.outlook(&ask).crowded);
        drop(waiting.pop());
        waiting.push(shaper.join(&ask).unwrap());
        shaper.resume(None);
        // Nothing keeps them, and so nothing keeps out who comes now, however many connect.
        waiting.push(shaper.join(&ask).unwrap());
    }
}

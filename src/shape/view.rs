//! What operators see of the budgets and of those who wait.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::{BudgetId, CallerId, CredentialId, Priority};
use crate::shape::ledger::Stamp;
use crate::shape::line::{CallerIndex, LaneIndex, Seat, Ticket};
use crate::shape::meter::{Meter, later};
use crate::shape::queue::Queue;
use crate::shape::schedule::Next;
use crate::shape::settings::Profile;
use crate::shape::shaper::Shaper;

/// The most sends of one ledger that are shown.
const SHOWN: usize = 600;

/// The facts of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// All of them, in the order of their names.
    pub budgets: Vec<BudgetView>,
    /// Who has calls that wait.
    pub callers: Vec<CallerView>,
}

/// A budget, or one key of it where each has a ledger of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetView {
    /// Its name.
    pub id: BudgetId,
    /// The key, where each has a ledger of its own.
    pub key: Option<CredentialId>,
    /// How its sends are spread, as configured.
    pub profile: Profile,
    /// Whether it sends as `strict` does, since Omni refused a call within the limit.
    pub strict: bool,
    /// Sends per window.
    pub limit: usize,
    /// The window.
    pub window: Duration,
    /// The window and the guard: for so long a send counts.
    pub span: Duration,
    /// Sends that count now, permits in hand among them.
    pub used: usize,
    /// Permits in hand.
    pub in_hand: usize,
    /// When a `normal` call with nobody before it would go; `None` where nobody knows.
    pub next: Option<Duration>,
    /// Why nobody sends, where nobody does.
    pub held: Option<Held>,
    /// The sends that count now, the oldest first; of more than 600 the latest.
    pub sent: Vec<SentView>,
    /// Those who wait, by priority.
    pub queue: [Waiting; 3],
}

/// Why nobody sends, and for how long; `None` where nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Omni said that it is too much. Nobody knows while the probe is out.
    ByOmni(Option<Duration>),
    /// Somebody has paused it by hand.
    ByOperator(Option<Duration>),
}

/// One send that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentView {
    /// How long ago its head was handed to the socket.
    pub ago: Duration,
    /// Whose it was; `None` for one of an earlier life.
    pub by: Option<By>,
}

/// Whose send it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// The caller.
    pub caller: CallerId,
    /// How urgent its call was.
    pub priority: Priority,
}

/// Calls that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub calls: usize,
    /// How long ago the oldest of them came; `None` where none waits.
    pub oldest: Option<Duration>,
}

/// What waits of one caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerView {
    /// Whose.
    pub id: CallerId,
    /// Its calls.
    pub waiting: Waiting,
}

/// Calls that wait, and the one that came first: they stand in the order of their coming.
#[derive(Clone, Copy, Debug, Default)]
struct Crowd {
    calls: usize,
    first: Option<Ticket>,
}

impl Shaper {
    /// The facts of this moment. Its cost grows with the sends that are shown and the callers who
    /// wait, and not with their calls.
    pub fn view(&self) -> View {
        let now = Instant::now();
        let mut view = self.shared.with(|queue| {
            queue.advance(now);
            queue.view(now)
        });
        view.budgets.sort_by(|a, b| (&a.id, &a.key).cmp(&(&b.id, &b.key)));
        view.callers.sort_by(|a, b| a.id.cmp(&b.id));
        view
    }
}

impl Queue {
    fn view(&self, now: Instant) -> View {
        let mut lanes: BTreeMap<(LaneIndex, Priority), Crowd> = BTreeMap::new();
        let mut callers: BTreeMap<CallerIndex, Crowd> = BTreeMap::new();
        for (Seat { priority, caller, lane }, calls, first) in self.line.rows() {
            let row = Crowd { calls, first: Some(first) };
            lanes.entry((lane, priority)).or_default().add(row);
            callers.entry(caller).or_default().add(row);
        }
        let budgets = self.meters.iter().enumerate().map(|(index, meter)| {
            let charged = |lane: LaneIndex| {
                self.lanes[lane].ways.iter().any(|way| way.meters.contains(&index))
            };
            let queue = Priority::ALL.map(|class| {
                let mut crowd = Crowd::default();
                let mine = lanes.iter().filter(|((lane, of), _)| *of == class && charged(*lane));
                mine.for_each(|(_, row)| crowd.add(*row));
                self.waiting(crowd, now)
            });
            self.budget(meter, queue, now)
        });
        let callers = callers.into_iter().filter_map(|(caller, crowd)| {
            let id = self.callers.name(caller)?.clone();
            Some(CallerView { id, waiting: self.waiting(crowd, now) })
        });
        View { budgets: budgets.collect(), callers: callers.collect() }
    }

    fn budget(&self, meter: &Meter, queue: [Waiting; 3], now: Instant) -> BudgetView {
        let (schedule, settings) = (&meter.schedule, meter.schedule.settings());
        let stamps = schedule.stamps();
        let untold = stamps.len().saturating_sub(SHOWN);
        BudgetView {
            id: meter.budget.clone(),
            key: meter.key.clone(),
            profile: settings.profile,
            strict: schedule.is_strict(),
            limit: schedule.limit(),
            window: settings.window,
            span: schedule.span(),
            used: meter.used(),
            in_hand: schedule.held(),
            next: self.next_slot(meter, now),
            held: self.held(meter, now),
            sent: stamps.skip(untold).map(|stamp| self.sent(stamp, now)).collect(),
            queue,
        }
    }

    /// When a call of the middle class would go that had nobody before it.
    fn next_slot(&self, meter: &Meter, now: Instant) -> Option<Duration> {
        if meter.pause.is_probing() && meter.pause.holds(now) {
            return None;
        }
        match later(self.stop.next(now), meter.next(now, Priority::Normal)) {
            Next::Now => Some(Duration::ZERO),
            // Not `at`: a bucket that begins anew with the slot may come later still.
            Next::At(at) => {
                let from = self.stop.expected_end(now);
                Some(meter.estimate(0, from, Priority::Normal).max(at) - now)
            }
            Next::Untold => None,
        }
    }

    /// What keeps a ledger from sending: of Omni and an operator, who does so for longer.
    fn held(&self, meter: &Meter, now: Instant) -> Option<Held> {
        let by_hand = meter.stop.at(now).max(self.stop.at(now));
        let (omni, hand) = (meter.pause.until(), by_hand.until());
        let left = |end: Option<Instant>| end.map(|end| end.saturating_duration_since(now));
        let omni_is_longer = omni.zip(hand).is_some_and(|(omni, hand)| omni > hand);
        match (meter.pause.holds(now), by_hand.holds(now)) {
            (_, true) if !omni_is_longer => Some(Held::ByOperator(left(hand))),
            (true, _) => Some(Held::ByOmni(left(omni))),
            (false, _) => None,
        }
    }

    fn sent(&self, stamp: &Stamp, now: Instant) -> SentView {
        let by = stamp.by.and_then(|by| {
            let caller = self.callers.name(by.caller as usize)?.clone();
            Some(By { caller, priority: by.priority })
        });
        SentView { ago: now.saturating_duration_since(stamp.at), by }
    }

    fn waiting(&self, crowd: Crowd, now: Instant) -> Waiting {
        let first = crowd.first.and_then(|ticket| self.waiters.get(&ticket));
        let oldest = first.map(|waiter| now.saturating_duration_since(waiter.joined));
        Waiting { calls: crowd.calls, oldest }
    }
}

impl Crowd {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.first = self.first.into_iter().chain(other.first).min();
    }
}

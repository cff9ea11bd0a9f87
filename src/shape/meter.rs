//! One ledger in service: its schedule, and whether Omni has told it to pause.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::{BudgetId, CredentialId, Priority};
use crate::shape::fleet::{Seen, Sharing};
use crate::shape::journal::Slot;
use crate::shape::ledger::{By, Stamp};
use crate::shape::pause::Pause;
use crate::shape::queue::Grant;
use crate::shape::schedule::{Next, Schedule, Share};
use crate::shape::settings::BudgetSettings;
use crate::shape::stop::Stop;

/// For so long a budget sends as `strict` does after Omni refused a call within the limit.
const STRICT_FOR: Duration = Duration::from_secs(3_600);

/// The sends of one budget, or of one key where each key has its own.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) budget: BudgetId,
    /// Whose sends; all of the budget's keys where there is none.
    pub(crate) key: Option<CredentialId>,
    pub(crate) schedule: Schedule,
    pub(crate) pause: Pause,
    /// Whether somebody paused its budget by hand.
    pub(crate) stop: Stop,
    /// Who else has a say, where the budget is shared with other instances.
    pub(crate) sharing: Sharing,
    /// Where the end of a pause is written down.
    pub(crate) pause_slot: Option<Slot>,
    window: Duration,
    has_reserve: bool,
}

impl Meter {
    pub(crate) fn new(
        settings: &BudgetSettings,
        key: Option<CredentialId>,
        schedule: Schedule,
    ) -> Self {
        Self {
            budget: settings.id.clone(),
            key,
            schedule,
            pause: Pause::default(),
            stop: Stop::Off,
            sharing: Sharing::Nobody,
            pause_slot: None,
            window: settings.window,
            has_reserve: settings.reserve > 0,
        }
    }

    /// What it is called among all instances.
    pub(crate) fn name(&self) -> String {
        self.key
            .as_ref()
            .map_or_else(|| self.budget.to_string(), |key| format!("{}/{key}", self.budget))
    }

    pub(crate) fn share(&self, priority: Priority) -> Share {
        match priority {
            Priority::Normal | Priority::Batch if self.has_reserve => Share::Unreserved,
            Priority::Interactive | Priority::Normal | Priority::Batch => Share::Whole,
        }
    }

    /// Forgets what no longer counts, and hands back its journal slots.
    pub(crate) fn expire(&mut self, now: Instant, forget: impl FnMut(Slot)) {
        self.schedule.expire(now, forget);
        if let Some(part) = self.sharing.part(now) {
            part.expire(now, |_| {});
        }
    }

    /// When the next call may go, or may ask the store whether it may.
    pub(crate) fn next(&self, now: Instant, priority: Priority) -> Next {
        let paused = later(self.stop.next(now), self.pause.next(now));
        later(paused, self.sharing.next(&self.schedule, now, self.share(priority)))
    }

    /// How many calls could go at once.
    pub(crate) fn free(&self, now: Instant, priority: Priority) -> usize {
        let share = self.share(priority);
        let own = self.schedule.free(now, share);
        match &self.sharing {
            Sharing::Nobody => own,
            Sharing::Store(seen) => own.min(self.schedule.limit().saturating_sub(seen.used)),
            Sharing::Shut(_) => 0,
            Sharing::Part(part) if part.rests => 0,
            Sharing::Part(part) => own.min(part.schedule.free(now, share)),
        }
    }

    /// How many sends count, of all that are known of.
    pub(crate) fn used(&self) -> usize {
        let own = self.schedule.used();
        match &self.sharing {
            Sharing::Store(seen) => own.max(seen.used),
            Sharing::Nobody | Sharing::Shut(_) | Sharing::Part(_) => own,
        }
    }

    /// The earliest moment at which a call with `ahead` calls before it can go.
    pub(crate) fn lower_bound(&self, ahead: usize, now: Instant, priority: Priority) -> Instant {
        let ends = self.pause.until().into_iter().chain(self.stop.until());
        let from = ends.chain(self.sharing.until()).fold(now, Instant::max);
        let share = self.share(priority);
        let part = match &self.sharing {
            Sharing::Part(part) => part.schedule.lower_bound(ahead, now, share),
            Sharing::Nobody | Sharing::Store(_) | Sharing::Shut(_) => now,
        };
        self.schedule.lower_bound(ahead, now, share).max(from).max(part)
    }

    pub(crate) fn estimate(&self, ahead: usize, now: Instant, priority: Priority) -> Instant {
        // What was paused by hand goes on as if nothing had been; only Omni wants to be treated gently.
        let from = self.stop.expected_end(now);
        let from = self.sharing.until().map_or(from, |until| until.max(from));
        let share = self.share(priority);
        let sent = match &self.sharing {
            Sharing::Nobody | Sharing::Shut(_) => self.schedule.estimate(ahead, from, share),
            Sharing::Store(seen) => {
                let ahead = ahead + self.others_before(seen, priority);
                let first = seen.from.unwrap_or(from);
                self.schedule.estimate(ahead, from, share).max(first)
            }
            Sharing::Part(part) => part.schedule.estimate(ahead, from, share),
        };
        match self.pause.until() {
            Some(until) => sent.max(until.max(from) + self.pace(ahead)),
            None => sent,
        }
    }

    /// The calls of other instances that presumably go before one of these.
    fn others_before(&self, seen: &Seen, priority: Priority) -> usize {
        seen.others[..=priority as usize].iter().sum()
    }

    /// After a pause sends go at pace, whatever the ledger would have allowed.
    fn pace(&self, ahead: usize) -> Duration {
        let each = self.schedule.span() / u32::try_from(self.schedule.limit()).unwrap_or(u32::MAX);
        crate::shape::ledger::rounds(each, ahead)
    }

    pub(crate) fn take(&mut self, now: Instant, priority: Priority) {
        if self.pause.take(now) {
            self.empty(now);
        }
        let share = self.share(priority);
        self.schedule.take(now, share);
        if let Some(part) = self.sharing.part(now) {
            part.take(now, share);
        }
    }

    /// The head of a send that was granted then is handed to the socket.
    pub(crate) fn stamp(
        &mut self,
        granted: Instant,
        at: Instant,
        slot: Option<Slot>,
        by: Option<By>,
    ) {
        self.schedule.stamp(Stamp { at, slot, by });
        if let Some(part) = self.sharing.part(granted) {
            part.stamp(Stamp { at, slot: None, by });
        }
    }

    /// A send did not begin.
    pub(crate) fn give_back(&mut self, now: Instant, grant: &Grant) {
        self.pause.lost(now, grant.number);
        let share = self.share(grant.priority);
        self.schedule.give_back(share);
        if let Some(part) = self.sharing.part(grant.at) {
            part.give_back(share);
        }
    }

    /// Omni took a call.
    pub(crate) fn taken(&mut self, now: Instant, grant: u64) {
        if self.pause.taken(grant) {
            self.empty(now);
        }
    }

    /// Omni refused a call for the limit, although the ledger was within it: somebody else uses
    /// the key, or Omni counts otherwise. So it sends more slowly for an hour, too.
    pub(crate) fn refused(
        &mut self,
        now: Instant,
        grant: u64,
        next_grant: u64,
        retry_after: Option<Duration>,
        jitter: f64,
    ) {
        self.pause.refused(now, grant, next_grant, retry_after, self.window, jitter);
        self.schedule.turn_strict(now, now + STRICT_FOR);
        if let Some(part) = self.sharing.part(now) {
            part.turn_strict(now, now + STRICT_FOR);
        }
    }

    /// After a pause sends go at pace.
    fn empty(&mut self, now: Instant) {
        self.schedule.empty(now);
        if let Some(part) = self.sharing.part(now) {
            part.empty(now);
        }
    }
}

/// Of two conditions the one that is met later.
pub(crate) fn later(a: Next, b: Next) -> Next {
    match (a, b) {
        (Next::Untold, _) | (_, Next::Untold) => Next::Untold,
        (Next::At(a), Next::At(b)) => Next::At(a.max(b)),
        (Next::At(at), Next::Now) | (Next::Now, Next::At(at)) => Next::At(at),
        (Next::Now, Next::Now) => Next::Now,
    }
}

/// Of two ways the one that is open sooner.
pub(crate) fn sooner(a: Next, b: Next) -> Next {
    match (a, b) {
        (Next::Now, _) | (_, Next::Now) => Next::Now,
        (Next::At(a), Next::At(b)) => Next::At(a.min(b)),
        (Next::At(at), Next::Untold) | (Next::Untold, Next::At(at)) => Next::At(at),
        (Next::Untold, Next::Untold) => Next::Untold,
    }
}

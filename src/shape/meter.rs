//! One ledger in service: its schedule, and whether Omni has told it to pause.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::{BudgetId, CredentialId, Priority};
use crate::shape::journal::Slot;
use crate::shape::pause::Pause;
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
            pause_slot: None,
            window: settings.window,
            has_reserve: settings.reserve > 0,
        }
    }

    pub(crate) fn share(&self, priority: Priority) -> Share {
        match priority {
            Priority::Normal | Priority::Batch if self.has_reserve => Share::Unreserved,
            Priority::Interactive | Priority::Normal | Priority::Batch => Share::Whole,
        }
    }

    pub(crate) fn next(&self, now: Instant, priority: Priority) -> Next {
        let paused = later(self.stop.next(now), self.pause.next(now));
        later(paused, self.schedule.next(now, self.share(priority)))
    }

    /// The earliest moment at which a call with `ahead` calls before it can go.
    pub(crate) fn lower_bound(&self, ahead: usize, now: Instant, priority: Priority) -> Instant {
        let ends = self.pause.until().into_iter().chain(self.stop.until());
        let from = ends.fold(now, Instant::max);
        self.schedule.lower_bound(ahead, now, self.share(priority)).max(from)
    }

    pub(crate) fn estimate(&self, ahead: usize, now: Instant, priority: Priority) -> Instant {
        // What was paused by hand goes on as if nothing had been; only Omni wants to be treated gently.
        let from = self.stop.expected_end(now);
        let sent = self.schedule.estimate(ahead, from, self.share(priority));
        match self.pause.until() {
            Some(until) => sent.max(until.max(from) + self.pace(ahead)),
            None => sent,
        }
    }

    /// After a pause sends go at pace, whatever the ledger would have allowed.
    fn pace(&self, ahead: usize) -> Duration {
        let each = self.schedule.span() / u32::try_from(self.schedule.limit()).unwrap_or(u32::MAX);
        crate::shape::ledger::rounds(each, ahead)
    }

    pub(crate) fn take(&mut self, now: Instant, priority: Priority) {
        if self.pause.take(now) {
            self.schedule.empty(now);
        }
        self.schedule.take(now, self.share(priority));
    }

    pub(crate) fn give_back(&mut self, now: Instant, grant: u64, priority: Priority) {
        self.pause.lost(now, grant);
        self.schedule.give_back(self.share(priority));
    }

    /// Omni took a call.
    pub(crate) fn taken(&mut self, now: Instant, grant: u64) {
        if self.pause.taken(grant) {
            self.schedule.empty(now);
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

//! What the status page shows of the last quarter of an hour: tallies by caller and by route, admissions,
//! the last errors. Fixed in size: names are the config's.

use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use crate::base::{BudgetId, CallerId, Priority, RequestId, RouteId};
use crate::telemetry::{CacheOutcome, TraceId};

/// How one exchange ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// Its route, where it had one.
    pub route: Option<&'a RouteId>,
    /// Who asked, where that was known.
    pub caller: Option<&'a CallerId>,
    /// The caller's method.
    pub method: &'a Method,
    /// What the caller was answered; 499 when it left first.
    pub status: u16,
    /// The stable name of the problem that omnigate answered with, where it did.
    pub refusal: Option<&'static str>,
    /// What the cache did, where it was asked.
    pub cache: Option<CacheOutcome>,
    /// Attempts that were sent for it alone.
    pub attempts: u32,
    /// How long it waited for its turn, where it did.
    pub waited: Option<Duration>,
    /// How long upstream took to its response head, where it answered.
    pub upstream: Option<Duration>,
    /// Its id.
    pub request_id: &'a RequestId,
    /// Its trace, where it has one.
    pub trace: Option<TraceId>,
}

/// The tallies of a process.
#[derive(Debug, Default)]
pub struct Board {}

impl Board {
    /// An exchange has ended.
    pub fn ended(&self, now: Instant, what: &Ended<'_>) {
        let _ = (now, what);
    }

    /// A call was granted its permit.
    pub fn granted(&self, now: Instant, budget: &BudgetId, priority: Priority) {
        let _ = (now, budget, priority);
    }
}

//! What the listeners show and do, and in which words the rest of the process says it.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::admin::Status;
use crate::base::{BudgetId, CredentialId, RouteId};
use crate::proxy::{BadCall, Call, Explanation};
use crate::telemetry::{BadFilter, Exposition, Viewer};

/// Whether calls would be served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// What keeps them from it; nothing when ready.
    pub reasons: Vec<Reason>,
    /// How the keys stand.
    pub credentials: Vec<CredentialView>,
}

/// How one key stands. Never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialView {
    /// Its name.
    pub id: CredentialId,
    /// `ready`, `stale`, `rejected` or `missing`.
    pub state: &'static str,
    /// How long ago its value was first read; `None` when it has none.
    pub age: Option<Duration>,
    /// What is wrong with its place, for operators.
    pub trouble: Option<String>,
}

/// What Omni said when it was asked about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAnswer {
    /// The status of its answer.
    pub status: u16,
    /// Whether it takes the key.
    pub accepted: bool,
    /// Whether it refuses the key; where neither, it did not say.
    pub refused: bool,
    /// The first eight digits of the SHA-256 of the value that it was asked about.
    pub sha256: Option<String>,
    /// `organization` or `user`, where it said so.
    pub key_scope: Option<&'static str>,
}

/// Why Omni could not be asked about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// There is no such key.
    Unknown,
    /// Nothing was sent, or nothing came back.
    Because {
        /// Why.
        why: String,
        /// Whether the question may have been sent, and was charged.
        sent: bool,
    },
}

/// What was kept and is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purged {
    /// How many answers, where they were counted.
    pub entries: Option<u64>,
}

/// There is no such route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchRoute {
    /// Those that there are.
    pub known: Vec<RouteId>,
}

/// There is no such budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchBudget {
    /// Those that there are.
    pub known: Vec<BudgetId>,
}

/// Why calls, or some of them, would not be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The process is about to end.
    Draining,
    /// What the budgets are shared through was not reached yet, or is lost, and nothing is sent without.
    SharedBudget,
    /// This credential has no value.
    CredentialMissing(CredentialId),
}

/// What the listeners show and do; asked anew each time.
pub trait Desk: Send + Sync + 'static {
    /// Whether calls would be served.
    fn readiness(&self) -> Readiness;

    /// The metrics in this text format.
    fn metrics(&self, form: Exposition) -> String;

    /// Looks at every secret's place again.
    fn reload(&self) -> BoxFuture<'static, ()>;

    /// Asks Omni whether a key is good; costs one request.
    fn test_key(&self, id: CredentialId) -> BoxFuture<'static, Result<KeyAnswer, NoAnswer>>;

    /// Forgets every answer that is kept, or those of one route; also in the other gateways.
    ///
    /// # Errors
    /// There is no such route; nothing was forgotten.
    fn purge(&self, route: Option<RouteId>) -> BoxFuture<'static, Result<Purged, NoSuchRoute>>;

    /// Counts one more who watches the events, until what it gives is dropped.
    fn views(&self) -> Viewer;

    /// The facts of this moment.
    fn status(&self) -> Status;

    /// Sends nothing any more that is charged to this budget, or nothing at all, until somebody resumes
    /// or `time` has passed. Calls wait as long as they would wait for their turn.
    ///
    /// # Errors
    /// There is no such budget; nothing was paused.
    fn pause(&self, budget: Option<&BudgetId>, time: Option<Duration>) -> Result<(), NoSuchBudget>;

    /// Ends what [`Desk::pause`] began: for this budget, or everything that was paused by hand. What Omni
    /// asked for stays.
    ///
    /// # Errors
    /// There is no such budget.
    fn resume(&self, budget: Option<&BudgetId>) -> Result<(), NoSuchBudget>;

    /// Says what becomes of a call, and why, without making it.
    ///
    /// # Errors
    /// Nobody could make such a call.
    fn explain(&self, call: Call) -> BoxFuture<'static, Result<Explanation, BadCall>>;

    /// The log filter in force.
    fn log_filter(&self) -> String;

    /// Puts another log filter in force, or that of the config; gives the one in force now.
    ///
    /// # Errors
    /// The text is no filter.
    fn set_log(&self, filter: Option<&str>) -> Result<String, BadFilter>;
}

//! What the status page, `status.json` and `omnigate status` show: facts of one moment.
//!
//! Names are the config's, words are fixed, ids are checked; nothing in it is a secret or a caller's
//! text. Times are seconds, with milliseconds.

use serde::Serialize;

use super::Readiness;

/// How far back the tallies of callers, routes and the cache reach, in minutes.
pub const TALLIED: u32 = 15;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Of omnigate.
    pub version: &'static str,
    /// Wall clock, RFC 3339, UTC, with milliseconds.
    pub now: String,
    /// How long it has been running.
    pub up_s: f64,
    /// `ready` and `reasons` are those of `/readyz`; `credentials` with what is wrong, for operators.
    #[serde(flatten)]
    pub readiness: ReadinessShown,
    /// The log filter in force.
    pub log: String,
    /// Open connections of callers.
    pub connections: usize,
    /// Who watches the events.
    pub viewers: usize,
    /// In the order of their names.
    pub budgets: Vec<BudgetStatus>,
    /// In the order of their names; those that have called since the start, and those that are named in
    /// the config.
    pub callers: Vec<CallerStatus>,
    /// In the config's order.
    pub routes: Vec<RouteStatus>,
    /// The answers that are kept.
    pub cache: CacheStatus,
    /// Certificates of listeners.
    pub certificates: Vec<CertificateStatus>,
    /// Those that share the budgets; this one is the first. At most 200.
    pub instances: Vec<InstanceStatus>,
    /// How it stands with what the budgets are shared through; null where they are this process's own.
    pub shared: Option<SharedStatus>,
    /// Spans on their way to the collector.
    pub traces: TracesStatus,
    /// The latest first; at most 32, like ones counted together.
    pub errors: Vec<ErrorStatus>,
}

/// [`Readiness`] as documents show it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReadinessShown {
    /// Whether calls would be served.
    pub ready: bool,
    /// What keeps them from it.
    pub reasons: Vec<serde_json::Value>,
    /// How the keys stand: `credential`, `state`, `age_s`, `trouble`. Never a value.
    pub credentials: Vec<serde_json::Value>,
}

/// One budget, or one key of it where each has a ledger of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BudgetStatus {
    /// The budget's name.
    pub budget: String,
    /// The key, where each has a ledger of its own.
    pub credential: Option<String>,
    /// `burst`, `smooth` or `strict`, as configured.
    pub profile: &'static str,
    /// Whether it sends as `strict` does for a while, since Omni refused a call within the limit.
    pub strict_for_now: bool,
    /// Sends per window.
    pub limit: usize,
    /// The window.
    pub window_s: f64,
    /// The window and the guard: for so long a send counts.
    pub span_s: f64,
    /// Sends that count now, permits in hand among them.
    pub used: usize,
    /// Permits in hand: granted, and not sent yet.
    pub in_hand: usize,
    /// When a `normal` call with nobody before it would go; null where nobody knows.
    pub next_slot_s: Option<f64>,
    /// Why nobody sends, where nobody does.
    pub paused: Option<PauseStatus>,
    /// 429s of the limit since the start, while our own count was within the bound and beyond it.
    pub limited_within: u64,
    /// See `limited_within`.
    pub limited_beyond: u64,
    /// The sends that count now, the oldest first; of more than 600 the latest.
    pub cells: Vec<Cell>,
    /// Those that wait: `interactive`, `normal`, `batch`, in this order.
    pub queue: Vec<QueueStatus>,
    /// Grants of the last 15 minutes.
    pub admissions: Admissions,
}

/// Why nobody sends.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PauseStatus {
    /// `omni`: it said 429. `operator`: somebody paused it by hand.
    pub by: &'static str,
    /// When it ends; null while the probe is out, or until an operator resumes.
    pub ends_in_s: Option<f64>,
}

/// One send that counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cell {
    /// How long ago its head was sent.
    pub ago_s: f64,
    /// Whose call; null where it was sent before this process began. `omnigate` for our own.
    pub caller: Option<String>,
    /// How urgent it was; null like `caller`.
    pub priority: Option<&'static str>,
}

/// Those who wait, of one priority.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QueueStatus {
    /// `interactive`, `normal` or `batch`.
    pub priority: &'static str,
    /// How many.
    pub waiting: usize,
    /// How long the oldest has waited; null where none waits.
    pub oldest_s: Option<f64>,
}

/// Grants, counted in steps of time; the last step is the one that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Admissions {
    /// The length of a step: 5.
    pub step_s: u32,
    /// How much of the last step has passed.
    pub into_step_s: f64,
    /// 180 steps, the oldest first.
    pub interactive: Vec<u32>,
    /// The same.
    pub normal: Vec<u32>,
    /// The same.
    pub batch: Vec<u32>,
}

/// What one caller did. Counts are of the last 15 minutes unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CallerStatus {
    /// `anonymous` for those without a name.
    pub caller: String,
    /// Calls that ended.
    pub calls: u64,
    /// Attempts that were sent for them.
    pub sent: u64,
    /// Calls that cost no request.
    pub saved: u64,
    /// Calls that omnigate answered itself with a problem.
    pub refused: u64,
    /// Calls that upstream answered with 5xx.
    pub failed: u64,
    /// The longest wait for a turn.
    pub longest_wait_s: f64,
    /// Calls that wait now.
    pub waiting: usize,
    /// How long the oldest of these has waited.
    pub oldest_s: Option<f64>,
    /// When its last call ended, ago; null where none did since the start.
    pub seen_s: Option<f64>,
    /// Calls that ended since the start.
    pub calls_ever: u64,
}

/// What became of the calls of one route in the last 15 minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RouteStatus {
    /// Its name.
    pub route: String,
    /// Whether it keeps answers.
    pub keeps: bool,
    /// Calls that ended.
    pub calls: u64,
    /// Attempts that were sent for them.
    pub sent: u64,
    /// Calls that cost no request.
    pub saved: u64,
    /// Calls that omnigate answered itself with a problem.
    pub refused: u64,
    /// Calls that upstream answered with 5xx.
    pub failed: u64,
    /// The mean wait for a turn, of those who needed one.
    pub mean_wait_s: Option<f64>,
    /// The mean time that upstream took to its response head, of those who were sent.
    pub mean_upstream_s: Option<f64>,
    /// Calls that ended since the start.
    pub calls_ever: u64,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CacheStatus {
    /// How much room it takes.
    pub bytes: u64,
    /// How much it may.
    pub max_bytes: u64,
    /// How many things are kept.
    pub entries: u64,
    /// Calls in the last 15 minutes on routes that keep answers.
    pub calls: u64,
    /// Those of them that cost no request.
    pub saved: u64,
    /// Calls since the start that cost no request.
    pub saved_ever: u64,
}

/// The certificate of one listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CertificateStatus {
    /// Where callers connect.
    pub listener: String,
    /// When it expires; negative when it has.
    pub expires_in_s: f64,
}

/// How it stands with what the budgets are shared through.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SharedStatus {
    /// `joining`: it was not reached since the start. `joined`: it answers. `lost`: it does not any more.
    pub standing: &'static str,
    /// For how long it has been lost; null where it is not.
    pub lost_s: Option<f64>,
    /// What is done while it is lost: `hold`, `share` or `local`.
    pub on_lost: &'static str,
    /// With `share`: the limit is divided by so many.
    pub share_of: Option<u32>,
    /// Why it lets nobody send, where it does not.
    pub blocked: Option<BlockedStatus>,
    /// Sends since the start that the others knew nothing of.
    pub unshared: u64,
}

/// Why the shared budget lets nobody send for a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BlockedStatus {
    /// `empty`, `server`, `clock` or `loss`.
    pub why: &'static str,
    /// When it ends.
    pub ends_in_s: f64,
}

/// One process that shares the budgets.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct InstanceStatus {
    /// Its host's name.
    pub instance: String,
    /// Of omnigate.
    pub version: String,
    /// How long it has been running.
    pub up_s: f64,
    /// When it was last heard of, ago; null for the one that answers.
    pub heard_s: Option<f64>,
    /// Whether it is the one that answers.
    pub is_this: bool,
}

/// How the export of spans goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TracesStatus {
    /// `off`, `on` (nothing sent yet, or the last export was taken) or `failing`.
    pub state: &'static str,
    /// Where they go: scheme, host and port.
    pub endpoint: Option<String>,
    /// Spans that the collector took.
    pub exported: u64,
    /// Spans that it did not take.
    pub failed: u64,
    /// Spans for which the queue had no room.
    pub dropped: u64,
    /// Why the last export failed, where it did.
    pub why: Option<String>,
}

/// Errors that are alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ErrorStatus {
    /// When the last one ended, ago.
    pub ago_s: f64,
    /// How many, within the last 15 minutes.
    pub count: u64,
    /// The last part of the problem's `type`; `upstream` where Omni answered with 5xx.
    pub kind: &'static str,
    /// What the caller was answered.
    pub status: u16,
    /// The caller's method; `other` for one that is made up.
    pub method: &'static str,
    /// The route, where it had one.
    pub route: Option<String>,
    /// Who asked, where that was known.
    pub caller: Option<String>,
    /// Of the last one.
    pub request_id: String,
    /// Of the last one, where there is one.
    pub trace_id: Option<String>,
}

impl From<Readiness> for ReadinessShown {
    fn from(readiness: Readiness) -> Self {
        Self {
            ready: readiness.reasons.is_empty(),
            reasons: readiness.reasons.iter().map(super::reason).collect(),
            credentials: readiness.credentials.iter().map(|one| super::shown(one, true)).collect(),
        }
    }
}

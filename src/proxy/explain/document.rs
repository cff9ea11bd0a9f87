//! What becomes of a call, and why, as a document. Its shape is stable: a key is added, and none is
//! taken away or changes its meaning. It has no value of a field that could be a secret.

use serde::{Deserialize, Serialize};

/// What becomes of a call, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// What becomes of it.
    pub verdict: Verdict,
    /// What was asked about.
    pub call: Said,
    /// Who asks, where that is known.
    pub caller: Option<Who>,
    /// The route that takes it.
    pub route: Option<Taken>,
    /// Those that take its path, or nearly, and do not take it; in the order in which they are asked.
    pub other_routes: Vec<Other>,
    /// What is known of the endpoint.
    pub endpoint: Option<Known>,
    /// The keys that it may go with.
    pub credentials: Vec<KeySaid>,
    /// What it is charged to.
    pub budgets: Vec<Charged>,
    /// How urgent it is.
    pub priority: Option<Urgency>,
    /// How long it waits at most.
    pub max_wait: Option<Patience>,
    /// For whom it acts.
    pub impersonation: Option<ActsFor>,
    /// Whether its body is looked into.
    pub body: Option<Looked>,
    /// Whether and how it is answered from what is kept.
    pub cache: Option<Keeping>,
    /// How it is sent.
    pub sending: Option<Sending>,
    /// What becomes of its fields.
    pub fields: Option<Fields>,
    /// What the route does to need fewer calls.
    #[serde(default)]
    pub savers: Vec<Saver>,
    /// How it stands at this moment; only a running gateway knows.
    pub now: Option<Now>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is sent.
    #[default]
    Sent,
    /// It is sent, or answered from what is kept by then.
    SentOrKept,
    /// It is answered from what is kept now.
    Kept,
    /// It is refused.
    Refused,
}

/// What becomes of a call, in a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// In a word.
    pub outcome: Outcome,
    /// The status that a refusal has.
    pub status: Option<u16>,
    /// The problem's type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Why.
    pub why: String,
    /// What can be done about a refusal.
    pub mend: Option<String>,
}

/// The call, as it was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The method.
    pub method: String,
    /// The canonical path, which is matched and sent; `None` where there is none.
    pub path: Option<String>,
    /// The query, byte for byte.
    pub query: Option<String>,
    /// What of it is not as it was said.
    pub notes: Vec<String>,
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Its name.
    pub name: String,
    /// What tells it: `token`, `certificate`, `user`, `address`, `word` or `nothing`.
    pub told_by: String,
    /// The same in a sentence.
    pub why: String,
}

/// The route that takes the call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its name.
    pub name: String,
    /// Its path, as the config has it.
    pub path: String,
    /// Its methods; none for all.
    pub methods: Vec<String>,
    /// Why it is this one.
    pub why: String,
}

/// A route that does not take the call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// `method`, `less-specific`, `wildcard`, `lists-no-head`, `escaped-separator` or `path`.
    pub lost: String,
    /// The same in words.
    pub why: String,
}

/// An endpoint of the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its method and path.
    pub name: String,
    /// Of `list`, `stream`, `read`, `write`, `sensitive`, `never-kept`, `admin`, `organization-key` those
    /// that it is.
    pub kinds: Vec<String>,
}

/// A key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeySaid {
    /// Its name.
    pub name: String,
    /// `organization`, `personal` or `mcp`.
    pub kind: String,
    /// Whether Omni's endpoint takes keys of this kind; `None` where nobody knows.
    pub suits: Option<bool>,
    /// `ready`, `stale`, `rejected` or `missing`, now.
    pub state: Option<String>,
    /// How old its value is, in seconds.
    pub age_s: Option<f64>,
}

/// A budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Charged {
    /// Its name.
    pub name: String,
    /// Sends in a window.
    pub limit: u32,
    /// The window, in seconds.
    pub window_s: f64,
    /// `burst`, `smooth` or `strict`.
    pub profile: String,
    /// How many may go at once.
    pub at_once: u32,
    /// And then one each so many seconds; `None` where only the window decides.
    pub then_each_s: Option<f64>,
    /// How many are for interactive calls alone.
    pub reserve: u32,
    /// `organization` or `credential`.
    pub scope: String,
}

/// How urgent the call is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Urgency {
    /// `interactive`, `normal` or `batch`.
    pub value: String,
    /// Who says so: `call`, `route`, `caller`, or `default`.
    pub by: String,
    /// What was said, where the caller may not have that.
    pub instead_of: Option<String>,
}

/// How long the call waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Patience {
    /// In seconds.
    pub seconds: f64,
    /// Who says so: `call`, `route`, `caller` or `budget`.
    pub by: String,
}

/// For whom the call acts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActsFor {
    /// `deny`, `allow` or `pin`.
    pub rule: String,
    /// The one member that it may act for.
    pub member: Option<String>,
    /// In a sentence.
    pub why: String,
}

/// Whether the body is looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// `no`, `passed`, or `not-given`: it would be, and was not told.
    pub inspection: String,
    /// In a sentence.
    pub why: String,
    /// The most bytes that the route takes.
    pub max_bytes: Option<u64>,
}

/// Whether and how the call is answered from what is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Keeping {
    /// Whether it may be.
    pub applies: bool,
    /// Why not, or by whose rule.
    pub why: String,
    /// What `Cache-Status` says of the call: `hit`, or the reason of `fwd=`.
    pub status: String,
    /// How long an answer is fresh, in seconds, where the route says.
    pub ttl_s: Option<f64>,
    /// How much longer it is served in need, in seconds.
    pub stale_s: Option<f64>,
    /// Whether upstream says how long.
    pub respect_upstream: bool,
    /// What the answer is kept under.
    pub key: Option<KeptUnder>,
    /// What is kept now: `fresh`, `stale`, `nothing`, `unknown`; only a running gateway knows.
    pub now: Option<String>,
    /// How old that is, in seconds.
    pub age_s: Option<f64>,
    /// How long it stays fresh, in seconds.
    pub fresh_for_s: Option<f64>,
}

/// What an answer is kept under.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptUnder {
    /// The keys, each with the number of its value where that is known.
    pub credentials: Vec<(String, Option<u64>)>,
    /// The canonical path.
    pub path: String,
    /// The query, byte for byte.
    pub query: Option<String>,
    /// The member for whom it acts.
    pub member: Option<String>,
    /// What `Accept` says.
    pub accept: Option<String>,
    /// Other fields by which answers differ.
    pub vary: Vec<Varies>,
}

/// A field by which answers differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Varies {
    /// Its name.
    pub name: String,
    /// Whether the call has it.
    pub given: bool,
    /// Its value, where that is surely no secret.
    pub value: Option<String>,
}

/// How the call is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sending {
    /// Whether the answer comes bit by bit, over minutes.
    pub streaming: bool,
    /// Whether it is sent again where upstream fails (502, 503, 504, a reset, no answer).
    pub repeated: bool,
    /// Why, or why not.
    pub why: String,
    /// How long the answer's head may take, in seconds.
    pub timeout_s: Option<f64>,
}

/// What becomes of the call's fields. Names alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    /// Those of the call that go upstream.
    pub go: Vec<String>,
    /// Those that are put in, or put in the place of the call's own.
    pub added: Vec<String>,
    /// Those of the call that stay here.
    pub dropped: Vec<Dropped>,
}

/// A field that stays here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// What a route does to need fewer calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saver {
    /// The config's key for it.
    pub name: String,
    /// What it does with this call.
    pub why: String,
}

/// How it stands at this moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Now {
    /// How many calls would go first.
    pub position: usize,
    /// When its turn would be, in seconds.
    pub wait_s: f64,
    /// How many such calls would go at once.
    pub free: usize,
    /// Whether nobody sends: after a 429 of Omni's limit, or because somebody said so.
    pub paused: bool,
    /// Whether the gateway is about to end.
    pub draining: bool,
}

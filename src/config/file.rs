//! What a file may say: its keys, their types, and nothing else.
//!
//! Every key is an `Option` here, so that one mistake does not hide the next one; `required` marks
//! those that must stand in the file, and `x-add` is the line that the report tells to add. The
//! doc comments are the descriptions in the JSON schema.
//!
//! Nothing here is `Debug`: until it was looked at, any string may be a token in the wrong place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::at::{At, TextOr};
use crate::config::units::{Period, Size};

mod cache;
mod callers;
mod listen;
mod shared;
mod vault;

pub(super) use cache::{Cache, Kept};
pub(super) use callers::{Caller, Match, Rate};
pub(super) use listen::{Admin, Listener, Server, Tls};
pub(super) use shared::{Empty, Lost, Shared, Store};
pub(super) use vault::{Auth, Backend, Method, Provider, Secret, Vault};

type Named<T> = BTreeMap<At<String>, T>;

/// The configuration of omnigate.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Where the ledger is kept; by default the user's state folder.
    pub(super) state_dir: Option<At<PathBuf>>,
    /// Where callers connect, and how long they may dawdle.
    #[serde(default)]
    pub(super) server: Server,
    /// Listeners that need more than an address.
    #[serde(default)]
    pub(super) listeners: Vec<At<Listener>>,
    /// Where operators connect.
    #[serde(default)]
    pub(super) admin: Admin,
    /// Where requests go.
    #[schemars(required, extend("x-add" = "[upstream]\nbase_url = \"https://acme.omniapp.co\""))]
    pub(super) upstream: Option<Upstream>,
    /// Where secrets are kept.
    pub(super) vault: Option<At<Vault>>,
    /// The keys that calls are made with; each stands here by where its secret is.
    #[schemars(required, extend("x-add" = "[credentials.org]\nkind = \"organization\"\nsecret = \"OMNI_API_KEY\""))]
    pub(super) credentials: Option<Named<Credential>>,
    /// Who asks, and how much each may ask for.
    #[serde(default)]
    pub(super) callers: Named<Caller>,
    /// How many requests may be sent; without any, one named `omni` with Omni's 60 a minute.
    #[serde(default)]
    pub(super) budgets: Named<Budget>,
    /// What several instances share their budgets through; by default each has them for itself.
    pub(super) shared: Option<At<Shared>>,
    /// How much is kept, over all routes.
    #[serde(default)]
    pub(super) cache: Cache,
    /// Which calls are made, and with which key.
    #[schemars(required, extend("x-add" = "[[routes]]\nname = \"all\"\npath = \"/{*rest}\"\ncredential = \"org\""))]
    pub(super) routes: Option<Vec<At<Route>>>,
    /// What is said.
    #[serde(default)]
    pub(super) telemetry: Telemetry,
}

/// Where requests go.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    /// Scheme, host and port of Omni: the only place that ever receives a token.
    #[schemars(required, extend("x-add" = "base_url = \"https://acme.omniapp.co\""))]
    pub(super) base_url: Option<At<String>>,
    /// `system`, or a PEM file with the certificates to believe.
    pub(super) tls_roots: Option<At<String>>,
    /// Name look-up, TCP and TLS together.
    pub(super) connect_timeout: Option<At<Period>>,
    /// From the last request byte to the response head.
    pub(super) response_timeout: Option<At<Period>>,
    /// Between two body bytes.
    pub(super) idle_timeout: Option<At<Period>>,
    /// How much of a request body is kept, so that a call can be made again.
    pub(super) replay_limit: Option<At<Size>>,
    /// The same over all request bodies.
    pub(super) replay_total: Option<At<Size>>,
}

/// One key of Omni.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credential {
    /// What kind of key Omni knows it as.
    #[schemars(required, extend("x-add" = "kind = \"organization\""))]
    pub(super) kind: Option<At<Kind>>,
    /// Where the secret is, never the secret itself: a name in the default provider, or a table.
    #[schemars(required, extend("x-add" = "secret = \"NAME\""))]
    pub(super) secret: Option<At<TextOr<Secret>>>,
    /// The budget that its calls are charged to, or several; by default the only one.
    pub(super) budget: Option<At<TextOr<Vec<At<String>>>>>,
    /// What a start does when the secret is missing.
    pub(super) on_missing: Option<At<OnMissing>>,
}

/// What kind of key Omni knows it as.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// An organization API key.
    Organization,
    /// A personal access token.
    Personal,
    /// A token of the MCP OAuth flow.
    Mcp,
}

/// What a start does when a secret is missing.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnMissing {
    /// The start fails.
    Fail,
    /// The credential's routes answer 503 until it appears.
    Degrade,
}

/// How urgent calls are.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Priority {
    /// Somebody looks at a screen and waits.
    Interactive,
    /// A service that wants an answer soon.
    Normal,
    /// Whenever there is room.
    Batch,
}

/// How many requests may be sent in which window, and how they are spread over it.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    /// Sends per window.
    pub(super) limit: Option<At<u32>>,
    /// The length of the window.
    pub(super) window: Option<At<Period>>,
    /// How much longer than the window a send is counted.
    pub(super) guard: Option<At<Period>>,
    /// How sends are spread over the window.
    pub(super) profile: Option<At<Profile>>,
    /// How many may be sent at once after a quiet time.
    pub(super) burst: Option<At<u32>>,
    /// How many of them are for interactive calls alone.
    pub(super) reserve: Option<At<u32>>,
    /// What the limit is a limit of.
    pub(super) scope: Option<At<Scope>>,
    /// How many calls may wait.
    pub(super) max_queued: Option<At<u32>>,
    /// How long a call waits where neither itself nor its route nor its caller says.
    pub(super) max_wait: Option<At<Period>>,
    /// What the first start ever may assume.
    pub(super) cold_start: Option<At<ColdStart>>,
}

/// How sends are spread over the window.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Profile {
    /// The whole window may be spent at once.
    Burst,
    /// At pace, with bursts of `burst`.
    Smooth,
    /// One a window slower, for upstreams that count otherwise.
    Strict,
}

/// What a limit is a limit of.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    /// All credentials that are charged to the budget together.
    Organization,
    /// Each of them.
    Credential,
}

/// What the first start ever may assume.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ColdStart {
    /// Others may have used the budget up: begin at pace.
    Pace,
    /// The budget is free.
    Trust,
}

/// Which calls are made, and with which key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    /// The name it has in logs and metrics.
    #[schemars(required, extend("x-add" = "name = \"all\""))]
    pub(super) name: Option<At<String>>,
    /// Which paths it takes, such as `/api/v1/documents/{identifier}` or `/api/v1/{*rest}`.
    #[schemars(required, extend("x-add" = "path = \"/{*rest}\""))]
    pub(super) path: Option<At<String>>,
    /// Which methods it takes; by default all.
    pub(super) methods: Option<At<Vec<At<String>>>>,
    /// Whose key is attached, or a pool of which each call gets one.
    #[schemars(required, extend("x-add" = "credential = \"org\""))]
    pub(super) credential: Option<At<TextOr<Vec<At<String>>>>>,
    /// Which budget pays, or several, by default the credential's; `none` for paths outside Omni's
    /// limit.
    pub(super) budget: Option<At<TextOr<Vec<At<String>>>>>,
    /// How urgent its calls are where they do not say; by default as their caller is.
    pub(super) priority: Option<At<Priority>>,
    /// How long its calls wait for their turn; by default as long as the budget says.
    pub(super) max_wait: Option<At<Period>>,
    /// From the last request byte to the response head; by default as `upstream` says.
    pub(super) timeout: Option<At<Period>>,
    /// The most body bytes that a request may have; by default any number.
    pub(super) max_body: Option<At<Size>>,
    /// Request fields that go upstream besides the usual ones.
    #[serde(default)]
    pub(super) forward_headers: Vec<At<String>>,
    /// Whether its calls may act for other users than the key's: `deny`, `allow`, or for one alone.
    pub(super) impersonation: Option<At<TextOr<Pin>>>,
    /// Whether its wildcard takes in calls that manage keys, users and rights.
    pub(super) sensitive: Option<At<bool>>,
    /// The coding that is asked for in place of the caller's: `identity`.
    pub(super) accept_encoding: Option<At<Coding>>,
    /// How its answers are kept; by default they are not.
    pub(super) cache: Option<At<Kept>>,
    /// Whether upstream says how long they are fresh, by RFC 9111, in place of `ttl`.
    pub(super) respect_upstream: Option<At<bool>>,
    /// How many records a page of a list has whose caller does not say; by default Omni decides.
    pub(super) page_size: Option<At<u32>>,
    /// How long after one question about a job the next one is sent; by default at once.
    pub(super) min_interval: Option<At<Period>>,
}

/// How answers are coded on their way from upstream.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Coding {
    /// Not at all, so that a token in them is seen.
    Identity,
}

/// The one user for whom a route's calls act.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pin {
    /// The id of the user's membership.
    #[schemars(required, extend("x-add" = "pin = \"MEMBERSHIP_ID\""))]
    pub(super) pin: Option<At<String>>,
}

/// What is said.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Telemetry {
    /// A filter such as `info` or `omnigate::shape=debug,info`.
    pub(super) log: Option<At<String>>,
    /// The form of a log line.
    pub(super) format: Option<At<Format>>,
    /// Where spans go; by default nowhere, or where the `OTEL_` variables say.
    pub(super) otlp: Option<At<Otlp>>,
}

/// A collector that takes OpenTelemetry's protocol, by HTTP with protobuf.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Otlp {
    /// Such as `http://127.0.0.1:4318`; without a path, `/v1/traces` is meant.
    #[schemars(required, extend("x-add" = "endpoint = \"http://127.0.0.1:4318\""))]
    pub(super) endpoint: Option<At<String>>,
    /// The share of traces that are kept, from 0 to 1, where the caller does not say.
    pub(super) sample: Option<At<f64>>,
    /// How long the collector may take for one batch.
    pub(super) timeout: Option<At<Period>>,
    /// `system`, or a PEM file with the certificates to believe.
    pub(super) tls_roots: Option<At<String>>,
}

/// The form of a log line.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// `pretty` on a terminal, `json` elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

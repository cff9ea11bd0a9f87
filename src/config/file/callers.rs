//! `[callers.NAME]`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::at::{At, TextOr};
use crate::config::file::Priority;
use crate::config::units::Period;

/// Somebody who asks.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Caller {
    /// What it is told by; without, it says its name itself (`X-Omnigate-Caller`), on this machine.
    #[serde(rename = "match")]
    pub(in crate::config) matches: Option<At<Match>>,
    /// The priority of its calls where neither they nor their route say.
    pub(in crate::config) priority: Option<At<Priority>>,
    /// The most urgent that its calls can be.
    pub(in crate::config) max_priority: Option<At<Priority>>,
    /// How many of its calls may wait.
    pub(in crate::config) max_queued: Option<At<u32>>,
    /// How long its calls wait where neither they nor their route say.
    pub(in crate::config) max_wait: Option<At<Period>>,
    /// The routes that its calls may take; by default all.
    pub(in crate::config) routes: Option<At<Vec<At<String>>>>,
    /// How many calls it may make.
    pub(in crate::config) rate: Option<At<Rate>>,
}

/// What a caller is told by: one of these.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Match {
    /// The user at the other end of a unix socket.
    pub(in crate::config) uid: Option<At<u32>>,
    /// Where it connects from over TCP: a range such as `10.0.0.0/8`, or several.
    pub(in crate::config) cidr: Option<At<TextOr<Vec<At<String>>>>>,
    /// A DNS name or URI in the certificate that it shows, or several.
    pub(in crate::config) san: Option<At<TextOr<Vec<At<String>>>>>,
    /// The SHA-256 of the token that it shows, or several.
    pub(in crate::config) token_sha256: Option<At<TextOr<Vec<At<String>>>>>,
}

/// So many calls in any window of this length.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Rate {
    /// Calls per window.
    #[schemars(required, extend("x-add" = "limit = 30"))]
    pub(in crate::config) limit: Option<At<u32>>,
    /// The length of the window.
    pub(in crate::config) window: Option<At<Period>>,
}

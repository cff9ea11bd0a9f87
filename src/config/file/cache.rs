//! Answers that are kept.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::at::At;
use crate::config::units::{Period, Size};

/// How much is kept, over all routes.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Cache {
    /// The most memory that kept answers may take.
    pub(in crate::config) max_bytes: Option<At<Size>>,
    /// The most bytes that one body may have and be kept.
    pub(in crate::config) max_entry: Option<At<Size>>,
    /// A call that would wait longer than this for its turn is answered from what is stale.
    pub(in crate::config) stale_after_wait: Option<At<Period>>,
}

/// How the answers of a route are kept.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Kept {
    /// How long an answer is fresh.
    pub(in crate::config) ttl: Option<At<Period>>,
    /// How much longer it may be served when that is better than waiting or failing.
    pub(in crate::config) stale: Option<At<Period>>,
    /// Request fields besides `Accept` by which answers differ.
    pub(in crate::config) vary: Option<At<Vec<At<String>>>>,
    /// That all keys of a pool see the same.
    pub(in crate::config) same_data: Option<At<bool>>,
}

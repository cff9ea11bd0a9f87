//! `[shared]`: what several instances share their budgets through.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::at::{At, TextOr};
use crate::config::file::Secret;

/// What several instances share their budgets through.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Shared {
    /// What kind of store it is.
    pub(in crate::config) backend: Option<At<Store>>,
    /// Where it is, such as `rediss://redis.internal:6379/0`; never with a password.
    pub(in crate::config) url: Option<At<String>>,
    /// As whom to log in to it.
    pub(in crate::config) username: Option<At<String>>,
    /// Where the password is, never the password itself: a name in the default provider, or a table.
    pub(in crate::config) password: Option<At<TextOr<Secret>>>,
    /// `system`, or a PEM file with the certificates to believe.
    pub(in crate::config) tls_roots: Option<At<String>>,
    /// What is done while it is lost.
    pub(in crate::config) on_lost: Option<At<Lost>>,
    /// How many instances there are.
    pub(in crate::config) instances: Option<At<u32>>,
    /// What an empty store means.
    pub(in crate::config) cold_start: Option<At<Empty>>,
}

/// What budgets are shared through.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Store {
    /// They are not shared: each instance has them for itself.
    None,
    /// Redis or Valkey.
    Redis,
}

/// What is done while the store is lost.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Lost {
    /// Calls wait.
    Hold,
    /// Each instance sends its share, after a quiet window.
    Share,
    /// Each instance sends as if it were alone.
    Local,
}

/// What an empty store means.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Empty {
    /// It may have forgotten what was sent: nobody sends for a window.
    Wait,
    /// Nothing was sent before.
    Trust,
}

//! What the cache is told.

use std::time::Duration;

use http::HeaderName;

/// How much is kept, over all routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// The most bytes that are kept: bodies, fields and keys.
    pub max_bytes: u64,
    /// The most bytes that one body may have and be kept.
    pub max_entry: usize,
    /// A call that would wait longer than this for its turn is answered from what is stale.
    pub stale_after_wait: Duration,
}

/// How the answers of a route are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How long an answer is fresh.
    pub lifetime: Lifetime,
    /// How much longer it may be served when that is better than waiting or failing.
    pub stale: Duration,
    /// Request fields besides `Accept` by which answers differ.
    pub vary: Vec<HeaderName>,
}

/// Who says how long an answer is fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The route, whatever upstream says.
    Ours(Duration),
    /// Upstream, by RFC 9111.
    Upstream,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_entry: 4 << 20, stale_after_wait: Duration::from_secs(1) }
    }
}

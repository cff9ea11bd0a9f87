//! Where upstream is and how long it may take.

use std::time::Duration;

use crate::net::TlsRoots;
use crate::upstream::origin::Origin;

/// How to reach upstream, and when to give up on it.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// The only place that ever receives a token.
    pub origin: Origin,
    /// Which certificates are believed.
    pub roots: TlsRoots,
    /// Name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// From the last request byte to the response head.
    pub response_timeout: Duration,
    /// Between two body bytes, either way.
    pub idle_timeout: Duration,
}

//! Where operators connect, and what they show.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::caller::TokenDigest;

/// Where operators connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Loopback or a unix socket, unless there is a token.
    pub listen: Place,
    /// Serves `/livez`, `/readyz` and `/metrics` alone, for kubelets and Prometheus.
    pub probe_listen: Option<SocketAddr>,
    /// The token that operators show.
    pub token: Option<TokenDigest>,
}

/// Where operators connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix {
        /// Where it is made.
        path: PathBuf,
        /// Its file mode, such as `0o600`.
        mode: u32,
    },
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

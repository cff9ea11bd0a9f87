//! Who is at the other end of a connection, as the socket tells it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

/// The two ends of one downstream connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The caller's end.
    pub remote: Remote,
    /// Our own end, where it is an IP socket.
    pub local: Option<SocketAddr>,
    /// Whether TLS is spoken on it.
    pub secure: bool,
    /// The certificate with which the caller proved who it is, where it did.
    pub certificate: Option<Arc<Certificate>>,
    /// By which listener it came in.
    pub entrance: Arc<Entrance>,
}

/// What a certificate that was verified says about its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject alternative names: DNS names in lower case, and URIs, SPIFFE ids among them, as they
    /// stand there (RFC 5280 §4.2.1.6).
    pub names: Vec<String>,
}

/// What a listener asks of whoever comes in by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// Whether somebody whom no rule identifies may make calls.
    pub anonymous: bool,
    /// A field without which no request is taken.
    pub required: Option<(HeaderName, HeaderValue)>,
}

impl Default for Entrance {
    /// Open to everybody who reaches it.
    fn default() -> Self {
        Self { anonymous: true, required: None }
    }
}

/// The caller's end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A unix socket, with the peer's user id where the kernel tells it.
    Unix {
        /// `SO_PEERCRED`'s user id.
        uid: Option<u32>,
    },
    /// A pipe inside this process.
    Pipe,
}

impl Peer {
    /// A caller inside this process.
    pub fn pipe() -> Self {
        Self::plain(Remote::Pipe, None)
    }

    /// The two ends of a connection without TLS, by a listener that is open to everybody.
    pub fn plain(remote: Remote, local: Option<SocketAddr>) -> Self {
        let entrance = Arc::new(Entrance::default());
        Self { remote, local, secure: false, certificate: None, entrance }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{}", address.ip()),
            Self::Unix { uid: Some(uid) } => write!(f, "unix:{uid}"),
            Self::Unix { uid: None } => f.write_str("unix"),
            Self::Pipe => f.write_str("pipe"),
        }
    }
}

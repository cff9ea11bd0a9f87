//! Where callers connect, and how long they may dawdle.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Entrance;

/// The listeners and the limits of every downstream connection.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where to listen; at least one.
    pub listeners: Vec<Listener>,
    /// How many connections may be open at once, over all listeners; 0 counts as 1.
    pub max_connections: usize,
    /// How long a request head may take, counted from its first byte; for the first head of a
    /// connection, from the moment it was accepted.
    pub header_timeout: Duration,
    /// How long a connection may stay open between two requests.
    pub idle_timeout: Duration,
    /// How long the next byte of a request body may take, once it is asked for.
    pub body_timeout: Duration,
    /// How many bytes a second a request body must bring on average, of each 30 s that it was waited
    /// for; 0 for any number. The same is asked of a caller that takes an answer so slowly that
    /// writing has to wait, of each `write_timeout` of waiting, or 30 s where that is shorter.
    pub min_body_rate: u64,
    /// How long a caller may take none of an answer that is there for it. Over h2 it is also the time
    /// for each 16 KiB that one stream is to take.
    pub write_timeout: Duration,
    /// How many bytes a request head may have; less than 8192 counts as 8192.
    pub max_header_bytes: usize,
    /// How many h2 streams one connection may have open.
    pub max_streams: u32,
    /// How long calls that are under way may take when the process is asked to end.
    pub drain_timeout: Duration,
}

impl ServerSettings {
    /// Listens at these places, with the limits that hold where nothing else is said.
    pub fn new(listeners: Vec<Listen>) -> Self {
        Self {
            listeners: listeners.into_iter().map(Listener::from).collect(),
            max_connections: 10_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(15),
            min_body_rate: 100,
            write_timeout: Duration::from_secs(30),
            max_header_bytes: 64 * 1024,
            max_streams: 250,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// One listener, and how one comes in by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub listen: Listen,
    /// What it asks of callers.
    pub entrance: Arc<Entrance>,
    /// With which certificate, where it speaks TLS.
    pub tls: Option<TlsSettings>,
}

impl From<Listen> for Listener {
    /// A plain listener that is open to everybody who reaches it.
    fn from(listen: Listen) -> Self {
        Self { listen, entrance: Arc::default(), tls: None }
    }
}

/// The files of a listener that speaks TLS; each is read again while it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The PEM file of the certificate and those that lead from it to a root.
    pub cert: PathBuf,
    /// The PEM file of its private key. Who else may read it is not checked; its mode should be 0600.
    pub key: PathBuf,
    /// The PEM file of the authorities that vouch for callers; `None` where no certificate of theirs is
    /// asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether a caller without a certificate comes in too.
    pub client_optional: bool,
}

/// One place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; port 0 asks the kernel for a free one.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix {
        /// Where it is made; a socket left over by a dead process is replaced.
        path: PathBuf,
        /// Its file mode, such as `0o660`.
        mode: u32,
    },
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

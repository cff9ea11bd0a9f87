//! Who is at the other end of a connection, as the socket tells it.

use std::fmt;
use std::net::SocketAddr;

/// The two ends of one downstream connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The caller's end.
    pub remote: Remote,
    /// Our own end, where it is an IP socket.
    pub local: Option<SocketAddr>,
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
        Self { remote: Remote::Pipe, local: None }
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

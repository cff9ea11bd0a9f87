//! Where callers connect, and how long they may dawdle.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The listeners and the limits of every downstream connection.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where to listen; at least one.
    pub listeners: Vec<Listen>,
    /// How many connections may be open at once, over all listeners; 0 counts as 1.
    pub max_connections: usize,
    /// How long a request head may take, counted from its first byte; for the first head of a
    /// connection, from the moment it was accepted.
    pub header_timeout: Duration,
    /// How long a connection may stay open between two requests.
    pub idle_timeout: Duration,
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
            listeners,
            max_connections: 10_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            max_header_bytes: 64 * 1024,
            max_streams: 250,
            drain_timeout: Duration::from_secs(30),
        }
    }
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

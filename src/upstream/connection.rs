//! Connections to upstream: opening, keeping and lending them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::base::Body;
use crate::net::Dial;
use crate::upstream::gate::{Gate, Gated};

/// How long an idle connection is kept. Shorter than common servers do, so that it is seldom
/// upstream who closes it under a request.
const KEEP: Duration = Duration::from_secs(15);

/// How many idle connections are kept.
const MOST: usize = 64;

/// How long a kept connection may take to say that it is ready again.
const SETTLE: Duration = Duration::from_millis(100);

/// How many bytes of an answer one connection reads ahead of its caller, and how large its head may be.
/// hyper's own 408 KiB each would let callers who do not read hold as much for each call, and several
/// such pieces are on their way to a caller at a time: of 64 KiB, 262 KiB for each in all.
const READ_BUFFER: usize = 24 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Name look-up, TCP or TLS failed.
    #[error("cannot connect: {0}")]
    Io(#[from] std::io::Error),
    /// The connection does not speak HTTP.
    #[error("cannot speak HTTP: {0}")]
    Handshake(#[from] hyper::Error),
    /// It took longer than `connect_timeout`.
    #[error("no connection within {} s", .after.as_secs_f64())]
    Timeout {
        /// The limit.
        after: Duration,
    },
}

/// Opens connections and keeps idle ones, the last used first.
#[derive(Debug)]
pub(crate) struct Pool {
    dial: Dial,
    connect_timeout: Duration,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

/// One open connection on which nothing is under way. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    pub(crate) sender: SendRequest<Body>,
    pub(crate) gate: Gate,
    task: AbortHandle,
}

impl Connection {
    /// Whether upstream has closed it meanwhile.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The task ends when it is next polled; leave that was not used goes back now.
        self.gate.shut();
        // A caller who left must not leave a response running.
        self.task.abort();
    }
}

impl Pool {
    pub(crate) fn new(dial: Dial, connect_timeout: Duration) -> Self {
        Self { dial, connect_timeout, idle: Mutex::default() }
    }

    /// Lends an idle connection, or opens one.
    ///
    /// Cancel-safe: dropping the future closes what it was opening.
    pub(crate) async fn check_out(&self) -> Result<Connection, ConnectError> {
        while let Some(mut idle) = self.pop() {
            let ready = timeout(SETTLE, idle.connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                return Ok(idle.connection);
            }
        }
        match timeout(self.connect_timeout, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(ConnectError::Timeout { after: self.connect_timeout }),
        }
    }

    /// Takes a connection back whose exchange is over in both directions.
    pub(crate) fn check_in(&self, connection: Connection) {
        connection.gate.shut();
        let now = Instant::now();
        let mut idle = self.lock();
        idle.retain(|idle| !idle.connection.is_closed() && now < idle.since + KEEP);
        if !connection.is_closed() && idle.len() < MOST {
            idle.push(Idle { connection, since: now });
        }
    }

    async fn open(&self) -> Result<Connection, ConnectError> {
        let stream = self.dial.connect().await?;
        let gate = Gate::default();
        let io = TokioIo::new(Gated { stream, gate: gate.clone() });
        let (sender, connection) =
            http1::Builder::new().max_buf_size(READ_BUFFER).handshake(io).await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Connection { sender, gate, task: task.abort_handle() })
    }

    fn pop(&self) -> Option<Idle> {
        let now = Instant::now();
        let mut idle = self.lock();
        while let Some(last) = idle.pop() {
            if !last.connection.is_closed() && now < last.since + KEEP {
                return Some(last);
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is in use by one exchange and comes back when that is over.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) connection: Connection,
    pub(crate) pool: Arc<Pool>,
}

impl Lease {
    pub(crate) fn end(self) {
        self.pool.check_in(self.connection);
    }
}

//! The way to the gateway: connections, one for each call that is under way.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::uri::Authority;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::base::Body;
use crate::cli::exec::gateway::Keeper;
use crate::net::Dial;

/// How long an idle connection is kept. Well below the gateway's `idle_timeout`, so that it does not
/// close one under a call.
const KEEP: Duration = Duration::from_secs(15);
/// How long a kept connection may take to say that it is ready again.
const SETTLE: Duration = Duration::from_millis(100);
/// How many idle connections are kept.
const MOST: usize = 64;
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// Where calls go.
#[derive(Debug)]
pub(super) struct Road {
    dial: Dial,
    /// Who must be there, each time.
    keeper: Keeper,
    /// What calls name as their `Host`, where it is not what the program said.
    pub(super) host: Option<Authority>,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    line: Line,
    since: Instant,
}

/// One connection. Dropping it closes it, whatever is under way there.
#[derive(Debug)]
pub(super) struct Line {
    sender: SendRequest<Body>,
    task: AbortHandle,
}

/// Why the gateway did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error("no connection within {} s", CONNECT.as_secs())]
    Slow,
    #[error("the connection was lost: {0}")]
    Cut(#[from] hyper::Error),
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Road {
    pub(super) fn new(dial: Dial, keeper: Keeper, host: Option<Authority>) -> Arc<Self> {
        Arc::new(Self { dial, keeper, host, idle: Mutex::default() })
    }

    /// Sends a call, and waits for the head of its answer for as long as that takes. It is sent once: again
    /// only where the kept connection was dead before a byte of it was written.
    ///
    /// Cancel-safe: dropping the future closes the connection.
    pub(super) async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, Line), Lost> {
        while let Some(mut line) = self.kept() {
            if !matches!(timeout(SETTLE, line.sender.ready()).await, Ok(Ok(()))) {
                continue;
            }
            match line.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, line)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let mut line = timeout(CONNECT, self.open()).await.map_err(|_| Lost::Slow)??;
        let response = line.sender.send_request(request).await?;
        Ok((response, line))
    }

    /// Takes a connection back whose answer was read to its end.
    pub(super) fn keep(&self, line: Line) {
        let now = Instant::now();
        let mut idle = self.idle();
        idle.retain(|one| now - one.since < KEEP);
        if idle.len() < MOST && !line.sender.is_closed() {
            idle.push(Idle { line, since: now });
        }
    }

    fn kept(&self) -> Option<Line> {
        let Idle { line, since } = self.idle().pop()?;
        (since.elapsed() < KEEP).then_some(line)
    }

    async fn open(&self) -> Result<Line, Lost> {
        let stream = self.dial.connect().await?;
        self.keeper.check(&stream)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // How it ends is told to whoever waits for an answer on it.
        let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Line { sender, task })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! ROOM: one attempt at upstream.
//!
//! The order of an attempt is the design's S14: [`Upstream::check_out`] a connection, take the
//! permit, then [`Upstream::send`] hands the head to that connection, which charges the permit in
//! the moment the bytes reach the socket. A connection writes nothing without such leave.

mod connection;
mod download;
mod gate;
mod origin;
mod progress;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::time::{Instant, sleep_until};

use crate::base::{Body, BoxError};
use crate::net::{Dial, RootsError};
use crate::upstream::connection::{Lease, Pool};
use crate::upstream::download::Download;
use crate::upstream::progress::Progress;

pub use connection::{ConnectError, Connection};
pub use download::Stalled;
pub use gate::Leave;
pub use origin::{Origin, OriginError};
pub use settings::UpstreamSettings;

/// How often a caller who uploads is looked at again while upstream waits for it.
const LOOK: Duration = Duration::from_secs(1);

/// Upstream, with its pool of connections.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    pool: Arc<Pool>,
}

/// Why an attempt brought no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The head was never handed to the socket: upstream knows nothing of it, and nothing was
    /// charged.
    #[error("the connection was not ready to send")]
    NotBegun,
    /// The connection broke after the head was begun.
    #[error("the connection broke: {0}")]
    Broken(#[source] hyper::Error),
    /// The request body broke off on the caller's side; its own error. Charged where the head
    /// had been handed over before.
    #[error("the request body broke off: {0}")]
    Upload(BoxError),
    /// No response head in time.
    #[error("no answer after {} s", .after.as_secs_f64())]
    Timeout {
        /// Since the head was sent.
        after: Duration,
    },
    /// Upstream changed the protocol without being asked.
    #[error("upstream switched protocols unasked")]
    Switched,
}

impl Upstream {
    /// Makes ready to connect as `settings` say; nothing is opened yet.
    ///
    /// # Errors
    /// [`RootsError`], when TLS cannot be spoken as configured.
    pub fn new(settings: UpstreamSettings) -> Result<Self, RootsError> {
        let (host, port) = (settings.origin.host(), settings.origin.port());
        let dial = if settings.origin.is_https() {
            Dial::tls(host, port, &settings.roots)?
        } else {
            Dial::tcp(host, port)
        };
        Ok(Self::over(dial, settings))
    }

    /// The same, over a way to connect that the caller brings.
    pub fn over(dial: Dial, settings: UpstreamSettings) -> Self {
        let pool = Arc::new(Pool::new(dial, settings.connect_timeout));
        Self { settings, pool }
    }

    /// Where requests go.
    pub fn origin(&self) -> &Origin {
        &self.settings.origin
    }

    /// Lends an idle connection, or opens one within `connect_timeout`.
    ///
    /// Cancel-safe: dropping the future closes what it was opening.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn check_out(&self) -> Result<Connection, ConnectError> {
        self.pool.check_out().await
    }

    /// Sends one request on `connection` and waits for the response head; the body streams.
    /// The request's URI is in origin form, and its `Host` field stands already.
    ///
    /// Dropping the future closes the connection, so that upstream learns that the caller left.
    ///
    /// # Errors
    /// [`SendError`]; whether the request reached upstream is told apart by its variants.
    pub async fn send(
        &self,
        mut connection: Connection,
        request: Request<Body>,
        leave: Leave,
        response_timeout: Option<Duration>,
    ) -> Result<Response<Body>, SendError> {
        let response_timeout = response_timeout.unwrap_or(self.settings.response_timeout);
        let idle_timeout = self.settings.idle_timeout;
        let started = Instant::now();
        let expires = leave.expires();
        let gate = connection.gate.clone();
        let (head, body) = request.into_parts();
        let (upload, body) = Progress::watch(body, gate.clone());
        gate.arm(leave);
        let mut response =
            std::pin::pin!(connection.sender.try_send_request(Request::from_parts(head, body)));
        let late = || upload.deadline(response_timeout, idle_timeout);
        let look = |now: Instant| match late() {
            Some(at) if upload.is_finished() => at,
            // The last byte of the body changes what is late.
            at => at.map_or(now + LOOK, |at| at.min(now + LOOK)),
        };
        let mut alarm = std::pin::pin!(sleep_until(expires.unwrap_or_else(|| look(started))));
        let response = loop {
            tokio::select! {
                biased;
                response = &mut response => break response,
                () = &mut alarm => {
                    let now = Instant::now();
                    if expires.is_some_and(|expires| now >= expires) && !gate.revoke() {
                        return Err(SendError::NotBegun);
                    }
                    if late().is_some_and(|at| at <= now) {
                        return Err(SendError::Timeout { after: started.elapsed() });
                    }
                    alarm.as_mut().reset(look(now));
                }
            }
        };
        let begun = gate.revoke();
        match response {
            // It answers something else: upstream cannot know of a request that was not written.
            Ok(_) if !begun => Err(SendError::NotBegun),
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Err(SendError::Switched)
            }
            Ok(response) => {
                let lease = Lease { connection, pool: self.pool.clone() };
                Ok(response.map(|body| Download::wrap(body, lease, upload, idle_timeout)))
            }
            Err(error) => Err(match upload.failure() {
                Some(cause) => SendError::Upload(cause),
                None if begun => SendError::Broken(error.into_error()),
                None => SendError::NotBegun,
            }),
        }
    }
}

#[cfg(test)]
mod tests;

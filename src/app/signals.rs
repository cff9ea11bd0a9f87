//! What an operator tells the process by signals, and what it then reads again.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::StartError;
use crate::credential::Credentials;
use crate::server::Certificates;

/// The signals that a gateway listens to. Made before its ports are open, so that none of them
/// finds the process unprepared.
#[derive(Debug)]
pub struct Signals {
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
    pub(super) hangup: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// [`StartError::Signals`].
    pub fn listen() -> Result<Self, StartError> {
        let listen = |kind| signal(kind).map_err(StartError::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

/// What is read again when an operator says so.
#[derive(Clone)]
pub(super) struct Reread {
    pub(super) credentials: Arc<Credentials>,
    pub(super) certificates: Vec<Arc<Certificates>>,
}

impl Reread {
    /// Reads all of it at the same time: a vault that hangs keeps no certificate waiting.
    pub(super) async fn now(self) {
        // What is no good was said by each of them, and the old one is kept.
        let certificates = join_all(self.certificates.iter().map(Certificates::reload));
        tokio::join!(self.credentials.refresh(), certificates);
    }
}

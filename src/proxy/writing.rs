//! A write, and what it leaves stale.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::cache::{Cache, Write};

/// How long upstream may still be at a write that it has not answered well.
const LATE: Duration = Duration::from_secs(60);

/// Makes kept answers stale when a write's exchange ends, however it ends.
///
/// Before the write's answer goes out, so that who has seen it reads what was written. Once more at
/// the end of an answer that streams, or that breaks off: upstream may have gone on working after
/// its response head.
#[derive(Debug)]
pub(crate) struct Writing {
    cache: Arc<Cache>,
    write: Write,
    stage: Stage,
    streams: bool,
    /// An attempt ended so that nobody knows whether it was done.
    doubtful: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Upstream knows nothing of it.
    Unsent,
    /// Its head was sent: it may have been done.
    Sent,
    /// Its answer goes out.
    Answered,
    /// There is nothing (more) to say.
    Over,
}

impl Writing {
    pub(crate) fn new(cache: Arc<Cache>, write: Write, streams: bool) -> Self {
        Self { cache, write, stage: Stage::Unsent, streams, doubtful: false }
    }

    /// Its head is about to be sent.
    pub(crate) fn begins(&mut self) {
        self.stage = Stage::Sent;
    }

    /// An attempt has ended; `None` when upstream did not answer.
    pub(crate) fn attempted(&mut self, status: Option<StatusCode>) {
        self.doubtful |= !status.is_some_and(is_definite);
    }

    /// Upstream's answer is the call's, and is about to go out.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        // What the last attempt was refused may be what an earlier one did: a DELETE that is
        // repeated finds nothing.
        if is_definite(status) && !self.doubtful {
            self.stage = Stage::Over;
            return;
        }
        self.cache.generations().apply(&self.write);
        if status.is_server_error() {
            self.apply_late();
        }
        self.stage = Stage::Answered;
    }

    /// The whole answer was read.
    pub(crate) fn complete(&mut self) {
        if self.stage == Stage::Answered && !self.streams {
            self.stage = Stage::Over;
        }
    }

    /// Once more after a while, in a task of its own: upstream may be at it still.
    fn apply_late(&self) {
        let (cache, write) = (self.cache.clone(), self.write);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                sleep(LATE).await;
                cache.generations().apply(&write);
            });
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        match self.stage {
            Stage::Unsent | Stage::Over => {}
            Stage::Answered => self.cache.generations().apply(&self.write),
            Stage::Sent => {
                self.cache.generations().apply(&self.write);
                self.apply_late();
            }
        }
    }
}

/// Whether a status says that nothing was done. A timeout of upstream's own does not.
fn is_definite(status: StatusCode) -> bool {
    status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT
}

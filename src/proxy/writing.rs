//! A write, and what it leaves stale.

use std::sync::Arc;

use http::StatusCode;

use crate::cache::{Cache, Write};

/// Makes kept answers stale when a write's exchange ends, however it ends.
///
/// Before the write's answer goes out, so that who has seen it reads what was written. Once more at
/// the end of an answer that streams, or that breaks off: upstream may have gone on working after its
/// response head.
#[derive(Debug)]
pub(crate) struct Writing {
    cache: Arc<Cache>,
    write: Write,
    stage: Stage,
    streams: bool,
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
        Self { cache, write, stage: Stage::Unsent, streams }
    }

    /// Its head is about to be sent.
    pub(crate) fn begins(&mut self) {
        self.stage = Stage::Sent;
    }

    /// Upstream answered.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        // A timeout of upstream's own says nothing of what was done.
        let definite = status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT;
        if definite {
            self.stage = Stage::Over;
            return;
        }
        self.cache.generations().apply(&self.write);
        self.stage = Stage::Answered;
    }

    /// The whole answer was read.
    pub(crate) fn complete(&mut self) {
        if self.stage == Stage::Answered && !self.streams {
            self.stage = Stage::Over;
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Sent | Stage::Answered) {
            self.cache.generations().apply(&self.write);
        }
    }
}

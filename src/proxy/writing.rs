//! A write, and what it leaves stale.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::StatusCode;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::cache::{Cache, Write};
use crate::proxy::others::{Others, Touched};

/// How long upstream may still be at a write that it has not answered well.
const LATE: Duration = Duration::from_secs(60);

/// Makes kept answers stale when a write's exchange ends, however it ends; here and in the other
/// gateways.
///
/// Before the write's answer goes out, so that who has seen it reads what was written, wherever it
/// asks next. Once more at the end of an answer that streams, or that breaks off: upstream may have
/// gone on working after its response head.
#[derive(Debug)]
pub(crate) struct Writing {
    leaves: Leaves,
    stage: Stage,
    streams: bool,
    /// An attempt ended so that nobody knows whether it was done.
    doubtful: bool,
}

/// What a write leaves stale, and where.
#[derive(Clone, Debug)]
pub(crate) struct Leaves {
    pub(crate) cache: Arc<Cache>,
    pub(crate) others: Arc<dyn Others>,
    pub(crate) write: Write,
    /// The same write in the others' words.
    pub(crate) touched: Touched,
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
    pub(crate) fn new(leaves: Leaves, streams: bool) -> Self {
        Self { leaves, stage: Stage::Unsent, streams, doubtful: false }
    }

    /// Its head is about to be sent.
    pub(crate) fn begins(&mut self) {
        self.stage = Stage::Sent;
    }

    /// An attempt has ended; `None` when upstream did not answer.
    pub(crate) fn attempted(&mut self, status: Option<StatusCode>) {
        self.doubtful |= !status.is_some_and(is_definite);
    }

    /// Upstream's answer is the call's, and goes out when this is done.
    ///
    /// Cancel-safe: what is stale is so before the first wait.
    pub(crate) async fn answered(&mut self, status: StatusCode) {
        // What the last attempt was refused may be what an earlier one did: a DELETE that is
        // repeated finds nothing.
        if is_definite(status) && !self.doubtful {
            self.stage = Stage::Over;
            return;
        }
        self.stage = Stage::Answered;
        let heard = self.leaves.stale();
        if status.is_server_error() {
            self.leaves.stale_late();
        }
        heard.await;
    }

    /// There is no answer of upstream's, and the caller is told so when this is done.
    ///
    /// Cancel-safe: what is stale is so before the first wait.
    pub(crate) async fn failed(mut self) {
        if let Some(heard) = self.ends() {
            heard.await;
        }
    }

    /// The whole answer was read.
    pub(crate) fn complete(&mut self) {
        if self.stage == Stage::Answered && !self.streams {
            self.stage = Stage::Over;
        }
    }

    /// Leaves stale what is left to be, and gives what ends once all have heard it.
    fn ends(&mut self) -> Option<BoxFuture<'static, ()>> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let heard = match stage {
            Stage::Unsent | Stage::Over => return None,
            Stage::Answered | Stage::Sent => self.leaves.stale(),
        };
        if stage == Stage::Sent {
            self.leaves.stale_late();
        }
        Some(heard)
    }
}

/// Nobody waits for it any more; the others are told all the same, in a task of its own.
impl Drop for Writing {
    fn drop(&mut self) {
        if let Some((heard, runtime)) = self.ends().zip(Handle::try_current().ok()) {
            runtime.spawn(heard);
        }
    }
}

impl Leaves {
    /// Leaves it stale here, and tells the others; what it gives ends once they have heard.
    fn stale(&self) -> BoxFuture<'static, ()> {
        self.cache.generations().apply(&self.write);
        self.others.tell(&self.touched)
    }

    /// Once more after a while, in a task of its own: upstream may be at it still.
    fn stale_late(&self) {
        let (cache, write, touched) = (self.cache.clone(), self.write, self.touched.clone());
        // They lead to the budgets, and whoever holds those keeps the state folder.
        let others = Arc::downgrade(&self.others);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                sleep(LATE).await;
                cache.generations().apply(&write);
                let heard = others.upgrade().map(|others| others.tell(&touched));
                if let Some(heard) = heard {
                    heard.await;
                }
            });
        }
    }
}

/// Whether a status says that nothing was done. A timeout of upstream's own does not.
fn is_definite(status: StatusCode) -> bool {
    status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT
}

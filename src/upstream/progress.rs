//! How far a request body has come, so that the right side is called slow.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use crate::base::{Body, BoxError};
use crate::upstream::gate::Gate;

/// Shared by the body on its way up and whoever waits for the response.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<Mutex<Upload>>);

#[derive(Debug)]
struct Upload {
    stage: Stage,
    /// The body itself, until nobody asks for more of it.
    body: Option<Body>,
}

#[derive(Debug)]
enum Stage {
    /// The next bytes are the caller's to send; upstream cannot be late.
    Caller,
    /// Bytes were handed to the connection at this time and no more were asked for since.
    Offered(Instant),
    /// The last byte was handed over at this time.
    Finished(Instant),
    /// The body ended in an error; it is kept until somebody asks.
    Failed(Option<BoxError>),
}

impl Progress {
    /// Wraps `body`, so that its progress can be seen, and `gate` knows what is owed. Trailers are
    /// dropped.
    pub(crate) fn watch(body: Body, gate: Gate) -> (Self, Body) {
        let now = Instant::now();
        if body.is_end_stream() {
            return (Self::at(Stage::Finished(now), None), body);
        }
        let progress = Self::at(Stage::Offered(now), Some(body));
        let watched = Watched { progress: progress.clone(), gate };
        (progress, Body::boxed(watched))
    }

    /// When upstream is too slow, if nothing moves until then.
    pub(crate) fn deadline(&self, response: Duration, idle: Duration) -> Option<Instant> {
        match self.lock().stage {
            Stage::Caller | Stage::Failed(_) => None,
            Stage::Offered(at) => Some(at + idle),
            Stage::Finished(at) => Some(at + response),
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.lock().stage, Stage::Finished(_))
    }

    /// What the body failed with, once.
    pub(crate) fn failure(&self) -> Option<BoxError> {
        match &mut self.lock().stage {
            Stage::Failed(error) => error.take(),
            Stage::Caller | Stage::Offered(_) | Stage::Finished(_) => None,
        }
    }

    fn at(stage: Stage, body: Option<Body>) -> Self {
        Self(Arc::new(Mutex::new(Upload { stage, body })))
    }

    fn lock(&self) -> MutexGuard<'_, Upload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the connection that the body is no good; the cause is kept for whoever sent it.
#[derive(Debug, thiserror::Error)]
#[error("the request body broke off")]
struct Broken;

struct Watched {
    progress: Progress,
    gate: Gate,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut upload = self.progress.lock();
        let Upload { stage, body: Some(body) } = &mut *upload else { return Poll::Ready(None) };
        let polled = loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {}
                polled => break polled,
            }
        };
        let now = Instant::now();
        let (next, polled) = match polled {
            Poll::Ready(Some(Ok(frame))) if body.is_end_stream() => {
                (Stage::Finished(now), Poll::Ready(Some(Ok(frame))))
            }
            Poll::Ready(Some(Ok(frame))) => (Stage::Offered(now), Poll::Ready(Some(Ok(frame)))),
            Poll::Ready(Some(Err(error))) => {
                (Stage::Failed(Some(error)), Poll::Ready(Some(Err(Broken.into()))))
            }
            Poll::Ready(None) => (Stage::Finished(now), Poll::Ready(None)),
            Poll::Pending => (Stage::Caller, Poll::Pending),
        };
        if polled.is_ready() {
            // Before it is finished, so that nobody finds it finished and nothing owed.
            self.gate.owes();
        }
        *stage = next;
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.progress.lock().body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.progress
            .lock()
            .body
            .as_ref()
            .map_or(SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut upload = self.progress.lock();
        upload.body = None;
        // hyper asks for no more than the declared length; h2 may tell the end after it.
        if matches!(upload.stage, Stage::Offered(_)) {
            upload.stage = Stage::Finished(Instant::now());
        }
    }
}

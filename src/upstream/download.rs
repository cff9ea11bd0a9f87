//! A response body on its way down, and the connection that it comes from.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use crate::base::{Body, BoxError};
use crate::upstream::connection::Lease;
use crate::upstream::progress::Progress;

/// Upstream sent nothing for longer than `idle_timeout` in the middle of a body.
#[derive(Debug, thiserror::Error)]
#[error("upstream sent nothing for {} s in the middle of a body", .after.as_secs_f64())]
pub struct Stalled {
    after: Duration,
}

/// Gives the connection back at the body's end, and closes it when dropped before.
pub(crate) struct Download {
    body: Incoming,
    lease: Option<Lease>,
    upload: Progress,
    idle_timeout: Duration,
    /// Runs only while we wait for upstream.
    idle: Option<Pin<Box<Sleep>>>,
}

impl Download {
    pub(crate) fn wrap(
        body: Incoming,
        lease: Lease,
        upload: Progress,
        idle_timeout: Duration,
    ) -> Body {
        let mut download = Self { body, lease: Some(lease), upload, idle_timeout, idle: None };
        if download.body.is_end_stream() {
            download.end();
            return Body::empty();
        }
        Body::boxed(download)
    }

    fn end(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        // A request body that is still under way would run into the next request.
        if self.upload.is_finished() && lease.connection.gate.is_flushed() {
            lease.end();
        }
    }

    /// Cancels the wait's timer, or rings it.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let timeout = self.idle_timeout;
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(timeout)));
        idle.as_mut().poll(cx).map(|()| Stalled { after: timeout }.into())
    }

    fn rest(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.as_mut().reset(Instant::now() + self.idle_timeout);
        }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return self.poll_stalled(cx).map(|stalled| Some(Err(stalled))),
                Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {}
                Poll::Ready(Some(Ok(frame))) => {
                    self.rest();
                    if self.body.is_end_stream() {
                        self.end();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => {
                    self.end();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

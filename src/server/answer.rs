//! What the server asks for each request, and the rim around it.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tracing::error;

use crate::base::{Body, BoxError, Peer};
use crate::server::activity::{Activity, Exchange};

/// From a request to its answer; every `Fn(Request<Body>, Peer)` with the right future is one.
///
/// The future is dropped, wherever it waits, as soon as the caller has left.
pub trait Answer: Clone + Send + Sync + 'static {
    /// Answers one request.
    fn answer(
        &self,
        request: Request<Body>,
        peer: Peer,
    ) -> impl Future<Output = Response<Body>> + Send + 'static;
}

impl<A, F> Answer for A
where
    A: Fn(Request<Body>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    fn answer(
        &self,
        request: Request<Body>,
        peer: Peer,
    ) -> impl Future<Output = Response<Body>> + Send + 'static {
        self(request, peer)
    }
}

/// Answers one request of a connection. A panic becomes a bare 500 and stays inside.
pub(super) fn at_the_rim<A: Answer>(
    answer: &A,
    peer: &Peer,
    activity: &Arc<Activity>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Answered>, Infallible>> + Send + 'static + use<A> {
    let exchange = Activity::begin(activity, request.version());
    let (answer, peer) = (answer.clone(), peer.clone());
    async move {
        let asked = async move { answer.answer(request.map(Body::from), peer).await };
        let response = AssertUnwindSafe(asked).catch_unwind().await.unwrap_or_else(|_| {
            // The panic's own text may hold what a caller sent; the panic hook has it.
            error!("answering a request panicked");
            bare_500()
        });
        Ok(response.map(|body| Answered { body, _exchange: exchange }))
    }
}

fn bare_500() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    // What was read of the request body is unknown, so the connection is not used again.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A response body; the exchange lasts until it is dropped.
pub(super) struct Answered {
    body: Body,
    _exchange: Exchange,
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

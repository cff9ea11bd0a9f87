//! What the server asks for each request, and the rim around it.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tracing::error;

use crate::base::{Body, BoxError, Peer};
use crate::server::activity::{Activity, Exchange};
use crate::server::stall::{Taking, piece};
use crate::server::upload::Patience;

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
    patience: Patience,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Answered>, Infallible>> + Send + 'static + use<A> {
    let exchange = Activity::begin(activity, request.version());
    let body = move |body| patience.watch(Body::from(body));
    let (answer, peer) = (answer.clone(), peer.clone());
    async move {
        let asked = async move { answer.answer(request.map(body), peer).await };
        let response = AssertUnwindSafe(asked).catch_unwind().await.unwrap_or_else(|_| {
            // The panic's own text may hold what a caller sent; the panic hook has it.
            error!("answering a request panicked");
            bare_500()
        });
        Ok(response.map(|body| Answered::new(body, exchange)))
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
    /// Over h2, what is left of a chunk that is handed out in pieces.
    rest: Bytes,
    taking: Option<Arc<Taking>>,
    _exchange: Exchange,
}

impl Answered {
    fn new(body: Body, exchange: Exchange) -> Self {
        let taking = Taking::of_this_stream().filter(|_| !body.is_end_stream());
        // From now on the caller is waited for, until the body is asked for.
        if let Some(taking) = &taking {
            taking.offer();
        }
        Self { body, rest: Bytes::new(), taking, _exchange: exchange }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(chunk) => self.rest = chunk,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(piece(&mut self.rest)))))
    }
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(taking) = self.taking.clone() else {
            return Pin::new(&mut self.body).poll_frame(cx);
        };
        taking.taken();
        let polled = self.poll_piece(cx);
        if matches!(&polled, Poll::Ready(Some(Ok(_)))) {
            taking.offer();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked for before the first piece is handed out, and of no interest to hyper after that.
        if self.rest.is_empty() { self.body.size_hint() } else { SizeHint::default() }
    }
}

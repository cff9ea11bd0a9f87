//! The record of one exchange: gathered on the way, written when the body ends or is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;
use tracing::info;

use crate::base::{Body, BoxError, CallerId, CredentialId, Peer, RequestId};
use crate::proxy::Wait;
use crate::proxy::plan::PlannedRoute;
use crate::telemetry::{ExchangeFacts, Metrics, Retry};

/// The caller's own id for a request, or ours.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What the log and the metrics call a caller who left before it was answered.
const LEFT: u16 = 499;

/// The record of one exchange. Dropping it writes it.
#[derive(Debug)]
pub(crate) struct Exchange {
    metrics: Arc<Metrics>,
    request_id: RequestId,
    method: Method,
    peer: String,
    started: Instant,
    caller: Option<CallerId>,
    route: Option<Arc<PlannedRoute>>,
    /// How it waits, once it may be made at all.
    wait: Option<Wait>,
    credential: Option<CredentialId>,
    waited: Option<Duration>,
    attempts: u32,
    upstream: Option<Duration>,
    status: Option<StatusCode>,
    refusal: Option<&'static str>,
    left: bool,
    bytes: u64,
    complete: bool,
}

impl Exchange {
    pub(crate) fn open(request: &Request<Body>, peer: &Peer, metrics: Arc<Metrics>) -> Self {
        let own = request.headers().get(X_REQUEST_ID);
        let request_id = own
            .and_then(|value| RequestId::from_caller(value.as_bytes()))
            .unwrap_or_else(RequestId::fresh);
        Self {
            metrics,
            request_id,
            method: request.method().clone(),
            peer: peer.remote.to_string(),
            started: Instant::now(),
            caller: None,
            route: None,
            wait: None,
            credential: None,
            waited: None,
            attempts: 0,
            upstream: None,
            status: None,
            refusal: None,
            left: false,
            bytes: 0,
            complete: false,
        }
    }

    pub(crate) fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn comes_from(&mut self, caller: &CallerId) {
        self.caller = Some(caller.clone());
    }

    pub(crate) fn goes_by(&mut self, route: &Arc<PlannedRoute>) {
        self.route = Some(route.clone());
    }

    /// The call may be made, and waits so.
    pub(crate) fn waits(&mut self, wait: &Wait) {
        self.wait = Some(wait.clone());
    }

    pub(crate) fn goes_with(&mut self, credential: &CredentialId) {
        self.credential = Some(credential.clone());
    }

    /// The call's route and how it waits, where it got so far.
    pub(crate) fn waits_as(&self) -> Option<(&Arc<PlannedRoute>, &Wait)> {
        self.route.as_ref().zip(self.wait.as_ref())
    }

    /// A permit was granted after `waited`.
    pub(crate) fn granted(&mut self, waited: Duration) {
        self.waited = Some(waited);
        if let Some((route, wait)) = self.waits_as() {
            route.series.granted(waited);
            if let Some(quota) = route.budgets.first() {
                self.metrics.granted(&quota.budget, &wait.caller.id, wait.priority);
            }
        }
    }

    /// Omni's limit refused an attempt. Our own count was within it, as it always is.
    pub(crate) fn limited(&self) {
        if let Some(route) = &self.route {
            route.series.limited(true);
            route.series.retried(Retry::Limited);
        }
    }

    /// One attempt came to its end; `None` when upstream did not answer.
    pub(crate) fn attempted(&mut self, status: Option<StatusCode>, took: Duration) {
        self.attempts += 1;
        self.upstream = Some(took);
        if let Some(route) = &self.route {
            route.series.attempted(&self.method, status, took);
        }
    }

    pub(crate) fn refused(&mut self, kind: &'static str) {
        self.refusal = Some(kind);
        self.metrics.refused(kind);
    }

    /// The caller ended the call itself; what it is answered is read by nobody.
    pub(crate) fn left(&mut self) {
        self.left = true;
    }

    /// Puts the record's own fields on the response and lets it follow the body to its end.
    pub(crate) fn finish(mut self, mut response: Response<Body>) -> Response<Body> {
        self.status = Some(response.status());
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::try_from(self.request_id.as_str()) {
            headers.insert(X_REQUEST_ID, id);
        }
        if let Some(timing) = self.timing() {
            headers.append(SERVER_TIMING, timing);
        }
        // Nobody asks for the body of an answer to HEAD.
        if response.body().is_end_stream() || self.method == Method::HEAD {
            self.complete = true;
            return response;
        }
        response.map(|body| Body::boxed(Recorded { body, exchange: self }))
    }

    /// W3C Server Timing: milliseconds.
    fn timing(&self) -> Option<HeaderValue> {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let text = match (self.waited, self.upstream) {
            (None, None) => return None,
            (Some(queue), None) => format!("queue;dur={:.1}", ms(queue)),
            (None, Some(upstream)) => format!("upstream;dur={:.1}", ms(upstream)),
            (Some(queue), Some(upstream)) => {
                format!("queue;dur={:.1}, upstream;dur={:.1}", ms(queue), ms(upstream))
            }
        };
        HeaderValue::try_from(text).ok()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let answered = self.status.filter(|_| !self.left);
        let status = answered.map_or(LEFT, |status| status.as_u16());
        let route = self.route.as_ref();
        self.metrics.exchanged(&ExchangeFacts {
            route: route.map(|route| &route.series),
            method: &self.method,
            status,
            took,
        });
        info!(
            target: "omnigate::access",
            request_id = %self.request_id,
            peer = self.peer,
            method = %self.method,
            route = route.map(|route| route.id.as_str()),
            caller = self.caller.as_ref().map(CallerId::as_str),
            priority = self.wait.as_ref().map(|wait| wait.priority.as_str()),
            credential = self.credential.as_ref().map(CredentialId::as_str),
            status,
            refusal = self.refusal,
            waited_ms = self.waited.map(|waited| waited.as_millis() as u64),
            attempts = self.attempts,
            upstream_ms = self.upstream.map(|took| took.as_millis() as u64),
            bytes = self.bytes,
            complete = self.complete,
            duration_ms = took.as_millis() as u64,
            "exchange"
        );
    }
}

/// A response body that takes the record along.
struct Recorded {
    body: Body,
    exchange: Exchange,
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.exchange.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.exchange.complete = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! The record of one exchange: gathered on the way, written when the body ends or is dropped.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;
use tracing::info;

use crate::base::{Body, BoxError, CallerId, CredentialId, Peer, Remote, RequestId};
use crate::omni::TOKEN_PREFIX;
use crate::proxy::cache_status::CacheStatus;
use crate::proxy::trail::Trail;
use crate::telemetry::{Closing, Ended, ExchangeFacts, Opening, Telemetry, Trace, method_word};

/// The caller's own id for a request, or ours.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What the log and the metrics call a caller who left before it was answered.
const LEFT: u16 = 499;

/// The record of one exchange. Dropping it writes it.
#[derive(Debug)]
pub(crate) struct Exchange {
    request_id: RequestId,
    peer: String,
    started: Instant,
    caller: Option<CallerId>,
    /// What became of the call on its way up.
    pub(crate) trail: Trail,
    /// What the cache did, where it was asked.
    cache: Option<CacheStatus>,
    status: Option<StatusCode>,
    refusal: Option<&'static str>,
    left: bool,
    bytes: u64,
    complete: bool,
    /// Whether upstream broke off in the middle of its answer.
    broken: bool,
}

impl Exchange {
    pub(crate) fn open(request: &Request<Body>, peer: &Peer, telemetry: &Telemetry) -> Self {
        let own = request.headers().get(X_REQUEST_ID);
        let request_id = own
            .and_then(|value| RequestId::from_caller(value.as_bytes()))
            // It is logged, shown, exported and sent on: a key that went astray is no id.
            .filter(|id| !id.as_str().to_ascii_lowercase().contains(TOKEN_PREFIX))
            .unwrap_or_else(RequestId::fresh);
        let mut trail = Trail::open(request.method().clone(), telemetry.clone());
        trail.trace = Trace::open(
            &telemetry.traces,
            &Opening {
                headers: request.headers(),
                method: request.method(),
                path: request.uri().path(),
                query: request.uri().query(),
                version: request.version(),
                secure: peer.secure,
                remote: match peer.remote {
                    Remote::Tcp(address) => Some(address),
                    Remote::Unix { .. } | Remote::Pipe => None,
                },
                local: peer.local,
            },
        );
        Self {
            request_id,
            peer: peer.remote.to_string(),
            started: Instant::now(),
            caller: None,
            trail,
            cache: None,
            status: None,
            refusal: None,
            left: false,
            bytes: 0,
            complete: false,
            broken: false,
        }
    }

    pub(crate) fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// The id as a field's value.
    pub(crate) fn request_id_field(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.request_id.as_str()).ok()
    }

    pub(crate) fn comes_from(&mut self, caller: &CallerId) {
        self.caller = Some(caller.clone());
    }

    /// The cache was asked, and did this.
    pub(crate) fn cached(&mut self, status: CacheStatus) {
        self.cache = Some(status);
    }

    pub(crate) fn refused(&mut self, kind: &'static str) {
        self.refusal = Some(kind);
        self.trail.telemetry().metrics.refused(kind);
    }

    /// The caller ended the call itself; what it is answered is read by nobody.
    pub(crate) fn left(&mut self) {
        self.left = true;
    }

    /// Puts the record's own fields on the response and lets it follow the body to its end.
    pub(crate) fn finish(mut self, mut response: Response<Body>) -> Response<Body> {
        self.status = Some(response.status());
        let headers = response.headers_mut();
        if let Some(id) = self.request_id_field() {
            headers.insert(X_REQUEST_ID, id);
        }
        if let Some(timing) = self.trail.facts().timing() {
            headers.append(SERVER_TIMING, timing);
        }
        let was_sent = self.trail.facts().attempts > 0;
        if let Some(status) = self.cache.as_ref().and_then(|cache| cache.field(was_sent)) {
            headers.append(CACHE_STATUS, status);
        }
        // An answer to HEAD says how long it would be; over h2 its body would go out as well.
        if *self.trail.method() == Method::HEAD {
            if let Some(length) = response.body().size_hint().exact().filter(|length| *length > 0) {
                let headers = response.headers_mut();
                headers.entry(http::header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
            }
            *response.body_mut() = Body::empty();
        }
        if response.body().is_end_stream() {
            self.complete = true;
            self.trail.complete();
            return response;
        }
        response.map(|body| Body::boxed(Recorded { body, exchange: self }))
    }
}

impl Exchange {
    fn close_trace(&mut self, answered: Option<StatusCode>) {
        if !self.trail.trace.is_recorded() {
            return;
        }
        let mut trace = std::mem::take(&mut self.trail.trace);
        let (route, facts) = (self.trail.route(), self.trail.facts());
        trace.close(&Closing {
            template: route.map(|route| &*route.template),
            route: route.map(|route| route.id.as_str()),
            caller: self.caller.as_ref().map(CallerId::as_str),
            credential: facts.credential.as_ref().map(CredentialId::as_str),
            cache: self.cache.as_ref().map(|cache| cache.outcome().as_str()),
            refusal: self.refusal,
            status: answered.map(|status| status.as_u16()),
            complete: self.complete,
            broken: self.broken,
            priority: self.trail.wait().map(|wait| wait.priority.as_str()),
            waited: facts.waited,
            attempts: facts.attempts,
            bytes: self.bytes,
            request_id: self.request_id.as_str(),
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let answered = self.status.filter(|_| !self.left);
        let status = answered.map_or(LEFT, |status| status.as_u16());
        let (route, facts) = (self.trail.route(), self.trail.facts());
        let series = route.map(|route| &route.series);
        let method = self.trail.method();
        let telemetry = self.trail.telemetry();
        telemetry.metrics.exchanged(&ExchangeFacts { route: series, method, status, took });
        let trace = self.trail.trace.id();
        let cache =
            self.cache.as_ref().filter(|_| route.is_some_and(|route| route.keeps.is_some()));
        telemetry.board.ended(
            Instant::now(),
            &Ended {
                route: route.map(|route| &route.id),
                caller: self.caller.as_ref(),
                method,
                status,
                refusal: self.refusal,
                // Elsewhere there is nothing that it could have saved.
                cache: cache.map(CacheStatus::outcome),
                attempts: facts.attempts,
                waited: facts.waited,
                upstream: facts.upstream,
                request_id: &self.request_id,
                trace,
            },
        );
        if let (Some(series), Some(cache)) = (series, &self.cache) {
            series.cached(cache.outcome(), facts.attempts);
        }
        info!(
            target: "omnigate::access",
            request_id = %self.request_id,
            trace_id = trace.map(tracing::field::display),
            peer = self.peer,
            // One that a caller made up may be as long as a head, and say anything.
            method = method_word(method),
            route = route.map(|route| route.id.as_str()),
            caller = self.caller.as_ref().map(CallerId::as_str),
            priority = self.trail.wait().map(|wait| wait.priority.as_str()),
            credential = facts.credential.as_ref().map(CredentialId::as_str),
            cache = self.cache.as_ref().map(|cache| cache.outcome().as_str()),
            status,
            refusal = self.refusal,
            waited_ms = facts.waited.map(|waited| waited.as_millis() as u64),
            attempts = facts.attempts,
            upstream_ms = facts.upstream.map(|took| took.as_millis() as u64),
            bytes = self.bytes,
            complete = self.complete,
            duration_ms = took.as_millis() as u64,
            "exchange"
        );
        self.close_trace(answered);
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
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            self.exchange.broken = true;
        }
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.exchange.complete = true;
            self.exchange.trail.complete();
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

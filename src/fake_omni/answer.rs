//! Answers in the shapes that are on record.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, EXPIRES, IF_NONE_MATCH, PRAGMA, RETRY_AFTER,
    SERVER, SET_COOKIE, STRICT_TRANSPORT_SECURITY, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use serde_json::{Value, json};

use super::settings::{Refusal, RetryAfter};
use crate::base::Body;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const WAF_ACTION: HeaderName = HeaderName::from_static("x-omni-waf-action");
const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// A page as the edge of AWS writes it.
const BLOCKED: &str = "<html>\r\n<head><title>429 Too Many Requests</title></head>\r\n<body>\r\n\
    <center><h1>429 Too Many Requests</h1></center>\r\n</body>\r\n</html>\r\n";

/// A JSON document.
pub(super) fn json(status: StatusCode, document: &Value) -> Response<Body> {
    typed(status, JSON, document.to_string())
}

/// Bytes of some type.
pub(super) fn typed(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let body = body.into();
    let tag = format!("W/\"{:x}-{:08x}\"", body.len(), crc32fast::hash(&body));
    let mut answer = streamed(status, content_type, Body::full(body));
    answer.headers_mut().extend(HeaderValue::try_from(tag).ok().map(|tag| (ETAG, tag)));
    answer
}

/// A body that is sent as it comes.
pub(super) fn streamed(
    status: StatusCode,
    content_type: HeaderValue,
    body: Body,
) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// A status alone.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

/// An error of an application route.
pub(super) fn detail(status: StatusCode, detail: &str) -> Response<Body> {
    json(status, &json!({ "detail": detail, "status": status.as_u16() }))
}

/// An error of the middleware that checks the bearer.
pub(super) fn bearer(status: StatusCode, message: &str) -> Response<Body> {
    json(status, &json!({ "error": { "code": status.as_u16(), "message": message } }))
}

/// What an unknown path is answered.
pub(super) fn not_found() -> Response<Body> {
    json(StatusCode::NOT_FOUND, &json!({ "message": "Not found" }))
}

/// A failure that a test ordered: a load balancer's page for its own statuses, else JSON.
pub(super) fn failed(status: StatusCode) -> Response<Body> {
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            let page = format!("<html><body><center><h1>{status}</h1></center></body></html>\r\n");
            typed(status, HeaderValue::from_static("text/html"), page)
        }
        _ => detail(status, status.canonical_reason().unwrap_or("Failed")),
    }
}

/// The limit's refusal. It comes from the edge, so it has none of the application's fields.
pub(super) fn refused(refusal: &Refusal) -> Response<Body> {
    let html = HeaderValue::from_static("text/html");
    let mut answer = streamed(StatusCode::TOO_MANY_REQUESTS, html, Body::full(BLOCKED));
    let fields = answer.headers_mut();
    fields.insert(SERVER, HeaderValue::from_static("awselb/2.0"));
    if refusal.action_field {
        fields.insert(WAF_ACTION, HeaderValue::from_static("block"));
    }
    let after = match &refusal.retry_after {
        RetryAfter::Absent => None,
        RetryAfter::Seconds(seconds) => Some(HeaderValue::from(*seconds)),
        RetryAfter::Date(ahead) => {
            HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now() + *ahead)).ok()
        }
        RetryAfter::Text(text) => HeaderValue::try_from(text).ok(),
    };
    fields.extend(after.map(|after| (RETRY_AFTER, after)));
    answer
}

/// Adds what every answer of the application carries, and answers a matching condition with 304.
pub(super) fn finish(mut answer: Response<Body>, asked: &HeaderMap) -> Response<Body> {
    static TRACES: AtomicU64 = AtomicU64::new(1);
    let tag = answer.headers().get(ETAG);
    let same = tag.is_some() && asked.get(IF_NONE_MATCH) == tag;
    if same && answer.status() == StatusCode::OK {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        *answer.body_mut() = Body::empty();
        answer.headers_mut().remove(CONTENT_TYPE);
    } else if let Some(length) = answer.body().size_hint().exact()
        && answer.status() != StatusCode::NO_CONTENT
        && !answer.headers().contains_key(CONTENT_LENGTH)
    {
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let trace = TRACES.fetch_add(1, Ordering::Relaxed);
    let trace = HeaderValue::try_from(format!("Root=1-{:08x}-{trace:024x}", 0x6A00_0000u32));
    let fields = answer.headers_mut();
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    fields.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    fields.insert(EXPIRES, HeaderValue::from_static("0"));
    fields.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    fields.insert(
        STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=63072000; includeSubDomains"),
    );
    fields.extend(trace.ok().map(|trace| (TRACE_ID, trace)));
    answer
}

/// Adds the cookie of a load balancer that wants to see its client again.
pub(super) fn with_cookie(mut answer: Response<Body>) -> Response<Body> {
    let cookie = HeaderValue::from_static("AWSALB=fake-affinity; Path=/; Max-Age=604800");
    answer.headers_mut().append(SET_COOKIE, cookie);
    answer
}

/// The length that an answer declares.
pub(super) fn declared_length(answer: &Response<Body>) -> Option<u64> {
    answer.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

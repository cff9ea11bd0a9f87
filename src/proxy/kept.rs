//! Answers made of what is kept, or was fetched for several.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, CONTENT_RANGE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tokio::time::Instant;

use crate::base::Body;
use crate::cache::range::Part;
use crate::cache::{Answer, Entry, conditional, range};
use crate::proxy::cache_status::{CacheStatus, Forward, Relief};
use crate::proxy::exchange::Exchange;
use crate::proxy::problem;

/// How an answer came that was fetched for several.
pub(super) struct Fetched {
    pub(super) why: Forward,
    pub(super) kept: bool,
    pub(super) collapsed: bool,
}

/// Answers from what is kept. `relief` says why that is better, where it is past its time.
pub(super) fn serve(
    head: &Parts,
    entry: &Entry,
    relief: Relief,
    exchange: &mut Exchange,
) -> Response<Body> {
    let now = Instant::now();
    let ttl = entry.life.ttl(now);
    exchange.cached(match ttl {
        0.. => CacheStatus::Hit { ttl },
        _ => CacheStatus::Stale { ttl, why: relief },
    });
    answer(head, entry, now)
}

/// Answers with what was fetched.
pub(super) fn fetched(
    head: &Parts,
    entry: &Entry,
    fetched: Fetched,
    exchange: &mut Exchange,
) -> Response<Body> {
    let Fetched { why, kept, collapsed } = fetched;
    let (now, status) = (Instant::now(), entry.answer.status);
    let kept = kept.then(|| entry.life.ttl(now));
    exchange.cached(CacheStatus::Forwarded { why, status: Some(status), kept, collapsed });
    let mut response = answer(head, entry, now);
    problem::received(response.headers_mut(), status);
    response
}

/// Passes on what was sent for this call alone.
pub(super) fn once(
    mut response: Response<Body>,
    why: Forward,
    exchange: &mut Exchange,
) -> Response<Body> {
    let status = response.status();
    let kept = None;
    let all = CacheStatus::Forwarded { why, status: Some(status), kept, collapsed: false };
    exchange.cached(all);
    problem::received(response.headers_mut(), status);
    response
}

/// Answers with what was sent for another call that asked the same.
pub(super) fn shared(mut response: Response<Body>, exchange: &mut Exchange) -> Response<Body> {
    let (why, status) = (Forward::Bypass, response.status());
    let all = CacheStatus::Forwarded { why, status: Some(status), kept: None, collapsed: true };
    exchange.cached(all);
    problem::received(response.headers_mut(), status);
    response
}

/// The answer, a part of it, or word that the caller has it already (RFC 9110 §13.2.2, §15.4.5).
fn answer(head: &Parts, entry: &Entry, now: Instant) -> Response<Body> {
    let answer = &entry.answer;
    let mut response = if answer.status != StatusCode::OK {
        whole(answer)
    } else if conditional::is_unmodified(&head.headers, &answer.headers) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.headers_mut() = conditional::not_modified(&answer.headers);
        response
    } else if head.method == Method::GET {
        part(head, answer)
    } else {
        whole(answer)
    };
    set_age(response.headers_mut(), entry.life.age(now));
    response
}

fn whole(answer: &Answer) -> Response<Body> {
    // The body is shared, not copied.
    let mut response = Response::new(Body::full(answer.body.clone()));
    *response.status_mut() = answer.status;
    response.headers_mut().clone_from(&answer.headers);
    response
}

fn part(head: &Parts, answer: &Answer) -> Response<Body> {
    let length = answer.body.len();
    let (status, body, place) = match range::part(&head.headers, &answer.headers, length) {
        Part::Whole => return whole(answer),
        Part::Bytes(bytes) => {
            let place = format!("bytes {}-{}/{length}", bytes.start, bytes.end - 1);
            (StatusCode::PARTIAL_CONTENT, answer.body.slice(bytes), place)
        }
        Part::Beyond => {
            (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new(), format!("bytes */{length}"))
        }
    };
    let mut response = whole(answer);
    *response.status_mut() = status;
    *response.body_mut() = Body::full(body);
    if let Ok(place) = HeaderValue::try_from(place) {
        response.headers_mut().insert(CONTENT_RANGE, place);
    }
    response
}

fn set_age(headers: &mut HeaderMap, age: Duration) {
    // The largest that every cache reads (RFC 9111 §1.2.2).
    headers.insert(AGE, HeaderValue::from(age.as_secs().min(1 << 31)));
}

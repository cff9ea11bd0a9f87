//! The way of one request: log, limit, ordered failure, bearer, body, application.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::bearer::Bearer;
use super::faults::{Fault, HungUp};
use super::log::{Arrival, BodySeen, Sender, Verdict};
use super::text::hexadecimal;
use super::{Instance, answer, api, files, hold};
use crate::base::Body;

/// The most that is read of a body that is not an upload.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Answers one request, or hangs up where a rule says so.
pub(super) async fn serve(
    omni: &Instance,
    connection: u64,
    request: Request<Incoming>,
) -> Result<Response<Body>, HungUp> {
    let (head, body) = request.into_parts();
    let bearer = Bearer::read(&head.headers, &hold(&omni.keys));
    let (number, verdict, fault) = arrive(omni, connection, &head, &bearer);
    if verdict == Verdict::Limited {
        return Ok(answer::refused(&omni.settings.refusal));
    }
    if let Some(fault) = &fault
        && let Some(answer) = fault.instead(&head.headers, &omni.settings.refusal)?
    {
        return Ok(answer);
    }
    let mut answer = apply(omni, &head, &bearer, body, number).await;
    // Before, so that a condition meets our own tag; again after, in place of what all answers bear.
    let own = hold(&omni.fields).of(head.uri.path());
    own.put(answer.headers_mut());
    let mut answer = answer::finish(answer, &head.headers);
    own.put(answer.headers_mut());
    match fault {
        Some(fault) => fault.spoil(answer).await,
        None => Ok(answer),
    }
}

/// Stamps, counts and logs a head, all under one lock.
fn arrive(
    omni: &Instance,
    connection: u64,
    head: &Parts,
    bearer: &Bearer,
) -> (u64, Verdict, Option<Fault>) {
    let mut headers = head.headers.clone();
    let authorizations = headers.get_all(AUTHORIZATION).iter().count();
    // The WAF sees a field that was sent twice as one, joined.
    let value = headers
        .get_all(AUTHORIZATION)
        .iter()
        .map(|value| value.as_bytes())
        .collect::<Vec<_>>()
        .join(&b',');
    if let http::header::Entry::Occupied(mut entry) = headers.entry(AUTHORIZATION) {
        entry.iter_mut().for_each(|value| value.set_sensitive(true));
    }
    let sender = bearer.sender();
    let owner = match &sender {
        Sender::Owner(owner) => Some(owner.clone()),
        Sender::Invalid | Sender::Malformed => None,
    };
    let mut front = hold(&omni.front);
    let at = Instant::now();
    let passes = front.gate.admit((authorizations > 0).then_some(&value), at);
    let strike = || hold(&omni.rules).strike(&head.method, &head.uri, owner.as_deref(), at);
    let fault = passes.then(strike).flatten();
    let verdict = match (passes, &fault) {
        (false, _) => Verdict::Limited,
        (true, Some(_)) => Verdict::Failed,
        (true, None) => Verdict::Admitted,
    };
    let number = front.log.push(Arrival {
        number: 0,
        at,
        connection,
        sender,
        authorizations,
        method: head.method.clone(),
        target: head.uri.clone(),
        headers,
        body: BodySeen::default(),
        verdict,
    });
    drop(front);
    omni.arrived.notify_waiters();
    (number, verdict, fault)
}

/// Lets the application answer, and notes the write that took effect.
async fn apply(
    omni: &Instance,
    head: &Parts,
    bearer: &Bearer,
    body: Incoming,
    number: u64,
) -> Response<Body> {
    if !api::is_guarded(head.uri.path()) {
        return answer::not_found();
    }
    let key = match bearer.key() {
        Ok(key) => key,
        Err(unfit) => return unfit.answer(),
    };
    let (answer, digest) = if api::is_upload(head) {
        files::upload(omni, head, body.into(), number).await
    } else {
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            return answer::detail(StatusCode::PAYLOAD_TOO_LARGE, "Request body cannot be read");
        };
        let body = body.to_bytes();
        let digest = note_body(omni, number, &body);
        let document = serde_json::from_slice(&body).unwrap_or(Value::Null);
        // A read is slow after it has looked, so that what it brings may be old by then.
        if !head.method.is_safe() {
            sleep(omni.settings.answer_time).await;
        }
        let answer = api::answer(omni, key, head, &document).await;
        if head.method.is_safe() {
            sleep(omni.settings.answer_time).await;
        }
        (answer, named(&document).or(Some(digest)))
    };
    if !head.method.is_safe() && answer.status().is_success() {
        let given = head.headers.get("x-serial").and_then(|value| value.to_str().ok());
        if let Some(serial) = given.map(str::to_owned).or(digest) {
            hold(&omni.front).log.apply(serial);
        }
    }
    answer
}

/// Logs a body that was read whole, and gives its SHA-256.
fn note_body(omni: &Instance, number: u64, body: &Bytes) -> String {
    let digest = hexadecimal(&Sha256::digest(body));
    let bytes = body.len() as u64;
    let seen = BodySeen { bytes, complete: true, sha256: Some(digest.clone()) };
    hold(&omni.front).log.body(number, seen);
    digest
}

/// The serial that a JSON body gives.
fn named(document: &Value) -> Option<String> {
    ["serial", "name"].iter().find_map(|member| document[member].as_str().map(str::to_owned))
}

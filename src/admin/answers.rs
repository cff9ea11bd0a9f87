//! What is answered, in which form.

use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::admin::{CredentialView, KeyAnswer, NoAnswer, Readiness, Reason};
use crate::base::{Body, CredentialId};

/// One key's standing; `whole` with what is wrong with its place, for operators.
pub(super) fn shown(view: &CredentialView, whole: bool) -> Value {
    let mut shown = json!({ "credential": view.id.as_str(), "state": view.state });
    if let Some(age) = view.age {
        shown["age_s"] = json!(age.as_secs());
    }
    if let Some(trouble) = view.trouble.as_ref().filter(|_| whole) {
        shown["trouble"] = json!(trouble);
    }
    shown
}

pub(super) fn tested(id: &CredentialId, said: Result<KeyAnswer, NoAnswer>) -> Response<Body> {
    match said {
        Ok(KeyAnswer { status, accepted, refused, sha256, key_scope }) => {
            let body = json!({
                "credential": id.as_str(),
                "accepted": accepted,
                "refused": refused,
                "sha256": sha256,
                "status": status,
                "key_scope": key_scope,
            });
            document(StatusCode::OK, &body)
        }
        Err(NoAnswer::Unknown) => {
            problem(StatusCode::NOT_FOUND, "no-route", "There is no credential of that name.")
        }
        Err(NoAnswer::Because { why, sent }) => {
            let body = json!({
                "type": "urn:omnigate:problem:upstream-unreachable",
                "status": 503,
                "detail": format!("Omni could not be asked: {why}."),
                "sent": sent,
            });
            answer(StatusCode::SERVICE_UNAVAILABLE, "application/problem+json", body.to_string())
        }
    }
}

pub(super) fn reason(reason: &Reason) -> Value {
    match reason {
        Reason::Draining => json!({ "reason": "draining" }),
        Reason::SharedBudget => json!({ "reason": "shared-budget" }),
        Reason::CredentialMissing(id) => {
            json!({ "reason": "credential-missing", "credential": id.as_str() })
        }
    }
}

pub(super) fn ready(readiness: &Readiness) -> Response<Body> {
    let reasons: Vec<Value> = readiness.reasons.iter().map(reason).collect();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let keys: Vec<Value> = readiness.credentials.iter().map(|one| shown(one, false)).collect();
    document(status, &json!({ "ready": ready, "reasons": reasons, "credentials": keys }))
}

pub(super) fn document(status: StatusCode, body: &Value) -> Response<Body> {
    answer(status, "application/json", format!("{body}\n"))
}

pub(super) fn answer(status: StatusCode, media: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(super) fn problem(status: StatusCode, kind: &str, detail: &str) -> Response<Body> {
    let body = json!({
        "type": format!("urn:omnigate:problem:{kind}"),
        "status": status.as_u16(),
        "detail": detail,
    });
    answer(status, "application/problem+json", body.to_string())
}

/// The connection ends with this answer; what else comes over it is not read.
pub(super) fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

//! Answers in Vault's shapes.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use uuid::Uuid;

/// A text, whatever it is.
pub(super) fn plain(status: u16, text: &str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// A refusal.
pub(super) fn refusal(status: u16, errors: &[&str]) -> Response<Full<Bytes>> {
    plain(status, &json!({ "errors": errors }).to_string())
}

/// An answer with `data`.
pub(super) fn data(status: u16, data: &Value) -> Response<Full<Bytes>> {
    envelope(status, data, &Value::Null)
}

/// The answer to a log-in or a renewal.
pub(super) fn auth(token: &str, seconds: u64, renewable: bool) -> Response<Full<Bytes>> {
    let auth = json!({
        "client_token": token,
        "accessor": "the-accessor-of-it",
        "policies": ["default", "omnigate"],
        "token_policies": ["default", "omnigate"],
        "metadata": { "role_name": "omnigate" },
        "lease_duration": seconds,
        "renewable": renewable,
        "entity_id": "",
        "token_type": "service",
        "orphan": true,
        "mfa_requirement": null,
        "num_uses": 0,
    });
    envelope(200, &Value::Null, &auth)
}

fn envelope(status: u16, data: &Value, auth: &Value) -> Response<Full<Bytes>> {
    let document = json!({
        "request_id": Uuid::now_v7().to_string(),
        "lease_id": "",
        "renewable": false,
        "lease_duration": 0,
        "data": data,
        "wrap_info": null,
        "warnings": null,
        "auth": auth,
    });
    plain(status, &document.to_string())
}

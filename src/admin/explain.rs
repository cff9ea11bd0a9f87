//! `POST /-/explain`: what becomes of a call, and why. The question is a document and no query: its fields may
//! hold secrets, and a query ends in logs and histories.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use tokio::time::timeout;

use super::{Desk, answer, closing, problem};
use crate::base::Body;
use crate::proxy::Call;

/// The most bytes of a question: a body of 1 MiB, in base64, and a head.
const MOST: usize = 1536 * 1024;

/// How long a question may take to come.
const WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn explain(headers: &HeaderMap, body: Body, desk: &dyn Desk) -> Response<Body> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let is_json = types.next().is_some_and(|one| one.as_bytes().starts_with(b"application/json"));
    if !is_json || types.next().is_some() {
        let detail = "Send a JSON document as `Content-Type: application/json`.";
        return closing(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad-request", detail));
    }
    let Ok(read) = timeout(WITHIN, Limited::new(body, MOST).collect()).await else {
        let detail = format!("The question did not come within {} s.", WITHIN.as_secs());
        return closing(problem(StatusCode::REQUEST_TIMEOUT, "bad-request", &detail));
    };
    let Ok(question) = read.map(|read| read.to_bytes()) else {
        let detail = format!("The question broke off, or has more than {} KiB.", MOST / 1024);
        return closing(problem(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", &detail));
    };
    // What is wrong with it is not repeated: it may be a secret's.
    let Ok(call) = serde_json::from_slice::<Call>(&question) else {
        let detail = "The question is an object with `method` and `url`; and, if need be, `headers` (pairs of \
                      name and value), `body_base64`, `caller`, `from`, `san` (a list), `listener`.";
        return problem(StatusCode::BAD_REQUEST, "bad-request", detail);
    };
    match desk.explain(call).await {
        Ok(explanation) => match serde_json::to_string(&explanation) {
            Ok(text) => answer(StatusCode::OK, "application/json", format!("{text}\n")),
            Err(_) => {
                problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "A fault of omnigate's.")
            }
        },
        Err(bad) => problem(StatusCode::UNPROCESSABLE_ENTITY, "bad-question", &format!("{bad}.")),
    }
}

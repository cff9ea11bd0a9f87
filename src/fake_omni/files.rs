//! Files: downloads that are made as they are sent, uploads that are counted as they come.

use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::api::Call;
use super::holdings::{self, Kind};
use super::log::BodySeen;
use super::text::hexadecimal;
use super::{Instance, answer, bodies, hold, paths};
use crate::base::Body;

/// Starts to make a dashboard's file.
pub(super) fn order(call: &Call<'_>) -> Response<Body> {
    let job = call.holdings().fresh(Kind::Job);
    answer::json(StatusCode::OK, &json!({ "job_id": job }))
}

/// A file is always ready.
pub(super) fn status(call: &Call<'_>, job: &str) -> Response<Body> {
    call.shown(&json!({ "job_id": job, "status": "COMPLETE" }))
}

/// Sends a file of `?bytes=N`, or of the size that the settings say; see [`super::pattern`].
pub(super) fn download(call: &Call<'_>, identifier: &str) -> Response<Body> {
    let bytes = match call.query.get("bytes").map(str::parse) {
        None => call.omni.settings.download_bytes,
        Some(Ok(bytes)) => bytes,
        Some(Err(_)) => return answer::detail(StatusCode::BAD_REQUEST, "bytes: not a number"),
    };
    let pdf = HeaderValue::from_static("application/pdf");
    let mut answer = answer::streamed(StatusCode::OK, pdf, bodies::file(bytes));
    let fields = answer.headers_mut();
    fields.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{identifier}.pdf\""));
    fields.extend(disposition.ok().map(|value| (CONTENT_DISPOSITION, value)));
    answer
}

/// Reads a multipart body to its end without keeping it, and gives its SHA-256 if asked for.
pub(super) async fn upload(
    omni: &Instance,
    head: &Parts,
    mut body: Body,
    number: u64,
) -> (Response<Body>, Option<String>) {
    let bad = |message: &str| (answer::detail(StatusCode::BAD_REQUEST, message), None);
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type
        .is_some_and(|t| t.starts_with("multipart/form-data") && t.contains("boundary="))
    {
        return bad("Content-Type must be multipart/form-data");
    }
    let mut digest = omni.settings.digest_uploads.then(Sha256::new);
    let mut seen = BodySeen::default();
    while let Some(chunk) = bodies::next(&mut body).await {
        let Ok(chunk) = chunk else { return bad("Unexpected end of form") };
        if let Some(digest) = &mut digest {
            digest.update(&chunk);
        }
        seen.bytes += chunk.len() as u64;
        hold(&omni.front).log.body(number, seen.clone());
    }
    seen.complete = true;
    seen.sha256 = digest.map(|digest| hexadecimal(&digest.finalize()));
    hold(&omni.front).log.body(number, seen.clone());
    let upload = record(omni, seen.bytes);
    (answer::json(StatusCode::CREATED, &upload), seen.sha256)
}

fn record(omni: &Instance, bytes: u64) -> Value {
    let mut holdings = hold(&omni.holdings);
    let id = holdings.fresh(Kind::Upload);
    holdings.uploads.push(holdings::upload(&id, bytes));
    holdings.revisions.raise(paths::UPLOAD);
    json!({
        "id": id, "fileName": "upload.csv", "viewName": "upload", "viewCreated": true,
        "truncated": false, "sizeBytes": bytes,
    })
}

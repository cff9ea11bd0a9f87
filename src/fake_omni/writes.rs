//! Single things, and the writes that change what lists show.

use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::Call;
use super::holdings::{self, Kind};
use super::{answer, content, generic};
use crate::base::Body;

const NO_DOCUMENT: &str = "Document not found";

/// Takes the record whose member has this value out of a list.
pub(super) fn remove(records: &mut Vec<Value>, member: &str, value: &str) -> Option<Value> {
    let index = records.iter().position(|record| record[member] == value)?;
    Some(records.remove(index))
}

pub(super) fn label(call: &Call<'_>, name: &str) -> Response<Body> {
    match call.holdings().counted_labels().iter().find(|label| label["name"] == name) {
        Some(label) => call.shown(label),
        None => no_label(),
    }
}

pub(super) fn create_label(call: &Call<'_>) -> Response<Body> {
    let Some(name) = call.document["name"].as_str().filter(|name| !name.is_empty()) else {
        return answer::detail(StatusCode::BAD_REQUEST, "name: Required");
    };
    let mut holdings = call.holdings();
    if holdings.labels.iter().any(|label| label["name"] == name) {
        return answer::detail(StatusCode::CONFLICT, "Label with this name already exists");
    }
    let label = changed(holdings::label(name), call.document);
    holdings.labels.push(label.clone());
    answer::json(StatusCode::CREATED, &label)
}

pub(super) fn update_label(call: &Call<'_>, name: &str) -> Response<Body> {
    let mut holdings = call.holdings();
    let new = call.document["name"].as_str().unwrap_or(name);
    if new != name && holdings.labels.iter().any(|label| label["name"] == new) {
        return answer::detail(StatusCode::CONFLICT, "Label with new name already exists");
    }
    match holdings.labels.iter_mut().find(|label| label["name"] == name) {
        Some(label) => {
            *label = changed(label.take(), call.document);
            answer::json(StatusCode::OK, label)
        }
        None => no_label(),
    }
}

pub(super) fn delete_label(call: &Call<'_>, name: &str) -> Response<Body> {
    let mut holdings = call.holdings();
    let used = |label: &Value| label["name"] == name && label["usage_count"] != 0;
    if holdings.counted_labels().iter().any(used) {
        let message = "Cannot delete label that is applied to documents";
        return answer::detail(StatusCode::CONFLICT, message);
    }
    match remove(&mut holdings.labels, "name", name) {
        Some(_) => answer::empty(StatusCode::NO_CONTENT),
        None => no_label(),
    }
}

fn no_label() -> Response<Body> {
    answer::detail(StatusCode::NOT_FOUND, "Label not found")
}

/// A record with the members that a write may set.
fn changed(mut record: Value, change: &Value) -> Value {
    for member in ["name", "color", "description", "homepage", "verified"] {
        if !change[member].is_null() {
            record[member] = change[member].clone();
        }
    }
    record
}

/// Puts a label on a document, or takes it off.
pub(super) fn tag(call: &Call<'_>, identifier: &str, name: &str, on: bool) -> Response<Body> {
    let mut holdings = call.holdings();
    if !holdings.labels.iter().any(|label| label["name"] == name) {
        return no_label();
    }
    let mut documents = holdings.documents.iter_mut();
    let Some(document) = documents.find(|document| document["identifier"] == identifier) else {
        drop(holdings);
        return generic::missing(call, identifier, NO_DOCUMENT);
    };
    if let Some(labels) = document["labels"].as_array_mut() {
        labels.retain(|label| label != name);
        labels.extend(on.then(|| name.into()));
    }
    answer::empty(StatusCode::NO_CONTENT)
}

pub(super) fn create_folder(call: &Call<'_>) -> Response<Body> {
    let Some(name) = call.document["name"].as_str().filter(|name| !name.is_empty()) else {
        return answer::detail(StatusCode::BAD_REQUEST, "name: Required");
    };
    let mut holdings = call.holdings();
    let owner = call.acting_for.clone().unwrap_or(holdings.membership(call.key.owner()));
    let path = name.to_lowercase().replace(' ', "-");
    let folder = json!({
        "id": holdings.fresh(Kind::Folder), "name": name, "path": path, "scope": "organization",
        "ownerId": owner, "labels": [], "url": format!("https://acme.omniapp.co/f/{path}"),
    });
    holdings.folders.push(folder.clone());
    answer::json(StatusCode::CREATED, &folder)
}

pub(super) fn delete_folder(call: &Call<'_>, id: &str) -> Response<Body> {
    let mut holdings = call.holdings();
    let within = |document: &Value| document["folderId"] == id;
    if holdings.documents.iter().any(within) && call.query.get("force").is_none() {
        return answer::detail(StatusCode::BAD_REQUEST, "Folder contains documents");
    }
    let found = remove(&mut holdings.folders, "id", id);
    drop(holdings);
    removed(call, id, found, "Folder not found")
}

pub(super) fn document(call: &Call<'_>, identifier: &str) -> Response<Body> {
    let found = {
        let holdings = call.holdings();
        let mut documents = holdings.documents.iter();
        documents.find(|document| document["identifier"] == identifier).cloned()
    };
    match found {
        Some(document) => call.shown(&content::opened(call, document)),
        None => generic::missing(call, identifier, NO_DOCUMENT),
    }
}

pub(super) fn create_document(call: &Call<'_>) -> Response<Body> {
    let Some(name) = call.document["name"].as_str().filter(|name| !name.is_empty()) else {
        return answer::detail(StatusCode::BAD_REQUEST, "name: Required");
    };
    let mut holdings = call.holdings();
    let mut document = holdings.fresh_document();
    document["name"] = name.into();
    document["labels"] = json!([]);
    holdings.documents.push(document.clone());
    answer::json(StatusCode::OK, &document)
}

pub(super) fn delete_document(call: &Call<'_>, identifier: &str) -> Response<Body> {
    let found = remove(&mut call.holdings().documents, "identifier", identifier);
    removed(call, identifier, found, NO_DOCUMENT)
}

pub(super) fn delete_upload(call: &Call<'_>, id: &str) -> Response<Body> {
    let found = remove(&mut call.holdings().uploads, "id", id);
    removed(call, id, found, "Upload not found or already deleted")
}

fn removed(call: &Call<'_>, id: &str, found: Option<Value>, otherwise: &str) -> Response<Body> {
    match found {
        Some(_) => answer::json(StatusCode::OK, &json!({ "success": true })),
        None => generic::missing(call, id, otherwise),
    }
}

/// Starts a run of suggestions, or refuses it: the application's own 429.
pub(super) fn suggest(call: &Call<'_>, model: &str) -> Response<Body> {
    let now = Instant::now();
    let mut holdings = call.holdings();
    if holdings::is_ours(model) && !holdings.models.iter().any(|known| known["id"] == model) {
        return answer::detail(StatusCode::NOT_FOUND, "Model not found");
    }
    let cooldown = call.omni.settings.suggestions_cooldown;
    let last = holdings.suggested.get(model).map(|&last| now.duration_since(last));
    match last.and_then(|since| cooldown.checked_sub(since)).filter(|left| !left.is_zero()) {
        None => {
            holdings.suggested.insert(model.to_owned(), now);
            let run = json!({ "runId": holdings.fresh(Kind::Run), "status": "PENDING" });
            answer::json(StatusCode::ACCEPTED, &run)
        }
        Some(left) => {
            let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            let document = json!({
                "detail": "Suggestions were generated recently.", "status": 429,
                "lastCompletedAt": "2026-01-15T10:00:00.000Z", "retryAfterSeconds": seconds,
            });
            let mut refusal = answer::json(StatusCode::TOO_MANY_REQUESTS, &document);
            refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            refusal
        }
    }
}

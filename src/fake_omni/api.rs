//! The application behind the limit: which path is answered where.

use std::sync::MutexGuard;

use http::header::{ACCEPT, ACCEPT_LANGUAGE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::areas::{Deed, Known};
use super::holdings::Holdings;
use super::settings::{Key, KeyKind};
use super::text::{Query, segments};
use super::{
    Instance, answer, bearer, bodies, content, files, generic, hold, lists, mcp, query, scim,
    writes,
};
use crate::base::Body;

/// One authenticated request whose body has been read.
pub(super) struct Call<'a> {
    pub(super) omni: &'a Instance,
    pub(super) head: &'a Parts,
    pub(super) key: &'a Key,
    pub(super) query: Query,
    /// The body as JSON, or null.
    pub(super) document: &'a Value,
    /// The membership for which the key acts, where the call names one.
    pub(super) acting_for: Option<String>,
    /// The endpoint, where the fake knows it.
    pub(super) known: Option<Known>,
    /// The revision of what it shows, as it was when the call came.
    revision: Option<u64>,
}

/// Whether a path lies behind the check of the bearer.
pub(super) fn is_guarded(path: &str) -> bool {
    ["/api/v1", "/api/v2", "/api/unstable", "/api/scim", "/mcp", "/embed/sso", "/openapi.json"]
        .iter()
        .any(|prefix| path.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix)))
}

/// Whether a request brings a file.
pub(super) fn is_upload(head: &Parts) -> bool {
    head.method == Method::POST && head.uri.path() == "/api/v1/uploads"
}

/// Answers a request.
pub(super) async fn answer(
    omni: &Instance,
    key: &Key,
    head: &Parts,
    document: &Value,
) -> Response<Body> {
    // HEAD is GET without the body, which hyper leaves out.
    let method = if head.method == Method::HEAD { &Method::GET } else { &head.method };
    let known = Known::find(method, head.uri.path());
    let path = known.as_ref().map_or_else(|| segments(head.uri.path()), |one| one.path.clone());
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let query = Query::read(head.uri.query());
    // These two do not know `userId`.
    let acting_for = match path[..] {
        ["api", "v1", "models"] | ["api", "scim", ..] => Ok(None),
        _ => bearer::acting_for(key, &query, document, &hold(&omni.holdings)),
    };
    let call = match acting_for {
        Ok(acting_for) => {
            let area = known.as_ref().and_then(Known::shows);
            let revision = area.map(|area| hold(&omni.holdings).revisions.of(area));
            Call { omni, head, key, query, document, acting_for, known, revision }
        }
        Err(unfit) => return unfit.answer(),
    };
    let mut answer = match path[..] {
        ["api", "scim", "v2", ref rest @ ..] => scim::answer(&call, method, rest),
        ["api", "v1", "query", "run"] if *method == Method::POST => query::run(&call).await,
        ["api", "v1", "query", "wait"] if *method == Method::GET => query::wait(&call).await,
        ["mcp", "https"] => mcp::answer(&call, method),
        ["api", "v1", ref rest @ ..] if *method == Method::GET => call.read(rest),
        ["api", "v1", ref rest @ ..] => call.write(method, rest),
        _ => generic::answer(&call),
    };
    if let Some(Known { deed: Deed::Change(areas), .. }) = call.known
        && answer.status().is_success()
    {
        hold(&omni.holdings).revisions.raise(areas);
    }
    let owner = HeaderValue::from_str(key.owner());
    answer.headers_mut().extend(owner.ok().map(|owner| (OWNER, owner)));
    let accept = head.headers.get(ACCEPT).cloned();
    answer.headers_mut().extend(accept.map(|accept| (ASKED, accept)));
    answer
}

/// The largest body that a read is padded to.
const MAX_PADDED: usize = 64 * 1024 * 1024;

/// Names the key's owner, so that a test can see whose answer it got.
const OWNER: http::HeaderName = http::HeaderName::from_static("x-fake-owner");

/// Repeats the `Accept` that the call was made with.
const ASKED: http::HeaderName = http::HeaderName::from_static("x-fake-accept");

impl Call<'_> {
    fn read(&self, rest: &[&str]) -> Response<Body> {
        let admin_only = matches!(
            rest,
            ["api-keys", ..]
                | ["connections"]
                | ["connection-environments"]
                | ["user-attributes"]
                | ["users", "email-only"]
        );
        if admin_only && self.key.kind() != KeyKind::Organization {
            return answer::detail(StatusCode::FORBIDDEN, "Permission denied");
        }
        match *rest {
            ["whoami"] => self.whoami(),
            ["folders"] => lists::folders(self),
            ["documents"] => lists::documents(self),
            ["documents", identifier] => writes::document(self, identifier),
            ["documents", identifier, "queries"] => content::queries(self, identifier),
            ["models"] => lists::models(self),
            ["models", model, "topic"] => content::topics(self, model),
            ["models", model, "topic", name] => content::topic(self, model, name),
            ["content"] => lists::content(self),
            ["schedules"] => lists::schedules(self),
            ["uploads"] => lists::uploads(self),
            ["users", "email-only"] => lists::email_only(self),
            ["api-keys"] => lists::api_keys(self),
            ["api-keys", id] => match self.api_keys().iter().find(|key| key["id"] == id) {
                Some(key) => self.shown(key),
                None => generic::missing(self, id, "API key not found"),
            },
            ["labels"] => lists::labels(self),
            ["labels", name] => writes::label(self, name),
            ["connections"] => lists::connections(self),
            ["connection-environments"] => lists::environments(self),
            ["user-attributes"] => lists::attributes(self),
            ["dashboards", identifier, "download", _] => files::download(self, identifier),
            ["dashboards", _, "download", job, "status"] => files::status(self, job),
            _ => generic::answer(self),
        }
    }

    fn write(&self, method: &Method, rest: &[&str]) -> Response<Body> {
        match (method.as_str(), rest) {
            ("POST", ["labels"]) => writes::create_label(self),
            ("PUT", ["labels", name]) => writes::update_label(self, name),
            ("DELETE", ["labels", name]) => writes::delete_label(self, name),
            ("POST", ["folders"]) => writes::create_folder(self),
            ("DELETE", ["folders", id]) => writes::delete_folder(self, id),
            ("POST", ["documents"]) => writes::create_document(self),
            ("DELETE", ["documents", identifier]) => writes::delete_document(self, identifier),
            ("PUT", ["documents", identifier, "labels", name]) => {
                writes::tag(self, identifier, name, true)
            }
            ("DELETE", ["documents", identifier, "labels", name]) => {
                writes::tag(self, identifier, name, false)
            }
            ("DELETE", ["uploads", id]) => writes::delete_upload(self, id),
            ("POST", ["dashboards", _, "download"]) => files::order(self),
            ("POST", ["models", model, "suggestions", "generate"]) => writes::suggest(self, model),
            _ => generic::answer(self),
        }
    }

    /// What the instance holds, locked. Not to be kept over an await.
    pub(super) fn holdings(&self) -> MutexGuard<'_, Holdings> {
        hold(&self.omni.holdings)
    }

    /// A record with the name of the key's owner, and of whom it acts for, written into it.
    pub(super) fn signed(&self, record: &Value) -> Value {
        let mut record = record.clone();
        record["seenBy"] = self.key.owner().into();
        if let Some(user) = &self.acting_for {
            record["actingFor"] = user.as_str().into();
        }
        record
    }

    /// What a read shows: signed, with the revision of its area, and with what it was asked with.
    ///
    /// `?bytes=N` pads the body to N bytes; `?chunked` sends it without its length.
    pub(super) fn shown(&self, record: &Value) -> Response<Body> {
        let mut document = self.signed(record);
        if let Some(revision) = self.revision {
            document["revision"] = revision.into();
        }
        for (member, field) in [("asked", ACCEPT), ("language", ACCEPT_LANGUAGE)] {
            let mut values = self.head.headers.get_all(field).iter().peekable();
            if values.peek().is_some() {
                let texts = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
                document[member] = texts.collect::<Vec<_>>().join(", ").into();
            }
        }
        match self.query.get("bytes").map(str::parse) {
            None => {}
            Some(Ok(bytes)) if bytes <= MAX_PADDED => bodies::pad(&mut document, bytes),
            Some(_) => return answer::detail(StatusCode::BAD_REQUEST, "bytes: not a fit number"),
        }
        let mut answer = answer::json(StatusCode::OK, &document);
        if self.query.names().any(|name| name == "chunked") {
            *answer.body_mut() = bodies::undeclared(document.to_string());
        }
        answer
    }

    /// The keys as the list of keys shows them.
    pub(super) fn api_keys(&self) -> Vec<Value> {
        let keys = hold(&self.omni.keys).clone();
        let holdings = self.holdings();
        let shown = |key: &Key| {
            let kind = match key.kind() {
                KeyKind::Organization => "organization",
                KeyKind::Personal => "personal",
                KeyKind::Mcp => "mcp",
            };
            self.signed(&json!({
                "id": holdings.key_id(key.token()), "name": key.owner(), "type": kind,
                "enabled": true, "membershipId": holdings.membership(key.owner()),
                "createdAt": "2026-01-15T10:00:00.000Z",
            }))
        };
        keys.iter().map(shown).collect()
    }

    fn whoami(&self) -> Response<Body> {
        let (scope, role) = match self.key.kind() {
            KeyKind::Organization => ("organization", "ADMIN"),
            KeyKind::Personal | KeyKind::Mcp => ("user", "MEMBER"),
        };
        let membership = self.holdings().membership(self.key.owner());
        let document = json!({
            "keyScope": scope, "orgRole": role, "membershipId": membership, "rolesByModel": {},
        });
        answer::with_cookie(self.shown(&document))
    }
}

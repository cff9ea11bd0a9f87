//! The application behind the limit: which path is answered where.

use std::sync::MutexGuard;

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::holdings::Holdings;
use super::settings::{Key, KeyKind};
use super::text::{Query, segments};
use super::{Instance, answer, bearer, files, hold, lists, mcp, query, scim, writes};
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
}

/// Whether a path lies behind the check of the bearer.
pub(super) fn is_guarded(path: &str) -> bool {
    ["/api/v1", "/api/v2", "/api/unstable", "/api/scim", "/mcp"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
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
    let path = segments(head.uri.path());
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let query = Query::read(head.uri.query());
    // These two do not know `userId`.
    let acting_for = match path[..] {
        ["api", "v1", "models"] | ["api", "scim", ..] => Ok(None),
        _ => bearer::acting_for(key, &query, document, &hold(&omni.holdings)),
    };
    let call = match acting_for {
        Ok(acting_for) => Call { omni, head, key, query, document, acting_for },
        Err(unfit) => return unfit.answer(),
    };
    // HEAD is GET without the body, which hyper leaves out.
    let method = if head.method == Method::HEAD { &Method::GET } else { &head.method };
    let mut answer = match path[..] {
        ["api", "scim", "v2", ref rest @ ..] => scim::answer(&call, method, rest),
        ["api", "v1", "query", "run"] if *method == Method::POST => query::run(&call).await,
        ["api", "v1", "query", "wait"] if *method == Method::GET => query::wait(&call).await,
        ["mcp", "https"] => mcp::answer(&call, method),
        ["api", "v1", ref rest @ ..] if *method == Method::GET => call.read(rest),
        ["api", "v1", ref rest @ ..] => call.write(method, rest),
        _ => answer::not_found(),
    };
    let owner = HeaderValue::from_str(key.owner());
    answer.headers_mut().extend(owner.ok().map(|owner| (OWNER, owner)));
    answer
}

/// Names the key's owner, so that a test can see whose answer it got.
const OWNER: http::HeaderName = http::HeaderName::from_static("x-fake-owner");

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
            ["models"] => lists::models(self),
            ["content"] => lists::content(self),
            ["schedules"] => lists::schedules(self),
            ["uploads"] => lists::uploads(self),
            ["users", "email-only"] => lists::email_only(self),
            ["api-keys"] => lists::api_keys(self),
            ["api-keys", id] => match self.api_keys().iter().find(|key| key["id"] == id) {
                Some(key) => answer::json(StatusCode::OK, key),
                None => answer::detail(StatusCode::NOT_FOUND, "API key not found"),
            },
            ["labels"] => lists::labels(self),
            ["labels", name] => writes::label(self, name),
            ["connections"] => lists::connections(self),
            ["connection-environments"] => lists::environments(self),
            ["user-attributes"] => lists::attributes(self),
            ["dashboards", identifier, "download", _] => files::download(self, identifier),
            ["dashboards", _, "download", job, "status"] => files::status(job),
            _ => answer::not_found(),
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
            _ => answer::not_found(),
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
        answer::with_cookie(answer::json(StatusCode::OK, &self.signed(&document)))
    }
}

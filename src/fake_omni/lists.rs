//! Lists: pages behind a cursor, and whole ones.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer;
use super::api::Call;
use super::text::{base64url, from_base64url};
use crate::base::Body;

/// A list that is read page by page.
#[derive(Debug)]
struct Paged {
    /// The member that holds the page.
    member: &'static str,
    /// The member by which records are ordered and from which the cursor is made.
    key: &'static str,
    cursor: Cursor,
    max_page: usize,
    /// Query parameters that must equal a member of the record.
    filters: &'static [(&'static str, &'static str)],
    /// The only parameters that are accepted, where the schema is strict.
    strict: Option<&'static [&'static str]>,
}

/// How a cursor is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    /// JSON in base64url.
    Opaque,
    /// The last record's key as it is: an id or an e-mail address.
    Plain,
}

const MODEL_PARAMETERS: &[&str] = &[
    "baseModelId",
    "connectionId",
    "cursor",
    "include",
    "includeDeleted",
    "modelId",
    "modelKind",
    "name",
    "pageSize",
    "sortDirection",
    "sortField",
];

const PLAIN: Paged = Paged {
    member: "records",
    key: "id",
    cursor: Cursor::Opaque,
    max_page: 100,
    filters: &[],
    strict: None,
};
const FOLDERS: Paged = Paged { filters: &[("path", "path"), ("ownerId", "ownerId")], ..PLAIN };
const DOCUMENTS: Paged = Paged { key: "identifier", filters: &[("folderId", "folderId")], ..PLAIN };
const MODELS: Paged = Paged {
    filters: &[("modelId", "id"), ("name", "name"), ("modelKind", "modelKind")],
    strict: Some(MODEL_PARAMETERS),
    ..PLAIN
};
const CONTENT: Paged = Paged { key: "key", ..PLAIN };
const EMAIL_ONLY: Paged = Paged {
    member: "records",
    key: "email",
    cursor: Cursor::Plain,
    max_page: 20,
    filters: &[("email", "email")],
    strict: None,
};
const API_KEYS: Paged = Paged { cursor: Cursor::Plain, filters: &[("type", "type")], ..PLAIN };

pub(super) fn folders(call: &Call<'_>) -> Response<Body> {
    FOLDERS.page(call, &call.holdings().folders)
}

pub(super) fn documents(call: &Call<'_>) -> Response<Body> {
    DOCUMENTS.page(call, &call.holdings().documents)
}

pub(super) fn models(call: &Call<'_>) -> Response<Body> {
    MODELS.page(call, &call.holdings().models)
}

pub(super) fn content(call: &Call<'_>) -> Response<Body> {
    let records = call.holdings().content();
    CONTENT.page(call, &records)
}

pub(super) fn schedules(call: &Call<'_>) -> Response<Body> {
    PLAIN.page(call, &call.holdings().schedules)
}

pub(super) fn uploads(call: &Call<'_>) -> Response<Body> {
    PLAIN.page(call, &call.holdings().uploads)
}

pub(super) fn email_only(call: &Call<'_>) -> Response<Body> {
    EMAIL_ONLY.page(call, &call.holdings().email_only)
}

pub(super) fn api_keys(call: &Call<'_>) -> Response<Body> {
    let mut records = call.api_keys();
    records.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
    API_KEYS.page(call, &records)
}

pub(super) fn labels(call: &Call<'_>) -> Response<Body> {
    whole(call, "labels", &call.holdings().counted_labels())
}

pub(super) fn connections(call: &Call<'_>) -> Response<Body> {
    whole(call, "connections", &call.holdings().connections)
}

pub(super) fn environments(call: &Call<'_>) -> Response<Body> {
    whole(call, "records", &call.holdings().environments)
}

pub(super) fn attributes(call: &Call<'_>) -> Response<Body> {
    whole(call, "records", &call.holdings().attributes)
}

/// A list behind a cursor of which no more is known than the member that holds its records.
pub(super) fn pages(call: &Call<'_>, member: &'static str, records: &[Value]) -> Response<Body> {
    Paged { member, ..PLAIN }.page(call, records)
}

/// A list that is not paged.
pub(super) fn whole(call: &Call<'_>, member: &str, records: &[Value]) -> Response<Body> {
    let records: Vec<Value> = records.iter().map(|record| call.signed(record)).collect();
    answer::with_cookie(call.shown(&json!({ member: records })))
}

impl Paged {
    /// The page that a call asks for. Records lie in ascending order of their key.
    fn page(&self, call: &Call<'_>, records: &[Value]) -> Response<Body> {
        let query = &call.query;
        if let Some(known) = self.strict
            && let Some(stranger) = query.names().find(|name| !known.contains(name))
        {
            let message = format!("Unrecognized key(s) in object: '{stranger}'");
            return answer::detail(StatusCode::BAD_REQUEST, &message);
        }
        let size = match query.get("pageSize").map(str::parse) {
            None => 20,
            Some(Ok(size)) if (1..=self.max_page).contains(&size) => size,
            Some(_) => {
                let message = format!("pageSize: must be between 1 and {}", self.max_page);
                return answer::detail(StatusCode::BAD_REQUEST, &message);
            }
        };
        let after = match query.get("cursor").map(|cursor| self.read(cursor)) {
            None => String::new(),
            Some(Some(after)) => after,
            Some(None) if self.strict.is_some() => {
                let document = json!({ "error": "Invalid cursor", "success": false });
                return answer::json(StatusCode::BAD_REQUEST, &document);
            }
            Some(None) => return answer::detail(StatusCode::BAD_REQUEST, "Invalid cursor"),
        };
        let wanted: Vec<&Value> = records
            .iter()
            .filter(|record| {
                let equal = |&(name, member): &(&str, &str)| {
                    query.get(name).is_none_or(|value| record[member] == value)
                };
                self.filters.iter().all(equal)
            })
            .collect();
        let start = wanted.partition_point(|record| self.key_of(record) <= after.as_str());
        let rest = &wanted[start..];
        let page = &rest[..size.min(rest.len())];
        let more = rest.len() > page.len();
        let next = page.last().filter(|_| more).map(|last| self.write(self.key_of(last)));
        let records: Vec<Value> = page.iter().map(|record| call.signed(record)).collect();
        let document = json!({
            "pageInfo": {
                "hasNextPage": more, "nextCursor": next,
                "pageSize": size, "totalRecords": wanted.len(),
            },
            self.member: records,
        });
        answer::with_cookie(call.shown(&document))
    }

    fn key_of<'a>(&self, record: &'a Value) -> &'a str {
        record[self.key].as_str().unwrap_or_default()
    }

    fn write(&self, last: &str) -> String {
        match self.cursor {
            Cursor::Opaque => base64url(json!({ "after": last }).to_string().as_bytes()),
            Cursor::Plain => last.to_owned(),
        }
    }

    fn read(&self, cursor: &str) -> Option<String> {
        match self.cursor {
            Cursor::Opaque => {
                let document: Value = serde_json::from_slice(&from_base64url(cursor)?).ok()?;
                document["after"].as_str().map(str::to_owned)
            }
            Cursor::Plain => cursor.contains(['-', '@']).then(|| cursor.to_owned()),
        }
    }
}

//! SCIM: users and groups, for organization keys only.

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::api::Call;
use super::holdings::Kind;
use super::settings::KeyKind;
use super::{answer, generic, writes};
use crate::base::Body;

const MISSING: &str = "Resource not found";

/// Answers below `/api/scim/v2`. `rest` is what follows; its collection's letter case is free.
pub(super) fn answer(call: &Call<'_>, method: &Method, rest: &[&str]) -> Response<Body> {
    match call.key.kind() {
        KeyKind::Organization => {}
        KeyKind::Personal | KeyKind::Mcp => {
            let message = "User-scoped API keys are not allowed to access the SCIM API.";
            return answer::detail(StatusCode::FORBIDDEN, message);
        }
    }
    let Some((collection, rest)) = rest.split_first() else { return answer::not_found() };
    match (method.as_str(), collection.to_ascii_lowercase().as_str(), rest) {
        ("GET", "users", []) => list(call, &call.holdings().users),
        ("GET", "groups", []) => list(call, &call.holdings().groups),
        ("POST", "users", []) => create(call),
        ("POST", "groups", []) => create_group(call),
        ("PUT", "users", [id]) => {
            let replaced = replace(call, id, &mut call.holdings().users);
            replaced.unwrap_or_else(|| generic::missing(call, id, MISSING))
        }
        ("PUT", "groups", [id]) => {
            let replaced = replace(call, id, &mut call.holdings().groups);
            replaced.unwrap_or_else(|| generic::missing(call, id, MISSING))
        }
        ("DELETE", "users", [id]) => {
            let removed = writes::remove(&mut call.holdings().users, "id", id);
            match removed {
                Some(_) => answer::empty(StatusCode::NO_CONTENT),
                None => generic::missing(call, id, MISSING),
            }
        }
        _ => generic::answer(call),
    }
}

pub(super) fn list(call: &Call<'_>, records: &[Value]) -> Response<Body> {
    let number = |name, default| match call.query.get(name).map(str::parse::<f64>) {
        None => Some(default),
        // A number below the least legal value counts as that value (RFC 7644 section 3.4.2.4).
        Some(Ok(number)) => Some(number.max(0.0) as usize),
        Some(Err(_)) => None,
    };
    let (Some(start), Some(count)) = (number("startIndex", 1), number("count", 100)) else {
        return answer::detail(StatusCode::BAD_REQUEST, "startIndex and count must be numbers");
    };
    let wanted: Vec<&Value> = match call.query.get("filter").map(read_filter) {
        None => records.iter().collect(),
        Some(Some(fits)) => records.iter().filter(|record| fits(record)).collect(),
        Some(None) => return answer::detail(StatusCode::BAD_REQUEST, "Unsupported filter"),
    };
    let first = start.max(1) - 1;
    let page: Vec<Value> =
        wanted.iter().skip(first).take(count).map(|record| call.signed(record)).collect();
    let document = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": wanted.len(), "startIndex": first + 1, "itemsPerPage": page.len(),
        "Resources": page,
    });
    call.shown(&document)
}

/// `userName eq "…"` and `userName co "…"`.
fn read_filter(text: &str) -> Option<impl Fn(&Value) -> bool> {
    let mut words = text.splitn(3, ' ');
    let (member, operator, value) = (words.next()?, words.next()?, words.next()?);
    let value = value.strip_prefix('"')?.strip_suffix('"')?.to_owned();
    let contains = match operator {
        "eq" => false,
        "co" => true,
        _ => return None,
    };
    let member = member.to_owned();
    Some(move |record: &Value| {
        let text = record[member.as_str()].as_str().unwrap_or_default();
        if contains { text.contains(&value) } else { text == value }
    })
}

fn create(call: &Call<'_>) -> Response<Body> {
    let Some(name) = call.document["userName"].as_str() else {
        return answer::detail(StatusCode::BAD_REQUEST, "userName: Required");
    };
    let mut holdings = call.holdings();
    if holdings.users.iter().any(|user| user["userName"] == name) {
        return answer::detail(StatusCode::CONFLICT, "User already exists");
    }
    let mut user = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "id": holdings.fresh(Kind::User), "userName": name,
        "displayName": call.document["displayName"], "active": true,
    });
    put(&mut user, call.document);
    holdings.users.push(user.clone());
    answer::json(StatusCode::CREATED, &user)
}

fn create_group(call: &Call<'_>) -> Response<Body> {
    let Some(name) = call.document["displayName"].as_str() else {
        return answer::detail(StatusCode::BAD_REQUEST, "displayName: Required");
    };
    let mut holdings = call.holdings();
    if holdings.groups.iter().any(|group| group["displayName"] == name) {
        return answer::detail(StatusCode::CONFLICT, "Group already exists");
    }
    let mut group = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
        "id": holdings.fresh(Kind::Group), "members": [],
    });
    put(&mut group, call.document);
    holdings.groups.push(group.clone());
    answer::json(StatusCode::CREATED, &group)
}

/// Gives a record what the body says of it, but for its id (RFC 7644 section 3.5.1).
fn replace(call: &Call<'_>, id: &str, records: &mut [Value]) -> Option<Response<Body>> {
    let record = records.iter_mut().find(|record| record["id"] == id)?;
    put(record, call.document);
    Some(answer::json(StatusCode::OK, record))
}

/// What a client may say of a user or a group.
const ITS_OWN: [&str; 6] =
    ["active", "displayName", "emails", "members", "urn:omni:params:1.0:UserAttribute", "userName"];

fn put(record: &mut Value, document: &Value) {
    for member in ITS_OWN {
        if let Some(value) = document.get(member) {
            record[member] = value.clone();
        }
    }
}

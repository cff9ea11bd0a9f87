//! Endpoints of which no more is known than which area they show or change.

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::answer;
use super::api::Call;
use super::areas::{Deed, Known, Shape};
use super::holdings::{self, Kind};
use super::{lists, scim};
use crate::base::Body;

/// Answers a call to a known endpoint. An id that is not of the fake's own form stands for a thing
/// that exists; one of its own form does only where it is held.
pub(super) fn answer(call: &Call<'_>) -> Response<Body> {
    let Some(known) = &call.known else { return answer::not_found() };
    match known.deed {
        Deed::Show(_, Shape::Item) => item(call, known),
        Deed::Show(_, Shape::Whole(member)) => lists::whole(call, member, &records(call, 3)),
        Deed::Show(_, Shape::Cursor(member)) => lists::pages(call, member, &records(call, 25)),
        Deed::Show(_, Shape::Scim) => scim::list(call, &records(call, 25)),
        Deed::Change(_) => write(call, known),
    }
}

/// The answer to a call about a thing that the fake does not hold.
pub(super) fn missing(call: &Call<'_>, id: &str, otherwise: &str) -> Response<Body> {
    match holdings::is_ours(id) {
        true => answer::detail(StatusCode::NOT_FOUND, otherwise),
        false => answer(call),
    }
}

fn records(call: &Call<'_>, usual: u64) -> Vec<Value> {
    let settings = &call.omni.settings;
    let record = |n| {
        json!({
            "id": holdings::id_of(settings.seed, Kind::Other, n), "name": format!("Record {n}"),
        })
    };
    (0..settings.records.unwrap_or(usual)).map(record).collect()
}

fn item(call: &Call<'_>, known: &Known) -> Response<Body> {
    let id = known.path.last().map_or("", String::as_str);
    let held = {
        let mut holdings = call.holdings();
        let table = known.template.strip_suffix("/{}").and_then(|list| holdings.table(list));
        table.map(|table| table.records.iter().find(|record| record[table.key] == id).cloned())
    };
    match held {
        Some(Some(record)) => call.shown(&record),
        Some(None) if holdings::is_ours(id) => {
            answer::detail(StatusCode::NOT_FOUND, "Resource not found")
        }
        Some(None) | None => call.shown(&json!({ "id": id, "name": format!("The one of {id}") })),
    }
}

/// Makes, renames or removes the record, where the fake holds such records, and is content in any
/// other case.
fn write(call: &Call<'_>, known: &Known) -> Response<Body> {
    let id = known.path.last().map_or("", String::as_str);
    let name = call.document["name"].as_str().or(call.document["displayName"].as_str());
    let mut holdings = call.holdings();
    if call.head.method == Method::POST {
        let made = holdings.add(known.template, name.unwrap_or("unnamed"));
        return done(call, made.as_deref().unwrap_or(id));
    }
    let table = known.template.strip_suffix("/{}").and_then(|list| holdings.table(list));
    let Some(table) = table else { return done(call, id) };
    let Some(at) = table.records.iter().position(|record| record[table.key] == id) else {
        return match holdings::is_ours(id) {
            true => answer::detail(StatusCode::NOT_FOUND, "Resource not found"),
            false => done(call, id),
        };
    };
    if call.head.method == Method::DELETE {
        table.records.remove(at);
    } else if let Some(name) = name {
        let record = &mut table.records[at];
        for member in ["name", "displayName"] {
            if !record[member].is_null() {
                record[member] = name.into();
            }
        }
    }
    done(call, id)
}

fn done(call: &Call<'_>, id: &str) -> Response<Body> {
    answer::json(StatusCode::OK, &call.signed(&json!({ "success": true, "id": id })))
}

//! What is in models and documents, as far as those read it who crawl for metadata: topics with their
//! views and fields, and the queries behind a document's tiles.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::api::Call;
use super::{answer, generic, holdings};
use crate::base::Body;

/// A view: its name, its dimensions with their types, and its measures with their SQL.
type View = (&'static str, &'static [(&'static str, &'static str)], &'static [Measure]);
type Measure = (&'static str, &'static str);

const ORDERS: View = (
    "orders",
    &[("id", "NUMBER"), ("customer_id", "NUMBER"), ("status", "STRING"), ("amount", "NUMBER")],
    &[("count", "COUNT(*)"), ("total", "SUM(${orders.amount})")],
);
const CUSTOMERS: View = (
    "customers",
    &[("id", "NUMBER"), ("name", "STRING"), ("country", "STRING")],
    &[("count", "COUNT(*)")],
);
const PRODUCTS: View =
    ("products", &[("sku", "STRING"), ("category", "STRING")], &[("count", "COUNT(*)")]);

/// Topics of every model, each with its views; the first is the one it is based on.
const TOPICS: [(&str, &[View]); 2] =
    [("order_facts", &[ORDERS, CUSTOMERS]), ("catalog", &[PRODUCTS])];

/// What a document's tiles ask for: of which topic, and which fields.
const TILES: [(&str, &[&str]); 2] = [
    ("order_facts", &["orders.status", "orders.count", "customers.country"]),
    ("catalog", &["products.category", "products.count"]),
];

const NO_MODEL: &str = "Model not found";

/// The topics of a model, without their views.
pub(super) fn topics(call: &Call<'_>, model: &str) -> Response<Body> {
    if !is_held(call, model) {
        return generic::missing(call, model, NO_MODEL);
    }
    let topics = TOPICS.map(|(name, views)| call.signed(&outline(name, views)));
    call.shown(&json!({ "success": true, "topics": topics }))
}

/// One topic of a model, whole.
pub(super) fn topic(call: &Call<'_>, model: &str, name: &str) -> Response<Body> {
    if !is_held(call, model) {
        return generic::missing(call, model, NO_MODEL);
    }
    let Some((name, views)) = TOPICS.iter().find(|(known, _)| *known == name) else {
        return answer::detail(StatusCode::NOT_FOUND, "Topic not found");
    };
    let mut topic = outline(name, views);
    topic["views"] = views.iter().map(view).collect();
    topic["relationships"] = json!([]);
    call.shown(&json!({ "success": true, "topic": topic }))
}

/// The queries of a document.
pub(super) fn queries(call: &Call<'_>, identifier: &str) -> Response<Body> {
    let held = {
        let holdings = call.holdings();
        holdings.documents.iter().any(|document| document["identifier"] == identifier)
    };
    if !held {
        return generic::missing(call, identifier, "Document not found");
    }
    let queries: Vec<Value> = tiles(call, identifier)
        .map(|tile| {
            let url = format!("https://acme.omniapp.co/w/{identifier}?key={}", tile["id"]);
            call.signed(&json!({
                "id": tile["id"], "name": tile["name"], "query": tile["query"], "url": url,
            }))
        })
        .collect();
    call.shown(&json!({ "queries": queries }))
}

/// A document as a call for it alone shows it: with its model and, where it has a dashboard, the tiles.
pub(super) fn opened(call: &Call<'_>, mut document: Value) -> Value {
    let identifier = document["identifier"].as_str().unwrap_or_default().to_owned();
    document["modelId"] = model_of(call, &identifier).into();
    document["queryPresentations"] = match document["hasDashboard"] == true {
        true => tiles(call, &identifier).collect(),
        false => json!([]),
    };
    document
}

fn is_held(call: &Call<'_>, model: &str) -> bool {
    holdings::is_ours(model) && call.holdings().models.iter().any(|one| one["id"] == model)
}

/// The model that a document is built on: one of those that are held, if there are any.
fn model_of(call: &Call<'_>, identifier: &str) -> Option<String> {
    let holdings = call.holdings();
    let nth = crc32fast::hash(identifier.as_bytes()) as usize;
    let model = holdings.models.get(nth.checked_rem(holdings.models.len())?)?;
    model["id"].as_str().map(str::to_owned)
}

fn tiles(call: &Call<'_>, identifier: &str) -> impl Iterator<Item = Value> {
    let model = model_of(call, identifier);
    let tile = move |(number, (topic, fields)): (usize, (&str, &[&str]))| {
        json!({
            "id": format!("{identifier}-{number}"), "name": format!("Tile {number}"),
            "topicName": topic,
            "query": {
                "modelId": model, "fields": fields, "limit": 1000,
                "join_paths_from_topic_name": topic, "table": fields[0].split('.').next(),
            },
        })
    };
    let tiles: Vec<Value> = (1..).zip(TILES).map(tile).collect();
    tiles.into_iter()
}

fn outline(name: &str, views: &[View]) -> Value {
    json!({
        "name": name, "label": name.replace('_', " "), "hidden": false,
        "base_view_name": views.first().map(|(view, ..)| view),
    })
}

fn view((name, dimensions, measures): &View) -> Value {
    let dimension = |(field, kind): &(&str, &str)| {
        json!({
            "view_name": name, "field_name": field, "fully_qualified_name": format!("{name}.{field}"),
            "data_type": kind, "description": format!("The {field} of {name}."),
        })
    };
    let measure = |(field, sql): &Measure| {
        json!({
            "view_name": name, "field_name": field, "fully_qualified_name": format!("{name}.{field}"),
            "data_type": "NUMBER", "display_sql": sql,
        })
    };
    json!({
        "name": name, "schema": "public", "table_name": name,
        "dimensions": dimensions.iter().map(dimension).collect::<Vec<_>>(),
        "measures": measures.iter().map(measure).collect::<Vec<_>>(),
    })
}

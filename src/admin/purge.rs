//! `POST /-/cache/purge`, for all that is kept or for one route.

use http::{Response, StatusCode};
use serde_json::json;

use crate::admin::{self, Desk, NoSuchRoute, Purged};
use crate::base::{Body, RouteId};

/// Nothing, or `route=NAME`; a slip must not take everything along.
pub(super) async fn answer(query: Option<&str>, desk: &dyn Desk) -> Response<Body> {
    let route = match query.map(name) {
        None => None,
        Some(Some(name)) => Some(RouteId::new(name)),
        Some(None) => {
            let detail = "The query is `route=NAME`; without a query all that is kept goes.";
            return admin::problem(StatusCode::BAD_REQUEST, "bad-request", detail);
        }
    };
    match desk.purge(route.clone()).await {
        Ok(Purged { entries }) => {
            let route = route.as_ref().map(RouteId::as_str);
            admin::document(StatusCode::OK, &json!({ "route": route, "entries": entries }))
        }
        Err(NoSuchRoute { known }) => {
            let known: Vec<&str> = known.iter().map(RouteId::as_str).collect();
            let body = json!({
                "type": "urn:omnigate:problem:no-such-route",
                "status": 404,
                "detail": format!("There is no such route; there are: {}.", known.join(", ")),
                "routes": known,
            });
            admin::answer(StatusCode::NOT_FOUND, "application/problem+json", body.to_string())
        }
    }
}

/// The route that a query names. Names of routes need no escapes.
fn name(query: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    query.strip_prefix("route=").filter(|name| !name.is_empty() && name.chars().all(plain))
}

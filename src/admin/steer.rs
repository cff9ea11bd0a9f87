//! `POST /-/pause`, `/-/resume` and `/-/log`: what operators change while it runs. Each change is in the
//! log, so that the next operator finds out why nothing moves.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use tracing::{Level, enabled, warn};

use super::query::{self, BadQuery};
use super::{Desk, NoSuchBudget, answer, document, problem};
use crate::base::{Body, BudgetId, Peer};
use crate::telemetry::{self, BadFilter};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unchanged {
    #[error(transparent)]
    Query(#[from] BadQuery),
    #[error(transparent)]
    Filter(#[from] BadFilter),
    #[error("there is no such budget")]
    Budget(NoSuchBudget),
}

impl From<NoSuchBudget> for Unchanged {
    fn from(none: NoSuchBudget) -> Self {
        Self::Budget(none)
    }
}

impl Unchanged {
    pub(super) fn answer(&self) -> Response<Body> {
        match self {
            Self::Query(_) | Self::Filter(_) => problem(
                StatusCode::BAD_REQUEST,
                "bad-request",
                &format!("Nothing changed: {self}."),
            ),
            Self::Budget(NoSuchBudget { known }) => {
                let known: Vec<&str> = known.iter().map(BudgetId::as_str).collect();
                let body = json!({
                    "type": "urn:omnigate:problem:no-such-budget",
                    "status": 404,
                    "detail": format!("There is no such budget; there are: {}.", known.join(", ")),
                    "budgets": known,
                });
                answer(StatusCode::NOT_FOUND, "application/problem+json", body.to_string())
            }
        }
    }
}

/// `budget=NAME` and `for=10m`, or one of them, or nothing: then all that is sent stops, until somebody
/// resumes.
pub(super) fn pause(
    query: Option<&str>,
    desk: &dyn Desk,
    peer: &Peer,
) -> Result<Response<Body>, Unchanged> {
    let [budget, time] = query::read(query, ["budget", "for"])?;
    let time = time.as_deref().map(query::time).transpose()?;
    let budget = budget.map(BudgetId::new);
    desk.pause(budget.as_ref(), time)?;
    let (name, ends_in_s) =
        (budget.as_ref().map(BudgetId::as_str), time.map(|it| it.as_secs_f64()));
    warn!(peer = %peer.remote, budget = name, ends_in_s, "paused by an operator");
    Ok(paused(budget.as_ref(), desk))
}

/// `budget=NAME`, or nothing: then everything goes on.
pub(super) fn resume(
    query: Option<&str>,
    desk: &dyn Desk,
    peer: &Peer,
) -> Result<Response<Body>, Unchanged> {
    let [budget] = query::read(query, ["budget"])?;
    let budget = budget.map(BudgetId::new);
    desk.resume(budget.as_ref())?;
    let name = budget.as_ref().map(BudgetId::as_str);
    warn!(peer = %peer.remote, budget = name, "resumed by an operator");
    Ok(paused(budget.as_ref(), desk))
}

/// Which budget was meant, and every one that is paused now, by whomever.
fn paused(budget: Option<&BudgetId>, desk: &dyn Desk) -> Response<Body> {
    let budgets = desk.status().budgets;
    let paused = budgets.iter().filter_map(|one| {
        let paused = one.paused.as_ref()?;
        Some(json!({
            "budget": one.budget,
            "credential": one.credential,
            "by": paused.by,
            "ends_in_s": paused.ends_in_s,
        }))
    });
    let paused: Vec<Value> = paused.collect();
    let name = budget.map(BudgetId::as_str);
    document(StatusCode::OK, &json!({ "budget": name, "paused": paused }))
}

/// `filter=FILTER`, or nothing: then that of the config.
pub(super) fn log(
    query: Option<&str>,
    desk: &dyn Desk,
    peer: &Peer,
) -> Result<Response<Body>, Unchanged> {
    let [filter] = query::read(query, ["filter"])?;
    if let Some(filter) = &filter {
        telemetry::check_filter(filter)?;
    }
    // Said while it can be heard: before or after the change.
    let peer = peer.remote.to_string();
    let wanted = filter.as_deref().unwrap_or("that of the config");
    let heard = enabled!(Level::WARN);
    if heard {
        warn!(peer, filter = wanted, "log filter changed by an operator");
    }
    let now = desk.set_log(filter.as_deref())?;
    if !heard {
        warn!(peer, filter = wanted, "log filter changed by an operator");
    }
    Ok(document(StatusCode::OK, &json!({ "log": now })))
}

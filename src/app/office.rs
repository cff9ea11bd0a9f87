//! What operators see and do, read off the rooms.

mod fleet;
mod status;
mod wall;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::admin::{
    CredentialView, Desk, KeyAnswer, NoAnswer, NoSuchBudget, NoSuchRoute, Purged, Readiness,
    Reason, Status,
};
use crate::app::gauges::Certified;
use crate::app::{Reread, Rooms};
use crate::base::{BudgetId, CredentialId, RouteId};
use crate::credential::{Credential, State};
use crate::omni::KeyScope;
use crate::proxy::{BadCall, Call, Explanation, WhoamiError};
use crate::server::Server;
use crate::telemetry::{self, BadFilter, Exposition, Viewer};

pub(super) use fleet::{gauges, keeps_from_serving};
pub(super) use status::Named;

/// What the admin listeners show and do.
pub(super) struct Office {
    pub(super) rooms: Rooms,
    pub(super) callers: Server,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) reread: Reread,
    pub(super) certified: Vec<Certified>,
}

impl Desk for Office {
    fn readiness(&self) -> Readiness {
        let ends = self.draining.load(Ordering::Relaxed).then_some(Reason::Draining);
        let credentials = self.rooms.credentials.iter().map(|one| view(one)).collect();
        Readiness { reasons: ends.into_iter().chain(self.rooms.reasons()).collect(), credentials }
    }

    fn metrics(&self, form: Exposition) -> String {
        self.rooms.telemetry.metrics.render(&self.gauges(), form)
    }

    fn reload(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.reread.clone().now())
    }

    fn test_key(&self, id: CredentialId) -> BoxFuture<'static, Result<KeyAnswer, NoAnswer>> {
        let custody = self.rooms.custody.clone();
        Box::pin(async move {
            match custody.whoami(&id).await {
                Ok(answer) => Ok(KeyAnswer {
                    status: answer.status.as_u16(),
                    accepted: answer.status.is_success(),
                    refused: answer.refused,
                    sha256: answer.fingerprint,
                    key_scope: answer.scope.map(KeyScope::as_str),
                }),
                Err(WhoamiError::Unknown(_)) => Err(NoAnswer::Unknown),
                Err(error) => {
                    Err(NoAnswer::Because { why: error.to_string(), sent: error.was_sent() })
                }
            }
        })
    }

    fn purge(&self, route: Option<RouteId>) -> BoxFuture<'static, Result<Purged, NoSuchRoute>> {
        let proxy = self.rooms.proxy.clone();
        Box::pin(async move {
            match proxy.purge(route.as_ref()).await {
                Ok(entries) => Ok(Purged { entries: Some(entries) }),
                Err(known) => Err(NoSuchRoute { known }),
            }
        })
    }

    fn views(&self) -> Viewer {
        self.rooms.telemetry.metrics.views()
    }

    fn status(&self) -> Status {
        self.facts()
    }

    fn pause(&self, budget: Option<&BudgetId>, time: Option<Duration>) -> Result<(), NoSuchBudget> {
        self.known(budget)?;
        self.rooms.shaper.pause(budget, time);
        Ok(())
    }

    fn resume(&self, budget: Option<&BudgetId>) -> Result<(), NoSuchBudget> {
        self.known(budget)?;
        self.rooms.shaper.resume(budget);
        Ok(())
    }

    fn explain(&self, call: Call) -> BoxFuture<'static, Result<Explanation, BadCall>> {
        let (rooms, draining) = (self.rooms.clone(), self.draining.clone());
        Box::pin(async move {
            let mut said = rooms.explain(call).await?;
            if let Some(now) = &mut said.now {
                now.draining = draining.load(Ordering::Relaxed);
            }
            Ok(said)
        })
    }

    fn log_filter(&self) -> String {
        telemetry::log_filter()
    }

    fn set_log(&self, filter: Option<&str>) -> Result<String, BadFilter> {
        telemetry::set_log(filter)
    }
}

impl Office {
    /// Says no to a budget that is not there.
    fn known(&self, budget: Option<&BudgetId>) -> Result<(), NoSuchBudget> {
        let shaper = &self.rooms.shaper;
        if budget.is_none_or(|budget| shaper.budget(budget).is_some()) {
            return Ok(());
        }
        Err(NoSuchBudget { known: shaper.budgets().iter().map(|one| one.id.clone()).collect() })
    }
}

fn view(credential: &Credential) -> CredentialView {
    let state = credential.state();
    let trouble = match &state {
        State::Stale { why, .. } | State::Missing { why } => Some(why.to_string()),
        State::Ready { .. } | State::Rejected { .. } => None,
    };
    let (id, age) = (credential.id().clone(), credential.age());
    CredentialView { id, state: state.as_str(), age, trouble }
}

//! What was said: the router and, for each route, what it stands for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderName, Method};
use tokio::time::Instant;

use crate::base::{BudgetId, CredentialId, Priority, RouteId};
use crate::cache::{Cache, Lifetime, RouteMark, Rule};
use crate::credential::{Credential, Credentials, Generation, Unavailable};
use crate::omni;
use crate::policy::Policy;
use crate::proxy::error::Error;
use crate::proxy::exchange::X_REQUEST_ID;
use crate::proxy::retry::RetryBudget;
use crate::proxy::sought::TRACES;
use crate::route::{CanonicalPath, Collision, Found, Methods, Pattern, Rival, Router};
use crate::saver::Savers;
use crate::shape::{Key, LaneId, Shaper};
use crate::telemetry::{Metrics, RouteSeries};

/// One `[[routes]]` entry, its names resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// Its name.
    pub id: RouteId,
    /// Which paths it takes.
    pub pattern: Pattern,
    /// Which methods it takes.
    pub methods: Methods,
    /// Whose bearer may be attached: one key, or a pool of which each call gets one. Never empty.
    pub keys: Vec<Key>,
    /// How urgent its calls are, where the route says so.
    pub priority: Option<Priority>,
    /// How long its calls wait for their turn, where the route says so.
    pub max_wait: Option<Duration>,
    /// From the last request byte to the response head, where the route says so.
    pub response_timeout: Option<Duration>,
    /// What it lets through.
    pub policy: Policy,
    /// How its answers are kept, where they are.
    pub cache: Option<Rule>,
    /// How it has fewer calls made, where it does.
    pub savers: Savers,
}

impl RouteSettings {
    /// Whether it takes calls that reach keys, people and what they may see: it says so, or its path is
    /// one of theirs.
    pub fn takes_sensitive(&self) -> bool {
        self.policy.sensitive || names_sensitive(&self.pattern)
    }
}

/// What was said: replaced whole by a reload, loaded once per exchange.
#[derive(Debug)]
pub struct Plan {
    router: Router,
    /// In the order of the router's indices.
    routes: Vec<Arc<PlannedRoute>>,
}

/// One route with everything that it stands for at hand.
#[derive(Debug)]
pub(crate) struct PlannedRoute {
    pub(crate) id: RouteId,
    /// Which paths it takes, as it was written.
    pub(crate) template: Arc<str>,
    /// Which methods it takes.
    pub(crate) methods: Methods,
    /// One key, or those of a pool. Never empty.
    credentials: Vec<Arc<Credential>>,
    /// Where its calls wait.
    pub(crate) lane: LaneId,
    /// What its calls are charged to; nothing for paths outside Omni's limit.
    pub(crate) budgets: Vec<Quota>,
    pub(crate) priority: Option<Priority>,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) response_timeout: Option<Duration>,
    pub(crate) policy: Policy,
    /// How its answers are kept, where they are.
    pub(crate) keeps: Option<Keeps>,
    pub(crate) savers: Savers,
    pub(crate) series: RouteSeries,
    retries: Mutex<RetryBudget>,
}

/// How a route's answers are kept.
#[derive(Debug)]
pub(crate) struct Keeps {
    pub(crate) rule: Rule,
    pub(crate) mark: RouteMark,
}

/// A budget as callers are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) budget: BudgetId,
    pub(crate) limit: u32,
    pub(crate) window: Duration,
}

impl PlannedRoute {
    pub(crate) fn is_pool(&self) -> bool {
        self.credentials.len() > 1
    }

    pub(crate) fn credentials(&self) -> &[Arc<Credential>] {
        &self.credentials
    }

    /// The credential that a permit was granted for. A permit's key is one of the route's.
    pub(crate) fn credential(&self, id: &CredentialId) -> &Arc<Credential> {
        let one = self.credentials.iter().find(|credential| credential.id() == id);
        one.unwrap_or(&self.credentials[0])
    }

    /// Its keys, each with the value that it has now; `None` while no call can go with any of them.
    pub(crate) fn keys_now(&self) -> Option<Vec<(CredentialId, Generation)>> {
        let turn = |one: &Arc<Credential>| (one.id().clone(), one.generation());
        let usable = self.credentials.iter().any(|one| one.is_usable());
        usable.then(|| self.credentials.iter().map(turn).collect())
    }

    /// Whether any of its keys has a value.
    pub(crate) fn any_bearer(&self) -> Result<(), Unavailable> {
        let mut missing = None;
        for credential in &self.credentials {
            match credential.bearer() {
                Ok(_) => return Ok(()),
                Err(unavailable) => missing = missing.or(Some(unavailable)),
            }
        }
        missing.map_or(Ok(()), Err)
    }

    pub(crate) fn retries(&self) -> MutexGuard<'_, RetryBudget> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A route names something that the running rooms do not have.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No such credential.
    #[error("route `{route}` names the credential `{credential}`, which is not there")]
    Credential {
        /// The route.
        route: RouteId,
        /// What it names.
        credential: CredentialId,
    },
    /// No such budget.
    #[error("route `{route}` names the budget `{budget}`, which is not there")]
    Budget {
        /// The route.
        route: RouteId,
        /// What it names.
        budget: BudgetId,
    },
    /// A route without a key.
    #[error("route `{route}` names no credential")]
    NoKey {
        /// The route.
        route: RouteId,
    },
    /// Two routes take the same calls.
    #[error("{0}")]
    Collision(Collision),
}

impl Plan {
    /// Ties routes to the rooms that serve them.
    ///
    /// # Errors
    /// [`PlanError`], when a name stands for nothing; a resolved config never brings one.
    pub fn new(
        routes: Vec<RouteSettings>,
        credentials: &Credentials,
        shaper: &Shaper,
        cache: &Cache,
        metrics: &Metrics,
    ) -> Result<Self, PlanError> {
        let table =
            routes.iter().map(|r| (r.id.clone(), r.pattern.clone(), r.methods.clone())).collect();
        let router = Router::new(table)
            .map_err(|mut collisions| PlanError::Collision(collisions.swap_remove(0)))?;
        let tie = |mut route: RouteSettings| {
            route.policy.sensitive = route.takes_sensitive();
            let credential = |key: &Key| {
                credentials.get(&key.credential).ok_or_else(|| PlanError::Credential {
                    route: route.id.clone(),
                    credential: key.credential.clone(),
                })
            };
            let quota = |budget: &BudgetId| {
                let settings = shaper.budget(budget).ok_or_else(|| PlanError::Budget {
                    route: route.id.clone(),
                    budget: budget.clone(),
                })?;
                let (limit, window) = (settings.limit.get(), settings.window);
                Ok(Quota { budget: budget.clone(), limit, window })
            };
            let credentials = route.keys.iter().map(credential).collect::<Result<Vec<_>, _>>()?;
            let paying: BTreeSet<&BudgetId> =
                route.keys.iter().flat_map(|key| &key.budgets).collect();
            let budgets = paying.into_iter().map(quota).collect::<Result<Vec<Quota>, _>>()?;
            let lane = shaper.lane(&route.keys);
            Ok(Arc::new(PlannedRoute {
                series: {
                    let budget = budgets.first().map(|quota| &quota.budget);
                    metrics.route(&route.id, budget, route.cache.is_some())
                },
                keeps: route.cache.map(|rule| keeps(rule, &route.policy, &route.id, cache)),
                lane: lane.ok_or_else(|| PlanError::NoKey { route: route.id.clone() })?,
                id: route.id,
                template: route.pattern.as_str().into(),
                methods: route.methods,
                credentials,
                budgets,
                priority: route.priority,
                max_wait: route.max_wait,
                response_timeout: route.response_timeout,
                policy: route.policy,
                savers: route.savers,
                retries: Mutex::new(RetryBudget::new(Instant::now())),
            }))
        };
        let routes = routes.into_iter().map(tie).collect::<Result<_, PlanError>>()?;
        Ok(Self { router, routes })
    }

    /// The routes that take the path and not the call, and why.
    pub(crate) fn rivals(
        &self,
        method: &Method,
        path: &CanonicalPath,
        winner: Option<&PlannedRoute>,
    ) -> Vec<Rival<'_>> {
        let at = |won: &PlannedRoute| self.routes.iter().position(|one| one.id == won.id);
        self.router.rivals(method, path, winner.and_then(at))
    }

    /// Where no route takes the path, those whose paths begin as it does.
    pub(crate) fn nearest(&self, method: &Method, path: &CanonicalPath) -> Vec<&PlannedRoute> {
        match self.router.find(method, path) {
            Found::Nothing { nearest } => {
                let near = nearest.iter();
                near.filter_map(|id| self.routes.iter().find(|one| one.id == *id))
                    .map(|one| &**one)
                    .collect()
            }
            Found::Route(_) | Found::EscapedSeparator | Found::MethodNotAllowed(_) => Vec::new(),
        }
    }

    /// The names of its routes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &RouteId> {
        self.routes.iter().map(|route| &route.id)
    }

    pub(crate) fn route(
        &self,
        method: &Method,
        path: &CanonicalPath,
    ) -> Result<&Arc<PlannedRoute>, Error> {
        // Whatever routes there are: a client that finds no log-in uses the key that is put in.
        if omni::is_login_discovery(path.as_str()) {
            return Err(Error::NoRoute { nearest: Vec::new() });
        }
        if omni::is_mcp_misuse(method, path.as_str()) {
            return Err(Error::Method { allowed: omni::MCP_METHODS.to_vec() });
        }
        match self.router.find(method, path) {
            Found::Route(index) => Ok(&self.routes[index]),
            Found::EscapedSeparator => Err(Error::EscapedSeparator),
            Found::MethodNotAllowed(allowed) => Err(Error::Method { allowed }),
            Found::Nothing { nearest } => Err(Error::NoRoute { nearest }),
        }
    }
}

/// Whether a pattern says by its own text that it is for a sensitive branch. A wildcard never does.
///
/// Asked for a write, since what is sensitive to read is so to write, and no path is in two branches.
fn names_sensitive(pattern: &Pattern) -> bool {
    pattern.example().is_some_and(|path| omni::is_sensitive(&Method::POST, &path))
}

/// A fetch for several callers takes along only what tells their answers apart, so what the route
/// forwards besides the usual is part of that.
fn keeps(mut rule: Rule, policy: &Policy, route: &RouteId, cache: &Cache) -> Keeps {
    if let Lifetime::Ours(_) = rule.lifetime {
        let is_new = |name: &&HeaderName| {
            let is_of_one_call = **name == X_REQUEST_ID || TRACES.contains(&name.as_str());
            !rule.vary.contains(name) && !is_of_one_call
        };
        let more = policy.forward_headers.iter().filter(is_new);
        let more: Vec<HeaderName> = more.cloned().collect();
        rule.vary.extend(more);
    }
    Keeps { rule, mark: cache.generations().route(route) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_for_a_sensitive_branch_only_if_its_own_text_says_so() {
        for (pattern, names) in [
            ("/api/v1/api-keys", true),
            ("/API/v1/API-Keys/{id}/", true),
            ("/api/scim/v2/Users", true),
            ("/api/scim/{version}/{kind}", true),
            ("/api/v1/connections", true),
            ("/api/v1/connections/{id}", true),
            ("/api/v1/users/{id}/model-roles", true),
            ("/embed/sso/generate-url", true),
            ("/api/scim/{*rest}", false),
            ("/api/v1/connections/{*rest}", false),
            ("/api/{*rest}", false),
            ("/{*rest}", false),
            ("/api/v1/{area}", false),
            ("/api/v1/{area}/{id}", false),
            ("/api/{x}/v2/Users", false),
            ("/api/v1/api-key{s}", false),
            ("/api/v1/users/{id}/{what}", false),
            ("/api/v1/documents", false),
        ] {
            assert_eq!(names_sensitive(&Pattern::parse(pattern).unwrap()), names, "{pattern}");
        }
    }
}

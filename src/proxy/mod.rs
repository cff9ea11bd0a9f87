//! THE CORRIDOR: the only module that knows the order of the rooms.
//!
//! [`Proxy::handle`] is the one door out: it opens the record of the exchange, turns a refusal
//! into its answer, and lets the record follow the body. `Proxy::forward` is the order.

mod attempt;
mod cache_status;
mod cached;
mod custody;
mod decide;
mod echo;
mod error;
mod exchange;
mod explain;
mod fetch;
pub(crate) mod headers;
mod kept;
mod landed;
mod others;
mod peek;
mod plan;
mod polling;
mod problem;
mod rate_limit;
mod replay;
mod retry;
mod sought;
mod trail;
mod whoami;
mod writing;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use tracing::{debug, error, warn};

use crate::base::{Body, Peer, Priority, RouteId};
use crate::cache::Cache;
use crate::caller::{Caller, Callers, Hosts};
use crate::omni;
use crate::proxy::cache_status::{CacheStatus, Forward};
use crate::proxy::decide::Decided;
use crate::proxy::error::Error;
use crate::proxy::exchange::Exchange;
use crate::proxy::fetch::Fetches;
use crate::proxy::headers::Pseudonym;
use crate::proxy::polling::Told;
use crate::proxy::replay::{Replay, Room};
use crate::proxy::sought::Sought;
use crate::proxy::writing::{Leaves, Writing};
use crate::saver::Pollers;
use crate::shape::{Refused, Shaper};
use crate::telemetry::Telemetry;
use crate::upstream::Upstream;

pub use custody::Custody;
pub use explain::{BadCall, Call, Explanation, Question, document as explained};
pub use others::{Others, Touched};
pub use plan::{Plan, PlanError, RouteSettings};
pub use replay::ReplaySettings;
pub use whoami::{Whoami, WhoamiError};

/// The gateway, from a request to its answer.
#[derive(Debug)]
pub struct Proxy {
    plan: ArcSwap<Plan>,
    hosts: Hosts,
    callers: Callers,
    shaper: Arc<Shaper>,
    upstream: Arc<Upstream>,
    telemetry: Telemetry,
    pseudonym: Pseudonym,
    room: Room,
    custody: Arc<Custody>,
    cache: Arc<Cache>,
    others: Arc<dyn Others>,
    fetches: Fetches,
    pollers: Pollers<Told>,
    /// Who makes the calls that no caller makes.
    ourselves: Arc<Caller>,
}

/// The rooms along the corridor that others look into too.
#[derive(Clone, Debug)]
pub struct Neighbours {
    /// The budgets.
    pub shaper: Arc<Shaper>,
    /// The way to Omni.
    pub upstream: Arc<Upstream>,
    /// Whether the keys are still good.
    pub custody: Arc<Custody>,
    /// The answers that are kept.
    pub cache: Arc<Cache>,
    /// Who else keeps answers.
    pub others: Arc<dyn Others>,
    /// Where everything that happens is told.
    pub telemetry: Telemetry,
}

/// How a call waits: for whom, how urgently, how long.
#[derive(Clone, Debug)]
struct Wait {
    caller: Arc<Caller>,
    priority: Priority,
    /// Where neither the call nor its route nor its caller says, its budget does.
    max_wait: Option<Duration>,
}

impl Proxy {
    /// Opens the corridor between the rooms.
    pub fn new(
        plan: Plan,
        (hosts, callers): (Hosts, Callers),
        rooms: Neighbours,
        replay: ReplaySettings,
    ) -> Self {
        let Neighbours { shaper, upstream, custody, cache, others, telemetry } = rooms;
        telemetry.metrics.expect_refusals(problem::TITLES.iter().map(|(kind, _)| *kind));
        Self {
            plan: ArcSwap::from_pointee(plan),
            hosts,
            callers,
            shaper,
            upstream,
            telemetry,
            pseudonym: Pseudonym::fresh(),
            room: Room::new(replay),
            custody,
            cache,
            others,
            fetches: Fetches::default(),
            pollers: Pollers::default(),
            ourselves: Arc::new(Caller::ourselves()),
        }
    }

    /// Replaces what was said. Exchanges under way keep the plan that they began with.
    pub fn replace_plan(&self, plan: Plan) {
        self.plan.store(Arc::new(plan));
    }

    /// How a fetch waits that nobody waits for: whenever there is room, and at nobody's expense.
    fn background(&self) -> Wait {
        Wait { caller: self.ourselves.clone(), priority: Priority::Batch, max_wait: None }
    }

    /// Drops what is kept, here and in the other gateways; with a name, what the route of that name
    /// keeps. What fetches under way bring is not kept either. Says how many entries went here.
    ///
    /// Cancel-safe: nothing of it is undone.
    ///
    /// # Errors
    /// There is no route of that name; those that there are.
    pub async fn purge(&self, route: Option<&RouteId>) -> Result<u64, Vec<RouteId>> {
        if !route.is_none_or(|route| self.knows(route)) {
            return Err(self.plan.load().names().cloned().collect());
        }
        let entries = self.cache.purge(route);
        let touched = route.map_or(Touched::Everything, |route| Touched::Route(route.clone()));
        self.others.tell(&touched).await;
        Ok(entries)
    }

    fn knows(&self, route: &RouteId) -> bool {
        self.plan.load().names().any(|name| name == route)
    }

    /// Ends the fetches that are under way. Callers who wait for one are told nothing good, so this
    /// is for when there are none any more.
    ///
    /// Cancel-safe: what was not ended ends by itself.
    pub async fn end_fetches(&self) {
        self.fetches.stop.cancel();
        self.fetches.tasks.close();
        self.fetches.tasks.wait().await;
    }

    /// Answers one request; a refusal and a panic are answers too.
    ///
    /// Cancel-safe: dropping the future gives the call's place and permit back, closes its
    /// connection to upstream, and writes the record.
    pub async fn handle(self: &Arc<Self>, request: Request<Body>, peer: Peer) -> Response<Body> {
        let mut exchange = Exchange::open(&request, &peer, &self.telemetry);
        let plan = self.plan.load_full();
        let forwarded = AssertUnwindSafe(self.forward(&plan, request, &peer, &mut exchange));
        let result = forwarded.catch_unwind().await.unwrap_or(Err(Error::Panic));
        let mut response = match result {
            Ok(response) => response,
            Err(error) => self.refuse(&error, &mut exchange).await,
        };
        if let Some((route, wait)) = exchange.trail.waits_as() {
            let outlook = self.shaper.outlook(&wait.ask(route));
            rate_limit::show(response.headers_mut(), &route.budgets, outlook);
        }
        exchange.finish(response)
    }

    /// The answer to a call that upstream did not answer.
    async fn refuse(&self, error: &Error, exchange: &mut Exchange) -> Response<Body> {
        self.tell(error, exchange.request_id_field().as_ref());
        if error.caller_left() {
            exchange.left();
        } else {
            exchange.refused(error.kind());
        }
        exchange.trail.failed().await;
        problem::respond(error, exchange)
    }

    /// The way of a request. What is decided before it waits is [`Proxy::decide`]'s.
    async fn forward(
        self: &Arc<Self>,
        plan: &Plan,
        request: Request<Body>,
        peer: &Peer,
        exchange: &mut Exchange,
    ) -> Result<Response<Body>, Error> {
        let (head, body) = request.into_parts();
        let Decided { route, mut wait, inspection, brought, head } =
            self.decide(plan, head, &body, peer, exchange)?;
        let mut body = Replay::new(route.policy.limit(body), &self.room);
        if let Some(inspection) = inspection {
            body.pass(inspection, &wait.caller.id).await?;
        }
        if let Ok(brought) = brought {
            return self.seek(Sought::new(route, wait, brought, head), exchange).await;
        }
        if let Some(told) = self.poll(route, &head, &body, &mut wait, exchange).await? {
            return Ok(told);
        }
        let why = Forward::unkept(&head.method);
        exchange.cached(CacheStatus::forwarded(why));
        exchange.trail.writes(self.writing(&head));
        let request = Request::from_parts(head, body);
        let response = self.attempt(route, request, &wait, &mut exchange.trail).await?;
        exchange.trail.answered(response.status()).await;
        let response = self.share(self.receive(response), exchange).await;
        Ok(kept::once(response, why, exchange))
    }

    /// What a call leaves stale once its head was sent; nothing where it only asks.
    fn writing(&self, head: &Parts) -> Option<Writing> {
        let (method, path) = (&head.method, head.uri.path());
        let write = self.cache.generations().write(method, path)?;
        let leaves = Leaves {
            cache: self.cache.clone(),
            others: self.others.clone(),
            write,
            touched: Touched::Written { method: method.clone(), path: path.into() },
        };
        Some(Writing::new(leaves, omni::is_streaming(path)))
    }

    /// Takes an answer of upstream's in.
    fn receive(&self, mut response: Response<Body>) -> Response<Body> {
        let version = response.version();
        headers::scrub_response(response.headers_mut(), self.upstream.origin());
        self.pseudonym.sign(response.headers_mut(), version);
        response
    }

    /// Tells the operator what the caller is not told.
    fn tell(&self, error: &Error, request_id: Option<&HeaderValue>) {
        let request_id = request_id.and_then(|id| id.to_str().ok());
        match error {
            Error::Panic => error!(request_id, "a panic was caught"),
            Error::Connect(_) | Error::Send(_) | Error::Unsteady | Error::Incomplete => {
                warn!(request_id, cause = chain(error), "upstream did not answer");
            }
            Error::Refused(Refused::Full { .. } | Refused::Rejected { .. })
            | Error::Busy { .. } => warn!(request_id, %error, "refused"),
            // What several waited for was told once, by their fetch.
            _ => debug!(request_id, %error, "refused"),
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

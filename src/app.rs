//! Settings to a running gateway: the one place where the rooms are put together.

mod apart;
mod explain;
mod fleet;
mod gateway;
mod gauges;
mod inquiry;
mod news;
mod office;
mod sign;
mod signals;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use http::{Request, Response};
use tokio_util::sync::CancellationToken;

use crate::admin::{Desk, Reason};
use crate::base::{Body, Peer};
use crate::cache::Cache;
use crate::caller::{CallerSettings, Callers};
use crate::config::{Config, SharedSettings};
use crate::credential::{Credentials, OpenError, PasswordPlace, SecretError, State};
use crate::net::{Dial, RootsError};
use crate::proxy::{Custody, Neighbours, Others, Plan, PlanError, Proxy};
use crate::server::{BindError, Server};
use crate::shape::{
    BudgetSettings, BudgetStore, CallerRules, ColdStart, Fleet, Key, News, OnLost, Shaper,
    ShaperSettings, StateError, StatePlace, StoreError,
};
use crate::telemetry::{Telemetry, TracesError};
use crate::upstream::Upstream;

use explain::Doors;
pub use gateway::Gateway;
pub use inquiry::Inquiry;
use news::Sharing;
use office::{Named, Office, keeps_from_serving};
pub use sign::{Door, Sign};
use signals::Reread;
pub use signals::Signals;

/// Why the gateway does not start. No port is open then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Secrets that are missing or no good; all of them.
    #[error("{}", list(.0))]
    Credentials(Vec<OpenError>),
    /// The state folder is in use.
    #[error(transparent)]
    State(#[from] StateError),
    /// The ledger cannot be kept, and is needed.
    #[error(
        "the ledger in {} cannot be written, so nothing is sent; see who owns the folder and what is in it, or \
         whether the disk is full", .folder.display()
    )]
    Unkept {
        /// The folder.
        folder: PathBuf,
    },
    /// The password of the shared store is missing, or no good.
    #[error("[shared] password: {0}")]
    Password(#[source] Box<SecretError>),
    /// TLS to the shared store cannot be spoken as configured.
    #[error("[shared]: {0}")]
    StoreRoots(#[source] RootsError),
    /// The shared store is needed at once, and is not there.
    #[error(
        "the budgets are shared, and nothing is sent without the yes of the store {place}, which {why}"
    )]
    Store {
        /// The store.
        place: String,
        /// What is wrong with it.
        why: StoreError,
    },
    /// TLS to upstream cannot be spoken as configured.
    #[error("[upstream]: {0}")]
    Roots(#[from] RootsError),
    /// The plan names what is not there.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Spans cannot be exported as configured.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// A port or socket is not to be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gives us no signals.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] std::io::Error),
}

fn list(errors: &[OpenError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Ways to servers inside this process, in place of those that a config names. Nothing in a config
/// leads here.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    /// To Omni.
    pub upstream: Option<Dial>,
    /// To every Vault server.
    pub vault: Option<Dial>,
    /// To the collector of spans.
    pub collector: Option<Dial>,
    /// In place of the store that the budgets are shared through; for a config that shares them.
    pub store: Option<Arc<dyn BudgetStore>>,
    /// To the other gateways that keep answers.
    pub others: Option<Arc<dyn Others>>,
}

/// The rooms, put together and without a port.
#[derive(Clone, Debug)]
pub struct Rooms {
    /// From a request to its answer.
    pub proxy: Arc<Proxy>,
    /// The budgets.
    pub shaper: Arc<Shaper>,
    /// The answers that are kept.
    pub cache: Arc<Cache>,
    /// The keys.
    pub credentials: Arc<Credentials>,
    /// Whether they are still good.
    pub custody: Arc<Custody>,
    /// Where everything that happens is told.
    pub telemetry: Telemetry,
    /// Where the password of the shared store is.
    password: Option<Arc<PasswordPlace>>,
    named: Arc<Named>,
    doors: Arc<Doors>,
}

impl Rooms {
    /// Takes the state folder, reads the secrets, joins those who share the budgets and ties the routes.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(config: &Config, ways: Ways) -> Result<Self, StartError> {
        // First: where another process has the folder, no secret is read and no log-in spent.
        let shaper = ledger(config)?;
        let settings = config.credentials.clone();
        let password = config.shared.as_ref().and_then(|shared| shared.password.as_ref());
        let opened = Credentials::open_beside(settings, password, &|_| ways.vault.clone()).await;
        let (credentials, password) = opened.map_err(|errors| {
            shaper.close();
            StartError::Credentials(errors)
        })?;
        let upstream = match ways.upstream {
            Some(dial) => Upstream::over(dial, config.upstream.clone()),
            None => Upstream::new(config.upstream.clone())?,
        };
        let telemetry = Telemetry::start(&config.telemetry, ways.collector)?;
        let doors = Doors::of(config, true);
        let mut rooms =
            Self::tie(config, shaper, credentials, upstream, telemetry, ways.others, doors)?;
        // Before the first call. Where the store is not there yet, calls wait for it.
        let (shaper, hear) = (rooms.shaper.clone(), news::hear(&rooms.proxy));
        let joined = fleet::join(config, &shaper, password, ways.store, hear).await;
        rooms.password = joined.inspect_err(|_| shaper.close())?;
        Ok(rooms)
    }

    /// Ties the rooms together. Nothing is opened.
    fn tie(
        config: &Config,
        shaper: Arc<Shaper>,
        credentials: Credentials,
        upstream: Upstream,
        telemetry: Telemetry,
        others: Option<Arc<dyn Others>>,
        doors: Doors,
    ) -> Result<Self, StartError> {
        let cache = Arc::new(Cache::new(config.cache.clone()));
        let plan =
            Plan::new(config.routes.clone(), &credentials, &shaper, &cache, &telemetry.metrics)?;
        let callers = (config.hosts.clone(), Callers::new(config.callers.clone()));
        let upstream = Arc::new(upstream);
        let custody = Arc::new(Custody::new(
            &credentials,
            &config.probes,
            shaper.clone(),
            upstream.clone(),
            telemetry.metrics.clone(),
        ));
        let neighbours = Neighbours {
            shaper: shaper.clone(),
            upstream,
            custody: custody.clone(),
            cache: cache.clone(),
            others: others.unwrap_or_else(|| Arc::new(Sharing(shaper.clone()))),
            telemetry: telemetry.clone(),
        };
        let proxy = Proxy::new(plan, callers, neighbours, config.replay);
        let (proxy, credentials) = (Arc::new(proxy), Arc::new(credentials));
        let (named, doors) = (Arc::new(Named::of(config)), Arc::new(doors));
        let password = None;
        Ok(Self { proxy, shaper, cache, credentials, custody, telemetry, password, named, doors })
    }

    /// Answers one request.
    pub fn answer(
        &self,
        request: Request<Body>,
        peer: Peer,
    ) -> impl Future<Output = Response<Body>> + Send + 'static + use<> {
        let proxy = self.proxy.clone();
        async move { proxy.handle(request, peer).await }
    }

    /// What is done with news of the other instances.
    pub fn hear(&self) -> impl Fn(News) + Send + Sync + 'static + use<> {
        news::hear(&self.proxy)
    }

    /// What operators see and do, while `callers` serves them.
    pub fn desk(&self, callers: Server) -> impl Desk + use<> {
        let reread = Reread { credentials: self.credentials.clone(), certificates: Vec::new() };
        let (draining, certified) = (Arc::default(), Vec::new());
        Office { rooms: self.clone(), callers, draining, reread, certified }
    }

    /// Keeps the keys as they should be, until `stop`; meant to be spawned.
    pub async fn keep_keys(self, stop: CancellationToken) {
        let watch = self.credentials.watch(stop.clone());
        let password = async {
            if let Some(place) = &self.password {
                stop.run_until_cancelled(place.keep()).await;
            }
        };
        tokio::join!(watch, self.custody.keep(stop.clone()), password);
    }

    /// What keeps calls from being served.
    fn reasons(&self) -> Vec<Reason> {
        let missing = self.credentials.iter().filter_map(|credential| match credential.state() {
            State::Missing { .. } => Some(Reason::CredentialMissing(credential.id().clone())),
            State::Ready { .. } | State::Stale { .. } | State::Rejected { .. } => None,
        });
        let fleet = self.shaper.fleet().map(Fleet::view);
        let unshared = fleet.is_some_and(|fleet| keeps_from_serving(&fleet));
        unshared.then_some(Reason::SharedBudget).into_iter().chain(missing).collect()
    }
}

/// Takes the state folder, and the ledger in it.
///
/// # Errors
/// [`StartError::State`], when another process has it.
pub fn ledger(config: &Config) -> Result<Arc<Shaper>, StartError> {
    let place = StatePlace {
        folder: config.state_dir.clone(),
        upstream: config.upstream.origin.to_string(),
    };
    let settings = ShaperSettings {
        budgets: budgets(config),
        keys: keys(config),
        callers: config.callers.iter().map(rules).collect(),
    };
    Ok(Arc::new(Shaper::open(settings, Some(&place))?))
}

/// The budgets, as this process keeps them.
fn budgets(config: &Config) -> Vec<BudgetSettings> {
    let mut budgets = config.budgets.clone();
    // One that acts as if it were alone, should it never reach the store, begins as if it were.
    let alone = |shared: &SharedSettings| shared.on_lost == OnLost::Local;
    if config.shared.as_ref().is_some_and(|shared| !alone(shared)) {
        // What others may have sent is the shared ledger's to know, at a first start too: it says yes to
        // each send. A ledger of ours that invents such sends would hold back what that allows.
        budgets.iter_mut().for_each(|budget| budget.cold_start = ColdStart::Trust);
    }
    budgets
}

/// Every key that is charged to something, once.
fn keys(config: &Config) -> Vec<Key> {
    let of_routes = config.routes.iter().flat_map(|route| &route.keys);
    let all: BTreeSet<&Key> = of_routes.chain(&config.probes).collect();
    all.into_iter().cloned().collect()
}

/// What the queue has to know of a caller.
fn rules(settings: &CallerSettings) -> CallerRules {
    let caller = &settings.caller;
    CallerRules {
        id: caller.id.clone(),
        max_queued: caller.max_queued,
        rate: caller.rate.map(|rate| (rate.limit, rate.window)),
    }
}

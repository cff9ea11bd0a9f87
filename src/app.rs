//! Settings to a running gateway: the one place where the rooms are put together.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{Admin, Readiness, Reason, Role, Views};
use crate::base::{Body, Peer};
use crate::caller::{CallerSettings, Callers};
use crate::config::Config;
use crate::credential::{Change, Credentials, OpenError, State};
use crate::net::{Dial, RootsError};
use crate::proxy::{Plan, PlanError, Proxy, RouteSettings};
use crate::server::{BindError, Bound, Listen, Server, ServerSettings, bind};
use crate::shape::{CallerRules, Key, Shaper, ShaperSettings, StateError, StatePlace};
use crate::telemetry::{BudgetGauges, Gauges, Metrics};
use crate::upstream::Upstream;

/// Why the gateway does not start. No port is open then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Secrets that are missing or no good; all of them.
    #[error("{}", list(.0))]
    Credentials(Vec<OpenError>),
    /// The state folder is in use.
    #[error(transparent)]
    State(#[from] StateError),
    /// TLS to upstream cannot be spoken as configured.
    #[error("[upstream]: {0}")]
    Roots(#[from] RootsError),
    /// The plan names what is not there.
    #[error(transparent)]
    Plan(#[from] PlanError),
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

/// The rooms, put together and without a port.
#[derive(Clone, Debug)]
pub struct Rooms {
    /// From a request to its answer.
    pub proxy: Arc<Proxy>,
    /// The budgets.
    pub shaper: Arc<Shaper>,
    /// The keys.
    pub credentials: Arc<Credentials>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Rooms {
    /// Reads the secrets, takes the state folder and ties the routes. `dial` replaces the way to
    /// upstream, for a server inside this process.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(config: &Config, dial: Option<Dial>) -> Result<Self, StartError> {
        let credentials =
            Credentials::open(config.credentials.clone()).await.map_err(StartError::Credentials)?;
        let upstream = match dial {
            Some(dial) => Upstream::over(dial, config.upstream.clone()),
            None => Upstream::new(config.upstream.clone())?,
        };
        let place = StatePlace {
            folder: config.state_dir.clone(),
            upstream: config.upstream.origin.to_string(),
        };
        let settings = ShaperSettings {
            budgets: config.budgets.clone(),
            keys: keys(&config.routes),
            callers: config.callers.iter().map(rules).collect(),
        };
        let shaper = Arc::new(Shaper::open(settings, Some(&place))?);
        let metrics = Arc::new(Metrics::new());
        let plan = Plan::new(config.routes.clone(), &credentials, &shaper, &metrics)?;
        let callers = Callers::new(config.callers.clone());
        let upstream = Arc::new(upstream);
        let counted = metrics.clone();
        let proxy = Proxy::new(plan, callers, shaper.clone(), upstream, counted, config.replay);
        Ok(Self { proxy: Arc::new(proxy), shaper, credentials: Arc::new(credentials), metrics })
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

    /// What keeps calls from being served.
    fn reasons(&self) -> Vec<Reason> {
        let missing = self.credentials.iter().filter_map(|credential| match credential.state() {
            State::Missing { .. } => Some(Reason::CredentialMissing(credential.id().clone())),
            State::Ready { .. } | State::Stale { .. } => None,
        });
        missing.collect()
    }

    /// What metrics read off the rooms.
    fn gauges(&self, connections: usize) -> Gauges {
        let state = |state: &State| match state {
            State::Ready { .. } => "ready",
            State::Stale { .. } => "stale",
            State::Missing { .. } => "missing",
        };
        Gauges {
            budgets: self
                .shaper
                .snapshots()
                .into_iter()
                .map(|budget| BudgetGauges {
                    id: budget.id,
                    key: budget.key,
                    used: budget.used,
                    limit: budget.limit,
                    queued: budget.queued,
                    paused: budget.paused.is_some(),
                })
                .collect(),
            credentials: self
                .credentials
                .iter()
                .map(|one| (one.id().clone(), state(&one.state()), one.age()))
                .collect(),
            connections,
        }
    }

    /// What the admin listeners show.
    fn views(&self, callers: &Server, draining: &Arc<AtomicBool>) -> Views {
        let (rooms, draining) = (self.clone(), draining.clone());
        let readiness = move || {
            let ends = draining.load(Ordering::Relaxed).then_some(Reason::Draining);
            Readiness { reasons: ends.into_iter().chain(rooms.reasons()).collect() }
        };
        let (rooms, callers) = (self.clone(), callers.clone());
        let metrics = move || rooms.metrics.render(&rooms.gauges(callers.connections()));
        Views { readiness: Arc::new(readiness), metrics: Arc::new(metrics) }
    }
}

/// Every key that some route names, once.
fn keys(routes: &[RouteSettings]) -> Vec<Key> {
    let all: BTreeSet<&Key> = routes.iter().flat_map(|route| &route.keys).collect();
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

/// A gateway whose ports are open.
#[derive(Debug)]
pub struct Gateway {
    rooms: Rooms,
    server: ServerSettings,
    bound: Vec<Bound>,
    admin: Vec<(Bound, Role)>,
}

impl Gateway {
    /// Puts the rooms together and then opens the ports: a gateway that cannot serve opens none.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(config: Config) -> Result<Self, StartError> {
        let rooms = Rooms::open(&config, None).await?;
        let bound = bind(&config.server)?;
        let mut admin = Vec::new();
        let places =
            [(Some(config.admin.listen), Role::Operator), (config.admin.probe_listen, Role::Probe)];
        for (address, role) in places {
            if let Some(address) = address {
                let one = ServerSettings {
                    listeners: vec![Listen::Tcp(address)],
                    ..config.server.clone()
                };
                admin.extend(bind(&one)?.into_iter().map(|bound| (bound, role)));
            }
        }
        Ok(Self { rooms, server: config.server, bound, admin })
    }

    /// The rooms behind the ports.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Where callers connect over TCP.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().filter_map(Bound::local_addr).collect()
    }

    /// Where operators connect.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.first().and_then(|(bound, _)| bound.local_addr())
    }

    /// Serves until `stop` is cancelled, then drains: queued calls whose turn comes within
    /// `drain_timeout` are finished, the rest is refused at once.
    ///
    /// Dropping the future ends everything at once.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { rooms, server, bound, admin } = self;
        let over = CancellationToken::new();
        let _over_if_dropped = over.clone().drop_guard();
        let draining = Arc::new(AtomicBool::new(false));
        let watch = tokio::spawn(rooms.credentials.clone().watch(over.clone()));
        let callers = Server::new(server.clone());
        let operators: Vec<_> = admin
            .into_iter()
            .map(|(bound, role)| {
                let admin = Admin::new(role, rooms.views(&callers, &draining));
                let answer = move |request: Request<Body>, peer: Peer| {
                    std::future::ready(admin.answer(&request, &peer))
                };
                let settings = ServerSettings { drain_timeout: Duration::ZERO, ..server.clone() };
                tokio::spawn(Server::new(settings).serve(vec![bound], answer, over.clone()))
            })
            .collect();

        let answer = {
            let rooms = rooms.clone();
            move |request, peer| rooms.answer(request, peer)
        };
        let serving = callers.serve(bound, answer, stop.clone());
        let draining_begins = async {
            stop.cancelled().await;
            draining.store(true, Ordering::Relaxed);
            rooms.shaper.drain(server.drain_timeout);
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = serving => {}
            () = draining_begins => {}
        }
        over.cancel();
        for operator in operators {
            let _ = operator.await;
        }
        let _ = watch.await;
        rooms.shaper.close();
    }

    /// Serves until SIGTERM or SIGINT, then drains; a second one ends at once. SIGHUP reads the
    /// secrets again.
    pub async fn serve_until(self, mut signals: Signals) {
        let stop = CancellationToken::new();
        let credentials = self.rooms.credentials.clone();
        let mut serving = std::pin::pin!(self.serve(stop.clone()));
        loop {
            tokio::select! {
                () = &mut serving => return,
                _ = signals.terminate.recv() => {}
                _ = signals.interrupt.recv() => {}
                _ = signals.hangup.recv() => {
                    report(&credentials.refresh_now().await);
                    continue;
                }
            }
            if stop.is_cancelled() {
                warn!("second signal: ending at once");
                return;
            }
            info!("shutting down; a second signal ends at once");
            stop.cancel();
        }
    }
}

/// The signals that a gateway listens to. Made before its ports are open, so that none of them
/// finds the process unprepared.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// [`StartError::Signals`].
    pub fn listen() -> Result<Self, StartError> {
        let listen = |kind| signal(kind).map_err(StartError::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

fn report(changes: &[Change]) {
    for change in changes {
        match change {
            Change::Refreshed(credential) => info!(%credential, "credential refreshed"),
            Change::Recovered(credential) => info!(%credential, "credential recovered"),
            Change::Failed(credential, why) => warn!(%credential, %why, "credential not refreshed"),
        }
    }
}

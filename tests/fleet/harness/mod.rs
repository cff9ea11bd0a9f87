//! Gateways side by side, one Redis, one Omni, and callers everywhere.

pub(crate) mod crowd;
mod gateway;
mod omni;
mod redis;
mod relay;
mod seen;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, watch};
use tokio::time::{Instant, sleep, timeout};

use crowd::{Calls, Crowd, Group};
pub(crate) use gateway::Gateway;
pub(crate) use omni::Omni;
pub(crate) use redis::{Done, Redis};
pub(crate) use relay::{Relay, Way};
pub(crate) use seen::{Seen, Waits};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What may arrive in a window, the window, how much longer a send counts, and both together.
pub(crate) const LIMIT: usize = 60;
pub(crate) const WINDOW: Duration = Duration::from_secs(2);
pub(crate) const GUARD: Duration = Duration::from_millis(500);
pub(crate) const SPAN: Duration = Duration::from_millis(2_500);

/// Only ever passes when a test has failed.
const TOO_LONG: Duration = Duration::from_secs(60);

/// How often a condition that nobody announces is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How much is done: little in every run, and what was promised in `tests/run --all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Short,
    Full,
}

impl Size {
    pub(crate) fn pick<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }

    /// Figures that depend on how fast this machine is are held to in the full size alone.
    pub(crate) fn hold(self, holds: bool, what: impl Display) {
        assert!(holds || self == Self::Short, "{what}");
    }
}

/// Shows a figure.
pub(crate) fn figure(text: impl Display) {
    eprintln!("figure: {text}");
}

static MACHINE: RwLock<()> = RwLock::const_new(());

/// A share of the machine, or all of it.
pub(crate) type Machine =
    (Option<RwLockReadGuard<'static, ()>>, Option<RwLockWriteGuard<'static, ()>>);

/// The machine beside others, where figures count for nothing; alone, where they do.
pub(crate) async fn machine(size: Size) -> Machine {
    match size {
        Size::Short => (Some(MACHINE.read().await), None),
        Size::Full => (None, Some(MACHINE.write().await)),
    }
}

/// What the gateways say of their store.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) on_lost: &'static str,
    /// `instances`, where it is said.
    pub(crate) instances: Option<usize>,
    pub(crate) cold_start: &'static str,
}

impl Shared {
    pub(crate) fn hold() -> Self {
        Self { on_lost: "hold", instances: None, cold_start: "wait" }
    }

    /// The mode by its name, as each of so many.
    pub(crate) fn mode(on_lost: &'static str, instances: usize) -> Self {
        let instances = (on_lost == "share").then_some(instances);
        Self { on_lost, instances, ..Self::hold() }
    }
}

/// What a fleet is built from.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) instances: usize,
    /// None: each is for itself.
    pub(crate) shared: Option<Shared>,
    /// Lines of `[budgets.omni]`.
    pub(crate) budget: String,
    /// Tables `[callers.NAME]`.
    pub(crate) callers: &'static str,
    /// Lines of the only route.
    pub(crate) route: &'static str,
    /// Whether Redis has a clock that can be set.
    pub(crate) clock: bool,
}

impl Plan {
    pub(crate) fn of(instances: usize, shared: Option<Shared>) -> Self {
        let budget = format!(
            "limit = {LIMIT}\nwindow = \"{}ms\"\nguard = \"{}ms\"\n",
            WINDOW.as_millis(),
            GUARD.as_millis()
        );
        Self { instances, shared, budget, callers: "", route: "", clock: false }
    }

    pub(crate) fn budget(self, more: &str) -> Self {
        Self { budget: self.budget + more, ..self }
    }

    fn config(&self, omni: &Omni, relay: Option<&Relay>) -> String {
        let shared = self.shared.as_ref().zip(relay).map(|(shared, relay)| {
            let instances =
                shared.instances.map(|number| format!("instances = {number}")).unwrap_or_default();
            let Shared { on_lost, cold_start, .. } = shared;
            format!(
                "[shared]\nbackend = \"redis\"\nurl = \"redis://{}/0\"\non_lost = \"{on_lost}\"\n\
                 cold_start = \"{cold_start}\"\n{instances}\n",
                relay.address
            )
        });
        let Self { budget, callers, route, .. } = self;
        format!(
            r#"
            state_dir = "state"
            [server]
            listen = ["127.0.0.1:0"]
            [admin]
            listen = "127.0.0.1:0"
            [upstream]
            base_url = "http://{upstream}"
            [vault]
            backend = "file"
            path = "."
            [credentials.org]
            kind = "organization"
            secret = "org.token"
            [budgets.omni]
            cold_start = "trust"
            {budget}
            {shared}
            {callers}
            [[routes]]
            name = "all"
            path = "/{{*rest}}"
            credential = "org"
            {route}
            [telemetry]
            log = "info"
            "#,
            upstream = omni.address,
            shared = shared.unwrap_or_default(),
        )
    }

    /// Starts everything and waits until all serve.
    pub(crate) async fn start(self) -> Fleet {
        let omni = Omni::open().await;
        let redis = match (&self.shared, self.clock) {
            (None, _) => None,
            (Some(_), true) => Some(Redis::start_with_clock().await),
            (Some(_), false) => Some(Redis::start().await),
        };
        let folder = tempfile::tempdir().unwrap();
        let mut seats = Vec::new();
        for number in 0..self.instances {
            let folder = folder.path().join(number.to_string());
            std::fs::create_dir(&folder).unwrap();
            let token = folder.join("org.token");
            std::fs::write(&token, omni::key().token()).unwrap();
            std::fs::set_permissions(token, Permissions::from_mode(0o600)).unwrap();
            let relay = match &redis {
                Some(redis) => Some(Relay::open(&redis.socket()).await),
                None => None,
            };
            let config = folder.join("omnigate.toml");
            std::fs::write(&config, self.config(&omni, relay.as_ref())).unwrap();
            let (address, admin) = (watch::Sender::default(), None);
            seats.push(Seat { config, relay, gateway: None, address, admin });
        }
        let mut fleet = Fleet { omni, redis, seats, calls: Calls::default(), _folder: folder };
        for seat in &mut fleet.seats {
            seat.gateway = Some(Gateway::spawn(&seat.config));
        }
        for seat in &mut fleet.seats {
            seat.serves().await;
        }
        fleet
    }
}

/// All of it.
pub(crate) struct Fleet {
    pub(crate) omni: Omni,
    pub(crate) redis: Option<Redis>,
    pub(crate) seats: Vec<Seat>,
    pub(crate) calls: Calls,
    _folder: tempfile::TempDir,
}

/// Where an instance is, or was, or will be.
pub(crate) struct Seat {
    config: PathBuf,
    /// Its way to Redis.
    relay: Option<Relay>,
    gateway: Option<Gateway>,
    address: watch::Sender<Option<SocketAddr>>,
    admin: Option<SocketAddr>,
}

impl Fleet {
    /// Sets callers to work.
    pub(crate) fn crowd(&self, groups: &[Group]) -> Crowd {
        let addresses: Vec<_> = self.seats.iter().map(|seat| seat.address.subscribe()).collect();
        Crowd::start(groups, &addresses, &self.calls)
    }

    pub(crate) fn redis(&mut self) -> &mut Redis {
        self.redis.as_mut().expect("they share something")
    }

    /// Every instance's way to Redis.
    pub(crate) fn relays(&self) -> impl Iterator<Item = &Relay> {
        self.seats.iter().map(Seat::relay)
    }

    /// Waits until calls pass, so that what is measured is not the start.
    pub(crate) async fn warm(&self) -> Instant {
        let before = self.omni.fake.arrived();
        let some = self.omni.fake.wait_for_arrivals(before + 1);
        timeout(TOO_LONG, some).await.unwrap_or_else(|_| {
            let said: Vec<_> = self.seats.iter().map(Seat::said).collect();
            panic!("nothing ever arrives:\n{}", said.join("\n--\n"))
        });
        // One window more: the first sends of all are at pace.
        sleep(SPAN).await;
        Instant::now()
    }

    /// What arrived so far.
    pub(crate) fn seen(&self) -> Seen {
        Seen::by(self)
    }
}

impl Seat {
    pub(crate) fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("they share something")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address.borrow().expect("it serves")
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.expect("it serves")
    }

    /// All that it has said since its last start.
    pub(crate) fn said(&self) -> String {
        self.gateway.as_ref().map(Gateway::said).unwrap_or_default()
    }

    /// How often it has warned or complained of what, since its last start.
    pub(crate) fn complaints(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for line in self.said().lines() {
            let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let level = event["level"].as_str().unwrap_or_default();
            if ["warn", "error"].contains(&level.to_ascii_lowercase().as_str()) {
                let message = event["message"].as_str().unwrap_or_default();
                *all.entry(message.to_owned()).or_default() += 1;
            }
        }
        all
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.gateway.as_ref().expect("it runs").signal(signal);
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.address.send_replace(None);
        if let Some(gateway) = self.gateway.take() {
            gateway.kill().await;
        }
    }

    /// Starts it in the same folder, and waits until it serves.
    pub(crate) async fn start(&mut self) {
        self.gateway = Some(Gateway::spawn(&self.config));
        self.serves().await;
    }

    async fn serves(&mut self) {
        let (address, admin) = self.gateway.as_ref().expect("it runs").serves().await;
        self.admin = Some(admin);
        self.address.send_replace(Some(address));
    }
}

/// Looks again and again, until there is something to see.
pub(crate) async fn until<T>(
    otherwise: impl Fn() -> String,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            sleep(LOOK).await;
        }
    };
    timeout(TOO_LONG, looking).await.unwrap_or_else(|_| panic!("{}", otherwise()))
}

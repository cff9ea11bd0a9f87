//! A gateway and a fake Omni in one process, joined by pipes.

mod caller;
mod collector;
mod road;
mod store;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use omnigate::admin::Desk;
use omnigate::app::{Rooms, StartError, Ways};
use omnigate::base::{Body, Peer};
use omnigate::caller::CallerSettings;
use omnigate::config::{self, Config};
use omnigate::fake_omni::{Algorithm, FakeOmni, Key, KeyKind, Limit, Settings};
use omnigate::net::Dial;
use omnigate::proxy::Others;
use omnigate::server::{Listen, Server, ServerSettings};
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub(crate) use caller::{Answer, Caller, ask, get, post};
pub(crate) use collector::{Collector, said};
pub(crate) use road::{Dice, Road};
pub(crate) use store::{Store, Way};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// How a call ended, and how long it took.
#[derive(Debug)]
pub(crate) struct Timed {
    /// `None` where no whole answer came.
    pub(crate) answer: Option<Answer>,
    pub(crate) took: Duration,
}

impl Timed {
    pub(crate) fn status(&self) -> u16 {
        self.answer.as_ref().map_or(0, |answer| answer.status.as_u16())
    }
}

/// What a house is built from.
pub(crate) struct Plan {
    /// Lines of `[budgets.omni]`.
    pub(crate) budget: String,
    /// The key of the catch-all route, or its pool, as the file says it.
    pub(crate) credential: String,
    /// Lines of the catch-all `[[routes]]` entry.
    pub(crate) route: String,
    /// More of the config file.
    pub(crate) more: String,
    pub(crate) fake: Settings,
    /// The longest time that a request is on its way to Omni; each takes a random part of it.
    pub(crate) transit: Duration,
    pub(crate) seed: u64,
    /// Lines of `[vault]` and of `[credentials.org]`, in place of a folder with a file for each key.
    pub(crate) vault: Option<[String; 2]>,
    /// The way to a Vault server.
    pub(crate) way: Option<Dial>,
    /// The way to a collector of spans; then they are exported, all of them.
    pub(crate) collector: Option<Dial>,
    /// Callers besides those of the config file.
    pub(crate) callers: Vec<CallerSettings>,
    /// The way to an Omni that the test plays by hand, in place of the fake.
    pub(crate) by_hand: Option<Dial>,
    /// The Omni of another house, in place of one of its own.
    pub(crate) omni: Option<FakeOmni>,
    /// The other gateways that keep answers.
    pub(crate) others: Option<Arc<dyn Others>>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            budget: "profile = \"smooth\"".to_owned(),
            credential: "\"org\"".to_owned(),
            route: String::new(),
            more: String::new(),
            fake: Settings { limit: Limit::new(Algorithm::Off, 60, 60 * SECOND), ..fake() },
            transit: Duration::ZERO,
            seed: 1,
            vault: None,
            way: None,
            collector: None,
            callers: Vec::new(),
            by_hand: None,
            omni: None,
            others: None,
        }
    }
}

/// A fake Omni that knows one organization key.
pub(crate) fn fake() -> Settings {
    Settings { keys: vec![key()], ..Settings::default() }
}

pub(crate) fn key() -> Key {
    Key::made_up(KeyKind::Organization, "org")
}

/// The gateway, the fake Omni behind it, and the road between them.
pub(crate) struct House {
    pub(crate) omni: FakeOmni,
    pub(crate) rooms: Rooms,
    pub(crate) road: Road,
    server: Server,
    stop: CancellationToken,
    connections: Mutex<JoinSet<()>>,
    keys: Mutex<JoinSet<()>>,
    config: Config,
    transit: Duration,
    pub(crate) folder: TempDir,
}

impl Plan {
    pub(crate) async fn build(self) -> House {
        self.try_build().await.unwrap()
    }

    /// Why it does not start, in words.
    pub(crate) async fn refused(self) -> String {
        self.try_build().await.err().unwrap().to_string()
    }

    async fn try_build(self) -> Result<House, StartError> {
        let folder = tempfile::tempdir().unwrap();
        let Self { budget, credential, route, more, fake, transit, seed, .. } = self;
        let (vault, callers) = (self.vault, self.callers);
        let usual = || ["backend = \"dir\"\npath = \".\"", "secret = \"org\""].map(str::to_owned);
        let [vault, org] = vault.unwrap_or_else(usual);
        for key in &fake.keys {
            std::fs::write(folder.path().join(key.owner()), key.token()).unwrap();
        }
        let otlp = match self.collector {
            Some(_) => "telemetry.otlp.endpoint = \"http://127.0.0.1:9\"",
            None => "",
        };
        let text = format!(
            r#"
            state_dir = "state"
            {otlp}
            [server]
            listen = "127.0.0.1:0"
            [upstream]
            base_url = "http://127.0.0.1:9"
            [vault]
            {vault}
            [credentials.org]
            kind = "organization"
            {org}
            budget = "omni"
            [budgets.omni]
            cold_start = "trust"
            {budget}
            [[routes]]
            name = "all"
            path = "/{{*rest}}"
            credential = {credential}
            {route}
            {more}
            "#
        );
        let path = folder.path().join("omnigate.toml");
        std::fs::write(&path, text).unwrap();
        let mut config = config::load(&path).unwrap_or_else(|report| panic!("{report}"));
        config.callers.extend(callers);
        let ways = Ways {
            upstream: self.by_hand,
            vault: self.way,
            collector: self.collector,
            others: self.others,
            store: None,
        };
        let omni = self.omni.unwrap_or_else(|| FakeOmni::new(fake));
        House::open(folder, config, omni, transit, seed, ways).await
    }
}

impl House {
    async fn open(
        folder: TempDir,
        config: Config,
        omni: FakeOmni,
        transit: Duration,
        seed: u64,
        ways: Ways,
    ) -> Result<Self, StartError> {
        let (dial, far_ends) = Dial::pipe();
        let road = Road::open(far_ends, omni.clone(), transit, seed);
        let upstream = ways.upstream.clone().or(Some(dial));
        let rooms = Rooms::open(&config, Ways { upstream, ..ways }).await?;
        let listen = vec![Listen::Tcp(([127, 0, 0, 1], 0).into())];
        Ok(Self {
            omni,
            rooms,
            road,
            server: Server::new(ServerSettings::new(listen)),
            stop: CancellationToken::new(),
            connections: Mutex::default(),
            keys: Mutex::default(),
            config,
            transit,
            folder,
        })
    }

    /// Ends the gateway as a kill does, and starts it again on the same state folder. Its times are
    /// the machine's, to which virtual time is the future: what was sent counts as sent now, and a
    /// pause has all of virtual time before it.
    pub(crate) async fn killed_and_started_again(self, seed: u64) -> Self {
        let (folder, config, omni, transit) = self.kill().await;
        Self::open(folder, config, omni, transit, seed, Ways::default()).await.unwrap()
    }

    /// Ends the gateway as a kill does, and starts it for the first time on another machine, a window
    /// and its guard later.
    pub(crate) async fn killed_and_moved(self, seed: u64) -> Self {
        let (folder, config, omni, transit) = self.kill().await;
        std::fs::remove_dir_all(folder.path().join("state")).unwrap();
        sleep(61 * SECOND).await;
        Self::open(folder, config, omni, transit, seed, Ways::default()).await.unwrap()
    }

    async fn kill(self) -> (TempDir, Config, FakeOmni, Duration) {
        let Self { omni, rooms, connections, keys, config, transit, folder, .. } = self;
        connections.into_inner().unwrap().shutdown().await;
        keys.into_inner().unwrap().shutdown().await;
        rooms.proxy.end_fetches().await;
        // Whoever is left holds the lock of the state folder.
        let last = Arc::downgrade(&rooms.shaper);
        drop(rooms);
        while last.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        (folder, config, omni, transit)
    }

    /// From now on looks after the keys, as a gateway that serves does. Files are looked at every
    /// 5 s, which costs long tests their time.
    pub(crate) fn keep_keys(&self) {
        let keep = self.rooms.clone().keep_keys(self.stop.clone());
        self.keys.lock().unwrap().spawn(keep);
    }

    /// Puts another secret where a credential's is.
    pub(crate) fn write_secret(&self, name: &str, secret: &str) {
        let (path, next) = (self.folder.path().join(name), self.folder.path().join("next"));
        std::fs::write(&next, secret).unwrap();
        std::fs::rename(next, path).unwrap();
    }

    /// A caller on a connection of its own.
    pub(crate) async fn caller(&self) -> Caller {
        Caller::http1(self.connect()).await
    }

    /// A caller on an h2 connection of its own.
    pub(crate) async fn h2_caller(&self) -> Caller {
        Caller::http2(self.connect()).await
    }

    /// A raw connection to the gateway.
    pub(crate) fn connect(&self) -> DuplexStream {
        self.connect_as(Peer::pipe())
    }

    /// A raw connection of somebody whom the socket tells.
    pub(crate) fn connect_as(&self, peer: Peer) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let rooms = self.rooms.clone();
        let answer = move |request: http::Request<Body>, peer: Peer| rooms.answer(request, peer);
        let (server, stop) = (self.server.clone(), self.stop.clone());
        let mut connections = self.connections.lock().unwrap();
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            server.serve_connection(far, peer, answer, stop).await;
        });
        near
    }

    /// A call on a connection of its own, in a task of its own; it has joined the queue, or been
    /// answered, when this returns. What it gives is the answer, if a whole one came, and its time.
    pub(crate) async fn call(&self, request: Request<Full<Bytes>>) -> JoinHandle<Timed> {
        let mut caller = self.caller().await;
        let begun = Instant::now();
        let call = tokio::spawn(async move {
            let answer = caller.try_call(request).await;
            Timed { answer, took: begun.elapsed() }
        });
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        call
    }

    /// What operators see and do.
    pub(crate) fn desk(&self) -> impl Desk + use<> {
        self.rooms.desk(self.server.clone())
    }

    /// How many calls wait.
    pub(crate) fn queued(&self) -> usize {
        self.rooms.shaper.snapshots()[0].queued
    }
}

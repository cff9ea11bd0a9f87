//! A gateway and a fake Omni in one process, joined by pipes.

mod caller;
mod road;

use std::time::Duration;

use omnigate::app::Rooms;
use omnigate::base::{Body, Peer};
use omnigate::config;
use omnigate::fake_omni::{Algorithm, FakeOmni, Key, KeyKind, Limit, Settings};
use omnigate::net::Dial;
use omnigate::server::{Listen, Server, ServerSettings};
use tokio::io::DuplexStream;
use tokio_util::sync::CancellationToken;

pub(crate) use caller::{Caller, get};
pub(crate) use road::Road;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What a house is built from.
pub(crate) struct Plan {
    /// Lines of `[budgets.omni]`.
    pub(crate) budget: String,
    /// Lines of the catch-all `[[routes]]` entry.
    pub(crate) route: String,
    /// More of the config file.
    pub(crate) more: String,
    pub(crate) fake: Settings,
    /// The longest time that a request is on its way to Omni; each takes a random part of it.
    pub(crate) transit: Duration,
    pub(crate) seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            budget: "profile = \"smooth\"".to_owned(),
            route: String::new(),
            more: String::new(),
            fake: Settings { limit: Limit::new(Algorithm::Off, 60, 60 * SECOND), ..fake() },
            transit: Duration::ZERO,
            seed: 1,
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
    _folder: tempfile::TempDir,
}

impl Plan {
    pub(crate) async fn build(self) -> House {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("org");
        std::fs::write(&secret, key().token()).unwrap();
        let Self { budget, route, more, fake, transit, seed } = self;
        let text = format!(
            r#"
            state_dir = "state"
            [server]
            listen = "127.0.0.1:0"
            [upstream]
            base_url = "http://127.0.0.1:9"
            [vault]
            backend = "dir"
            path = "."
            [credentials.org]
            kind = "organization"
            secret = "org"
            [budgets.omni]
            cold_start = "trust"
            {budget}
            [[routes]]
            name = "all"
            path = "/{{*rest}}"
            credential = "org"
            {route}
            {more}
            "#
        );
        let path = folder.path().join("omnigate.toml");
        std::fs::write(&path, text).unwrap();
        let config = config::load(&path).unwrap_or_else(|report| panic!("{report}"));
        let omni = FakeOmni::new(fake);
        let (dial, far_ends) = Dial::pipe();
        let road = Road::open(far_ends, omni.clone(), transit, seed);
        let rooms = Rooms::open(&config, Some(dial)).await.unwrap();
        let listen = vec![Listen::Tcp(([127, 0, 0, 1], 0).into())];
        House {
            omni,
            rooms,
            road,
            server: Server::new(ServerSettings::new(listen)),
            stop: CancellationToken::new(),
            _folder: folder,
        }
    }
}

impl House {
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
        let (near, far) = tokio::io::duplex(64 * 1024);
        let rooms = self.rooms.clone();
        let answer = move |request: http::Request<Body>, peer: Peer| rooms.answer(request, peer);
        let (server, stop) = (self.server.clone(), self.stop.clone());
        tokio::spawn(async move {
            server.serve_connection(far, Peer::pipe(), answer, stop).await;
        });
        near
    }

    /// How many calls wait.
    pub(crate) fn queued(&self) -> usize {
        self.rooms.shaper.snapshots()[0].queued
    }
}

//! A gateway as a process of its own, a fake Omni in this one, and real sockets between them.

mod caller;
mod collector;
pub(crate) mod disguise;
mod gateway;
mod origin;
pub(crate) mod pattern;
pub(crate) mod safe;

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use omnigate::fake_omni::{Algorithm, FakeOmni, Key, KeyKind, Limit, Settings};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use caller::{Answer, Caller, get};
pub(crate) use collector::Collector;
pub(crate) use gateway::{Ended, Gateway};
pub(crate) use origin::{Origin, small_socket};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Only ever passes when a test has failed.
const TOO_LONG: Duration = Duration::from_secs(30);

/// How often a condition that nobody announces is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What a house is built from.
pub(crate) struct Plan {
    /// Lines of `[server]`.
    pub(crate) server: String,
    /// Lines of `[budgets.omni]`.
    pub(crate) budget: String,
    /// Lines of `[vault]` and of `[credentials.org]`.
    pub(crate) vault: [String; 2],
    /// The log's filter.
    pub(crate) log: &'static str,
    pub(crate) fake: Settings,
    /// Where requests go instead of to the fake Omni.
    pub(crate) origin: Option<SocketAddr>,
}

impl Default for Plan {
    /// A budget that no test exhausts by chance.
    fn default() -> Self {
        Self {
            server: String::new(),
            budget: "limit = 100000\nprofile = \"burst\"".to_owned(),
            vault: ["backend = \"file\"\npath = \".\"", "secret = \"org.token\""]
                .map(str::to_owned),
            log: "info",
            fake: Settings {
                keys: vec![key()],
                limit: Limit::new(Algorithm::Off, 1, SECOND),
                ..Settings::default()
            },
            origin: None,
        }
    }
}

/// The organization key that every gateway here holds.
pub(crate) fn key() -> Key {
    Key::made_up(KeyKind::Organization, "org")
}

/// A fake Omni, and the folder of a gateway in front of it. Gateways come and go.
pub(crate) struct House {
    pub(crate) omni: FakeOmni,
    folder: tempfile::TempDir,
    _serving: DropGuard,
}

impl Plan {
    pub(crate) async fn build(self) -> House {
        let Self { server, budget, vault: [vault, org], log, fake, origin } = self;
        let omni = FakeOmni::new(fake);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = origin.unwrap_or(listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(omni.clone().serve(listener, stop.clone()));
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            r#"
            state_dir = "state"
            [server]
            listen = ["127.0.0.1:0", "unix:omnigate.sock"]
            {server}
            [admin]
            listen = "127.0.0.1:0"
            [upstream]
            base_url = "http://{upstream}"
            [vault]
            {vault}
            [credentials.org]
            kind = "organization"
            {org}
            [budgets.omni]
            cold_start = "trust"
            {budget}
            [[routes]]
            name = "all"
            path = "/{{*rest}}"
            credential = "org"
            [telemetry]
            log = "{log}"
            "#
        );
        std::fs::write(folder.path().join("omnigate.toml"), text).unwrap();
        let house = House { omni, folder, _serving: stop.drop_guard() };
        house.keep(&key());
        house
    }
}

impl House {
    /// Starts a gateway and waits until it serves.
    pub(crate) async fn start(&self) -> Gateway {
        let mut gateway = self.spawn();
        gateway.serves().await;
        gateway
    }

    /// Starts a gateway without waiting for anything.
    pub(crate) fn spawn(&self) -> Gateway {
        Gateway::spawn(&self.config(), &[])
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("omnigate.toml")
    }

    /// Where the config and the state are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("omnigate.sock")
    }

    /// The ledger's file; there is one as soon as a gateway serves.
    pub(crate) fn ledger(&self) -> PathBuf {
        let folder = self.folder.path().join("state");
        let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.extension().is_some_and(|end| end == "bin")).unwrap()
    }

    /// Puts `key` in the secret's place, in one step, as a rotation does.
    pub(crate) fn keep(&self, key: &Key) {
        replace(&self.folder.path().join("org.token"), key.token().as_bytes());
    }

    /// The serials, as callers wrote them into their targets, of what reached upstream.
    pub(crate) fn reached(&self) -> Vec<String> {
        let serial = |target: String| target.rsplit("serial=").next().unwrap().to_owned();
        let arrivals = self.omni.arrivals().into_iter();
        arrivals.map(|arrival| serial(arrival.target.to_string())).collect()
    }
}

/// Writes a file that only its owner reads, and puts it in place of the old one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, bytes).unwrap();
    std::fs::set_permissions(&fresh, Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

/// Waits for what must happen soon.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(TOO_LONG, what).await.expect("it never happened")
}

/// Looks again and again, until there is something to see.
pub(crate) async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    soon(async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
}

/// Small, seeded, and good enough to pick moments (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

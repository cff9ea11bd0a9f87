//! The demo's stage: the pretended Omni and a gateway in front of it, on free loopback ports.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::{Gateway, StartError};
use crate::base::RequestId;
use crate::config::{self, Config};
use crate::fake_omni::{Algorithm, FakeOmni, Key, KeyKind, Limit, Settings};
use crate::shape::{Shaper, Snapshot};

pub(super) const LIMIT: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);
pub(super) const WINDOW: Duration = Duration::from_secs(60);
pub(super) const GUARD: Duration = Duration::from_secs(1);

/// Why the demo cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("{0}")]
    Config(String),
}

pub(crate) struct Stage {
    omni: FakeOmni,
    omni_at: SocketAddr,
    gateway_at: SocketAddr,
    admin_at: SocketAddr,
    shaper: Arc<Shaper>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    _folder: Folder,
}

impl Stage {
    pub(super) async fn set() -> Result<Self, StageError> {
        let key = Key::made_up(KeyKind::Organization, "demo");
        let folder = Folder::make()?;
        folder.keep("org", key.token())?;
        // A log that also counts what it refuses: the strictest reading of the limit.
        let limit = Limit::new(Algorithm::SlidingLogCountingRefusals, LIMIT.get(), WINDOW);
        let omni = FakeOmni::new(Settings { keys: vec![key], limit, ..Settings::default() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let omni_at = listener.local_addr()?;
        let stop = CancellationToken::new();
        tokio::spawn(omni.clone().serve(listener, stop.clone()));

        let gateway = Gateway::open(config(omni_at, &folder.path)?).await?;
        let none = || std::io::Error::other("the gateway has no TCP port");
        let gateway_at = gateway.addresses().first().copied().ok_or_else(none)?;
        let admin_at = gateway.admin_address().ok_or_else(none)?;
        let shaper = gateway.rooms().shaper.clone();
        let serving = tokio::spawn(gateway.serve(stop.clone()));
        Ok(Self { omni, omni_at, gateway_at, admin_at, shaper, stop, serving, _folder: folder })
    }

    /// Takes everything down and waits for it.
    pub(super) async fn strike(self) {
        self.stop.cancel();
        let _ = self.serving.await;
    }

    pub(super) fn fake(&self) -> &FakeOmni {
        &self.omni
    }

    pub(super) fn omni(&self) -> SocketAddr {
        self.omni_at
    }

    pub(super) fn gateway(&self) -> SocketAddr {
        self.gateway_at
    }

    pub(super) fn admin(&self) -> SocketAddr {
        self.admin_at
    }

    pub(super) fn budget(&self) -> Option<Snapshot> {
        self.shaper.snapshots().into_iter().next()
    }
}

/// The demo's config, as one would write it.
fn config(omni: SocketAddr, folder: &Path) -> Result<Config, StageError> {
    let text = format!(
        r#"
        state_dir = "state"
        [server]
        listen = "127.0.0.1:0"
        drain_timeout = "1s"
        [admin]
        listen = "127.0.0.1:0"
        [upstream]
        base_url = "http://{omni}"
        [vault]
        backend = "dir"
        path = "."
        [credentials.org]
        kind = "organization"
        secret = "org"
        [budgets.omni]
        limit = {LIMIT}
        window = "{}s"
        guard = "{}s"
        max_wait = "5m"
        cold_start = "trust"
        [callers.dashboard]
        priority = "interactive"
        [callers.sync]
        [callers.crawler]
        priority = "batch"
        [[routes]]
        name = "everything"
        path = "/{{*rest}}"
        credential = "org"
        [[routes]]
        name = "people"
        path = "/api/scim/{{*rest}}"
        credential = "org"
        sensitive = true
        [telemetry]
        log = "off"
        "#,
        WINDOW.as_secs(),
        GUARD.as_secs(),
    );
    config::parse(&text, &folder.join("omnigate.toml"))
        .map_err(|report| StageError::Config(report.to_string()))
}

/// A folder that only we can read, gone with the demo.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make() -> std::io::Result<Self> {
        // A name nobody can guess, and made by us or not at all: others write to the same place.
        let name = format!("omnigate-demo-{}", RequestId::fresh());
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    fn keep(&self, name: &str, secret: &str) -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let path = self.path.join(name);
        let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(secret.as_bytes())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

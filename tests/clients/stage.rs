//! A fake Omni, a gateway before it, and programs that know of the gateway alone.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use omnigate::fake_omni::{Algorithm, Arrival, FakeOmni, Key, KeyKind, Limit, Sender, Settings};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What may arrive in a window, and the window.
pub(crate) const LIMIT: usize = 60;
pub(crate) const WINDOW: Duration = Duration::from_secs(2);

/// Only ever pass when a test has failed.
const TO_START: Duration = Duration::from_secs(30);
const TO_INSTALL: Duration = Duration::from_secs(900);
const TO_RUN: Duration = Duration::from_secs(240);

/// In every key that a client is given here.
const DUMMY: &str = "dummy";

/// What a stage is built from.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) fake: Settings,
    /// Lines of the only route.
    pub(crate) route: String,
}

/// Everything but the client.
pub(crate) struct Stage {
    pub(crate) omni: FakeOmni,
    address: SocketAddr,
    _gateway: Child,
    folder: tempfile::TempDir,
    _serving: DropGuard,
}

impl Plan {
    /// Starts everything and waits until it serves.
    pub(crate) async fn start(self) -> Stage {
        let key = Key::made_up(KeyKind::Organization, "org");
        let limit = Limit::new(Algorithm::SlidingLog, LIMIT as u32, WINDOW);
        let omni = FakeOmni::new(Settings { keys: vec![key.clone()], limit, ..self.fake });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(omni.clone().serve(listener, stop.clone()));
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("org.token");
        std::fs::write(&token, key.token()).unwrap();
        std::fs::set_permissions(token, Permissions::from_mode(0o600)).unwrap();
        let config = folder.path().join("omnigate.toml");
        let text = format!(
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
            limit = {LIMIT}
            window = "{}ms"
            guard = "500ms"
            cold_start = "trust"
            [[routes]]
            name = "all"
            path = "/{{*rest}}"
            credential = "org"
            sensitive = true
            {}
            "#,
            WINDOW.as_millis(),
            self.route,
        );
        std::fs::write(&config, text).unwrap();
        let (gateway, address) = serve(&config).await;
        Stage { omni, address, _gateway: gateway, folder, _serving: stop.drop_guard() }
    }
}

/// Starts a gateway; gives where callers connect, once it says.
async fn serve(config: &Path) -> (Child, SocketAddr) {
    let built = env!("CARGO_BIN_EXE_omnigate").into();
    let mut gateway = Command::new(std::env::var_os("OMNIGATE").unwrap_or(built))
        .args(["serve".as_ref(), "-c".as_ref(), config.as_os_str()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(gateway.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let serving = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            said.push(line);
            if event["message"] == "serving" {
                return event["address"].as_str().unwrap().parse().unwrap();
            }
        }
        panic!("the gateway ended: {said:#?}");
    };
    let address = timeout(TO_START, serving).await.expect("the gateway serves");
    // Nobody else reads what it says.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (gateway, address)
}

/// Where a client is installed.
pub(crate) async fn install(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/install");
    let mut child = Command::new(script);
    child.arg(name).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let done = timeout(TO_INSTALL, child.output()).await.expect("it is installed").unwrap();
    assert!(done.status.success(), "tests/clients/install {name}: {}", done.status);
    String::from_utf8(done.stdout).unwrap().trim().into()
}

/// A file beside this one.
pub(crate) fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

impl Stage {
    /// What clients call the base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The gateway's config.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("omnigate.toml")
    }

    /// How many calls arrived whose target has this in it.
    pub(crate) fn arrived_with(&self, mark: &str) -> usize {
        let has = |one: &&Arrival| one.target.to_string().contains(mark);
        self.omni.arrivals().iter().filter(has).count()
    }

    /// A folder of its own for whatever a client leaves behind.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a client to its end in a home of its own, with an environment of nothing else; gives what
    /// it wrote. A browser that it opens leaves a file behind.
    pub(crate) async fn play(&self, mut client: Command) -> String {
        let home = self.folder.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        let browser = home.join("browser");
        std::fs::write(&browser, "#!/bin/sh\necho \"$@\" >>\"$(dirname \"$0\")/opened\"\n")
            .unwrap();
        std::fs::set_permissions(&browser, Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(&browser, home.join("xdg-open")).unwrap();
        let path = std::env::var("PATH").unwrap();
        client
            .env_clear()
            .env("PATH", format!("{}:{path}", home.display()))
            .env("HOME", &home)
            .env("BROWSER", &browser)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUNBUFFERED", "1")
            .env("DATAHUB_TELEMETRY_ENABLED", "false")
            .current_dir(&home)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let done = timeout(TO_RUN, client.output()).await.expect("the client ends").unwrap();
        let said =
            [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        let said = said.join("\n");
        assert!(done.status.success(), "{}:\n{said}\n{:#?}", done.status, self.omni.arrivals());
        assert!(!home.join("opened").exists(), "it opened a browser:\n{said}");
        said
    }

    /// Holds what arrived to what is true of every client: each call bore our key once and no client's,
    /// the limit held, and nobody was refused by it. Gives what arrived.
    pub(crate) fn judge(&self, client: &str) -> Vec<Arrival> {
        let arrivals = self.omni.arrivals();
        assert!(!arrivals.is_empty());
        for arrival in &arrivals {
            assert_eq!(arrival.sender, Sender::Owner("org".into()), "{arrival:?}");
            assert_eq!(arrival.authorizations, 1, "{arrival:?}");
            let mut texts = arrival.headers.values().map(|value| value.as_bytes());
            let dummy =
                |text: &[u8]| text.windows(DUMMY.len()).any(|some| some == DUMMY.as_bytes());
            assert!(
                !texts.any(dummy) && !dummy(arrival.target.to_string().as_bytes()),
                "{arrival:?}"
            );
            assert!(!arrival.target.path().contains(".well-known"), "{arrival:?}");
        }
        assert_eq!(self.omni.distinct_authorizations("org"), 1);
        let worst = self.omni.highest_in_any_window(WINDOW);
        eprintln!("figure: {client}: {} calls, worst window {worst}", arrivals.len());
        assert!(worst <= LIMIT, "{worst} in a window");
        assert_eq!(self.omni.refusals(), 0);
        arrivals
    }
}

//! A fake Omni in this process, a config, and `omnigate exec` as processes of their own.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use omnigate::fake_omni::{Algorithm, FakeOmni, Key, KeyKind, Limit, Settings};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

const PROGRAM: &str = env!("CARGO_BIN_EXE_omnigate");

/// Only ever passes when a test has failed.
const TOO_LONG: Duration = Duration::from_secs(60);
/// How often a condition that nobody announces is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Omni's limit, and the window in which it holds.
pub(crate) const LIMIT: usize = 60;
pub(crate) const WINDOW: Duration = Duration::from_secs(2);

/// Where gateways and programs are.
pub(crate) struct Stage {
    pub(crate) omni: FakeOmni,
    pub(crate) upstream: SocketAddr,
    folder: tempfile::TempDir,
    state: PathBuf,
    _serving: DropGuard,
}

impl Stage {
    pub(crate) async fn build() -> Self {
        Self::with_state("state").await
    }

    /// With a state folder of this name.
    pub(crate) async fn with_state(name: &str) -> Self {
        let key = Key::made_up(KeyKind::Organization, "org");
        let omni = FakeOmni::new(Settings {
            keys: vec![key.clone()],
            // The judge: it refuses the 61st of any window.
            limit: Limit::new(Algorithm::SlidingLog, LIMIT.try_into().unwrap(), WINDOW),
            ..Settings::default()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(omni.clone().serve(listener, stop.clone()));
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join(name);
        let stage = Self { omni, upstream, folder, state, _serving: stop.drop_guard() };
        stage.keep(key.token());
        fs::write(stage.config(), stage.text()).unwrap();
        stage
    }

    pub(crate) fn text(&self) -> String {
        format!(
            r#"
            state_dir = "{state}"
            [server]
            # Somebody else's: `exec` listens at neither.
            listen = ["127.0.0.1:1"]
            [admin]
            listen = "127.0.0.1:2"
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
            window = "{window}s"
            guard = "300ms"
            profile = "burst"
            cold_start = "trust"
            [[routes]]
            name = "all"
            path = "/{{*rest}}"
            credential = "org"
            "#,
            state = self.state.display(),
            upstream = self.upstream,
            window = WINDOW.as_secs(),
        )
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("omnigate.toml")
    }

    /// Another config beside it.
    pub(crate) fn another(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// Puts this into the secret's place.
    pub(crate) fn keep(&self, token: &str) {
        fs::write(self.path("org.token"), token).unwrap();
        fs::set_permissions(self.path("org.token"), Permissions::from_mode(0o600)).unwrap();
    }

    /// Runs a shell script through the gateway.
    pub(crate) fn exec(&self, script: &str) -> Run {
        self.exec_with(&self.config(), script)
    }

    pub(crate) fn exec_with(&self, config: &Path, script: &str) -> Run {
        let config = config.to_str().unwrap();
        self.run(&["exec", "-c", config, "--", "/bin/sh", "-c", script])
    }

    /// `omnigate serve`, once it serves, and where.
    pub(crate) async fn serve(&self, config: &Path) -> (Run, SocketAddr) {
        let mut serving = self.run(&["serve", "-c", config.to_str().unwrap()]);
        let address = until(async || {
            assert!(serving.is_alive(), "{}", serving.said());
            let sign = fs::read(self.state().join("serving.json")).ok()?;
            let sign: serde_json::Value = serde_json::from_slice(&sign).unwrap();
            sign["doors"][0]["at"].as_str().unwrap().parse().ok()
        });
        let address = address.await;
        (serving, address)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        Run::of(Command::new(PROGRAM).args(args).current_dir(self.folder.path()))
    }

    /// The process that has the ledger, or had it last.
    pub(crate) fn holder(&self) -> u32 {
        let text = fs::read_to_string(self.state().join("omnigate.lock")).unwrap();
        text.trim().parse().unwrap()
    }

    /// Waits until this file is there.
    pub(crate) async fn there(&self, name: &str) {
        until(async || self.path(name).exists().then_some(())).await;
    }

    /// Lets a script go on that waits for this file.
    pub(crate) fn go(&self, name: &str) {
        fs::write(self.path(name), "").unwrap();
    }

    /// Fails unless nothing of ours is left: no process, no socket.
    pub(crate) async fn is_left_alone(&self, gateway: u32) {
        until(async || is_gone(gateway).then_some(())).await;
        for name in ["calls.sock", "control.sock"] {
            assert!(!self.state().join("exec").join(name).exists(), "{name} was left behind");
        }
    }
}

/// A script that makes so many calls at the same time and prints their statuses, a line each.
pub(crate) fn calls(count: usize) -> String {
    format!(
        "curl -sS -Z --parallel-immediate --parallel-max 20 -o /dev/null -w '%{{http_code}}\\n' \
         \"$OMNI_BASE_URL/api/v1/labels?n=[1-{count}]\""
    )
}

/// A script that says that it runs, and waits.
pub(crate) fn wait(says: &str, for_file: &str) -> String {
    // Not for ever: a test that failed takes its folder along.
    format!("touch {says}; while [ ! -e {for_file} ] && [ -e omnigate.toml ]; do sleep 0.02; done")
}

/// Whether a process has ended; one that nobody has asked how it ended has.
pub(crate) fn is_gone(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat"));
    state.map_or(true, |state| state.rsplit(')').next().unwrap().trim().starts_with('Z'))
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    test_kill_process(pid).unwrap();
    kill_process(pid, signal).unwrap();
}

/// A process of ours, killed when this is dropped.
pub(crate) struct Run {
    child: Child,
    pub(crate) pid: u32,
    out: Arc<Mutex<Vec<String>>>,
    err: Arc<Mutex<Vec<String>>>,
    hearing: [JoinHandle<()>; 2],
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: Vec<String>,
    pub(crate) said: String,
}

impl Run {
    pub(crate) fn of(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let (out, err) = (Arc::default(), Arc::default());
        let hearing = [
            hear(child.stdout.take().unwrap(), Arc::clone(&out)),
            hear(child.stderr.take().unwrap(), Arc::clone(&err)),
        ];
        Self { pid: child.id().unwrap(), child, out, err, hearing }
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has said this on stderr.
    pub(crate) async fn says(&self, what: &str) {
        until(async || self.said().contains(what).then_some(())).await;
    }

    /// What it said on stderr so far.
    pub(crate) fn said(&self) -> String {
        self.err.lock().unwrap().join("\n")
    }

    /// Waits for its end, and for the end of its streams: nobody else may hold them.
    pub(crate) async fn ends(mut self) -> Ended {
        let status = soon(self.child.wait()).await.unwrap();
        for hearing in &mut self.hearing {
            soon(hearing).await.unwrap();
        }
        let out = self.out.lock().unwrap().clone();
        Ended { status, out, said: self.said() }
    }

    /// Waits for its end, and fails unless so many calls were made and all of them were good.
    pub(crate) async fn ends_well(self, calls: usize) {
        let Ended { status, out, said } = self.ends().await;
        assert_eq!(status.code(), Some(0), "{said}");
        assert_eq!(out, vec!["200"; calls], "{said}");
    }
}

fn hear(
    from: impl AsyncRead + Send + Unpin + 'static,
    heard: Arc<Mutex<Vec<String>>>,
) -> JoinHandle<()> {
    let mut lines = BufReader::new(from).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            heard.lock().unwrap().push(line);
        }
    })
}

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

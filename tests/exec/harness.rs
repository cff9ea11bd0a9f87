//! `omnigate exec` as a process, and what it goes through: a gateway in front of a fake Omni, or a stand-in
//! whose every byte a test decides.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use omnigate::fake_omni::{Algorithm, FakeOmni, Key, KeyKind, Limit, Settings};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_omnigate");

/// Only ever passes when a test has failed.
const TOO_LONG: Duration = Duration::from_secs(60);

/// A budget that no test exhausts by chance.
const ROOMY: &str = "limit = 100000\nprofile = \"burst\"";

/// Waits for what must happen soon.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(TOO_LONG, what).await.expect("it never happened")
}

/// `omnigate exec`, killed when this is dropped.
pub(crate) struct Exec {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: JoinHandle<()>,
    erred: watch::Sender<String>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What of stdout was not read before.
    pub(crate) out: String,
    pub(crate) err: String,
}

/// What it is started with.
pub(crate) struct Start {
    command: Command,
}

impl Start {
    /// With these arguments after `exec`, and an environment of nothing but a PATH.
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let mut start = Self::by(PROGRAM, &["exec"]);
        start.command.args(arguments);
        start
    }

    /// By another program, which starts it.
    pub(crate) fn by(program: &str, arguments: &[&str]) -> Self {
        // Who runs the tests in the background may have these two ignored, and `exec` keeps it so.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT,QUIT", program]).args(arguments);
        command.env_clear().kill_on_drop(true);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    /// Through the gateway there; `script` is what a shell runs.
    pub(crate) fn script(at: SocketAddr, script: &str) -> Self {
        Self::new(&["--via", &format!("http://{at}"), "--", "sh", "-c", script])
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn spawn(mut self) -> Exec {
        let mut child = self.command.spawn().unwrap();
        let erred = watch::Sender::new(String::new());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let told = erred.clone();
        let stderr = tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                told.send_modify(|text| *text += &(line + "\n"));
            }
        });
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Exec { stdin: child.stdin.take(), stdout, stderr, erred, child }
    }

    /// Runs it to its end.
    pub(crate) async fn run(self) -> Ended {
        self.spawn().ends().await
    }
}

impl Exec {
    /// Waits for a line of the program's.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        soon(self.stdout.read_line(&mut line)).await.unwrap();
        line.trim_end().to_owned()
    }

    /// Waits for just so many bytes of the program's.
    pub(crate) async fn reads(&mut self, bytes: usize) -> String {
        let mut text = vec![0; bytes];
        soon(self.stdout.read_exact(&mut text)).await.unwrap();
        String::from_utf8(text).unwrap()
    }

    /// Waits until this stands in what was written to stderr; gives all of that.
    pub(crate) async fn errs(&self, what: &str) -> String {
        let mut seen = self.erred.subscribe();
        soon(seen.wait_for(|text| text.contains(what))).await.unwrap().clone()
    }

    /// Writes to the program.
    pub(crate) async fn say(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // Not yet reaped, so the id is still its own.
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Closes its input, and waits for it to end by itself.
    pub(crate) async fn ends(mut self) -> Ended {
        drop(self.stdin.take());
        let mut out = String::new();
        soon(self.stdout.read_to_string(&mut out)).await.unwrap();
        let status = soon(self.child.wait()).await.unwrap();
        soon(self.stderr).await.unwrap();
        Ended { status, out, err: self.erred.borrow().clone() }
    }
}

impl Ended {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// A fake Omni, and a gateway as a process in front of it.
pub(crate) struct House {
    pub(crate) omni: FakeOmni,
    pub(crate) gateway: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
    _process: Child,
    _serving: DropGuard,
}

/// The organization key that the gateway holds.
pub(crate) fn key() -> Key {
    Key::made_up(KeyKind::Organization, "org")
}

impl House {
    /// With these lines in `[budgets.omni]`, and these at the end.
    pub(crate) async fn build(budget: &str, more: &str) -> Self {
        Self::with("listen = \"127.0.0.1:0\"", budget, more).await
    }

    /// One that takes no calls of somebody whom these rules do not know.
    pub(crate) async fn guarded(callers: &str) -> Self {
        let more = "[[listeners]]\naddress = \"127.0.0.1:0\"\nallow_anonymous = false";
        Self::with("", ROOMY, &format!("{more}\n{callers}")).await
    }

    async fn with(server: &str, budget: &str, more: &str) -> Self {
        let limit = Limit::new(Algorithm::Off, 1, Duration::from_secs(1));
        let omni = FakeOmni::new(Settings { keys: vec![key()], limit, ..Settings::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(omni.clone().serve(listener, stop.clone()));
        let folder = tempfile::tempdir().unwrap();
        let text = config(upstream, server, budget, more);
        let path = folder.path().join("omnigate.toml");
        std::fs::write(&path, text).unwrap();
        let secret = folder.path().join("org.token");
        std::fs::write(&secret, key().token()).unwrap();
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
        let (process, gateway) = serve(&path).await;
        Self { omni, gateway, folder, _process: process, _serving: stop.drop_guard() }
    }

    /// With a budget that no test exhausts by chance.
    pub(crate) async fn roomy() -> Self {
        Self::build(ROOMY, "").await
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn config(upstream: SocketAddr, server: &str, budget: &str, more: &str) -> String {
    format!(
        r#"
        state_dir = "state"
        [server]
        {server}
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
        [[routes]]
        name = "all"
        path = "/{{*rest}}"
        credential = "org"
        [telemetry]
        log = "info"
        {more}
        "#
    )
}

/// Starts a gateway, and waits until it serves.
async fn serve(config: &Path) -> (Child, SocketAddr) {
    let mut process = Command::new(PROGRAM)
        .args(["serve".as_ref(), "-c".as_ref(), config.as_os_str()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut said = String::new();
    let address = soon(async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if event["message"] == "serving" {
                return event["address"].as_str().unwrap().parse().unwrap();
            }
            said.push_str(&line);
        }
        panic!("the gateway does not serve:\n{said}");
    })
    .await;
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (process, address)
}

/// A stand-in for a gateway: it says that it is one, and leaves every call to the test.
pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
    calls: mpsc::UnboundedReceiver<Call>,
}

/// A call that reached it.
pub(crate) struct Call {
    /// The head, in lower case but for values.
    pub(crate) head: String,
    pub(crate) stream: TcpStream,
}

impl StandIn {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, calls) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    if let Some(call) = Call::read(stream).await {
                        let _ = tell.send(call);
                    }
                });
            }
        });
        Self { address, calls }
    }

    /// Waits for the next call.
    pub(crate) async fn call(&mut self) -> Call {
        soon(self.calls.recv()).await.unwrap()
    }

    /// Whether no call came that nobody has taken.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.calls.try_recv().is_err()
    }
}

impl Call {
    /// Reads a head; answers it where it is the question what we are.
    async fn read(mut stream: TcpStream) -> Option<Self> {
        let head = read_head(&mut stream).await?;
        if head.starts_with("GET /.well-known/") {
            let body = r#"{"type":"urn:omnigate:problem:no-route"}"#;
            let length = body.len();
            let answer =
                format!("HTTP/1.1 404 Not Found\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.ok()?;
            return None;
        }
        Some(Self { head, stream })
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next call on the same connection.
    pub(crate) async fn next(mut self) -> Option<Self> {
        let head = soon(read_head(&mut self.stream)).await?;
        Some(Self { head, stream: self.stream })
    }

    /// Waits until the other end is closed.
    pub(crate) async fn sees_the_end(mut self) {
        let mut rest = Vec::new();
        let _ = soon(self.stream.read_to_end(&mut rest)).await;
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = lines.filter(|(it, _)| it.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value)
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

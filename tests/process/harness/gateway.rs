//! The process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::harness::{Answer, Caller, get, soon, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_omnigate");

/// `omnigate serve`, killed when this is dropped.
pub(crate) struct Gateway {
    child: Child,
    pid: u32,
    said: Arc<Mutex<Vec<String>>>,
    hearing: [JoinHandle<()>; 2],
    addresses: Option<(SocketAddr, SocketAddr)>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// All that it wrote to stdout and stderr.
    pub(crate) said: String,
}

impl Gateway {
    /// Starts it with an environment of nothing but `env`.
    pub(crate) fn spawn(config: &Path, env: &[(&str, &str)]) -> Self {
        Self::spawn_by(Command::new(PROGRAM), config, env)
    }

    /// Starts it with room for so many open files.
    pub(crate) fn spawn_with_descriptors(config: &Path, most: u32) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &most.to_string(), PROGRAM]);
        Self::spawn_by(shell, config, &[])
    }

    fn spawn_by(mut program: Command, config: &Path, env: &[(&str, &str)]) -> Self {
        let mut child = program
            .args(["serve".as_ref(), "-c".as_ref(), config.as_os_str()])
            .env_clear()
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let out = hear(child.stdout.take().unwrap(), said.clone());
        let hearing = [out, hear(child.stderr.take().unwrap(), said.clone())];
        Self { pid: child.id().unwrap(), child, said, hearing, addresses: None }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the ports are known.
    pub(crate) async fn serves(&mut self) {
        let address = |event: Value| event["address"].as_str().unwrap().parse().unwrap();
        let serving = address(self.says("serving").await);
        self.addresses = Some((serving, address(self.says("admin").await)));
    }

    /// Where callers connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses.unwrap().0
    }

    /// Waits for a log line with this message.
    pub(crate) async fn says(&self, message: &str) -> Value {
        until(async || self.events(message).into_iter().next()).await
    }

    /// The log lines with this message so far.
    pub(crate) fn events(&self, message: &str) -> Vec<Value> {
        let lines = self.said.lock().unwrap();
        let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["message"] == message).collect()
    }

    /// The access lines of calls whose caller was told this status; 499 is one who left first.
    pub(crate) fn exchanges(&self, status: u16) -> usize {
        self.events("exchange").iter().filter(|event| event["status"] == status).count()
    }

    pub(crate) async fn caller(&self) -> Caller {
        Caller::connect(self.address()).await
    }

    /// One call on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.caller().await.get(path).await
    }

    /// Asks the admin port.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        Caller::connect(self.addresses.unwrap().1).await.get(path).await
    }

    /// A connection to the admin port.
    pub(crate) async fn operator(&self) -> Caller {
        Caller::connect(self.addresses.unwrap().1).await
    }

    /// Tells the admin port to do something.
    pub(crate) async fn tell(&self, path: &str) -> Answer {
        let mut request = get(path);
        *request.method_mut() = Method::POST;
        Caller::connect(self.addresses.unwrap().1).await.call(request).await.unwrap()
    }

    /// Has every secret's place looked at; gives how the key `org` stands then.
    pub(crate) async fn reload(&self) -> Value {
        let answer = self.tell("/-/reload").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["credentials"][0].take()
    }

    /// One figure of `/metrics`.
    pub(crate) async fn figure(&self, series: &str) -> f64 {
        let page = self.admin("/metrics").await.text();
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().unwrap()
    }

    /// Waits until so many calls wait for their turn.
    pub(crate) async fn queued(&self, calls: usize) {
        until(async || {
            let depth = self.figure("omnigate_queue_depth{budget=\"omni\"}").await;
            (depth == calls as f64).then_some(())
        })
        .await;
    }

    /// The most memory that it ever had in use.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // Not yet reaped, so the id is still its own.
        assert!(self.child.id().is_some());
        kill_process(Pid::from_raw(self.pid.cast_signed()).unwrap(), signal).unwrap();
    }

    /// `kill -9`, and nothing left of it on return.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for it to end by itself.
    pub(crate) async fn ends(mut self) -> Ended {
        let status = soon(self.child.wait()).await.unwrap();
        for hearing in &mut self.hearing {
            soon(hearing).await.unwrap();
        }
        Ended { status, said: self.said() }
    }

    /// All that it wrote to stdout and stderr so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

/// Keeps every line that comes.
fn hear(
    from: impl AsyncRead + Send + Unpin + 'static,
    said: Arc<Mutex<Vec<String>>>,
) -> JoinHandle<()> {
    let mut lines = BufReader::new(from).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            said.lock().unwrap().push(line);
        }
    })
}

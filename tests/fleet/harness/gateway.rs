//! The process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::harness::until;

/// `omnigate serve`, killed when this is dropped.
pub(crate) struct Gateway {
    child: Child,
    pid: u32,
    said: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    pub(crate) fn spawn(config: &Path) -> Self {
        let built = env!("CARGO_BIN_EXE_omnigate").into();
        let mut child = Command::new(std::env::var_os("OMNIGATE").unwrap_or(built))
            .args(["serve".as_ref(), "-c".as_ref(), config.as_os_str()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        hear(child.stdout.take().unwrap(), said.clone());
        hear(child.stderr.take().unwrap(), said.clone());
        Self { pid: child.id().unwrap(), child, said }
    }

    /// Where callers connect, and where operators do, once it serves.
    pub(crate) async fn serves(&self) -> (SocketAddr, SocketAddr) {
        let address = |event: Value| event["address"].as_str().unwrap().parse().unwrap();
        let caller = address(self.says("serving").await);
        (caller, address(self.says("admin").await))
    }

    /// Waits for a log line with this message.
    pub(crate) async fn says(&self, message: &str) -> Value {
        until(
            || format!("nobody said `{message}`: {}", self.said()),
            async || self.events(message).into_iter().next(),
        )
        .await
    }

    /// The log lines with this message so far.
    pub(crate) fn events(&self, message: &str) -> Vec<Value> {
        let lines = self.said.lock().unwrap();
        let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["message"] == message).collect()
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

    /// All that it wrote to stdout and stderr so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

/// Keeps every line that comes.
fn hear(from: impl AsyncRead + Send + Unpin + 'static, said: Arc<Mutex<Vec<String>>>) {
    let mut lines = BufReader::new(from).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            said.lock().unwrap().push(line);
        }
    });
}

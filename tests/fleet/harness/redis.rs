//! A real Redis, on a unix socket.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::harness::until;

/// `redis-server`, killed when this is dropped.
pub(crate) struct Redis {
    child: Child,
    folder: tempfile::TempDir,
    clock: bool,
}

/// What it has done since its start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Runs of the script.
    pub(crate) scripts: f64,
    /// Microseconds that they took.
    pub(crate) usec: f64,
    /// Commands that no script gives: greetings, subscriptions, pings.
    pub(crate) others: f64,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        Self::start_with(false).await
    }

    /// One whose clock can be set.
    pub(crate) async fn start_with_clock() -> Self {
        Self::start_with(true).await
    }

    async fn start_with(clock: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if clock {
            std::fs::write(folder.path().join("clock"), "+0").unwrap();
        }
        let redis = Self { child: spawn(folder.path(), clock), folder, clock };
        redis.answers().await;
        redis
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Kills it; what it held is gone, as nothing of it was on disk.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Kills it and starts an empty one in its place.
    pub(crate) async fn restart(&mut self) {
        self.kill().await;
        self.child = spawn(self.folder.path(), self.clock);
        self.answers().await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it runs");
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
    }

    /// Sets its wall clock so many seconds off.
    pub(crate) fn set_clock(&self, seconds: i64) {
        assert!(self.clock);
        // In one step: it is read at every look at the clock.
        let fresh = self.folder.path().join("clock.new");
        std::fs::write(&fresh, format!("{seconds:+}")).unwrap();
        std::fs::rename(fresh, self.folder.path().join("clock")).unwrap();
    }

    /// Asks it something.
    pub(crate) async fn ask(&self, command: &[&str]) -> redis::RedisResult<redis::Value> {
        let url = format!("unix://{}", self.socket().display());
        let client = redis::Client::open(url)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut ask = redis::cmd(command[0]);
        ask.arg(&command[1..]);
        ask.query_async(&mut connection).await
    }

    /// A section of its `INFO`.
    pub(crate) async fn info(&self, section: &str) -> String {
        redis::from_redis_value(self.ask(&["INFO", section]).await.unwrap()).unwrap()
    }

    pub(crate) async fn done(&self) -> Done {
        let info = self.info("commandstats").await;
        let mut done = Done::default();
        for line in info.lines() {
            let Some((name, figures)) =
                line.strip_prefix("cmdstat_").and_then(|l| l.split_once(':'))
            else {
                continue;
            };
            let figure = |name: &str| {
                let of = |one: &str| {
                    Some(one.split_once('=')?).filter(|one| one.0 == name)?.1.parse().ok()
                };
                figures.split(',').find_map(of).unwrap_or(0.0f64)
            };
            if ["eval", "evalsha", "fcall"].contains(&name) {
                done.scripts += figure("calls");
                done.usec += figure("usec");
            }
            if ["hello", "ping", "subscribe", "auth", "select", "script|load"].contains(&name) {
                done.others += figure("calls");
            }
        }
        done
    }

    async fn answers(&self) {
        until(
            || "redis-server does not answer".to_owned(),
            async || self.ask(&["PING"]).await.ok(),
        )
        .await;
    }
}

fn spawn(folder: &Path, clock: bool) -> Child {
    let socket = folder.join("redis.sock");
    // A dead one's socket stays, and would be asked in place of the new one's.
    let _ = std::fs::remove_file(&socket);
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
    command.args(["--repl-diskless-sync-delay", "0", "--loglevel", "warning"]);
    command.arg("--unixsocket").arg(socket).arg("--dir").arg(folder);
    if clock {
        // jemalloc looks at the clock before libfaketime is ready for it; the C library's own does not.
        command.env("LD_PRELOAD", format!("{} libc.so.6", faketime().display()));
        command.env("FAKETIME_TIMESTAMP_FILE", folder.join("clock"));
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().expect("redis-server is installed; tests/run does it")
}

/// Where Debian's package `libfaketime` has put the library.
fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut all = folders.map(|folder| folder.join("faketime/libfaketime.so.1"));
    all.find(|path| path.exists()).expect("libfaketime is installed; tests/run does it")
}

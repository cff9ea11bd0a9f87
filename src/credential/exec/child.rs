//! One run of a program: in a process group of its own, and over in time.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use futures_util::future::pending;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use crate::credential::store::MAX_BYTES;

use super::ExecError;

/// The most that a program may have to say beside the secret.
const MAX_STDERR_BYTES: u64 = 1024 * 1024;

/// How long a program that was killed may take to be gone. Only a system call that cannot be
/// interrupted, as on a network mount, makes this more than a moment.
const GRACE: Duration = Duration::from_secs(1);

/// Where a program writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Where its secret is expected.
    Stdout,
    /// What it says beside that.
    Stderr,
}

/// How a program ended that did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with a status other than 0.
    Status(i32),
    /// By a signal.
    Signal(i32),
}

/// A program that runs. Dropped, all of its group is killed.
struct Running {
    child: Child,
    /// Its process group. The number is its own until the child is reaped, and no longer.
    group: Option<Pid>,
    stdout: ChildStdout,
    stderr: ChildStderr,
    stderr_bytes: u64,
    /// Tells that a child of ours has ended.
    children: unix::Signal,
}

/// Runs a program for as long as somebody waits for its output, and `limit` at most, and tells the
/// output. Before that the program is reaped, and what is left of its group is killed.
///
/// Must be spawned: dropped in between, it leaves the reaping to tokio, which does it at leisure.
pub(super) async fn run(
    command: Command,
    limit: Duration,
    mut tell: oneshot::Sender<Result<Zeroizing<Vec<u8>>, ExecError>>,
) {
    let deadline = Instant::now() + limit;
    let late = |_| ExecError::TimedOut { after: limit };
    let started = timeout_at(deadline, Running::start(command)).await;
    let mut running = match started.map_err(late).flatten() {
        Ok(running) => running,
        Err(error) => {
            let _ = tell.send(Err(error));
            return;
        }
    };
    let output = tokio::select! {
        output = timeout_at(deadline, running.output()) => Some(output.map_err(late).flatten()),
        () = tell.closed() => None,
    };
    let status = running.end().await;
    let result = match (output, status) {
        (None, _) => return,
        (Some(Err(error)), _) => Err(error),
        (Some(Ok(output)), Ok(status)) if status.success() => Ok(output),
        (Some(Ok(_)), Ok(status)) => Err(running.failed(status).await),
        (Some(Ok(_)), Err(error)) => Err(ExecError::CannotStart(error.kind())),
    };
    let _ = tell.send(result);
}

impl Running {
    async fn start(mut command: Command) -> Result<Self, ExecError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => ExecError::NotThere,
            other => ExecError::CannotStart(other),
        };
        let children = unix::signal(SignalKind::child()).map_err(failed)?;
        // The system call ends when the program is loaded, and that may come from a slow mount.
        let started = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().map_err(failed)?;
            let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
            match (child.stdout.take(), child.stderr.take()) {
                (Some(stdout), Some(stderr)) => {
                    Ok(Self { child, group, stdout, stderr, stderr_bytes: 0, children })
                }
                // Not without the pipes that were asked for.
                _ => Err(ExecError::CannotStart(io::ErrorKind::BrokenPipe)),
            }
        });
        started.await.unwrap_or(Err(ExecError::CannotStart(io::ErrorKind::Interrupted)))
    }

    /// What it prints until nobody can print any more, and it has ended.
    ///
    /// A grandchild that keeps stderr open is not waited for: some programs leave an agent behind.
    async fn output(&mut self) -> Result<Zeroizing<Vec<u8>>, ExecError> {
        let Self { group, stdout, stderr, stderr_bytes, children, .. } = self;
        let output = async {
            let output = read_to_end(stdout).await?;
            ended(*group, children).await;
            Ok(output)
        };
        let too_much = async {
            if drain(stderr, stderr_bytes).await {
                pending::<()>().await;
            }
        };
        tokio::select! {
            output = output => output,
            () = too_much => Err(ExecError::TooMuch { stream: Stream::Stderr }),
        }
    }

    /// Kills what is left of the group and reaps the child.
    async fn end(&mut self) -> io::Result<ExitStatus> {
        self.kill();
        let reaped = timeout(GRACE, self.child.wait()).await;
        // After this the number may be somebody else's. Where the child is still there, it was
        // killed all the same, and tokio reaps it.
        self.group = None;
        reaped.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    async fn failed(&mut self, status: ExitStatus) -> ExecError {
        // What it wrote last may still be in the pipe, at whose other end nobody is any more.
        let _ = timeout(GRACE, drain(&mut self.stderr, &mut self.stderr_bytes)).await;
        let signal = status.signal().map(Ending::Signal);
        let ending = signal.unwrap_or(Ending::Status(status.code().unwrap_or_default()));
        ExecError::Failed { ending, stderr_bytes: self.stderr_bytes }
    }

    fn kill(&self) {
        if let Some(group) = self.group {
            // There may be nobody left to kill.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until the child has ended, and leaves it unreaped, so that its group's number stays its own.
async fn ended(child: Option<Pid>, children: &mut unix::Signal) {
    let Some(child) = child else { return };
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while let Ok(None) = waitid(WaitId::Pid(child), look) {
        if children.recv().await.is_none() {
            return;
        }
    }
}

async fn read_to_end(stdout: &mut ChildStdout) -> Result<Zeroizing<Vec<u8>>, ExecError> {
    // All at once, since a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(vec![0; MAX_BYTES + 1]);
    let mut length = 0;
    while length < bytes.len() {
        match stdout.read(&mut bytes[length..]).await {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) => return Err(ExecError::CannotStart(error.kind())),
        }
    }
    if length > MAX_BYTES {
        return Err(ExecError::TooMuch { stream: Stream::Stdout });
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Reads to the end, or says that it is too much; tools print secrets there, so nothing is kept.
async fn drain(stderr: &mut (impl AsyncRead + Unpin), bytes: &mut u64) -> bool {
    let mut buffer = Zeroizing::new([0; 4096]);
    loop {
        match stderr.read(&mut *buffer).await {
            Ok(0) | Err(_) => return true,
            Ok(more) => *bytes += u64::try_from(more).unwrap_or(u64::MAX),
        }
        if *bytes > MAX_STDERR_BYTES {
            return false;
        }
    }
}

impl Stream {
    pub(super) fn limit(self) -> &'static str {
        match self {
            Self::Stdout => "64 KiB",
            Self::Stderr => "1 MiB",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "exit status {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

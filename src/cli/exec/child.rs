//! The program: started as it would be without us, waited for, and ended like.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::cli::exec::environment::Environment;

/// As shells say it: there is no such program.
const NOT_FOUND: u8 = 127;
/// And: there is one, which cannot be run.
const NOT_RUNNABLE: u8 = 126;
/// What Unix says of a file that is no program of any kind.
const ENOEXEC: i32 = rustix::io::Errno::NOEXEC.raw_os_error();

/// The program as a process.
#[derive(Debug)]
pub(super) struct Program(Child);

/// How it ended, and how we do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It gave this code.
    Code(u8),
    /// A signal ended it.
    Signal(i32),
}

/// Why it could not be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unstarted {
    #[error("there is no program `{name}` on the PATH; see whether its name is right")]
    NotOnPath { name: String },
    #[error("there is no program {name}, or the interpreter that its first line names is missing")]
    NotThere { name: String },
    #[error("{name} is a folder; name the program in it")]
    Folder { name: String },
    #[error("{name} is not executable; `chmod +x {name}`, or start it with its interpreter")]
    NotExecutable { name: String },
    #[error(
        "{name} is no program that the system can run; start it with its interpreter, as in `sh {name}`"
    )]
    NoFormat { name: String },
    #[error("{name} cannot be started: {why}; see what it is and where it leads")]
    Other { name: String, why: io::Error },
}

impl Program {
    /// Starts it with our stdin, stdout and stderr, in our folder and our process group, so that a terminal
    /// treats both alike. Its end does not depend on ours.
    ///
    /// Signals that were ignored when we were started are ignored there too, but for SIGPIPE: Rust's
    /// runtime ignores that before we can look, and std gives each child its default.
    pub(super) fn start(
        name: &OsString,
        arguments: &[OsString],
        environment: &Environment,
    ) -> Result<Self, Unstarted> {
        let mut command = Command::new(name);
        command.args(arguments);
        for removed in &environment.removed {
            command.env_remove(removed);
        }
        command.envs(environment.set.iter().map(|(name, value)| (name, value)));
        let child = command.spawn().map_err(|why| Unstarted::new(Path::new(name), why))?;
        Ok(Self(child))
    }

    /// Its id, until it was waited for: afterwards it may be another's.
    pub(super) fn pid(&self) -> Option<u32> {
        self.0.id()
    }

    /// Waits until it ends. Cancel-safe.
    pub(super) async fn ends(&mut self) -> io::Result<Ending> {
        self.0.wait().await.map(Ending::of)
    }

    /// Hands a signal on. One that comes too late is nobody's any more.
    pub(super) fn tell(&self, signal: i32) {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(signal)) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Ending {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            // Eight bits are all that there is of it.
            (Some(code), _) => Self::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Code(1),
        }
    }

    /// Ends this process as the program ended, so that whoever waits for us sees no difference.
    pub(super) fn repeat(self) -> ExitCode {
        match self {
            Self::Code(code) => ExitCode::from(code),
            Self::Signal(signal) => {
                // It does not come back where the signal's default is to end a process; and no other signal
                // ended the program. We are not dumpable, so that no core of ours is written.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
                ExitCode::from(128u8.saturating_add(u8::try_from(signal).unwrap_or(u8::MAX)))
            }
        }
    }
}

impl Unstarted {
    fn new(path: &Path, why: io::Error) -> Self {
        let name = path.display().to_string();
        match why.kind() {
            ErrorKind::NotFound if path.components().count() < 2 && !name.contains('/') => {
                Self::NotOnPath { name }
            }
            ErrorKind::NotFound => Self::NotThere { name },
            ErrorKind::PermissionDenied if path.is_dir() => Self::Folder { name },
            ErrorKind::PermissionDenied => Self::NotExecutable { name },
            _ if why.raw_os_error() == Some(ENOEXEC) => Self::NoFormat { name },
            _ => Self::Other { name, why },
        }
    }

    /// What a shell would exit with.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::NotOnPath { .. } | Self::NotThere { .. } => NOT_FOUND,
            Self::Folder { .. }
            | Self::NotExecutable { .. }
            | Self::NoFormat { .. }
            | Self::Other { .. } => NOT_RUNNABLE,
        }
    }
}

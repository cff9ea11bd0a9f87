//! Signals that come while the program runs: which it has had already, and which are for us to hand on.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::exfiltrator::origin::Origin;
use signal_hook::low_level::siginfo::Cause;
use tokio::sync::mpsc;

use crate::cli::exec::standing::Standing;

/// Signals that people and programs send to end a program, or to tell it something.
const OURS: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The terminal sent it to the whole process group: the program has it too.
    Everybody(i32),
    /// Somebody sent it to us, who mean the program. (Somebody who sends one to the whole group looks the
    /// same; the program has it twice then.)
    Us(i32),
    /// Ctrl-Z: we shall stop, once the terminal is as it was.
    Stop {
        /// Whether the program was told, too.
        everybody: bool,
    },
}

/// Signals as they come.
#[derive(Debug)]
pub(super) struct Signals(mpsc::UnboundedReceiver<Told>);

impl Signals {
    /// From now on these signals do not end us. Those that were ignored when we were started stay so,
    /// here and in the program: `nohup` and shells in the background rely on that.
    pub(super) fn listen() -> io::Result<Self> {
        let ignored = ignored();
        let mut wanted: Vec<i32> = OURS.into_iter().collect();
        if stops() {
            wanted.push(SIGTSTP);
        }
        wanted.retain(|signal| ignored & (1 << (signal - 1)) == 0);
        let mut signals = SignalsInfo::<WithOrigin>::new(&wanted)?;
        let (tell, told) = mpsc::unbounded_channel();
        // Ends with the process.
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for origin in signals.forever() {
                if tell.send(Told::by(&origin)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self(told))
    }

    /// Waits for the next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Told {
        match self.0.recv().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }
}

impl Told {
    fn by(origin: &Origin) -> Self {
        match (origin.signal, origin.cause) {
            (SIGTSTP, cause) => Self::Stop { everybody: cause == Cause::Kernel },
            (signal, Cause::Kernel) => Self::Everybody(signal),
            (signal, _) => Self::Us(signal),
        }
    }
}

/// Stops this process, as Ctrl-Z does; returns when it is continued.
pub(super) fn stop() {
    let _ = signal_hook::low_level::raise(signal_hook::consts::SIGSTOP);
}

/// A bit for each signal that we were told to ignore; none where the system does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Whether Ctrl-Z stops our process group at all: somebody outside of it, in the same session, must be there
/// to continue it (POSIX: it is not orphaned).
fn stops() -> bool {
    let Some(us) = Standing::ours() else { return false };
    let mut next = us.parent;
    while let Some(one) = Standing::of(next).filter(|one| one.session == us.session) {
        if one.group != us.group {
            return true;
        }
        next = one.parent;
    }
    false
}

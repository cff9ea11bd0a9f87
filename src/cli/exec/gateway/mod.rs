//! The gateway behind `exec`: found, or started in a process of its own, which ends with the last who needs it.
//!
//! Two `exec` of one state folder share one gateway, and so one budget. Each holds a *lease* for as long
//! as its program runs: a connection to the gateway's control socket, which the kernel closes however
//! that `exec` ends. The gateway holds the ledger's lock before it makes a socket, and removes its
//! sockets before it gives the lock back; so what lies there while nobody holds the lock is a dead one's.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `folder.rs` | the folder where they meet, and that nobody else comes in |
//! | `words.rs` | what they say to each other, and what two must have in common |
//! | `lease.rs` | the side of `exec` |
//! | `start.rs` | a gateway is started, and says why where it is not |
//! | `beside.rs` | another process has the state folder: a gateway that runs, or somebody to wait for |
//! | `keeper.rs` | who must be at the other end of each connection |
//! | `listeners.rs`, `gone.rs` | what the kernel tells: whose a port is, and when a process has ended |
//! | `keep.rs`, `leases.rs` | the gateway's own process |

mod beside;
mod folder;
mod gone;
mod keep;
mod keeper;
mod lease;
mod leases;
mod listeners;
mod start;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use http::uri::Authority;
use tokio::time::Instant;

use crate::cli::{CONFIG, UNAVAILABLE, online};
use crate::config::Config;
use crate::net::Dial;
use beside::Holder;
use folder::{CALLS, Folder};
use lease::{Asked, Lease};
use start::Started;
use words::Identity;

pub(crate) use keep::{KeepArgs, keep};
pub(super) use keeper::Keeper;

/// For so long gateways may come and go without one that takes us.
const RACES: Duration = Duration::from_secs(30);
/// For so long another may be starting one: secrets are read then.
const STARTS: Duration = Duration::from_secs(150);
/// Between two tries.
const BREATH: Duration = Duration::from_millis(20);

/// A gateway that takes calls for as long as this is held.
#[derive(Debug)]
pub(super) struct Way {
    /// Where calls go.
    pub(super) dial: Dial,
    /// Who must be there.
    pub(super) keeper: Keeper,
    /// What they name as their `Host`, where it is not what the program said.
    pub(super) host: Option<Authority>,
    /// What to tell the user about it, in a line; nothing where it was started for this program alone.
    pub(super) note: Option<String>,
    /// What keeps it alive, where that is ours.
    lease: Option<Lease>,
}

impl Way {
    /// A gateway that runs whether it is needed or not.
    pub(super) fn beside(
        dial: Dial,
        keeper: Keeper,
        host: Option<Authority>,
        note: Option<String>,
    ) -> Self {
        Self { dial, keeper, host, note, lease: None }
    }

    fn with(lease: Lease, folder: &Folder, note: Option<String>) -> Self {
        // Another gateway that came after it may have another config, and other keys.
        let keeper = Keeper::Process(lease.gateway());
        let dial = Dial::unix(&folder.at(CALLS));
        Self { dial, keeper, host: None, note, lease: Some(lease) }
    }

    /// Needs it no longer. Where nobody else does, waits until it is gone and the state folder free, 3 s at most.
    pub(super) async fn leave(self) {
        if let Some(lease) = self.lease {
            lease.leave().await;
        }
    }
}

/// Why there is no way.
#[derive(Debug)]
pub(super) struct Unfound {
    said: String,
    /// What `exec` ends with.
    pub(super) code: u8,
}

impl Unfound {
    fn unavailable(said: String) -> Self {
        Self { said, code: UNAVAILABLE }
    }
}

impl fmt::Display for Unfound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

/// Finds the gateway of this config's state folder, or starts it. Where another process has the folder, says
/// so on stderr and waits.
///
/// Cancel-safe: what was started ends.
///
/// # Errors
/// [`Unfound`]; no gateway is left behind.
pub(super) async fn find(config: &Config, path: &Path) -> Result<Way, Unfound> {
    online::mine(config).map_err(Unfound::unavailable)?;
    let unread = |error: io::Error| Unfound {
        said: format!("the config {} cannot be read: {error}", path.display()),
        code: CONFIG,
    };
    let path = std::path::absolute(path).map_err(unread)?;
    let who = Identity::of(config, &path).map_err(unread)?;
    let folder = Folder::open(&config.state_dir)?;
    let mut until = Instant::now() + RACES;
    let (mut told, mut beside) = (false, Holder::default());
    while Instant::now() < until {
        match Lease::ask(&folder, &who).await? {
            Asked::Joined(lease) => {
                let note = format!(
                    "sharing the gateway of another `omnigate exec` on {}",
                    config.state_dir.display()
                );
                return Ok(Way::with(lease, &folder, Some(note)));
            }
            Asked::Other { pid, version, mut line } => {
                if !std::mem::replace(&mut told, true) {
                    say_other(config, pid, version);
                }
                while let Ok(Some(_)) = line.hear().await {}
                until = Instant::now() + RACES;
                continue;
            }
            Asked::Ending => {
                tokio::time::sleep(BREATH).await;
                continue;
            }
            Asked::Nobody => {}
        }
        let starting = folder.starting(STARTS).await?;
        // Whoever held it before us has started one.
        if !matches!(Lease::ask(&folder, &who).await?, Asked::Nobody) {
            continue;
        }
        match start::start(&folder, &path, &who).await? {
            Started::Serves(lease) => return Ok(Way::with(lease, &folder, None)),
            Started::InUse(holder) => {
                drop(starting);
                if let Some(way) = beside.wait(config, holder).await? {
                    return Ok(way);
                }
                until = Instant::now() + RACES;
            }
        }
    }
    Err(Unfound::unavailable(format!(
        "gateways on {} came and went for {} s, and none could be shared; try again",
        config.state_dir.display(),
        RACES.as_secs()
    )))
}

fn say_other(config: &Config, pid: Option<u32>, version: bool) {
    let other = if version { "of another version" } else { "with another config" };
    let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    eprintln!(
        "omnigate: another `omnigate exec` {other} uses {}{pid}; waiting for it to end. Ctrl-C gives up",
        config.state_dir.display()
    );
}

//! What an `exec` holds for as long as it needs the gateway.

use std::io;
use std::time::Duration;

use tokio::net::UnixStream;

use super::Unfound;
use super::folder::{CONTROL, Folder};
use super::gone::gone;
use super::words::{Identity, Line, Word};

/// The end of a gateway takes no longer, or is not waited for.
const LEAVE: Duration = Duration::from_secs(3);
/// A gateway answers within that.
const ANSWER: Duration = Duration::from_secs(10);

/// A share in a gateway. It ends with its last lease, dropped or left.
#[derive(Debug)]
pub(super) struct Lease {
    line: Line,
    /// The gateway's process, where it is known.
    gateway: Option<u32>,
    /// Its sockets' paths lead through it.
    _folder: Folder,
}

/// What came of asking for one.
#[derive(Debug)]
pub(super) enum Asked {
    Joined(Lease),
    /// There is no gateway.
    Nobody,
    /// There was one, and it ends.
    Ending,
    /// It is one with another config, or of another version.
    Other {
        pid: Option<u32>,
        version: bool,
        /// It ends when that does.
        line: Line,
    },
}

impl Lease {
    pub(super) fn new(line: Line, gateway: Option<u32>, folder: &Folder) -> Self {
        Self { line, gateway, _folder: folder.clone() }
    }

    /// The gateway's process, where it is known.
    pub(super) fn gateway(&self) -> Option<u32> {
        self.gateway
    }

    /// Asks the gateway of the folder for a lease, if there is one.
    ///
    /// # Errors
    /// What is there is no gateway of ours.
    pub(super) async fn ask(folder: &Folder, who: &Identity) -> Result<Asked, Unfound> {
        let odd = |error: &dyn std::fmt::Display| {
            Unfound::unavailable(format!(
                "{} is no socket of a gateway: {error}; see what it is, then remove it",
                folder.shown(CONTROL).display()
            ))
        };
        let stream = match UnixStream::connect(folder.at(CONTROL)).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    // What a dead gateway left is no socket that somebody listens to.
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return match is_in_the_way(&folder.at(CONTROL)) {
                    true => Err(odd(&"it is a file")),
                    false => Ok(Asked::Nobody),
                };
            }
            Err(error) => return Err(odd(&error)),
        };
        let mut line = Line::new(stream);
        let gateway = line.peer().map_err(|error| odd(&error))?;
        let asked = async {
            line.say(&Word::Hello(who.clone())).await?;
            line.hear().await
        };
        match tokio::time::timeout(ANSWER, asked).await {
            Ok(Ok(Some(Word::Joined))) => Ok(Asked::Joined(Self::new(line, gateway, folder))),
            Ok(Ok(Some(Word::Other { pid, version }))) => Ok(Asked::Other { pid, version, line }),
            Ok(Ok(Some(
                Word::Hello(_) | Word::InUse { .. } | Word::Failed { .. } | Word::Stays,
            ))) => Err(odd(&"it says what no gateway says")),
            // A word of another version.
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Ok(Asked::Other { pid: gateway, version: true, line })
            }
            Ok(Ok(None) | Err(_)) => Ok(Asked::Ending),
            Err(_) => Err(Unfound::unavailable(format!(
                "the gateway behind `exec`{} does not answer; end it and try again",
                gateway.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
            ))),
        }
    }

    /// Gives it back. Where it was the last, waits until the gateway is gone and its state folder free,
    /// 3 s at most.
    pub(super) async fn leave(mut self) {
        let left = async {
            self.line.hang_up().await;
            if let Ok(Some(Word::Stays)) = self.line.hear().await {
                return;
            }
            // The connection ends a moment before the process, and its locks with the process.
            if let Some(gateway) = self.gateway {
                gone(gateway).await;
            }
        };
        let _ = tokio::time::timeout(LEAVE, left).await;
    }
}

fn is_in_the_way(path: &std::path::Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket())
}

//! The folder in which the ledger survives, and its lock.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

/// The lock, and the sign that this folder has held a ledger before.
pub(crate) const LOCK: &str = "omnigate.lock";

/// Where the ledger survives.
#[derive(Clone, Debug)]
pub struct StatePlace {
    /// The folder; made when it is not there.
    pub folder: PathBuf,
    /// Upstream, as its origin reads; each has a ledger of its own.
    pub upstream: String,
}

/// Why the state folder does not let us start. A folder that merely cannot be written does not
/// stop the service.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Two processes with one ledger would send twice the limit.
    #[error(
        "another omnigate{} already uses {}; give this one a `state_dir` of its own only if it speaks to \
         another Omni organization, otherwise let callers use the one that runs",
        .holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), .folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// Its process id, where the lock file tells it.
        holder: Option<u32>,
    },
}

impl StatePlace {
    pub(crate) fn file(&self) -> PathBuf {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(&self.upstream);
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!("ledger-{name}.bin"))
    }

    /// An old file that is no longer kept up would open the gate at the next start.
    pub(crate) fn give_up(&self, error: &io::Error) {
        let removed = std::fs::remove_file(self.file()).is_ok();
        tracing::error!(folder = %self.folder.display(), %error, removed,
            "the ledger file cannot be written; the limit holds until this process ends");
    }
}

pub(crate) enum Locked {
    Yes { file: File, used_before: bool },
    Unwritable { error: io::Error, used_before: bool },
}

pub(crate) fn take_lock(folder: &Path) -> Result<Locked, StateError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let path = folder.join(LOCK);
    let used_before = path.exists();
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // The pid is written over whatever it is.
            .custom_flags(no_follow)
            .open(path)
    };
    let mut file = match made.and_then(|()| open()) {
        Ok(file) => file,
        Err(error) => return Ok(Locked::Unwritable { error, used_before }),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            return Err(StateError::InUse {
                folder: folder.to_owned(),
                holder: text.trim().parse().ok(),
            });
        }
        // A file system that knows no locks.
        Err(error) => return Ok(Locked::Unwritable { error: error.into(), used_before }),
    }
    // The pid only serves the message above; the lock itself is the kernel's.
    let _ = file.set_len(0);
    let _ = file.rewind();
    let _ = writeln!(file, "{}", std::process::id());
    Ok(Locked::Yes { file, used_before })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_locks_place_leads_nowhere() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let precious = elsewhere.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, folder.path().join(LOCK)).unwrap();
        let locked = take_lock(folder.path()).unwrap();
        assert!(matches!(locked, Locked::Unwritable { .. }));
        assert_eq!(std::fs::read_to_string(precious).unwrap(), "precious");
    }
}

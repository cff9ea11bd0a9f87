//! The sign that a gateway puts into its state folder: who holds the ledger, and where callers connect.
//!
//! It is for other commands of the same user. It counts only while the process that it names holds the
//! folder's lock: one that a dead gateway left behind says nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::server::{Bound, Listener, ServerSettings};

/// Its name in the folder.
const NAME: &str = "serving.json";
/// No sign is longer.
const LONGEST: u64 = 64 * 1024;

/// Where the gateway of a state folder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sign {
    /// The process.
    pub pid: u32,
    /// Where its requests go: scheme, host and port.
    pub upstream: String,
    /// Where callers connect.
    pub doors: Vec<Door>,
}

/// One place where callers connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// An address with a port, or `unix:` and a path.
    pub at: String,
    /// Whether it takes calls without TLS and without a field of its own.
    pub plain: bool,
    /// Whether it takes calls of somebody whom no rule identifies.
    pub anonymous: bool,
}

impl Sign {
    /// The sign of this process.
    pub(super) fn of(upstream: String, server: &ServerSettings, bound: &[Bound]) -> Self {
        let door = |(listener, bound): (&Listener, &Bound)| Door {
            at: bound.to_string(),
            plain: listener.tls.is_none() && listener.entrance.required.is_none(),
            anonymous: listener.entrance.anonymous,
        };
        let doors = server.listeners.iter().zip(bound).map(door).collect();
        Self { pid: std::process::id(), upstream, doors }
    }

    /// Reads the sign in a state folder; nothing where there is none that this user, or nobody but this
    /// user, could have put there.
    pub fn read(folder: &Path) -> Option<Self> {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).ok()?;
        let path = folder.join(NAME);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        let found = file.metadata().ok()?;
        let ours = found.uid() == rustix::process::geteuid().as_raw();
        if !ours || !found.is_file() || found.mode() & 0o022 != 0 {
            return None;
        }
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Takes away what an earlier process left. Only for whoever holds the folder's lock.
    pub(super) fn clear(folder: &Path) {
        let _ = std::fs::remove_file(folder.join(NAME));
    }

    /// Puts it up. Only for whoever holds the folder's lock. A gateway serves without one, too.
    pub(super) fn put_up(&self, folder: &Path) -> Option<Posted> {
        let posted = self.write(folder);
        posted.inspect_err(|error| tracing::debug!(%error, "no sign for other commands")).ok()
    }

    fn write(&self, folder: &Path) -> io::Result<Posted> {
        let path = folder.join(NAME);
        let new = folder.join(format!("{NAME}.new"));
        let _ = std::fs::remove_file(&new);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(serde_json::to_string(self)?.as_bytes())?;
        std::fs::rename(&new, &path)?;
        Ok(Posted { path })
    }
}

/// A sign that is up; dropping it takes it away.
#[derive(Debug)]
pub(super) struct Posted {
    path: PathBuf,
}

impl Drop for Posted {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn sign() -> Sign {
        let door = Door { at: "127.0.0.1:6664".to_owned(), plain: true, anonymous: true };
        Sign { pid: 7, upstream: "https://acme.omniapp.co".to_owned(), doors: vec![door] }
    }

    #[test]
    fn a_sign_is_read_as_it_was_put_up_and_goes_with_its_gateway() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Sign::read(folder.path()), None);
        let posted = sign().put_up(folder.path());
        assert_eq!(Sign::read(folder.path()), Some(sign()));
        drop(posted);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_sign_that_others_could_have_written_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let _posted = sign().put_up(folder.path());
        let path = folder.path().join(NAME);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o620)).unwrap();
        assert_eq!(Sign::read(folder.path()), None);
        let elsewhere = folder.path().join("elsewhere");
        std::fs::rename(&path, &elsewhere).unwrap();
        std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert_eq!(Sign::read(folder.path()), None);
    }
}

//! The folder in the state folder where `exec` and its gateway meet: nobody else comes in.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat};
use rustix::io::Errno;
use tokio::net::{UnixListener, UnixSocket};

use super::Unfound;

/// Where calls go.
pub(super) const CALLS: &str = "calls.sock";
/// Where leases are taken.
pub(super) const CONTROL: &str = "control.sock";
/// Held by whoever starts a gateway.
const START: &str = "start.lock";
/// What the last gateway had to say.
const LOG: &str = "log";

/// How many may be about to take a lease.
const BACKLOG: u32 = 256;

/// The folder, open: whatever is renamed meanwhile, it stays the one that was looked at.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// A path to the same folder that fits into a socket's address, which has 108 bytes.
    short: PathBuf,
    /// `short` leads through it.
    _open: Arc<OwnedFd>,
}

impl Folder {
    /// Opens the folder; made when it is not there.
    ///
    /// # Errors
    /// It cannot be made, or somebody else could have put something into it.
    pub(super) fn open(state: &Path) -> Result<Self, Unfound> {
        let path = state.join("exec");
        let unwritable = |error: &dyn std::fmt::Display| {
            Unfound::unavailable(format!(
                "the state folder {} cannot be used: {error}. `exec` needs it to keep the limit: mend that, or \
                 choose another `state_dir`; or go through a gateway that runs, with --via URL",
                state.display()
            ))
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(state);
        made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => unwritable(&"it is not a folder"),
            _ => unwritable(&error),
        })?;
        let us = rustix::process::geteuid().as_raw();
        let owner = state.metadata().map_err(|error| unwritable(&error))?.uid();
        if owner != us && owner != 0 {
            return Err(unwritable(&format!("it belongs to the user {owner}")));
        }
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unwritable(&error)),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let not_ours = |why: &str| {
            Unfound::unavailable(format!(
                "{} {why}, so what is in it is not trusted; see what it is, then remove it",
                path.display()
            ))
        };
        let open = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(open) => open,
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(not_ours("is not a folder")),
            Err(error) => return Err(unwritable(&io::Error::from(error))),
        };
        let found = fstat(&open).map_err(|error| unwritable(&io::Error::from(error)))?;
        if found.st_uid != us {
            return Err(not_ours(&format!("belongs to the user {}", found.st_uid)));
        }
        if Mode::from_raw_mode(found.st_mode).intersects(Mode::RWXG | Mode::RWXO) {
            return Err(not_ours("is open to other users"));
        }
        let short = short(&path, &open);
        Ok(Self { path, short, _open: Arc::new(open) })
    }

    /// The path of something in it; good for as long as the folder is held.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.short.join(name)
    }

    /// The same, for people.
    pub(super) fn shown(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A text in which something in it is named, for people.
    pub(super) fn named(&self, said: &str) -> String {
        said.replace(&*self.short.to_string_lossy(), &self.path.to_string_lossy())
    }

    /// A new log, empty.
    pub(super) fn log(&self) -> io::Result<File> {
        let path = self.at(LOG);
        // Not what another process still writes into, nor what a link leads to.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
    }

    /// The end of the log.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read(self.at(LOG)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned();
        text.trim().to_owned()
    }

    /// Waits until nobody else starts a gateway here; others wait until the file is dropped.
    ///
    /// # Errors
    /// Somebody does for longer than that, or the file cannot be made.
    pub(super) async fn starting(&self, within: Duration) -> Result<File, Unfound> {
        let path = self.at(START);
        let folder = self.clone();
        let taken = tokio::task::spawn_blocking(move || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.custom_flags(no_follow()).open(path)?;
            drop(folder);
            loop {
                match flock(&file, FlockOperation::LockExclusive) {
                    Ok(()) => return Ok(file),
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(io::Error::from(error)),
                }
            }
        });
        let place = self.shown(START);
        match tokio::time::timeout(within, taken).await {
            Ok(Ok(Ok(file))) => Ok(file),
            Ok(Ok(Err(error))) => Err(Unfound::unavailable(format!(
                "{} cannot be used: {error}; see what it is, then remove it",
                place.display()
            ))),
            Ok(Err(_)) | Err(_) => Err(Unfound::unavailable(format!(
                "another `omnigate exec` has been starting a gateway for {} s and holds {}; see what it waits \
                 for, or end it",
                within.as_secs(),
                place.display()
            ))),
        }
    }

    /// Opens the socket where leases are taken. Only for whoever holds the ledger: what lies there then is
    /// a dead gateway's.
    pub(super) fn control(&self) -> io::Result<Control> {
        let path = self.at(CONTROL);
        remove_socket(&path)?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(&path)?;
        // Until `listen` nobody comes in; and the folder lets nobody else in.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(Control { listener: socket.listen(BACKLOG)?, path, _folder: self.clone() })
    }
}

fn no_follow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

/// Removes a socket, and nothing else.
fn remove_socket(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is in the way",
        )),
    }
}

#[cfg(target_os = "linux")]
fn short(_path: &Path, open: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    // proc(5): leads to the very folder that is open, however long its own path is.
    PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()))
}

#[cfg(not(target_os = "linux"))]
fn short(path: &Path, _open: &OwnedFd) -> PathBuf {
    path.to_owned()
}

/// The socket where leases are taken; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// The path leads through it.
    _folder: Folder,
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

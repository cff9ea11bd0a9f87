//! What `exec` and its gateway say to each other: one JSON document a line.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use bytes::BytesMut;
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::os::unix::ffi::OsStringExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::cli::exec::environment::secrets_of;
use crate::config::Config;

/// No line is longer.
const LONGEST: usize = 256 * 1024;

/// One thing that is said.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// Somebody comes who needs the gateway.
    Hello(Identity),
    /// It serves, and goes on for as long as this connection is held.
    Joined,
    /// It is another one's; the connection ends when it does.
    Other {
        /// One of those who hold it.
        pid: Option<u32>,
        /// Whether it is another version of the program, and not only another config.
        version: bool,
    },
    /// It cannot start yet: another process has the state folder.
    InUse {
        /// Which, where the lock file tells it.
        pid: Option<u32>,
    },
    /// It cannot start.
    Failed {
        /// What `serve` would end with.
        code: u8,
        /// What `serve` would say.
        said: String,
    },
    /// Somebody else still needs it.
    Stays,
}

/// What two must have in common to share a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Of the program.
    version: String,
    /// Of the config: of what its file says and what that stands for.
    config: String,
}

impl Identity {
    /// Of this program, with this config.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub(super) fn of(config: &Config, path: &Path) -> io::Result<Self> {
        Self::within(config, path, |name| std::env::var_os(name))
    }

    /// The same, with the variables that there are.
    pub(super) fn within(
        config: &Config,
        path: &Path,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> io::Result<Self> {
        // What the settings are: the same text means other places in another folder or environment.
        // And the text: settings do not show what is confidential in them.
        let settings = format!("{:?}", Config { warnings: None, ..config.clone() });
        let mut digest = Sha256::new();
        for part in [settings.as_bytes(), &std::fs::read(path)?] {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        // Who has another key in the same variable must not spend this one.
        for name in secrets_of(config) {
            let value = variable(name).map(|value| Zeroizing::new(value.into_vec()));
            digest.update(Sha256::digest(value.as_deref().map_or(&b""[..], |value| value)));
        }
        let config = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { version: env!("CARGO_PKG_VERSION").to_owned(), config })
    }

    /// Whether the two are of one version.
    pub(super) fn is_of_version(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

/// A connection on which words are said.
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
    heard: BytesMut,
}

impl Line {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, heard: BytesMut::new() }
    }

    /// The process at the other end, where it is of this user.
    ///
    /// # Errors
    /// It is of another user, or nobody knows.
    pub(super) fn peer(&self) -> io::Result<Option<u32>> {
        let peer = self.stream.peer_cred()?;
        if peer.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the user {} is at the other end", peer.uid()),
            ));
        }
        Ok(peer.pid().and_then(|pid| u32::try_from(pid).ok()))
    }

    pub(super) async fn say(&mut self, word: &Word) -> io::Result<()> {
        let mut text = serde_json::to_vec(word)?;
        text.push(b'\n');
        self.stream.write_all(&text).await
    }

    /// Waits for the next word; nothing at the end.
    ///
    /// Cancel-safe.
    pub(super) async fn hear(&mut self) -> io::Result<Option<Word>> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(serde_json::from_slice(&self.heard.split_to(end + 1))?));
            }
            if self.heard.len() > LONGEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.stream.read_buf(&mut self.heard).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Says that nothing more comes.
    pub(super) async fn hang_up(&mut self) {
        let _ = self.stream.shutdown().await;
    }
}

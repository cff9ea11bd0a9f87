//! Where secrets are kept, and what may be wrong with one.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::SecretSlice;

use crate::net::BadPassword;

use super::age::{AgeError, AgeStore};
use super::dir::Dir;
use super::env::Env;
use super::exec::{ExecError, ExecStore};
use super::file::File;
use super::hashicorp::{HashicorpError, Sessions};
use super::settings::Source;
use super::token::{BadToken, Token};

/// The most bytes that are read of a secret's place.
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// The longest that one read may take, where its place has no time limit of its own.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The place of one secret.
pub(super) trait SecretStore: fmt::Debug + Send + Sync {
    /// Reads the secret as it is now. May block a thread of its own, never the runtime's.
    fn read(&self) -> BoxFuture<'_, Result<Found, SecretError>>;

    /// Where that is, for people.
    fn place(&self) -> Place;

    /// How often it is worth another look; `None` where it is looked at only when somebody asks, or
    /// when what was found runs out.
    fn refresh_every(&self) -> Option<Duration>;

    /// How long one read may take.
    fn patience(&self) -> Duration {
        READ_TIMEOUT
    }

    /// What the store has to do between reads, for ever; meant to be cancelled.
    fn keep(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// What a look at a secret's place found.
pub(super) struct Found {
    /// The secret as it stands there, not yet a token.
    pub(super) secret: SecretSlice<u8>,
    /// How long it is good for, where its place says so.
    pub(super) valid_for: Option<Duration>,
}

impl Found {
    /// A secret that does not run out.
    pub(super) fn lasting(secret: SecretSlice<u8>) -> Self {
        Self { secret, valid_for: None }
    }
}

/// Where a secret is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// A variable of our environment.
    Variable(String),
    /// Our own memory.
    Memory,
    /// What a program prints.
    Command {
        /// The program.
        program: PathBuf,
        /// The secret's name; `None` where it may not be shown.
        name: Option<String>,
    },
    /// A field of a secret in a Vault server.
    Vault {
        /// The server.
        host: String,
        /// The secret's path, as policies have it.
        path: String,
        /// The field.
        field: String,
    },
}

/// Why a secret cannot be had. Names the place, and shows nothing of what is there.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nothing is there.
    #[error("{place} is not there")]
    Missing {
        /// Where.
        place: Place,
    },
    /// The system refuses, or fails.
    #[error("{place} cannot be read: {source}")]
    Unreadable {
        /// Where.
        place: Place,
        /// What the system says.
        source: io::Error,
    },
    /// Others on this machine may read the file.
    #[error(
        "{} may be read by others (its mode is {mode:04o}); run: chmod 600 {}",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A folder, a device or a pipe.
    #[error("{place} is not a regular file")]
    NotAFile {
        /// Where.
        place: Place,
    },
    /// No token is that long.
    #[error("{place} is larger than 64 KiB")]
    TooLarge {
        /// Where.
        place: Place,
    },
    /// The place was read, and what is there is no token.
    #[error("{place} holds no token: {source}")]
    BadToken {
        /// Where.
        place: Place,
        /// What is wrong with it.
        source: BadToken,
    },
    /// The place was read, and what is there is no password.
    #[error("{place} holds no password: {source}")]
    BadPassword {
        /// Where.
        place: Place,
        /// What is wrong with it.
        source: BadPassword,
    },
    /// A read that did not end; a network mount may hang.
    #[error("{place} could not be read within {} s", .after.as_secs())]
    TimedOut {
        /// Where.
        place: Place,
        /// The time limit.
        after: Duration,
    },
    /// A program gave no secret.
    #[error("{place} is no secret: {source}")]
    Exec {
        /// Which program.
        place: Place,
        /// Why.
        source: ExecError,
    },
    /// A vault file does not give it.
    #[error(transparent)]
    Age(Box<AgeError>),
    /// Something is wrong between us and a Vault server, or with what is there.
    #[error("{place}: {source}")]
    Hashicorp {
        /// Where.
        place: Place,
        /// What.
        source: HashicorpError,
    },
    /// A name that is none, perhaps because it is the secret itself; so it is not repeated.
    #[error(
        "the name given for the secret is not a plain name; say where the secret is, not what it is"
    )]
    BadName,
}

/// Finds the store of a secret.
pub(super) fn store_for(
    source: &Source,
    sessions: &mut Sessions<'_>,
) -> Result<Arc<dyn SecretStore>, SecretError> {
    Ok(match source {
        Source::Dir { path, name } => Arc::new(Dir::new(path, name)?),
        Source::File { path } => Arc::new(File::new(path)),
        Source::Env { name } => Arc::new(Env::new(name)?),
        Source::Age { vault, name } => Arc::new(AgeStore::new(vault, name)?),
        Source::Exec { command, name } => Arc::new(ExecStore::new(command, name)?),
        Source::Given { token } => Arc::new(Given { token: token.clone() }),
        Source::Hashicorp { vault, path, field } => Arc::new(sessions.store(vault, path, field)?),
    })
}

/// A value that is not kept anywhere yet.
#[derive(Debug)]
struct Given {
    token: Arc<Token>,
}

impl SecretStore for Given {
    fn read(&self) -> BoxFuture<'_, Result<Found, SecretError>> {
        Box::pin(std::future::ready(Ok(Found::lasting(self.token.text()))))
    }

    fn place(&self) -> Place {
        Place::Memory
    }

    fn refresh_every(&self) -> Option<Duration> {
        None
    }
}

impl SecretError {
    /// What somebody who starts the gateway can do about it, where the error itself does not say.
    pub(crate) fn way_out(&self) -> String {
        let without = "or say on_missing = \"degrade\" to start without it";
        if let Self::Missing { place: Place::Variable(_) } = self {
            return format!("; set it before the start, {without}");
        }
        if let Self::Missing { place: Place::File(_) } = self {
            return format!("; put the secret there, {without}");
        }
        if let Self::Age(error) = self
            && let AgeError::NoSuchName { name, .. } = &**error
        {
            return format!("; put it in with: omnigate vault set {}", name.as_str());
        }
        String::new()
    }

    /// Whether nothing is there at all.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("valid_for", &self.valid_for).finish_non_exhaustive()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::Memory => f.write_str("what was given"),
            Self::Command { program, name: Some(name) } => {
                write!(f, "what {} prints for `{name}`", program.display())
            }
            Self::Command { program, name: None } => {
                write!(f, "what {} prints", program.display())
            }
            Self::Vault { host, path, field } => {
                write!(f, "the field {field} of {path} in the Vault server {host}")
            }
        }
    }
}

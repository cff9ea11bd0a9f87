//! What a program prints: 1Password, sops, pass, the tools of AWS and GCP.

mod answer;
mod child;
mod when;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use secrecy::zeroize::Zeroizing;
use tokio::process::Command;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use crate::omni;

use super::settings::ExecSettings;
use super::store::{Found, Place, SecretError, SecretStore};

pub use answer::BadAnswer;
pub use child::{Ending, Stream};

/// What a program gets of our environment besides what the config names. None of it is a secret, and
/// without it few tools find their files.
const VARIABLES: [&str; 9] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
];

/// What stands for the secret's name in an argument.
const NAME: &str = "{name}";

/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// A program that prints one secret.
///
/// It is run as it is, without a shell. One run at a time, so that an older answer never comes after
/// a newer one, and a slow program does not pile up.
#[derive(Debug)]
pub(super) struct ExecStore {
    settings: ExecSettings,
    name: String,
    alone: Arc<Mutex<()>>,
}

/// Why a program gave no secret. Shows nothing of what it wrote.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// A name that is none, perhaps because it is the secret itself; so it is not repeated.
    #[error(
        "the secret's name must have 1 to 255 bytes, no control characters and no `-` at its start, \
         and must not be the secret itself"
    )]
    BadName,
    /// Arguments can be read by everybody on the machine.
    #[error("one of its arguments holds a token, which everybody on this machine could read there")]
    TokenInArguments,
    /// Where a program without a path is found depends on who looks.
    #[error("the program's path is not absolute; write it from the root, such as /usr/bin/op")]
    NotAbsolute,
    /// Nothing is there, or the interpreter that its first line names is not there.
    #[error("there is no such program, or not the interpreter that its first line names")]
    NotThere,
    /// The system refuses, or fails.
    #[error("it cannot be run: {0}; is it a program that this user may execute?")]
    CannotStart(io::ErrorKind),
    /// It did not end by itself.
    #[error(
        "it did not end within {:.1} s and was killed; does it wait for somebody to log in? Run it by \
         hand, or give it a longer `timeout`",
        after.as_secs_f64()
    )]
    TimedOut {
        /// How long it was given.
        after: Duration,
    },
    /// No secret is that long.
    #[error("it wrote more than {} to {stream} and was killed; it must print one secret alone", stream.limit())]
    TooMuch {
        /// Where to.
        stream: Stream,
    },
    /// It says that it failed, or crashed.
    #[error(
        "it ended with {ending} and wrote {stderr_bytes} bytes to stderr, which are not shown, since \
         they may hold secrets; run it by hand to see them"
    )]
    Failed {
        /// How it ended.
        ending: Ending,
        /// How much it had to say about that.
        stderr_bytes: u64,
    },
    /// What it printed is no answer.
    #[error("what it printed begins with a brace, but {0}")]
    BadAnswer(#[from] BadAnswer),
    /// It printed a secret that is of no use any more.
    #[error("the token that it printed has expired already; is this machine's clock right?")]
    Expired,
}

impl ExecStore {
    /// # Errors
    /// Refuses a program without its whole path, and names and arguments that may be secrets.
    pub(super) fn new(settings: &ExecSettings, name: &str) -> Result<Self, SecretError> {
        check_name(name).map_err(|source| SecretError::Exec {
            place: Place::Command { program: settings.program.clone(), name: None },
            source,
        })?;
        let store =
            Self { settings: settings.clone(), name: name.to_owned(), alone: Arc::default() };
        let why = if !settings.program.is_absolute() {
            Some(ExecError::NotAbsolute)
        } else if settings.args.iter().any(|argument| holds_token(argument.as_bytes())) {
            Some(ExecError::TokenInArguments)
        } else {
            None
        };
        match why {
            None => Ok(store),
            Some(source) => Err(SecretError::Exec { place: store.place(), source }),
        }
    }

    /// Runs the program in a task of its own, which outlives a caller who leaves: it then ends the
    /// program and reaps it.
    async fn run(&self) -> Result<Zeroizing<Vec<u8>>, ExecError> {
        let limit = self.settings.timeout;
        let alone = timeout(limit, self.alone.clone().lock_owned());
        let alone = alone.await.map_err(|_| ExecError::TimedOut { after: limit })?;
        let (tell, told) = oneshot::channel();
        let command = self.command();
        tokio::spawn(async move {
            child::run(command, limit, tell).await;
            drop(alone);
        });
        // Only a runtime that goes away tells nothing.
        told.await.unwrap_or(Err(ExecError::CannotStart(io::ErrorKind::Interrupted)))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.settings.program);
        command
            .args(self.settings.args.iter().map(|argument| argument.replace(NAME, &self.name)))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command.envs(self.environment(&|name| std::env::var_os(name)));
        command
    }

    /// What it gets of our environment.
    fn environment(&self, variable: &dyn Fn(&str) -> Option<OsString>) -> BTreeMap<&str, OsString> {
        let names = VARIABLES.into_iter().chain(self.settings.env.iter().map(String::as_str));
        let found = names.filter_map(|name| Some((name, variable(name)?)));
        // A key of Omni has no business in a child, whatever the variable is called.
        found.filter(|(_, value)| !holds_token(value.as_encoded_bytes())).collect()
    }
}

impl SecretStore for ExecStore {
    fn read(&self) -> BoxFuture<'_, Result<Found, SecretError>> {
        Box::pin(async {
            let output = self.run().await;
            output
                .and_then(|output| answer::read(&output, SystemTime::now()))
                .map_err(|source| SecretError::Exec { place: self.place(), source })
        })
    }

    fn place(&self) -> Place {
        Place::Command { program: self.settings.program.clone(), name: Some(self.name.clone()) }
    }

    fn refresh_every(&self) -> Option<Duration> {
        self.settings.refresh
    }

    /// Another run may have to end first, and each may take a moment to be ended.
    fn patience(&self) -> Duration {
        (self.settings.timeout + Duration::from_secs(1)) * 2
    }
}

/// Whether this may be handed to a program as the name of a secret. There is no shell that would
/// read more into it; only what a program takes for an option is kept from it.
fn check_name(name: &str) -> Result<(), ExecError> {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.chars().any(char::is_control)
        && !name.starts_with('-')
        && !holds_token(name.as_bytes());
    if fits { Ok(()) } else { Err(ExecError::BadName) }
}

fn holds_token(text: &[u8]) -> bool {
    let prefix = omni::TOKEN_PREFIX.as_bytes();
    text.windows(prefix.len()).any(|part| part.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests;

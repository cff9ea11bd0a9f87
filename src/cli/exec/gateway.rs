//! The gateway behind `exec`: found, or started in a process of its own, which ends with the last who needs it.

use std::path::PathBuf;
use std::process::ExitCode;

use http::uri::Authority;

use crate::cli::UNAVAILABLE;
use crate::config::Config;
use crate::net::Dial;

/// A gateway that takes calls for as long as this is held.
#[derive(Debug)]
pub(super) struct Way {
    /// Where calls go.
    pub(super) dial: Dial,
    /// What they name as their `Host`, where it is not what the program said.
    pub(super) host: Option<Authority>,
    /// What to tell the user about it, in a line; nothing where it was started for this program alone.
    pub(super) note: Option<String>,
}

/// What the gateway's own process is told.
#[derive(Debug, clap::Args)]
pub(crate) struct KeepArgs {
    /// The config file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

impl Way {
    /// Needs it no more.
    pub(super) async fn leave(self) {}
}

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub(super) struct Unfound {
    said: String,
    /// What `exec` ends with.
    pub(super) code: u8,
}

/// Finds the gateway of this config's state folder, or starts it.
pub(super) async fn find(_config: &Config, _path: &std::path::Path) -> Result<Way, Unfound> {
    let said = "no gateway can be started yet; name one that runs with --via".to_owned();
    Err(Unfound { said, code: UNAVAILABLE })
}

/// The gateway's own process.
pub(crate) fn keep(_args: KeepArgs) -> ExitCode {
    ExitCode::from(UNAVAILABLE)
}

//! The gateway behind `exec`: found, or started in a process of its own, which ends with the last who needs it.

use std::path::PathBuf;
use std::process::ExitCode;

use http::uri::Authority;

use crate::cli::UNAVAILABLE;
use crate::config::Config;
use crate::net::Dial;

/// A gateway that takes calls for as long as this is held.
#[derive(Debug)]
#[expect(dead_code, reason = "the contract")]
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

/// Finds the gateway of this config's state folder, or starts it.
#[expect(dead_code, reason = "the contract")]
pub(super) async fn find(_config: &Config, _path: &std::path::Path) -> Result<Way, String> {
    Err("not yet".to_owned())
}

/// The gateway's own process.
pub(crate) fn keep(_args: KeepArgs) -> ExitCode {
    ExitCode::from(UNAVAILABLE)
}

//! `omnigate init`.

use std::process::ExitCode;

use crate::cli::UNAVAILABLE;

/// To be written.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {}

pub(crate) fn run(_args: InitArgs) -> ExitCode {
    ExitCode::from(UNAVAILABLE)
}

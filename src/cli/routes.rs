//! `omnigate routes`.

use std::process::ExitCode;

use crate::cli::UNAVAILABLE;

/// To be written.
#[derive(Debug, clap::Args)]
pub(crate) struct RoutesArgs {}

pub(crate) fn run(_args: RoutesArgs) -> ExitCode {
    ExitCode::from(UNAVAILABLE)
}

//! `omnigate man`.

use std::process::ExitCode;

use crate::cli::UNAVAILABLE;

/// To be written.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {}

pub(crate) fn run(_args: ManArgs) -> ExitCode {
    ExitCode::from(UNAVAILABLE)
}

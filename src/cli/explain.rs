//! `omnigate explain`.

use std::process::ExitCode;

use crate::cli::UNAVAILABLE;

/// To be written.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {}

pub(crate) fn run(_args: ExplainArgs) -> ExitCode {
    ExitCode::from(UNAVAILABLE)
}

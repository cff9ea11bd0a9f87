//! `omnigate completions`.

use std::process::ExitCode;

use crate::cli::UNAVAILABLE;

/// To be written.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {}

pub(crate) fn run(_args: CompletionsArgs) -> ExitCode {
    ExitCode::from(UNAVAILABLE)
}

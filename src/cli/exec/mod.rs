//! `omnigate exec`: runs a program with a gateway beside it, and shows what becomes of its calls.

mod gateway;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::UNAVAILABLE;

pub(crate) use gateway::KeepArgs;
pub(crate) use gateway::keep;

/// Runs a program that finds the gateway in `OMNI_BASE_URL`, and a dummy where it looks for a key.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    /// The config file [default: $OMNIGATE_CONFIG, ./omnigate.toml, your config folder, /etc/omnigate]
    #[arg(short, long, value_name = "FILE", conflicts_with = "via")]
    config: Option<PathBuf>,
    /// Go through the gateway that runs there, such as http://127.0.0.1:6664
    #[arg(long, value_name = "URL")]
    via: Option<String>,
    /// How urgent its calls are that do not say so
    #[arg(long, value_name = "CLASS")]
    priority: Option<String>,
    /// Write what became of its calls into this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

pub(crate) fn run(_args: ExecArgs) -> ExitCode {
    ExitCode::from(UNAVAILABLE)
}

//! `omnigate completions`.

use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::cli::{Cli, print_whole};

/// For whom.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(&Cli::command()), "omnigate", &mut script);
    print_whole(&script)
}

/// The program without the commands that are hidden: completions would show them.
fn shown(all: &Command) -> Command {
    Command::new("omnigate")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .about(all.get_about().cloned().unwrap_or_default())
        .subcommands(all.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
}

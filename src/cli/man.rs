//! `omnigate man`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::{Cli, OK, UNAVAILABLE, print_whole};

/// Where the pages go.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Write the page of each command into this folder, which is made where it is not there; without,
    /// the main page is printed
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

pub(crate) fn run(args: ManArgs) -> ExitCode {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = args.to else {
        return print_whole(&page(&command));
    };
    match write_all(&command, &folder) {
        Ok(count) => {
            println!("{}: {count} pages", folder.display());
            ExitCode::from(OK)
        }
        Err((path, error)) => {
            eprintln!(
                "error: {} cannot be written: {error}; name a folder of yours, such as \
                 ~/.local/share/man/man1",
                path.display()
            );
            ExitCode::from(UNAVAILABLE)
        }
    }
}

fn write_all(command: &Command, folder: &Path) -> Result<usize, (PathBuf, io::Error)> {
    fs::create_dir_all(folder).map_err(|error| (folder.to_owned(), error))?;
    let (mut waiting, mut count) = (vec![command], 0);
    while let Some(command) = waiting.pop() {
        let path = folder.join(format!("{}.1", name(command)));
        fs::write(&path, page(command)).map_err(|error| (path, error))?;
        count += 1;
        waiting.extend(command.get_subcommands().filter(|it| !it.is_hide_set()));
    }
    Ok(count)
}

fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> Vec<u8> {
    let mut page = Vec::new();
    let man = Man::new(command.clone())
        .title(name(command).to_uppercase())
        .source(concat!("omnigate ", env!("CARGO_PKG_VERSION")))
        .manual("omnigate");
    // Into memory, where nothing can go wrong.
    let _ = man.render(&mut page);
    page
}

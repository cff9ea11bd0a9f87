//! `vault export`: secrets for another place to keep.

use std::fs::File;
use std::io::{IsTerminal, stdout};
use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::cli::vault::{Failed, Here, UNAVAILABLE, names};
use crate::credential::age::Form;

/// Which secrets, in which form, and where to.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// The form.
    #[arg(long, value_name = "FORM")]
    to: To,
    /// The file, or for `dir` the folder [default: standard output, unless that is a terminal]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Overwrite what is there; show values on a terminal.
    #[arg(long)]
    force: bool,
    /// The names of the secrets [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum To {
    /// A file for each secret in a folder (backend "dir").
    Dir,
    /// NAME=value in lines (backend "env").
    Env,
    /// A manifest for kubectl apply; base64 hides nothing.
    K8sSecret,
}

pub(super) fn export(here: &Here, args: &ExportArgs) -> Result<(), Failed> {
    let names = names(&args.names)?;
    let form = match (args.to, &args.out) {
        (To::Dir, None) => return Err(Failed::usage("say which folder: --out FOLDER")),
        (To::Dir, Some(folder)) => {
            let written = here.open()?.export_folder(&names, folder, args.force)?;
            let files = if written == 1 { "file" } else { "files" };
            eprintln!("{written} {files} in {}, for its owner alone", folder.display());
            return Ok(());
        }
        (To::Env, _) => Form::Env,
        (To::K8sSecret, _) => Form::K8sSecret,
    };
    if let Some(path) = &args.out {
        here.open()?.export_file(form, &names, path, args.force)?;
        eprintln!("written to {}, for its owner alone", path.display());
        return Ok(());
    }
    if stdout().is_terminal() && !args.force {
        return Err(Failed::usage(
            "this would show the secrets on the terminal; say --out FILE, pipe it on, or say --force",
        ));
    }
    // Past the buffer of `stdout()`, which is never wiped.
    let unwritable = |error| Failed {
        code: UNAVAILABLE,
        why: format!("the secrets cannot be written: {error}"),
    };
    let mut out = File::from(stdout().as_fd().try_clone_to_owned().map_err(unwritable)?);
    Ok(here.open()?.export(form, &names, &mut out)?)
}

//! The questions, to somebody at a terminal.

use std::io::{self, Write, stdin};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::init::address::{self, Address};
use crate::cli::init::{Place, kind_of};
use crate::credential::Kind;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Ended {
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the terminal is gone.
    Over,
    Io(io::Error),
}

/// Somebody who answers, or goes away.
#[derive(Debug)]
pub(super) struct Person {
    runtime: Runtime,
}

impl Person {
    pub(super) fn new() -> Result<Self, Ended> {
        let runtime = Builder::new_current_thread().enable_io().build().map_err(Ended::Io)?;
        Ok(Self { runtime })
    }

    /// Omni's address; asked for until it is one.
    pub(super) fn address(&self, usual: Option<&Address>) -> Result<Address, Ended> {
        let shown = usual.map(|usual| format!(" [{}]", usual.origin)).unwrap_or_default();
        loop {
            let said = self.line(&format!("Omni's address, as your browser shows it{shown}: "))?;
            let read = match (usual, said.as_str()) {
                (Some(usual), "") => Ok(Address { origin: usual.origin.clone(), mended: false }),
                (None, "") => Err(address::BadAddress::Name),
                (_, said) => address::read(said),
            };
            match read {
                Ok(address) => return Ok(address),
                Err(why) => eprintln!("  {why}"),
            }
        }
    }

    /// Where the key is to be.
    pub(super) fn place(&self) -> Result<Place, Ended> {
        eprintln!(
            "Where is the key to be?\n  \
             1  in an encrypted file here, which omnigate makes (age)\n  \
             2  in a variable of the environment (env)\n  \
             3  in a folder with one file for each key, as Kubernetes, Docker and systemd have it (dir)\n  \
             4  with a program such as 1Password's, or on a Vault server"
        );
        loop {
            match self.line("1 to 4 [1]: ")?.as_str() {
                "" | "1" | "age" => return Ok(Place::Age),
                "2" | "env" => return Ok(Place::Env),
                "3" | "dir" => return Ok(Place::Dir),
                "4" => eprintln!(
                    "  That takes some lines of your own: config/vault.toml, which comes with omnigate, has \
                     them.\n  Choose one of the others to begin with, and change [vault] in the config then."
                ),
                _ => eprintln!("  1, 2, 3 or 4; Ctrl-C ends it"),
            }
        }
    }

    /// The folder of [`Place::Dir`].
    pub(super) fn folder(&self, usual: &str) -> Result<String, Ended> {
        let said = self.line(&format!("Which folder? [{usual}]: "))?;
        Ok(if said.is_empty() { usual.to_owned() } else { said })
    }

    /// What Omni knows the key as.
    pub(super) fn kind(&self) -> Result<Kind, Ended> {
        loop {
            let said = self
                .line("What kind of key is it: organization, personal or mcp? [organization]: ")?;
            match kind_of(&said) {
                Some(kind) => return Ok(kind),
                None => eprintln!("  organization, personal or mcp; Ctrl-C ends it"),
            }
        }
    }

    /// Yes, unless no is said.
    pub(super) fn agrees(&self, question: &str) -> Result<bool, Ended> {
        loop {
            match self.line(&format!("{question} [Y/n] "))?.to_ascii_lowercase().as_str() {
                "" | "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => eprintln!("  y or n; Ctrl-C ends it"),
            }
        }
    }

    /// One line, without the blanks around it.
    fn line(&self, question: &str) -> Result<String, Ended> {
        let (tell, told) = oneshot::channel();
        self.runtime.block_on(async {
            // Caught before there is a question, so that there is always a word about what became of it.
            let mut interrupted = signal(SignalKind::interrupt()).map_err(Ended::Io)?;
            eprint!("{question}");
            let _ = io::stderr().flush();
            // A thread of its own: it waits for the terminal even when nobody waits for it any more.
            thread::spawn(move || {
                let mut line = String::new();
                tell.send(stdin().read_line(&mut line).map(|length| (length, line)))
            });
            tokio::select! {
                biased;
                _ = interrupted.recv() => Err(Ended::Interrupted),
                read = told => match read {
                    Ok(Ok((0, _))) | Err(_) => Err(Ended::Over),
                    Ok(Ok((_, line))) => Ok(line.trim().to_owned()),
                    // What is no text is no answer, and is not repeated.
                    Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Ok("?".into()),
                    Ok(Err(error)) => Err(Ended::Io(error)),
                },
            }
        })
    }
}

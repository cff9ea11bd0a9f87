//! `vault set` and `vault rotate`: a value on its way in, seen by nobody.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read, stdin};
use std::os::fd::AsFd;
use std::sync::Arc;

use secrecy::zeroize::Zeroizing;

use crate::cli::kind::Word;
use crate::cli::vault::quiet::Quiet;
use crate::cli::vault::trial::{self, After};
use crate::cli::vault::{Failed, Here, SECRET_ARGUMENT, name, warn_of_unnamed};
use crate::cli::{UNAVAILABLE, in_shell};
use crate::credential::age::{Change, Edit, Listed, SecretName};
use crate::credential::{Kind, Token};

/// Ended by Ctrl-C, as shells count it.
const INTERRUPTED: u8 = 130;
/// More than any token, and what comes with one by mistake.
const MAX_BYTES: u64 = 64 * 1024;

/// The name and kind of a secret, and where its value comes from.
#[derive(Debug, clap::Args)]
pub(super) struct SetArgs {
    /// Its name, which the config uses.
    name: String,
    /// What Omni knows it as [default: as before, else as the config says, else organization]
    #[arg(long)]
    kind: Option<Word>,
    /// Read the value from standard input instead of asking for it.
    #[arg(long)]
    stdin: bool,
    /// Only here to be refused without being repeated.
    #[arg(hide = true)]
    value: Vec<OsString>,
}

/// The name of a secret, and where its new value comes from.
#[derive(Debug, clap::Args)]
pub(super) struct RotateArgs {
    /// Its name.
    name: String,
    /// Read the new value from standard input instead of asking for it.
    #[arg(long)]
    stdin: bool,
    /// Do not ask Omni whether it takes the new value.
    #[arg(long)]
    untried: bool,
    /// Only here to be refused without being repeated.
    #[arg(hide = true)]
    value: Vec<OsString>,
}

impl SetArgs {
    /// Asks for the value; all else is as usual.
    pub(super) fn asked(name: &str) -> Self {
        Self { name: name.to_owned(), kind: None, stdin: false, value: Vec::new() }
    }
}

pub(super) fn set(here: &Here, args: SetArgs) -> Result<(), Failed> {
    let name = name_alone(&args.name, &args.value)?;
    let terminal = quiet(args.stdin)?;
    // What would fail is said before anybody is asked for anything.
    let before = here.open()?.find(&name).ok().and_then(|listed| listed.kind);
    let configured = here.kinds.get(name.as_str()).copied();
    let kind = args.kind.map(Word::kind).or(before).or(configured).unwrap_or(Kind::Organization);
    let token = ask(&name, args.stdin, terminal)?;
    warn_of_form(&token, kind);

    let mut edit = Edit::begin(&here.files)?;
    let unnamed = edit.vault.unnamed();
    let change = edit.vault.set(&name, &token, kind);
    let now = told(&edit.vault.find(&name)?);
    let alone = edit.vault.list().len() == 1;
    let vault = here.files.path.display();
    let what = match change {
        Change::Nothing => {
            println!("`{name}` has this value already; nothing was changed ({now})");
            return Ok(());
        }
        Change::Added => "is in",
        Change::Replaced => "has a new value in",
        Change::KindOnly => "has this value already and another kind now, in",
    };
    edit.save()?;
    println!("`{name}` {what} {vault} ({now})");
    warn_of_unnamed(unnamed);
    if let (true, true, Some(config)) =
        (alone && change == Change::Added, here.configured, &here.config)
    {
        let named = if here.named { format!(" -c {}", in_shell(config)) } else { String::new() };
        println!("\nNext:\n\n  omnigate serve{named}");
    }
    Ok(())
}

pub(super) fn rotate(here: &Here, args: RotateArgs) -> Result<(), Failed> {
    let name = name_alone(&args.name, &args.value)?;
    let terminal = quiet(args.stdin)?;
    let before = here.open()?.find(&name)?;
    let configured = here.kinds.get(name.as_str()).copied();
    let kind = before.kind.or(configured).unwrap_or(Kind::Organization);
    let token = ask(&name, args.stdin, terminal)?;
    warn_of_form(&token, kind);
    if here.open()?.holds(&name, &token) {
        return Err(Failed::refused(format!(
            "this is the value that `{name}` has; make a new key in Omni first"
        )));
    }
    let token = Arc::new(token);
    let trial = match args.untried {
        true => After::Nothing,
        false => trial::before_it_replaces(here, &name, &token)?,
    };

    let mut edit = Edit::begin(&here.files)?;
    // It may have been taken out while we asked.
    let old = edit.vault.token(&name)?;
    let unnamed = edit.vault.unnamed();
    edit.vault.set(&name, &token, kind);
    let now = told(&edit.vault.find(&name)?);
    edit.save()?;
    if let After::Ask(trial) = trial {
        trial::while_it_serves(here, &name, &trial, &token, &old)?;
    }
    println!("`{name}` has a new value in {} ({now})", here.files.path.display());
    println!(
        "A running gateway uses it within 5 s. Then revoke the old key in Omni{}.",
        before.fingerprint.map(|old| format!(" (sha256 {old}…)")).unwrap_or_default()
    );
    warn_of_unnamed(unnamed);
    Ok(())
}

fn name_alone(given: &str, value: &[OsString]) -> Result<SecretName, Failed> {
    match value {
        [] => name(given),
        _ => Err(Failed::usage(SECRET_ARGUMENT)),
    }
}

/// Reads the value: from a pipe, or from somebody who types what is not shown.
fn ask(name: &SecretName, from_stdin: bool, terminal: Option<Quiet>) -> Result<Token, Failed> {
    let value = match (terminal, from_stdin) {
        (Some(terminal), _) => match terminal.ask(&format!("Value of `{name}` (not shown): ")) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                return Err(Failed { code: INTERRUPTED, why: "nothing was changed".into() });
            }
            // Ctrl-D: nothing.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Zeroizing::default(),
            typed => Zeroizing::new(typed.map_err(unreadable)?.into_bytes()),
        },
        (None, true) if stdin().is_terminal() => {
            let why = "standard input is a terminal, which would show the value; leave --stdin out";
            return Err(Failed::usage(why));
        }
        (None, true) => piped().map_err(unreadable)?,
        (None, false) => {
            let why = "there is no terminal to ask on; say --stdin and pipe the value in";
            return Err(Failed::usage(why));
        }
    };
    Token::parse(&value).map_err(|error| {
        Failed::refused(format!("what was read is no token: {error}; nothing was changed"))
    })
}

/// Has the terminal show nothing, where the value is typed: before it is asked for, since whoever has it
/// at hand pastes it at once.
fn quiet(from_stdin: bool) -> Result<Option<Quiet>, Failed> {
    match !from_stdin && stdin().is_terminal() {
        true => Quiet::begin().map(Some).map_err(unreadable),
        false => Ok(None),
    }
}

fn unreadable(error: std::io::Error) -> Failed {
    let why = format!("the value cannot be read: {error}; nothing was changed");
    Failed { code: UNAVAILABLE, why }
}

fn piped() -> std::io::Result<Zeroizing<Vec<u8>>> {
    // Past the buffer of `stdin()`, which is never wiped.
    let pipe = File::from(stdin().as_fd().try_clone_to_owned()?);
    let mut value = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize + 64));
    pipe.take(MAX_BYTES).read_to_end(&mut value)?;
    Ok(value)
}

fn warn_of_form(token: &Token, kind: Kind) {
    // The form of the tokens of the MCP flow is not known.
    if kind != Kind::Mcp && !token.looks_like_omni() {
        eprintln!(
            "warning: the value has not the form of an Omni key (omni_osk_ and 56 letters and \
             digits); it is taken as it is"
        );
    }
}

fn told(secret: &Listed) -> String {
    let kind = secret.kind.map_or("of no kind", Kind::as_str);
    format!("{kind}, sha256 {}…", secret.fingerprint.as_deref().unwrap_or("?"))
}

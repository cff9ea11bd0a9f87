//! `omnigate vault …`: the encrypted file that secrets are kept in, and its life.

mod export;
mod init;
mod quiet;
mod rekey;
mod set;
mod show;
mod trial;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::{CONFIG, OK, UNAVAILABLE};
use crate::config::{self, VaultSaid};
use crate::credential::age::{AgeError, BadName, SecretName, Vault};
use crate::credential::{AgeSettings, Kind};
use crate::omni;

/// What was asked for cannot be done with what is there.
const REFUSED: u8 = 1;
/// The command was not given as it has to be.
const USAGE: u8 = 2;

/// Keep secrets in an encrypted file.
#[derive(Debug, clap::Args)]
pub(crate) struct VaultArgs {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    what: What,
}

/// Where the vault is.
#[derive(Debug, clap::Args)]
struct Place {
    /// The vault file [default: what [vault] in the config says, else ./vault.age]
    #[arg(long, value_name = "FILE", global = true)]
    vault: Option<PathBuf>,
    /// The file with the key that opens it [default: what the config says, else ./identity.txt]
    #[arg(long, value_name = "FILE", global = true)]
    identity: Option<PathBuf>,
    /// The config file [default: $OMNIGATE_CONFIG, ./omnigate.toml, your config folder, /etc/omnigate]
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make an identity, an empty vault and, where there is none, a config. Overwrites nothing.
    Init(init::InitArgs),
    /// Put a secret in; asks for it without showing it.
    Set(set::SetArgs),
    /// Show names, kinds, ages and fingerprints; never a value.
    List(show::ListArgs),
    /// Take a secret out.
    Rm(show::RmArgs),
    /// Put a new value in place of one that is there, once Omni has taken it.
    Rotate(set::RotateArgs),
    /// Ask Omni whether a secret is good. Costs one request, charged to its budget.
    Test(trial::TestArgs),
    /// Make a new identity and encrypt the vault to it.
    Rekey(rekey::RekeyArgs),
    /// Show who can open the vault; let others in, or out.
    Recipients(rekey::RecipientsArgs),
    /// Write secrets for another place to keep.
    Export(export::ExportArgs),
}

pub(crate) fn run(args: VaultArgs) -> ExitCode {
    let done = Here::find(args.place).and_then(|here| match args.what {
        What::Init(args) => init::init(&here, args),
        What::Set(args) => set::set(&here, args),
        What::List(args) => show::list(&here, &args),
        What::Rm(args) => show::rm(&here, &args),
        What::Rotate(args) => set::rotate(&here, args),
        What::Test(args) => trial::test(&here, &args),
        What::Rekey(args) => rekey::rekey(&here, &args),
        What::Recipients(args) => rekey::recipients(&here, args),
        What::Export(args) => export::export(&here, &args),
    });
    ExitCode::from(told(done))
}

/// Asks for a secret that a config speaks of, as `vault set` does; what that exits with.
pub(super) fn ask_for(config: &Path, named: bool, name: &str) -> u8 {
    let place = Place { vault: None, identity: None, config: Some(config.to_owned()) };
    let here = Here::find(place).map(|here| Here { named, ..here });
    told(here.and_then(|here| set::set(&here, set::SetArgs::asked(name))))
}

fn told(done: Result<(), Failed>) -> u8 {
    match done {
        Ok(()) => OK,
        Err(Failed { code, why }) => {
            eprintln!("error: {why}");
            code
        }
    }
}

/// Prints what is wrong with a command line, unless a secret is what is wrong with it: clap repeats
/// what it does not know, and build logs keep it.
pub(crate) fn print_without_secrets(error: &clap::Error) {
    let shown = error.to_string();
    let is_secret = |word: &str| SecretName::parse(word) == Err(BadName::Secret);
    let secret = std::env::args_os().skip(1).any(|arg| {
        let arg = arg.to_string_lossy();
        arg.split(['=', ',']).chain([&*arg]).any(|word| is_secret(word) && shown.contains(word))
    });
    match secret {
        true => eprintln!("error: {SECRET_ARGUMENT}"),
        false => {
            let _ = error.print();
        }
    }
}

const SECRET_ARGUMENT: &str = "a value is never given as an argument: arguments are seen by others on \
     this machine and are kept in the shell's history. If that was a real key, revoke it. Give the \
     new one when asked, or with --stdin";

/// The vault that a command is about.
#[derive(Debug)]
struct Here {
    files: AgeSettings,
    /// The config that was found, whatever it says.
    config: Option<PathBuf>,
    /// Whether it was named on the command line.
    named: bool,
    /// Whether that config names this vault.
    configured: bool,
    /// The kinds that the config's credentials have, by the names of their secrets.
    kinds: BTreeMap<String, Kind>,
}

impl Here {
    fn find(place: Place) -> Result<Self, Failed> {
        for path in [&place.vault, &place.identity, &place.config].into_iter().flatten() {
            no_secret(path)?;
        }
        let named = place.config.is_some();
        let config = config::find(place.config).ok();
        let said = match config.as_deref().map(config::vault).transpose() {
            Ok(said) => said.flatten(),
            // Whoever names both files does not need a config.
            Err(_) if place.vault.is_some() && place.identity.is_some() => None,
            Err(error) => return Err(Failed { code: CONFIG, why: error.to_string() }),
        };
        let configured = said.is_some() && place.vault.is_none();
        let usual = || VaultSaid {
            files: AgeSettings { path: "vault.age".into(), identity: "identity.txt".into() },
            kinds: BTreeMap::new(),
        };
        let VaultSaid { files, kinds } = said.unwrap_or_else(usual);
        let files = AgeSettings {
            path: place.vault.unwrap_or(files.path),
            identity: place.identity.unwrap_or(files.identity),
        };
        Ok(Self { files, config, named, configured, kinds })
    }

    fn open(&self) -> Result<Vault, Failed> {
        Ok(Vault::open(&self.files)?)
    }
}

/// Refuses a secret in place of a path: errors name the files.
pub(super) fn no_secret(path: &Path) -> Result<(), Failed> {
    let path = path.to_string_lossy().to_ascii_lowercase();
    match path.contains(omni::TOKEN_PREFIX) || path.contains("age-secret-key") {
        true => Err(Failed::usage(SECRET_ARGUMENT)),
        false => Ok(()),
    }
}

/// Why a command did nothing.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) code: u8,
    pub(super) why: String,
}

impl Failed {
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self { code: REFUSED, why: why.into() }
    }

    pub(super) fn usage(why: impl Into<String>) -> Self {
        Self { code: USAGE, why: why.into() }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self { code: UNAVAILABLE, why: format!("the runtime cannot be started: {error}") }
    }
}

impl From<AgeError> for Failed {
    fn from(error: AgeError) -> Self {
        let code = match &error {
            AgeError::File(_)
            | AgeError::TooLarge { .. }
            | AgeError::NotAnIdentity { .. }
            | AgeError::NoIdentity { .. }
            | AgeError::WrongIdentity { .. }
            | AgeError::Passphrase { .. }
            | AgeError::NotAge { .. }
            | AgeError::Damaged { .. }
            | AgeError::NotToml { .. }
            | AgeError::NotAVault { .. }
            | AgeError::FeatureOff => CONFIG,
            AgeError::NoSuchName { .. }
            | AgeError::BadValue { .. }
            | AgeError::Exists { .. }
            | AgeError::NotAVariable { .. }
            | AgeError::OpenFolder { .. }
            | AgeError::NoSuchRecipient { .. }
            | AgeError::LastRecipient { .. }
            | AgeError::OldIdentity { .. } => REFUSED,
            AgeError::BadRecipient => USAGE,
            AgeError::Unwritable { .. }
            | AgeError::Output(_)
            | AgeError::Busy { .. }
            | AgeError::NotSealed { .. } => UNAVAILABLE,
        };
        let why = match &error {
            AgeError::File(missing) if missing.is_missing() => {
                format!(
                    "{error}; `omnigate vault init` makes a vault, --vault and --identity name one"
                )
            }
            _ => error.to_string(),
        };
        Self { code, why }
    }
}

/// A name as it was given; it is not repeated where it is none.
fn name(given: &str) -> Result<SecretName, Failed> {
    SecretName::parse(given).map_err(|error| Failed::usage(error.to_string()))
}

fn names(given: &[String]) -> Result<Vec<SecretName>, Failed> {
    given.iter().map(|given| name(given)).collect()
}

/// Says whom a save leaves out, which an age file does not let us know.
fn warn_of_unnamed(unnamed: usize) {
    if unnamed > 0 {
        eprintln!(
            "warning: {unnamed} more could open the vault until now, and it does not say who. It is \
             now for those that `omnigate vault recipients` shows; let others in again with: \
             omnigate vault recipients add age1…"
        );
    }
}

/// Asks on the terminal, unless the answer was given.
fn confirmed(yes: bool, question: &str) -> Result<(), Failed> {
    use std::io::{IsTerminal, stdin};

    if yes {
        return Ok(());
    }
    if !stdin().is_terminal() {
        return Err(Failed::usage(format!("{question} There is nobody to ask; say --yes")));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let _ = stdin().read_line(&mut answer);
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failed::refused("nothing was changed")),
    }
}

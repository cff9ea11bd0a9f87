//! `omnigate init`: from nothing to a config, and to the command that comes next.

pub(in crate::cli) mod address;
mod ask;
mod ignored;
pub(in crate::cli) mod starter;

use std::fs;
use std::io::{IsTerminal, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::init::address::Address;
use crate::cli::init::ask::{Ended, Person};
use crate::cli::init::starter::{Keys, Starter, VARIABLE, name, write_new};
use crate::cli::kind::Word;
use crate::cli::vault::{self, Failed};
use crate::cli::{OK, UNAVAILABLE, in_shell};
use crate::credential::age::{SecretName, Vault};
use crate::credential::{AgeSettings, Kind};
use crate::upstream::Origin;

/// Ended by Ctrl-C, as shells count it.
const INTERRUPTED: u8 = 130;

/// What the config is to say, as far as nobody has to be asked.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Omni's address, such as https://acme.omniapp.co [default: $OMNI_BASE_URL]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Where the key is to be [default: age]
    #[arg(long, value_name = "WHERE")]
    vault: Option<Place>,
    /// The folder of --vault dir, with one file for each key [default: secrets]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// What Omni knows the key as [default: organization]
    #[arg(long)]
    kind: Option<Word>,
    /// The config to make; all else is made beside it [default: $OMNIGATE_CONFIG, ./omnigate.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask nothing, and take what is usual.
    #[arg(long)]
    yes: bool,
}

/// Where keys can be without more than a word about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Place {
    /// An encrypted file, beside the config.
    Age,
    /// A variable of the environment.
    Env,
    /// A folder with one file for each key.
    Dir,
}

/// All that there is to know before anything is made.
#[derive(Debug)]
struct Wish {
    config: PathBuf,
    /// Whether the commands that follow need to be told where the config is.
    named: bool,
    omni: Origin,
    kind: Kind,
    place: Place,
    folder: PathBuf,
    /// The `.gitignore` that the identity is added to.
    ignored_in: Option<PathBuf>,
}

pub(crate) fn run(args: InitArgs) -> ExitCode {
    let done = begin(args);
    ExitCode::from(done.unwrap_or_else(|Failed { code, why }| {
        eprintln!("error: {why}");
        code
    }))
}

fn begin(args: InitArgs) -> Result<u8, Failed> {
    let person = match (args.yes, stdin().is_terminal()) {
        (true, _) => None,
        (false, true) => Some(Person::new()?),
        (false, false) => {
            let why = "there is no terminal to ask on; say --yes, and the rest with --base-url, --vault and \
                       --kind (omnigate init --help)";
            return Err(Failed::usage(why));
        }
    };
    let wish = Wish::of(args, person.as_ref())?;
    let next = make(&wish)?;
    let mut code = OK;
    if let (Some(person), Next::Fill) = (&person, &next) {
        println!();
        match person.agrees("Put the key in now? (In Omni: Settings > API access)") {
            Ok(true) => {
                // Which says what comes next, where all went well.
                code = vault::ask_for(&wish.config, wish.named, name(wish.kind));
                if code == OK {
                    return Ok(OK);
                }
            }
            Ok(false) | Err(Ended::Over) => {}
            Err(Ended::Interrupted) => {
                eprintln!();
                code = INTERRUPTED;
            }
            Err(Ended::Io(_)) => code = UNAVAILABLE,
        }
    }
    next.tell(&wish);
    Ok(code)
}

impl Wish {
    /// Asks for what was not given; by itself where there is nobody.
    fn of(args: InitArgs, person: Option<&Person>) -> Result<Self, Failed> {
        let variable = std::env::var_os("OMNIGATE_CONFIG").filter(|path| !path.is_empty());
        let named = args.config.is_some();
        let config = args.config.or_else(|| variable.map(PathBuf::from));
        let config = config.unwrap_or_else(|| "omnigate.toml".into());
        vault::no_secret(&config)?;
        if config.symlink_metadata().is_ok() {
            return Err(Failed::refused(format!(
                "{} is there already, and is not overwritten; look at it with `omnigate check`, or make \
                 another one with -c FILE",
                config.display()
            )));
        }
        let above = config.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(above) = above.filter(|folder| !folder.is_dir()) {
            let why =
                format!("there is no folder {0}; make it first: mkdir -p {0}", above.display());
            return Err(Failed::refused(why));
        }
        if args.folder.is_some() && args.vault.is_some_and(|place| place != Place::Dir) {
            return Err(Failed::usage("--folder goes with --vault dir; leave one of them out"));
        }
        let omni = omni(args.base_url, person)?;
        let place = match (args.vault, &args.folder, person) {
            (Some(place), _, _) => place,
            (None, Some(_), _) => Place::Dir,
            (None, None, Some(person)) => person.place()?,
            (None, None, None) => Place::Age,
        };
        let folder = match (args.folder, person) {
            (Some(folder), _) => folder,
            (None, Some(person)) if place == Place::Dir => person.folder(FOLDER)?.into(),
            (None, _) => FOLDER.into(),
        };
        let kind = match (args.kind, person) {
            (Some(word), _) => word.kind(),
            (None, Some(person)) => person.kind()?,
            (None, None) => Kind::Organization,
        };
        let mut wish = Self { config, named, omni, kind, place, folder, ignored_in: None };
        if let (Place::Age, Some(list)) = (place, ignored::wanted(&wish.files().identity)) {
            let agreed = match person {
                Some(person) => person.agrees(
                    "This is a git repository: add identity.txt, which opens the vault, to .gitignore?",
                )?,
                None => true,
            };
            wish.ignored_in = agreed.then_some(list);
        }
        Ok(wish)
    }

    fn files(&self) -> AgeSettings {
        let beside = |name: &str| self.config.with_file_name(name);
        AgeSettings { path: beside("vault.age"), identity: beside("identity.txt") }
    }
}

/// Where `--vault dir` looks, from the config's own folder.
const FOLDER: &str = "secrets";

/// Omni's address: as it was given, asked for, or as tools of Omni's have it.
fn omni(given: Option<String>, person: Option<&Person>) -> Result<Origin, Failed> {
    let read = |from: &str, said: &str| {
        address::read(said).map_err(|why| Failed::usage(format!("{from}: {why}")))
    };
    let variable = || std::env::var("OMNI_BASE_URL").ok().filter(|url| !url.trim().is_empty());
    let address: Address = match (given, person) {
        (Some(said), _) => read("--base-url", &said)?,
        // What is wrong with the variable does not matter to somebody who can be asked.
        (None, Some(person)) => {
            let usual = variable().and_then(|said| address::read(&said).ok());
            person.address(usual.as_ref())?
        }
        (None, None) => match variable() {
            Some(said) => read("OMNI_BASE_URL", &said)?,
            None => {
                let why =
                    "which Omni? Say --base-url https://YOURS.omniapp.co, or set OMNI_BASE_URL";
                return Err(Failed::usage(why));
            }
        },
    };
    if address.mended {
        println!("Omni's address is taken as {}", address.origin);
    }
    Ok(address.origin)
}

/// What somebody has to do next.
#[derive(Debug)]
enum Next {
    /// The vault has no key yet.
    Fill,
    /// The variable is not there.
    Export,
    /// The file is not there.
    Place,
    Serve,
}

/// Makes all of it, or leaves nothing of its own behind.
fn make(wish: &Wish) -> Result<Next, Failed> {
    let files = wish.files();
    let mut made = Made::default();
    let (keys, next) = match wish.place {
        Place::Age => {
            let filled = made.vault(&files, wish)?;
            let keys = Keys::Age { vault: &files.path, identity: &files.identity };
            (keys, if filled { Next::Serve } else { Next::Fill })
        }
        Place::Env => match std::env::var_os(VARIABLE).is_some_and(|key| !key.is_empty()) {
            true => (Keys::Env, Next::Serve),
            false => (Keys::Env, Next::Export),
        },
        Place::Dir => {
            let folder = beside(&wish.config, &wish.folder);
            let next =
                if folder.join(name(wish.kind)).exists() { Next::Serve } else { Next::Place };
            (Keys::Dir { folder: &wish.folder }, next)
        }
    };
    let starter = Starter { made_by: "omnigate init", omni: &wish.omni, kind: wish.kind, keys };
    write_new(&wish.config, &starter.text()).map_err(|error| Failed {
        code: UNAVAILABLE,
        why: format!("{} cannot be written: {error}; nothing was made", wish.config.display()),
    })?;
    made.keep();
    println!("{}: a config for {}", wish.config.display(), wish.omni);
    if let Some(list) = &wish.ignored_in {
        match ignored::add(list, &files.identity) {
            Ok(()) => println!("{}: git leaves identity.txt out", list.display()),
            Err(error) => eprintln!(
                "warning: {} cannot be written: {error}; add a line identity.txt to it yourself",
                list.display()
            ),
        }
    }
    Ok(next)
}

/// Files that are taken away again if it does not come to a config.
#[derive(Debug, Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a vault, or takes the one that is there; says whether it has the key already.
    fn vault(&mut self, files: &AgeSettings, wish: &Wish) -> Result<bool, Failed> {
        let (vault, identity) = (files.path.display(), files.identity.display());
        if files.path.symlink_metadata().is_ok() {
            let there = Vault::open(files)?;
            println!("{vault}: was there, and is used");
            let name = SecretName::parse(name(wish.kind));
            return Ok(name.is_ok_and(|name| there.find(&name).is_ok()));
        }
        let created = Vault::create(files)?;
        self.0.push(files.path.clone());
        if created.identity {
            self.0.push(files.identity.clone());
            println!("{identity}: a new key; keep a copy in a safe place, and keep it out of git");
        } else {
            println!("{identity}: was there, and is used");
        }
        println!("{vault}: an empty vault that it opens");
        Ok(false)
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for file in &self.0 {
            // It is empty, or opens nothing.
            let _ = fs::remove_file(file);
        }
    }
}

impl Next {
    /// Ends with the command.
    fn tell(&self, wish: &Wish) {
        let config =
            if wish.named { format!(" -c {}", in_shell(&wish.config)) } else { String::new() };
        let name = name(wish.kind);
        let serve = format!("omnigate serve{config}");
        println!();
        match self {
            Self::Fill => println!(
                "Next, put the key in (in Omni: Settings > API access); what you paste is not shown:\n\n  \
                 omnigate vault set {name}{config}"
            ),
            Self::Export => println!(
                "Next, set {VARIABLE} to the key (in Omni: Settings > API access), as here in bash and zsh, \
                 which\nshows nothing of what you paste, and start the gateway:\n\n  \
                 read -rs {VARIABLE} && export {VARIABLE} && {serve}"
            ),
            Self::Place => {
                let file = beside(&wish.config, &wish.folder).join(name);
                let (file, folder) =
                    (in_shell(&file), in_shell(&beside(&wish.config, &wish.folder)));
                println!(
                    "Next, put the key (in Omni: Settings > API access) into {file}, as here in bash and zsh, \
                     which\nshows nothing of what you paste, and start the gateway:\n\n  \
                     (umask 077 && mkdir -p {folder} && read -rs KEY && printf %s \"$KEY\" > {file}) && {serve}"
                );
            }
            Self::Serve => println!("Next:\n\n  {serve}"),
        }
    }
}

/// As the config means it.
fn beside(config: &Path, path: &Path) -> PathBuf {
    config.parent().unwrap_or(Path::new("")).join(path)
}

/// A kind by its first letters; nothing is the usual one.
fn kind_of(said: &str) -> Option<Kind> {
    let said = said.to_ascii_lowercase();
    let kinds = [Kind::Organization, Kind::Personal, Kind::Mcp];
    kinds.into_iter().find(|kind| kind.as_str().starts_with(&said))
}

impl From<Ended> for Failed {
    fn from(ended: Ended) -> Self {
        let (code, why) = match ended {
            Ended::Interrupted => {
                // Behind the ^C.
                eprintln!();
                (INTERRUPTED, "nothing was made".to_owned())
            }
            Ended::Over => {
                eprintln!();
                (1, "the answers ended too soon; nothing was made".to_owned())
            }
            Ended::Io(error) => {
                (UNAVAILABLE, format!("the terminal cannot be read: {error}; nothing was made"))
            }
        };
        Self { code, why }
    }
}

//! `vault init`: from an empty folder to a vault and a config that uses it.

use std::path::Path;

use crate::cli::init::address;
use crate::cli::init::starter::{Keys, Starter, write_new};
use crate::cli::vault::{Failed, Here, UNAVAILABLE};
use crate::credential::Kind;
use crate::credential::age::Vault;
use crate::upstream::Origin;

/// What the config that is made says.
#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    /// Your instance [default: $OMNI_BASE_URL, else https://acme.omniapp.co]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
}

/// What stands in examples, to be changed.
const EXAMPLE: &str = "https://acme.omniapp.co";

pub(super) fn init(here: &Here, args: InitArgs) -> Result<(), Failed> {
    let omni = omni(args)?;
    let (vault, identity) = (&here.files.path, &here.files.identity);
    let config = match &here.config {
        Some(_) => None,
        None => Some(vault.with_file_name("omnigate.toml")),
    };
    // Looked at before anything is made.
    if let Some(there) = config.iter().find(|path| path.symlink_metadata().is_ok()) {
        let why = format!("{} is there already; name it with -c", there.display());
        return Err(Failed::refused(why));
    }
    let made = Vault::create(&here.files)?;
    if made.identity {
        println!("{}: a new key, {}", identity.display(), made.recipient);
    } else {
        println!("{}: was there, and is used: {}", identity.display(), made.recipient);
    }
    println!("{}: an empty vault that it opens", vault.display());
    if let Some(path) = &config {
        let keys = Keys::Age { vault, identity };
        let starter =
            Starter { made_by: "omnigate vault init", omni: &omni, kind: Kind::Organization, keys };
        write_new(path, &starter.text()).map_err(|error| Failed {
            code: UNAVAILABLE,
            why: format!("{} cannot be written: {error}", path.display()),
        })?;
        println!("{}: a config that uses it, for {omni}", path.display());
    }
    next_steps(here, config.as_deref(), omni.to_string() == EXAMPLE);
    Ok(())
}

fn omni(args: InitArgs) -> Result<Origin, Failed> {
    let variable = || std::env::var("OMNI_BASE_URL").ok().filter(|url| !url.trim().is_empty());
    let said = args.base_url.or_else(variable).unwrap_or_else(|| EXAMPLE.into());
    let read = address::read(&said)
        .map_err(|why| Failed::usage(format!("--base-url or $OMNI_BASE_URL: {why}")))?;
    Ok(read.origin)
}

fn next_steps(here: &Here, made: Option<&Path>, is_example: bool) {
    let (vault, identity) = (here.files.path.display(), here.files.identity.display());
    println!("\nNext:");
    match made {
        Some(path) if is_example => {
            println!("  set base_url in {} to your instance", path.display());
        }
        Some(_) => {}
        None if here.configured => {}
        None => {
            println!("  add to your config:");
            println!("    [vault]\n    backend = \"age\"\n    path = \"{vault}\"");
            println!("    identity = \"{identity}\"");
        }
    }
    println!("  omnigate vault set org      asks for the key; --stdin reads it from a pipe");
    println!("  omnigate serve\n");
    println!(
        "{identity} opens the vault: keep it out of git and images, and keep a copy in a safe"
    );
    println!(
        "place, since without it the secrets are lost. {vault} is encrypted and may be in git."
    );
}

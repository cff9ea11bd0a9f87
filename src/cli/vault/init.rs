//! `vault init`: from an empty folder to a vault and a config that uses it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::cli::vault::{Failed, Here, UNAVAILABLE};
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
    let base_url = base_url(args)?;
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
        let text = starter(&base_url, vault, identity);
        write_new(path, &text).map_err(|error| Failed {
            code: UNAVAILABLE,
            why: format!("{} cannot be written: {error}", path.display()),
        })?;
        println!("{}: a config that uses it, for {base_url}", path.display());
    }
    next_steps(here, config.as_deref(), base_url == EXAMPLE);
    Ok(())
}

fn base_url(args: InitArgs) -> Result<String, Failed> {
    let variable = || std::env::var("OMNI_BASE_URL").ok().filter(|url| !url.trim().is_empty());
    let url = args.base_url.or_else(variable).unwrap_or_else(|| EXAMPLE.into());
    // Tools want it with a slash at its end, or without one.
    let url = url.trim().trim_end_matches('/').to_owned();
    match Origin::parse(&url) {
        Ok(_) => Ok(url),
        Err(error) => Err(Failed::usage(format!("--base-url or $OMNI_BASE_URL: {error}"))),
    }
}

fn starter(base_url: &str, vault: &Path, identity: &Path) -> String {
    let same_folder = vault.parent() == identity.parent();
    let near = |path: &Path| PathBuf::from(path.file_name().unwrap_or_default());
    let far = || std::path::absolute(identity).unwrap_or_else(|_| identity.to_owned());
    let identity = if same_folder { near(identity) } else { far() };
    // A JSON string is a TOML string.
    let quoted = |path: &Path| serde_json::json!(path.to_string_lossy()).to_string();
    format!(
        r#"# Made by `omnigate vault init`. `omnigate check` says whether a change is right.

[upstream]
base_url = "{base_url}"    # your instance: the only host that ever receives the token

[vault]
backend = "age"                         # an encrypted file; fill it with: omnigate vault set NAME
path = {}
identity = {}               # the key that opens it; never put this file into git

[credentials.org]
kind = "organization"                   # organization | personal | mcp
secret = "org"                          # its name in the vault, never the secret itself

# All calls share Omni's limit of 60 requests a minute, unless [budgets] says otherwise.

[[routes]]
name = "all"
path = "/{{*rest}}"                       # every call; name paths and methods to allow fewer
credential = "org"
"#,
        quoted(&near(vault)),
        quoted(&identity),
    )
}

/// Others may read it and never write it, whatever the umask: it says which host gets the token.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
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

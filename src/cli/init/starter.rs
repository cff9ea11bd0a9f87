//! The config that a new installation begins with.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::credential::Kind;
use crate::upstream::Origin;

/// The variable that holds the key, where one does.
pub(in crate::cli) const VARIABLE: &str = "OMNI_API_KEY";

/// What the config says.
#[derive(Debug)]
pub(in crate::cli) struct Starter<'a> {
    /// The command that makes it.
    pub(in crate::cli) made_by: &'a str,
    pub(in crate::cli) omni: &'a Origin,
    pub(in crate::cli) kind: Kind,
    pub(in crate::cli) keys: Keys<'a>,
}

/// Where the key is.
#[derive(Debug)]
pub(in crate::cli) enum Keys<'a> {
    /// In an encrypted file beside the config.
    Age { vault: &'a Path, identity: &'a Path },
    /// In [`VARIABLE`].
    Env,
    /// In a folder, in a file of the secret's name.
    Dir { folder: &'a Path },
}

impl Starter<'_> {
    /// The name of the credential, and of its secret in a vault or a folder.
    pub(in crate::cli) fn name(&self) -> &'static str {
        name(self.kind)
    }

    pub(in crate::cli) fn text(&self) -> String {
        let Self { made_by, omni, kind, .. } = self;
        let (name, vault) = (self.name(), self.vault());
        let (secret, about) = match self.keys {
            Keys::Age { .. } => (name, "its name in the vault, never the secret itself"),
            Keys::Env => (VARIABLE, "the variable's name, never the secret itself"),
            Keys::Dir { .. } => (name, "the file's name, never the secret itself"),
        };
        let base_url = line(
            &format!("base_url = \"{omni}\""),
            "your instance: the only host that ever receives the token",
        );
        let kind = line(&format!("kind = \"{}\"", kind.as_str()), "organization | personal | mcp");
        let secret = line(&format!("secret = \"{secret}\""), about);
        let path = line("path = \"/{*rest}\"", "every call; name paths and methods to allow fewer");
        format!(
            r#"# Made by `{made_by}`. `omnigate check` says whether a change is right.

# Callers connect to http://127.0.0.1:6664, and you to http://127.0.0.1:6663 for the status page.
# To have them elsewhere:
#[server]
#listen = "127.0.0.1:6664"
#[admin]
#listen = "127.0.0.1:6663"

[upstream]
{base_url}
[vault]
{vault}
[credentials.{name}]
{kind}{secret}
# All calls share Omni's limit of 60 requests a minute, unless [budgets] says otherwise.

[[routes]]
name = "all"
{path}credential = "{name}"

# Lists that many ask for can be kept; who asks within 30 s then has the same answer at once:
#[[routes]]
#name = "documents"
#path = "/api/v1/documents"
#methods = ["GET"]
#credential = "{name}"
#cache = {{ ttl = "30s", stale = "10m" }}
"#
        )
    }

    /// What stands below `[vault]`.
    fn vault(&self) -> String {
        let backend = |name: &str, about: &str| line(&format!("backend = \"{name}\""), about);
        match self.keys {
            Keys::Age { vault, identity } => format!(
                "{}path = {}\n{}",
                backend("age", "an encrypted file; fill it with: omnigate vault set NAME"),
                quoted(&near(vault)),
                line(
                    &format!("identity = {}", quoted(&beside(vault, identity))),
                    "the key that opens it; never put this file into git",
                ),
            ),
            Keys::Env => backend("env", "secrets come from variables of our environment"),
            Keys::Dir { folder } => format!(
                "{}path = {}\n",
                backend("dir", "a folder with one file for each secret"),
                quoted(folder),
            ),
        }
    }
}

/// A setting, and what it means.
fn line(setting: &str, about: &str) -> String {
    format!("{setting:<39} # {about}\n")
}

/// The name that a credential of this kind begins with.
pub(in crate::cli) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Organization => "org",
        Kind::Personal => "me",
        Kind::Mcp => "agent",
    }
}

fn near(path: &Path) -> PathBuf {
    PathBuf::from(path.file_name().unwrap_or_default())
}

fn beside(vault: &Path, identity: &Path) -> PathBuf {
    match vault.parent() == identity.parent() {
        true => near(identity),
        false => std::path::absolute(identity).unwrap_or_else(|_| identity.to_owned()),
    }
}

/// A JSON string is a TOML string.
fn quoted(path: &Path) -> String {
    serde_json::json!(path.to_string_lossy()).to_string()
}

/// Writes a file that is not there yet, or leaves none. Others may read it and never write it,
/// whatever the umask: it says which host gets the token.
pub(in crate::cli) fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a config is none; that it was ours is certain.
        let _ = fs::remove_file(path);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config;

    #[test]
    fn every_starter_is_a_good_config_and_stays_one_when_all_of_it_is_on() {
        let folder = tempfile::tempdir().unwrap();
        let omni = Origin::parse("https://acme.omniapp.co").unwrap();
        let secrets = folder.path().join("secrets");
        fs::create_dir(&secrets).unwrap();
        for kind in [Kind::Organization, Kind::Personal, Kind::Mcp] {
            fs::write(secrets.join(name(kind)), "x").unwrap();
            for file in ["vault.age", "identity.txt"] {
                let path = folder.path().join(file);
                fs::write(&path, "x").unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            }
            let (vault, identity) = ("vault.age".as_ref(), "identity.txt".as_ref());
            let folders = Keys::Dir { folder: "secrets".as_ref() };
            for keys in [Keys::Age { vault, identity }, Keys::Env, folders] {
                let text = Starter { made_by: "omnigate init", omni: &omni, kind, keys }.text();
                let path = folder.path().join("omnigate.toml");
                config::parse(&text, &path).unwrap_or_else(|report| panic!("{report}\n{text}"));
                let on = |line: &str| match line.strip_prefix('#') {
                    Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                    _ => format!("{line}\n"),
                };
                let all: String = text.lines().map(on).collect();
                config::parse(&all, &path).unwrap_or_else(|report| panic!("{report}\n{all}"));
            }
        }
    }
}

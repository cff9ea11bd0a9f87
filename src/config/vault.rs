//! What a config says of its age file, for the commands that fill it.
//!
//! Read apart from the rest: whoever is about to put the secrets in cannot have a config yet that is
//! right in everything.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::credential::{AgeSettings, Kind};

/// An age file, as a config names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultSaid {
    /// The file and its identity: the default provider's, or else of the only provider that is one.
    pub files: AgeSettings,
    /// The kinds of its secrets that the credentials say, by the secret's name.
    pub kinds: BTreeMap<String, Kind>,
}

/// Why a config does not even tell where its vault is.
#[derive(Debug, thiserror::Error)]
pub enum VaultUnread {
    /// The system refuses.
    #[error("the config {} cannot be read: {source}; see whether the path is right", path.display())]
    Unreadable {
        /// The config.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A mistake of form.
    #[error("the config {} is not TOML at line {line}; run: omnigate check", path.display())]
    NotToml {
        /// The config.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// The age file of a config; `None` where it has none, or several and none of them is the default.
///
/// # Errors
/// The config cannot be read, or is no TOML.
pub fn vault(path: &Path) -> Result<Option<VaultSaid>, VaultUnread> {
    let unreadable = |source| VaultUnread::Unreadable { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    // The error's own words may repeat a part of the line.
    let document: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or(&text);
        let line = before.matches('\n').count() + 1;
        VaultUnread::NotToml { path: path.to_owned(), line }
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(said(&document, folder))
}

fn said(document: &Table, folder: &Path) -> Option<VaultSaid> {
    let vault = document.get("vault")?.as_table()?;
    let (provider, table) = if is_age(vault) {
        (None, vault)
    } else {
        let providers = vault.get("providers").and_then(Value::as_table).into_iter().flatten();
        let tables = providers.filter_map(|(name, said)| Some((name, said.as_table()?)));
        let mut ages = tables.filter(|(_, table)| is_age(table));
        match (ages.next(), ages.next()) {
            (Some((name, table)), None) => (Some(name.as_str()), table),
            _ => return None,
        }
    };
    // `check` wants both to be said; here the usual names will do.
    let file = |key: &str, usual: &str| {
        folder.join(table.get(key).and_then(Value::as_str).unwrap_or(usual))
    };
    let files =
        AgeSettings { path: file("path", "vault.age"), identity: file("identity", "identity.txt") };
    Some(VaultSaid { files, kinds: kinds(document, provider) })
}

fn is_age(table: &Table) -> bool {
    table.get("backend").and_then(Value::as_str) == Some("age")
}

fn kinds(document: &Table, provider: Option<&str>) -> BTreeMap<String, Kind> {
    let credentials = document.get("credentials").and_then(Value::as_table).into_iter().flatten();
    let kind = |(_, said): (_, &Value)| {
        let kind = Kind::from_word(said.get("kind")?.as_str()?)?;
        let secret = said.get("secret")?;
        let (name, of) = match secret.as_str() {
            Some(name) => (name, None),
            None => (secret.get("name")?.as_str()?, secret.get("provider").and_then(Value::as_str)),
        };
        (of == provider).then(|| (name.to_owned(), kind))
    };
    credentials.filter_map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<VaultSaid> {
        said(&text.parse().unwrap(), Path::new("/etc/omnigate"))
    }

    #[test]
    fn the_default_provider_and_its_secrets_are_found_whatever_else_is_wrong() {
        let text = r#"
            nonsense = 1
            [vault]
            backend = "age"
            path = "v.age"
            identity = "/keys/i.txt"
            [credentials.a]
            kind = "personal"
            secret = "pat"
            [credentials.b]
            kind = "mcp"
            secret = { name = "mcp" }
            [credentials.c]
            kind = "mcp"
            secret = { provider = "other", name = "elsewhere" }
            [credentials.d]
            kind = "wrong"
            secret = "org"
        "#;
        let said = read(text).unwrap();
        assert_eq!(said.files.path, Path::new("/etc/omnigate/v.age"));
        assert_eq!(said.files.identity, Path::new("/keys/i.txt"));
        let kinds = [("mcp".to_owned(), Kind::Mcp), ("pat".to_owned(), Kind::Personal)];
        assert_eq!(said.kinds, kinds.into());
    }

    #[test]
    fn the_only_age_file_among_the_providers_is_taken() {
        let one = "[vault]\nbackend = \"env\"\n[vault.providers.x]\nbackend = \"age\"\n\
                   [credentials.a]\nkind = \"mcp\"\nsecret = { provider = \"x\", name = \"m\" }\n";
        let said = read(one).unwrap();
        assert_eq!(said.files.path, Path::new("/etc/omnigate/vault.age"));
        assert_eq!(said.kinds, [("m".to_owned(), Kind::Mcp)].into());
        assert_eq!(read(&format!("{one}[vault.providers.y]\nbackend = \"age\"")), None);
        assert_eq!(read("[vault]\nbackend = \"env\""), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("omnigate.toml");
        assert!(matches!(vault(&path), Err(VaultUnread::Unreadable { .. })));
        std::fs::write(&path, "[vault]\npath = omni_osk_planted").unwrap();
        let said = vault(&path).unwrap_err().to_string();
        assert!(said.contains("line 2") && !said.contains("planted"), "{said}");
    }
}

//! What may be wrong with a vault. Names files, names and places, and shows nothing of a secret.

use std::io;
use std::path::{Path, PathBuf};

use super::name::SecretName;
use crate::credential::store::SecretError;
use crate::credential::token::BadToken;

/// Why a vault cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// One of its two files is missing, unreadable, or may be read by others.
    #[error(transparent)]
    File(Box<SecretError>),
    /// No vault is that large.
    #[error("{} is larger than 1 MiB; it is no vault: name the right file", path.display())]
    TooLarge {
        /// The vault file.
        path: PathBuf,
    },
    /// The identity file has something else in it.
    #[error(
        "line {line} of {} is no age identity; only lines that begin with AGE-SECRET-KEY-1 and \
         comments may stand there, as age-keygen writes them", path.display()
    )]
    NotAnIdentity {
        /// The identity file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The identity file has only comments, or nothing.
    #[error(
        "{} holds no key; it should have a line that begins with AGE-SECRET-KEY-1, as age-keygen \
         writes it", path.display()
    )]
    NoIdentity {
        /// The identity file.
        path: PathBuf,
    },
    /// The file was made for others.
    #[error(
        "{} does not open {}: it was made for other recipients; name the right identity, or ask \
         somebody who can open it to run: omnigate vault recipients add age1…",
        identity.display(), vault.display()
    )]
    WrongIdentity {
        /// The vault file.
        vault: PathBuf,
        /// The identity file.
        identity: PathBuf,
    },
    /// The file was made with `age --passphrase`.
    #[error(
        "{} is locked with a passphrase, and a service has nobody to ask for it; make it anew for \
         an identity: age -d FILE | age -a -r age1…", vault.display()
    )]
    Passphrase {
        /// The vault file.
        vault: PathBuf,
    },
    /// Something else.
    #[error(
        "{} is not an age file of version 1; name the right one, or move it away and make another with: \
         omnigate vault init", vault.display()
    )]
    NotAge {
        /// The vault file.
        vault: PathBuf,
    },
    /// Cut, bent, or changed by somebody without the key.
    #[error("{} is damaged; take a good copy of it", vault.display())]
    Damaged {
        /// The vault file.
        vault: PathBuf,
    },
    /// What is inside cannot be parsed.
    #[error(
        "what is inside {} is not TOML at line {line}, column {column}; take a good copy, or decrypt it with \
         age, mend it and encrypt it again", vault.display()
    )]
    NotToml {
        /// The vault file.
        vault: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// What is inside is TOML, and something in it belongs into no vault.
    #[error(
        "what is inside {} does not belong there at line {line}, column {column}; a secret is a \
         table [secrets.NAME] with a `value`, and perhaps a `kind` (organization, personal, mcp) \
         and `set_at` (2026-11-21T10:00:00Z)", vault.display()
    )]
    NotAVault {
        /// The vault file.
        vault: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// There is no secret of that name.
    #[error("{} has no secret `{name}`{}", vault.display(), instead(others))]
    NoSuchName {
        /// The vault file.
        vault: PathBuf,
        /// The name.
        name: SecretName,
        /// Those that there are, the nearest first.
        others: Vec<SecretName>,
    },
    /// What stands there was never a token.
    #[error("what {} holds as `{name}` is no token: {source}", vault.display())]
    BadValue {
        /// The vault file.
        vault: PathBuf,
        /// The name.
        name: SecretName,
        /// What is wrong with it.
        source: BadToken,
    },
    /// Nothing is overwritten.
    #[error("{} is there already, and is not overwritten; move it away, or name another", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A variable cannot have such a name, or two secrets would be the same variable.
    #[error(
        "`{name}` cannot be the name of a variable of its own; export it in another form, such as --to dir"
    )]
    NotAVariable {
        /// The name.
        name: SecretName,
    },
    /// A folder for secrets that others may enter.
    #[error("{} may be entered by others; run: chmod 700 {}", path.display(), path.display())]
    OpenFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Not what age-keygen prints as the public key.
    #[error("this is no age recipient: one begins with age1, as age-keygen prints the public key")]
    BadRecipient,
    /// Not in the list.
    #[error(
        "{} is not among the recipients of {}, which `omnigate vault recipients` shows",
        recipient, vault.display()
    )]
    NoSuchRecipient {
        /// The vault file.
        vault: PathBuf,
        /// The public key.
        recipient: String,
    },
    /// Nobody could open the vault any more.
    #[error(
        "this is the last recipient of {}; nobody could open it any more: let another in first, with \
         omnigate vault recipients add age1…", vault.display()
    )]
    LastRecipient {
        /// The vault file.
        vault: PathBuf,
    },
    /// The former identity was not yet given up.
    #[error(
        "{} is still there from the last rekey; when everything works with the new identity, run: \
         omnigate vault rekey --forget", path.display()
    )]
    OldIdentity {
        /// The former identity's file.
        path: PathBuf,
    },
    /// The disk is full, the folder may not be written, the owner is somebody else.
    #[error("{} cannot be written: {source}; {}", path.display(), as_it_was(source))]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Where the export goes is no longer listening.
    #[error("the secrets cannot be written: {0}")]
    Output(io::Error),
    /// Somebody else holds the lock.
    #[error("{} has been locked by another process for more than 10 s", path.display())]
    Busy {
        /// The folder that is locked.
        path: PathBuf,
    },
    /// The cipher refused.
    #[error("{} could not be encrypted; it is as it was", vault.display())]
    NotSealed {
        /// The vault file.
        vault: PathBuf,
    },
    /// This program was built without age.
    #[error("this omnigate was built without age files (the cargo feature `vault-age`)")]
    FeatureOff,
}

impl From<SecretError> for AgeError {
    fn from(error: SecretError) -> Self {
        Self::File(Box::new(error))
    }
}

/// For `map_err`: the file that could not be written.
pub(super) fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> AgeError + use<> {
    let path = path.to_owned();
    move |source| AgeError::Unwritable { path, source }
}

fn as_it_was(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "make its folder first",
        io::ErrorKind::NotADirectory => "what should be its folder is a file",
        _ => "it is as it was",
    }
}

fn instead(others: &[SecretName]) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> = others.iter().take(SHOWN).map(SecretName::as_str).collect();
    match (others.len(), names.join(", ")) {
        (0, _) => "; it is empty".into(),
        (..=SHOWN, names) => format!("; it has {names}"),
        (all, names) => format!("; it has {names} and {} more", all - SHOWN),
    }
}

//! A vault, opened: what it holds, and changing it.

use std::path::Path;

use secrecy::{ExposeSecret, SecretSlice};

use super::disk::{self, Lock};
use super::document::{Document, Entry};
use super::error::AgeError;
use super::name::{SecretName, nearest_first};
use super::seal::{self, Identities, Recipient};
use super::stamp::Stamp;
use crate::credential::file::{Readers, read_blocking};
use crate::credential::settings::{AgeSettings, Kind};
use crate::credential::store::{MAX_BYTES, SecretError};
use crate::credential::token::Token;

/// The largest vault file.
const MAX_VAULT: usize = 1024 * 1024;

/// A vault as it was when it was opened.
#[derive(Debug)]
pub struct Vault {
    pub(super) settings: AgeSettings,
    pub(super) identities: Identities,
    pub(super) document: Document,
    /// How many can open the file, by its header.
    openers: usize,
}

/// A vault that nobody else changes meanwhile.
#[derive(Debug)]
pub struct Edit {
    /// The vault; changes of it are kept by [`Self::save`].
    pub vault: Vault,
    _lock: Lock,
}

/// What may be told of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: SecretName,
    /// Its kind, where the vault says it.
    pub kind: Option<Kind>,
    /// When it was set, where the vault says it.
    pub set_at: Option<Stamp>,
    /// The first 8 hex digits of the token's SHA-256; `None` where it is no token.
    pub fingerprint: Option<String>,
}

/// What setting a secret did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There was none of that name.
    Added,
    /// There was another one.
    Replaced,
    /// The value was there already, as another kind.
    KindOnly,
    /// The value was there already.
    Nothing,
}

/// What making a vault made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Whether the identity is new; one that is there is used.
    pub identity: bool,
    /// Its public key.
    pub recipient: Recipient,
}

impl Vault {
    /// Makes an empty vault, and an identity where there is none. Overwrites nothing.
    ///
    /// # Errors
    /// The vault is there already, the identity cannot be used, or nothing can be written.
    pub fn create(settings: &AgeSettings) -> Result<Created, AgeError> {
        let _lock = Lock::take(&[&settings.path, &settings.identity])?;
        // Looked at first, so that no identity is made for nothing.
        if settings.path.symlink_metadata().is_ok() {
            return Err(AgeError::Exists { path: settings.path.clone() });
        }
        let new = settings.identity.symlink_metadata().is_err();
        let identities = if new {
            let (identities, file) = Identities::generate()?;
            disk::create(&settings.identity, file.expose_secret())?;
            identities
        } else {
            read_identities(&settings.identity)?
        };
        let recipients = identities.recipients();
        let first = recipients.first().cloned();
        let no_identity = || AgeError::NoIdentity { path: settings.identity.clone() };
        let recipient = first.ok_or_else(no_identity)?;
        let document = Document { recipients: Some(recipients), ..Document::default() };
        disk::create(&settings.path, &sealed(&document, &settings.path)?)?;
        Ok(Created { identity: new, recipient })
    }

    /// Opens it. Reads two files and computes for about a millisecond: not for the runtime's own
    /// threads.
    ///
    /// # Errors
    /// Says which of the two files is at fault, and how to mend it.
    pub fn open(settings: &AgeSettings) -> Result<Self, AgeError> {
        let identities = read_identities(&settings.identity)?;
        let sealed = read_blocking(&settings.path, Readers::Anyone, MAX_VAULT);
        let sealed = sealed.map_err(|error| match error {
            SecretError::TooLarge { .. } => AgeError::TooLarge { path: settings.path.clone() },
            other => other.into(),
        })?;
        let opened = seal::open(sealed.expose_secret(), &identities, settings)?;
        let document = Document::parse(&opened.text).map_err(|misread| {
            let (vault, line, column) = (settings.path.clone(), misread.line, misread.column);
            match misread.is_toml {
                true => AgeError::NotAVault { vault, line, column },
                false => AgeError::NotToml { vault, line, column },
            }
        })?;
        let openers = opened.recipients;
        Ok(Self { settings: settings.clone(), identities, document, openers })
    }

    /// Everything that it holds, by name; no values.
    pub fn list(&self) -> Vec<Listed> {
        let listed = |(name, entry): (&SecretName, &Entry)| Listed {
            name: name.clone(),
            kind: entry.kind,
            set_at: entry.set_at,
            fingerprint: Token::parse(entry.value.expose_secret()).ok().map(|it| it.fingerprint()),
        };
        self.document.entries.iter().map(listed).collect()
    }

    /// What may be told of one secret.
    ///
    /// # Errors
    /// There is none of that name; tells which there are.
    pub fn find(&self, name: &SecretName) -> Result<Listed, AgeError> {
        self.entry(name)?;
        self.list().into_iter().find(|one| one.name == *name).ok_or_else(|| self.no_such(name))
    }

    /// Whether the secret of that name is this token.
    pub fn holds(&self, name: &SecretName, token: &Token) -> bool {
        let entry = self.document.entries.get(name);
        entry.is_some_and(|entry| Token::parse(entry.value.expose_secret()).as_ref() == Ok(token))
    }

    /// Puts a token under a name, as of now.
    pub fn set(&mut self, name: &SecretName, token: &Token, kind: Kind) -> Change {
        let same = self.holds(name, token);
        match self.document.entries.get_mut(name) {
            Some(entry) if same && entry.kind == Some(kind) => Change::Nothing,
            Some(entry) if same => {
                entry.kind = Some(kind);
                Change::KindOnly
            }
            before => {
                let change = if before.is_some() { Change::Replaced } else { Change::Added };
                let value = token.text();
                let entry = Entry { value, kind: Some(kind), set_at: Some(Stamp::now()) };
                self.document.entries.insert(name.clone(), entry);
                change
            }
        }
    }

    /// Takes a secret out.
    ///
    /// # Errors
    /// There is none of that name; tells which there are.
    pub fn remove(&mut self, name: &SecretName) -> Result<(), AgeError> {
        self.entry(name)?;
        self.document.entries.remove(name);
        Ok(())
    }

    /// Whom the next save encrypts it to, and whether that is an identity of ours. A file that does
    /// not say who can open it is taken to be ours alone.
    pub fn recipients(&self) -> Vec<(Recipient, bool)> {
        let ours = self.identities.recipients();
        let said = self.document.recipients.clone().filter(|said| !said.is_empty());
        let all = said.unwrap_or_else(|| ours.clone());
        all.into_iter().map(|one| (one.clone(), ours.contains(&one))).collect()
    }

    /// How many can open the file as it is whom the next save will leave out, since the vault does
    /// not name them.
    pub fn unnamed(&self) -> usize {
        self.openers.saturating_sub(self.recipients().len())
    }

    /// Lets the next save encrypt it to one more; false where it already would.
    pub fn add_recipient(&mut self, new: Recipient) -> bool {
        let mut all: Vec<_> = self.recipients().into_iter().map(|(one, _)| one).collect();
        let is_new = !all.contains(&new);
        all.extend(is_new.then_some(new));
        self.document.recipients = Some(all);
        is_new
    }

    /// Lets the next save leave one out.
    ///
    /// # Errors
    /// It is not among them, or it is the last.
    pub fn remove_recipient(&mut self, gone: &Recipient) -> Result<(), AgeError> {
        let vault = self.settings.path.clone();
        let all = self.recipients();
        let rest = all.iter().map(|(one, _)| one).filter(|&one| one != gone);
        let rest: Vec<_> = rest.cloned().collect();
        if rest.len() == all.len() {
            return Err(AgeError::NoSuchRecipient { vault, recipient: gone.to_string() });
        }
        if rest.is_empty() {
            return Err(AgeError::LastRecipient { vault });
        }
        self.document.recipients = Some(rest);
        Ok(())
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.settings.path
    }

    /// A secret's value.
    ///
    /// # Errors
    /// It is not there, or is no token.
    pub fn token(&self, name: &SecretName) -> Result<Token, AgeError> {
        let entry = self.entry(name)?;
        Token::parse(entry.value.expose_secret()).map_err(|source| AgeError::BadValue {
            vault: self.settings.path.clone(),
            name: name.clone(),
            source,
        })
    }

    /// A secret as it stands there.
    pub(super) fn secret(&self, name: &SecretName) -> Result<&SecretSlice<u8>, AgeError> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// The secret, and nothing else of the vault.
    pub(super) fn into_secret(mut self, name: &SecretName) -> Result<SecretSlice<u8>, AgeError> {
        self.entry(name)?;
        let entry = self.document.entries.remove(name).ok_or_else(|| self.no_such(name))?;
        Ok(entry.value)
    }

    fn entry(&self, name: &SecretName) -> Result<&Entry, AgeError> {
        self.document.entries.get(name).ok_or_else(|| self.no_such(name))
    }

    fn no_such(&self, name: &SecretName) -> AgeError {
        let others = nearest_first(name, self.document.entries.keys());
        AgeError::NoSuchName { vault: self.settings.path.clone(), name: name.clone(), others }
    }
}

impl Edit {
    /// Waits until nobody else changes the vault, and opens it.
    ///
    /// # Errors
    /// It does not open, or somebody else changes it for more than 10 s.
    pub fn begin(settings: &AgeSettings) -> Result<Self, AgeError> {
        let lock = Lock::take(&[&settings.path])?;
        disk::sweep(&settings.path);
        Ok(Self { vault: Vault::open(settings)?, _lock: lock })
    }

    /// Writes it, encrypted anew. The old file stays whole until the new one is.
    ///
    /// # Errors
    /// It cannot be written; then it is as it was.
    pub fn save(mut self) -> Result<(), AgeError> {
        let to = self.vault.recipients().into_iter().map(|(one, _)| one).collect();
        self.vault.document.recipients = Some(to);
        let path = &self.vault.settings.path;
        disk::replace(path, &sealed(&self.vault.document, path)?)
    }
}

/// The keys of an identity file, which only its owner may read.
pub(super) fn read_identities(path: &Path) -> Result<Identities, AgeError> {
    Identities::parse(read_blocking(path, Readers::Owner, MAX_BYTES)?.expose_secret(), path)
}

/// The document as an age file.
pub(super) fn sealed(document: &Document, path: &Path) -> Result<Vec<u8>, AgeError> {
    seal::seal(&document.to_toml(), document.recipients.as_deref().unwrap_or_default(), path)
}

//! A new identity for a vault, in an order in which the two files open with each other at every moment.

use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice};

use super::disk::{self, Lock};
use super::error::AgeError;
use super::seal::{Identities, Recipient};
use super::vault::{Vault, sealed};
use crate::credential::file::{Readers, read_blocking};
use crate::credential::settings::AgeSettings;
use crate::credential::store::{MAX_BYTES, Place, SecretError};

/// What a new identity changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rekeyed {
    /// The new public key.
    pub recipient: Recipient,
    /// Where the former identity is.
    pub old: PathBuf,
    /// How many others can open the vault as before.
    pub others: usize,
    /// How many could open it and cannot now, since the vault did not name them.
    pub unnamed: usize,
}

/// Makes a new identity and encrypts the vault to it and to the other recipients. The old one stays
/// beside it until [`forget`].
///
/// A crash at any moment leaves an identity file that opens the vault file. One in the middle leaves
/// an identity file with both keys.
///
/// # Errors
/// The vault does not open, there is still an identity of the last time, or a file cannot be
/// written.
pub fn rekey(settings: &AgeSettings) -> Result<Rekeyed, AgeError> {
    let _lock = Lock::take(&[&settings.path, &settings.identity])?;
    disk::sweep(&settings.path);
    disk::sweep(&settings.identity);
    let old = old_of(&settings.identity);
    let before = read_blocking(&settings.identity, Readers::Owner, MAX_BYTES)?;
    let is_kept = is_kept(&before, &old)?;
    let mut vault = Vault::open(settings)?;
    let unnamed = vault.unnamed();
    let (new, file) = Identities::generate()?;
    let others = vault.recipients().into_iter().filter(|(_, ours)| !ours);
    let mut recipients = new.recipients();
    recipients.extend(others.map(|(other, _)| other));
    let (mine, others) = (recipients[0].clone(), recipients.len() - 1);
    vault.document.recipients = Some(recipients);
    let vault = sealed(&vault.document, &settings.path)?;

    if !is_kept {
        disk::create(&old, before.expose_secret())?;
    }
    let both = Zeroizing::new([file.expose_secret(), before.expose_secret()].concat());
    disk::replace(&settings.identity, &both)?;
    disk::replace(&settings.path, &vault)?;
    disk::replace(&settings.identity, file.expose_secret())?;
    Ok(Rekeyed { recipient: mine, old, others, unnamed })
}

/// Removes the identity that was kept by [`rekey`], once the vault opens without it. Gives back which
/// file that was, if there was one.
///
/// # Errors
/// The vault does not open with its identity, or the file cannot be removed.
pub fn forget(settings: &AgeSettings) -> Result<Option<PathBuf>, AgeError> {
    let _lock = Lock::take(&[&settings.path, &settings.identity])?;
    Vault::open(settings)?;
    let old = old_of(&settings.identity);
    if old.symlink_metadata().is_err() {
        return Ok(None);
    }
    disk::remove(&old)?;
    Ok(Some(old))
}

/// Whether the identity was put aside already, by a run that ended before it changed anything. A
/// different one is of an earlier time.
fn is_kept(identity: &SecretSlice<u8>, old: &Path) -> Result<bool, AgeError> {
    match read_blocking(old, Readers::Owner, MAX_BYTES) {
        Ok(kept) if kept.expose_secret() == identity.expose_secret() => Ok(true),
        Err(SecretError::Missing { place: Place::File(_) }) => Ok(false),
        _ => Err(AgeError::OldIdentity { path: old.to_owned() }),
    }
}

fn old_of(identity: &Path) -> PathBuf {
    let mut name = identity.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

// Without it there is no vault to test with.
#[cfg(feature = "vault-age")]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn vault(folder: &tempfile::TempDir) -> AgeSettings {
        let settings = AgeSettings {
            path: folder.path().join("vault.age"),
            identity: folder.path().join("identity.txt"),
        };
        Vault::create(&settings).unwrap();
        settings
    }

    #[test]
    fn a_new_identity_opens_the_vault_and_the_old_one_no_longer_does() {
        let folder = tempfile::tempdir().unwrap();
        let settings = vault(&folder);
        let first = Vault::open(&settings).unwrap().recipients();
        let rekeyed = rekey(&settings).unwrap();
        assert_eq!((rekeyed.others, rekeyed.unnamed), (0, 0));
        assert_eq!(Vault::open(&settings).unwrap().recipients(), [(rekeyed.recipient, true)]);
        let with_old = AgeSettings { identity: rekeyed.old.clone(), ..settings.clone() };
        let error = Vault::open(&with_old).unwrap_err();
        assert!(matches!(error, AgeError::WrongIdentity { .. }), "{error}");
        let kept = Identities::parse(&fs::read(&rekeyed.old).unwrap(), &rekeyed.old).unwrap();
        assert_eq!(kept.recipients(), [first[0].0.clone()]);
        for path in [&settings.path, &settings.identity, &rekeyed.old] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn the_old_identity_is_kept_until_told() {
        let folder = tempfile::tempdir().unwrap();
        let settings = vault(&folder);
        assert_eq!(forget(&settings).unwrap(), None);
        let old = rekey(&settings).unwrap().old;
        let error = rekey(&settings).unwrap_err();
        assert!(error.to_string().ends_with("omnigate vault rekey --forget"), "{error}");
        assert_eq!(forget(&settings).unwrap(), Some(old.clone()));
        assert!(!old.exists());
        rekey(&settings).unwrap();
    }

    #[test]
    fn a_run_that_ended_early_can_be_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let settings = vault(&folder);
        // Killed after its first step, and in the middle of its second.
        fs::copy(&settings.identity, old_of(&settings.identity)).unwrap();
        let left = folder.path().join(".identity.txt.new-1");
        fs::copy(&settings.identity, &left).unwrap();
        rekey(&settings).unwrap();
        assert!(!left.exists(), "an identity must not lie about");
    }

    #[test]
    fn an_identity_file_with_both_keys_opens_the_vault_before_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let settings = vault(&folder);
        let before = fs::read(&settings.path).unwrap();
        let old = rekey(&settings).unwrap().old;
        let both = [fs::read(&settings.identity).unwrap(), fs::read(old).unwrap()].concat();
        fs::write(&settings.identity, both).unwrap();
        assert_eq!(Vault::open(&settings).unwrap().unnamed(), 0);
        fs::write(&settings.path, before).unwrap();
        assert_eq!(Vault::open(&settings).unwrap().unnamed(), 0);
    }
}

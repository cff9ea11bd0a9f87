//! One secret of a vault, as a place that is looked at again.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::error::AgeError;
use super::name::SecretName;
use super::vault::Vault;
use crate::credential::file::REFRESH_EVERY;
use crate::credential::settings::AgeSettings;
use crate::credential::store::{Found, Place, SecretError, SecretStore};

/// A secret in an age file.
#[derive(Debug)]
pub(in crate::credential) struct AgeStore {
    settings: AgeSettings,
    name: SecretName,
}

impl AgeStore {
    pub(in crate::credential) fn new(
        settings: &AgeSettings,
        name: &str,
    ) -> Result<Self, SecretError> {
        let name = SecretName::parse(name).map_err(|_| SecretError::BadName)?;
        Ok(Self { settings: settings.clone(), name })
    }

    async fn open(&self) -> Result<Found, SecretError> {
        let (settings, name) = (self.settings.clone(), self.name.clone());
        let read = tokio::task::spawn_blocking(move || {
            Vault::open(&settings)?.into_secret(&name).map(Found::lasting)
        });
        match read.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(AgeError::File(error))) => Err(*error),
            Ok(Err(source)) => Err(SecretError::Age(Box::new(source))),
            // The runtime is going away.
            Err(gone) => {
                let source = std::io::Error::other(gone);
                Err(SecretError::Unreadable { place: self.place(), source })
            }
        }
    }
}

impl SecretStore for AgeStore {
    fn read(&self) -> BoxFuture<'_, Result<Found, SecretError>> {
        Box::pin(self.open())
    }

    fn place(&self) -> Place {
        Place::File(self.settings.path.clone())
    }

    fn refresh_every(&self) -> Option<Duration> {
        Some(REFRESH_EVERY)
    }
}

// Without it there is no vault to test with.
#[cfg(feature = "vault-age")]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::credential::age::Edit;
    use crate::credential::settings::Kind;
    use crate::credential::token::Token;

    fn vault(folder: &tempfile::TempDir) -> AgeSettings {
        let settings = AgeSettings {
            path: folder.path().join("vault.age"),
            identity: folder.path().join("identity.txt"),
        };
        Vault::create(&settings).unwrap();
        settings
    }

    fn set(settings: &AgeSettings, name: &str, value: &str) {
        let mut edit = Edit::begin(settings).unwrap();
        let (name, token) = (SecretName::parse(name), Token::parse(value.as_bytes()));
        edit.vault.set(&name.unwrap(), &token.unwrap(), Kind::Organization);
        edit.save().unwrap();
    }

    #[tokio::test]
    async fn the_value_is_the_one_of_now() {
        let folder = tempfile::tempdir().unwrap();
        let settings = vault(&folder);
        let store = AgeStore::new(&settings, "org").unwrap();
        for value in ["first", "second"] {
            set(&settings, "org", value);
            let found = store.read().await.unwrap();
            assert_eq!(found.secret.expose_secret(), value.as_bytes());
            assert_eq!(found.valid_for, None);
        }
    }

    #[tokio::test]
    async fn what_is_wrong_names_the_file_and_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let settings = vault(&folder);
        set(&settings, "org", "planted");
        let store = AgeStore::new(&settings, "ogr").unwrap();
        let said = store.read().await.unwrap_err().to_string();
        assert!(said.ends_with("vault.age has no secret `ogr`; it has org"), "{said}");
        fs::set_permissions(&settings.identity, fs::Permissions::from_mode(0o644)).unwrap();
        let error = store.read().await.unwrap_err();
        assert!(matches!(error, SecretError::Exposed { .. }), "{error}");
        fs::remove_file(&settings.identity).unwrap();
        let error = store.read().await.unwrap_err();
        assert!(matches!(error, SecretError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("identity.txt"));
        assert!(!format!("{store:?} {error:?}").contains("planted"));
    }

    #[test]
    fn a_token_in_place_of_the_name_is_not_repeated() {
        let settings = AgeSettings { path: "v".into(), identity: "i".into() };
        let error = AgeStore::new(&settings, "omni_osk_planted").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("planted"));
    }
}

//! A password that is kept where the keys are, and is none of them.

use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::time::timeout;

use crate::net::Password;

use super::store::{SecretError, SecretStore};

/// Where a password is.
#[derive(Clone, Debug)]
pub struct PasswordPlace {
    store: Arc<dyn SecretStore>,
}

impl PasswordPlace {
    pub(super) fn new(store: Arc<dyn SecretStore>) -> Self {
        Self { store }
    }

    /// Reads the password as it is now. Takes 10 s at most, or what a provider's own time limits come
    /// to.
    ///
    /// # Errors
    /// Names the place, and shows nothing of what is there.
    pub async fn read(&self) -> Result<Password, SecretError> {
        let after = self.store.patience();
        let place = || self.store.place();
        let late = |_| Err(SecretError::TimedOut { place: place(), after });
        let found = timeout(after, self.store.read()).await.unwrap_or_else(late)?;
        Password::parse(found.secret.expose_secret())
            .map_err(|source| SecretError::BadPassword { place: place(), source })
    }

    /// What the place has to do between reads, for ever; meant to be cancelled.
    pub async fn keep(&self) {
        self.store.keep().await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use crate::credential::{Credentials, Source};

    #[tokio::test]
    async fn a_password_is_read_anew_each_time_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("redis");
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let source = Source::File { path: path.clone() };
        let (_, place) =
            Credentials::open_beside(Vec::new(), Some(&source), &|_| None).await.unwrap();
        let place = place.unwrap().unwrap();
        assert!(place.read().await.unwrap_err().is_missing());
        write("zqsecretzq \"1\"\n");
        let first = place.read().await.unwrap();
        write("zqsecretzq 2");
        let second = place.read().await.unwrap();
        assert_ne!(first, second);
        write("zqsecretzq\n2");
        let error = place.read().await.unwrap_err();
        let shown = format!("{error} {error:?} {first:?} {place:?}");
        assert!(error.to_string().ends_with("holds no password: it has a control character"));
        assert!(!shown.contains("zqsecret"), "{shown}");
    }
}

//! A variable of our environment.

use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};
use secrecy::{ExposeSecret, SecretSlice};

use crate::omni;

use super::store::{Found, MAX_BYTES, Place, SecretError, SecretStore};

/// One variable, as it was when the process began.
///
/// It stays in our environment. Removing it is unsound while another thread may read there (`unsafe`
/// in Rust, which this crate forbids), and would not clear `/proc/PID/environ`; a process that is
/// not dumpable closes that to others of its user. Whoever starts a child removes it there.
#[derive(Debug)]
pub(super) struct Env {
    name: String,
}

impl Env {
    /// # Errors
    /// Refuses what is no name of a variable.
    pub(super) fn new(name: &str) -> Result<Self, SecretError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fits = !name.is_empty() && name.chars().all(plain);
        if !fits
            || name.starts_with(|c: char| c.is_ascii_digit())
            || name.contains(omni::TOKEN_PREFIX)
        {
            return Err(SecretError::BadName);
        }
        Ok(Self { name: name.to_owned() })
    }

    fn read_now(&self) -> Result<SecretSlice<u8>, SecretError> {
        let value =
            std::env::var_os(&self.name).ok_or(SecretError::Missing { place: self.place() })?;
        let secret = SecretSlice::from(value.into_vec());
        if secret.expose_secret().len() > MAX_BYTES {
            return Err(SecretError::TooLarge { place: self.place() });
        }
        Ok(secret)
    }
}

impl SecretStore for Env {
    fn read(&self) -> BoxFuture<'_, Result<Found, SecretError>> {
        Box::pin(ready(self.read_now().map(Found::lasting)))
    }

    fn place(&self) -> Place {
        Place::Variable(self.name.clone())
    }

    fn refresh_every(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_variable_is_read_and_a_missing_one_is_named() {
        // The one variable that Cargo sets for every test.
        let here = Env::new("CARGO_PKG_NAME").unwrap().read().await.unwrap();
        assert_eq!(here.secret.expose_secret(), b"omnigate");
        let error = Env::new("OMNIGATE_TEST_NOT_THERE").unwrap().read().await.unwrap_err();
        assert_eq!(error.to_string(), "the variable OMNIGATE_TEST_NOT_THERE is not there");
    }

    #[test]
    fn a_name_is_a_variables_name() {
        let key = format!("{}abc", omni::TOKEN_PREFIX);
        for name in ["", "1A", "A=B", "A B", "É", &key] {
            assert!(matches!(Env::new(name), Err(SecretError::BadName)), "{name}");
        }
    }
}

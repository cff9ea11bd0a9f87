//! One file per secret in a folder, as Kubernetes, Docker and systemd mount them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;

use crate::omni;

use super::file::{REFRESH_EVERY, Readers, read_file};
use super::store::{Found, Place, SecretError, SecretStore};

/// One secret in such a folder.
///
/// The path is opened anew each time, so that it follows the `..data` link that Kubernetes swaps.
/// File modes are not looked at: these mounts are readable by design (0444, 0644), and who may enter
/// them is decided elsewhere.
#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
}

impl Dir {
    /// # Errors
    /// Refuses a name that is not one plain file name. Names in `..` are Kubernetes' own.
    pub(super) fn new(folder: &Path, name: &str) -> Result<Self, SecretError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let fits = (1..=255).contains(&name.len()) && name.chars().all(plain);
        if !fits || name == "." || name.starts_with("..") || name.contains(omni::TOKEN_PREFIX) {
            return Err(SecretError::BadName);
        }
        Ok(Self { path: folder.join(name) })
    }
}

impl SecretStore for Dir {
    fn read(&self) -> BoxFuture<'_, Result<Found, SecretError>> {
        Box::pin(read_file(self.path.clone(), Readers::Anyone).map_ok(Found::lasting))
    }

    fn place(&self) -> Place {
        Place::File(self.path.clone())
    }

    fn refresh_every(&self) -> Option<Duration> {
        Some(REFRESH_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_plain_file_name() {
        for name in ["org", "omni-key_2.txt", ".hidden"] {
            assert!(Dir::new(Path::new("/run"), name).is_ok(), "{name}");
        }
        let key = format!("{}abc", omni::TOKEN_PREFIX);
        for name in ["", ".", "..", "..data", "../x", "a/b", "/etc/shadow", "a b", "a\0", "é", &key]
        {
            assert!(
                matches!(Dir::new(Path::new("/run"), name), Err(SecretError::BadName)),
                "{name}"
            );
        }
    }
}

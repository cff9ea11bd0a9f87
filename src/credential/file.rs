//! One file that holds one secret.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;
use secrecy::SecretSlice;
use secrecy::zeroize::Zeroizing;

use super::store::{Found, MAX_BYTES, Place, SecretError, SecretStore};

/// How often files are looked at again.
pub(super) const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// A file that only its owner may read. A symbolic link is followed, and the mode of the file at
/// its end is what counts.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
}

/// Who else may read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Nobody but the owner.
    Owner,
    /// Whoever mounted the folder has seen to it.
    Anyone,
}

impl File {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }
}

impl SecretStore for File {
    fn read(&self) -> BoxFuture<'_, Result<Found, SecretError>> {
        Box::pin(read_file(self.path.clone(), Readers::Owner).map_ok(Found::lasting))
    }

    fn place(&self) -> Place {
        Place::File(self.path.clone())
    }

    fn refresh_every(&self) -> Option<Duration> {
        Some(REFRESH_EVERY)
    }
}

/// Reads a small file on a thread of its own, which outlives a caller who leaves.
pub(super) async fn read_file(
    path: PathBuf,
    readers: Readers,
) -> Result<SecretSlice<u8>, SecretError> {
    let place = Place::File(path.clone());
    tokio::task::spawn_blocking(move || read_blocking(&path, readers, MAX_BYTES))
        .await
        .unwrap_or_else(
            // The runtime is going away.
            |gone| Err(SecretError::Unreadable { place, source: io::Error::other(gone) }),
        )
}

/// Reads a file of `most` bytes at most; not for the runtime's own threads.
pub(super) fn read_blocking(
    path: &Path,
    readers: Readers,
    most: usize,
) -> Result<SecretSlice<u8>, SecretError> {
    let place = || Place::File(path.to_owned());
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => SecretError::Missing { place: place() },
        _ => SecretError::Unreadable { place: place(), source },
    };
    // Without O_NONBLOCK, opening a named pipe waits for somebody to write.
    let no_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = fs::OpenOptions::new().read(true).custom_flags(no_waiting).open(path);
    let mut file = opened.map_err(failed)?;
    // The open file is asked, not the path: it may have been replaced in between.
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(SecretError::NotAFile { place: place() });
    }
    let mode = about.mode() & 0o7777;
    if readers == Readers::Owner && mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(vec![0; most + 1]);
    let mut length = 0;
    while length < bytes.len() {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    if length > most {
        return Err(SecretError::TooLarge { place: place() });
    }
    Ok(SecretSlice::from(bytes[..length].to_vec()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use secrecy::ExposeSecret;

    use super::*;

    fn write(path: &Path, text: &[u8], mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn a_file_of_ones_own_is_read_also_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("key"), folder.path().join("link"));
        write(&path, b"abc\n", 0o600);
        symlink(&path, &link).unwrap();
        for path in [path, link] {
            assert_eq!(File::new(&path).read().await.unwrap().secret.expose_secret(), b"abc\n");
        }
    }

    #[tokio::test]
    async fn a_file_that_others_may_read_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            write(&path, b"abc", mode);
            let error = File::new(&path).read().await.unwrap_err();
            assert!(
                error.to_string().ends_with(&format!("chmod 600 {}", path.display())),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_small_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(matches!(File::new(&path).read().await, Err(SecretError::Missing { .. })));
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for place in [folder.path(), &pipe] {
            assert!(matches!(File::new(place).read().await, Err(SecretError::NotAFile { .. })));
        }
        write(&path, &vec![b'a'; MAX_BYTES], 0o600);
        assert!(File::new(&path).read().await.is_ok());
        write(&path, &vec![b'a'; MAX_BYTES + 1], 0o600);
        assert!(matches!(File::new(&path).read().await, Err(SecretError::TooLarge { .. })));
    }
}

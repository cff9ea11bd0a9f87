//! Files that are there whole or not at all: a new one takes the old one's place in one step, under a
//! lock.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::error::{AgeError, unwritable};

/// How long another change of the vault is waited for. None of them asks anybody while it has the
/// lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// The right to change the files of some folders; another process waits until it is dropped, however
/// this one ends.
#[derive(Debug)]
pub(super) struct Lock {
    _folders: Vec<File>,
}

impl Lock {
    /// Waits for the folders in which these files are, or will be.
    pub(super) fn take(files: &[&Path]) -> Result<Self, AgeError> {
        let folders = files.iter().map(|file| real(file).map(|real| folder_of(&real)));
        let mut folders = folders.collect::<Result<Vec<PathBuf>, _>>()?;
        // Everybody takes them in one order, or two could wait for each other.
        folders.sort();
        folders.dedup();
        let folders = folders.iter().map(|folder| wait_for(folder)).collect::<Result<_, _>>()?;
        Ok(Self { _folders: folders })
    }
}

/// The folder itself is locked, so that no lock file lies about in it.
fn wait_for(folder: &Path) -> Result<File, AgeError> {
    let open = File::open(folder).map_err(unwritable(folder))?;
    let (tell, told) = mpsc::channel();
    // Whoever gets the lock after we have gone drops it in the same moment.
    std::thread::spawn(move || tell.send(open.lock().map(|()| open)));
    match told.recv_timeout(PATIENCE) {
        Ok(locked) => locked.map_err(unwritable(folder)),
        Err(_) => Err(AgeError::Busy { path: folder.to_owned() }),
    }
}

/// Writes a file that must not be there yet, for its owner alone.
pub(super) fn create(path: &Path, content: &[u8]) -> Result<(), AgeError> {
    let file = match new_file(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(AgeError::Exists { path: path.to_owned() });
        }
        made => made.map_err(unwritable(path))?,
    };
    let unfinished = Unfinished(Some(path.to_owned()));
    write(file, content).map_err(unwritable(path))?;
    unfinished.done();
    keep_entry(&folder_of(path)).map_err(unwritable(path))
}

/// Puts a new file in an old one's place; at every moment one of the two is there whole. A symbolic
/// link stays one, and the owner stays the owner. The mode is 0600.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), AgeError> {
    let place = real(path)?;
    let owner = fs::metadata(&place).map_err(unwritable(path))?;
    replace_real(&place, Some(&owner), content).map_err(unwritable(path))
}

/// The same, but the new file is ours, whoever had the old one, and a symbolic link is replaced and
/// not followed: in a folder that others may write, both are theirs to choose.
pub(super) fn overwrite(path: &Path, content: &[u8]) -> Result<(), AgeError> {
    replace_real(path, None, content).map_err(unwritable(path))
}

fn replace_real(place: &Path, owner: Option<&fs::Metadata>, content: &[u8]) -> io::Result<()> {
    let mut name = new_name(place);
    name.push(uuid::Uuid::now_v7().simple().to_string());
    let new = folder_of(place).join(name);
    let file = new_file(&new)?;
    let unfinished = Unfinished(Some(new.clone()));
    // Root may change the vault of a service, which must still be able to read it.
    if let Some(owner) = owner
        && file.metadata()?.uid() != owner.uid()
    {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    write(file, content)?;
    fs::rename(&new, place)?;
    unfinished.done();
    keep_entry(&folder_of(place))
}

/// Removes what a process that was killed in [`replace`] left behind. The caller has the lock.
pub(super) fn sweep(path: &Path) {
    let Ok(place) = real(path) else { return };
    let prefix = new_name(&place);
    for entry in fs::read_dir(folder_of(&place)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            // What stays is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes a file for good, as far as a disk forgets.
pub(super) fn remove(path: &Path) -> Result<(), AgeError> {
    fs::remove_file(path).and_then(|()| keep_entry(&folder_of(path))).map_err(unwritable(path))
}

/// The path with all symbolic links followed; the last part of it need not be there.
fn real(path: &Path) -> Result<PathBuf, AgeError> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            let folder = fs::canonicalize(folder_of(path)).map_err(unwritable(path))?;
            Ok(folder.join(path.file_name().unwrap_or_default()))
        }
        found => found.map_err(unwritable(path)),
    }
}

/// The folder that a file is in; `.` for a bare name.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// How the names of unfinished files begin.
fn new_name(place: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(place.file_name().unwrap_or_default());
    name.push(".new-");
    name
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn write(mut file: File, content: &[u8]) -> io::Result<()> {
    file.write_all(content)?;
    file.sync_all()
}

/// A rename is kept through a crash once its folder is on the disk.
fn keep_entry(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A file that is removed again unless it was finished.
struct Unfinished(Option<PathBuf>);

impl Unfinished {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_created_over_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.age");
        create(&path, b"first").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(matches!(create(&path, b"second"), Err(AgeError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn a_new_file_takes_the_old_ones_place_and_a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("vault.age"), folder.path().join("link"));
        fs::write(&path, b"old").unwrap();
        symlink("vault.age", &link).unwrap();
        replace(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"new".to_vec(), 0o600));
        assert_eq!(names(folder.path()), ["link", "vault.age"]);
    }

    #[test]
    fn what_is_overwritten_is_no_way_to_another_file_or_another_owner() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("other"), folder.path().join("link"));
        fs::write(&path, b"old").unwrap();
        symlink("other", &link).unwrap();
        overwrite(&link, b"new").unwrap();
        assert!(!link.is_symlink());
        assert_eq!((fs::read(&link).unwrap(), mode(&link)), (b"new".to_vec(), 0o600));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        // Only root can see this fail.
        if fchown(File::open(&path).unwrap(), Some(65_534), Some(65_534)).is_ok() {
            overwrite(&path, b"new").unwrap();
            let ours = fs::metadata(folder.path()).unwrap().uid();
            assert_eq!(fs::metadata(&path).unwrap().uid(), ours);
        }
    }

    #[test]
    fn what_cannot_be_finished_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        // A folder cannot be replaced by a file: the rename fails, after all was written.
        let path = folder.path().join("vault.age");
        fs::create_dir(&path).unwrap();
        let error = replace(&path, b"new").unwrap_err();
        assert!(error.to_string().ends_with("it is as it was"), "{error}");
        assert_eq!(names(folder.path()), ["vault.age"]);
        assert!(path.is_dir());
    }

    #[test]
    fn what_a_killed_process_left_is_swept_up_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["vault.age", ".vault.age.new-1", ".vault.age.newer", ".other.age.new-1"] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        sweep(&folder.path().join("vault.age"));
        assert_eq!(names(folder.path()), [".other.age.new-1", ".vault.age.newer", "vault.age"]);
    }

    #[test]
    fn only_one_at_a_time_has_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.age");
        let lock = Lock::take(&[&path, &folder.path().join("identity.txt")]).unwrap();
        let other = File::open(folder.path()).unwrap();
        assert!(other.try_lock().is_err());
        drop(lock);
        other.try_lock().unwrap();
    }
}

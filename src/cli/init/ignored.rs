//! The identity stays out of git.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The `.gitignore` in which a file beside it should stand: `None` outside of git, and where it
/// stands there already.
pub(super) fn wanted(file: &Path) -> Option<PathBuf> {
    let file = std::path::absolute(file).ok()?;
    let folder = file.parent()?;
    // A file in work trees and submodules.
    folder.ancestors().find(|above| above.join(".git").exists())?;
    let list = folder.join(".gitignore");
    let name = file.file_name()?.to_str()?;
    let said = fs::read_to_string(&list).unwrap_or_default();
    let there = said.lines().any(|line| line.trim().trim_start_matches('/') == name);
    (!there).then_some(list)
}

/// Adds a line with the file's name.
pub(super) fn add(list: &Path, file: &Path) -> io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let said = match fs::read(list) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let newline = if said.is_empty() || said.ends_with(b"\n") { "" } else { "\n" };
    let mut list = OpenOptions::new().append(true).create(true).open(list)?;
    list.write_all(format!("{newline}/{name}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_added_once_and_only_in_git() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("gateway");
        fs::create_dir(&folder).unwrap();
        let identity = folder.join("identity.txt");
        assert_eq!(wanted(&identity), None);
        fs::create_dir(root.path().join(".git")).unwrap();
        let list = wanted(&identity).unwrap();
        assert_eq!(list, folder.join(".gitignore"));
        for (before, after) in
            [("target", "target\n/identity.txt\n"), ("a\n", "a\n/identity.txt\n")]
        {
            fs::write(&list, before).unwrap();
            add(&list, &identity).unwrap();
            assert_eq!(fs::read_to_string(&list).unwrap(), after);
            assert_eq!(wanted(&identity), None);
        }
        for there in ["identity.txt", "x\n  /identity.txt\r\n"] {
            fs::write(&list, there).unwrap();
            assert_eq!(wanted(&identity), None);
        }
    }
}

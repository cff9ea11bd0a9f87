//! A folder of secrets, and a file with one.

use std::path::{Path, PathBuf};

use super::{Harm, Parts, Planted, exposed, harm, harms_of_a_file, write};

pub(super) fn dir(folder: PathBuf, _: Planted) -> Parts {
    let path = folder.join("org");
    let lines = [
        format!("backend = \"dir\"\npath = \"{}\"", folder.display()),
        "secret = \"org\"".to_owned(),
    ];
    parts("dir", lines, &path, harms(&path))
}

pub(super) fn file(folder: PathBuf, _: Planted) -> Parts {
    let path = folder.join("org.token");
    let lines =
        ["backend = \"file\"".to_owned(), format!("secret = {{ path = \"{}\" }}", path.display())];
    let mut harms = harms(&path);
    harms.push(exposed(&path));
    parts("file", lines, &path, harms)
}

fn parts(name: &str, lines: [String; 2], path: &Path, harms: Vec<Harm>) -> Parts {
    let (place, path) = (path.display().to_string(), path.to_owned());
    let mend = Box::new(move |secret: &str| write(&path, secret));
    Parts { name: name.to_owned(), lines, place, mend, harms }
}

fn harms(path: &Path) -> Vec<Harm> {
    let at = || path.to_owned();
    let (empty, twice, large, quoted) = (at(), at(), at(), at());
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let mut harms = harms_of_a_file(path);
    harms.extend([
        harm("holds no token: it is empty", move || write(&empty, " \n")),
        harm("holds no token: it has a blank at byte", move || {
            let secret = read(&twice);
            write(&twice, &format!("{secret} {secret}"));
        }),
        harm("is larger than 64 KiB", move || {
            let secret = read(&large);
            write(&large, &secret.repeat(2_000));
        }),
        harm("has a character that no bearer token has at byte 0", move || {
            let secret = read(&quoted);
            write(&quoted, &format!("\"{secret}\""));
        }),
    ]);
    harms
}

//! Where the config file is looked for.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// No config file was found in any of these places.
#[derive(Debug, PartialEq, Eq)]
pub struct NotFound {
    looked_at: Vec<PathBuf>,
}

/// The config file: the one that was named, by `explicit` or `$OMNIGATE_CONFIG`, or the first
/// that exists of `./omnigate.toml`, the user's config folder and `/etc/omnigate`.
///
/// A file that was named is not looked for elsewhere: reading it says what is wrong with it.
///
/// # Errors
/// Names all places that were looked at.
pub fn find(explicit: Option<PathBuf>) -> Result<PathBuf, NotFound> {
    find_in(explicit, &|name| std::env::var_os(name), &Path::is_file)
}

fn find_in(
    explicit: Option<PathBuf>,
    variable: &dyn Fn(&str) -> Option<OsString>,
    is_file: &dyn Fn(&Path) -> bool,
) -> Result<PathBuf, NotFound> {
    let variable = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = explicit.or_else(|| variable("OMNIGATE_CONFIG")) {
        return Ok(named);
    }
    // A relative path is to be ignored (XDG base directory specification).
    let xdg = variable("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let user = xdg.or_else(|| Some(variable("HOME")?.join(".config")));
    let mut looked_at = vec![PathBuf::from("omnigate.toml")];
    looked_at.extend(user.map(|folder| folder.join("omnigate/omnigate.toml")));
    looked_at.push(PathBuf::from("/etc/omnigate/omnigate.toml"));
    match looked_at.iter().find(|path| is_file(path)) {
        Some(found) => Ok(found.clone()),
        None => Err(NotFound { looked_at }),
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no config file; looked at")?;
        for path in &self.looked_at {
            write!(f, "\n  {}", path.display())?;
        }
        f.write_str(
            "\nname one with -c FILE or OMNIGATE_CONFIG=FILE, or make one with: omnigate init",
        )
    }
}

impl std::error::Error for NotFound {}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "omnigate.toml";
    const USERS: &str = "/home/ada/.config/omnigate/omnigate.toml";
    const SYSTEMS: &str = "/etc/omnigate/omnigate.toml";

    fn home(name: &str) -> Option<OsString> {
        (name == "HOME").then(|| "/home/ada".into())
    }

    fn found_among(files: &[&str]) -> Result<PathBuf, NotFound> {
        find_in(None, &home, &|path| files.iter().any(|file| Path::new(file) == path))
    }

    #[test]
    fn the_nearest_file_wins() {
        assert_eq!(found_among(&[SYSTEMS, USERS, HERE]), Ok(HERE.into()));
        assert_eq!(found_among(&[SYSTEMS, USERS]), Ok(USERS.into()));
        assert_eq!(found_among(&[SYSTEMS]), Ok(SYSTEMS.into()));
    }

    #[test]
    fn a_named_file_is_the_one_even_if_it_is_not_there() {
        let variable = |name: &str| (name == "OMNIGATE_CONFIG").then(|| "b.toml".into());
        let find = |explicit| find_in(explicit, &variable, &|_| true);
        assert_eq!(find(Some("a.toml".into())), Ok("a.toml".into()));
        assert_eq!(find(None), Ok("b.toml".into()));
    }

    #[test]
    fn where_nothing_is_found_every_place_is_named() {
        let text = found_among(&[]).unwrap_err().to_string();
        for place in [HERE, USERS, SYSTEMS, "OMNIGATE_CONFIG"] {
            assert!(text.contains(place), "{text}");
        }
    }
}

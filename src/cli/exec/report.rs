//! `--report FILE.json`: what became of the calls, for programs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::base::RequestId;
use crate::cli::exec::child::Ending;
use crate::cli::exec::tally::Figures;

/// Changes when a field goes or means something else; new ones may come at any time.
const SCHEMA: u32 = 1;

/// Where a report will be.
#[derive(Debug)]
pub(super) struct Report {
    path: PathBuf,
    begun: SystemTime,
}

/// Why there cannot be one.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoReport {
    #[error("--report {}: {why}; name a file in a folder that you may write to", .path.display())]
    Folder { path: PathBuf, why: io::Error },
    #[error(
        "--report {}: this link belongs to the user {owner}, and is not followed in a folder that others may \
         write to; name another file", .path.display()
    )]
    Link { path: PathBuf, owner: u32 },
    #[error("--report {}: this is no regular file, and would be replaced; name another", .path.display())]
    NoFile { path: PathBuf },
}

impl Report {
    /// Finds out whether a report can be written there. What is there stays until it is.
    pub(super) fn prepare(path: &Path) -> Result<Self, NoReport> {
        let folder_fails = |why| NoReport::Folder { path: path.to_owned(), why };
        foreign_link(path)?;
        // A link is followed, so that its file is replaced and not the link itself.
        let path = match fs::canonicalize(path) {
            Ok(there) if there.is_file() => there,
            Ok(_) => return Err(NoReport::NoFile { path: path.to_owned() }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                std::path::absolute(path).map_err(folder_fails)?
            }
            Err(error) => return Err(folder_fails(error)),
        };
        if path.file_name().is_none() {
            return Err(NoReport::NoFile { path });
        }
        let (trial, file) = beside(&path).map_err(folder_fails)?;
        drop(file);
        fs::remove_file(trial).map_err(folder_fails)?;
        Ok(Self { path, begun: SystemTime::now() })
    }

    /// Writes it, in one step: whoever looks sees the last report, or all of this one.
    pub(super) fn write(&self, program: &str, ending: Ending, figures: &Figures) -> io::Result<()> {
        let text = format!("{:#}\n", content(program, self.begun, ending, figures));
        let (fresh, mut file) = beside(&self.path)?;
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&fresh, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(fresh);
        }
        written
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether the path is a link that another user has put there, as the kernel judges those that programs
/// open (proc(5), `protected_symlinks`): we rename, and it would not notice.
fn foreign_link(path: &Path) -> Result<(), NoReport> {
    let Ok(link) = fs::symlink_metadata(path) else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Ok(folder) = fs::metadata(folder.unwrap_or(Path::new("."))) else { return Ok(()) };
    let shared = folder.mode() & 0o022 != 0;
    let us = rustix::process::geteuid().as_raw();
    let known = [us, folder.uid()].contains(&link.uid());
    match link.is_symlink() && shared && !known {
        true => Err(NoReport::Link { path: path.to_owned(), owner: link.uid() }),
        false => Ok(()),
    }
}

/// A new file in the same folder, under a name of its own.
fn beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let fresh = path.with_file_name(format!(".omnigate-report-{}", RequestId::fresh()));
    let file = OpenOptions::new().write(true).create_new(true).open(&fresh)?;
    Ok((fresh, file))
}

fn content(program: &str, begun: SystemTime, ending: Ending, figures: &Figures) -> Value {
    let counts = &figures.counts;
    let (code, signal) = match ending {
        Ending::Code(code) => (Some(code), None),
        Ending::Signal(signal) => (None, Some(signal)),
    };
    let began = begun.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "schema": SCHEMA,
        "omnigate": env!("CARGO_PKG_VERSION"),
        "program": program,
        "began_unix_s": seconds(began),
        "took_s": seconds(figures.took),
        "exit_code": code,
        "exit_signal": signal,
        "calls": counts.calls,
        "answered": counts.answered,
        "sent": counts.sent,
        "at_no_cost": counts.from_cache,
        "refused": counts.refused,
        "failed": counts.failed,
        "cut": counts.cut,
        "given_up": counts.left,
        "given_up_midway": counts.left_midway,
        "unanswered": counts.waiting,
        "turned_away": counts.turned_away,
        "waits": figures.waits.map(|waits| json!({
            "calls": waits.calls,
            "median_s": seconds(waits.median),
            "longest_s": seconds(waits.longest),
        })),
        "budget": figures.window.map(|window| json!({
            "limit": window.budget.limit,
            "window_s": window.budget.window.as_secs(),
            "sent_in_window": window.sent,
        })),
    })
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exec::tally::{Counts, Waits};

    fn figures() -> Figures {
        let counts =
            Counts { calls: 3, answered: [(200, 2), (503, 1)].into(), ..Counts::default() };
        let waits =
            Waits { calls: 2, median: Duration::from_millis(1), longest: Duration::from_secs(2) };
        let took = Duration::from_millis(1234);
        Figures { counts, window: None, took, waits: Some(waits) }
    }

    #[test]
    fn a_report_replaces_the_last_one_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        fs::write(&path, "old").unwrap();
        let report = Report::prepare(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        report.write("crawl", Ending::Signal(15), &figures()).unwrap();
        let value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!((&value["exit_code"], &value["exit_signal"]), (&Value::Null, &json!(15)));
        assert_eq!(value["answered"], json!({"200": 2, "503": 1}));
        assert_eq!(value["took_s"], 1.234);
        assert_eq!(value["waits"], json!({"calls": 2, "median_s": 0.001, "longest_s": 2.0}));
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 1, "something is left over");
    }

    #[test]
    fn what_cannot_be_written_is_said_before_anything_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Report::prepare(&folder.path().join(name)).map(|_| ());
        assert!(matches!(at("none/report.json"), Err(NoReport::Folder { .. })));
        assert!(matches!(at("."), Err(NoReport::NoFile { .. })));
        assert!(matches!(Report::prepare(Path::new("/dev/null")), Err(NoReport::NoFile { .. })));
        assert!(at("report.json").is_ok());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the trial is left over");
    }

    #[test]
    fn a_link_that_another_user_put_into_a_shared_folder_is_not_followed() {
        use std::os::unix::fs::{PermissionsExt, lchown, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "precious").unwrap();
        symlink(&file, &link).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(Report::prepare(&link).is_ok(), "our own");
        // Only root can make one of another user's.
        if lchown(&link, Some(4711), Some(4711)).is_err() {
            return;
        }
        assert!(matches!(Report::prepare(&link), Err(NoReport::Link { owner: 4711, .. })));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Report::prepare(&link).is_ok(), "nobody else could have put it there");
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Report::prepare(&link).unwrap().write("x", Ending::Code(0), &figures()).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&file).unwrap().contains("\"schema\": 1"));
    }
}

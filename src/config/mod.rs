//! TOML to settings; the only module that reads the config document.
//!
//! load (`tree`: the document, held against what may stand in it) → resolve (`resolve`: names to
//! ids, defaults, cross references) → report (`report`: every problem at once, with its line).

mod allowed;
mod at;
mod blot;
mod editors;
mod file;
mod find;
mod nearest;
mod report;
mod resolve;
mod shared;
mod tree;
mod units;
mod vault;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::admin::AdminSettings;
use crate::cache::CacheSettings;
use crate::caller::{CallerSettings, Hosts};
use crate::config::report::{Grade, Problems};
use crate::config::resolve::{Notes, Surroundings};
use crate::credential::CredentialSettings;
use crate::proxy::{ReplaySettings, RouteSettings};
use crate::server::ServerSettings;
use crate::shape::{BudgetSettings, Key};
use crate::telemetry::TelemetrySettings;
use crate::upstream::UpstreamSettings;

pub use allowed::schema;
pub use editors::schema_for_editors;
pub use find::{NotFound, find};
pub use report::Report;
pub use shared::SharedSettings;
pub use vault::{VaultSaid, VaultUnread, vault};

/// A config that resolved: every name in it stands for something.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the ledger is kept.
    pub state_dir: PathBuf,
    /// Where callers connect.
    pub server: ServerSettings,
    /// Where operators connect.
    pub admin: AdminSettings,
    /// Where requests go.
    pub upstream: UpstreamSettings,
    /// How much of request bodies is kept.
    pub replay: ReplaySettings,
    /// The names by which callers reach the gateway.
    pub hosts: Hosts,
    /// Who asks; `anonymous` is not among them.
    pub callers: Vec<CallerSettings>,
    /// The keys.
    pub credentials: Vec<CredentialSettings>,
    /// Who pays when Omni is asked whether a key is good: one for each credential.
    pub probes: Vec<Key>,
    /// The budgets.
    pub budgets: Vec<BudgetSettings>,
    /// What they are shared through; `None` where they are this process's own.
    pub shared: Option<SharedSettings>,
    /// How much is kept, over all routes.
    pub cache: CacheSettings,
    /// The routes, in the order of the file.
    pub routes: Vec<RouteSettings>,
    /// What is said.
    pub telemetry: TelemetrySettings,
    /// What does not stop a start and may still not be meant, if there is anything.
    pub warnings: Option<Report>,
}

/// Reads and resolves a config file. Nothing is bound, and no secret is read.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn load(path: &Path) -> Result<Config, Report> {
    let unreadable = |why: String, help: &str| {
        let mut problems = Problems::default();
        problems.whole(why).help(help);
        Report::new(Grade::Error, path, "", &[], problems)
    };
    let bytes = std::fs::read(path).map_err(|error| {
        let help = match error.kind() {
            ErrorKind::NotFound => {
                "see whether the path is right, or make a config with: omnigate init"
            }
            ErrorKind::IsADirectory => "name the file in it",
            ErrorKind::PermissionDenied => "let the user who runs this read it",
            _ => "see whether the path is right",
        };
        unreadable(format!("the config cannot be read: {error}"), help)
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        unreadable(format!("the config is not UTF-8: byte {at} is not"), "save it as UTF-8")
    })?;
    parse(&text, path)
}

/// Resolves the text of a config file that stands, or could stand, at `path`.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse(text: &str, path: &Path) -> Result<Config, Report> {
    parse_in(text, path, &|name| std::env::var_os(name))
}

/// The same in an environment of the caller's choice.
fn parse_in(
    text: &str,
    path: &Path,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Config, Report> {
    // Paths in messages and in the settings must not depend on a later change of directory; an empty path
    // cannot be made absolute.
    let folder = path.parent().filter(|folder| *folder != "").unwrap_or(Path::new("."));
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let around = Surroundings { folder: &folder, variable };
    let mut notes = Notes::default();
    let file = tree::read(text, &mut notes.problems, &mut notes.hidden);
    let config = file.and_then(|file| resolve::resolve(&file, &around, &mut notes));
    let Notes { problems, warnings, hidden } = notes;
    let report = |grade, found| Report::new(grade, path, text, &hidden.0, found);
    let mut config = config.ok_or_else(|| report(Grade::Error, problems))?;
    config.warnings = (!warnings.is_empty()).then(|| report(Grade::Warning, warnings));
    Ok(config)
}

//! `omnigate check`: says what is wrong with a config, and binds nothing.

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::CONFIG;
use crate::config::{self, Config, Report};

/// Says what is wrong with a config file, all of it at once; exits 78 if anything is. Warnings
/// alone do not change the exit.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// The config file; looked for in the usual places where it is not named.
    pub file: Option<PathBuf>,
    /// The same.
    #[arg(short, long, value_name = "FILE", conflicts_with = "file", hide = true)]
    pub config: Option<PathBuf>,
}

/// Checks what a start would check, as far as that needs neither a port nor a secret's content.
pub fn run(args: CheckArgs) -> ExitCode {
    let path = match config::find(args.file.or(args.config)) {
        Ok(path) => path,
        Err(not_found) => {
            eprintln!("error: {not_found}");
            return ExitCode::from(CONFIG);
        }
    };
    match config::load(&path) {
        Ok(config) => {
            if let Some(warnings) = &config.warnings {
                show(warnings);
            }
            println!("{}: {}", path.display(), summary(&config));
            ExitCode::SUCCESS
        }
        Err(report) => {
            show(&report);
            ExitCode::from(CONFIG)
        }
    }
}

/// Prints a report, with colours where somebody looks at it and wants them.
pub(crate) fn show(report: &Report) {
    let colors = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match colors {
        true => eprintln!("{}", report.colored()),
        false => eprintln!("{report}"),
    }
}

fn summary(config: &Config) -> String {
    let count = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    format!(
        "ok: {}, {}, {}, {}, upstream {}",
        count(config.routes.len(), "route"),
        count(config.credentials.len(), "credential"),
        count(config.budgets.len(), "budget"),
        count(config.server.listeners.len(), "listener"),
        config.upstream.origin,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> ExitCode {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("omnigate.toml");
        std::fs::write(&file, text).unwrap();
        run(CheckArgs { file: Some(file), config: None })
    }

    const GOOD: &str = r#"
        state_dir = "/var/lib/omnigate"
        upstream.base_url = "https://acme.omniapp.co"
        vault.backend = "env"
        credentials.org = { kind = "organization", secret = "OMNI_API_KEY" }
        routes = [{ name = "all", path = "/{*rest}", credential = "org" }]
    "#;

    #[test]
    fn a_good_config_exits_0_and_a_bad_one_78() {
        assert_eq!(check(GOOD), ExitCode::SUCCESS);
        assert_eq!(check(""), ExitCode::from(78));
        let missing = CheckArgs { file: Some("/nonexistent/omnigate.toml".into()), config: None };
        assert_eq!(run(missing), ExitCode::from(78));
    }

    #[test]
    fn the_summary_counts_what_there_is() {
        let config = config::parse(GOOD, "omnigate.toml".as_ref()).unwrap();
        assert_eq!(
            summary(&config),
            "ok: 1 route, 1 credential, 1 budget, 1 listener, upstream https://acme.omniapp.co"
        );
    }
}

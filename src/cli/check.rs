//! `omnigate check`: says what is wrong with a config, and binds nothing.

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::online::{Asker, Verdict};
use crate::cli::{CONFIG, OK, UNAVAILABLE, block_on};
use crate::config::{self, Config, Report};
use crate::telemetry::{ExportCounts, TraceSettings, Traces};

/// A key is not as it should be.
const WRONG: u8 = 1;

/// Says what is wrong with a config file, all of it at once; exits 78 if anything is. Warnings
/// alone do not change the exit.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// The config file; looked for in the usual places where it is not named.
    pub file: Option<PathBuf>,
    /// The same.
    #[arg(short, long, value_name = "FILE", conflicts_with = "file", hide = true)]
    pub config: Option<PathBuf>,
    /// Also ask Omni (`whoami`) whether each key is good, and of the kind that the config says. Costs
    /// one request a key, charged to its budget; exits 1 if a key is not as it should be.
    #[arg(long)]
    pub online: bool,
    /// Also send one span to the collector, and say whether it took it; exits 1 if it did not.
    #[arg(long)]
    pub telemetry: bool,
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
            if !args.online && !args.telemetry {
                return ExitCode::SUCCESS;
            }
            block_on(async {
                let told = if args.telemetry { send_span(&config).await } else { OK };
                let asked = if args.online { ask(&config).await } else { OK };
                ExitCode::from(told.max(asked))
            })
        }
        Err(report) => {
            show(&report);
            ExitCode::from(CONFIG)
        }
    }
}

/// The config of a command that speaks to a gateway; or what it exits with, after it was said why.
pub(crate) fn load(said: Option<PathBuf>) -> Result<Config, ExitCode> {
    let path = config::find(said).map_err(|not_found| {
        eprintln!("error: {not_found}");
        ExitCode::from(CONFIG)
    })?;
    config::load(&path).map_err(|report| {
        show(&report);
        ExitCode::from(CONFIG)
    })
}

/// Prints a report, with colours where somebody looks at it and wants them.
pub(crate) fn show(report: &Report) {
    let colors = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match colors {
        true => eprintln!("{}", report.colored()),
        false => eprintln!("{report}"),
    }
}

/// Sends one span to the collector, and says what it said.
async fn send_span(config: &Config) -> u8 {
    let Some(settings) = &config.telemetry.traces else {
        println!(
            "spans: none are exported; say where to in `[telemetry] otlp`, or in an OTEL_ variable"
        );
        return OK;
    };
    let place = settings.shown();
    // Repetitions are its own; this is for an answer that does not come.
    let within = settings.timeout + Duration::from_secs(1);
    // Whatever chance says.
    let settings = &TraceSettings { sample: Some(1.0), ..settings.clone() };
    let sent = match Traces::start(settings, ExportCounts::default()) {
        Ok(traces) => traces.send_one(within).await,
        Err(error) => Err(error.to_string()),
    };
    match sent {
        Ok(trace) => {
            println!("spans: {place} took one; look for the trace {trace}");
            OK
        }
        Err(why) => {
            println!(
                "spans: {place} did not take one: {why}; is `endpoint` right, and is the collector up?"
            );
            WRONG
        }
    }
}

/// Asks Omni about every key, and says what it said.
async fn ask(config: &Config) -> u8 {
    let asker = match Asker::open(config) {
        Ok(asker) => asker,
        Err(why) => {
            eprintln!("error: {why}");
            return UNAVAILABLE;
        }
    };
    let (mut code, mut spent) = (OK, 0);
    for credential in &config.credentials {
        let id = &credential.id;
        let answer = asker.ask(credential).await;
        spent += u32::from(answer.as_ref().map_or_else(|untold| untold.spent, |_| true));
        match answer.map(|told| told.verdict(credential.kind)) {
            Ok(Verdict::Good) => println!("{id}: good"),
            Ok(Verdict::Wrong(what)) => {
                println!("{id}: {what}");
                code = code.max(WRONG);
            }
            Ok(Verdict::Unclear(what)) => {
                println!("{id}: {what}");
                code = code.max(UNAVAILABLE);
            }
            Err(untold) => {
                println!("{id}: could not be asked about: {}", untold.why);
                code = code.max(UNAVAILABLE);
            }
        }
    }
    let requests = if spent == 1 { "request was" } else { "requests were" };
    println!("{spent} {requests} sent by {} and charged to the budget", asker.name());
    asker.close();
    code
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
        run(CheckArgs { file: Some(file), config: None, online: false, telemetry: false })
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
        let missing = CheckArgs {
            file: Some("/nonexistent/omnigate.toml".into()),
            config: None,
            online: false,
            telemetry: false,
        };
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

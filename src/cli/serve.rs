//! `omnigate serve`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tracing::{info, warn};

use crate::app::{Gateway, Signals, StartError};
use crate::cli::{CONFIG, OK, UNAVAILABLE, block_on, check};
use crate::config::{self, Config, Report};
use crate::telemetry;

/// Where the config is.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The config file [default: $OMNIGATE_CONFIG, ./omnigate.toml, your config folder, /etc/omnigate]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: ServeArgs) -> ExitCode {
    let path = match config::find(args.config) {
        Ok(path) => path,
        Err(error) => return fail(&error, CONFIG),
    };
    let config = match config::load(&path) {
        Ok(config) => config,
        Err(report) => {
            check::show(&report);
            return ExitCode::from(CONFIG);
        }
    };
    telemetry::start_log(&config.telemetry);
    for warning in config.warnings.iter().flat_map(Report::lines) {
        warn!(warning, "config");
    }
    block_on(async {
        match serve(config, &path).await {
            Ok(()) => ExitCode::from(OK),
            Err(error) => fail(&error, exit_code(&error)),
        }
    })
}

async fn serve(config: Config, path: &Path) -> Result<(), StartError> {
    let signals = Signals::listen()?;
    let upstream = config.upstream.origin.to_string();
    let gateway = Gateway::open(config).await?;
    for address in gateway.places() {
        info!(%address, upstream, config = %path.display(), "serving");
    }
    if let Some(address) = gateway.admin_place() {
        info!(%address, "admin");
    }
    gateway.serve_until(signals).await;
    Ok(())
}

/// What the process ends with where a gateway does not start.
pub(super) fn exit_code(error: &StartError) -> u8 {
    match error {
        StartError::Credentials(_)
        | StartError::Plan(_)
        | StartError::Password(_)
        | StartError::Roots(_)
        | StartError::StoreRoots(_)
        | StartError::Traces(_) => CONFIG,
        StartError::State(_)
        | StartError::Unkept { .. }
        | StartError::Store { .. }
        | StartError::Bind(_)
        | StartError::Signals(_) => UNAVAILABLE,
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("omnigate: {error}");
    ExitCode::from(code)
}

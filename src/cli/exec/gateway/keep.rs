//! The gateway's own process.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as Handed;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::UnixStream;
use tracing::{info, warn};

use super::folder::{CALLS, Folder};
use super::leases::Leases;
use super::words::{Identity, Line, Word};
use crate::app::{Gateway, Signals, StartError};
use crate::cli::{CONFIG, OK, UNAVAILABLE, block_on, serve};
use crate::config::{self, Config, Report};
use crate::shape::StateError;
use crate::telemetry::{self, TelemetrySettings};

/// What the gateway's own process is told.
#[derive(Debug, clap::Args)]
pub(crate) struct KeepArgs {
    /// The config file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

/// Why it does not serve.
struct Failed {
    code: u8,
    said: String,
}

/// The gateway's own process. Its first lease is the socket that it has for its standard input.
pub(crate) fn keep(args: KeepArgs) -> ExitCode {
    // The terminal's signals are for the program that runs there. One that leads a group may not; it was
    // not started by `exec` then, and finds no lease.
    let _ = rustix::process::setsid();
    block_on(async {
        let Some(mut line) = first_line() else {
            eprintln!("omnigate: `exec` starts this by itself; run `omnigate exec -- PROGRAM`");
            return ExitCode::from(2);
        };
        let hello = match line.hear().await {
            Ok(Some(Word::Hello(hello))) => hello,
            Ok(_) | Err(_) => return ExitCode::from(UNAVAILABLE),
        };
        match open(&args.config, &hello, &mut line).await {
            Ok(Some(open)) => {
                open.serve(line).await;
                ExitCode::from(OK)
            }
            Ok(None) => ExitCode::from(UNAVAILABLE),
            Err(Failed { code, said }) => {
                let _ = line.say(&Word::Failed { code, said }).await;
                ExitCode::from(code)
            }
        }
    })
}

/// The socket whose other end the `exec` has that started us. It stays open until the process ends.
fn first_line() -> Option<Line> {
    let handed = Handed::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
    handed.set_nonblocking(true).ok()?;
    let line = Line::new(UnixStream::from_std(handed).ok()?);
    line.peer().ok()?;
    Some(line)
}

/// A gateway that is about to serve.
struct Open {
    gateway: Gateway,
    signals: Signals,
    folder: Folder,
    ours: Identity,
}

/// Opens a gateway; nothing where whoever wanted it was told otherwise, or has left.
async fn open(path: &Path, hello: &Identity, line: &mut Line) -> Result<Option<Open>, Failed> {
    let config = config::load(path).map_err(|report| failed(CONFIG, &report))?;
    start_log(&config);
    let ours = Identity::of(&config, path).map_err(|error| failed(CONFIG, &error))?;
    if *hello != ours {
        let version = !hello.is_of_version(&ours);
        let _ = line.say(&Word::Other { pid: None, version }).await;
        return Ok(None);
    }
    let folder =
        Folder::open(&config.state_dir).map_err(|unfound| failed(unfound.code, &unfound))?;
    let start =
        |error: StartError| failed(serve::exit_code(&error), &folder.named(&error.to_string()));
    let signals = Signals::listen().map_err(start)?;
    let opened = tokio::select! {
        opened = Gateway::open_apart(config, folder.at(CALLS)) => opened,
        // Nobody wants it any more. What else could be said now means nothing.
        _ = line.hear() => return Ok(None),
    };
    match opened {
        Ok(gateway) => Ok(Some(Open { gateway, signals, folder, ours })),
        Err(StartError::State(StateError::InUse { holder, .. })) => {
            let _ = line.say(&Word::InUse { pid: holder }).await;
            Ok(None)
        }
        Err(error) => Err(start(error)),
    }
}

impl Open {
    /// Serves until the last lease is gone.
    async fn serve(self, mut line: Line) {
        let Self { gateway, signals, folder, ours } = self;
        let leases = Leases::new(ours);
        let control = match folder.control() {
            Ok(control) => control,
            Err(error) => {
                let place = folder.shown(super::folder::CONTROL);
                let said = format!("{} cannot be made: {error}", place.display());
                let _ = line.say(&Word::Failed { code: UNAVAILABLE, said }).await;
                return;
            }
        };
        let pid = line.peer().ok().flatten();
        // There is nobody yet, so the first is taken.
        let Some(number) = leases.take(pid) else { return };
        let _ = line.say(&Word::Joined).await;
        tokio::spawn(Arc::clone(&leases).hold(line, number));
        info!(folder = %folder.shown("").display(), "serving");
        gateway.serve_while(signals, leases.receive(control)).await;
    }
}

/// Nobody looks at the exchanges, so they are not written unless the config asks for more than usual.
fn start_log(config: &Config) {
    let mut settings: TelemetrySettings = config.telemetry.clone();
    if settings.log.trim().eq_ignore_ascii_case("info") {
        settings.log = "warn".to_owned();
    }
    telemetry::start_log(&settings);
    for warning in config.warnings.iter().flat_map(Report::lines) {
        warn!(warning, "config");
    }
}

fn failed(code: u8, why: &dyn std::fmt::Display) -> Failed {
    Failed { code, said: why.to_string() }
}

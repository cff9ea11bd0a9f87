//! The order of things: the way, the relay, the program, the end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::cli::exec::child::{Ending, Program};
use crate::cli::exec::environment::Environment;
use crate::cli::exec::gateway::{self, Keeper, Way};
use crate::cli::exec::line::{FRAME, Line};
use crate::cli::exec::relay::{Relay, Sayings};
use crate::cli::exec::report::Report;
use crate::cli::exec::road::Road;
use crate::cli::exec::signals::{Signals, Told, stop};
use crate::cli::exec::tally::Tally;
use crate::cli::exec::via::{self, Via};
use crate::cli::exec::words;
use crate::cli::exec::{ExecArgs, say};
use crate::cli::{CONFIG, UNAVAILABLE, check};
use crate::config::{self, Config};

/// Something is wrong with how it was called.
const USAGE: u8 = 2;
/// A program that was told to end may take so long before it is said that it still runs.
const PATIENCE: Duration = Duration::from_secs(1);
/// The variable with the token by which a gateway knows its caller.
const TOKEN: &str = "OMNIGATE_TOKEN";

/// A gateway, from the program's first call to its last.
struct Behind {
    road: Arc<Road>,
    /// The lease of a gateway of our own; `None` where one runs anyway.
    way: Option<Way>,
    config: Option<Config>,
    token: Option<HeaderValue>,
}

/// Something was said on stderr; what is left is to end with this.
struct Said(u8);

/// Runs the program of the command line; gives how it ended, or what kept it from being started.
pub(super) async fn run(args: ExecArgs) -> Ending {
    match prepare_and_run(args).await {
        Ok(ending) => ending,
        Err(Said(code)) => Ending::Code(code),
    }
}

async fn prepare_and_run(args: ExecArgs) -> Result<Ending, Said> {
    let report = args.report.as_deref().map(Report::prepare).transpose();
    let report = report.map_err(|error| fail(&error, USAGE))?;
    let Behind { road, way, config, token } = find(&args).await?;
    let sayings = Sayings {
        priority: args.priority.map(|class| class.field()),
        caller: args.caller.clone(),
        token,
    };
    let ending = with_relay(&args, road, sayings, config.as_ref(), report.as_ref()).await;
    if let Some(way) = way {
        way.leave().await;
    }
    ending
}

/// Finds the gateway, or has it started.
async fn find(args: &ExecArgs) -> Result<Behind, Said> {
    let Some(said) = &args.via else { return find_ours(args).await };
    let via = Via::parse(said).map_err(|error| fail(&error, USAGE))?;
    let token = via::token(std::env::var_os(TOKEN)).map_err(|error| fail(&error, USAGE))?;
    if via.is_open && !args.quiet {
        say(&format!(
            "{} is another machine, and http:// can be read on the way there; https:// cannot",
            via.authority
        ));
    }
    let road = Road::new(via.dial, Keeper::Anybody, Some(via.authority.clone()));
    let asked = via::ask(&road, &via.authority, token.as_ref()).await;
    asked.map_err(|error| fail(&error, UNAVAILABLE))?;
    Ok(Behind { road, way: None, config: None, token })
}

async fn find_ours(args: &ExecArgs) -> Result<Behind, Said> {
    let path = config::find(args.config.clone()).map_err(|error| fail(&error, CONFIG))?;
    let config = config::load(&path).map_err(|report| {
        check::show(&report);
        Said(CONFIG)
    })?;
    let way = gateway::find(&config, &path).await;
    let way = way.map_err(|why| {
        say(&why.to_string());
        Said(why.code)
    })?;
    if let Some(note) = way.note.as_ref().filter(|_| !args.quiet) {
        say(note);
    }
    let road = Road::new(way.dial.clone(), way.keeper, way.host.clone());
    Ok(Behind { road, way: Some(way), config: Some(config), token: None })
}

/// Opens the relay, runs the program, and says what became of its calls.
async fn with_relay(
    args: &ExecArgs,
    road: Arc<Road>,
    sayings: Sayings,
    config: Option<&Config>,
    report: Option<&Report>,
) -> Result<Ending, Said> {
    let relay = Relay::open().map_err(|error| fail(&error, UNAVAILABLE))?;
    let environment = Environment::new(relay.address(), config, std::env::vars_os());
    if let Some(note) = environment.note().filter(|_| !args.quiet) {
        say(&note);
    }
    let tally = Tally::new();
    let serving = tokio::spawn(relay.serve(road, sayings, Arc::clone(&tally)));
    let signals = Signals::listen().map_err(|error| fail(&error, UNAVAILABLE))?;
    let (name, arguments) = args.program.split_first().ok_or(Said(USAGE))?;
    let program = Program::start(name, arguments, &environment);
    let program = program.map_err(|error| fail(&error, error.code()))?;
    let mut line = Line::open(args.quiet);
    let ending = attend(program, signals, &mut line, &tally, args.quiet).await;
    line.release();
    let figures = tally.figures();
    serving.abort();
    if !args.quiet {
        for line in words::summary(&figures) {
            say(&line);
        }
    }
    if let Some(report) = report {
        let name = Path::new(name).display().to_string();
        if let Err(why) = report.write(&name, ending, &figures) {
            let path = report.path().display();
            say(&format!("the report cannot be written to {path}: {why}"));
        }
    }
    Ok(ending)
}

/// Waits for the program's end, while signals are handed on and the line is drawn.
async fn attend(
    mut program: Program,
    mut signals: Signals,
    line: &mut Line,
    tally: &Tally,
    quiet: bool,
) -> Ending {
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut remark: Option<Instant> = None;
    loop {
        let due = remark.unwrap_or_else(Instant::now);
        tokio::select! {
            biased;
            ended = program.ends() => return ended.unwrap_or_else(|error| {
                say(&format!("it is not known how the program ended: {error}"));
                Ending::Code(1)
            }),
            told = signals.next() => match told {
                Told::Stop { everybody } => {
                    line.release();
                    if !everybody {
                        program.tell(SIGTSTP);
                    }
                    stop();
                    if !everybody {
                        program.tell(SIGCONT);
                    }
                }
                Told::Everybody(signal) => remark = remark.or(until(signal)),
                Told::Us(signal) => {
                    program.tell(signal);
                    remark = remark.or(until(signal));
                }
            },
            () = sleep_until(due), if remark.is_some() => {
                remark = None;
                if !quiet {
                    still_runs(&program, tally);
                }
            }
            _ = frames.tick() => line.tick(tally),
        }
    }
}

/// When it is to be said that the program still runs, after a signal by which it should end.
fn until(signal: i32) -> Option<Instant> {
    matches!(signal, SIGHUP | SIGINT | SIGQUIT | SIGTERM).then(|| Instant::now() + PATIENCE)
}

fn still_runs(program: &Program, tally: &Tally) {
    let Some(pid) = program.pid() else { return };
    let counts = tally.glance().counts;
    say(&format!(
        "the program was told to end and still runs, with {} of its calls waiting; it decides. \
         `kill -9 {pid}` ends it",
        counts.waiting
    ));
}

fn fail(error: &dyn std::error::Error, code: u8) -> Said {
    say(&error.to_string());
    Said(code)
}

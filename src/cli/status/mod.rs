//! `omnigate status`: what the running gateway does, in a terminal.

mod draw;
mod facts;
mod screen;
mod words;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::online::{self, Gateway};
use crate::cli::{OK, START, UNAVAILABLE, block_on, check};
use crate::config::Config;
use crate::net::Limits;
use draw::draw;
use screen::{Canvas, Screen};
pub(super) use words::clean;
use words::{headline, state};

/// Calls would not be served.
const NOT_READY: u8 = 1;
/// The facts are at hand; who takes longer hangs.
const WITHIN: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(1);
/// So many characters of what a gateway says is wrong are shown.
const LONGEST: usize = 400;
/// The document of thousands of callers, and more.
const LARGEST: usize = 4 << 20;

/// What the running gateway does.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// The config file [default: $OMNIGATE_CONFIG, ./omnigate.toml, your config folder,
    /// /etc/omnigate]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Show it anew each second, until Ctrl-C; where that is no terminal, a line whenever the gateway
    /// becomes ready or not, is paused or goes on, or a key changes its state
    #[arg(short, long)]
    watch: bool,
    /// Print the document of `GET /-/status.json`; with --watch, a line each second
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: StatusArgs) -> ExitCode {
    let config = match check::load(args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let limits = Limits { body: LARGEST, ..Limits::default() };
    let gateway = match online::gateway_within(&config, limits) {
        Ok(gateway) => gateway,
        Err(why) => return fail(UNAVAILABLE, &why),
    };
    block_on(async {
        if !args.watch {
            return once(&gateway, &config, args.json).await;
        }
        match watch(&gateway, args.json).await {
            Ok(()) => ExitCode::from(OK),
            // Whoever read it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(OK),
            Err(error) => fail(UNAVAILABLE, &format!("cannot go on: {error}")),
        }
    })
}

fn fail(code: u8, why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(code)
}

/// The facts of this moment, or why there are none.
async fn ask(gateway: &Gateway) -> Result<Value, String> {
    let (status, body) = online::get(gateway, "/-/status.json", WITHIN).await?;
    if status == StatusCode::OK && body["ready"].is_boolean() {
        return Ok(body);
    }
    Err(match body["detail"].as_str() {
        Some(detail) if status != StatusCode::OK && status != StatusCode::NOT_FOUND => {
            // Ours are a sentence or two.
            let detail: String = detail.chars().take(LONGEST).collect();
            clean(&format!("the gateway said {status}: {detail}"))
        }
        // Whatever answers there knows nothing of it.
        Some(_) | None => format!("what answers there cannot do this (status {status})"),
    })
}

async fn once(gateway: &Gateway, config: &Config, json: bool) -> ExitCode {
    let facts = match ask(gateway).await {
        Ok(facts) => facts,
        Err(why) => {
            let address = &config.admin.listen;
            let why = format!("no gateway answers on the admin address, {address}: {why}; {START}");
            return fail(UNAVAILABLE, &why);
        }
    };
    let mut out = io::stdout().lock();
    let said = if json {
        writeln!(out, "{}", words::one_line(&facts))
    } else {
        let screen = Screen::of_stdout();
        // The prompt comes below it.
        let room = screen.height.map(|height| height.saturating_sub(1));
        let lines = draw(&facts, &Screen { height: room, ..screen });
        lines.iter().try_for_each(|line| writeln!(out, "{line}"))
    };
    match said.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(UNAVAILABLE, &error.to_string())
        }
        Ok(()) | Err(_) => ExitCode::from(if facts["ready"] == true { OK } else { NOT_READY }),
    }
}

/// What ends it.
struct Ends([Signal; 3]);

impl Ends {
    fn listen() -> io::Result<Self> {
        let [int, term, hup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self([int?, term?, hup?]))
    }

    async fn wait(&mut self) {
        let [int, term, hup] = &mut self.0;
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hup.recv() => {}
        }
    }
}

/// Shows it each second, until a signal ends it. A gateway that is gone may come back.
async fn watch(gateway: &Gateway, json: bool) -> io::Result<()> {
    // First: what is left as it was found must be left so however it ends.
    let mut ends = Ends::listen()?;
    let mut shown = Shown::new(json)?;
    let mut seconds = interval(EVERY);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let seen = tokio::select! {
            () = ends.wait() => return Ok(()),
            seen = async {
                seconds.tick().await;
                ask(gateway).await
            } => seen,
        };
        shown.show(seen)?;
    }
}

/// Where it is shown, and what was seen there before.
struct Shown {
    place: Place,
    /// The last facts.
    facts: Option<Value>,
    /// Since when there are none.
    gone: Option<Instant>,
}

enum Place {
    /// A terminal.
    Canvas(Canvas),
    /// A line each time.
    Json,
    /// A line when this changes.
    Changes(Option<String>),
}

impl Shown {
    fn new(json: bool) -> io::Result<Self> {
        let place = match Canvas::open_on_a_terminal(!json)? {
            Some(canvas) => Place::Canvas(canvas),
            None if json => Place::Json,
            None => Place::Changes(None),
        };
        Ok(Self { place, facts: None, gone: None })
    }

    fn show(&mut self, seen: Result<Value, String>) -> io::Result<()> {
        let why = match seen {
            Ok(facts) => {
                self.facts = Some(facts);
                self.gone = None;
                None
            }
            Err(why) => {
                self.gone.get_or_insert_with(Instant::now);
                Some(why)
            }
        };
        let gone = self.gone.map(|since| since.elapsed());
        match &mut self.place {
            Place::Canvas(canvas) => {
                let screen = Screen::of_stdout();
                let absence = why.zip(gone);
                canvas.put(&draw::frame(self.facts.as_ref(), absence, &screen), &screen)
            }
            Place::Json => match (&why, &self.facts) {
                (None, Some(facts)) => say(&words::one_line(facts)),
                // A line is a document; who is gone has none.
                (Some(why), _) => {
                    eprintln!("no gateway answers: {why}");
                    Ok(())
                }
                (None, None) => Ok(()),
            },
            Place::Changes(last) => {
                let (now, line) = match (&why, &self.facts) {
                    (None, Some(facts)) => {
                        let at = clean(facts["now"].as_str().unwrap_or_default());
                        (state(facts), format!("{at} {}", headline(facts).0))
                    }
                    (Some(_), _) | (None, None) => {
                        let why = why.unwrap_or_default();
                        (String::new(), format!("no gateway answers: {why}"))
                    }
                };
                if last.as_ref() == Some(&now) {
                    return Ok(());
                }
                *last = Some(now);
                say(&line)
            }
        }
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests;

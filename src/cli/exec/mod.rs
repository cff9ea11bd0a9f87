//! `omnigate exec`: runs a program with a gateway beside it, and shows what becomes of its calls.
//!
//! This process reads no key and holds no ledger: the gateway is a process of its own (`gateway`), or one that
//! runs already (`via`). The program calls a loopback port of this process (`relay`), which passes each call
//! on and counts (`tally`).

mod child;
mod environment;
mod fields;
mod gateway;
mod line;
mod neighbour;
mod pinned;
mod relay;
mod report;
mod road;
mod run;
mod signals;
mod standing;
mod tally;
mod via;
mod words;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use http::HeaderValue;

pub(crate) use gateway::KeepArgs;
pub(crate) use gateway::keep;

use crate::cli::exec::child::Ending;
use crate::cli::{UNAVAILABLE, start};

/// How it is used; the rest of `--help`.
const EXAMPLES: &str = "\
Examples:
  omnigate exec -- python crawl.py --all
  omnigate exec --priority batch --report crawl.json -- sh -c './list | ./refresh'
  omnigate exec --via http://127.0.0.1:6664 -- npx my-sync

The program finds the gateway in OMNI_BASE_URL, and a dummy where Omni's SDK and CLI look for a key \
(OMNI_API_KEY, OMNI_API_TOKEN), so scripts need no change. Calls beyond Omni's limit wait for their turn instead of \
failing. Variables that hold a real key are taken out.

It has this terminal, folder and input, and its exit code is the one of this command. The terminal's last row shows \
how its calls stand (elsewhere a line each 10 s does), and a summary comes at the end; all of that is on stderr.

Exits with 69 if there is no gateway, 78 if the config is wrong, 126 or 127 if the program cannot be started.";

/// Runs a program that finds a gateway in `OMNI_BASE_URL`, and a dummy where it looks for a key.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, override_usage = "omnigate exec [OPTIONS] -- <PROGRAM>...")]
pub(crate) struct ExecArgs {
    /// The config file [default: $OMNIGATE_CONFIG, ./omnigate.toml, your config folder, /etc/omnigate]
    #[arg(short, long, value_name = "FILE", conflicts_with = "via")]
    config: Option<PathBuf>,
    /// Go through the gateway that runs there, such as http://127.0.0.1:6664
    ///
    /// If it wants to know who asks, put a caller's token into OMNIGATE_TOKEN.
    #[arg(long, value_name = "URL")]
    via: Option<String>,
    /// How urgent its calls are that do not say so
    #[arg(long, value_name = "CLASS")]
    priority: Option<Class>,
    /// The caller's name for its calls that do not say one, as in [callers.NAME]
    #[arg(long = "as", value_name = "NAME", value_parser = name)]
    caller: Option<HeaderValue>,
    /// Write what became of its calls into this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Show nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

/// How urgent a call is.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Class {
    /// Somebody looks at a screen and waits.
    Interactive,
    /// The usual.
    Normal,
    /// Whenever there is room.
    Batch,
}

impl Class {
    /// As a call says it (RFC 9218).
    fn field(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Interactive => "u=1",
            Self::Normal => "u=3",
            Self::Batch => "u=6",
        })
    }
}

/// A caller's name, as `X-Omnigate-Caller` has it.
fn name(said: &str) -> Result<HeaderValue, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if said.is_empty() || !said.chars().all(plain) {
        return Err("a caller's name has letters, digits, `-`, `_` and `.`".to_owned());
    }
    HeaderValue::try_from(said).map_err(|error| error.to_string())
}

pub(crate) fn run(args: ExecArgs) -> ExitCode {
    let ending = start(run::run(args)).unwrap_or_else(|error| {
        say(&format!("the runtime cannot be started: {error}"));
        Ending::Code(UNAVAILABLE)
    });
    // By now there is no other thread that would mind.
    ending.repeat()
}

/// A line for people. The program must not suffer from a stderr that nobody reads any more.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(format!("omnigate: {text}\n").as_bytes());
}

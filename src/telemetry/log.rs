//! Sets the log up: for people on a terminal, JSON lines elsewhere, always to stderr.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use crate::telemetry::settings::{Format, TelemetrySettings};

/// The log of the process, once it was started.
static LOG: OnceLock<Log> = OnceLock::new();

/// The longest filter that is put in force while the process runs, in bytes.
const LONGEST: usize = 1024;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

struct Log {
    handle: Handle<EnvFilter, Registry>,
    of_config: String,
    in_force: Mutex<String>,
}

/// The text is no filter. Shows nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum BadFilter {
    /// Larger than any that is meant.
    #[error("a log filter has at most {LONGEST} bytes")]
    TooLong,
    /// Nothing would be said of anything.
    #[error("the log filter is empty; `off` is the one that says nothing")]
    Empty,
    /// A word alone would be taken for a module, of which everything is said, and of all others nothing.
    #[error(
        "a part of the log filter is neither a level (off, error, warn, info, debug, trace) nor \
         MODULE=LEVEL, such as omnigate::shape=debug"
    )]
    NoLevel,
    /// What [`EnvFilter`] says.
    #[error("this is no log filter: {0}")]
    Parse(#[from] ParseError),
    /// There is no log whose filter could be another.
    #[error("this process has no log")]
    NoLog,
}

/// The filter in force; `off` where there is no log.
pub fn log_filter() -> String {
    let in_force = |log: &Log| log.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone();
    LOG.get().map_or_else(|| "off".to_owned(), in_force)
}

/// Whether a text would do as a filter.
///
/// # Errors
/// [`BadFilter`], but for [`BadFilter::NoLog`].
pub fn check_filter(filter: &str) -> Result<(), BadFilter> {
    read(filter).map(drop)
}

/// Puts another filter in force, until the process ends or the next call; without one, that of the
/// config. Gives the one that is in force now.
///
/// # Errors
/// [`BadFilter`]; the old one stays in force.
pub fn set_log(filter: Option<&str>) -> Result<String, BadFilter> {
    let log = LOG.get().ok_or(BadFilter::NoLog)?;
    let (read, text) = match filter {
        Some(text) => read(text)?,
        None => (of_config(&log.of_config), log.of_config.clone()),
    };
    // Held until it is in force: two who change it at once see what came of it.
    let mut in_force = log.in_force.lock().unwrap_or_else(PoisonError::into_inner);
    log.handle.reload(read).map_err(|_| BadFilter::NoLog)?;
    *in_force = text;
    Ok(in_force.clone())
}

/// Reads a filter that somebody sends; gives it without blanks between its parts too. Patterns in it are plain texts: one that is made for it grows
/// without bound when it is read as an expression.
fn read(filter: &str) -> Result<(EnvFilter, String), BadFilter> {
    if filter.len() > LONGEST {
        return Err(BadFilter::TooLong);
    }
    if filter.trim().is_empty() {
        return Err(BadFilter::Empty);
    }
    let parts: Vec<&str> = filter.split(',').map(str::trim).collect();
    let has_level = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
        LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level))
    };
    if !parts.iter().all(|part| has_level(part)) {
        return Err(BadFilter::NoLevel);
    }
    let text = parts.join(",");
    Ok((EnvFilter::builder().with_regex(false).parse(&text)?, text))
}

/// The config was checked; a filter that is wrong all the same says the usual.
fn of_config(filter: &str) -> EnvFilter {
    EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Whether people read the log, and no program does.
pub fn is_for_people(settings: &TelemetrySettings) -> bool {
    match settings.format {
        Format::Auto => std::io::stderr().is_terminal(),
        Format::Json => false,
        Format::Pretty => true,
    }
}

/// Starts the log of the process. The first call decides; a later one changes nothing.
pub fn start_log(settings: &TelemetrySettings) {
    let terminal = std::io::stderr().is_terminal();
    let pretty = is_for_people(settings);
    let (filter, handle) = reload::Layer::new(of_config(&settings.log));
    let base = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = if pretty {
        let colors = terminal && std::env::var_os("NO_COLOR").is_none();
        base.with(layer.compact().with_ansi(colors)).try_init()
    } else {
        base.with(layer.json().flatten_event(true).with_current_span(false)).try_init()
    };
    if started.is_ok() {
        let of_config = settings.log.clone();
        let in_force = Mutex::new(of_config.clone());
        let _ = LOG.set(Log { handle, of_config, in_force });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_a_level_for_everything_that_it_names() {
        for filter in [
            "info",
            "DEBUG",
            " warn , omnigate::shape=debug ",
            "omnigate=off,hyper=trace",
            "omnigate[exchange{route=lists}]=debug,info",
        ] {
            assert!(check_filter(filter).is_ok(), "{filter}");
        }
        for slip in
            ["debgu", "omnigate::shape", "info,hyper", "omnigate=loud", "info,,warn", "info,", "5"]
        {
            let said = check_filter(slip).unwrap_err().to_string();
            assert!(said.contains("MODULE=LEVEL") && !said.contains("  "), "{said}");
        }
    }

    #[test]
    fn a_filter_is_neither_empty_nor_a_book() {
        assert!(matches!(check_filter("  "), Err(BadFilter::Empty)));
        let long = |modules: usize| format!("{}info", "a=warn,".repeat(modules));
        assert!(check_filter(&long(145)).is_ok());
        assert!(matches!(check_filter(&long(146)), Err(BadFilter::TooLong)));
    }

    /// Every part that could be one is read, and says something or is one.
    #[test]
    fn no_filter_makes_it_panic_or_takes_long() {
        let parts =
            ["a", "[", "]", "{", "}", "=", "\"", "/", ",", "::", "*", "(", "%", "é", "\\", " "];
        let mut seed = 7u64;
        for _ in 0..20_000 {
            let mut filter = String::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                filter.push_str(parts[(seed >> 33) as usize % parts.len()]);
            }
            let _ = check_filter(&format!("{filter}=debug"));
        }
        for nested in ["[", "{", "a[b{c=", "(a+)+", "=", "[{a=\""] {
            let _ = check_filter(&format!("{}=debug", nested.repeat(1_000 / nested.len())));
        }
    }

    #[test]
    fn a_pattern_in_a_filter_is_a_plain_text() {
        // As an expression, it would not be read at all.
        assert!(check_filter("omnigate[x{y=((((}]=debug").is_ok());
        assert!(EnvFilter::builder().parse("omnigate[x{y=((((}]=debug").is_err());
    }

    #[test]
    fn without_a_log_there_is_no_filter_to_change() {
        assert_eq!(log_filter(), "off");
        assert!(matches!(set_log(None), Err(BadFilter::NoLog)));
        assert!(matches!(set_log(Some("debug")), Err(BadFilter::NoLog)));
    }
}

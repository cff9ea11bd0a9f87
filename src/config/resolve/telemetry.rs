//! `[telemetry]`.

use tracing_subscriber::EnvFilter;

use crate::config::file;
use crate::config::resolve::Notes;
use crate::telemetry::{Format, TelemetrySettings};

pub(super) fn resolve(said: &file::Telemetry, notes: &mut Notes) -> Option<TelemetrySettings> {
    let format = match said.format.as_ref().map(|format| format.value) {
        None | Some(file::Format::Auto) => Format::Auto,
        Some(file::Format::Json) => Format::Json,
        Some(file::Format::Pretty) => Format::Pretty,
    };
    let log = said.log.as_ref().map_or("info", |log| &log.value).to_owned();
    if let Some(said) = &said.log
        && (log.trim().is_empty() || EnvFilter::builder().parse(&log).is_err())
    {
        notes
            .problems
            .at(&said.span, "`log` is not a filter")
            .help("a level (error, warn, info, debug, trace), or levels by module: \"omnigate::shape=debug,info\"");
        return None;
    }
    Some(TelemetrySettings { log, format })
}

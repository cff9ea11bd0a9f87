//! `[telemetry]`.

use tracing_subscriber::EnvFilter;

use crate::config::file;
use crate::config::resolve::otlp::{self, Export};
use crate::config::resolve::{Notes, Surroundings};
use crate::telemetry::{Format, TelemetrySettings};

pub(super) fn resolve(
    said: &file::Telemetry,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<TelemetrySettings> {
    let export = otlp::resolve(said.otlp.as_ref(), around, notes);
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
    let traces = match export? {
        Export::Off => None,
        Export::To(settings) => Some(*settings),
    };
    Some(TelemetrySettings { log, format, traces })
}

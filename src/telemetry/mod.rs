//! What is counted, traced and said.

mod board;
mod labels;
mod log;
mod metrics;
mod series;
mod settings;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::net::Dial;

pub use board::{Admitted, Board, BoardView, Ended, ErrorView, STEP, STEPS, Tally};
pub(crate) use labels::method_word;
pub use labels::{CacheOutcome, Probe, Retry};
pub use log::{BadFilter, check_filter, is_for_people, log_filter, set_log, start_log};
pub use metrics::{BudgetGauges, ExchangeFacts, Exposition, Gauges, Metrics, SharedGauges, Viewer};
pub use series::RouteSeries;
pub use settings::{ExportFields, Format, TelemetrySettings, TraceSettings};
pub use trace::{
    Attempt, Closing, ExportCounts, ExportState, Opening, SpanRef, TRACEPARENT, Trace, TraceId,
    Traces, TracesError,
};

/// Where everything that happens is told.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What the status page shows of the last minutes.
    pub board: Arc<Board>,
    /// Where spans go.
    pub traces: Traces,
}

/// How long the last spans may take on their way when the process ends.
const LAST: Duration = Duration::from_secs(3);

impl Telemetry {
    /// Counts from zero, and opens the way to the collector, where there is one; `way` in place of the one
    /// that is named. Called on the runtime that is to send.
    ///
    /// # Errors
    /// [`TracesError`].
    pub fn start(settings: &TelemetrySettings, way: Option<Dial>) -> Result<Self, TracesError> {
        let started = Self::default();
        let counts = started.metrics.exports();
        let traces = match (&settings.traces, way) {
            (Some(traces), None) => Traces::start(traces, counts)?,
            (Some(traces), Some(way)) => Traces::over(way, traces, counts)?,
            (None, _) => Traces::default(),
        };
        Ok(Self { traces, ..started })
    }

    /// Sends the spans that wait, within 3 s. What is left then is lost, and said so.
    pub async fn end(&self) {
        let lost = self.traces.end(LAST).await;
        if lost > 0 {
            warn!(lost, "the collector did not take the last spans in time");
        }
    }
}

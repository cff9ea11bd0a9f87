//! What is counted, traced and said.

mod board;
mod labels;
mod log;
mod metrics;
mod series;
mod settings;
mod trace;

use std::sync::Arc;

pub use board::{Board, Ended};
pub use labels::{CacheOutcome, Probe, Retry};
pub use log::{BadFilter, check_filter, log_filter, set_log, start_log};
pub use metrics::{BudgetGauges, ExchangeFacts, Gauges, Metrics};
pub use series::RouteSeries;
pub use settings::{Format, TelemetrySettings};
pub use trace::{Trace, TraceId, Traces};

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

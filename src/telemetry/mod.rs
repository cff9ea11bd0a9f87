//! Log set-up and metric names.

mod labels;
mod log;
mod metrics;
mod series;
mod settings;

pub use labels::{CacheOutcome, Probe, Retry};
pub use log::start_log;
pub use metrics::{BudgetGauges, ExchangeFacts, Gauges, Metrics};
pub use series::RouteSeries;
pub use settings::{Format, TelemetrySettings};

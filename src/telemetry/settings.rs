//! How much is said, in which form, and where spans go.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use http::Uri;
use http::uri::Authority;

use crate::net::TlsRoots;

/// What is said, and where spans go.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetrySettings {
    /// A `tracing` filter such as `info` or `omnigate::shape=debug,info`.
    pub log: String,
    /// The form of a line.
    pub format: Format,
    /// Where spans go, if anywhere.
    pub traces: Option<TraceSettings>,
}

/// Where spans go. What is not here the SDK reads from its own variables: `OTEL_SERVICE_NAME`,
/// `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_…`, `OTEL_SPAN_…`,
/// `OTEL_EXPORTER_OTLP_HEADERS` and `…_COMPRESSION`.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    /// The URL that spans are posted to, path included.
    pub endpoint: Uri,
    /// Its host; an IPv6 address in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Which certificates are believed, where it is `https`.
    pub tls: Option<TlsRoots>,
    /// The share of traces that are kept, from 0 to 1, where the caller does not say; by default as
    /// `OTEL_TRACES_SAMPLER` says, or all of them.
    pub sample: Option<f64>,
    /// How long the collector may take for one batch, repetitions included.
    pub timeout: Duration,
    /// How many spans may wait, those on their way among them.
    pub queue: usize,
    /// How the service is called, where a variable says so.
    pub service: Option<String>,
    /// Fields that go along besides those that the SDK finds.
    pub fields: ExportFields,
}

/// Fields that go to the collector, such as a vendor's key; their values are shown to nobody else.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ExportFields(pub HashMap<String, String>);

impl fmt::Debug for ExportFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl TraceSettings {
    /// What the `Host` field says.
    pub(super) fn authority(&self) -> Authority {
        let whole = self.endpoint.authority().cloned();
        whole.unwrap_or_else(|| Authority::from_static("localhost"))
    }

    /// The endpoint without its path, for people.
    pub fn shown(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `Pretty` on a terminal, `Json` elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

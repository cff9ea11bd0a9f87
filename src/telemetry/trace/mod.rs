//! Spans: who waited for what. Made and exported by OpenTelemetry's SDK; what is ours is what they say,
//! the way to the collector, and the count of what is lost.
//!
//! Spans are made by hand and not from `tracing`'s: so a span says only what is named here, whatever the
//! log says and at whatever level, and a call that is not sampled costs next to nothing.

mod context;
mod export;
mod say;
mod spans;
mod url;
mod words;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{Span as _, SpanKind, Tracer, TracerProvider};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use percent_encoding::percent_decode_str;
use tokio::runtime::Handle;

use crate::net::{Client, Dial, Limits, RootsError};
use crate::telemetry::settings::TraceSettings;

pub use context::{TRACEPARENT, TraceId};
pub use export::ExportCounts;
use export::{Bridge, Counted, Gate, Way};
pub use spans::{Attempt, Closing, Opening, SpanRef, Trace};

/// Where spans go; by default nowhere.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<On>>);

struct On {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    way: Arc<Way>,
    endpoint: String,
}

/// How the export goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportState {
    /// Scheme, host and port of the collector.
    pub endpoint: String,
    /// Why the last request was not taken whole, where it was not.
    pub why: Option<String>,
    /// Spans that the collector took.
    pub exported: u64,
    /// Spans that it did not take.
    pub failed: u64,
    /// Spans for which the queue had no room.
    pub dropped: u64,
}

/// Why no spans can be exported as configured.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// TLS cannot be spoken.
    #[error("[telemetry] otlp: {0}")]
    Roots(#[from] RootsError),
    /// The exporter says that something in the environment is wrong. Never with a value in it.
    #[error("[telemetry] otlp: the OTEL_ variables do not fit: {0}")]
    Exporter(#[from] ExporterBuildError),
}

impl Traces {
    /// Opens the way to the collector; nothing is sent yet. Called on the runtime that is to send.
    ///
    /// # Errors
    /// [`TracesError`].
    pub fn start(settings: &TraceSettings, counts: ExportCounts) -> Result<Self, TracesError> {
        let (host, port) = (settings.host.as_str(), settings.port);
        let dial = match &settings.tls {
            Some(roots) => Dial::tls(host.trim_matches(['[', ']']), port, roots)?,
            None => Dial::tcp(host.trim_matches(['[', ']']), port),
        };
        Self::over(dial, settings, counts)
    }

    /// The same, to a collector in another place than its name says.
    ///
    /// # Errors
    /// [`TracesError`].
    pub fn over(
        dial: Dial,
        settings: &TraceSettings,
        counts: ExportCounts,
    ) -> Result<Self, TracesError> {
        let way = Arc::new(Way::new(counts));
        let bridge = Bridge {
            client: Arc::new(Client::new(dial, settings.authority(), Limits::default())),
            runtime: Handle::current(),
            within: settings.timeout,
            way: way.clone(),
        };
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(bridge)
            .with_endpoint(settings.endpoint.to_string())
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_timeout(settings.timeout)
            .with_headers(settings.fields.0.clone())
            .build()?;
        let exporter = Counted { exporter, way: way.clone() };
        let room = settings.queue;
        let batches = BatchConfigBuilder::default().with_max_queue_size(room).build();
        let queue = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Gate { queue, room, way: way.clone() })
            .with_resource(resource(settings.service.as_deref()));
        let provider = match settings.sample {
            // Whatever the environment says.
            Some(share) => {
                let chance = Sampler::TraceIdRatioBased(share);
                provider.with_sampler(Sampler::ParentBased(Box::new(chance))).build()
            }
            None => provider.build(),
        };
        let scope = InstrumentationScope::builder("omnigate")
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_schema_url(words::SCHEMA);
        let tracer = provider.tracer_with_scope(scope.build());
        let endpoint = settings.shown();
        Ok(Self(Some(Arc::new(On { tracer, provider, way, endpoint }))))
    }

    /// How the export goes; `None` where nothing is exported.
    pub fn state(&self) -> Option<ExportState> {
        let on = self.0.as_ref()?;
        let counts = &on.way.counts;
        Some(ExportState {
            endpoint: on.endpoint.clone(),
            why: on.way.why(),
            exported: counts.exported.get(),
            failed: counts.failed.get(),
            dropped: counts.dropped.get(),
        })
    }

    /// Sends what waits and ends the export, within `limit`. Says how many spans were left behind.
    ///
    /// Cancel-safe: a thread that waits for the collector ends by itself.
    pub async fn end(&self, limit: Duration) -> usize {
        let Some(on) = self.0.clone() else { return 0 };
        // It blocks, and what it waits for runs on this runtime.
        let ending = tokio::task::spawn_blocking(move || {
            let _ = on.provider.shutdown_with_timeout(limit);
            on.way.waiting()
        });
        ending.await.unwrap_or(0)
    }

    /// Sends one span, whatever chance says, and ends the export. Gives its trace.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn send_one(self, limit: Duration) -> Result<TraceId, String> {
        let Some(on) = self.0.clone() else { return Err("no spans are exported".to_owned()) };
        let mut span = on
            .tracer
            .span_builder("omnigate check")
            .with_kind(SpanKind::Internal)
            .start(&on.tracer);
        let id = TraceId(span.span_context().trace_id());
        span.end();
        let left = self.end(limit).await;
        match (on.way.why(), on.way.counts.exported.get()) {
            (None, 1..) => Ok(id),
            (Some(why), _) => Err(why),
            (None, 0) if left > 0 => Err(format!("no answer within {} s", limit.as_secs_f64())),
            (None, 0) => Err("it was not kept by the sampler".to_owned()),
        }
    }

    fn tracer(&self) -> Option<&SdkTracer> {
        self.0.as_ref().map(|on| &on.tracer)
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traces").field(&self.0.as_ref().map(|on| &on.endpoint)).finish()
    }
}

/// Who we are: as `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say, in this order, or `omnigate`.
fn resource(service: Option<&str>) -> Resource {
    let said = Resource::builder().build();
    let decoded = |value: &Value| match value {
        // The SDK leaves them as they stand in the variable (Resource SDK, "Specifying resource
        // information via an environment variable").
        Value::String(text) => {
            percent_decode_str(text.as_str()).decode_utf8_lossy().into_owned().into()
        }
        other => other.clone(),
    };
    let mut all: Vec<KeyValue> =
        said.iter().map(|(key, value)| KeyValue::new(key.clone(), decoded(value))).collect();
    let is_named = |one: &KeyValue| one.key.as_str() == "service.name";
    let unknown = |one: &KeyValue| one.value.as_str().starts_with("unknown_service");
    all.retain(|one| !is_named(one) || service.is_none() && !unknown(one));
    for own in [
        KeyValue::new("service.name", service.unwrap_or("omnigate").to_owned()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ] {
        if all.iter().all(|one| one.key != own.key) {
            all.push(own);
        }
    }
    Resource::builder_empty().with_attributes(all).build()
}

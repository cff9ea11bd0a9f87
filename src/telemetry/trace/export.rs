//! The way to the collector: a bounded queue, our own client, and a count of what is lost.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response};
use opentelemetry::Context;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use prometheus_client::metrics::counter::Counter;
use prost::Message;
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::net::Client;

/// What became of spans, and of the requests that carried them.
#[derive(Clone, Debug, Default)]
pub struct ExportCounts {
    /// Batches that the collector took, whole or in part.
    pub taken: Counter,
    /// Batches that it did not take.
    pub refused: Counter,
    /// Spans that it took.
    pub exported: Counter,
    /// Spans that it did not take.
    pub failed: Counter,
    /// Spans for which the queue had no room.
    pub dropped: Counter,
}

/// What is known of the way.
#[derive(Debug, Default)]
pub(super) struct Way {
    pub(super) counts: ExportCounts,
    /// Spans that wait, those that are on their way among them.
    waiting: AtomicUsize,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    /// Why the last request was not taken; nothing once one is.
    why: Option<String>,
    /// Whether the operator was told of lost spans, until the way is open again.
    told: bool,
    /// Spans that the collector rejected out of the batch that is on its way.
    rejected: u64,
}

impl Way {
    pub(super) fn new(counts: ExportCounts) -> Self {
        Self { counts, ..Self::default() }
    }

    pub(super) fn why(&self) -> Option<String> {
        self.trouble().why.clone()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request was answered, or not.
    fn answered(&self, answer: Result<&Response<Bytes>, &dyn std::error::Error>) {
        let mut trouble = self.trouble();
        trouble.rejected = 0;
        trouble.why = match answer {
            Err(error) => Some(error.to_string()),
            Ok(answer) if !answer.status().is_success() => {
                Some(format!("the collector answered {}", answer.status()))
            }
            Ok(answer) => {
                let said = ExportTraceServiceResponse::decode(answer.body().clone());
                let partly = said.ok().and_then(|said| said.partial_success);
                let rejected = partly.map_or(0, |partly| partly.rejected_spans.max(0));
                trouble.rejected = rejected.unsigned_abs();
                // Its own words are not repeated: they may be anything.
                (rejected > 0)
                    .then(|| format!("the collector rejected {rejected} spans of a batch"))
            }
        };
    }

    /// A batch has come to its end.
    fn ended(&self, spans: usize, taken: bool) {
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let spans = spans as u64;
        let mut trouble = self.trouble();
        let lost = if taken { trouble.rejected.min(spans) } else { spans };
        if taken { &self.counts.taken } else { &self.counts.refused }.inc();
        self.counts.exported.inc_by(spans - lost);
        self.counts.failed.inc_by(lost);
        let why = trouble.why.clone().unwrap_or_default();
        match (lost > 0, trouble.told) {
            (true, false) => {
                trouble.told = true;
                warn!(lost, why, "spans are not taken by the collector; told once until they are");
            }
            (false, true) => {
                trouble.told = false;
                info!("the collector takes spans again");
            }
            (true, true) | (false, false) => {}
        }
    }
}

/// Sends on our own runtime: who waits for it is a thread of the SDK's, which has none.
pub(super) struct Bridge {
    pub(super) client: Arc<Client>,
    pub(super) runtime: Handle,
    /// For one request, from connecting to the end of its answer.
    pub(super) within: Duration,
    pub(super) way: Arc<Way>,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("client", &self.client).finish_non_exhaustive()
    }
}

impl HttpClient for Bridge {
    fn send_bytes<'this, 'sending>(
        &'this self,
        mut request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sending>>
    where
        'this: 'sending,
        Self: 'sending,
    {
        // A variable may say what it likes; what the body is and how long it is says nobody but us.
        let fields = request.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        for framing in [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT, CONNECTION] {
            fields.remove(framing);
        }
        let (client, within) = (self.client.clone(), self.within);
        let sending = self.runtime.spawn(async move { client.send(request, within).await });
        Box::pin(async move {
            // It is cancelled when the runtime ends, and then nobody asks any more.
            match sending.await? {
                Ok(answer) => {
                    self.way.answered(Ok(&answer));
                    Ok(answer)
                }
                Err(error) => {
                    self.way.answered(Err(&error));
                    Err(error.into())
                }
            }
        })
    }
}

/// Counts what the exporter does.
#[derive(Debug)]
pub(super) struct Counted<E> {
    pub(super) exporter: E,
    pub(super) way: Arc<Way>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.way.ended(spans, result.is_ok());
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Lets no more spans into the SDK's queue than it has room for, and counts those that it keeps out:
/// the SDK drops them without saying so.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) queue: BatchSpanProcessor,
    pub(super) room: usize,
    pub(super) way: Arc<Way>,
}

impl SpanProcessor for Gate {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.queue.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.way.waiting.fetch_add(1, Ordering::Relaxed) < self.room {
            self.queue.on_end(span);
        } else {
            self.way.waiting.fetch_sub(1, Ordering::Relaxed);
            self.way.counts.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

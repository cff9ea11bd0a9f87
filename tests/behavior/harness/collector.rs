//! A collector of spans in this process, on the published schema.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use omnigate::net::Dial;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

#[derive(Clone, Default)]
pub(crate) struct Collector {
    came: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Collector {
    pub(crate) fn open() -> (Self, Dial) {
        let (dial, mut far_ends) = Dial::pipe();
        let collector = Self::default();
        let own = collector.clone();
        tokio::spawn(async move {
            while let Some(end) = far_ends.recv().await {
                let own = own.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| own.take(request));
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(end), service).await;
                });
            }
        });
        (collector, dial)
    }

    async fn take(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(head.uri.path(), "/v1/traces");
        self.came.lock().unwrap().push((head.headers, body));
        Ok(Response::default())
    }

    /// Everything that came, in the order of their ends.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let mut all: Vec<Span> = Vec::new();
        for (_, body) in &*self.came.lock().unwrap() {
            let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
            for resource in request.resource_spans {
                all.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        all.sort_by_key(|span| span.end_time_unix_nano);
        all
    }
}

/// What a span says under this name, as text.
pub(crate) fn said(span: &Span, name: &str) -> Option<String> {
    let one = span.attributes.iter().find(|one| one.key == name)?;
    Some(match one.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => format!("{number:.3}"),
        other => format!("{other:?}"),
    })
}

//! A caller: a plain HTTP client without a key.

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::DuplexStream;

pub(crate) struct Caller(Wire);

enum Wire {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn get(path: &str) -> http::request::Builder {
    Request::get(path).header(HOST, "127.0.0.1:6664")
}

/// A GET by a caller who says its name.
pub(crate) fn ask(path: &str, caller: &str) -> Request<Full<Bytes>> {
    get(path).header("x-omnigate-caller", caller).body(Full::default()).unwrap()
}

/// A POST of a JSON document.
pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let post = Request::post(path).header(HOST, "127.0.0.1:6664");
    post.header("content-type", "application/json").body(Full::new(body.into())).unwrap()
}

impl Caller {
    pub(crate) async fn http1(stream: DuplexStream) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(Wire::One(sender))
    }

    pub(crate) async fn http2(stream: DuplexStream) -> Self {
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(Wire::Two(sender))
    }

    /// The same h2 connection, for a call beside this one.
    pub(crate) fn another(&self) -> Self {
        match &self.0 {
            Wire::One(_) => panic!("HTTP/1.1 has one call at a time"),
            Wire::Two(sender) => Self(Wire::Two(sender.clone())),
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let request = match &self.0 {
            Wire::One(_) => get(path).body(Full::default()),
            // The authority stands in the target; a `Host` field would be a second one.
            Wire::Two(_) => {
                Request::get(format!("http://127.0.0.1:6664{path}")).body(Full::default())
            }
        };
        self.call(request.unwrap()).await
    }

    pub(crate) async fn call(&mut self, request: Request<Full<Bytes>>) -> Answer {
        let (head, body) = self.send(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    /// The answer, if a whole one comes.
    pub(crate) async fn try_call(&mut self, request: Request<Full<Bytes>>) -> Option<Answer> {
        let (head, body) = self.send(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { status: head.status, headers: head.headers, body })
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        match &mut self.0 {
            Wire::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Wire::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

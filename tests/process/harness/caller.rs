//! A caller: a plain HTTP client without a key.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use omnigate::base::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::harness::soon;

/// One connection.
pub(crate) struct Caller(Wire);

enum Wire {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).header(HOST, "127.0.0.1").body(Body::empty()).unwrap()
}

impl Caller {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn connect_unix(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).await.unwrap()).await
    }

    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(Wire::One(sender))
    }

    /// Speaks HTTP/2 from the first byte.
    pub(crate) async fn connect_h2(address: SocketAddr) -> Self {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        Self(Wire::Two(sender))
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.call(get(path)).await.unwrap()
    }

    pub(crate) async fn call(&mut self, request: Request<Body>) -> hyper::Result<Answer> {
        soon(async {
            let (head, body) = self.send(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        })
        .await
    }

    /// Sends a request; the answer's body is still to come.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> hyper::Result<Response<Incoming>> {
        match &mut self.0 {
            Wire::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Wire::Two(sender) => {
                sender.ready().await?;
                // The authority stands in the target; a `Host` field would be a second one.
                let (mut head, body) = request.into_parts();
                head.headers.remove(HOST);
                head.uri = format!("http://127.0.0.1{}", head.uri).parse().unwrap();
                sender.send_request(Request::from_parts(head, body)).await
            }
        }
    }
}

//! A caller of the demo: a plain HTTP client that holds no key.

use std::net::SocketAddr;

use http::header::{HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use crate::base::{Body, BoxError};
use crate::net::Dial;

pub(super) struct Caller {
    gateway: SocketAddr,
    name: &'static str,
    connection: Option<SendRequest<Body>>,
}

impl Caller {
    pub(super) fn new(gateway: SocketAddr, name: &'static str) -> Self {
        Self { gateway, name, connection: None }
    }

    /// Gets one path and reads the answer whole; `None` when there was none.
    pub(super) async fn get(&mut self, path: &str) -> Option<StatusCode> {
        match self.try_get(path).await {
            Ok(status) => Some(status),
            Err(_) => {
                self.connection = None;
                None
            }
        }
    }

    async fn try_get(&mut self, path: &str) -> Result<StatusCode, BoxError> {
        let connection = match &mut self.connection {
            Some(open) if !open.is_closed() => open,
            place => {
                let dial = Dial::tcp(&self.gateway.ip().to_string(), self.gateway.port());
                let (sender, connection) =
                    http1::handshake(TokioIo::new(dial.connect().await?)).await?;
                tokio::spawn(connection);
                place.insert(sender)
            }
        };
        let request = Request::get(path)
            .header(HOST, self.gateway.to_string())
            .header(USER_AGENT, "omnigate-demo")
            .header("x-omnigate-caller", self.name)
            .body(Body::empty())?;
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        Ok(status)
    }
}

//! A small HTTP client for one fixed place: one request, one answer, one connection.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::zeroize::Zeroizing;
use tokio::time::timeout;

use crate::net::Dial;

/// The least that hyper wants to be allowed for a head.
const LEAST_HEAD: usize = 8 * 1024;

/// Speaks to one place, whose certificate [`Dial`] checks. It follows no redirect and looks at no
/// variable, so nothing but [`Dial`] says where a request goes.
///
/// A connection serves one request. So an answer can belong to no other, and no request has to be
/// sent twice because a kept connection was closed meanwhile: some may be sent only once.
#[derive(Debug)]
pub struct Client {
    dial: Dial,
    host: Authority,
    limits: Limits,
}

/// How large an answer may be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Its status line and fields; at least 8 KiB.
    pub head: usize,
    /// Its body.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: 64 * 1024, body: 64 * 1024 }
    }
}

/// Why there is no answer. Shows nothing of the request.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Name look-up or TCP failed.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// No TLS: most often its certificate is not believed.
    #[error("no TLS: {0}")]
    Tls(rustls::Error),
    /// The connection broke, or what came was no HTTP/1.1.
    #[error("no whole answer: {0}")]
    Http(hyper::Error),
    /// The answer's head is larger than allowed.
    #[error("the head of the answer is larger than {limit} bytes")]
    HeadTooLarge {
        /// What is allowed.
        limit: usize,
    },
    /// The answer's body is larger than allowed.
    #[error("the body of the answer is larger than {limit} bytes")]
    BodyTooLarge {
        /// What is allowed.
        limit: usize,
    },
    /// It took longer than allowed.
    #[error("no whole answer within {} s", .after.as_secs_f64())]
    Timeout {
        /// What is allowed.
        after: Duration,
    },
}

impl Client {
    /// `host` is what the `Host` field says.
    pub fn new(dial: Dial, host: Authority, limits: Limits) -> Self {
        Self { dial, host, limits }
    }

    /// Sends a request and reads the whole answer, within `limit` for all of it. Only the path and
    /// the query of its URI count. The answer's body is wiped from memory when its last owner
    /// drops it; a request's is when its owner sees to it ([`Bytes::from_owner`]).
    ///
    /// Cancel-safe: dropping the future closes the connection. The request may have arrived.
    ///
    /// # Errors
    /// [`ClientError`]. A status that means a failure is an answer, not an error.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        limit: Duration,
    ) -> Result<Response<Bytes>, ClientError> {
        let ended = timeout(limit, self.exchange(request)).await;
        ended.unwrap_or(Err(ClientError::Timeout { after: limit }))
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ClientError> {
        let (request, room) = (self.finish(request), self.limits.head.max(LEAST_HEAD));
        let stream = self.dial.connect().await.map_err(connect_error)?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(room)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.http_error(error))?;
        let answer = async {
            let answer = sender.send_request(request).await;
            let (head, body) = answer.map_err(|error| self.http_error(error))?.into_parts();
            // hyper's own limit is only looked at when a head came in pieces.
            let fields = head.headers.iter();
            if fields.map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() > room {
                return Err(ClientError::HeadTooLarge { limit: room });
            }
            Ok(Response::from_parts(head, self.whole(body).await?))
        };
        let drive = async {
            // How it ended, `answer` says as well; what it had read before is still on its way.
            let _ = connection.await;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            answer = answer => answer,
            never = drive => match never {},
        }
    }

    fn finish(&self, request: Request<Bytes>) -> Request<Full<Bytes>> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().cloned();
        head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        head.version = Version::HTTP_11;
        // An authority is visible ASCII, as a field's value must be.
        if let Ok(host) = HeaderValue::from_str(self.host.as_str()) {
            head.headers.insert(HOST, host);
        }
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        Request::from_parts(head, Full::new(body))
    }

    /// Reads a body into one piece of memory that never moves, so that wiping it wipes it all.
    async fn whole(&self, mut body: Incoming) -> Result<Bytes, ClientError> {
        let limit = self.limits.body;
        let too_large = || ClientError::BodyTooLarge { limit };
        let declared = body.size_hint().exact().map_or(Ok(limit), usize::try_from);
        let room = declared.ok().filter(|&declared| declared <= limit).ok_or_else(too_large)?;
        let mut whole = Zeroizing::new(Vec::with_capacity(room));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.http_error(error))?;
            let Ok(piece) = frame.into_data() else { continue };
            if piece.len() > room - whole.len() {
                return Err(too_large());
            }
            whole.extend_from_slice(&piece);
        }
        Ok(Bytes::from_owner(whole))
    }

    fn http_error(&self, error: hyper::Error) -> ClientError {
        if error.is_parse_too_large() {
            return ClientError::HeadTooLarge { limit: self.limits.head.max(LEAST_HEAD) };
        }
        ClientError::Http(error)
    }
}

fn connect_error(error: io::Error) -> ClientError {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    if !is_tls {
        return ClientError::Connect(error);
    }
    match error.downcast::<rustls::Error>() {
        Ok(tls) => ClientError::Tls(tls),
        Err(error) => ClientError::Connect(error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::net::PipeEnd;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A client of a server that reads one head and then does `answer`; and what it read.
    fn served<F>(
        limits: Limits,
        answer: impl FnOnce(PipeEnd) -> F + Send + 'static,
    ) -> (Client, tokio::task::JoinHandle<String>)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (dial, mut pipes) = Dial::pipe();
        let task = tokio::spawn(async move {
            let mut end = pipes.recv().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(end.read_u8().await.unwrap());
            }
            answer(end).await;
            String::from_utf8(head).unwrap()
        });
        (Client::new(dial, Authority::from_static("there:8200"), limits), task)
    }

    fn says(
        text: impl Into<Vec<u8>>,
    ) -> impl FnOnce(PipeEnd) -> futures_util::future::BoxFuture<'static, ()> {
        let text = text.into();
        move |mut end| {
            Box::pin(async move {
                // The client may have gone already.
                let _ = end.write_all(&text).await;
            })
        }
    }

    fn ask() -> Request<Bytes> {
        Request::get("https://elsewhere/v1/x?y=zqsecretzq").body(Bytes::new()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_goes_to_the_one_place_on_a_connection_of_its_own() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        let (client, server) = served(Limits::default(), says(answer));
        let answer = client.send(ask(), LIMIT).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"hi"[..]));
        let head = server.await.unwrap();
        assert!(head.starts_with("GET /v1/x?y=zqsecretzq HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("host: there:8200\r\n") && head.contains("connection: close\r\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_without_a_length_ends_with_its_connection_and_a_redirect_is_an_answer() {
        let answer = "HTTP/1.1 307 No\r\nlocation: https://elsewhere/\r\n\r\nhi";
        let (client, server) = served(Limits::default(), says(answer));
        let answer = client.send(ask(), LIMIT).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (307, &b"hi"[..]));
        server.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_too_large_is_refused_however_it_comes() {
        let limits = Limits { head: 9000, body: 10 };
        let long = "x".repeat(10_000);
        for (answer, head) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world".to_owned(), false),
            ("HTTP/1.1 200 OK\r\n\r\nhello world".to_owned(), false),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"
                    .to_owned(),
                false,
            ),
            (format!("HTTP/1.1 200 OK\r\nx: {long}\r\n\r\n"), true),
        ] {
            let (client, _server) = served(limits, says(answer.clone()));
            let error = client.send(ask(), LIMIT).await.unwrap_err();
            match (&error, head) {
                (ClientError::HeadTooLarge { limit: 9000 }, true)
                | (ClientError::BodyTooLarge { limit: 10 }, false) => {}
                _ => panic!("{answer}: {error}"),
            }
        }
        let (client, _server) = served(limits, says("HTTP/1.1 200 OK\r\n\r\nhello worl"));
        assert_eq!(client.send(ask(), LIMIT).await.unwrap().body().len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_late_cut_or_no_http_is_an_error_that_shows_nothing_of_the_request() {
        let hangs = |end: PipeEnd| async move {
            sleep(LIMIT * 3).await;
            drop(end);
        };
        let (client, server) = served(Limits::default(), hangs);
        let (started, error) = (Instant::now(), client.send(ask(), LIMIT).await.unwrap_err());
        assert_eq!(started.elapsed(), LIMIT);
        let mut said = vec![(error.to_string(), format!("{error:?}"))];
        assert_eq!(said[0].0, "no whole answer within 10 s");
        server.abort();
        for answer in ["", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut"] {
            let (client, _server) = served(Limits::default(), says(answer));
            let error = client.send(ask(), LIMIT).await.unwrap_err();
            assert!(matches!(error, ClientError::Http(_)), "{answer}: {error:?}");
            said.push((error.to_string(), format!("{error:?} {client:?}")));
        }
        let (dial, pipes) = Dial::pipe();
        drop(pipes);
        let client = Client::new(dial, Authority::from_static("there"), Limits::default());
        let error = client.send(ask(), LIMIT).await.unwrap_err();
        assert!(matches!(error, ClientError::Connect(_)), "{error:?}");
        said.push((error.to_string(), format!("{error:?}")));
        for (text, debug) in said {
            assert!(!text.contains("zqsecretzq") && !debug.contains("zqsecretzq"), "{debug}");
        }
    }
}

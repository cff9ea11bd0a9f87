//! What is spoken on a connection: HTTP/1.1 or HTTP/2, as its first bytes tell, or nothing.
//!
//! A connection on which nothing is said has none of hyper's buffers, 24 KiB each: before its first
//! byte, and again when it has been silent for a while after an answer.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::Peer;
use crate::server::activity::Activity;
use crate::server::answer::{Answered, at_the_rim};
use crate::server::begun::Begun;
use crate::server::connection::Streams;
use crate::server::upload::Patience;
use crate::server::{Answer, ServerSettings};

/// What HTTP/2 begins with, and HTTP/1.1 never does (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// hyper refuses to work with less.
const SMALLEST_HEAD: usize = 8192;

/// A caller whose machine vanished is noticed after `H2_PING_EVERY + H2_PING_WAIT`.
const H2_PING_EVERY: Duration = Duration::from_secs(30);
const H2_PING_WAIT: Duration = Duration::from_secs(20);

/// A body that nobody reads yet holds its stream's window; 16 of them fit into the connection's,
/// so that a queued upload does not stop the others at once.
const H2_STREAM_WINDOW: u32 = 128 * 1024;
const H2_CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// How much of one stream's answer waits for a connection that does not flow; hyper's own 400 KiB
/// would be 100 MB on a connection of 250 streams.
const H2_SEND_BUFFER: usize = 64 * 1024;

/// From a connection's requests to its answers.
struct Rim<A> {
    answer: A,
    peer: Peer,
    activity: Arc<Activity>,
    patience: Patience,
}

type Answering = dyn Future<Output = Result<Response<Answered>, Infallible>> + Send;

impl<A: Answer> Service<Request<Incoming>> for Rim<A> {
    type Response = Response<Answered>;
    type Error = Infallible;
    /// Boxed: hyper keeps room for it with each connection, also while nothing is asked, and the
    /// proxy's takes kilobytes.
    type Future = Pin<Box<Answering>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(at_the_rim(&self.answer, &self.peer, &self.activity, self.patience, request))
    }
}

/// One connection's conversation; ends when its peer is done.
pub(super) struct Talk<S, A: Answer> {
    stage: Stage<S, A>,
    rim: Arc<Rim<A>>,
    streams: Streams,
    head: usize,
    max_streams: u32,
}

type Io<S> = TokioIo<Begun<S>>;
type One<S, A> = http1::Connection<Io<S>, Arc<Rim<A>>>;
type Two<S, A> = http2::Connection<Io<S>, Arc<Rim<A>>, Streams>;

enum Stage<S, A: Answer> {
    /// Nothing is said. `first`: nor was it ever, so it may yet be HTTP/2.
    Silent {
        stream: S,
        heard: Heard,
        first: bool,
    },
    One(Pin<Box<One<S, A>>>),
    Two(Pin<Box<Two<S, A>>>),
    Closing(S),
    Over,
}

/// As much as it takes to know HTTP/2.
#[derive(Clone, Copy)]
struct Heard {
    bytes: [u8; PREFACE.len()],
    length: usize,
}

impl Heard {
    const NOTHING: Self = Self { bytes: [0; PREFACE.len()], length: 0 };

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<S, A> Talk<S, A>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Answer,
{
    pub(super) fn new(
        stream: S,
        answer: A,
        peer: Peer,
        settings: &ServerSettings,
        streams: Streams,
        activity: Arc<Activity>,
    ) -> Self {
        let patience = Patience::new(settings);
        Self {
            stage: Stage::Silent { stream, heard: Heard::NOTHING, first: true },
            rim: Arc::new(Rim { answer, peer, activity, patience }),
            streams,
            head: settings.max_header_bytes.max(SMALLEST_HEAD),
            max_streams: settings.max_streams,
        }
    }

    /// Finishes what is under way, and ends.
    pub(super) fn finish(&mut self) {
        match &mut self.stage {
            Stage::Silent { .. } => {
                if let Stage::Silent { stream, .. } = mem::replace(&mut self.stage, Stage::Over) {
                    self.stage = Stage::Closing(stream);
                }
            }
            Stage::One(connection) => connection.as_mut().graceful_shutdown(),
            Stage::Two(connection) => connection.as_mut().graceful_shutdown(),
            Stage::Closing(_) | Stage::Over => {}
        }
    }

    /// Lets hyper's buffers go, where nothing is under way and nothing waits to be written. Must be
    /// polled again.
    pub(super) fn rest(&mut self) {
        let mut connection = match mem::replace(&mut self.stage, Stage::Over) {
            Stage::One(connection) => connection,
            other => {
                self.stage = other;
                return;
            }
        };
        // hyper gives a connection back that is done, and one that is idle is done when it is asked to
        // finish. Else this is its last exchange.
        connection.as_mut().graceful_shutdown();
        let done = connection.poll_without_shutdown(&mut Context::from_waker(Waker::noop()));
        if !matches!(done, Poll::Ready(Ok(()))) {
            self.stage = Stage::One(connection);
            return;
        }
        let parts = Pin::into_inner(connection).into_parts();
        let Begun { begun, stream } = parts.io.into_inner();
        if begun.is_empty() && parts.read_buf.is_empty() {
            self.stage = Stage::Silent { stream, heard: Heard::NOTHING, first: false };
        } else {
            let begun = Bytes::from([parts.read_buf, begun].concat());
            self.speak_one(Begun { begun, stream });
        }
    }

    /// Ready when the peer has left; then there is nothing more to say.
    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Stage::Silent { stream, heard, first } = &mut self.stage else {
            return Poll::Ready(Ok(()));
        };
        let is_two = loop {
            let before = heard.length;
            let mut buf = ReadBuf::new(&mut heard.bytes);
            buf.set_filled(before);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf))?;
            heard.length = buf.filled().len();
            if heard.length == before || !*first || !PREFACE.starts_with(heard.bytes()) {
                break false;
            }
            if heard.length == PREFACE.len() {
                break true;
            }
        };
        let heard = *heard;
        let Stage::Silent { stream, .. } = mem::replace(&mut self.stage, Stage::Over) else {
            return Poll::Ready(Ok(()));
        };
        if heard.length == 0 {
            self.stage = Stage::Closing(stream);
            return Poll::Ready(Ok(()));
        }
        let begun = Begun { begun: Bytes::copy_from_slice(heard.bytes()), stream };
        if is_two {
            self.speak_two(begun)
        } else {
            self.speak_one(begun)
        }
        Poll::Ready(Ok(()))
    }

    fn speak_one(&mut self, stream: Begun<S>) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None) // `Activity` has the clocks.
            .half_close(false)
            .max_buf_size(self.head)
            .serve_connection(TokioIo::new(stream), Arc::clone(&self.rim));
        self.stage = Stage::One(Box::pin(connection));
    }

    fn speak_two(&mut self, stream: Begun<S>) {
        let connection = http2::Builder::new(self.streams.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval(H2_PING_EVERY)
            .keep_alive_timeout(H2_PING_WAIT)
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_send_buf_size(H2_SEND_BUFFER)
            .max_concurrent_streams(self.max_streams)
            .max_header_list_size(u32::try_from(self.head).unwrap_or(u32::MAX))
            .serve_connection(TokioIo::new(stream), Arc::clone(&self.rim));
        self.stage = Stage::Two(Box::pin(connection));
    }
}

/// Why a conversation ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenOff {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

impl<S, A> Talk<S, A>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Answer,
{
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BrokenOff>> {
        loop {
            match &mut self.stage {
                Stage::Silent { .. } => ready!(self.poll_silent(cx))?,
                Stage::One(connection) => {
                    ready!(connection.as_mut().poll(cx))?;
                    self.stage = Stage::Over;
                }
                Stage::Two(connection) => {
                    ready!(connection.as_mut().poll(cx))?;
                    self.stage = Stage::Over;
                }
                Stage::Closing(stream) => {
                    ready!(Pin::new(stream).poll_shutdown(cx))?;
                    self.stage = Stage::Over;
                }
                Stage::Over => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::server::testing::{echo, get, on_a_free_port, pipe, rest};

    /// Longer than it takes to rest.
    const A_WHILE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_rested_answers_as_before() {
        let (mut caller, _done) = pipe(on_a_free_port(), echo, CancellationToken::new());
        for _ in 0..3 {
            let answer = get(&mut caller, "/a").await;
            assert!(!answer.contains("connection: close"), "{answer}");
            tokio::time::sleep(A_WHILE).await;
        }
        // Byte by byte.
        for byte in b"GET /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" {
            caller.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(rest(&mut caller).await.ends_with("/b"));
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_head_that_came_along_with_a_request_is_not_lost_over_a_rest() {
        let (mut caller, _done) = pipe(on_a_free_port(), echo, CancellationToken::new());
        caller.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HT").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"/a") {
            caller.read_buf(&mut answer).await.unwrap();
        }
        tokio::time::sleep(A_WHILE).await;
        caller.write_all(b"TP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(rest(&mut caller).await.ends_with("/b"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_spoke_http_1_does_not_begin_to_speak_http_2() {
        let (mut caller, done) = pipe(on_a_free_port(), echo, CancellationToken::new());
        get(&mut caller, "/a").await;
        tokio::time::sleep(A_WHILE).await;
        caller.write_all(PREFACE).await.unwrap();
        caller.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let answer = rest(&mut caller).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "), "{answer}");
        done.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_at_rest_ends_when_the_server_stops() {
        let stop = CancellationToken::new();
        let (mut caller, done) = pipe(on_a_free_port(), echo, stop.clone());
        get(&mut caller, "/a").await;
        tokio::time::sleep(A_WHILE).await;
        stop.cancel();
        assert_eq!(rest(&mut caller).await, "");
        done.await.unwrap();
    }
}

//! What the server's tests share.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::base::{Body, Peer};
use crate::server::{Answer, Listen, Server, ServerSettings, bind};

/// Only ever passes when a test has failed.
const TOO_LONG: Duration = Duration::from_secs(20);

/// What happened to a call, by its path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Waits(String),
    Dropped(String),
}

pub(super) fn waits(path: &str) -> Event {
    Event::Waits(path.to_owned())
}

pub(super) fn dropped(path: &str) -> Event {
    Event::Dropped(path.to_owned())
}

struct Guard(String, mpsc::UnboundedSender<Event>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.1.send(Event::Dropped(self.0.clone()));
    }
}

/// Calls that never get their turn. Each reads up to `reads` bytes of its body before it waits.
pub(super) fn queue(reads: usize) -> (impl Answer, mpsc::UnboundedReceiver<Event>) {
    let (tell, told) = mpsc::unbounded_channel();
    let answer = move |mut request: Request<Body>, _: Peer| {
        let tell = tell.clone();
        async move {
            let path = request.uri().path().to_owned();
            let _guard = Guard(path.clone(), tell.clone());
            let mut seen = 0;
            while seen < reads {
                let Some(Ok(frame)) = request.body_mut().frame().await else { break };
                seen += frame.data_ref().map_or(0, bytes::Bytes::len);
            }
            let _ = tell.send(Event::Waits(path));
            std::future::pending::<Response<Body>>().await
        }
    };
    (answer, told)
}

/// Answers every call with its path, at once.
pub(super) async fn echo(request: Request<Body>, _: Peer) -> Response<Body> {
    Response::new(Body::full(request.uri().path().to_owned()))
}

pub(super) fn on_a_free_port() -> ServerSettings {
    ServerSettings::new(vec![Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))])
}

/// A server that runs.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) server: Server,
    pub(super) stop: CancellationToken,
    pub(super) done: JoinHandle<()>,
}

/// Serves on a free port of the loopback.
pub(super) fn start(settings: ServerSettings, answer: impl Answer) -> Running {
    let bound = bind(&settings).unwrap();
    let address = bound[0].local_addr().unwrap();
    let server = Server::new(settings);
    let stop = CancellationToken::new();
    let done = tokio::spawn(server.clone().serve(bound, answer, stop.clone()));
    Running { address, server, stop, done }
}

impl Running {
    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Serves one connection in memory; the returned end is the caller's.
pub(super) fn pipe(
    settings: ServerSettings,
    answer: impl Answer,
    stop: CancellationToken,
) -> (DuplexStream, JoinHandle<()>) {
    let (caller, ours) = tokio::io::duplex(64 * 1024);
    let server = Server::new(settings);
    let done = tokio::spawn(async move {
        server.serve_connection(ours, Peer::pipe(), answer, stop).await;
    });
    (caller, done)
}

/// Waits for what must happen soon.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(TOO_LONG, what).await.expect("it never happened")
}

/// Sends one GET and reads its whole answer, whose body is as long as its path.
pub(super) async fn get(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    path: &str,
) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(format!("\r\n\r\n{path}").as_bytes()) {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{answer:?}");
    }
    String::from_utf8(answer).unwrap()
}

/// Reads to the end of the stream; a reset counts as an end.
pub(super) async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// Reads an h2 body to its end, as fast as it comes.
pub(super) async fn whole(mut body: h2::RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut read = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        read.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(read)
}

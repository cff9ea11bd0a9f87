//! Callers, and what became of each of their calls.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Callers who do the same.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The instance that they call.
    pub(crate) seat: usize,
    /// Their name; of one of `[callers]` where the config has them.
    pub(crate) name: &'static str,
    /// How many there are; each makes one call after the other.
    pub(crate) callers: usize,
    /// What their calls say of their urgency.
    pub(crate) urgency: Option<u8>,
    /// How long each waits after an answer.
    pub(crate) pause: Duration,
}

impl Group {
    pub(crate) fn of(callers: usize, name: &'static str, seat: usize) -> Self {
        Self { seat, name, callers, urgency: None, pause: Duration::ZERO }
    }

    pub(crate) fn urgency(self, urgency: u8) -> Self {
        Self { urgency: Some(urgency), ..self }
    }

    pub(crate) fn pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }
}

/// One call; its number is its place in the log.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) seat: usize,
    pub(crate) name: &'static str,
    pub(crate) sent: Instant,
    /// When it ended, and with which status; none where the connection was lost.
    pub(crate) ended: Option<(Instant, Option<StatusCode>)>,
}

/// The calls that were made.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    pub(crate) fn all(&self) -> Vec<Call> {
        self.0.lock().unwrap().clone()
    }

    fn begin(&self, group: &Group) -> usize {
        let mut all = self.0.lock().unwrap();
        let sent = Instant::now();
        all.push(Call { seat: group.seat, name: group.name, sent, ended: None });
        all.len() - 1
    }

    fn end(&self, number: usize, status: Option<StatusCode>) {
        self.0.lock().unwrap()[number].ended = Some((Instant::now(), status));
    }
}

/// Groups at work, until this is stopped or dropped.
pub(crate) struct Crowd {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Crowd {
    /// Sets them to work; `address` says where each instance is at the moment.
    pub(crate) fn start(
        groups: &[Group],
        addresses: &[watch::Receiver<Option<SocketAddr>>],
        calls: &Calls,
    ) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        for group in groups {
            for _ in 0..group.callers {
                let caller = work(group.clone(), addresses[group.seat].clone(), calls.clone());
                let ends = stop.clone();
                tasks.spawn(
                    async move { ends.run_until_cancelled_owned(caller).await.unwrap_or(()) },
                );
            }
        }
        Self { stop, tasks }
    }

    /// Ends them where they are. What they wait for is not waited for.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn work(group: Group, mut address: watch::Receiver<Option<SocketAddr>>, calls: Calls) {
    let mut connection = None;
    loop {
        let at = (*address.wait_for(Option::is_some).await.unwrap()).unwrap();
        let usable = connection.take().filter(|(to, _)| *to == at);
        let mut sender = match usable {
            Some((_, sender)) => sender,
            None => match connect(at).await {
                Some(sender) => sender,
                None => {
                    sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        if sender.ready().await.is_err() {
            continue;
        }
        let number = calls.begin(&group);
        let answer =
            send(&mut sender, get(&format!("/api/v1/labels?serial={number}"), &group)).await;
        calls.end(number, answer.as_ref().map(|answer| answer.status));
        match answer {
            // One who is refused at once would otherwise do nothing but ask.
            Some(answer) if answer.status != 200 => sleep(Duration::from_millis(50)).await,
            Some(_) => {}
            None => continue,
        }
        connection = Some((at, sender));
        if !group.pause.is_zero() {
            sleep(group.pause).await;
        }
    }
}

fn get(target: &str, group: &Group) -> Request<Full<Bytes>> {
    let mut request = Request::get(target).header(HOST, "127.0.0.1");
    request = request.header("x-omnigate-caller", group.name);
    if let Some(urgency) = group.urgency {
        request = request.header("priority", format!("u={urgency}"));
    }
    request.body(Full::default()).unwrap()
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A connection for one call after the other.
pub(crate) async fn connect(to: SocketAddr) -> Option<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(to).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

/// Makes a call; none where the connection ends before the answer does.
pub(crate) async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Option<Answer> {
    let (head, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    Some(Answer { status: head.status, headers: head.headers, body })
}

/// One call on a connection of its own.
pub(crate) async fn call(to: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let mut sender = connect(to).await.expect("somebody listens");
    send(&mut sender, request).await.expect("it is answered")
}

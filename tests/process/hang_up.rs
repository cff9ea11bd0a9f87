//! A caller who leaves frees its place at once and costs nothing.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use http::Request;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout_at;

use crate::harness::{Gateway, House, Plan, SECOND, soon, until};

/// How many come and go.
const CROWD: usize = 100;

/// What the next caller may wait longer for their sake.
const MORE: Duration = Duration::from_millis(100);

/// Six calls are free; the seventh may go after this time.
const SHUT: Duration = Duration::from_millis(1800);
const BUDGET: &str =
    "limit = 6\nwindow = \"1700ms\"\nguard = \"100ms\"\nprofile = \"smooth\"\nburst = 6";

const GET: &str = "GET /api/v1/labels?serial=gone HTTP/1.1\r\nhost: localhost\r\n\r\n";
const MIB: usize = 1024 * 1024;

/// How a TCP connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Fin,
    Reset,
}

/// What a crowd sends before it leaves.
#[derive(Clone, Copy, Debug)]
enum Crowd {
    Gets(End),
    UnixGets,
    /// Each with a second one behind it on the same connection.
    PipelinedGets(End),
    /// 2 MiB, as much of it as the sockets take.
    Posts(End),
    /// Streams of one connection, which stays.
    H2Gets,
    /// The same, each with a body that nobody has read.
    H2Posts,
}

/// A crowd that waits for its turn.
struct Waiting {
    leave: Box<dyn FnOnce()>,
    /// The connection that stays.
    stays: Option<SendRequest<Bytes>>,
}

impl Crowd {
    async fn come(self, house: &House, gateway: &Gateway) -> Waiting {
        match self {
            Self::Gets(end) => tcp(gateway, end, GET, 0).await,
            Self::PipelinedGets(end) => tcp(gateway, end, &GET.repeat(2), 0).await,
            Self::Posts(end) => {
                let length = 2 * MIB;
                let head = format!(
                    "POST /api/v1/labels?serial=gone HTTP/1.1\r\nhost: localhost\r\n\
                     content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
                );
                tcp(gateway, end, &head, length).await
            }
            Self::UnixGets => {
                let mut callers = Vec::new();
                for _ in 0..CROWD {
                    let mut caller = UnixStream::connect(house.socket()).await.unwrap();
                    caller.write_all(GET.as_bytes()).await.unwrap();
                    callers.push(caller);
                }
                Waiting { leave: Box::new(|| drop(callers)), stays: None }
            }
            Self::H2Gets => h2(gateway, None).await,
            Self::H2Posts => h2(gateway, Some(16 * 1024)).await,
        }
    }
}

async fn tcp(gateway: &Gateway, end: End, head: &str, body: usize) -> Waiting {
    let mut callers = Vec::new();
    let chunk = vec![b' '; 64 * 1024];
    for _ in 0..CROWD {
        let mut caller = TcpStream::connect(gateway.address()).await.unwrap();
        caller.write_all(head.as_bytes()).await.unwrap();
        let mut left = body;
        while left > 0 {
            match caller.try_write(&chunk[..chunk.len().min(left)]) {
                Ok(n) => left -= n,
                Err(_) => break,
            }
        }
        callers.push(caller);
    }
    let leave = move || {
        for caller in callers {
            if let End::Reset = end {
                let at_once = Some(Duration::ZERO);
                rustix::net::sockopt::set_socket_linger(&caller, at_once).unwrap();
            }
        }
    };
    Waiting { leave: Box::new(leave), stays: None }
}

async fn h2(gateway: &Gateway, body: Option<usize>) -> Waiting {
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut calls = Vec::new();
    for _ in 0..CROWD {
        let request = Request::builder()
            .method(if body.is_some() { "POST" } else { "GET" })
            .uri("http://127.0.0.1/api/v1/labels?serial=gone");
        sender = sender.ready().await.unwrap();
        let request = request.body(()).unwrap();
        let (response, mut stream) = sender.send_request(request, body.is_none()).unwrap();
        if let Some(length) = body {
            // The connection's window holds the bodies of the first few; the others are stuck.
            stream.send_data(Bytes::from(vec![b' '; length]), false).unwrap();
        }
        calls.push((response, stream));
    }
    let leave = move || {
        for (_, stream) in &mut calls {
            stream.send_reset(Reason::CANCEL);
        }
    };
    Waiting { leave: Box::new(leave), stays: Some(sender) }
}

/// What one run showed.
#[derive(Debug)]
struct Run {
    /// From the moment in which the budget was spent to the arrival of the next caller's request.
    turn: Duration,
    reached: Vec<String>,
}

/// Spends the budget, lets the crowd come and go, and has one more caller wait for its turn.
/// `None`: the machine was so slow that the crowd was still there when its turn came.
async fn run(crowd: Option<Crowd>) -> Option<Run> {
    let house = Plan { budget: BUDGET.to_owned(), ..Plan::default() }.build().await;
    let gateway = house.start().await;
    for serial in 0..6 {
        let answer = gateway.get(&format!("/api/v1/labels?serial={serial}")).await;
        assert_eq!(answer.status, 200);
    }
    let spent = house.omni.arrivals()[0].at;
    let stays = match crowd {
        None => None,
        Some(crowd) => {
            let waiting = crowd.come(&house, &gateway).await;
            let came = timeout_at(spent + SHUT, gateway.queued(CROWD)).await;
            (waiting.leave)();
            if came.is_err() {
                return None;
            }
            waiting.stays
        }
    };
    let late = spent.elapsed() > SHUT - SECOND / 5;
    let path = "/api/v1/labels?serial=next";
    match stays {
        None => assert_eq!(gateway.get(path).await.status, 200),
        Some(connection) => h2_call(connection, path).await,
    }
    if late {
        return None;
    }
    if crowd.is_some() {
        until(async || (gateway.exchanges(499) == CROWD).then_some(())).await;
    }
    gateway.queued(0).await;
    let next = house.omni.arrivals().into_iter().rfind(|a| a.target.to_string().ends_with("next"));
    Some(Run { turn: next.unwrap().at - spent, reached: house.reached() })
}

/// An upload of more than a stream's window, on a connection that has seen a hundred resets.
async fn h2_call(connection: SendRequest<Bytes>, path: &str) {
    let mut connection = soon(connection.ready()).await.unwrap();
    let request = Request::post(format!("http://127.0.0.1{path}")).body(()).unwrap();
    let (response, mut body) = connection.send_request(request, false).unwrap();
    body.send_data(Bytes::from(vec![b' '; 256 * 1024]), true).unwrap();
    // The fake Omni knows no label without a name.
    assert_eq!(soon(response).await.unwrap().status(), 400);
}

async fn costs_nothing(crowd: Crowd) {
    let mut seen = Vec::new();
    // Noise on the machine can only add to a wait; places that are not freed always do.
    for _ in 0..3 {
        let (alone, after) = tokio::join!(run(None), run(Some(crowd)));
        let (Some(alone), Some(after)) = (alone, after) else { continue };
        let expected = ["0", "1", "2", "3", "4", "5", "next"];
        assert_eq!(alone.reached, expected);
        assert_eq!(after.reached, expected, "{crowd:?}: of those who left some reached upstream");
        println!("{crowd:?}: turn after {:?}, without the {CROWD} {:?}", after.turn, alone.turn);
        if after.turn <= alone.turn + MORE {
            return;
        }
        seen.push((after.turn, alone.turn));
    }
    panic!("{crowd:?}: the next caller waited for those who left: {seen:?}");
}

#[tokio::test]
async fn a_hundred_gets_that_are_closed_cost_the_next_caller_nothing() {
    costs_nothing(Crowd::Gets(End::Fin)).await;
}

#[tokio::test]
async fn a_hundred_gets_that_are_reset_cost_the_next_caller_nothing() {
    costs_nothing(Crowd::Gets(End::Reset)).await;
}

#[tokio::test]
async fn a_hundred_gets_on_a_unix_socket_cost_the_next_caller_nothing() {
    costs_nothing(Crowd::UnixGets).await;
}

#[tokio::test]
async fn a_hundred_pipelined_gets_that_are_closed_cost_the_next_caller_nothing() {
    costs_nothing(Crowd::PipelinedGets(End::Fin)).await;
}

#[tokio::test]
async fn a_hundred_pipelined_gets_that_are_reset_cost_the_next_caller_nothing() {
    costs_nothing(Crowd::PipelinedGets(End::Reset)).await;
}

#[tokio::test]
async fn a_hundred_uploads_that_are_closed_cost_the_next_caller_nothing() {
    costs_nothing(Crowd::Posts(End::Fin)).await;
}

#[tokio::test]
async fn a_hundred_uploads_that_are_reset_cost_the_next_caller_nothing() {
    costs_nothing(Crowd::Posts(End::Reset)).await;
}

#[tokio::test]
async fn a_hundred_h2_gets_that_are_reset_cost_the_next_caller_nothing() {
    costs_nothing(Crowd::H2Gets).await;
}

#[tokio::test]
async fn a_hundred_h2_uploads_that_are_reset_cost_the_next_caller_nothing() {
    costs_nothing(Crowd::H2Posts).await;
}

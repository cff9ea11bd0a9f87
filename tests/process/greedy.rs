//! Callers who are slow, and callers who take more than their share: each is ended, and what it held
//! is there for others.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Gateway, House, Plan, small_socket, soon, until};

/// More than the kernel takes for a caller who does not read.
const LARGE: usize = 10_000_000;
const GET: &[u8] = b"GET /api/v1/documents?serial=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// A gateway with these lines of `[server]`.
async fn gateway(server: &str) -> (House, Gateway) {
    let house = Plan { server: server.to_owned(), ..Plan::default() }.build().await;
    let gateway = house.start().await;
    (house, gateway)
}

/// The descriptors that it has open when nobody is there, but for one connection kept to Omni.
async fn descriptors_at_rest(gateway: &Gateway) -> usize {
    assert_eq!(gateway.get("/api/v1/documents").await.status, 200);
    until(async || (gateway.figure("omnigate_connections").await == 0.0).then_some(())).await;
    // The question itself came by a connection, which goes when it will.
    let mut least = gateway.descriptors();
    for _ in 0..50 {
        tokio::task::yield_now().await;
        least = least.min(gateway.descriptors());
    }
    least
}

/// Waits until no more are open than were at rest.
async fn descriptors_are_back(gateway: &Gateway, at_rest: usize) {
    until(async || (gateway.descriptors() <= at_rest).then_some(())).await;
}

async fn says(gateway: &Gateway, bytes: &[u8]) -> TcpStream {
    let mut stream = small_socket().connect(gateway.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Asks for 10 MB, and sees that they begin to come.
async fn asks_for_much(gateway: &Gateway) -> TcpStream {
    let path = format!("/api/v1/dashboards/d/download/j?bytes={LARGE}");
    let head = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let mut stream = says(gateway, head.as_bytes()).await;
    let mut status = [0; 12];
    soon(stream.read_exact(&mut status)).await.unwrap();
    assert_eq!(status, *b"HTTP/1.1 200");
    stream
}

/// Reads to the end; a reset is one too.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let _ = soon(stream.read_to_end(&mut read)).await;
    read
}

/// One call over a connection that stays open.
async fn is_served(stream: &mut TcpStream) {
    stream.write_all(GET).await.unwrap();
    let mut answer = Vec::new();
    while !is_whole(&answer) {
        assert_ne!(soon(stream.read_buf(&mut answer)).await.unwrap(), 0, "{answer:?}");
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    body.len() >= length.parse().unwrap()
}

#[tokio::test]
async fn whoever_never_reads_is_ended_and_what_it_held_is_given_back() {
    let (_house, gateway) = gateway("write_timeout = \"1s\"").await;
    let at_rest = descriptors_at_rest(&gateway).await;
    let mut greedy = Vec::new();
    for _ in 0..5 {
        greedy.push(asks_for_much(&gateway).await);
    }
    assert!(gateway.descriptors() >= at_rest + 5);
    assert_eq!(gateway.get("/api/v1/documents").await.status, 200);
    // They are all still there.
    descriptors_are_back(&gateway, at_rest).await;
    for stream in &mut greedy {
        assert!(rest(stream).await.len() < LARGE);
    }
}

#[tokio::test]
async fn an_upload_that_stops_is_answered_408_and_its_connection_ended() {
    let (_house, gateway) = gateway("body_timeout = \"1s\"").await;
    let at_rest = descriptors_at_rest(&gateway).await;
    let upload = async |sent: &str| {
        let head = "POST /api/v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\n\
            Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100\r\n\r\n";
        let mut stream = says(&gateway, format!("{head}{sent}").as_bytes()).await;
        let answer = String::from_utf8(rest(&mut stream).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    };
    tokio::join!(upload(""), upload("half of"));
    descriptors_are_back(&gateway, at_rest).await;
    assert_eq!(gateway.get("/api/v1/documents").await.status, 200);
}

#[tokio::test]
async fn half_a_head_and_an_idle_connection_are_ended_each_by_its_own_limit() {
    tokio::join!(
        is_ended("header_timeout = \"1s\"", b""),
        is_ended("header_timeout = \"1s\"", b"GET / HT"),
        is_ended("idle_timeout = \"1s\"", GET),
    );
}

async fn is_ended(server: &str, said: &[u8]) {
    let (_house, gateway) = gateway(server).await;
    let at_rest = descriptors_at_rest(&gateway).await;
    let mut stream = says(&gateway, said).await;
    let answer = rest(&mut stream).await;
    assert_eq!(answer.is_empty(), said != GET, "{server}");
    descriptors_are_back(&gateway, at_rest).await;
}

#[tokio::test]
async fn the_idle_make_room_for_newcomers_and_the_busy_do_not() {
    let (_house, gateway) = gateway("max_connections = 4").await;
    let mut busy = asks_for_much(&gateway).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut stream = says(&gateway, b"").await;
        is_served(&mut stream).await;
        idle.push(stream);
    }
    let mut newcomers = Vec::new();
    for old in &mut idle {
        let mut newcomer = says(&gateway, b"").await;
        is_served(&mut newcomer).await;
        newcomers.push(newcomer);
        // Who was idle the longest, and at once.
        assert!(rest(old).await.is_empty());
    }
    // Not a byte of what is under way was lost.
    assert!(rest(&mut busy).await.len() > LARGE);
}

#[tokio::test]
async fn more_connections_than_descriptors_keep_nobody_out_for_long() {
    let house = Plan::default().build().await;
    let mut gateway = Gateway::spawn_with_descriptors(&house.config(), 64);
    gateway.serves().await;
    let at_rest = descriptors_at_rest(&gateway).await;
    let mut crowd = Vec::new();
    for nth in 0..200 {
        // Some half-open, some silent.
        let said = if nth % 2 == 0 { &b"GET / HT"[..] } else { b"" };
        crowd.push(says(&gateway, said).await);
    }
    // Among them, and after them.
    for _ in 0..3 {
        is_served(&mut says(&gateway, b"").await).await;
    }
    drop(crowd);
    descriptors_are_back(&gateway, at_rest).await;
    assert_eq!(gateway.get("/api/v1/documents").await.status, 200);
}

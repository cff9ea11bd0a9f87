//! Bodies of any size pass through in little memory, at the pace of the slower side.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http_body_util::BodyExt;
use omnigate::fake_omni::Settings;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::harness::{Gateway, Origin, Plan, get, pattern, small_socket, soon};

const MIB: u64 = 1024 * 1024;

/// The most memory that a gateway may ever have had in use.
const MEMORY: u64 = 64 * MIB;

/// How far ahead of the slower side the quicker one may come: as much as the kernel keeps for the
/// gateway's two sockets, and a little for the gateway itself.
fn ahead() -> u64 {
    let largest = |what| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{what}")).unwrap();
        text.split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    largest("rmem") + largest("wmem") + MIB
}

/// How long nothing moves on a loopback until it is taken to stand still.
const STILL: Duration = Duration::from_millis(500);

fn tell(what: &str, bytes: u64, begun: Instant, gateway: &Gateway) {
    let (took, peak) = (begun.elapsed(), gateway.peak_memory());
    println!(
        "{what} of {} MiB: {took:.1?}, {:.0} MiB/s, at most {:.1} MiB in memory",
        bytes / MIB,
        (bytes / MIB) as f64 / took.as_secs_f64(),
        peak as f64 / MIB as f64
    );
    assert!(peak < MEMORY, "{peak} bytes were in memory");
}

async fn download(bytes: u64) {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    let mut caller = gateway.caller().await;
    let begun = Instant::now();
    let path = format!("/api/v1/dashboards/big/download/1?bytes={bytes}");
    let answer = caller.send(get(&path)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()[CONTENT_LENGTH], bytes.to_string());
    let mut body = answer.into_body();
    let mut read = 0;
    while let Some(frame) = soon(body.frame()).await {
        let piece = frame.unwrap().into_data().unwrap();
        pattern::check(read, &piece);
        read += piece.len() as u64;
    }
    assert_eq!(read, bytes);
    tell("download", bytes, begun, &gateway);
}

async fn upload(bytes: u64) {
    let fake = Settings { digest_uploads: true, ..Plan::default().fake };
    let house = Plan { fake, ..Plan::default() }.build().await;
    let gateway = house.start().await;
    let mut caller = gateway.caller().await;
    let begun = Instant::now();
    let request = Request::post("/api/v1/uploads")
        .header(HOST, "127.0.0.1")
        .header(CONTENT_TYPE, "multipart/form-data; boundary=x")
        .header(CONTENT_LENGTH, bytes)
        .body(pattern::body(bytes));
    let answer = caller.send(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 201);
    tell("upload", bytes, begun, &gateway);
    let mut digest = Sha256::new();
    let mut offset = 0;
    while offset < bytes {
        let piece = pattern::piece(offset, bytes - offset);
        digest.update(&piece);
        offset += piece.len() as u64;
    }
    let ours: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let seen = house.omni.arrivals().pop().unwrap().body;
    assert_eq!((seen.bytes, seen.complete, seen.sha256), (bytes, true, Some(ours)));
}

#[tokio::test]
async fn a_gibibyte_comes_down_whole_in_little_memory() {
    download(1024 * MIB).await;
}

#[tokio::test]
async fn a_gibibyte_goes_up_whole_in_little_memory() {
    upload(1024 * MIB).await;
}

/// Writes the pattern, and counts what the socket has taken.
async fn write(mut stream: impl AsyncWrite + Unpin, bytes: u64, moved: Arc<AtomicU64>) {
    let mut offset = 0;
    while offset < bytes {
        let piece = pattern::piece(offset, bytes - offset);
        let n = stream.write(&piece).await.unwrap() as u64;
        offset += n;
        moved.store(offset, Ordering::Relaxed);
    }
    // The stream stays open until the other side has had it all.
    std::future::pending::<()>().await;
}

/// Reads the pattern from `offset` to `end`.
async fn read(stream: &mut (impl AsyncRead + Unpin), mut offset: u64, end: u64) {
    let mut buffer = vec![0; 256 * 1024];
    while offset < end {
        let most = buffer.len().min((end - offset) as usize);
        let n = soon(stream.read(&mut buffer[..most])).await.unwrap();
        assert_ne!(n, 0, "it ends after {offset} bytes");
        pattern::check(offset, &buffer[..n]);
        offset += n as u64;
    }
}

/// Waits until nothing moves any more, and tells how far it came.
async fn stands_still(moved: &AtomicU64) -> u64 {
    loop {
        let before = moved.load(Ordering::Relaxed);
        sleep(STILL).await;
        if moved.load(Ordering::Relaxed) == before {
            return before;
        }
    }
}

/// Reads a head.
async fn head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(soon(stream.read_line(&mut head)).await.unwrap(), 0, "{head}");
    }
    head
}

const BYTES: u64 = 256 * MIB;
const STOP: u64 = MIB;

#[tokio::test]
async fn a_caller_that_reads_slowly_slows_upstream_down() {
    let origin = Origin::open();
    let house = Plan { origin: Some(origin.address()), ..Plan::default() }.build().await;
    let gateway = house.start().await;
    let mut caller = BufReader::new(small_socket().connect(gateway.address()).await.unwrap());
    caller.write_all(b"GET /file HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await.unwrap();
    let mut call = origin.call().await;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n");
    call.stream.write_all(answer.as_bytes()).await.unwrap();
    let moved = Arc::new(AtomicU64::new(0));
    let sending = tokio::spawn(write(call.stream, BYTES, moved.clone()));

    assert!(head(&mut caller).await.starts_with("HTTP/1.1 200"));
    read(&mut caller, 0, STOP).await;
    let sent = stands_still(&moved).await;
    let begun = Instant::now();
    read(&mut caller, STOP, BYTES).await;
    println!("the caller stopped after {STOP} bytes: upstream had sent {sent}");
    tell("the rest", BYTES - STOP, begun, &gateway);
    assert!(sent < STOP + ahead() && ahead() < BYTES / 2);
    // Nothing but the caller had held it up.
    assert_eq!(moved.load(Ordering::Relaxed), BYTES);
    sending.abort();
}

#[tokio::test]
async fn an_upstream_that_reads_slowly_slows_the_caller_down() {
    let origin = Origin::open();
    let house = Plan { origin: Some(origin.address()), ..Plan::default() }.build().await;
    let gateway = house.start().await;
    let (answer, mut caller) =
        small_socket().connect(gateway.address()).await.unwrap().into_split();
    let request =
        format!("POST /file HTTP/1.1\r\nhost: localhost\r\ncontent-length: {BYTES}\r\n\r\n");
    caller.write_all(request.as_bytes()).await.unwrap();
    let moved = Arc::new(AtomicU64::new(0));
    let sending = tokio::spawn(write(caller, BYTES, moved.clone()));

    let mut call = origin.call().await;
    assert!(
        call.head.to_lowercase().contains(&format!("content-length: {BYTES}")),
        "{}",
        call.head
    );
    read(&mut call.stream, 0, STOP).await;
    let sent = stands_still(&moved).await;
    let begun = Instant::now();
    read(&mut call.stream, STOP, BYTES).await;
    println!("upstream stopped after {STOP} bytes: the caller had sent {sent}");
    tell("the rest", BYTES - STOP, begun, &gateway);
    assert!(sent < STOP + ahead() && ahead() < BYTES / 2);
    call.stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let mut line = String::new();
    soon(BufReader::new(answer).read_line(&mut line)).await.unwrap();
    assert!(line.starts_with("HTTP/1.1 201"), "{line}");
    sending.abort();
}

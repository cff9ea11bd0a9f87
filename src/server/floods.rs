//! Tests: what an h2 peer may throw at its connection, and what comes of it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::server::ServerSettings;
use crate::server::testing::{echo, on_a_free_port, pipe, queue};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// GET http://x/
const HEAD: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'x'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A connection that has begun, and has had one request where `asked`.
async fn begin(caller: DuplexStream, asked: bool) -> (Acknowledging, WriteHalf<DuplexStream>) {
    let (reads, mut writes) = tokio::io::split(caller);
    writes.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    writes.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    if asked {
        let flags = END_HEADERS | END_STREAM;
        writes.write_all(&frame(HEADERS, flags, 1, HEAD)).await.unwrap();
    }
    (Acknowledging(reads), writes)
}

/// Reads whatever comes.
struct Acknowledging(ReadHalf<DuplexStream>);

impl Acknowledging {
    async fn read_on(&mut self) {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(1..) = self.0.read(&mut bytes).await {}
    }
}

fn settings() -> ServerSettings {
    let mut settings = on_a_free_port();
    settings.header_timeout = Duration::from_secs(10);
    // Within the time after which hyper asks for a sign of life.
    settings.idle_timeout = Duration::from_secs(25);
    settings
}

/// Sends a frame each second; how many seconds the connection lives.
async fn drip(asked: bool, first: &[u8], frame: &[u8]) -> u64 {
    let (caller, done) = pipe(settings(), echo, CancellationToken::new());
    let began = Instant::now();
    let (mut reads, mut writes) = begin(caller, asked).await;
    writes.write_all(first).await.unwrap();
    let dripping = async {
        while writes.write_all(frame).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    };
    let ended = async { tokio::join!(reads.read_on(), done).1.unwrap() };
    tokio::select! {
        () = dripping => unreachable!(),
        ended = timeout(Duration::from_secs(3600), ended) => ended.unwrap(),
    }
    began.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_no_request_keep_no_connection_alive() {
    let window = 1_u32.to_be_bytes();
    let open = frame(HEADERS, END_STREAM, 3, &HEAD[..3]);
    for (name, first, each) in [
        ("pings", vec![], frame(PING, 0, 0, &[0; 8])),
        ("settings", vec![], frame(SETTINGS, 0, 0, &[])),
        ("priorities", vec![], frame(PRIORITY, 0, 5, &[0, 0, 0, 0, 1])),
        ("window updates", vec![], frame(WINDOW_UPDATE, 0, 0, &window)),
        ("unknown frames", vec![], frame(0x77, 0, 0, b"x")),
        ("a frame that never ends", frame(PING, 0, 0, &[0; 8])[..9].to_vec(), vec![]),
        // `accept-encoding: gzip, deflate` again and again.
        ("a header block that never ends", open, frame(CONTINUATION, 0, 3, &[0x90])),
    ] {
        // h2 itself ends a header block after a few frames, however slowly they come.
        let few = name == "a header block that never ends";
        let lives = drip(false, &first, &each).await;
        assert!(lives == 10 || few && lives < 10, "{name}, before the first request: {lives} s");
        // Idle for 25 s, then told (GOAWAY), and cut off where it does not answer that.
        let lives = drip(true, &first, &each).await;
        let idle = (25..=35).contains(&lives);
        assert!(idle || few && lives < 25, "{name}, after a request: {lives} s");
    }
}

/// Sends frames as fast as they are taken, reading whatever comes. Whether the connection was
/// ended for it.
async fn flood(frames: impl Iterator<Item = Vec<u8>>) -> bool {
    let (answer, _events) = queue(0);
    let (caller, done) = pipe(settings(), answer, CancellationToken::new());
    let (mut reads, mut writes) = begin(caller, false).await;
    let mut frames = frames.peekable();
    let flooding = async {
        while frames.peek().is_some() {
            let some: Vec<u8> = frames.by_ref().take(1000).flatten().collect();
            if writes.write_all(&some).await.is_err() {
                return;
            }
        }
        // What was sent is looked at before this sleep ends.
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    tokio::select! {
        biased;
        () = flooding => done.is_finished(),
        () = reads.read_on() => true,
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_taken_back_at_once_end_the_connection() {
    let pairs = (0..20_000).map(|n| {
        let stream = 2 * n + 1;
        let mut pair = frame(HEADERS, END_HEADERS | END_STREAM, stream, HEAD);
        pair.extend(frame(RESET, 0, stream, &[0, 0, 0, 8]));
        pair
    });
    assert!(flood(pairs).await);
}

#[tokio::test(start_paused = true)]
async fn a_header_block_without_end_ends_the_connection() {
    let first = std::iter::once(frame(HEADERS, 0, 1, HEAD));
    // A field again and again, and frames that have nothing in them.
    for payload in [vec![0x84; 1024], vec![]] {
        let more = (0..20_000).map(move |_| frame(CONTINUATION, 0, 1, &payload));
        assert!(flood(first.clone().chain(more)).await);
    }
}

#[tokio::test(start_paused = true)]
async fn empty_pieces_of_a_body_that_nobody_reads_end_the_connection() {
    let upload = std::iter::once(frame(HEADERS, END_HEADERS, 1, HEAD));
    assert!(flood(upload.chain((0..20_000).map(|_| frame(DATA, 0, 1, &[])))).await);
}

#[tokio::test(start_paused = true)]
async fn a_window_that_overflows_ends_the_connection() {
    let most = 0x7fff_ffff_u32.to_be_bytes();
    assert!(flood((0..2).map(|_| frame(WINDOW_UPDATE, 0, 0, &most))).await);
}

/// These are answered, or passed over, one by one; nothing of them is kept.
#[tokio::test(start_paused = true)]
async fn what_is_only_noise_is_passed_over() {
    let upload = std::iter::once(frame(HEADERS, END_HEADERS, 1, HEAD));
    let noise: [(&str, Vec<u8>); 4] = [
        ("pings", frame(PING, 0, 0, &[0; 8])),
        ("acknowledgements", frame(PING, ACK, 0, &[0; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("priorities", frame(PRIORITY, 0, 5, &[0, 0, 0, 0, 1])),
    ];
    for (name, each) in noise {
        let ended = flood(upload.clone().chain((0..20_000).map(|_| each.clone()))).await;
        assert!(!ended, "{name}");
    }
}

/// A peer that floods and never reads cannot make answers pile up.
#[tokio::test(start_paused = true)]
async fn pings_whose_answers_are_not_read_stop_being_read() {
    let (caller, done) = pipe(settings(), echo, CancellationToken::new());
    let (_unread, mut writes) = begin(caller, true).await;
    let began = Instant::now();
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(1000);
    let mut taken = 0;
    while writes.write_all(&pings).await.is_ok() {
        taken += pings.len();
        // A pipe each way, and what h2 reads and writes at a time.
        assert!(taken < 1024 * 1024, "{taken}");
    }
    done.await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(35), "{:?}", began.elapsed());
}

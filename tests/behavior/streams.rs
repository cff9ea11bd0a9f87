//! Bodies that come bit by bit: nothing is held back, and nothing ends before its time.
//!
//! The test plays Omni by hand, byte by byte. In virtual time what is not held back arrives in the
//! very instant in which it was sent.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use omnigate::net::{Dial, PipeEnd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Caller, House, Plan, SECOND, key};

/// Every kind of call whose answer comes bit by bit.
const KINDS: [(&str, &str, &str); 7] = [
    ("POST", "/api/v1/query/run", "text/ndjson"),
    ("GET", "/api/v1/query/wait?job_ids=%5B%22a%22%5D", "text/ndjson"),
    ("GET", "/api/v1/dashboards/d/download/j", "application/pdf"),
    ("GET", "/api/v1/ai/jobs/j/result", "text/csv"),
    ("POST", "/mcp/https", "text/event-stream"),
    ("GET", "/mcp/https", "text/event-stream"),
    // Nobody has told us that this one streams.
    ("GET", "/api/v1/some/day", "application/json"),
];

const CHUNKED: &str = "transfer-encoding: chunked";

/// The gateway, and an Omni that does what the test says.
struct Scene {
    house: House,
    far: UnboundedReceiver<PipeEnd>,
    /// Keep the h2 connections of calls open, so that a call which is given up is a stream's end alone.
    open: Vec<Caller>,
}

/// One connection at Omni, with a request on it.
struct Omni {
    pipe: PipeEnd,
    head: String,
    /// What came behind the head so far.
    body: Vec<u8>,
}

async fn scene(route: &str) -> Scene {
    let (dial, far) = Dial::pipe();
    let (route, by_hand) = (route.to_owned(), Some(dial));
    let budget = "profile = \"burst\"".to_owned();
    let house = Plan { route, by_hand, budget, ..Plan::default() }.build().await;
    Scene { house, far, open: Vec::new() }
}

fn request(h2: bool, method: &str, path: &str, body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method);
    let request = match h2 {
        true => request.uri(format!("http://127.0.0.1:6664{path}")),
        false => request.uri(path).header(HOST, "127.0.0.1:6664"),
    };
    let request =
        if body.is_empty() { request } else { request.header(CONTENT_TYPE, "application/json") };
    request.body(Full::from(body)).unwrap()
}

impl Scene {
    /// Sends a call, and gives what becomes of it once Omni has it.
    async fn call(&mut self, h2: bool, method: &str, path: &str) -> (Answering, Omni) {
        let mut caller = match h2 {
            true => self.house.h2_caller().await,
            false => self.house.caller().await,
        };
        if h2 {
            self.open.push(caller.another());
        }
        let body = if method == "POST" { "{}" } else { "" };
        let request = request(h2, method, path, body);
        let call = tokio::spawn(async move { caller.send(request).await });
        (call, self.omni().await)
    }

    async fn omni(&mut self) -> Omni {
        let pipe = timeout(60 * SECOND, self.far.recv()).await.unwrap().unwrap();
        let mut omni = Omni { pipe, head: String::new(), body: Vec::new() };
        omni.next().await;
        omni
    }
}

impl Omni {
    /// Reads the next head.
    async fn next(&mut self) {
        let mut bytes = std::mem::take(&mut self.body);
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            assert_ne!(self.pipe.read_buf(&mut bytes).await.unwrap(), 0, "the gateway left");
        };
        self.body = bytes.split_off(end);
        self.head = String::from_utf8(bytes).unwrap().to_ascii_lowercase();
    }

    async fn says(&mut self, text: impl AsRef<[u8]>) {
        self.pipe.write_all(text.as_ref()).await.unwrap();
    }

    async fn answers(&mut self, status: &str, fields: &[&str]) {
        self.says(format!("HTTP/1.1 {status}\r\n{}\r\n\r\n", fields.join("\r\n"))).await;
    }

    async fn chunk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let framed = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        self.says(framed).await;
    }

    /// Reads on until the body ends like this.
    async fn body_to(&mut self, end: &str) {
        while !self.body.ends_with(end.as_bytes()) {
            assert_ne!(self.pipe.read_buf(&mut self.body).await.unwrap(), 0, "the gateway left");
        }
    }

    /// Waits until the gateway closes the connection.
    async fn is_left(&mut self) {
        let mut rest = Vec::new();
        let _ = timeout(SECOND, self.pipe.read_to_end(&mut rest)).await.unwrap();
    }
}

/// Reads this of an answer, which is there by now, in however many frames.
async fn reads(answer: &mut Response<Incoming>, wanted: impl AsRef<[u8]>) {
    let (wanted, began, mut read) = (wanted.as_ref(), Instant::now(), Vec::new());
    while read.len() < wanted.len() {
        read.extend(next(answer).await.unwrap());
    }
    assert!(read == wanted, "{:?}", String::from_utf8_lossy(&read));
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "{:?} was held back",
        String::from_utf8_lossy(wanted)
    );
}

/// The next bytes of an answer; `None` at its end. Over h2 an empty frame may bring the end.
async fn next(answer: &mut Response<Incoming>) -> Option<Bytes> {
    loop {
        let bytes = answer.body_mut().frame().await?.unwrap().into_data().unwrap();
        if !bytes.is_empty() {
            return Some(bytes);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_piece_of_every_kind_arrives_in_the_instant_in_which_it_was_sent() {
    for (method, path, media) in KINDS {
        for (h2, framing) in [
            (false, CHUNKED),
            (true, CHUNKED),
            (false, "content-length: 30"),
            (true, "content-length: 30"),
        ] {
            let mut scene = scene("").await;
            let (call, mut omni) = scene.call(h2, method, path).await;
            sleep(3 * SECOND).await;
            omni.answers("200 OK", &[&format!("content-type: {media}"), framing]).await;
            let sent = Instant::now();
            let mut answer = call.await.unwrap().unwrap();
            assert_eq!(sent.elapsed(), Duration::ZERO, "{method} {path} {h2}");
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["content-type"], media);
            for piece in ["data: one\n", "data: two\n", "data: six\n"] {
                sleep(SECOND / 50).await;
                match framing {
                    CHUNKED => omni.chunk(piece).await,
                    _ => omni.says(piece).await,
                }
                reads(&mut answer, piece).await;
            }
            if framing == CHUNKED {
                omni.says("0\r\n\r\n").await;
            }
            assert!(next(&mut answer).await.is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_may_be_the_beginning_of_the_key_waits_for_what_follows() {
    let token = key().token().to_owned();
    let mut scene = scene("").await;
    let (call, mut omni) = scene.call(false, "GET", "/mcp/https").await;
    omni.answers("200 OK", &["content-type: text/event-stream", CHUNKED]).await;
    let mut answer = call.await.unwrap().unwrap();
    let event = format!("data: {}\n\n", &token[..20]);
    omni.chunk(&event).await;
    reads(&mut answer, &event).await;
    omni.chunk(format!("data: {}", &token[..9])).await;
    assert_eq!(next(&mut answer).await.unwrap(), "data: ");
    assert!(timeout(SECOND, next(&mut answer)).await.is_err());
    omni.chunk("x\n\n").await;
    let sent = Instant::now();
    let mut rest = Vec::new();
    while !rest.ends_with(b"\n\n") {
        rest.extend(next(&mut answer).await.unwrap());
    }
    assert_eq!((rest, sent.elapsed()), (format!("{}x\n\n", &token[..9]).into(), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_of_half_a_minute_lives_and_so_does_one_that_is_silent_in_its_middle() {
    for h2 in [false, true] {
        let mut scene = scene("").await;
        let began = Instant::now();
        let (call, mut omni) = scene.call(h2, "GET", "/api/v1/query/wait?job_ids=a").await;
        sleep(30 * SECOND).await;
        omni.answers("200 OK", &["content-type: text/ndjson", CHUNKED]).await;
        let mut answer = call.await.unwrap().unwrap();
        assert_eq!(began.elapsed(), 30 * SECOND);
        // Just short of `idle_timeout`, and longer than all that callers are given.
        for _ in 0..3 {
            sleep(89 * SECOND).await;
            omni.chunk("{}\n").await;
            reads(&mut answer, "{}\n").await;
        }
        assert_eq!(began.elapsed(), 297 * SECOND);
        // An upstream that says nothing for longer is gone, and its answer is not whole.
        let broken = answer.body_mut().frame().await.unwrap();
        assert!(broken.is_err());
        assert_eq!(began.elapsed(), 387 * SECOND);
        omni.is_left().await;
    }
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_events_come_each_at_its_time() {
    for h2 in [false, true] {
        let mut scene = scene("").await;
        let (call, mut omni) = scene.call(h2, "GET", "/mcp/https").await;
        omni.answers("200 OK", &["content-type: text/event-stream", CHUNKED]).await;
        let mut answer = call.await.unwrap().unwrap();
        let began = Instant::now();
        for beat in 1..=40 {
            sleep(15 * SECOND).await;
            omni.chunk(": still here\n\n").await;
            reads(&mut answer, ": still here\n\n").await;
            assert_eq!(began.elapsed(), beat * 15 * SECOND);
        }
        omni.says("0\r\n\r\n").await;
        assert!(next(&mut answer).await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn omni_sees_at_once_that_a_caller_left() {
    for (method, path, media) in KINDS {
        for h2 in [false, true] {
            let mut scene = scene("").await;
            // While it waits for the head.
            let (call, mut omni) = scene.call(h2, method, path).await;
            call.abort();
            let left = Instant::now();
            omni.is_left().await;
            assert_eq!(left.elapsed(), Duration::ZERO, "{method} {path} {h2}");
            // In the middle of the answer.
            let (call, mut omni) = scene.call(h2, method, path).await;
            omni.answers("200 OK", &[&format!("content-type: {media}"), CHUNKED]).await;
            omni.chunk("data: 1\n").await;
            let mut answer = call.await.unwrap().unwrap();
            assert!(next(&mut answer).await.is_some());
            sleep(SECOND).await;
            drop(answer);
            let left = Instant::now();
            omni.is_left().await;
            assert_eq!(left.elapsed(), Duration::ZERO, "{method} {path} {h2}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_flows_while_it_is_being_sent() {
    let mut scene = scene("").await;
    let mut caller = scene.house.connect();
    let head = "POST /api/v1/uploads HTTP/1.1\r\nhost: 127.0.0.1:6664\r\n\
        content-type: multipart/form-data; boundary=b\r\ntransfer-encoding: chunked\r\n\r\n";
    caller.write_all(head.as_bytes()).await.unwrap();
    let mut omni = scene.omni().await;
    assert!(omni.head.starts_with("post /api/v1/uploads "), "{}", omni.head);
    // Not so slowly that it is too slow.
    for piece in ["first", "second", "third"] {
        sleep(5 * SECOND).await;
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        let sent = Instant::now();
        caller.write_all(chunk.as_bytes()).await.unwrap();
        omni.body_to(&chunk).await;
        assert_eq!(sent.elapsed(), Duration::ZERO, "{piece}");
    }
    caller.write_all(b"0\r\n\r\n").await.unwrap();
    omni.body_to("0\r\n\r\n").await;
    omni.answers("201 Created", &["content-length: 2"]).await;
    omni.says("{}").await;
    let mut answer = vec![0; 4096];
    let count = caller.read(&mut answer).await.unwrap();
    assert!(answer[..count].starts_with(b"HTTP/1.1 201 Created"));
}

type Feed = UnboundedSender<Frame<Bytes>>;
type Answering = JoinHandle<hyper::Result<Response<Incoming>>>;

/// An h2 call whose body the test sends bit by bit, on a connection that outlives it.
async fn h2_upload(scene: &Scene) -> (Feed, Answering) {
    let (feed, pieces) = unbounded_channel::<Frame<Bytes>>();
    let pieces = stream::unfold(pieces, |mut pieces| async {
        pieces.recv().await.map(|piece| (piece, pieces))
    });
    let body = StreamBody::new(Box::pin(pieces.map(Ok::<_, std::io::Error>)));
    let io = TokioIo::new(scene.house.connect());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let open = sender.clone();
    tokio::spawn(async move {
        let _open = open;
        connection.await
    });
    let request = Request::post("http://127.0.0.1:6664/api/v1/uploads");
    let request = request.header("content-type", "multipart/form-data; boundary=b");
    let request = request.body(body).unwrap();
    (feed, tokio::spawn(async move { sender.send_request(request).await }))
}

#[tokio::test(start_paused = true)]
async fn an_h2_upload_flows_too_and_a_caller_who_leaves_in_it_is_seen_to() {
    let mut scene = scene("").await;
    for ends in [true, false] {
        let (feed, call) = h2_upload(&scene).await;
        let mut omni = scene.omni().await;
        for piece in ["first", "second"] {
            sleep(5 * SECOND).await;
            let sent = Instant::now();
            feed.send(Frame::data(piece.into())).unwrap();
            omni.body_to(&format!("{piece}\r\n")).await;
            assert_eq!(sent.elapsed(), Duration::ZERO, "{piece}");
        }
        if ends {
            drop(feed);
            omni.body_to("0\r\n\r\n").await;
            omni.answers("204 No Content", &["x: y"]).await;
            assert_eq!(call.await.unwrap().unwrap().status(), 204);
        } else {
            call.abort();
            omni.is_left().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_uploaded_is_kept_to_be_sent_again_up_to_the_replay_limit() {
    for (size, again) in [(1000, true), (200_000, false)] {
        let mut scene = scene("").await;
        // The limit is 1 MiB: a piece of 8 such bodies goes beyond it.
        let (feed, call) = h2_upload(&scene).await;
        let mut omni = scene.omni().await;
        for _ in 0..8 {
            feed.send(Frame::data(vec![b'x'; size].into())).unwrap();
        }
        drop(feed);
        omni.body_to("0\r\n\r\n").await;
        omni.answers("429 Too Many Requests", &["retry-after: 1", "content-length: 0"]).await;
        if !again {
            let answer = call.await.unwrap().unwrap();
            assert_eq!(answer.status(), 503);
            assert!(answer.headers().contains_key("retry-after"));
            continue;
        }
        // The upload was over when it was refused, so the connection is as good as before.
        let first = std::mem::take(&mut omni.body);
        omni.next().await;
        // Now its length is known.
        assert!(omni.head.contains(&format!("content-length: {}\r\n", 8 * size)), "{}", omni.head);
        omni.body_to(&"x".repeat(8 * size)).await;
        let count = |body: &[u8]| body.iter().filter(|byte| **byte == b'x').count();
        assert_eq!((count(&first), count(&omni.body)), (8 * size, 8 * size));
        omni.answers("204 No Content", &["x: y"]).await;
        assert_eq!(call.await.unwrap().unwrap().status(), 204);
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_whether_to_go_on_is_told_so_by_us_and_omni_is_not_asked() {
    let mut scene = scene("").await;
    let mut caller = scene.house.connect();
    let head = "POST /api/v1/uploads HTTP/1.1\r\nhost: 127.0.0.1:6664\r\nexpect: 100-continue\r\n\
        content-type: multipart/form-data; boundary=b\r\ncontent-length: 5\r\n\r\n";
    caller.write_all(head.as_bytes()).await.unwrap();
    let mut told = Vec::new();
    while !told.ends_with(b"\r\n\r\n") {
        caller.read_buf(&mut told).await.unwrap();
    }
    assert!(told.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&told));
    caller.write_all(b"hello").await.unwrap();
    let mut omni = scene.omni().await;
    omni.body_to("hello").await;
    assert!(!omni.head.contains("expect"), "{}", omni.head);
    omni.answers("204 No Content", &["x: y"]).await;
    told.clear();
    caller.read_buf(&mut told).await.unwrap();
    assert!(told.starts_with(b"HTTP/1.1 204 "));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_before_the_upload_ended_is_passed_on_at_once() {
    let mut scene = scene("").await;
    let (feed, call) = h2_upload(&scene).await;
    let mut omni = scene.omni().await;
    feed.send(Frame::data("beginning".into())).unwrap();
    omni.body_to("beginning\r\n").await;
    omni.answers("413 Payload Too Large", &["content-length: 3"]).await;
    let sent = Instant::now();
    omni.says("no\n").await;
    let mut answer = call.await.unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), sent.elapsed()), (413, Duration::ZERO));
    reads(&mut answer, "no\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_does_not_read_slows_omni_down_and_little_is_held_for_it() {
    const PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];
    for h2 in [false, true] {
        let mut scene = scene("").await;
        let path = "/api/v1/dashboards/d/download/j";
        let (call, mut omni) = scene.call(h2, "GET", path).await;
        let all = 640 * PIECE.len();
        let length = format!("content-length: {all}");
        omni.answers("200 OK", &["content-type: application/pdf", &length]).await;
        let mut answer = call.await.unwrap().unwrap();
        let mut sent = 0;
        while sent < 640 && timeout(SECOND, omni.says(&PIECE)).await.is_ok() {
            sent += 1;
        }
        // hyper's h2 client takes 2 MiB for itself before anybody reads.
        let taken = if h2 { 2 * 1024 } else { 0 };
        let held = (sent * PIECE.len() / 1024).saturating_sub(taken);
        println!("h2: {h2}, held on the way: {held} KiB");
        assert!(held < 512, "h2: {h2}, {held} KiB");
        // `says` was cut off somewhere in a piece, which all look alike.
        let mut read = 0;
        let more = tokio::spawn(async move { while omni.pipe.write_all(&PIECE).await.is_ok() {} });
        while let Some(bytes) = next(&mut answer).await {
            read += bytes.len();
        }
        assert_eq!(read, all);
        more.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_omni_cuts_is_cut_for_the_caller() {
    for (method, path, media) in KINDS {
        for (h2, framing) in [
            (false, CHUNKED),
            (true, CHUNKED),
            (false, "content-length: 99"),
            (true, "content-length: 99"),
        ] {
            let mut scene = scene("").await;
            let (call, mut omni) = scene.call(h2, method, path).await;
            omni.answers("200 OK", &[&format!("content-type: {media}"), framing]).await;
            match framing {
                CHUNKED => omni.chunk("data: 1\n").await,
                _ => omni.says("data: 1\n").await,
            }
            let mut answer = call.await.unwrap().unwrap();
            reads(&mut answer, "data: 1\n").await;
            drop(omni);
            let end = answer.body_mut().frame().await;
            assert!(end.is_some_and(|end| end.is_err()), "{method} {path} {h2} {framing}");
            // Nothing of a stream is asked for a second time.
            assert!(scene.far.try_recv().is_err());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_compressed_stream_passes_untouched() {
    // What looks like the key in it is none.
    let token = key().token().to_owned();
    let pieces =
        [b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec(), token.clone().into_bytes(), vec![0xFF; 9]];
    for h2 in [false, true] {
        let mut scene = scene("").await;
        let mut caller = match h2 {
            true => scene.house.h2_caller().await,
            false => scene.house.caller().await,
        };
        let mut request = request(h2, "POST", "/api/v1/query/run", "{}");
        request.headers_mut().insert("accept-encoding", "gzip, br".parse().unwrap());
        let call = tokio::spawn(async move { caller.send(request).await });
        let mut omni = scene.omni().await;
        assert!(omni.head.contains("accept-encoding: gzip, br\r\n"), "{}", omni.head);
        let fields = ["content-type: text/ndjson", "content-encoding: gzip", CHUNKED];
        omni.answers("200 OK", &fields).await;
        let mut answer = call.await.unwrap().unwrap();
        assert_eq!(answer.headers()["content-encoding"], "gzip");
        for piece in &pieces {
            sleep(SECOND).await;
            omni.chunk(piece).await;
            reads(&mut answer, piece).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_body_end_with_their_head_and_the_connection_goes_on() {
    for h2 in [false, true] {
        let mut scene = scene("").await;
        let mut caller = match h2 {
            true => scene.house.h2_caller().await,
            false => scene.house.caller().await,
        };
        let mut omni = None;
        for (method, path, status, fields) in [
            ("HEAD", "/api/v1/dashboards/d/download/j", "200 OK", "content-length: 123"),
            ("DELETE", "/mcp/https", "204 No Content", "mcp-session-id: s"),
            ("GET", "/api/v1/ai/jobs/j/result", "304 Not Modified", "etag: \"x\""),
            ("POST", "/mcp/https", "202 Accepted", "content-length: 0"),
        ] {
            let body = if method == "POST" { "{}" } else { "" };
            let call = caller.send(request(h2, method, path, body));
            let play = async {
                match &mut omni {
                    None => omni = Some(scene.omni().await),
                    // The same connection.
                    Some(omni) => omni.next().await,
                }
                let omni = omni.as_mut().unwrap();
                omni.answers(status, &[fields]).await;
                if method == "POST" {
                    omni.body_to("{}").await;
                    omni.body.clear();
                }
            };
            let began = Instant::now();
            let (answer, ()) = tokio::join!(call, play);
            let mut answer = answer.unwrap();
            assert_eq!(answer.status().as_str(), &status[..3]);
            let (name, value) = fields.split_once(": ").unwrap();
            assert_eq!(answer.headers()[name], value, "{method} {h2}");
            assert!(next(&mut answer).await.is_none());
            assert_eq!(began.elapsed(), Duration::ZERO, "{method} {path} {h2}");
        }
    }
}

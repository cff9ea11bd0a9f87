//! Upstream written by hand, byte for byte, at the far end of a pipe.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_LENGTH;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::net::{PipeEnd, TlsRoots};

const SECOND: Duration = Duration::from_secs(1);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

type FarEnds = mpsc::UnboundedReceiver<PipeEnd>;
type Piece = Result<Frame<Bytes>, BoxError>;

/// This side of the pipes.
struct Near {
    upstream: Upstream,
    charged: Arc<AtomicUsize>,
}

fn pair() -> (Near, FarEnds) {
    let (dial, far_ends) = Dial::pipe();
    let settings = UpstreamSettings {
        origin: Origin::parse("http://127.0.0.1:9").unwrap(),
        roots: TlsRoots::System,
        connect_timeout: 5 * SECOND,
        response_timeout: 120 * SECOND,
        idle_timeout: 90 * SECOND,
    };
    (Near { upstream: Upstream::over(dial, settings), charged: Arc::default() }, far_ends)
}

impl Near {
    /// Leave as a permit gives it; used leave is counted.
    fn leave(&self) -> Leave {
        let charged = self.charged.clone();
        let expires = Instant::now() + Duration::from_millis(100);
        Leave::new(Some(expires), move || {
            charged.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn charged(&self) -> usize {
        self.charged.load(Ordering::Relaxed)
    }

    async fn send_within(
        &self,
        request: Request<Body>,
        response_timeout: Duration,
    ) -> Result<Response<Body>, SendError> {
        let connection = self.upstream.check_out().await.unwrap();
        self.upstream.send(connection, request, self.leave(), Some(response_timeout)).await
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, SendError> {
        self.send_within(request, 120 * SECOND).await
    }
}

fn get() -> Request<Body> {
    Request::get("/a").body(Body::empty()).unwrap()
}

/// A body whose pieces come when the test sends them, and which does not know its end before.
fn fed() -> (mpsc::UnboundedSender<Piece>, Body) {
    let (feed, mut pieces) = mpsc::unbounded_channel();
    let stream = futures_util::stream::poll_fn(move |cx| pieces.poll_recv(cx));
    (feed, Body::boxed(StreamBody::new(stream)))
}

fn piece(text: &'static str) -> Piece {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// Reads up to and with `end`.
async fn read_to(far: &mut PipeEnd, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        read.push(far.read_u8().await.unwrap());
    }
    String::from_utf8(read).unwrap()
}

/// Answers each request without a body by the next of `answers`, on the first connection.
fn answer(mut far_ends: FarEnds, answers: Vec<&'static [u8]>) -> JoinHandle<(PipeEnd, FarEnds)> {
    tokio::spawn(async move {
        let mut far = far_ends.recv().await.unwrap();
        for answer in answers {
            read_to(&mut far, "\r\n\r\n").await;
            far.write_all(answer).await.unwrap();
        }
        (far, far_ends)
    })
}

async fn read(response: Result<Response<Body>, SendError>) -> Bytes {
    response.unwrap().into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_after_a_whole_exchange() {
    let (near, far_ends) = pair();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n";
    let none = b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n";
    let early = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    let to_head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    let far = answer(far_ends, vec![OK, chunked, none, early, to_head, OK]);
    for body in ["ok", "ok", "", ""] {
        assert_eq!(read(near.send(get()).await).await, body);
    }
    let head = Request::builder().method(Method::HEAD).uri("/a").body(Body::empty()).unwrap();
    let response = near.send(head).await;
    assert_eq!(response.as_ref().unwrap().headers()[CONTENT_LENGTH], "5");
    assert_eq!(read(response).await, "");
    assert_eq!(read(near.send(get()).await).await, "ok");
    let (_far, mut far_ends) = far.await.unwrap();
    assert!(far_ends.try_recv().is_err(), "a second connection was opened");
    assert_eq!(near.charged(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_half_an_answer_is_closed() {
    let (near, mut far_ends) = pair();
    let response = near.send(get());
    let serve = async {
        let mut far = far_ends.recv().await.unwrap();
        read_to(&mut far, "\r\n\r\n").await;
        far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
        far
    };
    let (response, mut far) = tokio::join!(response, serve);
    drop(response.unwrap());
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_an_error_and_never_an_end() {
    for cut in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    ] {
        let (near, mut far_ends) = pair();
        let serve = async {
            let mut far = far_ends.recv().await.unwrap();
            read_to(&mut far, "\r\n\r\n").await;
            far.write_all(cut.as_bytes()).await.unwrap();
        };
        let (response, ()) = tokio::join!(near.send(get()), serve);
        let body = response.unwrap().into_body().collect().await;
        assert!(body.is_err(), "{cut:?} passed as whole");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_upstream_closed_costs_nothing() {
    let (near, mut far_ends) = pair();
    let connection = near.upstream.check_out().await.unwrap();
    drop(far_ends.recv().await.unwrap());
    let (_feed, body) = fed();
    let request = Request::post("/a").body(body).unwrap();
    let sent = near.upstream.send(connection, request, near.leave(), None).await;
    assert!(matches!(sent, Err(SendError::NotBegun)), "{sent:?}");
    assert_eq!(near.charged(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_after_the_head_is_charged() {
    let (near, mut far_ends) = pair();
    let serve = async {
        let mut far = far_ends.recv().await.unwrap();
        read_to(&mut far, "\r\n\r\n").await;
    };
    let (sent, ()) = tokio::join!(near.send(get()), serve);
    assert!(matches!(sent, Err(SendError::Broken(_))), "{sent:?}");
    assert_eq!(near.charged(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_before_its_head_was_written_costs_nothing_and_says_why() {
    let (near, _far_ends) = pair();
    let (feed, body) = fed();
    feed.send(Err("too large".into())).unwrap();
    let sent = near.send(Request::post("/a").body(body).unwrap()).await;
    let Err(SendError::Upload(cause)) = sent else { panic!("{sent:?}") };
    assert_eq!(cause.to_string(), "too large");
    assert_eq!(near.charged(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_before_its_head_gives_leave_back_at_once() {
    struct Held(Arc<AtomicUsize>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (near, _far_ends) = pair();
    let returned = Arc::new(AtomicUsize::new(0));
    let held = Held(returned.clone());
    let connection = near.upstream.check_out().await.unwrap();
    let leave = Leave::new(None, move || drop(held));
    {
        // Polled once: the head is with hyper, whose task has not run.
        let send = std::pin::pin!(near.upstream.send(connection, get(), leave, None));
        assert!(futures_util::FutureExt::now_or_never(send).is_none());
        assert_eq!(returned.load(Ordering::Relaxed), 0);
    }
    assert_eq!(returned.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_body_was_sent_is_passed_on_and_the_connection_closed() {
    let (near, mut far_ends) = pair();
    let (feed, body) = fed();
    feed.send(piece("a")).unwrap();
    let serve = async {
        let mut far = far_ends.recv().await.unwrap();
        read_to(&mut far, "\r\n\r\n").await;
        far.write_all(OK).await.unwrap();
        far
    };
    let (response, mut far) =
        tokio::join!(near.send(Request::post("/a").body(body).unwrap()), serve);
    assert_eq!(read(response).await, "ok");
    // The piece that was on its way, and the end.
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    drop(feed);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_upstream_has_not_taken_yet_does_not_run_into_the_next_request() {
    let (near, mut far_ends) = pair();
    // More than the pipe holds; the answer comes before it is read.
    let body = Body::full(vec![b'x'; 200 * 1024]);
    let serve = async {
        let mut far = far_ends.recv().await.unwrap();
        read_to(&mut far, "\r\n\r\n").await;
        far.write_all(OK).await.unwrap();
        far
    };
    let (response, _far) = tokio::join!(near.send(Request::post("/a").body(body).unwrap()), serve);
    assert_eq!(read(response).await, "ok");
    let next = near.upstream.check_out().await;
    assert!(next.is_ok());
    assert!(far_ends.try_recv().is_ok(), "the connection was lent again");
}

#[tokio::test(start_paused = true)]
async fn an_upload_of_its_declared_length_is_finished_though_its_end_was_not_told() {
    let (near, mut far_ends) = pair();
    let (feed, body) = fed();
    feed.send(piece("four")).unwrap();
    let request = Request::post("/a").header(CONTENT_LENGTH, 4).body(body).unwrap();
    let serve = async {
        let mut far = far_ends.recv().await.unwrap();
        read_to(&mut far, "four").await;
        // Longer than an upload may stand still, shorter than an answer may take.
        sleep(100 * SECOND).await;
        far.write_all(OK).await.unwrap();
        far
    };
    let (response, _far) = tokio::join!(near.send(request), serve);
    assert_eq!(read(response).await, "ok");
    near.upstream.check_out().await.unwrap();
    assert!(far_ends.try_recv().is_err(), "the connection was not lent again");
    drop(feed);
}

#[tokio::test(start_paused = true)]
async fn the_time_to_answer_runs_from_the_last_byte_of_the_body() {
    let (near, mut far_ends) = pair();
    let (feed, body) = fed();
    let request = Request::post("/a").body(body).unwrap();
    let begun = Instant::now();
    let upload = async {
        // A caller who takes his time makes nobody late.
        for _ in 0..3 {
            sleep(100 * SECOND).await;
            feed.send(piece("a")).unwrap();
        }
        drop(feed);
        let mut far = far_ends.recv().await.unwrap();
        read_to(&mut far, "0\r\n\r\n").await;
        far
    };
    let (sent, _far) = tokio::join!(near.send_within(request, 5 * SECOND), upload);
    assert!(matches!(sent, Err(SendError::Timeout { .. })), "{sent:?}");
    assert_eq!(begun.elapsed().as_secs(), 305);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_upstream_does_not_take_ends_after_the_idle_timeout() {
    let (near, mut far_ends) = pair();
    let (feed, body) = fed();
    let big = "x".repeat(64 * 1024);
    for _ in 0..32 {
        feed.send(Ok(Frame::data(Bytes::from(big.clone())))).unwrap();
    }
    let begun = Instant::now();
    let sent = near.send(Request::post("/a").body(body).unwrap()).await;
    assert!(matches!(sent, Err(SendError::Timeout { .. })), "{sent:?}");
    assert_eq!(begun.elapsed().as_secs(), 90);
    assert!(far_ends.recv().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_time_to_answer_also_ends_after_an_upload_that_was_taken_slowly() {
    let (near, mut far_ends) = pair();
    let (feed, body) = fed();
    for _ in 0..16 {
        feed.send(Ok(Frame::data(Bytes::from(vec![b'x'; 64 * 1024])))).unwrap();
    }
    let request = Request::post("/a").header(CONTENT_LENGTH, 1024 * 1024).body(body).unwrap();
    let begun = Instant::now();
    let take = async {
        let mut far = far_ends.recv().await.unwrap();
        sleep(10 * SECOND).await;
        let mut taken = 0;
        let mut buffer = vec![0; 64 * 1024];
        while taken < 1024 * 1024 {
            let n = far.read(&mut buffer).await.unwrap();
            assert!(n > 0, "it was given up after {:?}", begun.elapsed());
            taken += n;
        }
        far
    };
    let (sent, _far) = tokio::join!(near.send_within(request, 5 * SECOND), take);
    assert!(matches!(sent, Err(SendError::Timeout { .. })), "{sent:?}");
    assert!(begun.elapsed() <= 16 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_unasked_switch_of_protocols_is_an_error() {
    let (near, far_ends) = pair();
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let _far = answer(far_ends, vec![switch]);
    let sent = near.send(get()).await;
    assert!(matches!(sent, Err(SendError::Switched)), "{sent:?}");
}

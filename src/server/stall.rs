//! An h2 answer that its caller does not take while the connection goes on.
//!
//! hyper waits for a stream's window for as long as the connection lives. It runs each stream as a
//! task of ours, so the task itself looks at the clock: from when a piece of the body was handed
//! out until the next one is asked for, the caller is waited for. A body that has nothing to give
//! (a long poll, a quiet upstream) is none of the caller's doing, and no time in which the whole
//! connection could not write is counted; that has a clock of its own in `activity`.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::futures::TaskLocalFuture;
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

use crate::server::activity::Activity;

/// hyper hands a piece on as soon as the window has room for one byte, and frames have no more
/// than this.
const PIECE: usize = 16 * 1024;

tokio::task_local! {
    /// Of the stream whose task this is.
    static STREAM: Arc<Taking>;
}

/// How far the caller has come with one stream's answer.
#[derive(Debug)]
pub(super) struct Taking {
    activity: Arc<Activity>,
    offered: Mutex<Option<Offered>>,
}

#[derive(Clone, Copy, Debug)]
struct Offered {
    at: Instant,
    /// How long the connection had been blocked until then.
    blocked: Duration,
}

impl Taking {
    /// That of the stream whose task asks; `None` outside of one.
    pub(super) fn of_this_stream() -> Option<Arc<Self>> {
        STREAM.try_with(Arc::clone).ok()
    }

    /// Bytes are there for the caller.
    pub(super) fn offer(&self) {
        let offered = Offered { at: Instant::now(), blocked: self.activity.blocked() };
        *self.offered() = Some(offered);
    }

    /// The caller has found room for all that was offered.
    pub(super) fn taken(&self) {
        *self.offered() = None;
    }

    fn due(&self) -> Option<Instant> {
        let offered = (*self.offered())?;
        let blocked = self.activity.blocked().saturating_sub(offered.blocked);
        offered.at.checked_add(self.activity.write_timeout())?.checked_add(blocked)
    }

    fn offered(&self) -> MutexGuard<'_, Option<Offered>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts the next piece from `rest`.
///
/// A chunk's last byte goes by itself: hyper asks for it once the window has room for all before
/// it, and hands it on once there is room for it too. So a task does not end before the window has
/// let everything through, and what is left of an answer never lies in h2's buffers for ever.
pub(super) fn piece(rest: &mut Bytes) -> Bytes {
    match rest.len() {
        0 | 1 => std::mem::take(rest),
        length => rest.split_to(PIECE.min(length - 1)),
    }
}

pin_project_lite::pin_project! {
    /// The task of one stream; ends when the caller takes nothing of what is there for it. Dropped
    /// then, the stream is reset.
    pub(super) struct Stream<F> {
        #[pin]
        task: TaskLocalFuture<Arc<Taking>, F>,
        taking: Arc<Taking>,
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future> Stream<F> {
    pub(super) fn new(task: F, activity: &Arc<Activity>) -> Self {
        let activity = Arc::clone(activity);
        let taking = Arc::new(Taking { activity, offered: Mutex::new(None) });
        Self { task: STREAM.scope(Arc::clone(&taking), task), taking, timer: None }
    }
}

impl<F: Future> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let stream = self.project();
        if stream.task.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let Some(due) = stream.taking.due() else { return Poll::Pending };
            let timer = stream.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if timer.deadline() > due {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= due {
                debug!("an h2 stream's answer is not taken, resetting the stream");
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use http::{Request, Response};
    use http_body::Frame;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::base::{Body, BoxError, Peer};
    use crate::server::testing::{get, on_a_free_port, pipe, rest, soon, start, whole};

    const GET: &[u8] = b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    const LARGE: usize = 1024 * 1024;

    /// `/large` is answered with a MiB, `/events` with an event an hour, all else with its path.
    async fn answer(request: Request<Body>, _: Peer) -> Response<Body> {
        Response::new(match request.uri().path() {
            "/large" => Body::full(vec![b'x'; LARGE]),
            "/events" => Body::boxed(Events(Box::pin(tokio::time::sleep(HOUR)), 3)),
            path => Body::full(path.to_owned()),
        })
    }

    const HOUR: Duration = Duration::from_secs(3600);

    /// An event an hour, this many times.
    struct Events(Pin<Box<Sleep>>, u32);

    impl http_body::Body for Events {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            if self.1 == 0 {
                return Poll::Ready(None);
            }
            ready!(self.0.as_mut().poll(cx));
            self.1 -= 1;
            self.0.as_mut().reset(Instant::now() + HOUR);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"event\n")))))
        }
    }

    type Sender = h2::client::SendRequest<Bytes>;

    /// An h2 caller whose streams have this window.
    async fn h2_caller(caller: DuplexStream, window: u32) -> Sender {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(16 * 1024 * 1024);
        let (sender, connection) = builder.handshake(caller).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn ask(sender: &mut Sender, path: &str) -> h2::RecvStream {
        let request = Request::get(format!("http://x{path}")).body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        response.await.unwrap().into_body()
    }

    #[tokio::test(start_paused = true)]
    async fn an_http_1_caller_that_never_reads_is_cut_off_after_the_write_timeout() {
        let (mut caller, done) = pipe(on_a_free_port(), answer, CancellationToken::new());
        caller.write_all(GET).await.unwrap();
        let began = Instant::now();
        done.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 30);
        assert!(rest(&mut caller).await.len() < LARGE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_a_second_is_cut_off_within_a_minute() {
        let (mut caller, done) = pipe(on_a_free_port(), answer, CancellationToken::new());
        caller.write_all(GET).await.unwrap();
        let began = Instant::now();
        let mut done = pin!(done);
        loop {
            tokio::select! {
                _ = &mut done => break,
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    caller.read_u8().await.unwrap();
                }
            }
        }
        let took = began.elapsed().as_secs();
        assert!((30..=61).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn two_hundred_bytes_a_second_are_fast_enough() {
        let (mut caller, done) = pipe(on_a_free_port(), answer, CancellationToken::new());
        caller.write_all(GET).await.unwrap();
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            caller.read_exact(&mut [0; 200]).await.unwrap();
        }
        assert!(!done.is_finished());
        assert!(rest(&mut caller).await.len() > LARGE - 200 * 600);
    }

    #[tokio::test(start_paused = true)]
    async fn an_h2_connection_that_is_not_read_is_cut_off_after_the_write_timeout() {
        let (mut caller, done) = pipe(on_a_free_port(), answer, CancellationToken::new());
        // Windows of 2 GiB, and a GET of /large.
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend_from_slice(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]);
        bytes.extend_from_slice(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0]);
        bytes.extend_from_slice(&[0, 0, 13, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x41, 1, b'x', 0x04, 6]);
        bytes.extend_from_slice(b"/large");
        caller.write_all(&bytes).await.unwrap();
        let began = Instant::now();
        done.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn an_h2_stream_whose_window_stays_shut_is_reset_alone() {
        for window in [0, 1, 10, 65_535] {
            let (caller, done) = pipe(on_a_free_port(), answer, CancellationToken::new());
            let mut sender = h2_caller(caller, window).await;
            let mut stalled = ask(&mut sender, "/large").await;
            let mut events = ask(&mut sender, "/events").await;
            let began = Instant::now();
            // Read, and no room given back.
            let error = loop {
                match stalled.data().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break error,
                    None => panic!("a whole answer through a window of {window}"),
                }
            };
            assert!(error.is_reset() && error.is_remote(), "{error}");
            assert_eq!(began.elapsed().as_secs(), 30, "{window}");
            assert!(!done.is_finished());
            if window > 6 {
                assert_eq!(events.data().await.unwrap().unwrap()[0], b'e');
                let other = ask(&mut sender, "/other").await;
                assert_eq!(whole(other).await.unwrap(), b"/other");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_bytes_of_a_short_answer_may_not_lie_there_for_ever_either() {
        let (caller, _done) = pipe(on_a_free_port(), answer, CancellationToken::new());
        let mut sender = h2_caller(caller, 3).await;
        let mut body = ask(&mut sender, "/short").await;
        let began = Instant::now();
        let mut read = Vec::new();
        let error = loop {
            match body.data().await.unwrap() {
                Ok(data) => read.extend_from_slice(&data),
                Err(error) => break error,
            }
        };
        assert_eq!(read, b"/sh");
        assert!(error.is_reset(), "{error}");
        assert_eq!(began.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn an_h2_stream_that_takes_16_kib_at_a_time_goes_on() {
        let (caller, _done) = pipe(on_a_free_port(), answer, CancellationToken::new());
        let mut sender = h2_caller(caller, 16 * 1024).await;
        let mut body = ask(&mut sender, "/large").await;
        let mut read = 0;
        while let Some(data) = body.data().await {
            let length = data.unwrap().len();
            read += length;
            tokio::time::sleep(Duration::from_secs(20).mul_f64(length as f64 / 16384.0)).await;
            body.flow_control().release_capacity(length).unwrap();
        }
        assert_eq!(read, LARGE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_upstream_is_not_stalled() {
        let (mut caller, _done) = pipe(on_a_free_port(), answer, CancellationToken::new());
        let events = b"GET /events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        caller.write_all(events).await.unwrap();
        assert_eq!(rest(&mut caller).await.matches("event\n").count(), 3);

        let (caller, _done) = pipe(on_a_free_port(), answer, CancellationToken::new());
        let mut sender = h2_caller(caller, 65_535).await;
        let body = ask(&mut sender, "/events").await;
        assert_eq!(whole(body).await.unwrap(), b"event\n".repeat(3));
    }

    /// A caller who asks, takes 64 KiB, and as much again a moment later. As from a kernel, no word
    /// comes of so little room.
    struct Quiet {
        says: &'static [u8],
        taken: usize,
        later: Instant,
    }

    impl tokio::io::AsyncRead for Quiet {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            if self.says.is_empty() {
                return Poll::Pending;
            }
            let (now, later) = self.says.split_at(self.says.len().min(buf.remaining()));
            buf.put_slice(now);
            self.says = later;
            Poll::Ready(Ok(()))
        }
    }

    impl tokio::io::AsyncWrite for Quiet {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            let room = if Instant::now() < self.later { 64 * 1024 } else { 128 * 1024 };
            let fits = buf.len().min(room - self.taken);
            self.taken += fits;
            if fits == 0 { Poll::Pending } else { Poll::Ready(Ok(fits)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_at_first_does_not_count_at_the_end_of_the_write_timeout() {
        let begun = Instant::now();
        let caller = Quiet { says: GET, taken: 0, later: begun + Duration::from_millis(500) };
        let server = crate::server::Server::new(on_a_free_port());
        server.serve_connection(caller, Peer::pipe(), answer, CancellationToken::new()).await;
        assert_eq!(begun.elapsed().as_secs(), 31);
    }

    #[tokio::test]
    async fn a_socket_that_is_never_read_is_closed_and_its_place_is_free() {
        let mut settings = on_a_free_port();
        settings.write_timeout = Duration::from_millis(300);
        settings.max_connections = 1;
        let running = start(settings, |request: Request<Body>, peer: Peer| async move {
            if request.uri().path() == "/large" {
                return Response::new(Body::full(vec![b'x'; 64 * LARGE]));
            }
            answer(request, peer).await
        });
        let mut caller = running.connect().await;
        caller.write_all(GET).await.unwrap();
        // Busy, so that it does not make room: the newcomer gets the place when it is cut off.
        soon(get(&mut running.connect().await, "/next")).await;
        assert!(rest(&mut caller).await.len() < 64 * LARGE);
    }

    #[test]
    fn a_chunks_last_byte_goes_by_itself() {
        let mut rest = Bytes::from(vec![b'x'; 2 * PIECE + 1]);
        let lengths: Vec<usize> =
            std::iter::from_fn(|| Some(piece(&mut rest).len()).filter(|n| *n > 0)).collect();
        assert_eq!(lengths, [PIECE, PIECE, 1]);
        let mut one = Bytes::from_static(b"x");
        assert_eq!(piece(&mut one), "x");
        assert!(one.is_empty());
    }
}

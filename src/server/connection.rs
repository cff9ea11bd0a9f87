//! One connection, from its first byte to its last.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::base::Peer;
use crate::server::activity::{Activity, Late, Overdue};
use crate::server::stall::Stream;
use crate::server::talk::Talk;
use crate::server::wire::{Incoming, Outgoing};
use crate::server::{Answer, ServerSettings};

/// How a connection is asked to end.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    /// Finish what is under way, begin nothing new.
    pub(super) gently: CancellationToken,
    /// Drop everything.
    pub(super) now: CancellationToken,
}

/// The same for one connection, and what it is doing.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) gently: CancellationToken,
    pub(super) now: CancellationToken,
    pub(super) activity: Arc<Activity>,
}

impl Stop {
    /// For one connection: its polls do not meet those of the others at one lock.
    pub(super) fn child(&self, settings: &ServerSettings) -> Seat {
        Seat {
            gently: self.gently.child_token(),
            now: self.now.child_token(),
            activity: Arc::new(Activity::new(settings)),
        }
    }
}

/// Speaks HTTP until the peer is done, `left` ends, a clock runs out, or `stop` says so.
/// Every exchange of the connection is over when this ends; dropping it drops them.
pub(super) fn run<S, A>(
    stream: S,
    left: impl Future<Output = ()>,
    peer: Peer,
    settings: &ServerSettings,
    answer: A,
    stop: Seat,
) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Answer,
{
    let stream = Outgoing::new(stream, Arc::clone(&stop.activity));
    speak(stream, left, peer, settings, answer, stop)
}

/// The same over a stream that has an [`Outgoing`] at its bottom.
pub(super) async fn speak<S, A>(
    stream: S,
    left: impl Future<Output = ()>,
    peer: Peer,
    settings: &ServerSettings,
    answer: A,
    stop: Seat,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Answer,
{
    let activity = stop.activity;
    if !activity.begins() {
        return;
    }
    let streams = Streams::new(&activity);
    let cut_streams = streams.cut.clone().drop_guard();
    let stream = Incoming::new(stream, Arc::clone(&activity));
    let remote = peer.remote.clone();
    {
        let (streams, shared) = (streams.clone(), Arc::clone(&activity));
        let mut talk = Talk::new(stream, answer, peer, settings, streams, shared);
        let mut left = pin!(left);
        let mut overdue = Overdue::new(&activity);
        let mut ending = false;
        loop {
            tokio::select! {
                biased;
                () = &mut left => {
                    debug!(peer = %remote, "caller left");
                    break;
                }
                () = stop.now.cancelled() => break,
                done = poll_fn(|cx| talk.poll(cx)) => {
                    if let Err(error) = done {
                        debug!(peer = %remote, %error, "connection ended early");
                    }
                    break;
                }
                () = stop.gently.cancelled(), if !ending => {
                    ending = true;
                    talk.finish();
                }
                late = poll_fn(|cx| overdue.poll(cx)) => {
                    if late == Late::Rests {
                        activity.rests();
                        talk.rest();
                        continue;
                    }
                    // An h2 peer that reads is told (GOAWAY) before the connection goes.
                    if ending || late == Late::Stalls || !activity.is_multiplexed() {
                        debug!(peer = %remote, ?late, "ending a connection");
                        break;
                    }
                    ending = true;
                    activity.last_wait(late);
                    talk.finish();
                }
            }
        }
    }
    drop(cut_streams);
    streams.running.close();
    streams.running.wait().await;
}

/// Runs the h2 streams of one connection as tasks, and drops them when the connection ends;
/// left to themselves they would outlive it until somebody polled them.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    running: TaskTracker,
    cut: CancellationToken,
    activity: Arc<Activity>,
}

impl Streams {
    fn new(activity: &Arc<Activity>) -> Self {
        let activity = Arc::clone(activity);
        Self { running: TaskTracker::new(), cut: CancellationToken::new(), activity }
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let stream = Stream::new(stream, &self.activity);
        self.running.spawn(self.cut.clone().run_until_cancelled_owned(stream));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use crate::base::{Body, Peer};
    use crate::server::ServerSettings;
    use crate::server::testing::{echo, get, on_a_free_port, pipe, queue, rest, waits, whole};

    fn settings() -> ServerSettings {
        // Apart, so that each shows which one ran out.
        let mut settings = on_a_free_port();
        settings.header_timeout = Duration::from_secs(10);
        settings.idle_timeout = Duration::from_secs(60);
        settings
    }

    /// An answer that takes its time.
    async fn slowly(_: Request<Body>, _: Peer) -> Response<Body> {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Response::new(Body::full("late"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_is_closed_after_the_header_timeout() {
        let begun = Instant::now();
        let (mut caller, done) = pipe(settings(), echo, CancellationToken::new());
        assert_eq!(rest(&mut caller).await, "");
        assert_eq!(begun.elapsed().as_secs(), 10);
        done.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_comes_drop_by_drop_is_cut_off_after_the_header_timeout() {
        let begun = Instant::now();
        let (mut caller, done) = pipe(settings(), echo, CancellationToken::new());
        for byte in b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: yyyyyyyyyyyyyyyyyyyyyyy" {
            if caller.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        done.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn half_an_h2_preface_is_cut_off_after_the_header_timeout() {
        let begun = Instant::now();
        let (mut caller, _done) = pipe(settings(), echo, CancellationToken::new());
        caller.write_all(b"PRI * HT").await.unwrap();
        assert_eq!(rest(&mut caller).await, "");
        assert_eq!(begun.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_kept_for_the_idle_timeout_after_each_answer() {
        let (mut caller, _done) = pipe(settings(), echo, CancellationToken::new());
        for _ in 0..3 {
            get(&mut caller, "/a").await;
            tokio::time::sleep(Duration::from_secs(59)).await;
        }
        get(&mut caller, "/a").await;
        let idle = Instant::now();
        assert_eq!(rest(&mut caller).await, "");
        assert_eq!(idle.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_head_has_the_header_timeout_from_its_first_byte() {
        let (mut caller, _done) = pipe(settings(), echo, CancellationToken::new());
        get(&mut caller, "/a").await;
        tokio::time::sleep(Duration::from_secs(50)).await;
        let first_byte = Instant::now();
        caller.write_all(b"G").await.unwrap();
        assert_eq!(rest(&mut caller).await, "");
        assert_eq!(first_byte.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn no_clock_runs_while_a_call_waits_for_its_turn() {
        let (mut caller, _done) = pipe(settings(), slowly, CancellationToken::new());
        caller.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(rest(&mut caller).await.ends_with("late"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_h2_connection_is_told_and_closed_after_the_idle_timeout() {
        let (caller, done) = pipe(settings(), echo, CancellationToken::new());
        let (mut sender, connection) = h2::client::handshake(caller).await.unwrap();
        let told = tokio::spawn(connection);
        let request = Request::get("http://x/a").body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        assert_eq!(whole(response.await.unwrap().into_body()).await.unwrap(), b"/a");
        let idle = Instant::now();
        done.await.unwrap();
        assert_eq!(idle.elapsed().as_secs(), 60);
        // GOAWAY with NO_ERROR: an orderly end.
        told.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_h2_call_may_wait_for_an_hour() {
        let (caller, _done) = pipe(settings(), slowly, CancellationToken::new());
        let (mut sender, connection) = h2::client::handshake(caller).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://x/a").body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        assert_eq!(whole(response.await.unwrap().into_body()).await.unwrap(), b"late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_too_large_is_answered_431() {
        let mut settings = settings();
        settings.max_header_bytes = 16 * 1024;
        for (length, status) in [(8 * 1024, "200"), (17 * 1024, "431")] {
            let (mut caller, _done) = pipe(settings.clone(), echo, CancellationToken::new());
            let long = "x".repeat(length);
            let head =
                format!("GET / HTTP/1.1\r\nhost: x\r\nx: {long}\r\nconnection: close\r\n\r\n");
            caller.write_all(head.as_bytes()).await.unwrap();
            let answer = rest(&mut caller).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{length}: {answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn settings_that_hyper_would_panic_at_are_bent_to_its_limits() {
        let mut settings = settings();
        settings.max_header_bytes = 0;
        settings.header_timeout = Duration::MAX;
        settings.idle_timeout = Duration::MAX;
        let (mut caller, _done) = pipe(settings, echo, CancellationToken::new());
        get(&mut caller, "/a").await;
    }

    #[tokio::test(start_paused = true)]
    async fn when_stopped_an_idle_connection_closes_and_a_busy_one_finishes_first() {
        let stop = CancellationToken::new();
        let (mut idle, idle_done) = pipe(settings(), echo, stop.clone());
        get(&mut idle, "/a").await;
        let (mut busy, busy_done) = pipe(settings(), slowly, stop.clone());
        busy.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.cancel();
        idle_done.await.unwrap();
        let answer = rest(&mut busy).await;
        assert!(answer.contains("connection: close") && answer.ends_with("late"), "{answer}");
        busy_done.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_answered_500_and_ends_the_connection() {
        let answer = |_: Request<Body>, _: Peer| async { panic!("a bug") };
        let (mut caller, done) = pipe(settings(), answer, CancellationToken::new());
        caller.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let answer = rest(&mut caller).await;
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
        done.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_connection_takes_its_h2_streams_along() {
        let (answer, mut events) = queue(0);
        let (caller, done) = pipe(settings(), answer, CancellationToken::new());
        let (mut sender, connection) = h2::client::handshake(caller).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://x/a").body(()).unwrap();
        let _call = sender.send_request(request, true).unwrap();
        assert_eq!(events.recv().await, Some(waits("/a")));
        done.abort();
        assert_eq!(events.recv().await, Some(crate::server::testing::dropped("/a")));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_reaches_a_slow_reader_whole() {
        let large = |_: Request<Body>, _: Peer| async {
            Response::new(Body::full(vec![b'x'; 1024 * 1024]))
        };
        let (mut caller, _done) = pipe(settings(), large, CancellationToken::new());
        caller.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut read = Vec::new();
        let mut chunk = vec![0; 32 * 1024];
        loop {
            let n = caller.read(&mut chunk).await.unwrap();
            read.extend_from_slice(&chunk[..n]);
            if n == 0 {
                break;
            }
            // Longer than the idle timeout in all, never in one pause.
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        assert!(read.ends_with(&[b'x'; 1024 * 1024]));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_a_head_is_read_ahead_of_the_answer() {
        let (answer, mut events) = queue(0);
        let (mut caller, _done) = pipe(settings(), answer, CancellationToken::new());
        caller.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(events.recv().await, Some(waits("/a")));
        let more = b"GET /b HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
        let mut taken = 0;
        let hour = Duration::from_secs(3600);
        while let Ok(Ok(_)) = tokio::time::timeout(hour, caller.write_all(&more)).await {
            taken += more.len();
            // The pipe holds 64 KiB itself.
            assert!(taken <= 2 * 64 * 1024, "{taken}");
        }
        assert!(events.try_recv().is_err());
    }
}

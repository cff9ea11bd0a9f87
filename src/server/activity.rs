//! What a connection is doing, and when its peer has dawdled for too long.
//!
//! hyper-util has no timer while it finds out which protocol is spoken, and hyper counts the
//! wait between two requests as part of the second one's head. So both clocks are ours.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::server::ServerSettings;

/// What one connection is doing; shared by its stream, its exchanges and its deadline.
pub(super) struct Activity {
    state: Mutex<State>,
    /// The connection's task, told when the last open exchange ends.
    task: AtomicWaker,
    header_timeout: Duration,
    idle_timeout: Duration,
}

struct State {
    /// Exchanges whose response is not yet written. While there are any, no clock runs here:
    /// a call may wait long for its turn.
    open: usize,
    waits_for: Next,
    since: Instant,
    multiplexed: bool,
}

/// What is waited for while no exchange is open.
#[derive(PartialEq, Eq)]
enum Next {
    /// The rest of a head.
    Head,
    /// The first byte of a head.
    Request,
    /// The peer's part in ending the connection.
    End,
}

impl Activity {
    pub(super) fn new(settings: &ServerSettings, begun: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                open: 0,
                waits_for: Next::Head,
                since: begun,
                multiplexed: false,
            }),
            task: AtomicWaker::new(),
            header_timeout: settings.header_timeout,
            idle_timeout: settings.idle_timeout,
        }
    }

    /// Begins an exchange; it lasts until the guard is dropped.
    pub(super) fn begin(activity: &Arc<Self>, version: Version) -> Exchange {
        let mut state = activity.state();
        state.open += 1;
        state.multiplexed = version == Version::HTTP_2;
        drop(state);
        Exchange(Arc::clone(activity))
    }

    /// Whether the last request came by h2.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.state().multiplexed
    }

    /// Gives the peer one more `header_timeout`, and as much again after each byte that it takes,
    /// to end the connection in good order.
    pub(super) fn last_wait(&self) {
        let mut state = self.state();
        state.waits_for = Next::End;
        state.since = Instant::now();
    }

    fn on_read(&self) {
        let mut state = self.state();
        // On h2, what arrives between two requests is pings and acknowledgements.
        if state.open == 0 && !state.multiplexed && state.waits_for == Next::Request {
            state.waits_for = Next::Head;
            state.since = Instant::now();
        }
    }

    fn on_write(&self) {
        let mut state = self.state();
        // The end of a response may still be on its way when its body is done. On h2, what is
        // written between two requests is pings, and the end comes after GOAWAY.
        let counts = match state.waits_for {
            Next::Head => false,
            Next::Request => !state.multiplexed,
            Next::End => true,
        };
        if state.open == 0 && counts {
            state.since = Instant::now();
        }
    }

    fn due(&self) -> Option<Instant> {
        let state = self.state();
        let allowed = match state.waits_for {
            Next::Head | Next::End => self.header_timeout,
            Next::Request => self.idle_timeout,
        };
        if state.open > 0 { None } else { state.since.checked_add(allowed) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and each change is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One exchange that is under way.
pub(super) struct Exchange(Arc<Activity>);

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        if state.open == 0 {
            state.waits_for = Next::Request;
            state.since = Instant::now();
            drop(state);
            self.0.task.wake();
        }
    }
}

/// Ends when the peer has dawdled for too long.
pub(super) struct Overdue<'a> {
    activity: &'a Activity,
    sleep: Pin<Box<Sleep>>,
}

impl<'a> Overdue<'a> {
    pub(super) fn new(activity: &'a Activity) -> Self {
        Self { activity, sleep: Box::pin(tokio::time::sleep(activity.header_timeout)) }
    }

    /// Ready when the peer is late; may be polled again after that.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.activity.task.register(cx.waker());
        loop {
            let Some(due) = self.activity.due() else { return Poll::Pending };
            if self.sleep.deadline() > due {
                self.sleep.as_mut().reset(due);
            }
            ready!(self.sleep.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            // The timer is set anew only when an earlier wait's time comes, not at each request.
            self.sleep.as_mut().reset(due);
        }
    }
}

/// A stream that tells the connection's [`Activity`] of its bytes.
///
/// The place for the timers of a slow body and of a slow reader, when they come.
pub(super) struct Metered<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.activity.on_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.activity.on_write();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.activity.on_write();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

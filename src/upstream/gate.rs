//! The last gate before the socket: no request head is written without leave.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::net::Stream;

/// Leave to send one request head: what to do in the moment it is handed to the socket, and until
/// when that may be. Dropped unused, it gives back whatever it holds.
pub struct Leave {
    begin: Box<dyn FnOnce() + Send>,
    expires: Option<Instant>,
}

impl Leave {
    /// `begin` runs in the moment the head is handed to the socket, which must not be later than
    /// `expires`.
    pub fn new(expires: Option<Instant>, begin: impl FnOnce() + Send + 'static) -> Self {
        Self { begin: Box::new(begin), expires }
    }

    pub(crate) fn expires(&self) -> Option<Instant> {
        self.expires
    }
}

impl fmt::Debug for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leave").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// The gate of one connection, shared by the connection's task and whoever sends on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    /// Nothing may be written.
    #[default]
    Shut,
    /// The next write is a head that has leave.
    Armed(Leave),
    /// The head went; its body may follow.
    Open {
        /// Nothing of the exchange waits to be written.
        flushed: bool,
    },
}

impl Gate {
    /// Gives leave for the next head.
    pub(crate) fn arm(&self, leave: Leave) {
        *self.lock() = State::Armed(leave);
    }

    /// Takes leave back if it was not used. Says whether it was used.
    pub(crate) fn revoke(&self) -> bool {
        let mut state = self.lock();
        match &*state {
            State::Open { .. } => true,
            State::Armed(_) | State::Shut => {
                *state = State::Shut;
                false
            }
        }
    }

    /// The exchange is over; nothing may be written until the next leave.
    pub(crate) fn shut(&self) {
        *self.lock() = State::Shut;
    }

    /// There is more to be written: the body gave another piece, or its end.
    pub(crate) fn owes(&self) {
        if let State::Open { flushed } = &mut *self.lock() {
            *flushed = false;
        }
    }

    /// Whether all that the exchange had to write is written. What is not would go out under the
    /// next one's leave, and its head later than it is charged.
    pub(crate) fn is_flushed(&self) -> bool {
        matches!(*self.lock(), State::Open { flushed: true })
    }

    fn flushed(&self) {
        if let State::Open { flushed } = &mut *self.lock() {
            *flushed = true;
        }
    }

    /// Lets `write` hand bytes to the socket if they have leave. The gate stays locked meanwhile,
    /// so that leave cannot be taken back between the check and the write.
    fn pass(&self, write: impl FnOnce() -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        match &mut *state {
            State::Open { flushed } => {
                *flushed = false;
                drop(state);
                write()
            }
            State::Armed(leave) if leave.expires.is_none_or(|end| Instant::now() < end) => {
                // One that fails may have handed bytes over too: TLS writes record by record.
                let written = ready!(write());
                let open = State::Open { flushed: false };
                if let State::Armed(leave) = std::mem::replace(&mut *state, open) {
                    (leave.begin)();
                }
                Poll::Ready(written)
            }
            State::Armed(_) | State::Shut => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a request head without a permit",
            ))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that writes only through its gate.
#[derive(Debug)]
pub(crate) struct Gated {
    pub(crate) stream: Stream,
    pub(crate) gate: Gate,
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Gated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, gate } = &mut *self;
        gate.pass(|| Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, gate } = &mut *self;
        gate.pass(|| Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper asks for this only once its own buffer is empty.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.gate.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;

    fn gated(size: usize) -> (Gated, DuplexStream) {
        let (near, far) = tokio::io::duplex(size);
        (Gated { stream: Stream::Pipe(near), gate: Gate::default() }, far)
    }

    /// Leave that counts how often it was used.
    fn leave(expires: Option<Instant>) -> (Leave, Arc<AtomicUsize>) {
        let used = Arc::new(AtomicUsize::new(0));
        let counted = used.clone();
        let count = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        (Leave::new(expires, count), used)
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_written_without_leave() {
        let (mut gated, _far) = gated(64);
        assert!(gated.write(b"GET").await.is_err());
        assert!(!gated.gate.revoke());
    }

    #[tokio::test(start_paused = true)]
    async fn leave_is_used_once_by_the_first_byte_and_the_rest_follows() {
        let (mut gated, _far) = gated(2);
        let (leave, used) = leave(None);
        gated.gate.arm(leave);
        assert_eq!(gated.write(b"GET").await.unwrap(), 2);
        assert_eq!(used.load(Ordering::Relaxed), 1);
        // The pipe is full: no byte, and no second charge.
        let pending =
            poll_fn(|cx| Poll::Ready(Pin::new(&mut gated).poll_write(cx, b"T").is_pending()));
        assert!(pending.await);
        assert_eq!(used.load(Ordering::Relaxed), 1);
        assert!(gated.gate.revoke());
    }

    #[tokio::test(start_paused = true)]
    async fn leave_that_has_expired_is_not_used() {
        let (mut gated, _far) = gated(64);
        let (leave, used) = leave(Some(Instant::now() + Duration::from_millis(100)));
        gated.gate.arm(leave);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(gated.write(b"GET").await.is_err());
        assert!(!gated.gate.revoke());
        assert_eq!(used.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_fails_is_charged_since_bytes_may_have_left() {
        let (mut gated, far) = gated(64);
        let (leave, used) = leave(None);
        gated.gate.arm(leave);
        drop(far);
        assert!(gated.write(b"GET").await.is_err());
        assert!(gated.gate.revoke());
        assert_eq!(used.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_is_flushed_when_nothing_is_owed() {
        let (mut gated, _far) = gated(64);
        gated.gate.arm(leave(None).0);
        assert!(!gated.gate.is_flushed());
        gated.write_all(b"GET").await.unwrap();
        assert!(!gated.gate.is_flushed());
        gated.flush().await.unwrap();
        assert!(gated.gate.is_flushed());
        gated.gate.owes();
        assert!(!gated.gate.is_flushed());
    }
}

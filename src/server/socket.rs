//! An accepted socket, and the news that its peer has left.
//!
//! hyper notices that a caller has left only when it reads: not while a request body is unread,
//! and not while a second request sits in its buffer. A waiting call would then keep its place in
//! the queue for nobody. So the connection's task watches the socket itself: the kernel reports
//! the peer's close (`EPOLLRDHUP`) however many bytes are still unread.
//!
//! A peer that only closes its sending half is taken to have left too, as hyper does
//! (`half_close(false)`): the two look the same from here.
//!
//! What cannot be seen is a close that has not arrived. TCP delivers in order, so the end of a
//! caller who wrote more than the windows hold waits behind bytes that nobody reads. Whoever
//! keeps a call waiting with its body unread should read on for as far as it can keep the bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop::has_budget_remaining;

/// A connection as the kernel gave it.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Waits until the peer has closed its sending half, or the whole connection.
    pub(super) async fn left(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            use tokio::io::Interest;
            // Sockets are registered for reading and writing only, so this interest is met by
            // nothing but READ_CLOSED, which tokio never clears.
            let ready = match self {
                Self::Tcp(stream) => stream.ready(Interest::PRIORITY).await,
                Self::Unix(stream) => stream.ready(Interest::PRIORITY).await,
            };
            // An error: the runtime is on its way out, and the connection with it.
            if ready.is_ok_and(|ready| !ready.is_read_closed()) {
                std::future::pending::<()>().await;
            }
        }
        // Elsewhere only hyper's own reading tells.
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        std::future::pending::<()>().await;
    }

    fn shut_down(&self) -> io::Result<()> {
        let how = rustix::net::Shutdown::Write;
        match self {
            Self::Tcp(stream) => rustix::net::shutdown(stream, how)?,
            Self::Unix(stream) => rustix::net::shutdown(stream, how)?,
        }
        Ok(())
    }
}

/// A socket that hyper reads and writes while somebody else watches it.
///
/// Goes by `try_read` and `try_write`, which need no exclusive access. Against tokio's own
/// streams that costs one read that finds nothing per burst of bytes, and no copy.
#[derive(Debug)]
pub(super) struct Shared(pub(super) Arc<Socket>);

/// The same call on either kind of socket.
macro_rules! on {
    ($shared:expr, $stream:ident => $call:expr) => {
        match &*$shared.0 {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

impl Shared {
    /// Tries a write each time the socket is ready, until it would not block.
    fn poll_ready_write(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&Self) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(on!(self, stream => stream.poll_write_ready(cx)))?;
            match write(self) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

/// Tries a write that the runtime does not think possible.
///
/// The kernel tells of room only when a third of its buffer is free, megabytes that a slow reader
/// takes minutes for, but takes bytes whenever there is some. hyper comes here each time that the
/// connection is looked at, so at the latest when its peer would be taken to have stalled.
fn at_once(written: rustix::io::Result<usize>) -> Poll<io::Result<usize>> {
    match written {
        Ok(bytes) => Poll::Ready(Ok(bytes)),
        Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error.into())),
    }
}

impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(on!(self, stream => stream.poll_read_ready(cx)))?;
            match on!(self, stream => stream.try_read_buf(buf)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done.map(|_| ())),
            }
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled =
            self.poll_ready_write(cx, |shared| on!(shared, stream => stream.try_write(buf)));
        if polled.is_pending() && has_budget_remaining() {
            return at_once(on!(self, stream => rustix::io::write(stream, buf)));
        }
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self
            .poll_ready_write(cx, |shared| on!(shared, stream => stream.try_write_vectored(bufs)));
        if polled.is_pending() && has_budget_remaining() {
            return at_once(on!(self, stream => rustix::io::writev(stream, bufs)));
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The kernel has what was written.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shut_down())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use h2::client::{ResponseFuture, SendRequest};
    use h2::{Reason, SendStream};
    use http::Request;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpStream, UnixStream};
    use tokio::task::JoinHandle;
    use tokio_util::sync::CancellationToken;

    use crate::server::testing::{Running, dropped, on_a_free_port, queue, soon, start, waits};
    use crate::server::{Listen, Server, ServerSettings, bind};

    const MIB: usize = 1024 * 1024;

    /// Closes with a reset instead of an orderly end.
    fn reset(stream: TcpStream) {
        rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    }

    fn post(length: usize) -> String {
        format!("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")
    }

    /// Writes until the other side takes no more.
    fn write_what_fits(stream: &TcpStream, most: usize) -> usize {
        let chunk = vec![b'x'; 64 * 1024];
        let mut sent = 0;
        while sent < most {
            match stream.try_write(&chunk[..chunk.len().min(most - sent)]) {
                Ok(n) => sent += n,
                Err(_) => break,
            }
        }
        sent
    }

    #[tokio::test]
    async fn a_waiting_get_is_dropped_when_its_caller_closes() {
        let (answer, mut events) = queue(0);
        let running = start(on_a_free_port(), answer);
        let mut caller = running.connect().await;
        caller.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/a")));
        drop(caller);
        assert_eq!(soon(events.recv()).await, Some(dropped("/a")));
    }

    #[tokio::test]
    async fn a_waiting_get_is_dropped_when_its_caller_resets() {
        let (answer, mut events) = queue(0);
        let running = start(on_a_free_port(), answer);
        let mut caller = running.connect().await;
        caller.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/a")));
        reset(caller);
        assert_eq!(soon(events.recv()).await, Some(dropped("/a")));
    }

    #[tokio::test]
    async fn a_caller_that_closes_only_its_sending_half_has_left() {
        let (answer, mut events) = queue(0);
        let running = start(on_a_free_port(), answer);
        let mut caller = running.connect().await;
        caller.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/a")));
        caller.shutdown().await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(dropped("/a")));
    }

    #[tokio::test]
    async fn a_request_pipelined_behind_it_does_not_hide_that_the_caller_left() {
        let (answer, mut events) = queue(0);
        let running = start(on_a_free_port(), answer);
        let mut caller = running.connect().await;
        let two = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n";
        caller.write_all(two).await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/a")));
        drop(caller);
        assert_eq!(soon(events.recv()).await, Some(dropped("/a")));
        soon(stopped(running)).await;
        assert_eq!(events.recv().await, None, "the second request was begun for nobody");
    }

    #[tokio::test]
    async fn an_unread_body_does_not_hide_that_the_caller_left() {
        let (answer, mut events) = queue(0);
        let running = start(on_a_free_port(), answer);
        let mut caller = running.connect().await;
        caller.write_all(post(2 * MIB).as_bytes()).await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/a")));
        // Within the first window, else the close could not arrive at all (see above).
        caller.write_all(&[b'x'; 32 * 1024]).await.unwrap();
        drop(caller);
        assert_eq!(soon(events.recv()).await, Some(dropped("/a")));
    }

    #[tokio::test]
    async fn a_half_read_body_does_not_hide_that_the_caller_left() {
        let (answer, mut events) = queue(MIB);
        let running = start(on_a_free_port(), answer);
        let mut caller = running.connect().await;
        caller.write_all(post(2 * MIB).as_bytes()).await.unwrap();
        caller.write_all(&vec![b'x'; MIB + 64 * 1024]).await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/a")));
        drop(caller);
        assert_eq!(soon(events.recv()).await, Some(dropped("/a")));
    }

    #[tokio::test]
    async fn a_reset_is_seen_past_any_number_of_unread_bytes() {
        let (answer, mut events) = queue(0);
        let running = start(on_a_free_port(), answer);
        let mut caller = running.connect().await;
        caller.write_all(post(2 * MIB).as_bytes()).await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/a")));
        assert!(write_what_fits(&caller, 2 * MIB) > 64 * 1024);
        reset(caller);
        assert_eq!(soon(events.recv()).await, Some(dropped("/a")));
    }

    #[tokio::test]
    async fn an_unread_body_on_a_unix_socket_does_not_hide_that_the_caller_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (answer, mut events) = queue(0);
        let settings = ServerSettings::new(vec![Listen::Unix { path: path.clone(), mode: 0o600 }]);
        let bound = bind(&settings).unwrap();
        tokio::spawn(Server::new(settings).serve(bound, answer, CancellationToken::new()));
        let mut caller = UnixStream::connect(&path).await.unwrap();
        caller.write_all(post(2 * MIB).as_bytes()).await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/a")));
        let _ = caller.try_write(&[b'x'; 64 * 1024]).unwrap();
        drop(caller);
        assert_eq!(soon(events.recv()).await, Some(dropped("/a")));
    }

    /// An h2 caller; its connection lives in the task.
    async fn h2(running: &Running) -> (SendRequest<Bytes>, JoinHandle<()>) {
        let stream = running.connect().await;
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        (sender, task)
    }

    /// Sends a head; the body may follow.
    fn ask(sender: &mut SendRequest<Bytes>, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        let request = Request::post(format!("http://x{path}")).body(()).unwrap();
        sender.send_request(request, false).unwrap()
    }

    #[tokio::test]
    async fn an_h2_reset_drops_that_stream_and_no_other() {
        let (answer, mut events) = queue(0);
        let running = start(on_a_free_port(), answer);
        let (mut sender, _task) = h2(&running).await;
        let mut calls = Vec::new();
        for path in ["/a", "/b"] {
            calls.push(ask(&mut sender, path));
            assert_eq!(soon(events.recv()).await, Some(waits(path)));
        }
        calls[0].1.send_reset(Reason::CANCEL);
        assert_eq!(soon(events.recv()).await, Some(dropped("/a")));
        // A third call goes the whole way before anything else happens to the second.
        let _third = ask(&mut sender, "/c");
        assert_eq!(soon(events.recv()).await, Some(waits("/c")));
    }

    #[tokio::test]
    async fn an_h2_reset_is_seen_while_the_body_is_unread() {
        let (answer, mut events) = queue(0);
        let running = start(on_a_free_port(), answer);
        let (mut sender, _task) = h2(&running).await;
        let (_response, mut body) = ask(&mut sender, "/a");
        // More than the stream's window: the caller is stuck in the middle of its body.
        body.send_data(Bytes::from(vec![b'x'; 2 * MIB]), true).unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/a")));
        body.send_reset(Reason::CANCEL);
        assert_eq!(soon(events.recv()).await, Some(dropped("/a")));
    }

    #[tokio::test]
    async fn an_h2_caller_that_closes_takes_all_its_streams_along() {
        let (answer, mut events) = queue(0);
        let running = start(on_a_free_port(), answer);
        let (mut sender, task) = h2(&running).await;
        let mut calls = Vec::new();
        for path in ["/a", "/b", "/c"] {
            calls.push(ask(&mut sender, path));
            assert_eq!(soon(events.recv()).await, Some(waits(path)));
        }
        task.abort();
        let mut gone = Vec::new();
        for _ in 0..3 {
            gone.push(soon(events.recv()).await.unwrap());
        }
        gone.sort_by_key(|event| format!("{event:?}"));
        assert_eq!(gone, [dropped("/a"), dropped("/b"), dropped("/c")]);
    }

    async fn stopped(running: Running) {
        running.stop.cancel();
        running.done.await.unwrap();
    }
}

//! The accept loop, and the end of it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::base::{Peer, Remote};
use crate::server::bind::Door;
use crate::server::connection::{self, Stop};
use crate::server::seats::Seats;
use crate::server::socket::{Shared, Socket};
use crate::server::{Answer, Bound, Certificates, ServerSettings, tls};

/// How long to wait when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often to say so.
const ACCEPT_WARNING: Duration = Duration::from_secs(30);

/// Serves connections within its settings' limits. Clones share one count of connections.
#[derive(Clone, Debug)]
pub struct Server {
    settings: Arc<ServerSettings>,
    seats: Arc<Seats>,
    connections: TaskTracker,
}

impl Server {
    /// A server that has no connections yet.
    pub fn new(settings: ServerSettings) -> Self {
        let settings = Arc::new(settings);
        let seats = Seats::new(Arc::clone(&settings));
        Self { settings, seats, connections: TaskTracker::new() }
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Accepts and serves until `stop` is cancelled, then drains.
    ///
    /// Draining closes the listeners at once, lets every connection finish what is under way for
    /// at most `drain_timeout`, and drops the rest. Returns when no connection is left. Dropping
    /// the future ends every connection at once.
    pub async fn serve<A: Answer>(self, bound: Vec<Bound>, answer: A, stop: CancellationToken) {
        let now = CancellationToken::new();
        let _cut_if_dropped = now.clone().drop_guard();
        let both = Stop { gently: stop.clone(), now: now.clone() };
        // The listeners are moved in, so that they are closed when accepting ends.
        stop.run_until_cancelled(self.accept(bound, answer, both)).await;

        self.connections.close();
        let wait = self.connections.wait();
        if tokio::time::timeout(self.settings.drain_timeout, wait).await.is_err() {
            warn!(connections = self.connections(), "drain timeout passed, cutting connections");
            now.cancel();
            self.connections.wait().await;
        }
    }

    /// Serves one connection over any stream, without the watch for the peer's close that sockets
    /// have. Ends when the connection does; dropping the future ends it too.
    pub async fn serve_connection<S, A>(
        &self,
        stream: S,
        peer: Peer,
        answer: A,
        stop: CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Answer,
    {
        let never_left = std::future::pending();
        let stop = Stop { gently: stop, now: CancellationToken::new() }.child(&self.settings);
        connection::run(stream, never_left, peer, &self.settings, answer, stop).await;
    }

    async fn accept<A: Answer>(&self, bound: Vec<Bound>, answer: A, stop: Stop) {
        let mut turn = 0;
        let mut warned: Option<Instant> = None;
        loop {
            let accepted = poll_fn(|cx| poll_accept(&bound, &mut turn, cx)).await;
            let (socket, peer, certificates) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_about_one_caller(&error) => {
                    debug!(%error, "a caller left before it was accepted");
                    continue;
                }
                Err(error) => {
                    if warned.is_none_or(|last| last.elapsed() >= ACCEPT_WARNING) {
                        warn!(%error, "cannot accept connections, trying on");
                        warned = Some(Instant::now());
                    }
                    if self.seats.make_room() > 0 {
                        self.seats.one_leaves(ACCEPT_PAUSE).await;
                    } else {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            };
            // Where all are busy it waits here, and who comes after it in the kernel's backlog.
            let (place, stop) = self.seats.take(&stop).await;
            let (settings, answer) = (Arc::clone(&self.settings), answer.clone());
            self.connections.spawn(async move {
                let _place = place;
                let socket = Arc::new(socket);
                let (stream, left) = (Shared(Arc::clone(&socket)), socket.left());
                let Some(shown) = certificates else {
                    connection::run(stream, left, peer, &settings, answer, stop).await;
                    return;
                };
                // Boxed, so that plain connections have no room for what TLS needs.
                Box::pin(tls::run(&shown, stream, left, peer, &settings, answer, stop)).await;
            });
        }
    }
}

/// A connection, who is at its other end, and what it is shown where the listener speaks TLS.
type Accepted = (Socket, Peer, Option<Arc<Certificates>>);

/// Takes the next connection of any listener; `turn` goes round, so that a busy listener does
/// not starve the others.
fn poll_accept(
    bound: &[Bound],
    turn: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Accepted>> {
    for step in 0..bound.len() {
        let at = (*turn + step) % bound.len();
        let entrance = bound[at].entrance.clone();
        let accepted = match &bound[at].door {
            Door::Tcp(listener, _) => listener.poll_accept(cx).map_ok(|(stream, remote)| {
                let remote = Remote::Tcp(canonical(remote));
                let local = stream.local_addr().ok().map(canonical);
                (Socket::Tcp(stream), Peer { entrance, ..Peer::plain(remote, local) })
            }),
            Door::Unix(listener, _) => listener.poll_accept(cx).map_ok(|(stream, _)| {
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                let peer = Peer::plain(Remote::Unix { uid }, None);
                (Socket::Unix(stream), Peer { entrance, ..peer })
            }),
        };
        if accepted.is_ready() {
            *turn = at + 1;
            return accepted.map_ok(|(socket, peer)| (socket, peer, bound[at].certificates()));
        }
    }
    Poll::Pending
}

/// An IPv4 caller of a `[::]` listener is the same caller as on `0.0.0.0`.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether an accept failed because of the connection that it would have returned (accept(2));
/// the next one may be tried at once. Anything else is a lack of something.
fn is_about_one_caller(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::PROTO
                | Errno::INTR
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
        )
    )
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UnixStream};
    use tokio::sync::mpsc;

    use super::*;
    use crate::base::Body;
    use crate::server::testing::{
        dropped, echo, get, on_a_free_port, queue, rest, soon, start, waits, whole,
    };
    use crate::server::{Listen, bind};

    /// Answers with who is asking, as the server sees it.
    async fn who(_: Request<Body>, peer: Peer) -> Response<Body> {
        Response::new(Body::full(format!("{peer:?}")))
    }

    const LAST_GET: &[u8] = b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn http_1_and_h2c_are_served_on_one_port() {
        let running = start(on_a_free_port(), echo);
        let mut caller = running.connect().await;
        assert!(get(&mut caller, "/one").await.starts_with("HTTP/1.1 200"));

        let (mut sender, connection) =
            h2::client::handshake(running.connect().await).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://x/two").body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        let body = soon(response).await.unwrap().into_body();
        assert_eq!(soon(whole(body)).await.unwrap(), b"/two");
    }

    #[tokio::test]
    async fn a_tcp_caller_is_known_by_both_addresses() {
        let running = start(on_a_free_port(), who);
        let mut caller = running.connect().await;
        let ours = caller.local_addr().unwrap();
        caller.write_all(LAST_GET).await.unwrap();
        let answer = rest(&mut caller).await;
        let expected = Peer::plain(Remote::Tcp(ours), Some(running.address));
        assert!(answer.ends_with(&format!("{expected:?}")), "{answer}");
    }

    #[tokio::test]
    async fn an_ipv4_caller_of_a_dual_stack_listener_has_an_ipv4_address() {
        let mut settings = on_a_free_port();
        settings.listeners = vec![Listen::Tcp(SocketAddr::from(([0; 8], 0))).into()];
        // A machine without IPv6 has no such listener.
        let Ok(bound) = bind(&settings) else { return };
        let port = bound[0].local_addr().unwrap().port();
        tokio::spawn(Server::new(settings).serve(bound, who, CancellationToken::new()));
        let Ok(mut caller) = TcpStream::connect(("127.0.0.1", port)).await else { return };
        let ours = caller.local_addr().unwrap();
        caller.write_all(LAST_GET).await.unwrap();
        let answer = rest(&mut caller).await;
        assert!(answer.contains(&format!("{:?}", Remote::Tcp(ours))), "{answer}");
    }

    #[tokio::test]
    async fn a_unix_caller_is_known_by_its_user_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let settings = ServerSettings::new(vec![Listen::Unix { path: path.clone(), mode: 0o600 }]);
        let bound = bind(&settings).unwrap();
        tokio::spawn(Server::new(settings).serve(bound, who, CancellationToken::new()));
        let mut caller = UnixStream::connect(&path).await.unwrap();
        caller.write_all(LAST_GET).await.unwrap();
        let uid = Some(rustix::process::getuid().as_raw());
        let answer = rest(&mut caller).await;
        assert!(answer.contains(&format!("{:?}", Remote::Unix { uid })), "{answer}");
    }

    #[tokio::test]
    async fn accepted_connections_inherit_the_listeners_options() {
        let bound = bind(&on_a_free_port()).unwrap();
        let _caller = TcpStream::connect(bound[0].local_addr().unwrap()).await.unwrap();
        let (socket, ..) = poll_fn(|cx| poll_accept(&bound, &mut 0, cx)).await.unwrap();
        let Socket::Tcp(stream) = socket else { panic!("not a TCP socket") };
        assert!(stream.nodelay().unwrap());
        assert!(rustix::net::sockopt::socket_keepalive(&stream).unwrap());
        let idle = rustix::net::sockopt::tcp_keepidle(&stream).unwrap();
        assert_eq!(idle, Duration::from_secs(30));
    }

    #[tokio::test]
    async fn where_all_are_busy_a_newcomer_waits_until_one_is_done() {
        let mut settings = on_a_free_port();
        settings.max_connections = 1;
        let (answer, mut events) = queue(0);
        let running = start(settings, answer);
        let mut first = running.connect().await;
        first.write_all(b"GET /first HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/first")));
        let mut second = running.connect().await;
        second.write_all(LAST_GET).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(300), events.recv()).await;
        assert!(early.is_err(), "{early:?}");
        assert_eq!(running.server.connections(), 1);
        drop(first);
        assert_eq!(soon(events.recv()).await, Some(dropped("/first")));
        assert_eq!(soon(events.recv()).await, Some(waits("/a")));
    }

    #[tokio::test]
    async fn whoever_was_silent_the_longest_makes_room_and_nobody_who_is_busy() {
        let mut settings = on_a_free_port();
        settings.max_connections = 4;
        let (queue, mut events) = queue(0);
        let running = start(settings, move |request: Request<Body>, peer: Peer| {
            let queue = queue.clone();
            async move {
                if request.uri().path() == "/busy" {
                    return queue.answer(request, peer).await;
                }
                echo(request, peer).await
            }
        });
        let mut busy = running.connect().await;
        busy.write_all(b"GET /busy HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/busy")));
        let mut half_open = running.connect().await;
        half_open.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        // That one is accepted before the next, which is idle since its answer.
        let mut idle = running.connect().await;
        get(&mut idle, "/idle").await;
        let (mut h2, connection) = h2::client::handshake(running.connect().await).await.unwrap();
        let h2_ends = tokio::spawn(connection);
        let request = Request::get("http://x/h2").body(()).unwrap();
        let (response, _) = h2.send_request(request, true).unwrap();
        let body = soon(response).await.unwrap().into_body();
        soon(whole(body)).await.unwrap();

        let mut newcomers = Vec::new();
        for (path, old) in
            [("/one", Some(&mut half_open)), ("/two", Some(&mut idle)), ("/three", None)]
        {
            let mut newcomer = running.connect().await;
            soon(get(&mut newcomer, path)).await;
            newcomers.push(newcomer);
            match old {
                Some(old) => assert_eq!(soon(rest(old)).await, "", "{path}"),
                // GOAWAY with NO_ERROR.
                None => {
                    soon(async {
                        while !h2_ends.is_finished() {
                            tokio::task::yield_now().await
                        }
                    })
                    .await
                }
            }
        }
        soon(h2_ends).await.unwrap().unwrap();
        assert_eq!(running.server.connections(), 4);
        assert!(events.try_recv().is_err(), "the busy one was ended");
    }

    #[tokio::test]
    async fn a_panic_never_takes_the_listener_down() {
        let running = start(on_a_free_port(), |request: Request<Body>, peer: Peer| async move {
            assert_ne!(request.uri().path(), "/bug", "a bug");
            echo(request, peer).await
        });
        for _ in 0..3 {
            let mut caller = running.connect().await;
            caller.write_all(b"GET /bug HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            assert!(soon(rest(&mut caller)).await.starts_with("HTTP/1.1 500"));
        }
        get(&mut running.connect().await, "/fine").await;
    }

    #[tokio::test]
    async fn a_body_that_panics_ends_its_connection_alone() {
        struct Bug;
        impl http_body::Body for Bug {
            type Data = bytes::Bytes;
            type Error = crate::base::BoxError;
            fn poll_frame(
                self: std::pin::Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
                panic!("a bug in a body")
            }
        }
        let mut settings = on_a_free_port();
        settings.max_connections = 1;
        let running = start(settings, |request: Request<Body>, peer: Peer| async move {
            if request.uri().path() == "/a" {
                return Response::new(Body::boxed(Bug));
            }
            echo(request, peer).await
        });
        let mut caller = running.connect().await;
        caller.write_all(LAST_GET).await.unwrap();
        soon(rest(&mut caller)).await;
        // Its place is free again.
        soon(get(&mut running.connect().await, "/fine")).await;
    }

    #[tokio::test]
    async fn when_stopped_the_port_is_closed_at_once_and_calls_under_way_are_answered() {
        let (go, wait) = mpsc::channel::<()>(1);
        let (tell, mut told) = mpsc::channel::<()>(1);
        let wait = Arc::new(tokio::sync::Mutex::new(wait));
        let running = start(on_a_free_port(), move |request: Request<Body>, peer: Peer| {
            let (wait, tell) = (Arc::clone(&wait), tell.clone());
            async move {
                tell.send(()).await.unwrap();
                wait.lock().await.recv().await;
                echo(request, peer).await
            }
        });
        let mut caller = running.connect().await;
        caller.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        soon(told.recv()).await;
        running.stop.cancel();
        soon(closed(running.address)).await;
        assert!(!running.done.is_finished());
        go.send(()).await.unwrap();
        let answer = soon(rest(&mut caller)).await;
        assert!(answer.contains("connection: close") && answer.ends_with("/a"), "{answer}");
        soon(running.done).await.unwrap();
    }

    /// Waits until nobody listens there.
    async fn closed(address: SocketAddr) {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_not_done_by_the_drain_timeout_is_dropped() {
        let mut settings = on_a_free_port();
        settings.drain_timeout = Duration::from_millis(50);
        let (answer, mut events) = queue(0);
        let running = start(settings, answer);
        let mut caller = running.connect().await;
        caller.write_all(LAST_GET).await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/a")));
        running.stop.cancel();
        soon(running.done).await.unwrap();
        assert_eq!(events.recv().await, Some(dropped("/a")));
        assert_eq!(running.server.connections(), 0);
    }

    #[tokio::test]
    async fn dropping_the_server_ends_every_connection_at_once() {
        let (answer, mut events) = queue(0);
        let running = start(on_a_free_port(), answer);
        let mut caller = running.connect().await;
        caller.write_all(LAST_GET).await.unwrap();
        assert_eq!(soon(events.recv()).await, Some(waits("/a")));
        running.done.abort();
        assert_eq!(soon(events.recv()).await, Some(dropped("/a")));
        assert_eq!(soon(caller.read(&mut [0; 1])).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn the_sockets_file_is_gone_as_soon_as_serving_stops() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let settings = ServerSettings::new(vec![Listen::Unix { path: path.clone(), mode: 0o600 }]);
        let bound = bind(&settings).unwrap();
        let stop = CancellationToken::new();
        let done = tokio::spawn(Server::new(settings).serve(bound, echo, stop.clone()));
        stop.cancel();
        soon(done).await.unwrap();
        assert!(!path.exists());
    }

    /// Runs itself in a process of its own: the limit is one for a whole process.
    #[test]
    fn a_process_without_free_file_descriptors_serves_again_when_it_has_some() {
        const ALONE: &str = "OMNIGATE_TEST_ALONE";
        let name = "a_process_without_free_file_descriptors_serves_again_when_it_has_some";
        if std::env::var_os(ALONE).is_none() {
            let path = format!("server::accept::tests::{name}");
            let run = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", &path, "--nocapture"])
                .env(ALONE, "1")
                .output()
                .unwrap();
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use rustix::process::{Resource, getrlimit, setrlimit};
            let running = start(on_a_free_port(), echo);
            let mut limit = getrlimit(Resource::Nofile);
            limit.current = Some(64);
            setrlimit(Resource::Nofile, limit).unwrap();
            let null = std::fs::File::open("/dev/null").unwrap();
            let mut files: Vec<_> = std::iter::from_fn(|| null.try_clone().ok()).collect();
            // One is left: the caller's end takes it, ours gets none.
            files.pop();
            let mut caller = running.connect().await;
            caller.write_all(LAST_GET).await.unwrap();
            let mut byte = [0; 1];
            let early = tokio::time::timeout(2 * ACCEPT_PAUSE, caller.read(&mut byte)).await;
            assert!(early.is_err(), "answered without a file descriptor");
            drop(files);
            assert!(soon(rest(&mut caller)).await.ends_with("/a"));
        });
    }

    #[test]
    fn only_a_lack_of_sockets_makes_the_loop_pause() {
        let about = |errno: Errno| is_about_one_caller(&io::Error::from(errno));
        assert!(about(Errno::CONNABORTED));
        for lack in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(!about(lack), "{lack}");
        }
    }
}

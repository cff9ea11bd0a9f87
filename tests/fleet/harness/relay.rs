//! What lies between a gateway and Redis, and everything that can happen to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How a connection fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Every byte takes so long, in either direction.
    Slow(Duration),
    /// Nothing comes through, and nobody is told.
    Frozen,
    /// Closed; whoever connects is hung up on.
    Cut,
}

/// Where to, and how.
#[derive(Clone, Debug)]
struct Road {
    target: PathBuf,
    /// Of connections that have subscribed to something.
    pushes: Way,
    /// Of all others.
    rest: Way,
}

/// No reply is to be cut.
const WHOLE: usize = usize::MAX;

/// A port that leads to a Redis.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    road: watch::Sender<Road>,
    cut_after: Arc<AtomicUsize>,
    _serving: DropGuard,
}

impl Relay {
    pub(crate) async fn open(target: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let road = Road { target: target.to_owned(), pushes: Way::Open, rest: Way::Open };
        let (road, seen) = watch::channel(road);
        let cut_after = Arc::new(AtomicUsize::new(WHOLE));
        let (stop, cut) = (CancellationToken::new(), cut_after.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(join(near, seen.clone(), cut.clone()));
            }
        }));
        Self { address, road, cut_after, _serving: stop.drop_guard() }
    }

    pub(crate) fn set(&self, way: Way) {
        self.road.send_modify(|road| (road.pushes, road.rest) = (way, way));
    }

    pub(crate) fn set_pushes(&self, way: Way) {
        self.road.send_modify(|road| road.pushes = way);
    }

    /// The same way to somebody else. Closes what was open.
    pub(crate) fn lead_to(&self, target: &Path) {
        self.road.send_modify(|road| road.target = target.to_owned());
    }

    /// Cuts the next reply after so many bytes, and the connection with it.
    pub(crate) fn cut_a_reply(&self, after: usize) {
        self.cut_after.store(after, Ordering::Relaxed);
    }

    /// Whether the reply that was to be cut has been.
    pub(crate) fn has_cut(&self) -> bool {
        self.cut_after.load(Ordering::Relaxed) == WHOLE
    }
}

/// Carries one connection, until either side or the road ends it.
async fn join(near: TcpStream, mut road: watch::Receiver<Road>, cut: Arc<AtomicUsize>) {
    let at_first = road.borrow_and_update().clone();
    if (at_first.rest, at_first.pushes) == (Way::Cut, Way::Cut) {
        return;
    }
    let Ok(far) = UnixStream::connect(&at_first.target).await else { return };
    near.set_nodelay(true).unwrap();
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    let listens = Arc::new(AtomicBool::new(false));
    let there = Pipe { road: road.clone(), listens: listens.clone(), replies: None };
    let back = Pipe { road: road.clone(), listens: listens.clone(), replies: Some(cut) };
    let ended = async {
        loop {
            let now = road.borrow_and_update().clone();
            if now.way(&listens) == Way::Cut || now.target != at_first.target {
                return;
            }
            if road.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = there.carry(from_near, to_far) => {}
        () = back.carry(from_far, to_near) => {}
        () = ended => {}
    }
}

impl Road {
    fn way(&self, listens: &AtomicBool) -> Way {
        if listens.load(Ordering::Relaxed) { self.pushes } else { self.rest }
    }
}

/// One direction.
struct Pipe {
    road: watch::Receiver<Road>,
    listens: Arc<AtomicBool>,
    /// How much of the next reply comes through, where it is replies that go here.
    replies: Option<Arc<AtomicUsize>>,
}

impl Pipe {
    async fn carry(self, from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin) {
        let (send, queue) = mpsc::unbounded_channel();
        let road = self.road.clone();
        let listens = self.listens.clone();
        tokio::join!(self.take(from, send), give(queue, to, road, listens));
    }

    async fn take(
        self,
        mut from: impl AsyncRead + Unpin,
        send: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
    ) {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            let mut piece = bytes[..read].to_vec();
            if self.replies.is_none()
                && piece.windows(9).any(|it| it.eq_ignore_ascii_case(b"subscribe"))
            {
                self.listens.store(true, Ordering::Relaxed);
                // A subscription that is cut is so from its beginning.
                if self.road.borrow().way(&self.listens) == Way::Cut {
                    return;
                }
            }
            let late = match self.road.borrow().way(&self.listens) {
                Way::Slow(by) => by,
                Way::Open | Way::Frozen | Way::Cut => Duration::ZERO,
            };
            let most = match &self.replies {
                Some(cut) if !self.listens.load(Ordering::Relaxed) => {
                    cut.swap(WHOLE, Ordering::Relaxed)
                }
                Some(_) | None => WHOLE,
            };
            let is_cut = most != WHOLE;
            piece.truncate(most);
            if send.send((Instant::now() + late, piece)).is_err() || is_cut {
                return;
            }
        }
    }
}

async fn give(
    mut queue: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>,
    mut to: impl AsyncWrite + Unpin,
    mut road: watch::Receiver<Road>,
    listens: Arc<AtomicBool>,
) {
    while let Some((due, piece)) = queue.recv().await {
        sleep_until(due).await;
        let thawed = |road: &Road| road.way(&listens) != Way::Frozen;
        let cut = match road.wait_for(thawed).await {
            Ok(road) => road.way(&listens) == Way::Cut,
            Err(_) => true,
        };
        // What was on its way when the road was cut never comes.
        if cut || to.write_all(&piece).await.is_err() {
            return;
        }
    }
}

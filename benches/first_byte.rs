//! What the gateway adds to the way of a byte: the first one of an answer, each piece of a stream, and
//! of an upload. On real sockets on loopback, beside the same without a gateway, in turn, in one run:
//! `cargo bench --bench first_byte`. Prints milliseconds.
//!
//! Both ends are in this process, so that one clock stamps them. The upstream stamps a piece just before
//! it writes it, the client just after it read it; for uploads it is the other way round. The gateway is a
//! process of its own.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use omnigate::fake_omni::{Key, KeyKind};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

/// How far behind upstream's the first byte may be.
const BAR: Duration = Duration::from_millis(5);

/// The pause between two pieces of a stream.
const PACE: Duration = Duration::from_millis(20);

/// How many pieces a stream has after its head.
const PIECES: usize = 8;

/// No call of a run takes longer.
const LONGEST: Duration = Duration::from_secs(30);

const DOWNLOAD: usize = 10 * 1024 * 1024;

/// What is sent, and in which direction the pieces go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ndjson,
    LongPoll,
    Events,
    Download,
    Upload,
}

const KINDS: [Kind; 5] = [Kind::Ndjson, Kind::LongPoll, Kind::Events, Kind::Download, Kind::Upload];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ndjson => "query/run",
            Self::LongPoll => "query/wait",
            Self::Events => "MCP events",
            Self::Download => "10 MiB download",
            Self::Upload => "upload",
        })
    }
}

impl Kind {
    fn request(self) -> &'static str {
        match self {
            Self::Ndjson => {
                "POST /api/v1/query/run HTTP/1.1\r\ncontent-length: 2\r\n\
                 content-type: application/json\r\n"
            }
            Self::LongPoll => "GET /api/v1/query/wait?job_ids=a HTTP/1.1\r\n",
            Self::Events => "GET /mcp/https HTTP/1.1\r\naccept: text/event-stream\r\n",
            Self::Download => "GET /api/v1/dashboards/d/download/j HTTP/1.1\r\n",
            Self::Upload => {
                "POST /api/v1/uploads HTTP/1.1\r\ntransfer-encoding: chunked\r\n\
                 content-type: multipart/form-data; boundary=b\r\n"
            }
        }
    }

    fn media(self) -> &'static str {
        match self {
            Self::Ndjson | Self::LongPoll => "text/ndjson",
            Self::Events => "text/event-stream",
            Self::Download => "application/pdf",
            Self::Upload => "application/json",
        }
    }
}

/// What one run of one kind took on its way, in the order of sending.
type Times = Vec<Duration>;

/// What all runs of one kind by one way took.
#[derive(Default)]
struct Parts {
    heads: Times,
    pieces: Times,
}

impl Parts {
    fn add(&mut self, kind: Kind, mut times: Times) {
        // The answer to an upload is not what is looked at.
        if kind != Kind::Upload {
            self.heads.push(times.remove(0));
        }
        self.pieces.extend(times);
    }
}

/// When each piece was sent, or came.
type Stamps = Vec<Instant>;

fn main() -> ExitCode {
    let real = std::env::args().any(|arg| arg == "--bench");
    let rounds = if real { 60 } else { 2 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let omni = listener.local_addr().unwrap();
        let gateway = Gateway::start(omni);
        until_open(gateway.at).await;
        // The look at whether it is open was a connection, but no request.
        if real {
            println!(
                "{rounds} calls of each kind by each way, in turn; added = omnigate - direct\n"
            );
            println!(
                "{:22} {:9} {:>7} {:>9} {:>9} {:>9}",
                "kind", "way", "stamps", "p50 ms", "p99 ms", "max ms"
            );
        }
        let mut kept = true;
        for kind in KINDS {
            // The head, and what comes after it.
            let (mut direct, mut through) = (Parts::default(), Parts::default());
            for _ in 0..rounds {
                direct.add(kind, run(kind, omni, &listener).await);
                through.add(kind, run(kind, gateway.at, &listener).await);
            }
            if real {
                kept &= show(&format!("{kind}, head"), direct.heads, through.heads);
                kept &= show(&format!("{kind}, pieces"), direct.pieces, through.pieces);
            }
        }
        if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}

/// Prints the lines of a kind; says whether the bar was kept.
fn show(name: &str, mut direct: Times, mut through: Times) -> bool {
    assert_eq!(direct.len(), through.len());
    if direct.is_empty() {
        return true;
    }
    direct.sort_unstable();
    through.sort_unstable();
    let at = |times: &Times, part: f64| {
        times[((times.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1000.0
    };
    let line = |way: &str, of: &dyn Fn(f64) -> f64| {
        let (half, most, all) = (of(0.5), of(0.99), of(1.0));
        println!("{name:22} {way:9} {:>7} {half:>9.3} {most:>9.3} {all:>9.3}", through.len());
    };
    line("direct", &|part| at(&direct, part));
    line("omnigate", &|part| at(&through, part));
    line("added", &|part| at(&through, part) - at(&direct, part));
    let added = at(&through, 0.99) - at(&direct, 0.99);
    let kept = added <= BAR.as_secs_f64() * 1000.0;
    if !kept {
        println!("{name}: missed its bar: at most {BAR:?} added in 99 of 100");
    }
    kept
}

/// One call of a kind, and how long each of its pieces took.
async fn run(kind: Kind, target: SocketAddr, listener: &TcpListener) -> Times {
    let both = async { tokio::join!(client(kind, target), upstream(kind, listener)) };
    let (at_client, at_omni) = timeout(LONGEST, both).await.unwrap();
    let (from, to) = match kind {
        Kind::Upload => (at_client, at_omni),
        Kind::Ndjson | Kind::LongPoll | Kind::Events | Kind::Download => (at_omni, at_client),
    };
    assert_eq!(from.len(), to.len(), "{kind}");
    from.into_iter().zip(to).map(|(from, to)| to - from).collect()
}

async fn client(kind: Kind, target: SocketAddr) -> Stamps {
    let mut socket = TcpStream::connect(target).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let head = format!("{}host: 127.0.0.1\r\nconnection: close\r\n\r\n", kind.request());
    socket.write_all(head.as_bytes()).await.unwrap();
    match kind {
        Kind::Ndjson => socket.write_all(b"{}").await.unwrap(),
        Kind::Upload => return feed(&mut socket).await,
        Kind::LongPoll | Kind::Events | Kind::Download => {}
    }
    let mut stamps = Stamps::new();
    let mut seen = Vec::new();
    // The head is a piece; then each number that comes.
    until(&mut socket, &mut seen, b"\r\n\r\n").await;
    stamps.push(Instant::now());
    if kind == Kind::Download {
        let mut count = seen.len();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match socket.read(&mut buffer).await.unwrap() {
                0 => break,
                some => count += some,
            }
        }
        assert!(count > DOWNLOAD, "{count}");
        return stamps;
    }
    for piece in 0..PIECES {
        until(&mut socket, &mut seen, mark(piece).as_bytes()).await;
        stamps.push(Instant::now());
    }
    stamps
}

/// Uploads piece by piece.
async fn feed(socket: &mut TcpStream) -> Stamps {
    let mut stamps = Stamps::new();
    for piece in 0..PIECES {
        sleep(PACE).await;
        stamps.push(Instant::now());
        socket.write_all(chunk(&mark(piece)).as_bytes()).await.unwrap();
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    until(socket, &mut Vec::new(), b"{}").await;
    stamps
}

async fn upstream(kind: Kind, listener: &TcpListener) -> Stamps {
    let (mut socket, mut seen) = loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let mut seen = vec![0];
        // One that only looked whether we are there.
        if matches!(socket.read(&mut seen).await, Ok(1)) {
            break (socket, seen);
        }
    };
    until(&mut socket, &mut seen, b"\r\n\r\n").await;
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {}\r\nconnection: close\r\n", kind.media());
    let mut stamps = Stamps::new();
    match kind {
        Kind::Upload => {
            for piece in 0..PIECES {
                until(&mut socket, &mut seen, mark(piece).as_bytes()).await;
                stamps.push(Instant::now());
            }
            until(&mut socket, &mut seen, b"0\r\n\r\n").await;
            let answer = format!("{head}content-length: 2\r\n\r\n{{}}");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
        Kind::Download => {
            sleep(PACE).await;
            stamps.push(Instant::now());
            let head = format!("{head}content-length: {DOWNLOAD}\r\n\r\n");
            socket.write_all(head.as_bytes()).await.unwrap();
            let block = vec![b'x'; 64 * 1024];
            for _ in 0..DOWNLOAD / block.len() {
                socket.write_all(&block).await.unwrap();
            }
        }
        Kind::Ndjson | Kind::LongPoll | Kind::Events => {
            // A poll is held for a while before anything comes.
            sleep(if kind == Kind::LongPoll { 10 * PACE } else { PACE }).await;
            stamps.push(Instant::now());
            let head = format!("{head}transfer-encoding: chunked\r\n\r\n");
            socket.write_all(head.as_bytes()).await.unwrap();
            for piece in 0..PIECES {
                sleep(PACE).await;
                stamps.push(Instant::now());
                socket.write_all(chunk(&mark(piece)).as_bytes()).await.unwrap();
            }
            socket.write_all(b"0\r\n\r\n").await.unwrap();
        }
    }
    socket.shutdown().await.unwrap();
    stamps
}

/// Reads until this has come.
async fn until(socket: &mut TcpStream, seen: &mut Vec<u8>, end: &[u8]) {
    while !seen.windows(end.len()).any(|bytes| bytes == end) {
        let more = socket.read_buf(seen).await.unwrap();
        assert_ne!(more, 0, "cut off after {:?}", String::from_utf8_lossy(seen));
    }
}

/// What a piece ends with, and no other.
fn mark(piece: usize) -> String {
    format!("data: {{\"piece\":\"number {piece}\"}}\n\n")
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// omnigate in a process and a folder of its own; dropping it ends both.
struct Gateway {
    at: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Gateway {
    fn start(omni: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let token = Key::made_up(KeyKind::Organization, "bench");
        std::fs::write(folder.path().join("org"), token.token()).unwrap();
        let text = format!(
            r#"
            state_dir = "state"
            server.listen = "{at}"
            admin.listen = "127.0.0.1:0"
            upstream.base_url = "http://{omni}"
            vault = {{ backend = "dir", path = "." }}
            telemetry.log = "warn"
            credentials.org = {{ kind = "organization", secret = "org" }}
            budgets.omni = {{ limit = 100000, profile = "burst", cold_start = "trust" }}
            [[routes]]
            name = "all"
            path = "/{{*rest}}"
            credential = "org"
            "#
        );
        std::fs::write(folder.path().join("omnigate.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_omnigate"));
        command.args(["serve", "--config", "omnigate.toml"]).current_dir(folder.path());
        Self { at, child: command.spawn().unwrap(), _folder: folder }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

async fn until_open(at: SocketAddr) {
    let began = Instant::now();
    while TcpStream::connect(at).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "nobody listens at {at}");
        sleep(Duration::from_millis(10)).await;
    }
}

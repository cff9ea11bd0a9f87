//! 300 calls from 20 callers against a limit of 60, on real sockets in real time: omnigate in each
//! profile, nginx `limit_req`, and nobody in between. `benches/compare/limit` runs it.
//!
//! Every run has a fake Omni, a proxy process and a folder of its own. The fake and the callers live
//! in this process, in every arm alike.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use omnigate::fake_omni::{Algorithm, FakeOmni, Key, KeyKind, Limit, Settings};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const LIMIT: u32 = 60;

/// How much longer than the profile's minimum omnigate may take.
const BAR: f64 = 1.03;

/// How much is done.
#[derive(Clone, Copy, Debug)]
struct Size {
    calls: u32,
    callers: u32,
    window: Duration,
    guard: Duration,
    rounds: u32,
}

const REAL: Size = Size {
    calls: 300,
    callers: 20,
    window: Duration::from_secs(2),
    guard: Duration::from_millis(100),
    rounds: 3,
};

/// For `cargo test --benches`, which only wants to know that it runs.
const SMOKE: Size = Size {
    calls: 60,
    callers: 20,
    window: Duration::from_millis(200),
    guard: Duration::from_millis(200),
    rounds: 1,
};

/// Who stands between the callers and Omni.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    Omnigate(Profile),
    /// nginx at the very rate that Omni allows.
    NginxAtTheLimit,
    /// nginx at the pace of omnigate's guard.
    NginxAtOurPace,
    /// Nobody: callers who do not wait.
    Direct,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    Burst,
    Smooth,
    Strict,
}

const ARMS: [Arm; 6] = [
    Arm::Omnigate(Profile::Smooth),
    Arm::NginxAtTheLimit,
    Arm::NginxAtOurPace,
    Arm::Omnigate(Profile::Burst),
    Arm::Omnigate(Profile::Strict),
    Arm::Direct,
];

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Omnigate(Profile::Burst) => "omnigate, burst",
            Self::Omnigate(Profile::Smooth) => "omnigate, smooth",
            Self::Omnigate(Profile::Strict) => "omnigate, strict",
            Self::NginxAtTheLimit => "nginx, 60 per window",
            Self::NginxAtOurPace => "nginx, 60 per window and guard",
            Self::Direct => "direct",
        })
    }
}

impl Arm {
    /// The shortest time in which all calls can be sent.
    fn minimum(self, size: Size) -> Duration {
        let span = size.window + size.guard;
        match self {
            // All windows but the last are waited out.
            Self::Omnigate(Profile::Burst) => span * ((size.calls - 1) / LIMIT),
            // The first ones at once, and then a gap that makes up for it.
            Self::Omnigate(Profile::Smooth) | Self::NginxAtOurPace => {
                span * (size.calls - 1) / LIMIT
            }
            // A bucket of two, refilled a little more slowly.
            Self::Omnigate(Profile::Strict) => span * (size.calls - 2) / (LIMIT - 1),
            Self::NginxAtTheLimit => size.window * (size.calls - 1) / LIMIT,
            Self::Direct => Duration::ZERO,
        }
    }
}

/// What the callers saw, and what arrived at Omni.
#[derive(Debug)]
struct Seen {
    answered: usize,
    refused: usize,
    other: usize,
    makespan: Duration,
    highest: usize,
    /// Of each call from its start to the end of its answer, the shortest first.
    waits: Vec<Duration>,
}

impl Seen {
    fn wait(&self, part: f64) -> Duration {
        let last = self.waits.len() - 1;
        self.waits[(last as f64 * part).round() as usize]
    }
}

fn main() -> ExitCode {
    let real = std::env::args().any(|arg| arg == "--bench");
    let size = if real { REAL } else { SMOKE };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if !real {
            let seen = run(Arm::Omnigate(Profile::Smooth), size).await;
            assert_eq!(seen.answered, size.calls as usize, "{seen:?}");
            return ExitCode::SUCCESS;
        }
        println!(
            "{} calls from {} callers, {LIMIT} per {:?}, guard {:?}",
            size.calls, size.callers, size.window, size.guard
        );
        println!("highest: the most arrivals in any rolling {:?}\n", size.window);
        println!(
            "{:30} {:>5} {:>5} {:>5} {:>9} {:>7} {:>7} {:>8} {:>8}",
            "arm", "200", "429", "other", "makespan", "ratio", "highest", "p50", "p99"
        );
        let mut missed = Vec::new();
        for _ in 0..size.rounds {
            for arm in ARMS {
                let seen = run(arm, size).await;
                let ratio = show(arm, size, &seen);
                let kept = seen.answered == size.calls as usize && ratio <= BAR;
                if matches!(arm, Arm::Omnigate(_)) && !kept {
                    missed.push(arm);
                }
            }
        }
        for arm in &missed {
            println!("\n{arm} missed its bar: all 200, and at most {BAR} of the minimum");
        }
        if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}

/// Prints a line of the table; returns how many times its minimum the run took.
fn show(arm: Arm, size: Size, seen: &Seen) -> f64 {
    let minimum = arm.minimum(size).as_secs_f64();
    let ratio = seen.makespan.as_secs_f64() / minimum;
    let shown = if minimum > 0.0 { format!("{ratio:.4}") } else { "-".to_owned() };
    println!(
        "{arm:30} {:>5} {:>5} {:>5} {:>7.3} s {shown:>7} {:>7} {:>5} ms {:>5} ms",
        seen.answered,
        seen.refused,
        seen.other,
        seen.makespan.as_secs_f64(),
        seen.highest,
        seen.wait(0.5).as_millis(),
        seen.wait(0.99).as_millis(),
    );
    ratio
}

async fn run(arm: Arm, size: Size) -> Seen {
    let key = Key::made_up(KeyKind::Organization, "bench");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let limit = Limit::new(Algorithm::SlidingLog, LIMIT, size.window);
    let settings = Settings { keys: vec![key.clone()], limit, ..Settings::default() };
    let omni = FakeOmni::new(settings);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(omni.clone().serve(listener, stop.clone()));

    let proxy = Proxy::start(arm, size, at, key.token());
    let target = proxy.as_ref().map_or(at, |proxy| proxy.at);
    until_open(target).await;
    // Who comes without a proxy brings the key along.
    let bearer = proxy.is_none().then(|| format!("Bearer {}", key.token()));
    let began = Instant::now();
    let callers: Vec<_> = (0..size.callers)
        .map(|_| tokio::spawn(caller(target, size.calls / size.callers, bearer.clone())))
        .collect();
    let mut answers = Vec::new();
    for caller in callers {
        answers.extend(caller.await.unwrap());
    }
    let makespan = began.elapsed();
    stop.cancel();
    serving.await.unwrap();
    let count = |wanted| answers.iter().filter(|(status, _)| *status == wanted).count();
    let (answered, refused) = (count(StatusCode::OK), count(StatusCode::TOO_MANY_REQUESTS));
    let mut waits: Vec<Duration> = answers.iter().map(|(_, wait)| *wait).collect();
    waits.sort_unstable();
    Seen {
        answered,
        refused,
        other: answers.len() - answered - refused,
        makespan,
        highest: omni.highest_in_any_window(size.window),
        waits,
    }
}

/// Makes one call after the other on one connection.
async fn caller(
    target: SocketAddr,
    calls: u32,
    bearer: Option<String>,
) -> Vec<(StatusCode, Duration)> {
    let socket = TcpStream::connect(target).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..calls {
        let mut request = Request::get("/api/v1/models").header(HOST, target.to_string());
        if let Some(bearer) = &bearer {
            request = request.header("authorization", bearer);
        }
        let began = Instant::now();
        sender.ready().await.unwrap();
        let answer =
            sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        let status = answer.status();
        answer.into_body().collect().await.unwrap();
        answers.push((status, began.elapsed()));
    }
    answers
}

/// A proxy process in a folder of its own; dropping it ends both.
struct Proxy {
    at: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Proxy {
    fn start(arm: Arm, size: Size, omni: SocketAddr, token: &str) -> Option<Self> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare");
        let at = free_port();
        let millis = |time: Duration| format!("{}ms", time.as_millis());
        let per_minute =
            |span: Duration| format!("{:.0}r/m", f64::from(LIMIT) * 60.0 / span.as_secs_f64());
        let rate = match arm {
            Arm::NginxAtTheLimit => per_minute(size.window),
            Arm::NginxAtOurPace => per_minute(size.window + size.guard),
            Arm::Omnigate(_) | Arm::Direct => String::new(),
        };
        let profile = match arm {
            Arm::Omnigate(profile) => format!("{profile:?}").to_lowercase(),
            Arm::NginxAtTheLimit | Arm::NginxAtOurPace | Arm::Direct => String::new(),
        };
        let fill = |text: &str| {
            text.replace("@LISTEN@", &at.to_string())
                .replace("@OMNI@", &omni.to_string())
                .replace("@WINDOW@", &millis(size.window))
                .replace("@GUARD@", &millis(size.guard))
                .replace("@PROFILE@", &profile)
                .replace("@RATE@", &rate)
                .replace("@BEARER@", token)
        };
        let folder = tempfile::tempdir().unwrap();
        let (name, mut command) = match arm {
            Arm::Omnigate(_) => {
                std::fs::write(folder.path().join("org"), token).unwrap();
                let mut command = Command::new(env!("CARGO_BIN_EXE_omnigate"));
                command.args(["serve", "--config", "omnigate.toml"]);
                ("omnigate.toml", command)
            }
            Arm::NginxAtTheLimit | Arm::NginxAtOurPace => {
                let mut command = Command::new("nginx");
                command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(folder.path());
                ("nginx.conf", command)
            }
            Arm::Direct => return None,
        };
        let text = std::fs::read_to_string(sources.join(name)).unwrap();
        std::fs::write(folder.path().join(name), fill(&text)).unwrap();
        let child = command.current_dir(folder.path()).spawn().unwrap();
        Some(Self { at, child, _folder: folder })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Not SIGKILL: nginx has a child of its own to end.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

async fn until_open(at: SocketAddr) {
    let began = Instant::now();
    while TcpStream::connect(at).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "nobody listens at {at}");
        sleep(Duration::from_millis(10)).await;
    }
}

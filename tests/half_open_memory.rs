//! What a connection occupies whose head never ends. Runs in a process of its own, so that what is
//! measured is its own.
//!
//! `cargo test --test half_open_memory -- --nocapture` prints the figure.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test file ends by panicking")]
#![allow(clippy::print_stdout, reason = "the figure is the point")]

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use http::{Request, Response};
use omnigate::base::{Body, Peer};
use omnigate::server::{Listen, Server, ServerSettings, bind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;

const KIB: usize = 1024;
/// A part of them where the process may not have a descriptor for each end.
const CONNECTIONS: usize = 5000;
/// Measured in a debug build: 19,036 bytes. Two of hyper's buffers are most of that.
const MOST_EACH: usize = 20 * KIB;

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * KIB
}

async fn nobody(_: Request<Body>, _: Peer) -> Response<Body> {
    Response::new(Body::empty())
}

#[tokio::test]
async fn a_half_open_connection_occupies_at_most_20_kib() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let fit = usize::try_from(descriptors.saturating_sub(64) / 2).unwrap_or(usize::MAX);
    let connections = CONNECTIONS.min(fit);

    let free = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut settings = ServerSettings::new(vec![free]);
    // The machine may be slow; none is to end before it was counted.
    settings.header_timeout = Duration::from_secs(600);
    let bound = bind(&settings).unwrap();
    let address = bound[0].local_addr().unwrap();
    let server = Server::new(settings);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.clone().serve(bound, nobody, stop.clone()));

    let before = resident();
    let mut callers = Vec::with_capacity(connections);
    while callers.len() < connections {
        let mut caller = TcpStream::connect(address).unwrap();
        caller.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx: y").unwrap();
        callers.push(caller);
        while server.connections() < callers.len() {
            tokio::task::yield_now().await;
        }
    }
    // Each has its bytes and waits for more.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let each = (resident() - before) / connections;
    println!("{connections} half-open connections: {each} bytes each");
    assert!(each <= MOST_EACH, "{each}");
    serving.abort();
}

//! An upstream that keeps every byte, answers each request with its serial, and believes nobody.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::readings::{Habits, requests};

pub(super) struct Witness {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    _open: DropGuard,
}

impl Witness {
    pub(super) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let accepting = accept(listener, seen.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(accepting));
        Self { address, seen, _open: stop.drop_guard() }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What each connection has brought so far.
    pub(super) fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut open = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(Vec::new());
            seen.len() - 1
        };
        open.spawn(answer(stream, number, seen.clone()));
    }
}

async fn answer(mut stream: TcpStream, number: usize, seen: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut buffer = vec![0; 16 * 1024];
    let mut answered = 0;
    loop {
        let n = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => n,
        };
        let fresh = {
            let mut seen = seen.lock().unwrap();
            let raw = &mut seen[number];
            raw.extend_from_slice(&buffer[..n]);
            requests(&raw[answered..], Habits::STRICT)
        };
        for request in &fresh.0 {
            // It keeps the gateway waiting, and reads on.
            if request.line.contains("/slow?") {
                continue;
            }
            let serial = request.serial();
            let length = serial.len();
            let body = if request.is_head() { "" } else { serial };
            let text = format!(
                "HTTP/1.1 200 OK\r\nX-Serial: {serial}\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
        answered += fresh.1;
    }
}

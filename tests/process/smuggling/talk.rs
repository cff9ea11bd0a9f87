//! One conversation, byte for byte, and what its answers may be.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than the clocks of the gateway, so that its own end comes first.
const QUIET: Duration = Duration::from_millis(600);

/// Stands for the case's number in what is sent; as long as the number, so that lengths stay right.
pub(super) const NUMBER: &str = "NNNNNN";

/// A request that nobody meant.
pub(super) const EVIL: &str = "GET /x?serial=NNNNNN.e HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// What comes of one request, to whoever reads the conversation as the RFC has it.
#[derive(Clone, Debug)]
pub(super) struct Meant {
    /// The serial that the answer bears; empty for an answer of the gateway's own.
    pub(super) serial: &'static str,
    pub(super) status: u16,
    /// The serial that upstream sees; empty where it sees nothing.
    pub(super) arrives: &'static str,
    pub(super) is_head: bool,
}

/// Upstream's answer.
pub(super) fn up(serial: &'static str) -> Meant {
    Meant { serial, status: 200, arrives: serial, is_head: false }
}

/// An answer of the gateway's own.
pub(super) fn own(status: u16) -> Meant {
    Meant { serial: "", status, arrives: "", is_head: false }
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) sent: Vec<u8>,
    pub(super) meant: Vec<Meant>,
    /// All of it is answered as it was meant. Else the gateway may refuse at any point, and end.
    pub(super) all: bool,
    /// The caller hangs up, since what it began has no end.
    pub(super) leaves: bool,
    /// The caller hangs up once nothing has come for a while: what was sent may have no end.
    quiet: bool,
}

impl Case {
    pub(super) fn new(name: impl Into<String>, sent: impl Into<Vec<u8>>, meant: &[Meant]) -> Self {
        let (name, sent) = (name.into(), sent.into());
        Self { name, sent, meant: meant.to_vec(), all: false, leaves: false, quiet: false }
    }

    pub(super) fn all(self) -> Self {
        Self { all: true, ..self }
    }

    pub(super) fn leaves(self) -> Self {
        Self { leaves: true, ..self }
    }

    pub(super) fn leaves_when_quiet(self) -> Self {
        Self { quiet: true, ..self }
    }
}

/// One answer.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) serial: String,
    pub(super) body: Vec<u8>,
}

/// Sends the bytes of a case and hears the answers, until the gateway ends the connection.
pub(super) async fn talk(gateway: SocketAddr, case: &Case, number: usize) -> Vec<Heard> {
    let sent = numbered(&case.sent, number);
    let (mut from, mut to) = TcpStream::connect(gateway).await.unwrap().into_split();
    let speak = async {
        // It may be refused before all of it was read.
        let _ = to.write_all(&sent).await;
        if case.leaves {
            let _ = to.shutdown().await;
        }
        // Held open: a connection that is half closed has been left.
        to
    };
    let mut bytes = Vec::new();
    let listen = async {
        let mut buffer = [0; 4096];
        let bound = if case.quiet { QUIET } else { Duration::MAX };
        while let Ok(Ok(n @ 1..)) = timeout(bound, from.read(&mut buffer)).await {
            bytes.extend_from_slice(&buffer[..n]);
        }
    };
    let (_to, ()) = tokio::join!(speak, listen);
    let heads: Vec<bool> = case.meant.iter().map(|meant| meant.is_head).collect();
    answers(&bytes, &heads)
}

/// Puts the number in.
pub(super) fn numbered(text: &[u8], number: usize) -> Vec<u8> {
    let number = format!("{number:06}");
    let mut text = text.to_vec();
    while let Some(at) = text.windows(6).position(|six| six == NUMBER.as_bytes()) {
        text[at..at + 6].copy_from_slice(number.as_bytes());
    }
    text
}

/// The final answers in `bytes`; one that was cut counts only with its whole head.
fn answers(bytes: &[u8], heads: &[bool]) -> Vec<Heard> {
    let mut heard = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = std::str::from_utf8(&rest[..end]).expect("a head is text").to_owned();
        rest = &rest[end + 4..];
        assert!(head.starts_with("HTTP/1."), "not an answer: {head}");
        let status: u16 = head[9..12].parse().unwrap();
        if status < 200 {
            continue;
        }
        let field = |name: &str| {
            head.lines().find_map(|line| {
                let (this, value) = line.split_once(':')?;
                this.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let is_head = heads.get(heard.len()).copied().unwrap_or_default();
        let length = field("content-length").map_or(0, |length| length.parse().unwrap());
        assert!(field("transfer-encoding").is_none(), "the witness gives lengths: {head}");
        // No body here begins like an answer: that was one to HEAD.
        let is_head = is_head || rest.starts_with(b"HTTP/1.");
        let (body, after) = rest.split_at(if is_head { 0 } else { rest.len().min(length) });
        rest = after;
        let serial = field("x-serial").unwrap_or_default();
        heard.push(Heard { status, serial, body: body.to_vec() });
    }
    assert!(!rest.starts_with(b"HTTP/") || rest.len() < 4096, "an answer that never ended");
    heard
}

/// What is wrong with the answers. `true`: as it was meant, from beginning to end.
pub(super) fn judge(case: &Case, number: usize, heard: &[Heard]) -> Result<bool, String> {
    let wrong = |what: &str| Err(format!("{}: {what}: {heard:?}", case.name));
    for (at, answer) in heard.iter().enumerate() {
        let meant = case.meant.get(at);
        let serial = meant.map_or("", |meant| meant.serial);
        let full = if serial.is_empty() { String::new() } else { format!("{number:06}.{serial}") };
        let as_meant = meant.is_some_and(|m| m.status == answer.status) && answer.serial == full;
        let refused = answer.serial.is_empty() && answer.status >= 400;
        if !as_meant && !refused {
            return wrong("an answer is not for the request of its place");
        }
        let is_last = at + 1 == heard.len();
        let body_is_right = refused
            || meant.is_some_and(|meant| meant.is_head) && answer.body.is_empty()
            || is_last && full.as_bytes().starts_with(&answer.body)
            || full.as_bytes() == answer.body;
        if !body_is_right {
            return wrong("a body is not that of its head");
        }
        if !as_meant && !is_last {
            return wrong("it went on after a refusal that was not meant");
        }
    }
    let all = case.meant.len() == heard.len()
        && case.meant.iter().zip(heard).all(|(meant, answer)| meant.status == answer.status);
    Ok(all)
}

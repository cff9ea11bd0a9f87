//! HTTP/2 by hand: frames and fields that no library would send.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// One frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field, spelt out: without table and without Huffman (RFC 7541 §6.2.2).
pub(super) fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        let mut rest = text.len();
        if rest < 127 {
            bytes.push(rest as u8);
        } else {
            bytes.push(127);
            rest -= 127;
            while rest >= 128 {
                bytes.push(rest as u8 | 128);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
        bytes.extend(text);
    }
    bytes
}

/// Says hello, sends `frames`, and gives the body of each stream's answer once all of `streams` have
/// ended, or the connection has.
pub(super) async fn exchange(
    gateway: SocketAddr,
    frames: &[u8],
    streams: &[u32],
) -> BTreeMap<u32, Vec<u8>> {
    let (mut from, mut to) = TcpStream::connect(gateway).await.unwrap().into_split();
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*frame(SETTINGS, 0, 0, &[])].concat();
    // It may be refused before all of it was read.
    let _ = to.write_all(&[&hello, frames].concat()).await;
    let mut open: Vec<u32> = streams.to_vec();
    let mut bodies: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut head = [0; 9];
    while !open.is_empty() && from.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & !(1 << 31);
        let mut payload = vec![0; length];
        if from.read_exact(&mut payload).await.is_err() {
            break;
        }
        let (kind, flags) = (head[3], head[4]);
        if kind == DATA {
            bodies.entry(stream).or_default().extend(&payload);
        }
        if kind == RST_STREAM || matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            open.retain(|one| *one != stream);
        }
    }
    bodies
}

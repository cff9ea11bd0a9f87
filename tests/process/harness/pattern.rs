//! The bytes that large bodies are made of, and whether they are still the same.

use std::sync::LazyLock;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use omnigate::base::Body;
use omnigate::fake_omni::pattern;

const PERIOD: u64 = 251;

/// Whole periods, and one more to start from.
static PIECE: LazyLock<Bytes> = LazyLock::new(|| (0..1025 * PERIOD).map(pattern).collect());

/// The bytes of the pattern from `offset` on: as many as are at hand, at most `most`.
pub(crate) fn piece(offset: u64, most: u64) -> Bytes {
    let start = (offset % PERIOD) as usize;
    let length = (1024 * PERIOD).min(most) as usize;
    PIECE.slice(start..start + length)
}

/// Fails unless `bytes` are those of the pattern from `offset` on.
pub(crate) fn check(mut offset: u64, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let expected = piece(offset, bytes.len() as u64);
        assert!(bytes[..expected.len()] == expected, "a wrong byte after byte {offset}");
        offset += expected.len() as u64;
        bytes = &bytes[expected.len()..];
    }
}

/// A body of so many bytes of the pattern, made as it is sent.
pub(crate) fn body(length: u64) -> Body {
    let pieces = stream::unfold(0, move |offset| async move {
        let piece = piece(offset, length - offset);
        let next = offset + piece.len() as u64;
        (!piece.is_empty()).then_some((Ok(Frame::data(piece)), next))
    });
    Body::boxed(StreamBody::new(pieces))
}

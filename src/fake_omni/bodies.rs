//! Bodies that stream, dawdle or break off, none of them held in memory.

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;
use tokio::time::sleep;

use super::faults::HungUp;
use crate::base::{Body, BoxError};

/// The byte at an offset of every file that the fake Omni sends.
pub fn pattern(offset: u64) -> u8 {
    (offset % u64::from(PERIOD)) as u8
}

const PERIOD: u8 = 251;

/// One piece of every file: whole periods, so that each piece is the same.
static PIECE: LazyLock<Bytes> =
    LazyLock::new(|| (0..256 * u64::from(PERIOD)).map(pattern).collect::<Vec<_>>().into());

/// A file of so many bytes, made as it is sent.
pub(super) fn file(bytes: u64) -> Body {
    from_stream(stream::unfold(bytes, |left| async move {
        let next = PIECE.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        (next > 0).then(|| (Ok(PIECE.slice(..next)), left - next as u64))
    }))
}

/// Makes a JSON object as long as this, with a member that says nothing; one that is longer stays.
pub(super) fn pad(document: &mut Value, bytes: usize) {
    document["padding"] = "".into();
    let missing = bytes.saturating_sub(document.to_string().len());
    document["padding"] = "x".repeat(missing).into();
}

/// Sends a text without saying how long it is.
pub(super) fn undeclared(text: String) -> Body {
    let chunks = stream::unfold(Bytes::from(text), |mut left| async move {
        let next = left.split_to(left.len().min(PIECE.len()));
        (!next.is_empty()).then_some((Ok(next), left))
    });
    from_stream(chunks)
}

/// Sends the first chunk at once and each other after its own pause.
pub(super) fn paced(chunks: impl IntoIterator<Item = (Duration, Bytes)>) -> Body {
    let chunks: VecDeque<_> = chunks.into_iter().collect();
    from_stream(stream::unfold(chunks, |mut left| async move {
        let (pause, chunk) = left.pop_front()?;
        sleep(pause).await;
        Some((Ok(chunk), left))
    }))
}

/// Sends one chunk every so often, for ever.
pub(super) fn heartbeat(chunk: &'static [u8], every: Duration) -> Body {
    from_stream(stream::unfold(Duration::ZERO, move |pause| async move {
        sleep(pause).await;
        Some((Ok(Bytes::from_static(chunk)), every))
    }))
}

/// Sends a body in small pieces with a pause before each.
pub(super) fn slow(body: Body, piece: usize, pause: Duration) -> Body {
    let piece = piece.max(1);
    from_stream(stream::unfold((body, Bytes::new()), move |(mut body, mut rest)| async move {
        while rest.is_empty() {
            rest = match next(&mut body).await? {
                Ok(chunk) => chunk,
                Err(error) => return Some((Err(error), (Body::empty(), rest))),
            };
        }
        sleep(pause).await;
        let first = rest.split_to(piece.min(rest.len()));
        Some((Ok(first), (body, rest)))
    }))
}

/// Sends `keep` bytes, or the first chunk, and then breaks off.
pub(super) fn cut(body: Body, keep: Option<u64>) -> Body {
    from_stream(stream::unfold((body, keep, true), |(mut body, left, first)| async move {
        let done = left == Some(0) || (left.is_none() && !first);
        if !done && let Some(Ok(mut chunk)) = next(&mut body).await {
            let fits = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(chunk.len());
            chunk.truncate(fits);
            let left = left.map(|left| left - chunk.len() as u64);
            return Some((Ok(chunk), (body, left, false)));
        }
        // hyper drops what it has not flushed when a body fails; give it time to flush.
        sleep(Duration::from_millis(5)).await;
        Some((Err(HungUp.into()), (Body::empty(), Some(0), false)))
    }))
}

/// The next bytes of a body; trailers are skipped.
pub(super) async fn next(body: &mut Body) -> Option<Result<Bytes, BoxError>> {
    loop {
        match body.frame().await? {
            Ok(frame) => {
                if let Ok(bytes) = frame.into_data() {
                    return Some(Ok(bytes));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

/// Sends what a stream gives.
pub(super) fn from_stream(
    chunks: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
) -> Body {
    use futures_util::TryStreamExt;
    Body::boxed(StreamBody::new(chunks.map_ok(Frame::data)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_has_its_length_and_its_pattern() {
        let whole = file(200_000).collect().await.unwrap().to_bytes();
        assert_eq!(whole.len(), 200_000);
        assert!(whole.iter().zip(0..).all(|(&byte, offset)| byte == pattern(offset)));
        assert!(file(0).collect().await.unwrap().to_bytes().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_body_ends_in_an_error_after_what_it_keeps() {
        for (keep, expected) in [(Some(0), 0), (Some(70_000), 70_000), (None, PIECE.len())] {
            let mut body = cut(file(200_000), keep);
            let mut got = 0;
            while let Some(Ok(chunk)) = next(&mut body).await {
                got += chunk.len();
            }
            assert_eq!(got, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_takes_its_time_and_loses_nothing() {
        let start = tokio::time::Instant::now();
        let whole = slow(Body::full("abcdefghij"), 4, Duration::from_secs(2));
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "abcdefghij");
        assert_eq!(start.elapsed().as_secs(), 6);
    }
}

//! The beginning of a response body, looked at before it is decided what the response is.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::response::Parts;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::base::{Body, BoxError};

/// A response, and what was read of its body. Dropping it closes its connection to upstream, unless
/// the body was read to its end: then the connection has gone back already.
#[derive(Debug)]
pub(crate) struct Peeked {
    head: Parts,
    body: Begun,
}

/// A body of which the beginning was read.
#[derive(Debug)]
struct Begun {
    read: VecDeque<Frame<Bytes>>,
    bytes: usize,
    /// What it ended in after that, for whoever reads that far.
    error: Option<BoxError>,
    ended: bool,
    rest: Body,
}

/// Reads a body to its end, but no further than the frame that brings it beyond `most` bytes, and
/// no longer than `within`.
///
/// Cancel-safe: dropping the future drops the response.
pub(crate) async fn peek(response: Response<Body>, most: usize, within: Duration) -> Peeked {
    let mut peeked = Peeked::untouched(response);
    // Too slow: what was read is kept, and there is more.
    let _ = timeout(within, peeked.body.read_on(|read| read <= most)).await;
    peeked
}

/// Reads a body to its end, but only while `go_on` takes the number of bytes that were read.
///
/// Cancel-safe: dropping the future drops the response.
pub(crate) async fn peek_while(
    response: Response<Body>,
    go_on: impl FnMut(usize) -> bool,
) -> Peeked {
    let mut peeked = Peeked::untouched(response);
    peeked.body.read_on(go_on).await;
    peeked
}

impl Peeked {
    fn untouched(response: Response<Body>) -> Self {
        let (head, rest) = response.into_parts();
        let body = Begun { read: VecDeque::new(), bytes: 0, error: None, ended: false, rest };
        Self { head, body }
    }

    pub(crate) fn head(&self) -> &Parts {
        &self.head
    }

    /// Whether the body broke off.
    pub(crate) fn broke_off(&self) -> bool {
        self.body.error.is_some()
    }

    /// How much of the body was read.
    pub(crate) fn read(&self) -> usize {
        self.body.bytes
    }

    /// The whole body; `None` where it was too long, too slow, or broke off.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        if !self.body.ended {
            return None;
        }
        let mut pieces = self.body.read.iter().filter_map(Frame::data_ref);
        match (pieces.next(), pieces.next()) {
            (None, _) => Some(Bytes::new()),
            (Some(only), None) => Some(only.clone()),
            (Some(first), Some(second)) => {
                let mut whole = Vec::with_capacity(self.body.bytes);
                for piece in [first, second].into_iter().chain(pieces) {
                    whole.extend_from_slice(piece);
                }
                Some(whole.into())
            }
        }
    }

    /// The response as it came: what was read, then the rest.
    pub(crate) fn into_response(self) -> Response<Body> {
        let untouched = self.body.read.is_empty() && self.body.error.is_none();
        let body = if untouched { self.body.rest } else { Body::boxed(self.body) };
        Response::from_parts(self.head, body)
    }
}

impl Begun {
    async fn read_on(&mut self, mut go_on: impl FnMut(usize) -> bool) {
        while go_on(self.bytes) {
            match self.rest.frame().await {
                Some(Ok(frame)) => {
                    self.bytes += frame.data_ref().map_or(0, Bytes::len);
                    self.read.push_back(frame);
                }
                Some(Err(error)) => {
                    self.error = Some(error);
                    self.rest = Body::empty();
                    return;
                }
                None => {
                    self.ended = true;
                    self.rest = Body::empty();
                    return;
                }
            }
        }
    }
}

impl http_body::Body for Begun {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(frame) = self.read.pop_front() {
            self.bytes -= frame.data_ref().map_or(0, Bytes::len);
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.error.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.bytes as u64;
        if self.error.is_some() {
            // It will not reach an end, so it has no length.
            let mut hint = SizeHint::new();
            hint.set_lower(read);
            return hint;
        }
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http::HeaderMap;
    use http_body::Body as _;
    use http_body_util::StreamBody;
    use proptest::prelude::*;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    type Piece = Result<Frame<Bytes>, BoxError>;

    fn of(pieces: Vec<Piece>) -> Response<Body> {
        Response::new(Body::boxed(StreamBody::new(stream::iter(pieces))))
    }

    fn piece(bytes: &'static [u8]) -> Piece {
        Ok(Frame::data(Bytes::from_static(bytes)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_body_is_seen_whole_and_given_back_whole() {
        let peeked = peek(of(vec![piece(b"{\"status\""), piece(b":429}")]), 64, SOON).await;
        assert_eq!(peeked.whole().unwrap(), "{\"status\":429}");
        let response = peeked.into_response();
        assert_eq!(response.body().size_hint().exact(), Some(14));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "{\"status\":429}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_nothing_is_whole() {
        let peeked = peek(Response::new(Body::empty()), 64, SOON).await;
        assert_eq!(peeked.whole().unwrap(), "");
        assert!(peeked.into_response().body().is_end_stream());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_not_waited_for_and_nothing_of_it_is_lost() {
        let (feed, mut pieces) = mpsc::unbounded_channel::<Piece>();
        let slow = StreamBody::new(stream::poll_fn(move |cx| pieces.poll_recv(cx)));
        feed.send(piece(b"{\"status\":429}")).unwrap();
        let began = Instant::now();
        let peeked = peek(Response::new(Body::boxed(slow)), 64, SOON).await;
        assert_eq!(began.elapsed(), SOON);
        assert!(peeked.whole().is_none());
        feed.send(piece(b" and more")).unwrap();
        drop(feed);
        let all = peeked.into_response().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(all, "{\"status\":429} and more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_breaks_off_still_does() {
        let peeked = peek(of(vec![piece(b"abc"), Err("gone".into())]), 64, SOON).await;
        assert!(peeked.whole().is_none());
        let mut body = peeked.into_response().into_body();
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
        assert!(!body.is_end_stream());
        assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_body_is_read_no_further_than_it_must() {
        let (feed, mut pieces) = mpsc::unbounded_channel::<Piece>();
        let long = StreamBody::new(stream::poll_fn(move |cx| pieces.poll_recv(cx)));
        for _ in 0..9 {
            feed.send(piece(b"0123456789")).unwrap();
        }
        let peeked = peek(Response::new(Body::boxed(long)), 30, SOON).await;
        assert!(peeked.whole().is_none());
        assert_eq!(peeked.body.bytes, 40);
        drop(feed);
        let all = peeked.into_response().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(all.len(), 90);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn whatever_was_read_the_response_is_the_same(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9),
            breaks in any::<bool>(),
            trailers in any::<bool>(),
            most in 0usize..60,
        ) {
            let expected = pieces.concat();
            let mut frames: Vec<Piece> =
                pieces.into_iter().map(|piece| Ok(Frame::data(piece.into()))).collect();
            if trailers {
                frames.push(Ok(Frame::trailers(HeaderMap::new())));
            }
            if breaks {
                frames.push(Err("gone".into()));
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time().start_paused(true).build().unwrap();
            let (whole, read, end, trailed) = runtime.block_on(async {
                let peeked = peek(of(frames), most, SOON).await;
                let whole = peeked.whole();
                let mut body = peeked.into_response().into_body();
                let (mut read, mut end, mut trailed) = (Vec::new(), None, false);
                while let Some(frame) = body.frame().await {
                    match frame {
                        Ok(frame) if frame.is_trailers() => trailed = true,
                        Ok(frame) => read.extend(frame.into_data().unwrap()),
                        Err(error) => { end = Some(error.to_string()); break }
                    }
                }
                (whole, read, end, trailed)
            });
            prop_assert_eq!(&read, &expected);
            prop_assert_eq!(end.is_some(), breaks);
            prop_assert_eq!(trailed, trailers);
            if let Some(whole) = whole {
                prop_assert!(!breaks);
                prop_assert_eq!(&whole, &expected);
            } else {
                prop_assert!(breaks || expected.len() > most);
            }
        }
    }
}

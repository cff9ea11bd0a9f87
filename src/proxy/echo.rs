//! What upstream says of our own key does not go down.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{Extensions, HeaderMap, HeaderValue, Response};
use http_body::{Body as _, Frame, SizeHint};
use tracing::warn;

use crate::base::{Body, BoxError, CredentialId};
use crate::credential::{Blot, Blotter};
use crate::telemetry::Metrics;

/// Where echoes are counted.
#[derive(Debug)]
struct Tally {
    metrics: Arc<Metrics>,
    credential: CredentialId,
}

impl Tally {
    fn found(&self, times: u64) {
        if times > 0 {
            self.metrics.echoed(&self.credential, times);
            warn!(credential = %self.credential, times, "upstream sent the key back; blotted out");
        }
    }
}

/// Overwrites the key in the fields and, where it is text, in the body of an answer.
pub(super) fn blotted(
    mut response: Response<Body>,
    blot: &Arc<Blot>,
    credential: &CredentialId,
    metrics: &Arc<Metrics>,
) -> Response<Body> {
    let tally = Tally { metrics: metrics.clone(), credential: credential.clone() };
    // hyper keeps an unusual reason phrase there, and would write it out again.
    *response.extensions_mut() = Extensions::new();
    for value in response.headers_mut().values_mut() {
        let Some((clean, times)) = blot.overwritten(value.as_bytes()) else { continue };
        *value = HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static("*"));
        tally.found(times);
    }
    if response.body().is_end_stream() || !is_text(response.headers()) {
        return response;
    }
    let blotter = Blotter::new(blot.clone());
    response.map(|rest| Body::boxed(Blotted { rest, blotter, out: VecDeque::new(), tally }))
}

/// Whether a body is text that can be read as it is. One without a type may be.
fn is_text(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    if !codings.all(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity")) {
        return false;
    }
    let Some(value) = headers.get(CONTENT_TYPE) else { return true };
    let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let media = value.split([';', ',']).next().unwrap_or_default().trim();
    let words = ["json", "xml", "javascript", "ecmascript", "x-www-form-urlencoded", "yaml", "csv"];
    media.is_empty() || media.starts_with("text/") || words.iter().any(|word| media.contains(word))
}

/// A body without the key.
#[derive(Debug)]
struct Blotted {
    rest: Body,
    blotter: Blotter,
    /// What may go out.
    out: VecDeque<Bytes>,
    tally: Tally,
}

impl http_body::Body for Blotted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { rest, blotter, out, tally } = &mut *self;
        loop {
            if let Some(bytes) = out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            match ready!(Pin::new(&mut *rest).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers ended at the connection.
                    if let Ok(bytes) = frame.into_data() {
                        blotter.push(bytes, out);
                        tally.found(blotter.found());
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(blotter.end().map(|held| Ok(Frame::data(held)))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.out.is_empty() && self.blotter.held() == 0 && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let here = self.out.iter().map(Bytes::len).sum::<usize>() + self.blotter.held();
        let (here, rest) = (here as u64, self.rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(here));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(here));
        }
        hint
    }
}

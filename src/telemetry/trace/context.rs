//! W3C Trace Context, level 1: what a caller says of its trace, and what upstream is told of ours.
//!
//! `tracestate` is not read: it may be any text of a caller's, and spans have none of it.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};

/// The field that names a trace and a span in it (§3.2).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Version, trace id, parent id and flags, and the dashes between them.
const LENGTH: usize = 55;

/// The id of a trace (§3.2.2.3): 32 digits of lower-case hex, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub(super) opentelemetry::trace::TraceId);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What `traceparent` says, where there is exactly one and it is well formed.
pub(super) fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    let mut said = headers.get_all(&TRACEPARENT).iter();
    let one = said.next()?;
    match said.next() {
        Some(_) => None,
        None => parse(one.as_bytes()),
    }
}

/// A later version may say more after a further dash (§4.3); version `ff` is none.
fn parse(text: &[u8]) -> Option<SpanContext> {
    let (known, more) = text.split_at_checked(LENGTH)?;
    let version = number(&known[..2])?;
    let ends = more.is_empty() || version > 0 && more[0] == b'-';
    let dashes = [known[2], known[35], known[52]].iter().all(|byte| *byte == b'-');
    if version == 0xff || !ends || !dashes {
        return None;
    }
    let trace = opentelemetry::trace::TraceId::from(number(&known[3..35])?);
    let span = SpanId::from(u64::try_from(number(&known[36..52])?).ok()?);
    let flags = u8::try_from(number(&known[53..])?).ok()?;
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

/// Digits of lower-case hex alone.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |sum, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u128::from(value))
    })
}

/// What upstream is told.
pub(super) fn field(context: &SpanContext) -> Option<HeaderValue> {
    let (trace, span) = (context.trace_id(), context.span_id());
    let flags = u8::from(context.is_sampled());
    HeaderValue::try_from(format!("00-{trace}-{span}-{flags:02x}")).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_read_as_it_is_written() {
        let context = parse(PLAIN.as_bytes()).unwrap();
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(TraceId(context.trace_id()).to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(field(&context).unwrap(), PLAIN);
        let unsampled = PLAIN.replace("-01", "-00");
        assert!(!parse(unsampled.as_bytes()).unwrap().is_sampled());
        // Flags that are not known yet are dropped, and later versions may say more.
        for known in [PLAIN.replace("-01", "-ff"), format!("cc{}-what-ever", &PLAIN[2..])] {
            assert_eq!(field(&parse(known.as_bytes()).unwrap()).unwrap(), PLAIN, "{known}");
        }
    }

    #[test]
    fn what_is_malformed_is_no_parent() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        for wrong in [
            String::new(),
            "00".to_owned(),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{trace}-{span}-0A"),
            format!("0-{trace}-{span}-01"),
            format!("00-{trace}-{span}-1"),
            format!("00-{trace}-{span}-01-"),
            format!("00-{trace}-{span}-01-more"),
            format!("01-{trace}-{span}-01more"),
            format!("00-+{}-{span}-01", &trace[1..]),
            format!("00_{trace}_{span}_01"),
            format!(" 00-{trace}-{span}-01"),
            format!("00-{}-{span}-01", &trace[1..]),
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(PLAIN));
        assert!(parent(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(PLAIN));
        assert_eq!(parent(&headers), None);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_written_the_same_way(text in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}") {
            if let Some(context) = parse(text.as_bytes()) {
                let field = field(&context).unwrap();
                prop_assert_eq!(&field.to_str().unwrap()[3..53], &text[3..53]);
            }
        }

        #[test]
        fn nothing_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&bytes);
        }
    }
}

//! Parts of a kept answer (RFC 9110 §14). Pure.

use std::ops::Range;

use http::HeaderMap;
use http::header::{ETAG, IF_RANGE, LAST_MODIFIED, RANGE};

/// Which part of a whole answer a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it; also where it wants several parts, or nobody can tell what it wants (§14.2).
    Whole,
    /// These bytes; never none.
    Bytes(Range<usize>),
    /// Bytes beyond its end.
    Beyond,
}

/// Reads which part of a kept answer of `length` bytes is wanted.
pub fn part(request: &HeaderMap, kept: &HeaderMap, length: usize) -> Part {
    let mut fields = request.get_all(RANGE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return Part::Whole };
    let Some((unit, wanted)) = field.to_str().ok().and_then(|text| text.split_once('=')) else {
        return Part::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || !is_the_one_meant(request, kept) {
        return Part::Whole;
    }
    let Some((first, last)) = wanted.split_once('-') else { return Part::Whole };
    let (first, last) = (first.trim(), last.trim());
    let (from, to) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(length)),
        (Some(first), None) if last.is_empty() => (first, length),
        // The last so many.
        (None, Some(many)) if first.is_empty() => (length - many.min(length), length),
        (Some(_) | None, Some(_) | None) => return Part::Whole,
    };
    if from < length { Part::Bytes(from..to) } else { Part::Beyond }
}

/// A number of digits alone; one that is too large counts as the largest.
fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}

/// Whether the kept answer is the one that the caller has other parts of (`If-Range`, RFC 9110
/// §13.1.5): the comparison is strong.
fn is_the_one_meant(request: &HeaderMap, kept: &HeaderMap) -> bool {
    let mut conditions = request.get_all(IF_RANGE).iter();
    let Some(condition) = conditions.next() else { return true };
    let name = match condition.as_bytes() {
        [b'"', ..] => ETAG,
        _ => LAST_MODIFIED,
    };
    conditions.next().is_none() && kept.get(name) == Some(condition)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn fields(all: &[(HeaderName, &str)]) -> HeaderMap {
        all.iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn of(range: &str) -> Part {
        part(&fields(&[(RANGE, range)]), &HeaderMap::new(), 10)
    }

    #[test]
    fn one_range_is_given_and_several_are_not() {
        for (range, expected) in [
            ("bytes=0-3", Part::Bytes(0..4)),
            ("BYTES = 2 - 2 ", Part::Bytes(2..3)),
            ("bytes=4-", Part::Bytes(4..10)),
            ("bytes=4-99999999999999999999999", Part::Bytes(4..10)),
            ("bytes=-3", Part::Bytes(7..10)),
            ("bytes=-30", Part::Bytes(0..10)),
            ("bytes=9-", Part::Bytes(9..10)),
            ("bytes=10-", Part::Beyond),
            ("bytes=10-20", Part::Beyond),
            ("bytes=-0", Part::Beyond),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,4-5", Part::Whole),
            ("bytes=0-x", Part::Whole),
            ("bytes=x-3", Part::Whole),
            ("bytes=+1-3", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=", Part::Whole),
            ("bytes", Part::Whole),
            ("lines=0-3", Part::Whole),
        ] {
            assert_eq!(of(range), expected, "{range}");
        }
        let two = HeaderMap::from_iter(
            ["bytes=0-1", "bytes=0-1"].map(|range| (RANGE, HeaderValue::from_static(range))),
        );
        assert_eq!(part(&two, &HeaderMap::new(), 10), Part::Whole);
    }

    #[test]
    fn a_part_of_another_answer_is_not_given() {
        let date = "Thu, 01 Jan 1970 00:00:07 GMT";
        let kept = fields(&[(ETAG, "\"a\""), (LAST_MODIFIED, date)]);
        for (condition, meant) in [
            ("\"a\"", true),
            (date, true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            ("Thu, 01 Jan 1970 00:00:08 GMT", false),
            ("", false),
        ] {
            let request = fields(&[(RANGE, "bytes=1-2"), (IF_RANGE, condition)]);
            let expected = if meant { Part::Bytes(1..3) } else { Part::Whole };
            assert_eq!(part(&request, &kept, 10), expected, "{condition}");
        }
        let weak = fields(&[(ETAG, "W/\"a\"")]);
        let request = fields(&[(RANGE, "bytes=1-2"), (IF_RANGE, "W/\"a\"")]);
        assert_eq!(part(&request, &weak, 10), Part::Whole);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_a_part_lies_within(range in "(bytes)?=?[0-9x, -]{0,12}", length in 0usize..40) {
            let request = fields(&[(RANGE, &range)]);
            if let Part::Bytes(part) = part(&request, &HeaderMap::new(), length) {
                prop_assert!(part.start < part.end && part.end <= length);
            }
        }
    }
}

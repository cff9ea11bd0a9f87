//! Conditional requests against an answer that is kept (RFC 9110 §13).

use std::time::SystemTime;

use http::header::{
    CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED, VARY, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::rfc9111::date;

/// Fields of the answer that a 304 repeats (RFC 9110 §15.4.5), besides `Last-Modified`.
const REPEATED: [HeaderName; 7] = [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, VARY, VIA];

/// Whether the caller already has what is kept, so that a 304 tells it all.
///
/// `If-None-Match` decides alone where it is present. What cannot be read, and a date that is yet to
/// come, is never taken for a yes.
pub fn is_unmodified(request: &HeaderMap, kept: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return matches_tag(request, kept);
    }
    request.contains_key(IF_MODIFIED_SINCE) && is_no_newer(request, kept, SystemTime::now())
}

/// The fields of a 304 that stands for the answer that is kept.
pub fn not_modified(kept: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(REPEATED.len());
    // Beside an entity tag it would only be one more thing to get wrong.
    let dated = (!kept.contains_key(ETAG)).then_some(LAST_MODIFIED);
    for name in REPEATED.into_iter().chain(dated) {
        for value in kept.get_all(&name) {
            fields.append(name.clone(), value.clone());
        }
    }
    fields
}

/// Whether `If-None-Match` names the answer, by weak comparison (§13.1.2).
fn matches_tag(request: &HeaderMap, kept: &HeaderMap) -> bool {
    let kept = only(kept, &ETAG).map(HeaderValue::as_bytes);
    if let Some(asked) = only(request, &IF_NONE_MATCH) {
        // A tag without quotes is no tag; a caller that gives back what it was given still has it.
        let is_same = !asked.is_empty() && Some(asked.as_bytes()) == kept;
        if asked.as_bytes().trim_ascii() == b"*" || is_same {
            return true;
        }
    }
    let Some((kept, [])) = kept.and_then(tag) else { return false };
    let mut found = false;
    for field in request.get_all(IF_NONE_MATCH) {
        match names(field.as_bytes(), kept) {
            Some(named) => found |= named,
            None => return false,
        }
    }
    found
}

/// Whether a list of tags names this one; `None` when it is no such list.
fn names(list: &[u8], kept: &[u8]) -> Option<bool> {
    let mut rest = list.trim_ascii_start();
    let mut found = false;
    while !rest.is_empty() {
        if rest[0] != b',' {
            let (opaque, behind) = tag(rest)?;
            found |= opaque == kept;
            rest = behind.trim_ascii_start();
        }
        rest = match rest {
            [] => rest,
            [b',', behind @ ..] => behind.trim_ascii_start(),
            _ => return None,
        };
    }
    Some(found)
}

/// What is between the quotes of an entity tag (RFC 9110 §8.8.3), and what follows it.
fn tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let quoted = text.strip_prefix(b"W/").unwrap_or(text).strip_prefix(b"\"")?;
    let end = quoted.iter().position(|byte| matches!(byte, b'"' | ..=b' ' | 0x7f))?;
    let behind = quoted[end..].strip_prefix(b"\"")?;
    Some((&quoted[..end], behind))
}

/// Whether the answer is no newer than `If-Modified-Since` (§13.1.3).
fn is_no_newer(request: &HeaderMap, kept: &HeaderMap, wall: SystemTime) -> bool {
    let since = only(request, &IF_MODIFIED_SINCE).and_then(date).filter(|since| *since <= wall);
    let modified = only(kept, &LAST_MODIFIED).and_then(date);
    matches!((modified, since), (Some(modified), Some(since)) if modified <= since)
}

/// The value of a field that is there once.
fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = fields.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::{AGE, CONTENT_TYPE, SET_COOKIE};
    use proptest::prelude::*;

    use super::*;

    fn fields<'a>(lines: impl IntoIterator<Item = (HeaderName, &'a str)>) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
        lines.into_iter().map(|(name, text)| (name, value(text))).collect()
    }

    fn matches(asked: &[&str], kept: &str) -> bool {
        let asked = fields(asked.iter().map(|text| (IF_NONE_MATCH, *text)));
        is_unmodified(&asked, &fields([(ETAG, kept)]))
    }

    #[test]
    fn a_tag_is_found_wherever_it_stands() {
        for (asked, kept) in [
            (&["\"abc\""][..], "\"abc\""),
            (&["\"abc\""], "W/\"abc\""),
            (&["W/\"abc\""], "\"abc\""),
            (&["W/\"abc\""], "W/\"abc\""),
            (&["\"\""], "\"\""),
            (&["\"abc\", \"1\", \"2\""], "\"abc\""),
            (&["\"1\",W/\"abc\"\t, \"2\""], "\"abc\""),
            (&[" ,,\"1\" , \"abc\" ,"], "\"abc\""),
            (&["\"1\"", "\"2\", \"abc\""], "\"abc\""),
            (&["\"a,b\\\""], "\"a,b\\\""),
            (&["\"abcdefü\""], "\"abcdefü\""),
            (&["*"], "\"abc\""),
            (&["*"], "no tag"),
            // No tags, but what was given is given back.
            (&["abc"], "abc"),
            (&["w/\"abc\""], "w/\"abc\""),
            (&["W\\\"abc\""], "W\\\"abc\""),
        ] {
            assert!(matches(asked, kept), "{asked:?} against {kept}");
        }
        assert!(is_unmodified(&fields([(IF_NONE_MATCH, "*")]), &HeaderMap::new()));
    }

    #[test]
    fn what_is_another_tag_or_none_does_not_match() {
        for (asked, kept) in [
            (&["\"abc\""][..], "\"abd\""),
            (&["\"ABC\""], "\"abc\""),
            (&["\"1, abc, 2\""], "\"abc\""),
            (&["\"1\", \"abc"], "\"abc\""),
            (&["\"abc\" \"1\""], "\"abc\""),
            (&["\"abc\"x"], "\"abc\""),
            (&["\"1\"; \"abc\""], "\"abc\""),
            (&["\"a bc\", \"abc\""], "\"abc\""),
            (&["\"abc\"", "x"], "\"abc\""),
            (&["*, \"1\""], "\"abc\""),
            (&["*", "\"1\""], "\"abc\""),
            (&["\"*\""], "\"abc\""),
            (&["abc"], "\"abc\""),
            (&["\"abc\""], "abc"),
            (&["w/\"abc\""], "\"abc\""),
            (&["W/ \"abc\""], "\"abc\""),
            (&["abc, 1"], "abc"),
            (&["abc", "abc"], "abc"),
            (&[""], ""),
            (&[""], "\"\""),
            (&["\"1\""], "\"1\", \"1\""),
        ] {
            assert!(!matches(asked, kept), "{asked:?} against {kept}");
        }
        let asked = fields([(IF_NONE_MATCH, "\"1\"")]);
        assert!(!is_unmodified(&asked, &HeaderMap::new()));
        assert!(!is_unmodified(&asked, &fields([(ETAG, "\"1\""), (ETAG, "\"1\"")])));
    }

    const MONDAY: &str = "Mon, 02 Nov 2026 00:00:00 GMT";
    const TUESDAY: &str = "Tue, 03 Nov 2026 00:00:00 GMT";

    #[test]
    fn a_date_counts_when_it_can_be_read_and_has_been() {
        let wall = httpdate::parse_http_date(TUESDAY).unwrap();
        let at = |asked: &str, kept: &str, wall| {
            let asked = fields([(IF_MODIFIED_SINCE, asked)]);
            is_no_newer(&asked, &fields([(LAST_MODIFIED, kept)]), wall)
        };
        let forms = ["mon, 02 NOV 2026 00:00:00 gmt", "Monday, 02-Nov-26 00:00:00 GMT"];
        for asked in [MONDAY, TUESDAY, "Mon Nov  2 00:00:00 2026", forms[0], forms[1]] {
            assert!(at(asked, MONDAY, wall), "{asked}");
        }
        assert!(!at(MONDAY, TUESDAY, wall));
        assert!(!at(TUESDAY, MONDAY, wall - Duration::from_secs(1)));
        for junk in ["", "0", "Mon, 02 Nov 2026 00:00:00 UTC", "Tue, 02 Nov 2026 00:00:00 GMT", "é"]
        {
            assert!(!at(junk, MONDAY, wall), "{junk}");
            assert!(!at(TUESDAY, junk, wall), "{junk}");
        }
        let twice = fields([(IF_MODIFIED_SINCE, MONDAY), (IF_MODIFIED_SINCE, MONDAY)]);
        assert!(!is_no_newer(&twice, &fields([(LAST_MODIFIED, MONDAY)]), wall));
        assert!(!is_no_newer(&fields([(IF_MODIFIED_SINCE, MONDAY)]), &HeaderMap::new(), wall));
    }

    #[test]
    fn a_tag_decides_alone_where_both_are_asked() {
        let old = "Sun, 01 Jan 2006 00:00:00 GMT";
        let kept = fields([(ETAG, "\"1\""), (LAST_MODIFIED, old)]);
        let asked = |tag| fields([(IF_NONE_MATCH, tag), (IF_MODIFIED_SINCE, old)]);
        assert!(!is_unmodified(&asked("\"2\""), &kept));
        assert!(!is_unmodified(&asked(""), &kept));
        assert!(is_unmodified(&asked("\"1\""), &kept));
        assert!(is_unmodified(&fields([(IF_MODIFIED_SINCE, old)]), &kept));
        assert!(!is_unmodified(&HeaderMap::new(), &kept));
    }

    #[test]
    fn a_304_repeats_what_it_must_and_no_more() {
        let also =
            [(CONTENT_TYPE, "a/b"), (SET_COOKIE, "a=b"), (AGE, "9"), (LAST_MODIFIED, MONDAY)];
        let kept = [(VARY, "a"), (VARY, "b"), (DATE, TUESDAY), (VIA, "1.1 x"), (EXPIRES, "0")];
        let more = [(CACHE_CONTROL, "public"), (CONTENT_LOCATION, "/a"), (ETAG, "\"1\"")];
        let all = fields(also.into_iter().chain(kept.clone()).chain(more.clone()));
        assert_eq!(not_modified(&all), fields(kept.into_iter().chain(more)));
        let dated = fields([(LAST_MODIFIED, MONDAY), (CONTENT_TYPE, "a/b")]);
        assert_eq!(not_modified(&dated), fields([(LAST_MODIFIED, MONDAY)]));
    }

    /// `If-None-Match` read slowly and plainly: cut at each quote, what is outside must be commas
    /// and space with at most `W/` before a tag, and what is inside is one.
    fn plainly(asked: &[String], kept: &str) -> bool {
        let same = asked.len() == 1 && !asked[0].is_empty() && asked[0] == kept;
        if same || (asked.len() == 1 && asked[0].trim() == "*") {
            return true;
        }
        let list = |text: &str| -> Option<Vec<String>> {
            let pieces: Vec<&str> = text.split('"').collect();
            let mut tags = Vec::new();
            for (at, piece) in pieces.iter().enumerate() {
                if at % 2 == 1 {
                    let is_closed = at + 1 < pieces.len();
                    let is_opaque = !piece.contains([' ', '\t']);
                    tags.push((is_closed && is_opaque).then(|| (*piece).to_owned())?);
                    continue;
                }
                let is_last = at + 1 == pieces.len();
                let between =
                    if is_last { piece } else { piece.strip_suffix("W/").unwrap_or(piece) };
                let is_inner = at > 0 && !is_last;
                let is_empty = between.chars().all(|c| [' ', '\t', ','].contains(&c));
                let is_parted = !is_inner || between.contains(',');
                (is_empty && is_parted).then_some(())?;
            }
            Some(tags)
        };
        let is_tag = kept.ends_with('"') && (kept.starts_with('"') || kept.starts_with("W/\""));
        let kept = match list(kept) {
            Some(tags) if is_tag && tags.len() == 1 => tags[0].clone(),
            _ => return false,
        };
        let lists: Option<Vec<_>> = asked.iter().map(|line| list(line)).collect();
        lists.is_some_and(|lists| lists.concat().contains(&kept))
    }

    fn list() -> impl Strategy<Value = String> {
        let tag = "(W/)?\"[ab,]{0,2}\"|[ab*\" W/,]{0,3}";
        let part =
            prop_oneof![12 => Just(", "), 3 => Just(","), 3 => Just(" ,,\t"), 1 => Just(" ")];
        prop::collection::vec((tag, part), 0..4).prop_map(|pairs| {
            let text: String = pairs.into_iter().map(|(tag, part)| tag + part).collect();
            text.trim_end_matches([' ', ',']).to_owned()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8_000))]

        #[test]
        fn tags_are_found_as_a_plain_reading_finds_them(
            asked in prop::collection::vec(list(), 1..3),
            kept in "(W/)?\"[ab,]{0,2}\"|[ab*\" W/,]{0,3}",
        ) {
            let lines: Vec<&str> = asked.iter().map(String::as_str).collect();
            prop_assert_eq!(matches(&lines, &kept), plainly(&asked, &kept));
        }

        #[test]
        fn dates_are_compared_as_numbers(
            asked in 0u64..4_000_000_000,
            since in -3i64..3,
            until in -3i64..3,
        ) {
            let time = |s: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(s + 10);
            let (modified, wall) =
                (asked.saturating_add_signed(since), asked.saturating_add_signed(until));
            let text = |s| httpdate::fmt_http_date(time(s));
            let (asked_text, kept_text) = (text(asked), text(modified));
            let request = fields([(IF_MODIFIED_SINCE, &*asked_text)]);
            let kept = fields([(LAST_MODIFIED, &*kept_text)]);
            let expected = modified <= asked && asked <= wall;
            prop_assert_eq!(is_no_newer(&request, &kept, time(wall)), expected);
        }
    }
}

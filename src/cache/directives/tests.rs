//! How Cache-Control is read, by tables and for every spelling.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn fields(lines: &[(&str, &[u8])]) -> HeaderMap {
    let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).unwrap();
    let named = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
    lines.iter().map(|(name, bytes)| (named(name), value(bytes))).collect()
}

fn wishes(text: &str) -> Wishes {
    Wishes::read(&fields(&[("cache-control", text.as_bytes())]))
}

fn terms(text: &str) -> Terms {
    Terms::read(&fields(&[("cache-control", text.as_bytes())]))
}

const fn s(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

const ANY: Option<Duration> = Some(Duration::MAX);
const NONE: Wishes = Wishes {
    no_cache: false,
    no_store: false,
    only_if_cached: false,
    max_age: None,
    max_stale: None,
    min_fresh: None,
};

#[test]
fn what_a_request_wants_is_read() {
    for (text, expected) in [
        ("", NONE),
        ("nothing-to-see-here, , max-ages=3, x-no-cache, no-cachet", NONE),
        ("no-cache", Wishes { no_cache: true, ..NONE }),
        ("NO-cAcHe, foo", Wishes { no_cache: true, ..NONE }),
        ("No-Store", Wishes { no_store: true, ..NONE }),
        ("only-if-cached", Wishes { only_if_cached: true, ..NONE }),
        // Not clearly said: 504 would be worse than asking.
        ("only-if-cached=1", NONE),
        ("only-if-cached;", NONE),
        ("max-age=60,min-fresh = 5", Wishes { max_age: s(60), min_fresh: ANY, ..NONE }),
        ("\tmax-age=\"60\" ,MIN-FRESH=5", Wishes { max_age: s(60), min_fresh: s(5), ..NONE }),
        ("max-stale", Wishes { max_stale: ANY, ..NONE }),
        ("max-stale, max-stale=9", Wishes { max_stale: s(9), ..NONE }),
        ("max-stale=", Wishes { max_stale: s(0), ..NONE }),
        ("max-stale=-1", Wishes { max_stale: s(0), ..NONE }),
        ("max-stale=1 0", Wishes { max_stale: s(0), ..NONE }),
        (
            "max-age=9, max-age=8, min-fresh=1, min-fresh=2",
            Wishes { max_age: s(8), min_fresh: s(2), ..NONE },
        ),
        ("min-fresh=x", Wishes { min_fresh: ANY, ..NONE }),
        ("foo=\"a, max-age=7\", max-age=8", Wishes { max_age: s(8), ..NONE }),
        ("foo=\"a\\\", max-age=7\", max-age=8", Wishes { max_age: s(8), ..NONE }),
        ("max-age=8, foo=\"max-stale=7", Wishes { max_age: s(8), max_stale: s(0), ..NONE }),
    ] {
        assert_eq!(wishes(text), expected, "{text}");
    }
}

#[test]
fn a_time_is_whole_seconds_or_the_strictest_there_is() {
    for (text, expected) in [
        ("0", s(0)),
        ("3600", s(3600)),
        ("003600", s(3600)),
        ("\"3600\"", s(3600)),
        ("2147483647", s(2_147_483_647)),
        ("2147483648", Some(LONGEST)),
        ("99999999999", Some(LONGEST)),
        ("999999999999999999999999999999999999999999", Some(LONGEST)),
    ] {
        assert_eq!(wishes(&format!("max-age={text}")).max_age, expected, "{text}");
        assert_eq!(terms(&format!("MAX-AGE={text}")).lifetime, expected, "{text}");
    }
    for text in [
        "max-age",
        "max-age=",
        "max-age=\"\"",
        "max-age=-3600",
        "max-age=+3600",
        "max-age=3600.0",
        "max-age=3600a",
        "max-age=a3600",
        "max-age='3600'",
        "max-age =3600",
        "max-age= 3600",
        "max-age=\"3600",
        "max-age=36\"00\"",
        "max-age=\"3\\600\"",
        "max-age=\" 3600\"",
        "max-age=3600; foo",
        "foo; max-age=3600",
        "foo max-age=3600",
        "max-age:3600",
        "\"max-age=3600",
        "\"max-age=3600\"",
        "max-age=３６００",
        "max-age=3600 max-age=1",
        "max-age=3600, max-age=0",
        "max-age=3600, max-age",
        "max-age=3600, foo=\"a max-age=9",
    ] {
        assert_eq!(wishes(text).max_age, s(0), "{text}");
        assert_eq!(terms(text).lifetime, s(0), "{text}");
        let text = text.replace("max-age", "s-maxage") + ", max-age=60";
        assert_eq!(terms(&text).lifetime, s(0), "{text}");
    }
}

#[test]
fn s_maxage_goes_before_max_age_and_the_least_before_more() {
    for (text, expected) in [
        ("public", None),
        ("max-age=1, s-maxage=3600", s(3600)),
        ("s-maxage=1, max-age=3600", s(1)),
        ("max-age=1800, max-age=1", s(1)),
        ("max-age=1, max-age=1800", s(1)),
        ("extension=\"max-age=3600\", max-age=1", s(1)),
        ("max-age=1, extension=\"max-age=3600\"", s(1)),
        ("extension=\"max-age=1\", max-age=3600", s(3600)),
        ("extension=\"a\\\\\", max-age=3600", s(3600)),
        ("max-age=3600, a/b, c=d e", s(3600)),
    ] {
        assert_eq!(terms(text).lifetime, expected, "{text}");
    }
}

#[test]
fn what_allows_counts_only_when_it_is_said_clearly() {
    for text in ["public", "Public , max-age=1", "x=\"y\",public"] {
        assert!(terms(text).public && terms(text).for_all, "{text}");
    }
    for text in ["must-revalidate", "s-maxage=5", "s-maxage=\"0\""] {
        assert!(terms(text).for_all && !terms(text).public, "{text}");
    }
    for text in [
        "max-age=5",
        "public=1",
        "public;",
        "x=\"public\"",
        "\"public\"",
        "x=\", public",
        "'public'",
        "must-revalidate=1",
        "s-maxage",
        "s-maxage=x",
        "republic",
        "proxy-revalidate",
        "pub lic",
    ] {
        assert!(!terms(text).for_all && !terms(text).public, "{text}");
    }
    for text in
        ["must-revalidate", "x=\"PROXY-revalidate\"", "s-maxage=1", "a s-maxage", "\"s-maxage"]
    {
        assert!(terms(text).no_stale, "{text}");
    }
    assert!(terms("a=\"must-understand\"").must_understand);
}

#[test]
fn pragma_counts_only_without_cache_control() {
    let pragma: (&str, &[u8]) = ("pragma", b"foo, No-Cache");
    assert!(Wishes::read(&fields(&[pragma])).no_cache && Terms::read(&fields(&[pragma])).forbids);
    for beside in [&b""[..], b"max-age=5", b"\xff"] {
        let both = fields(&[pragma, ("cache-control", beside)]);
        assert!(!Wishes::read(&both).no_cache && !Terms::read(&both).forbids);
    }
    assert_eq!(
        Wishes::read(&fields(&[("pragma", b"foo"), ("pragma", b"no-cache=1x")])),
        Wishes { no_cache: true, ..NONE }
    );
    assert_eq!(Wishes::read(&fields(&[("pragma", b"foo")])), NONE);
    assert_eq!(Wishes::read(&HeaderMap::new()), NONE);
}

#[test]
fn a_field_for_other_caches_can_forbid_and_nothing_else() {
    for name in ["surrogate-control", "cdn-cache-control"] {
        let with = |text: &str| Terms::read(&fields(&[(name, text.as_bytes())]));
        assert!(with("no-store").forbids && with("max-age=5, content=\"PRIVATE\"").forbids);
        assert_eq!(with("max-age=60, public, s-maxage=9, must-revalidate"), Terms::default());
    }
}

/// Bytes that a field may have, most of them such as matter to its grammar.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(b"\",;= \t\\'".as_slice()),
        4 => b' '..=b'~',
        1 => 0x80u8..=0xff,
    ];
    let known =
        "(max-age|s-maxage|min-fresh|max-stale|public|must-revalidate|no-cache)(=[0-9]{1,3})?";
    let piece = prop_oneof![
        3 => prop::collection::vec(byte, 0..6),
        2 => known.prop_map(String::into_bytes),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn of(lines: &[Vec<u8>]) -> HeaderMap {
    let value = |line: &Vec<u8>| HeaderValue::from_bytes(line).unwrap();
    lines.iter().map(|line| (CACHE_CONTROL, value(line))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// However it is spelled, and whatever stands around it in whatever number of fields.
    #[test]
    fn a_word_that_forbids_is_never_overlooked(
        word in prop::sample::select(&["private", "no-store", "no-cache"]),
        upper in prop::collection::vec(any::<bool>(), 8),
        (mut before, mut after) in (text(), text()),
        mut lines in prop::collection::vec(text(), 0..4),
        at in 0usize..4,
    ) {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        before.truncate(before.iter().rposition(|byte| !is_part(byte)).map_or(0, |at| at + 1));
        after.drain(..after.iter().position(|byte| !is_part(byte)).unwrap_or(after.len()));
        let spelled = word.bytes().zip(upper).map(|(byte, upper)| {
            if upper { byte.to_ascii_uppercase() } else { byte }
        });
        let line = before.into_iter().chain(spelled).chain(after).collect();
        lines.insert(at.min(lines.len()), line);
        let headers = of(&lines);
        prop_assert!(Terms::read(&headers).forbids);
        let wishes = Wishes::read(&headers);
        prop_assert!(wishes.no_cache || word != "no-cache");
        prop_assert!(wishes.no_store || word != "no-store");
    }

    /// So nobody can talk a strict word away by putting something behind it.
    #[test]
    fn one_more_field_never_makes_it_less_strict(
        mut lines in prop::collection::vec(text(), 1..4),
        more in text(),
    ) {
        let few = of(&lines);
        // What is for shared caches alone goes before what is for all, shorter or longer.
        let is_shared = words(&more).any(|word| is(word, "s-maxage"));
        lines.push(more);
        let many = of(&lines);
        let (before, after) = (Wishes::read(&few), Wishes::read(&many));
        prop_assert!(after.no_cache >= before.no_cache && after.no_store >= before.no_store);
        prop_assert!(after.min_fresh >= before.min_fresh);
        let least = |known: Option<Duration>| known.unwrap_or(Duration::MAX);
        prop_assert!(least(after.max_age) <= least(before.max_age));
        prop_assert!(before.max_stale.is_none_or(|most| least(after.max_stale) <= most));
        let (before, after) = (Terms::read(&few), Terms::read(&many));
        prop_assert!(after.forbids >= before.forbids && after.no_stale >= before.no_stale);
        prop_assert!(after.must_understand >= before.must_understand);
        prop_assert!(is_shared || before.lifetime.is_none_or(|known| least(after.lifetime) <= known));
    }
}

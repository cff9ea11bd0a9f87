//! What may be kept, and for how long, by tables and by an oracle.

use http::{Request, Response};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use proptest::prelude::*;

use super::*;
use crate::cache::Judgement::{Fresh, Welcome};

const S: Duration = Duration::from_secs(1);
/// Tuesday, 3 November 2026, noon.
const NOON: u64 = 1_793_707_200;
const ROUTES: Duration = Duration::from_secs(600);

fn fields(lines: &[(&str, String)]) -> HeaderMap {
    let named = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
    lines.iter().map(|(name, text)| (named(name), value(text))).collect()
}

/// Lines of `name: value`; a value `@5` is the date 5 s after noon.
fn read(text: &str) -> HeaderMap {
    let lines = text.lines().map(|line| line.split_once(':').unwrap());
    let lines = lines.map(|(name, value)| match value.trim().strip_prefix('@') {
        Some(seconds) => (name.trim(), at(seconds.parse().unwrap())),
        None => (name.trim(), value.trim().to_owned()),
    });
    fields(&lines.collect::<Vec<_>>())
}

fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOON)
}

fn at(seconds: i64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(NOON.saturating_add_signed(seconds)))
}

fn life_of(request: &HeaderMap, status: u16, response: &HeaderMap) -> Option<Life> {
    let (sent, status) = (Instant::now(), StatusCode::from_u16(status).unwrap());
    life(&Received { request, status, response, sent, received: sent, wall: wall() }, ROUTES)
}

fn lives(status: u16, response: &str) -> Option<(u64, u64, u64)> {
    let life = life_of(&HeaderMap::new(), status, &read(response))?;
    Some((life.age.as_secs(), life.lifetime.as_secs(), life.stale.as_secs()))
}

#[test]
fn the_lifetime_is_what_upstream_said_most_clearly() {
    let most = LONGEST.as_secs();
    for (response, expected) in [
        ("a: b", None),
        ("cache-control: public", None),
        ("cache-control: max-age=60", Some((0, 60, 600))),
        ("cache-control: max-age=0\nexpires: @60", Some((0, 0, 600))),
        ("cache-control: max-age=60\nexpires: @-60\ndate: @0", Some((0, 60, 600))),
        ("cache-control: max-age=60\nexpires: 0", Some((0, 60, 600))),
        ("cache-control: s-maxage=60, max-age=0\nexpires: @-60", Some((0, 60, 0))),
        ("cache-control: max-age=-1\nexpires: @60", Some((0, 0, 600))),
        ("cache-control: max-age=99999999999", Some((0, most, 600))),
        ("expires: @60", Some((0, 60, 600))),
        ("expires: @60\ndate: foo", Some((0, 60, 600))),
        ("expires: @60\ndate: @0", Some((0, 60, 600))),
        ("expires: @0\ndate: @0", Some((0, 0, 600))),
        ("expires: @300\ndate: @400", Some((0, 0, 600))),
        ("expires: @10\ndate: @-10\nage: 25", Some((25, 20, 600))),
        ("expires: @20\ndate: @10\nage: 15", Some((15, 10, 600))),
        ("expires: 0\nlast-modified: @-1000", Some((0, 0, 600))),
        ("expires: @60\nexpires: @50", Some((0, 50, 600))),
        ("expires: @60\nexpires: never", Some((0, 0, 600))),
        ("expires: tue, 03 NOV 2026 12:01:00 gmt", Some((0, 60, 600))),
        ("expires: Tuesday, 03-Nov-26 12:01:00 GMT", Some((0, 60, 600))),
        ("expires: Tue Nov  3 12:01:00 2026", Some((0, 60, 600))),
        ("expires: Tue, 03 Nov 2026 12:01:00 UTC", Some((0, 0, 600))),
        ("last-modified: @-1000", Some((0, 100, 600))),
        ("last-modified: @-1000\ndate: @-500", Some((500, 50, 600))),
        ("last-modified: @-1000\nlast-modified: @-500", Some((0, 50, 600))),
        ("last-modified: @-1000\nlast-modified: once", None),
        ("last-modified: @1", None),
        ("last-modified: Thu, 01 Jan 1970 00:00:00 GMT", Some((0, 86_400, 600))),
        ("cache-control: max-age=60, must-revalidate", Some((0, 60, 0))),
        ("cache-control: max-age=60, proxy-revalidate", Some((0, 60, 0))),
        ("cache-control: max-age=60\ncache-control: Must-Revalidate", Some((0, 60, 0))),
        ("cache-control: max-age=60, stale-if-error=9999", Some((0, 60, 600))),
        ("cache-control: max-age=60, stale-while-revalidate=0", Some((0, 60, 600))),
        ("cache-control: max-age=60\npragma: no-cache", Some((0, 60, 600))),
        ("expires: @60\npragma: no-cache", None),
        ("cache-control: max-age=60\nsurrogate-control: no-store", None),
        ("cache-control: max-age=60\nvary: accept, *", None),
        ("cache-control: max-age=60, no-store, must-understand", None),
    ] {
        assert_eq!(lives(200, response), expected, "{response}");
    }
}

#[test]
fn the_age_is_the_greater_of_what_is_told_and_what_is_seen() {
    for (told, seen, expected) in [
        ("0", "@0", 0),
        ("30", "@0", 30),
        ("30", "@-10", 30),
        ("30", "@-40", 40),
        ("30", "@40", 30),
        ("30", "x", 30),
        ("2147483647", "@0", 2_147_483_647),
        ("99999999999999999999", "@0", 1 << 31),
        ("-1", "@0", 1 << 31),
        ("7200.0", "@0", 1 << 31),
        ("", "@0", 1 << 31),
        ("0, 0", "@0", 1 << 31),
        ("0\nage: 0", "@0", 1 << 31),
        ("5;a=b", "@0", 1 << 31),
    ] {
        let lines = format!("cache-control: max-age=60\nage: {told}\ndate: {seen}");
        assert_eq!(lives(200, &lines).unwrap().0, expected, "{lines}");
    }
}

#[test]
fn the_time_an_answer_took_is_part_of_its_age_once() {
    let (sent, none) = (Instant::now(), HeaderMap::new());
    for (date, age, expected) in [("@0", 0, 8), ("@-5", 0, 8), ("@-9", 0, 9), ("@-9", 4, 12)] {
        let response = read(&format!("cache-control: max-age=60\ndate: {date}\nage: {age}"));
        let (received, wall) = (sent + 8 * S, wall() + S / 2);
        let status = StatusCode::OK;
        let came = Received { request: &none, status, response: &response, sent, received, wall };
        assert_eq!(life(&came, ROUTES).unwrap().age(received), expected * S, "{date} {age}");
    }
}

#[test]
fn the_status_decides_what_must_be_said() {
    for status in 100..1000 {
        let is_final = (200..600).contains(&status) && ![206, 304].contains(&status);
        let said = lives(status, "cache-control: max-age=60").is_some();
        assert_eq!(said, is_final, "{status}");
        let guessed = lives(status, "last-modified: @-1000").is_some();
        assert_eq!(guessed, HEURISTIC.contains(&status), "{status}");
        let public = lives(status, "last-modified: @-1000\ncache-control: public").is_some();
        assert_eq!(public, is_final, "{status}");
    }
    let understood = |status| lives(status, "cache-control: max-age=60, must-understand");
    assert!(understood(200).is_some() && understood(307).is_some());
    assert!(understood(599).is_none() && understood(299).is_none());
}

#[test]
fn what_a_request_says_can_forbid_too() {
    let ask = |request: &str, control: &str| {
        let response = fields(&[("cache-control", format!("max-age=60, {control}"))]);
        life_of(&read(request), 200, &response).is_some()
    };
    for control in ["public", "PUBLIC", "s-maxage=9", "must-revalidate"] {
        assert!(ask("authorization: Bearer x", control), "{control}");
    }
    for control in ["", "x", "public=1", "x=\"public\"", "proxy-revalidate", "s-maxage=x"] {
        assert!(!ask("authorization: Bearer x", control), "{control}");
    }
    assert!(!ask("cache-control: No-Store", "public"));
    assert!(ask("cache-control: no-cache, max-age=0\ncookie: a=b", ""));
}

#[test]
fn vary_names_each_field_once_in_order() {
    let by = |names: &[&'static str]| {
        Vary::By(names.iter().copied().map(HeaderName::from_static).collect())
    };
    for (response, expected) in [
        ("a: b", Vary::Nothing),
        ("vary:", Vary::Nothing),
        ("vary: ,, ,", Vary::Nothing),
        ("vary: b, A,b", by(&["a", "b"])),
        ("vary: b\nvary:\tAccept , a", by(&["a", "accept", "b"])),
        ("vary: *", Vary::Everything),
        ("vary: , *", Vary::Everything),
        ("vary: a\nvary: b, *", Vary::Everything),
        ("vary: a*", Vary::Everything),
        ("vary: \"a\"", Vary::Everything),
        ("vary: a b", Vary::Everything),
        ("vary: é", Vary::Everything),
    ] {
        assert_eq!(Vary::read(&read(response)), expected, "{response}");
    }
}

#[test]
fn what_was_received_is_not_shown() {
    let (request, response) = (read("authorization: Bearer planted"), read("a: planted"));
    let (sent, status) = (Instant::now(), StatusCode::OK);
    let came = Received {
        request: &request,
        status,
        response: &response,
        sent,
        received: sent,
        wall: wall(),
    };
    assert_eq!(format!("{came:?}"), "Received { status: 200, .. }");
}

// The oracle is http-cache-semantics as a shared cache. Left out, because there it does not
// decide by the RFC, or the RFC leaves it open:
// - upper case in names of directives: it compares them as they are;
// - a directive twice: it takes the first value, and adds must-revalidate if they differ;
// - `max-age =5`, `max-age=+5`: it takes them for 5;
// - max-age without `=`: it goes on to Expires; commas in quotes: it cuts there;
// - proxy-revalidate: it takes that for a lifetime of zero; immutable: for one of a day;
// - Set-Cookie: it keeps it only with `public`; ours is scrubbed before an answer is kept;
// - statuses it does not know: it keeps none of them, whatever they say;
// - a Date before the answer came: it leaves the apparent age out; other forms of date than the
//   first: it takes them for junk; an Age that is no number: it ignores that;
// - Last-Modified that is not a multiple of 10 s away: it rounds; or over ten days: we guess less.

fn control() -> impl Strategy<Value = Vec<String>> {
    let good = "[1-9][0-9]{1,3}|\"60\"|0060|99999999999";
    let number = || prop_oneof![6 => good, 1 => "0|-1|x|60x|6\\.0|"];
    let named = |name| number().prop_map(move |number| format!("{name}={number}"));
    let rare = |text| prop::option::weighted(0.04, text);
    let often = |text| prop::option::weighted(0.3, text);
    (
        (prop::option::of(named("max-age")), often(named("s-maxage").boxed())),
        (
            often(Just("public".to_owned()).boxed()),
            often(Just("must-revalidate".to_owned()).boxed()),
        ),
        (rare("private(=\"a\")?"), rare("no-store"), rare("no-cache(=\"set-cookie\")?")),
        (rare("must-understand"), often("foo|bar=\"a b\"|no-transform|s-max=7|x=private-".boxed())),
    )
        .prop_map(|(a, b, c, d)| [a.0, a.1, b.0, b.1, c.0, c.1, c.2, d.0, d.1])
        .prop_map(|said| said.into_iter().flatten().collect::<Vec<_>>())
        .prop_shuffle()
}

fn response() -> impl Strategy<Value = HeaderMap> {
    let expires = prop_oneof![3 => (-100i64..1_000).prop_map(at), 1 => "0|never|"];
    let last_modified = prop_oneof![3 => (-80_000i64..10).prop_map(|s| at(s * 10)), 1 => "0|once"];
    (
        control(),
        1usize..4,
        prop::option::weighted(0.4, expires),
        prop::option::weighted(0.4, last_modified),
        prop::option::of((0i64..1_000).prop_map(|s| at(s * 10))),
        prop::option::weighted(0.3, 0u64..200),
        prop::option::weighted(0.1, "no-cache|foo"),
        prop::option::weighted(0.1, "\\*|accept|accept, x|b"),
    )
        .prop_map(|(control, per, expires, last_modified, date, age, pragma, vary)| {
            let lines = control.chunks(per).map(|some| ("cache-control", some.join(", ")));
            let age = age.map(|age| age.to_string());
            let others = [
                expires.map(|text| ("expires", text)),
                last_modified.map(|text| ("last-modified", text)),
                date.map(|text| ("date", text)),
                age.map(|text| ("age", text)),
                pragma.map(|text| ("pragma", text)),
                vary.map(|text| ("vary", text)),
            ];
            fields(&lines.chain(others.into_iter().flatten()).collect::<Vec<_>>())
        })
}

/// Besides what is said above: no number that cannot be read, which it ignores; no min-fresh of
/// zero, with which it serves what is stale; no Pragma beside Cache-Control, which it minds.
fn wishes() -> impl Strategy<Value = HeaderMap> {
    let option = |text| prop::option::weighted(0.3, text);
    (
        (option("max-age=[0-9]{1,3}"), option("min-fresh=[1-9][0-9]{0,2}")),
        (option("max-stale(=[0-9]{1,3})?"), prop::option::weighted(0.1, "no-cache|foo")),
        1usize..4,
        prop::option::of("no-cache|foo"),
    )
        .prop_map(|(times, others, per, pragma)| {
            let said = [times.0, times.1, others.0, others.1].into_iter().flatten();
            let said: Vec<_> = said.collect();
            let lines = said.chunks(per).map(|some| ("cache-control", some.join(",")));
            let pragma = pragma.filter(|_| said.is_empty()).map(|text| ("pragma", text));
            fields(&lines.chain(pragma).collect::<Vec<_>>())
        })
}

fn oracle(request: &HeaderMap, status: u16, response: &HeaderMap) -> CachePolicy {
    let mut answer = Response::builder().status(status).body(()).unwrap();
    *answer.headers_mut() = response.clone();
    CachePolicy::new_options(&asked(request), &answer, wall(), CacheOptions::default())
}

fn asked(fields: &HeaderMap) -> Request<()> {
    let mut request = Request::get("http://omni.test/").body(()).unwrap();
    *request.headers_mut() = fields.clone();
    request
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn an_answer_is_kept_and_fresh_where_the_oracle_says_so(
        request in prop_oneof![
            8 => Just("a: b"),
            2 => Just("authorization: x"),
            1 => Just("cache-control: no-store"),
        ],
        status in prop::sample::select(&[200u16, 200, 203, 204, 301, 302, 303, 307, 404, 410, 501]),
        response in response(),
        later in prop::collection::vec(0u64..2_000, 4),
    ) {
        let request = read(request);
        let ours = life_of(&request, status, &response);
        let oracle = oracle(&request, status, &response);
        // We never keep what it does not.
        prop_assert!(ours.is_none() || oracle.is_storable());
        // What is never fresh it may keep, to ask about it each time. The rest it keeps as we do.
        let lifetime = oracle.time_to_live(wall()).saturating_add(oracle.age(wall()));
        let fresh = oracle.is_storable() && !oracle.is_stale(wall());
        if fresh {
            prop_assert_eq!(ours.map(|life| life.lifetime), Some(lifetime.min(LONGEST)));
        }
        for seconds in later.into_iter().chain([0]) {
            let ours = ours.is_some_and(|life| life.ttl(life.since + Duration::from_secs(seconds)) > 0);
            let now = wall() + Duration::from_secs(seconds);
            prop_assert_eq!(ours, oracle.is_storable() && !oracle.is_stale(now), "at {}", seconds);
        }
    }

    #[test]
    fn a_caller_is_served_what_the_oracle_serves_it(
        wishes in wishes(),
        (lifetime, age) in (1u64..500, 0u64..100),
        must_revalidate in prop::bool::weighted(0.3),
        later in 0u64..400,
    ) {
        let must = if must_revalidate { ", must-revalidate" } else { "" };
        let response = read(&format!("cache-control: max-age={lifetime}{must}\nage: {age}"));
        let plain = HeaderMap::new();
        let oracle = oracle(&plain, 200, &response);
        let ours = life_of(&plain, 200, &response).unwrap();
        // Half a second off: what happens at the very moment is told apart elsewhere.
        let later = Duration::from_secs(later) + S / 2;
        let judged = ours.judge(&Wishes::read(&wishes), ours.since + later);
        let theirs = oracle.before_request(&asked(&wishes), wall() + later);
        let is_served = matches!(theirs, BeforeRequest::Fresh(_));
        prop_assert_eq!(matches!(judged, Fresh | Welcome), is_served, "{:?}", judged);
    }
}

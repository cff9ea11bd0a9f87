use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_LANGUAGE, COOKIE};
use http::{HeaderValue, Method, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::base::CredentialId;
use crate::cache::entry::Answer;
use crate::cache::freshness::Life;
use crate::cache::invalidation::{Stamp, Subject};
use crate::cache::key::Question;
use crate::omni::{Stales, endpoint};

const SECOND: Duration = Duration::from_secs(1);

const LABELS: &str = "/api/v1/labels";

/// What may be read, known and unknown.
const READS: [&str; 6] = [
    "/api/v1/documents",
    "/api/v1/schedules",
    "/api/v1/ai/branding",
    "/api/v9/things",
    "/api/v1/documents/d",
    "/api/v1/Documents/d/",
];

/// What may be called that is not a read, and some that only ask.
const WRITES: [(&str, &str); 8] = [
    ("POST", "/api/v1/documents"),
    ("POST", "/api/v1/schedules"),
    ("DELETE", "/api/v1/documents/D"),
    ("POST", "/api/v1/query/run"),
    ("POST", "/api/v1/ai/jobs"),
    ("POST", "/api/v9/others"),
    ("DELETE", "/api/v1/connections/c"),
    ("GET", "/api/v9/others"),
];

fn none() -> HeaderMap {
    HeaderMap::new()
}

fn language(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT_LANGUAGE, HeaderValue::from_static(value))])
}

fn key(path: &str) -> Key {
    let (id, fields) = (CredentialId::new("org"), none());
    let keys = &[(&id, 1)];
    Key::of(&Question { keys, path, query: None, acts_for: None, fields: &fields, vary: &[] })
}

/// A fill that has begun: what it had before its request went out.
#[derive(Clone, Debug)]
struct Fill {
    path: &'static str,
    subject: Subject,
    stamp: Stamp,
    since: Instant,
    began: usize,
}

fn cache() -> Cache {
    let settings =
        CacheSettings { max_bytes: 64 << 20, max_entry: 100, ..CacheSettings::default() };
    Cache::new(settings)
}

fn begin(cache: &Cache, path: &'static str, route: &str, began: usize) -> Fill {
    let generations = cache.generations();
    let subject = generations.subject(path, &generations.route(&RouteId::new(route)));
    let stamp = generations.stamp(&subject);
    Fill { path, subject, stamp, since: Instant::now(), began }
}

impl Fill {
    fn entry(&self, body: impl Into<Bytes>) -> Arc<Entry> {
        let answer = Answer::compact(StatusCode::OK, &none(), body.into());
        let (lifetime, stale) = (10 * SECOND, 20 * SECOND);
        let life = Life { since: self.since, age: Duration::ZERO, lifetime, stale };
        Arc::new(Entry::new(answer, life, self.subject.clone(), self.stamp))
    }

    fn end(&self, cache: &Cache) -> Option<Arc<Entry>> {
        let entry = self.entry(self.began.to_string());
        cache.keep(&key(self.path), &none(), &Vary::Nothing, &entry).then_some(entry)
    }
}

/// The body that is found, as text.
fn body(cache: &Cache, key: &Key, fields: &HeaderMap) -> Option<String> {
    match cache.find(key, fields, Instant::now()) {
        Found::Entry(entry) => Some(String::from_utf8(entry.answer.body.to_vec()).unwrap()),
        Found::Pass | Found::Nothing => None,
    }
}

fn write(cache: &Cache, method: &str, path: &str) {
    let method: Method = method.parse().unwrap();
    if let Some(write) = cache.generations().write(&method, path) {
        cache.generations().apply(&write);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_found_until_it_is_over() {
    let cache = cache();
    assert!(begin(&cache, LABELS, "lists", 1).end(&cache).is_some());
    tokio::time::advance(29 * SECOND).await;
    assert_eq!(body(&cache, &key(LABELS), &none()).as_deref(), Some("1"));
    tokio::time::advance(SECOND).await;
    assert_eq!(body(&cache, &key(LABELS), &none()), None);
    assert_eq!((cache.entries(), cache.bytes()), (0, 0));
}

#[test]
fn an_answer_that_began_before_a_write_is_not_kept() {
    let cache = cache();
    let fill = begin(&cache, LABELS, "lists", 1);
    write(&cache, "POST", LABELS);
    assert!(fill.end(&cache).is_none());
    assert_eq!(cache.entries(), 0);
}

#[test]
fn an_answer_that_was_kept_a_moment_too_late_is_never_found() {
    let cache = cache();
    let fill = begin(&cache, LABELS, "lists", 1);
    // As if the write had come between the look at the stamp and the keeping.
    write(&cache, "POST", LABELS);
    let entry = fill.entry("1");
    cache.parts.put(&key(LABELS), Held::Entry(entry), 100);
    assert_eq!(cache.entries(), 1);
    assert_eq!(body(&cache, &key(LABELS), &none()), None);
    assert_eq!(cache.entries(), 0);
}

#[test]
fn a_large_body_is_not_kept() {
    let cache = cache();
    let fill = begin(&cache, LABELS, "lists", 1);
    let keep =
        |size| cache.keep(&key(LABELS), &none(), &Vary::Nothing, &fill.entry(vec![b'a'; size]));
    assert!(keep(100));
    assert!(!keep(101));
}

#[test]
fn variants_are_found_by_the_fields_they_differ_by() {
    let cache = cache();
    let fill = begin(&cache, LABELS, "lists", 1);
    let vary = Vary::By([ACCEPT_LANGUAGE].into());
    let keep = |fields: &HeaderMap, body: &'static str| {
        assert!(cache.keep(&key(LABELS), fields, &vary, &fill.entry(body)));
    };
    keep(&language("de"), "de");
    keep(&language("en"), "en");
    keep(&none(), "none");
    let found = |fields: &HeaderMap| body(&cache, &key(LABELS), fields);
    assert_eq!(found(&language("de")).as_deref(), Some("de"));
    assert_eq!(found(&language("en")).as_deref(), Some("en"));
    assert_eq!(found(&none()).as_deref(), Some("none"));
    assert_eq!(found(&language("fr")), None);
    // What differs by something else from now on is not found under what was before.
    let vary = Vary::By([COOKIE].into());
    assert!(cache.keep(&key(LABELS), &none(), &vary, &fill.entry("other")));
    assert_eq!(found(&language("de")).as_deref(), Some("other"));
    assert!(cache.keep(&key(LABELS), &none(), &Vary::Nothing, &fill.entry("all")));
    assert_eq!(found(&language("en")).as_deref(), Some("all"));
}

#[test]
fn what_differs_by_more_than_fields_is_not_kept() {
    let cache = cache();
    let entry = begin(&cache, LABELS, "lists", 1).entry("1");
    assert!(!cache.keep(&key(LABELS), &none(), &Vary::Everything, &entry));
    assert_eq!(cache.entries(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_passes_does_so_for_a_while() {
    let cache = cache();
    begin(&cache, LABELS, "lists", 1).end(&cache).unwrap();
    cache.pass(&key(LABELS), Instant::now() + SECOND);
    let find = || cache.find(&key(LABELS), &none(), Instant::now());
    assert!(matches!(find(), Found::Pass));
    tokio::time::advance(SECOND).await;
    assert!(matches!(find(), Found::Nothing));
    assert_eq!(cache.entries(), 0);
    cache.pass(&key(LABELS), Instant::now() + SECOND);
    begin(&cache, LABELS, "lists", 2).end(&cache).unwrap();
    assert_eq!(body(&cache, &key(LABELS), &none()).as_deref(), Some("2"));
}

#[test]
fn a_purge_gives_the_memory_back() {
    let cache = cache();
    let kept = begin(&cache, LABELS, "lists", 1).end(&cache).unwrap();
    let other = begin(&cache, "/api/v1/folders", "other", 2).end(&cache).unwrap();
    cache.pass(&key("/pass"), Instant::now() + SECOND);
    let late = begin(&cache, LABELS, "lists", 3);
    cache.purge(Some(&RouteId::new("lists")));
    assert_eq!((cache.entries(), Arc::strong_count(&kept)), (2, 1));
    assert!(late.end(&cache).is_none());
    assert_eq!(body(&cache, &key("/api/v1/folders"), &none()).as_deref(), Some("2"));
    cache.purge(None);
    assert_eq!((cache.entries(), cache.bytes(), Arc::strong_count(&other)), (0, 0, 1));
}

#[test]
fn a_room_does_not_show_what_is_in_it() {
    let cache = cache();
    begin(&cache, LABELS, "lists", 123_456).end(&cache).unwrap();
    let found = cache.find(&key(LABELS), &none(), Instant::now());
    let shown = format!("{cache:?} {found:?}");
    assert!(!shown.contains("123456") && !shown.contains("labels"), "{shown}");
}

#[test]
fn whoever_looks_after_a_write_finds_nothing_from_before_it() {
    // Real threads: some fill, one writes and says how often, and one looks.
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    let cache = cache();
    let (written, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3_000 {
                // The change at Omni, then the end of the exchange.
                written.fetch_add(1, SeqCst);
                write(&cache, "POST", LABELS);
                thread::yield_now();
            }
            done.store(true, SeqCst);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    let mut fill = begin(&cache, LABELS, "lists", 0);
                    // What upstream says: how often was written when it answered.
                    fill.began = written.load(SeqCst);
                    fill.end(&cache);
                }
            });
        }
        while !done.load(SeqCst) {
            // All but the last may have ended; that one may be on its way.
            let ended = written.load(SeqCst).saturating_sub(1);
            if let Some(found) = body(&cache, &key(LABELS), &none()) {
                let said: usize = found.parse().unwrap();
                assert!(said >= ended, "{said} after {ended}");
            }
        }
    });
}

#[derive(Clone, Debug)]
enum Step {
    Begin(usize),
    End(usize),
    Write(usize),
    Purge(Option<usize>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..READS.len()).prop_map(Step::Begin),
        6 => (0..20usize).prop_map(Step::End),
        3 => (0..WRITES.len()).prop_map(Step::Write),
        1 => prop::option::of(0..2usize).prop_map(Step::Purge),
        2 => (0..8u64).prop_map(Step::Wait),
    ]
}

fn route(read: &str) -> &'static str {
    if read.contains("ocuments") { "0" } else { "1" }
}

/// Whether a call leaves the answer at `read` stale, by the words of the catalogue alone.
fn stales((method, path): (&str, &str), read: &str) -> bool {
    let plain = |path: &str| path.strip_suffix('/').unwrap_or(path).to_ascii_lowercase();
    let (call, shown) = (endpoint(&method.parse().unwrap(), path), endpoint(&Method::GET, read));
    let covers = |stales: Stales| match shown {
        Some(read) => stales.covers(read),
        None => true,
    };
    match call {
        _ if method == "GET" => false,
        Some(call) if !call.writes() => false,
        Some(call) => plain(path) == plain(read) || covers(call.stales()),
        None => true,
    }
}

/// A cache in which none of the paths here share a bucket but those that are one path.
fn apart() -> Cache {
    loop {
        let cache = cache();
        let paths = READS.iter().chain(WRITES.iter().map(|(_, path)| path));
        let mut buckets = BTreeMap::new();
        if paths.clone().all(|path| {
            let plain = path.strip_suffix('/').unwrap_or(path).to_ascii_lowercase();
            *buckets.entry(cache.generations.bucket(path)).or_insert_with(|| plain.clone()) == plain
        }) {
            return cache;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_found_is_what_a_plain_model_has(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let cache = apart();
            let mut fills: Vec<Fill> = Vec::new();
            // When each path was left stale last, and what is kept for it.
            let mut stale = BTreeMap::new();
            let mut kept: BTreeMap<&str, Fill> = BTreeMap::new();
            for (now, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Begin(read) => {
                        fills.push(begin(&cache, READS[read], route(READS[read]), now));
                    }
                    Step::End(which) if which < fills.len() => {
                        let fill = fills.swap_remove(which);
                        let current =
                            |fill: &Fill| stale.get(fill.path).is_none_or(|at| *at < fill.began);
                        let overtakes = |there: &Fill| {
                            there.since > fill.since
                                && current(there)
                                && there.since.elapsed() < 30 * SECOND
                        };
                        let good = current(&fill) && !kept.get(fill.path).is_some_and(overtakes);
                        assert_eq!(fill.end(&cache).is_some(), good);
                        if good {
                            kept.insert(fill.path, fill);
                        }
                    }
                    Step::End(_) => {}
                    Step::Write(which) => {
                        write(&cache, WRITES[which].0, WRITES[which].1);
                        let hit = READS.iter().filter(|read| stales(WRITES[which], read));
                        stale.extend(hit.map(|read| (*read, now)));
                    }
                    Step::Purge(which) => {
                        let which = which.map(|which| which.to_string());
                        cache.purge(which.as_deref().map(RouteId::new).as_ref());
                        let hit = |read: &&&str| which.as_ref().is_none_or(|one| route(read) == one);
                        stale.extend(READS.iter().filter(hit).map(|read| (*read, now)));
                    }
                    Step::Wait(seconds) => tokio::time::advance(seconds as u32 * SECOND).await,
                }
                for read in READS {
                    let good = kept.get(read).filter(|fill| {
                        stale.get(read).is_none_or(|stale| *stale < fill.began)
                            && fill.since.elapsed() < 30 * SECOND
                    });
                    let wanted = good.map(|fill| fill.began.to_string());
                    assert_eq!(body(&cache, &key(read), &none()), wanted, "{read} at {now}");
                }
            }
        });
    }
}

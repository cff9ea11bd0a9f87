//! The cache keeps to its bound in memory that is really occupied. Each test runs in a process of
//! its own, so that what is measured is its own.
//!
//! The full size: `cargo test --release --test cache_memory -- --ignored --nocapture`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test file ends by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are the point")]

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, thread};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use omnigate::base::{CredentialId, RouteId};
use omnigate::cache::{
    Answer, Cache, CacheSettings, Entry, Found, Key, Life, Question, RouteMark, Vary,
};
use tokio::time::Instant;

const MIB: u64 = 1 << 20;
const MAX_BYTES: u64 = 64 * MIB;

/// What may be occupied: the bound, a quarter for what the allocator loses between blocks, and the
/// process itself.
const MAX_RESIDENT: u64 = MAX_BYTES + MAX_BYTES / 4 + 12 * MIB;

/// Set in the process that does the work of a test, to the test's name.
const INNER: &str = "OMNIGATE_CACHE_MEMORY";

/// What glibc's allocator is told.
type Malloc = &'static [(&'static str, &'static str)];

/// Nothing: it is as it comes.
const PLAIN: Malloc = &[];

/// To give large blocks back to the system whenever they are freed. As it comes, it stops doing so
/// for blocks up to the largest that was freed, and has them in a heap of each thread; four threads
/// that fill a cache of 64 MiB with entries of 1 MiB then occupy 130 MiB, and with entries of all
/// sizes up to 150 MiB. What the cache holds is the same; what lies between is the allocator's.
const STEADY: Malloc = &[("MALLOC_MMAP_THRESHOLD_", "65536")];

/// Runs a test in a process of its own.
fn alone(name: &str, malloc: Malloc, test: impl FnOnce()) {
    if env::var(INNER).is_ok_and(|inner| inner == name) {
        return test();
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([name, "--exact", "--include-ignored", "--nocapture"]);
    let output = command.env(INNER, name).envs(malloc.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().filter(|line| line.contains("MiB")).for_each(|line| println!("{line}"));
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// Bytes that are occupied now (`VmRSS`), or were at most (`VmHWM`).
fn resident(which: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(which)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

struct Room {
    cache: Cache,
    route: RouteMark,
    credential: CredentialId,
    fields: HeaderMap,
    now: Instant,
}

impl Room {
    fn new() -> Self {
        let settings = CacheSettings { max_bytes: MAX_BYTES, ..CacheSettings::default() };
        let cache = Cache::new(settings);
        let route = cache.generations().route(&RouteId::new("lists"));
        let credential = CredentialId::new("org");
        Self { cache, route, credential, fields: HeaderMap::new(), now: Instant::now() }
    }

    fn key(&self, number: u64) -> Key {
        Key::of(&Question {
            keys: &[(&self.credential, 1)],
            path: "/api/v1/documents",
            query: Some(&format!("cursor={number}")),
            acts_for: None,
            fields: &self.fields,
            vary: &[],
        })
    }

    fn keep(&self, key: &Key, headers: &HeaderMap, body: Bytes) -> bool {
        let subject = self.cache.generations().subject("/api/v1/documents", &self.route);
        let stamp = self.cache.generations().stamp(&subject);
        let (lifetime, stale) = (Duration::from_secs(60), Duration::from_secs(600));
        let life = Life { since: self.now, age: Duration::ZERO, lifetime, stale };
        let answer = Answer::compact(StatusCode::OK, headers, body);
        let entry = Entry::new(answer, life, subject, stamp);
        self.cache.keep(key, &self.fields, &Vary::Nothing, &Arc::new(entry))
    }

    /// Looks at what is occupied, now and then.
    fn look(&self, number: u64) {
        if number.is_multiple_of(10_000) {
            let now = resident("VmRSS");
            assert!(now < MAX_RESIDENT, "{} MiB after {number}", now / MIB);
        }
    }

    /// The end of a test: what was occupied, at most and when everything is let go.
    fn end(&self, name: &str) {
        let (peak, now) = (resident("VmHWM"), resident("VmRSS"));
        let (entries, bytes) = (self.cache.entries(), self.cache.bytes());
        self.cache.purge(None);
        let purged = resident("VmRSS");
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        println!(
            "{name}: {entries} entries of {:.1} MiB; resident {:.1} MiB, at most {:.1} of {:.1} MiB, \
             after a purge {:.1} MiB",
            mib(bytes),
            mib(now),
            mib(peak),
            mib(MAX_RESIDENT),
            mib(purged),
        );
        assert!(bytes <= MAX_BYTES, "{bytes}");
        assert!(peak < MAX_RESIDENT, "{:.1} MiB", mib(peak));
        assert_eq!((self.cache.entries(), self.cache.bytes()), (0, 0));
    }
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/json; charset=utf-8"),
        ("date", "Sat, 21 Nov 2026 10:00:00 GMT"),
        ("etag", "W/\"1f-2a3b4c5d6e7f\""),
        ("vary", "accept-encoding"),
        ("x-request-id", "0198f1d2-7a5b-7c3d-9e4f-5a6b7c8d9e0f"),
        ("x-ratelimit-limit", "60"),
    ] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

/// So many distinct entries of one size, by so many threads. Each tenth is asked for again.
fn distinct(name: &str, entries: u64, size: usize, threads: u64) {
    let (room, headers) = (Room::new(), headers());
    let began = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let (room, headers) = (&room, &headers);
            scope.spawn(move || {
                for number in (0..entries).filter(|number| number % threads == thread) {
                    let key = room.key(number);
                    assert!(room.keep(&key, headers, Bytes::from(vec![b'a'; size])));
                    if number % 10 == 0 {
                        room.cache.find(&key, &room.fields, room.now);
                    }
                    room.look(number);
                }
            });
        }
    });
    let each = began.elapsed() / u32::try_from(entries).unwrap();
    println!("{name}: {each:?} each, with making the body; {} MiB are kept", MAX_BYTES / MIB);
    room.end(name);
}

/// Entries of all sizes, some of them for the same keys, by four threads.
fn mixed(name: &str, entries: u64) {
    let (room, headers) = (Room::new(), headers());
    thread::scope(|scope| {
        for thread in 0..4 {
            let (room, headers) = (&room, &headers);
            scope.spawn(move || {
                let mut random = thread + 1;
                for number in 0..entries / 4 {
                    // xorshift
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let size = (random >> 20) % (50 << (random % 15));
                    let key = room.key(random >> 8 & 0xf_ffff);
                    let body = vec![b'a'; usize::try_from(size).unwrap()];
                    room.keep(&key, headers, Bytes::from(body));
                    if number % 2 == 0 {
                        room.cache.find(&key, &room.fields, room.now);
                    }
                    room.look(number);
                }
            });
        }
    });
    room.end(name);
}

/// Entries whose bodies and fields are slices of large buffers.
fn sliced(name: &str, entries: u64) {
    let room = Room::new();
    for number in 0..entries {
        let buffer = Bytes::from(vec![b'a'; 256 << 10]);
        let mut headers = headers();
        let value = HeaderValue::from_maybe_shared(buffer.slice(..20)).unwrap();
        headers.insert("x-long", value);
        assert!(room.keep(&room.key(number), &headers, buffer.slice(1000..1100)));
        // The last one that holds the buffer, at its end.
        let body = buffer.slice((256 << 10) - 100..);
        drop((buffer, headers));
        assert!(room.keep(&room.key(entries + number), &HeaderMap::new(), body));
        room.look(number);
    }
    room.end(name);
}

/// One key, again and again.
fn replaced(name: &str, entries: u64, size: usize) {
    let (room, headers) = (Room::new(), headers());
    let key = room.key(0);
    for number in 0..entries {
        assert!(room.keep(&key, &headers, Bytes::from(vec![b'a'; size])));
        room.cache.find(&key, &room.fields, room.now);
        room.look(number);
    }
    assert_eq!(room.cache.entries(), 1);
    assert!(resident("VmHWM") < 24 * MIB, "{}", resident("VmHWM"));
    room.end(name);
}

/// Declares tests by name.
macro_rules! tests {
    ($($(#[$attribute:meta])* $name:ident: $how:ident[$malloc:ident]($($size:expr),*);)*) => {
        $(
            #[test]
            $(#[$attribute])*
            fn $name() {
                alone(stringify!($name), $malloc, || $how(stringify!($name), $($size),*));
            }
        )*
    };
}

tests! {
    entries_of_4_kib_stay_within_the_bound: distinct[PLAIN](200_000, 4 << 10, 1);
    #[ignore = "minutes of work; tests/run --all runs it"]
    ten_million_entries_of_4_kib_stay_within_the_bound: distinct[PLAIN](10_000_000, 4 << 10, 1);
    four_threads_stay_within_the_bound: distinct[PLAIN](100_000, 4 << 10, 4);
    tiny_entries_stay_within_the_bound: distinct[PLAIN](200_000, 50, 1);
    large_entries_stay_within_the_bound: distinct[STEADY](2_000, 1 << 20, 4);
    mixed_entries_stay_within_the_bound: mixed[STEADY](40_000);
    slices_do_not_keep_what_they_were_cut_from: sliced[PLAIN](20_000);
    a_replaced_entry_is_let_go_at_once: replaced[PLAIN](10_000, 256 << 10);
}

#[test]
fn a_hit_shares_the_body_that_was_kept() {
    let room = Room::new();
    let (key, body) = (room.key(0), Bytes::from(vec![b'a'; 1 << 20]));
    let place = body.as_ptr();
    assert!(room.keep(&key, &headers(), body));
    for _ in 0..2 {
        let Found::Entry(entry) = room.cache.find(&key, &room.fields, room.now) else {
            panic!("it is kept");
        };
        // Not copied when it was kept either: the allocation was its own.
        assert_eq!(entry.answer.body.clone().as_ptr(), place);
    }
}

#[test]
fn a_body_over_max_entry_is_not_kept() {
    let room = Room::new();
    let most = room.cache.settings().max_entry;
    assert!(!room.keep(&room.key(0), &headers(), Bytes::from(vec![b'a'; most + 1])));
    assert!(matches!(room.cache.find(&room.key(0), &room.fields, room.now), Found::Nothing));
    assert!(room.keep(&room.key(0), &headers(), Bytes::from(vec![b'a'; most])));
}

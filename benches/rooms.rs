//! What the rooms cost on their own. `cargo bench --bench rooms`.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, DATE, ETAG, USER_AGENT, VARY};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use omnigate::base::{BudgetId, CallerId, CredentialId, Priority, RequestId, RouteId};
use omnigate::cache::{
    self as kept, Answer, Cache, CacheSettings, Entry, Found, Life, Question, Vary,
};
use omnigate::route::{CanonicalPath, Methods, Pattern, Router};
use omnigate::shape::{
    Ask, BudgetSettings, ColdStart, Key, LaneId, Place, Profile, Scope, Service, Shaper,
    ShaperSettings, StatePlace,
};
use omnigate::telemetry::{Board, CacheOutcome, Ended, ExchangeFacts, Metrics};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn budget(limit: u32, window: Duration, profile: Profile) -> BudgetSettings {
    BudgetSettings {
        id: BudgetId::new("omni"),
        limit: NonZeroU32::new(limit).unwrap(),
        window,
        guard: Duration::ZERO,
        profile,
        reserve: 0,
        scope: Scope::Organization,
        max_queued: 1_000_000,
        max_wait: Duration::from_secs(1_000_000_000),
        batch_max_wait: Duration::from_secs(1_000_000_000),
        cold_start: ColdStart::Trust,
    }
}

struct Bench {
    shaper: Shaper,
    lane: LaneId,
    caller: CallerId,
}

impl Bench {
    fn new(budget: BudgetSettings, place: Option<&StatePlace>) -> Self {
        let key = Key { credential: CredentialId::new("org"), budgets: vec![budget.id.clone()] };
        let keys = vec![key];
        let settings =
            ShaperSettings { budgets: vec![budget], keys: keys.clone(), callers: Vec::new() };
        let shaper = Shaper::open(settings, place).unwrap();
        let lane = shaper.lane(&keys).unwrap();
        Self { shaper, lane, caller: CallerId::new("anonymous") }
    }

    fn join(&self) -> Place {
        let priority = Priority::Normal;
        let ask = Ask { lane: self.lane, caller: &self.caller, priority, max_wait: None };
        self.shaper.join(&ask).unwrap()
    }

    async fn send(&self) {
        let mut place = self.join();
        place.near().await.unwrap();
        place.turn().await.unwrap().begin();
    }
}

fn shape(c: &mut Criterion) {
    let runtime = runtime();
    let _inside = runtime.enter();
    let often = Duration::from_millis(1);
    let free = Bench::new(budget(50_000_000, often, Profile::Burst), None);
    c.bench_function("shape/a free permit", |b| b.iter(|| runtime.block_on(free.send())));
    let folder = tempfile::tempdir().unwrap();
    let place = StatePlace { folder: folder.path().to_owned(), upstream: "bench".to_owned() };
    let kept = Bench::new(budget(100_000, often, Profile::Burst), Some(&place));
    c.bench_function("shape/a free permit, written down", |b| {
        b.iter(|| runtime.block_on(kept.send()));
    });
    for waiters in [1_000, 10_000, 100_000] {
        let (busy, places) = full(waiters);
        c.bench_function(&format!("shape/join and leave behind {waiters} waiters"), |b| {
            b.iter_batched(|| (), |()| drop(busy.join()), BatchSize::SmallInput);
        });
        c.bench_function(&format!("shape/what operators see of {waiters} waiters"), |b| {
            b.iter(|| busy.shaper.view());
        });
        drop(places);
        c.bench_function(&format!("shape/grants to {waiters} waiters, each"), |b| {
            b.iter_custom(|grants| runtime.block_on(granted(waiters, grants)));
        });
    }
}

/// What operators see where there is much to see: 600 sends, and a hundred callers who all wait.
fn seen(c: &mut Criterion) {
    let runtime = runtime();
    let _inside = runtime.enter();
    let one = Bench::new(budget(600, Duration::from_secs(10_000), Profile::Burst), None);
    (0..600).for_each(|_| runtime.block_on(one.send()));
    let callers: Vec<CallerId> = (0..100).map(|nth| CallerId::new(format!("c{nth}"))).collect();
    let join = |nth: usize| {
        let (caller, priority) = (&callers[nth % 100], Priority::ALL[nth % 3]);
        one.shaper.join(&Ask { lane: one.lane, caller, priority, max_wait: None }).unwrap()
    };
    let places: Vec<Place> = (0..300).map(join).collect();
    c.bench_function("shape/what operators see of 100 callers and 600 sends", |b| {
        b.iter(|| one.shaper.view());
    });
    drop(places);
}

/// A budget without a free slot, and so many who wait for one.
fn full(waiters: usize) -> (Bench, Vec<Place>) {
    let burst = NonZeroU32::MIN;
    let busy = Bench::new(budget(60, Duration::from_secs(10_000), Profile::Smooth { burst }), None);
    let places = (0..waiters).map(|_| busy.join()).collect();
    (busy, places)
}

/// The time that so many grants take while so many wait: a permit comes back and goes to the next,
/// who leaves with it, and one more joins at the end.
async fn granted(waiters: usize, grants: u64) -> Duration {
    let one = Bench::new(budget(1, Duration::from_secs(1_000), Profile::Burst), None);
    let mut line: VecDeque<Place> = (0..waiters).map(|_| one.join()).collect();
    // Many grants to each crowd: gathering one takes far longer, and leaves the caches cold.
    let many = if waiters > 1_000 { grants.max(10_000) } else { grants };
    let mut took = Duration::ZERO;
    for _ in 0..many {
        let mut next = line.pop_front().unwrap();
        next.near().await.unwrap();
        line.push_back(one.join());
        let began = Instant::now();
        drop(next.turn().await.unwrap());
        took += began.elapsed();
    }
    took.mul_f64(grants as f64 / many as f64)
}

/// What it takes to tell everybody that Omni refuses the key. `shape/a free permit` is the control.
fn refused_key(c: &mut Criterion) {
    let runtime = runtime();
    let _inside = runtime.enter();
    let key = CredentialId::new("org");
    let (out, places) = full(1);
    out.shaper.set_service(&key, Service::Out);
    drop(places);
    let ask =
        Ask { lane: out.lane, caller: &out.caller, priority: Priority::Normal, max_wait: None };
    c.bench_function("shape/a call to a refused key", |b| {
        b.iter(|| out.shaper.join(&ask).is_err())
    });
    for waiters in [1_000, 10_000] {
        let name = format!("shape/all {waiters} waiters of a refused key told");
        c.bench_function(&name, |b| {
            b.iter_batched(
                || full(waiters),
                |(busy, mut places)| {
                    busy.shaper.set_service(&key, Service::Out);
                    for place in &mut places {
                        assert!(runtime.block_on(place.near()).is_err());
                    }
                    (busy, places)
                },
                BatchSize::LargeInput,
            );
        });
    }
}

fn route(c: &mut Criterion) {
    let paths = [
        "/api/v1/documents",
        "/api/v1/documents/{identifier}",
        "/api/v1/models/{modelId}/topic/{topicName}",
        "/{*rest}",
    ];
    let routes = paths
        .iter()
        .map(|path| (RouteId::new(*path), Pattern::parse(path).unwrap(), Methods::Any))
        .collect();
    let router = Router::new(routes).unwrap();
    c.bench_function("route/canonical path and look-up", |b| {
        b.iter(|| {
            let path = CanonicalPath::parse(black_box("/api/v1/models/m1/topic/order%20items"));
            router.find(&Method::GET, &path.unwrap())
        });
    });
}

/// What a caller asks with, and what a list answers with.
fn fields() -> (HeaderMap, HeaderMap) {
    let of = |pairs: &[(http::HeaderName, &'static str)]| {
        let pairs = pairs.iter().map(|(name, value)| (name.clone(), *value));
        pairs.map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
    };
    let asked = [
        (ACCEPT, "application/json"),
        (ACCEPT_LANGUAGE, "en"),
        (USER_AGENT, "python-requests/2.32"),
    ];
    let answered = [
        (CONTENT_TYPE, "application/json; charset=utf-8"),
        (DATE, "Sat, 21 Nov 2026 10:00:00 GMT"),
        (ETAG, "W/\"1f-2a3b4c5d6e7f\""),
        (VARY, "Accept-Encoding"),
    ];
    (of(&asked), of(&answered))
}

fn key(credential: &CredentialId, fields: &HeaderMap, query: &str) -> kept::Key {
    kept::Key::of(&Question {
        keys: &[(credential, 1)],
        path: "/api/v1/documents",
        query: Some(query),
        acts_for: None,
        fields,
        vary: &[],
    })
}

fn keep(cache: &Cache, key: &kept::Key, answered: &HeaderMap, body: Bytes) -> bool {
    let generations = cache.generations();
    let route = generations.route(&RouteId::new("lists"));
    let subject = generations.subject("/api/v1/documents", &route);
    let stamp = generations.stamp(&subject);
    let (lifetime, stale) = (Duration::from_secs(100_000), Duration::ZERO);
    let life = Life { since: Instant::now(), age: Duration::ZERO, lifetime, stale };
    let answer = Answer::compact(StatusCode::OK, answered, body);
    let entry = Entry::new(answer, life, subject, stamp);
    cache.keep(key, &HeaderMap::new(), &Vary::Nothing, &Arc::new(entry))
}

fn cache(c: &mut Criterion) {
    let (asked, answered) = fields();
    let credential = CredentialId::new("org");
    let query =
        |number: usize| format!("pageSize=100&cursor=eyJpZCI6IjAxOThmMWQyLTdhNWI{number:08}");
    let cache = Cache::new(CacheSettings::default());
    let mut plain = HashMap::new();
    for number in 0..10_000 {
        let key = key(&credential, &asked, &query(number));
        assert!(keep(&cache, &key, &answered, Bytes::from(vec![b'a'; 100])));
        plain.insert(key.clone(), Bytes::from(vec![b'a'; 100]));
        // Asked twice, as what is asked often is.
        assert!(matches!(cache.find(&key, &asked, Instant::now()), Found::Entry(_)));
    }
    let plain = Mutex::new(plain);
    let (hit, miss, now) = (query(5000), query(20_000), Instant::now());
    c.bench_function("cache/key", |b| b.iter(|| key(&credential, &asked, black_box(&hit))));
    c.bench_function("cache/key and hit among 10000", |b| {
        b.iter(|| cache.find(&key(&credential, &asked, black_box(&hit)), &asked, now));
    });
    c.bench_function("cache/key and miss", |b| {
        b.iter(|| cache.find(&key(&credential, &asked, black_box(&miss)), &asked, now));
    });
    // The control: what any map under a lock costs, with no bound and no order.
    c.bench_function("cache/key and hit in a HashMap under a mutex", |b| {
        b.iter(|| {
            let key = key(&credential, &asked, black_box(&hit));
            plain.lock().unwrap().get(&key).cloned()
        });
    });
    let mut number = 20_000;
    c.bench_function("cache/keep 4 KiB", |b| {
        b.iter_batched(
            || {
                number += 1;
                (key(&credential, &asked, &query(number)), Bytes::from(vec![b'a'; 4 << 10]))
            },
            |(key, body)| keep(&cache, &key, &answered, body),
            BatchSize::SmallInput,
        );
    });
}

/// What one served call costs in metrics: its permit, its one attempt, its end. Among as many
/// series as a busy gateway has.
fn telemetry(c: &mut Criterion) {
    let metrics = Metrics::new();
    let (budget, waited) = (BudgetId::new("omni"), Duration::from_millis(3));
    let callers: Vec<CallerId> = (0..20).map(|n| CallerId::new(format!("caller-{n}"))).collect();
    let routes: Vec<_> = (0..20)
        .map(|n| metrics.route(&RouteId::new(format!("route-{n}")), Some(&budget), false))
        .collect();
    let methods = [Method::GET, Method::POST, Method::DELETE];
    let statuses = [200, 204, 400, 404, 429, 500, 503].map(|s| StatusCode::from_u16(s).unwrap());
    let (metrics, callers) = (&metrics, &callers);
    let one = |nth: usize| {
        let route = &routes[nth % 20];
        let (method, status) = (&methods[nth % 3], statuses[nth % 7]);
        let granted = move || route.granted(waited, &callers[nth / 20 % 20], Priority::Normal);
        let attempted = move || route.attempted(method, Some(status), waited);
        let exchanged = move || {
            let status = status.as_u16();
            metrics.exchanged(&ExchangeFacts { route: Some(route), method, status, took: waited });
        };
        (granted, attempted, exchanged)
    };
    for nth in 0..10_000 {
        let (granted, attempted, exchanged) = one(nth);
        granted();
        attempted();
        exchanged();
    }
    let mut nth = 0;
    let mut next = || {
        nth += 1;
        black_box(nth)
    };
    c.bench_function("telemetry/granted", |b| b.iter(|| one(next()).0()));
    c.bench_function("telemetry/attempted", |b| b.iter(|| one(next()).1()));
    c.bench_function("telemetry/exchanged", |b| b.iter(|| one(next()).2()));
    c.bench_function("telemetry/a served call", |b| {
        b.iter(|| {
            let (granted, attempted, exchanged) = one(next());
            granted();
            attempted();
            exchanged();
        });
    });
}

/// What it costs to tell the board of an exchange, and to look at it. Forty callers and thirty routes.
fn board(c: &mut Criterion) {
    let board = Board::default();
    let callers: Vec<CallerId> = (0..40).map(|nth| CallerId::new(format!("caller{nth}"))).collect();
    let routes: Vec<RouteId> = (0..30).map(|nth| RouteId::new(format!("route{nth}"))).collect();
    let ids: Vec<RequestId> = (0..64).map(|_| RequestId::fresh()).collect();
    let now = Instant::now();
    let mut nth = 0;
    let mut ended = |status: u16, refusal: Option<&'static str>, kinds: usize| {
        nth += 1;
        let what = Ended {
            route: Some(&routes[nth % kinds % 30]),
            caller: Some(&callers[nth % kinds % 40]),
            method: &Method::GET,
            status,
            refusal,
            cache: Some(CacheOutcome::Miss),
            attempts: 1,
            waited: Some(Duration::from_millis(7)),
            upstream: Some(Duration::from_millis(70)),
            request_id: &ids[nth % 64],
            trace: None,
        };
        board.ended(now, black_box(&what));
    };
    c.bench_function("board/a call that went well", |b| b.iter(|| ended(200, None, 1_000)));
    c.bench_function("board/a call that was refused like others", |b| {
        b.iter(|| ended(503, Some("queue-full"), 8));
    });
    c.bench_function("board/a call that was refused like none of the others", |b| {
        b.iter(|| ended(404, Some("no-route"), 1_000));
    });
    let budget = BudgetId::new("omni");
    c.bench_function("board/a grant", |b| {
        b.iter(|| board.granted(now, black_box(&budget), Priority::Normal));
    });
    c.bench_function("board/a look at it", |b| b.iter(|| board.view(now)));
}

criterion_group!(rooms, shape, seen, refused_key, route, cache, telemetry, board);
criterion_main!(rooms);

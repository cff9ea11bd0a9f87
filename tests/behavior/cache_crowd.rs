//! A crowd of callers that reads the same lists all day, and a few who write.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use omnigate::fake_omni::{Algorithm, Limit, Settings};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::harness::{Answer, Caller, Dice, House, Plan, SECOND, fake, get, post};

/// Twelve collections with five pages each, where every list holds 25 records.
const LISTS: [&str; 12] = [
    "/api/v1/documents?pageSize=5",
    "/api/v1/content?pageSize=10",
    "/api/v1/folders?pageSize=5",
    "/api/v1/models?pageSize=5",
    "/api/v1/schedules?pageSize=5",
    "/api/v1/uploads?pageSize=5",
    "/api/v1/users/email-only?pageSize=5",
    "/api/v1/ai/conversations?pageSize=5",
    "/api/v1/ai/routines?pageSize=5",
    "/api/v1/ai/credit-controls/users?pageSize=5",
    "/api/v1/models/m/suggestions?pageSize=5",
    "/api/v1/models/m/dbt-exposures?pageSize=5",
];
const PAGES: usize = 5;
const MINUTES: u32 = 10;

/// How large a crowd is.
#[derive(Clone, Copy)]
struct Crowd {
    callers: usize,
    /// Over all callers.
    reads: usize,
    writes: usize,
    limit: u32,
    /// Which share of the reads must have cost no request.
    saved: f64,
}

/// What the crowd saw.
#[derive(Debug, Default)]
struct Seen {
    answers: usize,
    failed: Vec<String>,
    oldest: Duration,
    hits: usize,
    stale: usize,
    collapsed: usize,
    longest: Duration,
}

type Shared = Arc<Mutex<Seen>>;

impl Seen {
    fn note(&mut self, answer: &Answer, took: Duration) {
        self.answers += 1;
        let status = answer.header("cache-status");
        if answer.status != 200 {
            self.failed.push(format!("{} {status}", answer.status));
        }
        let age = answer.header("age").parse().unwrap_or(0);
        self.oldest = self.oldest.max(Duration::from_secs(age));
        self.hits += usize::from(status.contains("; hit"));
        self.stale += usize::from(status.contains("; detail="));
        self.collapsed += usize::from(status.contains("collapsed"));
        self.longest = self.longest.max(took);
    }
}

async fn read(caller: &mut Caller, target: &str, seen: &Shared) -> Answer {
    let began = Instant::now();
    let answer = caller.call(get(target).body(Full::default()).unwrap()).await;
    seen.lock().unwrap().note(&answer, began.elapsed());
    answer
}

fn next_page(list: &str, answer: &Answer) -> Option<String> {
    let cursor = answer.json()["pageInfo"]["nextCursor"].as_str()?.to_owned();
    Some(format!("{list}&cursor={cursor}"))
}

/// Walks lists from their first pages to their last, one page at a time, until the time is up.
async fn walk(mut caller: Caller, seen: Shared, mut dice: Dice, reads: usize) {
    let start = Instant::now();
    let every = SECOND * 60 * MINUTES / u32::try_from(reads).unwrap();
    let mut at = start + every.mul_f64(dice.share());
    let mut target: Option<(&str, String)> = None;
    for _ in 0..reads {
        sleep_until(at).await;
        at += every;
        let (list, path) = target.take().unwrap_or_else(|| {
            let list = LISTS[dice.below(LISTS.len())];
            (list, list.to_owned())
        });
        let answer = read(&mut caller, &path, &seen).await;
        target = next_page(list, &answer).map(|path| (list, path));
    }
}

/// Writes, and reads what it wrote.
async fn write(house: Arc<House>, seen: Shared, writes: usize) {
    let every = SECOND * 60 * MINUTES / u32::try_from(writes).unwrap();
    let mut at = Instant::now() + every / 2;
    let mut known: HashMap<&str, u64> = HashMap::new();
    for nth in 0..writes {
        sleep_until(at).await;
        at += every;
        let (list, target) = match nth % 3 {
            0 => (LISTS[2], "/api/v1/folders"),
            1 => (LISTS[0], "/api/v1/documents"),
            _ => (LISTS[4], "/api/v1/schedules"),
        };
        let name = format!("{{\"name\":\"New {nth}\"}}");
        let mut caller = house.caller().await;
        let written = caller.call(post(target, name)).await;
        assert!(written.status.is_success(), "{target}: {}", written.status);
        let revision = read(&mut caller, list, &seen).await.json()["revision"].as_u64().unwrap();
        let before = known.insert(list, revision);
        assert!(before.is_none_or(|before| revision > before), "a write to {target} was hidden");
    }
}

async fn house(crowd: Crowd) -> House {
    let limit = Limit::new(Algorithm::SlidingLog, crowd.limit, 60 * SECOND);
    Plan {
        budget: format!("limit = {}", crowd.limit),
        route: "cache = { ttl = \"30s\", stale = \"10m\" }".to_owned(),
        fake: Settings { limit, records: Some(25), ..fake() },
        ..Plan::default()
    }
    .build()
    .await
}

/// Ten minutes of a crowd. What it saw, and how many reads reached Omni.
async fn ten_minutes(crowd: Crowd) -> (Seen, usize) {
    let house = Arc::new(house(crowd).await);
    let (seen, mut all) = (Shared::default(), JoinSet::new());
    for nth in 0..crowd.callers {
        let dice = Dice(nth as u64 + 1);
        let reads = crowd.reads / crowd.callers;
        all.spawn(walk(house.caller().await, seen.clone(), dice, reads));
    }
    if crowd.writes > 0 {
        all.spawn(write(house.clone(), seen.clone(), crowd.writes));
    }
    while let Some(ended) = all.join_next().await {
        ended.unwrap();
    }
    assert_eq!(house.omni.refusals(), 0);
    assert!(house.omni.highest_in_any_window(60 * SECOND) <= crowd.limit as usize);
    let arrivals = house.omni.arrivals();
    let pages: HashSet<_> = arrivals.iter().map(|one| one.target.to_string()).collect();
    assert!(pages.len() >= LISTS.len() * PAGES, "{} pages", pages.len());
    let sent = house.omni.arrived() - crowd.writes;
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (seen, sent)
}

async fn is_served(crowd: Crowd) {
    let (seen, sent) = ten_minutes(crowd).await;
    let saved = 1.0 - sent as f64 / seen.answers as f64;
    println!(
        "{} callers, {} reads, {} writes, limit {}: {sent} requests, {:.2} % saved; {} hits, of \
         them {} stale, {} collapsed; oldest {:?}, longest wait {:?}",
        crowd.callers,
        seen.answers,
        crowd.writes,
        crowd.limit,
        saved * 100.0,
        seen.hits,
        seen.stale,
        seen.collapsed,
        seen.oldest,
        seen.longest,
    );
    assert!(seen.failed.is_empty(), "{:?}", &seen.failed[..seen.failed.len().min(5)]);
    assert!(seen.answers >= crowd.reads + crowd.writes);
    assert!(saved >= crowd.saved, "{saved}");
    assert!(seen.oldest <= 630 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_with_writers_is_served_and_sees_what_was_written() {
    is_served(Crowd { callers: 100, reads: 12_000, writes: 12, limit: 500, saved: 0.85 }).await;
}

#[tokio::test(start_paused = true)]
async fn a_crowd_is_served_within_the_usual_limit() {
    is_served(Crowd { callers: 100, reads: 12_000, writes: 0, limit: 60, saved: 0.95 }).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "a great crowd; tests/run --all runs it"]
async fn a_great_crowd_is_served() {
    is_served(Crowd { callers: 500, reads: 60_000, writes: 60, limit: 500, saved: 0.95 }).await;
    is_served(Crowd { callers: 500, reads: 60_000, writes: 0, limit: 60, saved: 0.95 }).await;
}

//! What was written through one instance is read through all others.

use http::{Method, Request};
use http_body_util::Full;
use omnigate::fake_omni::write_body;
use tokio::time::{Instant, sleep};

use crate::harness::crowd::{Answer, call};
use crate::harness::{Fleet, Plan, SECOND, Shared, Size, Waits, Way, figure, machine};

const INSTANCES: usize = 3;
const FOLDERS: &str = "/api/v1/folders";

fn plan(shared: Option<Shared>) -> Plan {
    let mut plan = Plan::of(INSTANCES, shared);
    // It is not the limit that is tested here.
    plan.budget =
        "limit = 100000\nwindow = \"2s\"\nguard = \"500ms\"\nprofile = \"burst\"".to_owned();
    plan.route = "cache = { ttl = \"1h\", stale = \"1h\" }";
    plan
}

async fn list(fleet: &Fleet, seat: usize) -> Answer {
    let request = Request::get(FOLDERS).header("host", "127.0.0.1").body(Full::default());
    let answer = call(fleet.seats[seat].address(), request.unwrap()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

async fn write(fleet: &Fleet, seat: usize) {
    let request = Request::builder().method(Method::POST).uri(FOLDERS).header("host", "127.0.0.1");
    let request = request.header("content-type", "application/json");
    let request = request.body(Full::from(write_body("written"))).unwrap();
    let answer = call(fleet.seats[seat].address(), request).await;
    assert!(answer.status.is_success(), "{answer:?}");
}

fn is_hit(answer: &Answer) -> bool {
    answer.header("cache-status").starts_with("omnigate; hit")
}

/// What so many writes in a row led to.
struct Outcome {
    /// Lists that were older than the write before.
    stale: usize,
    /// Lists that came from what was kept, where nobody had written.
    hits: usize,
    writes: Waits,
}

/// Fills every instance's cache, writes through one, and reads through the others at once.
async fn write_and_read(fleet: &Fleet, rounds: usize) -> Outcome {
    let mut outcome = Outcome { stale: 0, hits: 0, writes: Waits::of([].into_iter()) };
    let mut took = Vec::new();
    let revision = |answer: &Answer| answer.json()["revision"].as_u64().expect("a list has one");
    for round in 0..rounds {
        let mut before = 0;
        for seat in 0..INSTANCES {
            list(fleet, seat).await;
            let kept = list(fleet, seat).await;
            outcome.hits += usize::from(is_hit(&kept));
            before = before.max(revision(&kept));
        }
        let writer = round % INSTANCES;
        let start = Instant::now();
        write(fleet, writer).await;
        took.push(start.elapsed().as_secs_f64());
        let reads = (0..INSTANCES).map(|seat| list(fleet, seat));
        for answer in futures_util::future::join_all(reads).await {
            outcome.stale += usize::from(revision(&answer) <= before);
        }
    }
    outcome.writes = Waits::of(took.into_iter());
    outcome
}

fn show(what: &str, rounds: usize, outcome: &Outcome) {
    let Outcome { stale, hits, writes } = outcome;
    let lists = rounds * INSTANCES;
    figure(format!(
        "{what}: {stale} stale of {lists} lists, {hits} of {lists} kept; a write takes {writes}"
    ));
}

async fn writes(way: Way, rounds: usize) {
    let fleet = plan(Some(Shared::hold())).start().await;
    // The first that is sent at all waits until it is known that nothing was sent before.
    futures_util::future::join_all((0..INSTANCES).map(|seat| list(&fleet, seat))).await;
    fleet.seats[0].relay().set_pushes(way);
    sleep(SECOND / 2).await;
    let what = format!("writes, one subscription {way:?}");
    let outcome = write_and_read(&fleet, rounds).await;
    show(&what, rounds, &outcome);
    assert_eq!(outcome.stale, 0, "{what}");
    assert!(outcome.hits > 0, "{what}: nothing is ever kept");
}

async fn in_all_ways(rounds: usize) {
    let ways = [Way::Open, Way::Slow(5 * SECOND), Way::Cut, Way::Frozen];
    futures_util::future::join_all(ways.map(|way| writes(way, rounds))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_through_one_is_read_through_all_others() {
    let _machine = machine(Size::Short).await;
    in_all_ways(6).await;
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; tests/run --all runs it"]
async fn a_hundred_writes_through_each_way_are_read_through_all_others() {
    let _machine = machine(Size::Full).await;
    in_all_ways(100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_share_nothing_are_found_to_read_what_is_old() {
    let _machine = machine(Size::Short).await;
    let fleet = plan(None).start().await;
    let outcome = write_and_read(&fleet, 3).await;
    show("writes, unshared", 3, &outcome);
    // All but the writer itself, each time.
    assert_eq!(outcome.stale, 3 * (INSTANCES - 1));
}

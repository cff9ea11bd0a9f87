//! What is kept costs nothing, and equal fetches in flight pay once.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use omnigate::admin::Desk;
use omnigate::fake_omni::{Fault, Reset, Rule};
use omnigate::telemetry::Exposition;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::harness::{Answer, House, Plan, SECOND, get};

const LIST: &str = "/api/v1/folders?pageSize=50";
pub(crate) const CACHE: &str = "cache = { ttl = \"30s\", stale = \"10m\" }";

pub(crate) fn kept(budget: &str) -> Plan {
    Plan { budget: budget.to_owned(), route: CACHE.to_owned(), ..Plan::default() }
}

fn with(path: &str, name: &str, value: &str) -> Request<Full<Bytes>> {
    get(path).header(name, value).body(Full::default()).unwrap()
}

fn status(answer: &Answer) -> &str {
    answer.header("cache-status")
}

/// Spends every slot that there is, and leaves a queue of `queued` calls that nobody reads.
async fn exhaust(house: &House, queued: usize) -> JoinSet<()> {
    let mut calls = JoinSet::new();
    for nth in 0..queued + 60 {
        let mut caller = house.caller().await;
        let request = Request::post("/api/v1/query/run").header("host", "127.0.0.1:6664");
        let request = request.header("x-nth", nth).body(Full::default()).unwrap();
        calls.spawn(async move {
            let _ = caller.try_call(request).await;
        });
    }
    while house.queued() < queued {
        tokio::task::yield_now().await;
    }
    calls
}

#[tokio::test(start_paused = true)]
async fn a_hit_spends_no_permit_and_says_how_old_it_is() {
    let house = kept("burst = 1").build().await;
    let mut caller = house.caller().await;
    let first = caller.get(LIST).await;
    assert_eq!((first.status, house.omni.arrived()), (StatusCode::OK, 1));
    assert_eq!(status(&first), "omnigate; fwd=uri-miss; fwd-status=200; ttl=30; stored");
    sleep(10 * SECOND + SECOND / 2).await;
    let began = Instant::now();
    let second = caller.get(LIST).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(second.body, first.body);
    assert_eq!(status(&second), "omnigate; hit; ttl=19");
    assert_eq!(second.header("age"), "10");
    assert_eq!(second.header("date"), first.header("date"));
    assert_eq!(second.header("content-length"), second.body.len().to_string());
    assert_eq!((second.header("proxy-status"), second.header("server-timing")), ("", ""));
    assert!(!second.headers.contains_key("set-cookie"));
    sleep(20 * SECOND).await;
    let third = caller.get(LIST).await;
    assert_eq!(status(&third), "omnigate; fwd=stale; fwd-status=200; ttl=30; stored");
    assert_eq!(house.omni.arrived(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hit_is_served_while_the_budget_is_paused_and_while_upstream_is_down() {
    let house = kept("").build().await;
    let mut caller = house.caller().await;
    caller.get(LIST).await;
    house.omni.fail(Rule::new(Fault::Block(omnigate::fake_omni::RetryAfter::Seconds(20))).times(1));
    let waits = house.call(get("/api/v1/labels").body(Full::default()).unwrap()).await;
    sleep(SECOND).await;
    assert!(house.rooms.shaper.snapshots()[0].paused.is_some());
    let began = Instant::now();
    assert_eq!(status(&caller.get(LIST).await), "omnigate; hit; ttl=29");
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(waits.await.unwrap().status(), 200);
    house.omni.fail(Rule::new(Fault::Reset(Reset::OnArrival)));
    assert!(status(&caller.get(LIST).await).starts_with("omnigate; hit; ttl="));
}

/// So many equal calls at once, each on a connection of its own.
async fn crowd(house: &House, calls: usize) -> JoinSet<Answer> {
    let mut crowd = JoinSet::new();
    for _ in 0..calls {
        let mut caller = house.caller().await;
        crowd.spawn(async move { caller.get(LIST).await });
    }
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    crowd
}

#[tokio::test(start_paused = true)]
async fn a_thousand_equal_misses_make_one_request() {
    let house = kept("").build().await;
    house.omni.fail(Rule::new(Fault::SlowHead(SECOND)).path("/api/v1/folders"));
    let answers = crowd(&house, 1_000).await.join_all().await;
    assert_eq!(house.omni.arrived(), 1);
    assert!(answers.iter().all(|one| one.status == 200 && one.body == answers[0].body));
    let led = |one: &&Answer| !status(one).contains("collapsed");
    assert_eq!(answers.iter().filter(led).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_the_first_caller_leaves_the_others_are_served_by_its_request() {
    let house = kept("").build().await;
    house.omni.fail(Rule::new(Fault::SlowHead(SECOND)).path("/api/v1/folders"));
    let first = house.call(get(LIST).body(Full::default()).unwrap()).await;
    while house.omni.arrived() == 0 {
        sleep(SECOND / 100).await;
    }
    let mut others = crowd(&house, 50).await;
    first.abort();
    let _ = first.await;
    while let Some(answer) = others.join_next().await {
        assert_eq!(answer.unwrap().status, 200);
    }
    assert_eq!(house.omni.arrived(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_who_leaves_before_the_grant_takes_its_fetch_along() {
    let house = kept("burst = 1").build().await;
    house.caller().await.get("/api/v1/labels").await;
    let waits = house.call(get(LIST).body(Full::default()).unwrap()).await;
    let too = house.call(get(LIST).body(Full::default()).unwrap()).await;
    assert_eq!(house.queued(), 1);
    waits.abort();
    let _ = waits.await;
    sleep(SECOND / 10).await;
    assert_eq!(house.queued(), 1);
    too.abort();
    let _ = too.await;
    sleep(SECOND / 10).await;
    assert_eq!(house.queued(), 0);
    sleep(5 * SECOND).await;
    assert_eq!(house.omni.arrived(), 1);
}

#[tokio::test(start_paused = true)]
async fn once_sent_a_fetch_runs_to_its_end_for_those_who_come_later() {
    let house = kept("").build().await;
    house.omni.fail(Rule::new(Fault::SlowHead(SECOND)).path("/api/v1/folders"));
    let only = house.call(get(LIST).body(Full::default()).unwrap()).await;
    while house.omni.arrived() == 0 {
        sleep(SECOND / 100).await;
    }
    only.abort();
    let _ = only.await;
    sleep(2 * SECOND).await;
    let answer = house.caller().await.get(LIST).await;
    assert!(status(&answer).starts_with("omnigate; hit"), "{}", status(&answer));
    assert_eq!(house.omni.arrived(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_the_request_fails_exactly_one_more_is_made() {
    let house = kept("").build().await;
    // A POST-like failure: one that is not sent again by itself would hide what is tested here.
    house.omni.fail(Rule::new(Fault::Reset(Reset::MidBody)).path("/api/v1/folders").times(1));
    house.omni.fail(Rule::new(Fault::SlowHead(SECOND)).path("/api/v1/folders"));
    let answers = crowd(&house, 200).await.join_all().await;
    assert_eq!(house.omni.arrived(), 2);
    let failed: Vec<_> = answers.iter().filter(|one| one.status != 200).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].status, StatusCode::BAD_GATEWAY);
    assert_eq!(failed[0].json()["type"], "urn:omnigate:problem:upstream-unreachable");

    house.omni.heal();
    sleep(700 * SECOND).await;
    house.omni.fail(Rule::new(Fault::Reset(Reset::MidBody)).path("/api/v1/folders"));
    let before = house.omni.arrived();
    let answers = crowd(&house, 200).await.join_all().await;
    assert_eq!(house.omni.arrived() - before, 2);
    assert!(answers.iter().all(|one| one.status == StatusCode::BAD_GATEWAY));
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_budget_is_relieved_by_what_is_stale() {
    let house = kept("").build().await;
    let mut early = house.caller().await;
    for page in 1..=9 {
        early.get(&format!("/api/v1/folders?pageSize={page}")).await;
    }
    sleep(70 * SECOND).await;
    let crowd = exhaust(&house, 40).await;
    let sent = house.omni.arrived();
    let mut caller = house.caller().await;
    let began = Instant::now();
    for _ in 0..5 {
        for page in 1..=9 {
            let answer = caller.get(&format!("/api/v1/folders?pageSize={page}")).await;
            assert_eq!(answer.status, StatusCode::OK);
            let (age, status) = (answer.header("age").to_owned(), status(&answer));
            assert!(status.ends_with("; detail=busy"), "{status}");
            assert!(status.starts_with("omnigate; hit; ttl=-"), "{status}");
            assert!(age.parse::<u64>().unwrap() >= 60);
        }
    }
    assert!(began.elapsed() <= Duration::from_millis(5), "{:?}", began.elapsed());
    crowd.join_all().await;
    sleep(60 * SECOND).await;
    let fetched = |page: usize| {
        let is = |one: &omnigate::fake_omni::Arrival| {
            one.number >= sent as u64 && one.target.query() == Some(&format!("pageSize={page}"))
        };
        house.omni.arrivals().iter().filter(|one| is(one)).count()
    };
    assert!((1..=9).all(|page| fetched(page) == 1));
    let batch = house.rooms.telemetry.metrics.render(&Default::default(), Exposition::Classic);
    let refreshed =
        "omnigate_grants_total{budget=\"omni\",caller=\"omnigate\",priority=\"batch\"} 9";
    assert!(batch.contains(refreshed), "{batch}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_says_what_it_takes() {
    let house = kept("").build().await;
    let mut caller = house.caller().await;
    let none = caller.call(with(LIST, "cache-control", "only-if-cached")).await;
    assert_eq!(none.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(none.json()["type"], "urn:omnigate:problem:not-cached");
    assert_eq!(house.omni.arrived(), 0);
    caller.get(LIST).await;
    sleep(10 * SECOND).await;
    let kept = caller.call(with(LIST, "cache-control", "only-if-cached")).await;
    assert_eq!(status(&kept), "omnigate; hit; ttl=20");
    let passed = caller.call(with(LIST, "cache-control", "no-store")).await;
    assert_eq!(status(&passed), "omnigate; fwd=request; fwd-status=200");
    assert_eq!(status(&caller.get(LIST).await), "omnigate; hit; ttl=20");
    let anew = caller.call(with(LIST, "cache-control", "no-cache")).await;
    assert_eq!(status(&anew), "omnigate; fwd=request; fwd-status=200; ttl=30; stored");
    assert_eq!(status(&caller.get(LIST).await), "omnigate; hit; ttl=30");
    sleep(40 * SECOND).await;
    let old = caller.call(with(LIST, "cache-control", "max-stale=60")).await;
    assert_eq!(status(&old), "omnigate; hit; ttl=-10; detail=welcome");
    assert_eq!(house.omni.arrived(), 3);
    let head = Request::head(LIST).header("host", "127.0.0.1:6664").body(Full::default()).unwrap();
    caller.get(LIST).await;
    let head = caller.call(head).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert!(status(&head).starts_with("omnigate; hit"));
    assert_eq!(house.omni.arrived(), 4);
    assert!(house.omni.arrivals().iter().all(|one| one.method == Method::GET));
}

#[tokio::test(start_paused = true)]
async fn operators_see_what_was_saved_of_the_calls_that_could_be() {
    let lists = format!(
        "[[routes]]\nname = \"lists\"\npath = \"/api/v1/folders\"\ncredential = \"org\"\n{CACHE}"
    );
    let house = Plan { more: lists, ..Plan::default() }.build().await;
    let mut caller = house.caller().await;
    for path in ["/api/v1/labels", LIST, "/api/v1/labels", LIST, "/api/v1/labels", LIST] {
        assert_eq!(caller.get(path).await.status, 200);
    }
    sleep(SECOND).await;
    let shown = house.desk().status();
    let calls: u64 = shown.routes.iter().map(|route| route.calls).sum();
    // Where nothing is kept, nothing could have been saved.
    assert_eq!((calls, shown.cache.calls, shown.cache.saved), (6, 3, 2));
}

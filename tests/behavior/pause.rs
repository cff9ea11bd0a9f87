//! Pauses by hand: what callers see of them, and what Omni does.

use std::time::Duration;

use http::Request;
use http_body_util::Full;
use omnigate::admin::{Desk, NoSuchBudget};
use omnigate::base::BudgetId;
use omnigate::fake_omni::{Fault, RetryAfter, Rule};
use tokio::time::{Instant, advance, sleep};

use crate::harness::{Answer, House, Plan, SECOND, get};

const LABELS: &str = "/api/v1/labels";
const FREE: &str = "[[routes]]\nname = \"free\"\npath = \"/api/v1/folders\"\n\
                    credential = \"org\"\nbudget = \"none\"";

fn plain(path: &str) -> Request<Full<bytes::Bytes>> {
    get(path).body(Full::default()).unwrap()
}

/// A call that says how long it waits.
fn patient(path: &str, seconds: u32) -> Request<Full<bytes::Bytes>> {
    get(path).header("prefer", format!("wait={seconds}")).body(Full::default()).unwrap()
}

fn omni() -> BudgetId {
    BudgetId::new("omni")
}

fn is_paused(answer: &Answer, retry_after: &str) {
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["type"], "urn:omnigate:problem:paused");
    assert_eq!(answer.header("retry-after"), retry_after);
    assert_eq!(answer.header("content-type"), "application/problem+json");
}

/// Seconds from `start` to each arrival.
fn arrivals(house: &House, start: Instant) -> Vec<f64> {
    house.omni.arrivals().iter().map(|one| (one.at - start).as_secs_f64()).collect()
}

#[tokio::test(start_paused = true)]
async fn nothing_reaches_omni_during_a_pause_and_everybody_goes_after_it() {
    let house = Plan { more: FREE.to_owned(), ..Plan::default() }.build().await;
    let start = Instant::now();
    house.desk().pause(None, Some(60 * SECOND)).unwrap();
    let mut calls = Vec::new();
    for path in [LABELS, "/api/v1/folders", LABELS] {
        calls.push(house.call(plain(path)).await);
    }
    sleep(59 * SECOND).await;
    assert_eq!((house.omni.arrived(), house.queued()), (0, 2));
    for call in calls {
        let call = call.await.unwrap();
        assert_eq!(call.status(), 200);
        assert!((60 * SECOND..61 * SECOND).contains(&call.took), "{:?}", call.took);
    }
    let all = arrivals(&house, start);
    assert!(all.len() == 3 && all.iter().all(|at| (60.0..60.1).contains(at)), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_one_budget_lets_the_others_go() {
    let more = format!(
        "{FREE}\n[budgets.other]\ncold_start = \"trust\"\n[[routes]]\nname = \"other\"\n\
         path = \"/api/v1/models\"\ncredential = \"org\"\nbudget = \"other\""
    );
    let house = Plan { more, ..Plan::default() }.build().await;
    house.desk().pause(Some(&omni()), None).unwrap();
    for path in ["/api/v1/folders", "/api/v1/models"] {
        assert_eq!(house.call(plain(path)).await.await.unwrap().status(), 200);
    }
    let waits = house.call(plain(LABELS)).await;
    sleep(30 * SECOND).await;
    assert_eq!(house.omni.arrived(), 2);
    house.desk().resume(Some(&omni())).unwrap();
    assert_eq!(waits.await.unwrap().took, 30 * SECOND);
    let Err(NoSuchBudget { known }) = house.desk().pause(Some(&BudgetId::new("omno")), None) else {
        panic!("there is none of that name");
    };
    assert_eq!(known.len(), 2);
    assert!(house.desk().resume(Some(&BudgetId::new("omno"))).is_err());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_so_long_is_told_at_once_and_who_does_when_its_deadline_comes() {
    let house = Plan::default().build().await;
    let desk = house.desk();
    desk.pause(Some(&omni()), Some(60 * SECOND)).unwrap();
    let refused = house.call(patient(LABELS, 59)).await.await.unwrap();
    assert_eq!(refused.took, Duration::ZERO);
    is_paused(refused.answer.as_ref().unwrap(), "60");
    // Those who wait already hear of it when it begins.
    desk.resume(None).unwrap();
    desk.pause(None, None).unwrap();
    let [short, long] =
        [house.call(patient(LABELS, 20)).await, house.call(patient(LABELS, 90)).await];
    sleep(10 * SECOND).await;
    desk.pause(Some(&omni()), Some(30 * SECOND)).unwrap();
    let short = short.await.unwrap();
    assert_eq!(short.took, 10 * SECOND);
    is_paused(short.answer.as_ref().unwrap(), "30");
    // Nobody knows when somebody resumes: it waits as long as it said.
    let long = long.await.unwrap();
    assert_eq!(long.took, 90 * SECOND);
    is_paused(long.answer.as_ref().unwrap(), "30");
    assert_eq!(house.omni.arrived(), 0);
    let title = long.answer.unwrap().json()["title"].clone();
    assert_eq!(title, "This gateway was told to send nothing for now");
}

#[tokio::test(start_paused = true)]
async fn the_later_pause_counts_and_everything_is_apart_from_a_budget() {
    let house = Plan::default().build().await;
    let (desk, start) = (house.desk(), Instant::now());
    desk.pause(None, Some(100 * SECOND)).unwrap();
    desk.pause(None, Some(20 * SECOND)).unwrap();
    desk.pause(Some(&omni()), Some(30 * SECOND)).unwrap();
    let call = house.call(plain(LABELS)).await;
    assert_eq!(call.await.unwrap().took, 30 * SECOND);
    desk.pause(None, None).unwrap();
    desk.pause(Some(&omni()), None).unwrap();
    let call = house.call(plain(LABELS)).await;
    sleep(10 * SECOND).await;
    // Its own, and not the one of everything.
    desk.resume(Some(&omni())).unwrap();
    sleep(10 * SECOND).await;
    assert_eq!(house.omni.arrived(), 1);
    desk.pause(Some(&omni()), None).unwrap();
    desk.resume(None).unwrap();
    assert_eq!(call.await.unwrap().took, 20 * SECOND);
    let all = arrivals(&house, start);
    assert!((30.0..30.1).contains(&all[0]) && (50.0..50.1).contains(&all[1]), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_resumes_does_not_send_into_a_pause_that_omni_asked_for() {
    let house = Plan::default().build().await;
    let (desk, start) = (house.desk(), Instant::now());
    house.omni.fail(Rule::new(Fault::Block(RetryAfter::Seconds(40))).times(1));
    let first = house.call(plain(LABELS)).await;
    sleep(SECOND).await;
    desk.pause(Some(&omni()), Some(10 * SECOND)).unwrap();
    let second = house.call(plain(LABELS)).await;
    sleep(SECOND).await;
    desk.resume(None).unwrap();
    desk.resume(Some(&omni())).unwrap();
    for call in [first, second] {
        assert_eq!(call.await.unwrap().status(), 200);
    }
    let all = arrivals(&house, start);
    assert!(all[0] < 0.1 && all[1] >= 40.0 && all.len() == 3, "{all:?}");
    // And the other way round: Omni's pause ends in one that is not over yet.
    house.omni.fail(Rule::new(Fault::Block(RetryAfter::Seconds(5))).times(1));
    let call = house.call(plain(LABELS)).await;
    house.omni.wait_for_arrivals(4).await;
    let start = Instant::now();
    sleep(SECOND).await;
    desk.pause(None, Some(20 * SECOND)).unwrap();
    assert_eq!(call.await.unwrap().status(), 200);
    assert!((21 * SECOND..22 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_head_leaves_later_than_a_tenth_of_a_second_after_the_pause_began() {
    for after in [0, 40, 99, 100, 101, 400] {
        let house = Plan { budget: "burst = 1".to_owned(), ..Plan::default() }.build().await;
        let mut calls = Vec::new();
        for _ in 0..20 {
            calls.push(house.call(plain(LABELS)).await);
        }
        advance(3 * SECOND + Duration::from_millis(after)).await;
        house.desk().pause(None, Some(60 * SECOND)).unwrap();
        let paused = Instant::now();
        for call in calls {
            assert_eq!(call.await.unwrap().status(), 200);
        }
        let forbidden = paused + SECOND / 10..paused + 60 * SECOND;
        let departures = house.road.departures();
        assert!(departures.iter().all(|one| !forbidden.contains(&one.at)), "{after}");
        assert_eq!(departures.len(), 20);
        assert!(house.omni.highest_in_any_window(60 * SECOND) <= 60);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_served_during_a_pause_and_what_is_stale_too() {
    for budget in [None, Some(omni())] {
        let route = "cache = { ttl = \"30s\", stale = \"10m\" }".to_owned();
        let house = Plan { route, ..Plan::default() }.build().await;
        let mut caller = house.caller().await;
        assert_eq!(caller.get("/api/v1/folders").await.status, 200);
        house.desk().pause(budget.as_ref(), None).unwrap();
        for (after, kept) in [(1, "omnigate; hit; ttl=29"), (31, "omnigate; hit; ttl=-2")] {
            sleep(after * SECOND).await;
            let began = Instant::now();
            let answer = caller.get("/api/v1/folders").await;
            assert_eq!((answer.status.as_u16(), began.elapsed()), (200, Duration::ZERO));
            assert_eq!(&answer.header("cache-status")[..kept.len()], kept);
        }
        // What would refresh it in the background waits for its turn like any call.
        assert_eq!((house.omni.arrived(), house.queued()), (1, 1));
        house.desk().resume(budget.as_ref()).unwrap();
        sleep(SECOND).await;
        assert_eq!(house.omni.arrived(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_want_the_same_are_told_of_the_pause_too() {
    let route = "cache = { ttl = \"30s\" }".to_owned();
    let house = Plan { route, ..Plan::default() }.build().await;
    house.desk().pause(None, None).unwrap();
    let leads = house.call(patient("/api/v1/folders", 30)).await;
    let follows = house.call(patient("/api/v1/folders", 20)).await;
    let follows = follows.await.unwrap();
    assert!(follows.took < 21 * SECOND, "{:?}", follows.took);
    is_paused(follows.answer.as_ref().unwrap(), "30");
    is_paused(leads.await.unwrap().answer.as_ref().unwrap(), "30");
    assert_eq!(house.omni.arrived(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_has_no_more_waiting_than_it_may_also_where_no_budget_pays() {
    let more = format!("{FREE}\n[callers.nightly]\nmax_queued = 2");
    let house = Plan { more, ..Plan::default() }.build().await;
    house.desk().pause(None, None).unwrap();
    let ask = || crate::harness::ask("/api/v1/folders", "nightly");
    let waiting = [house.call(ask()).await, house.call(ask()).await];
    let refused = house.call(ask()).await.await.unwrap();
    assert_eq!((refused.status(), refused.took), (503, Duration::ZERO));
    let answer = refused.answer.unwrap();
    assert_eq!(answer.json()["type"], "urn:omnigate:problem:queue-full");
    assert_eq!(answer.header("retry-after"), "30");
    house.desk().resume(None).unwrap();
    for call in waiting {
        assert_eq!(call.await.unwrap().status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_keeps_nobody_who_cannot_go_in_time() {
    let house = Plan::default().build().await;
    house.desk().pause(None, Some(20 * SECOND)).unwrap();
    let goes = house.call(plain(LABELS)).await;
    house.rooms.shaper.drain(30 * SECOND);
    sleep(SECOND).await;
    assert_eq!(house.queued(), 1);
    // Longer than it has left, or until further notice: told at once.
    let started = Instant::now();
    house.desk().pause(None, None).unwrap();
    let told = goes.await.unwrap();
    assert_eq!((told.status(), started.elapsed()), (503, Duration::ZERO));
    assert_eq!(told.answer.unwrap().json()["type"], "urn:omnigate:problem:draining");
    let late = house.call(plain(LABELS)).await.await.unwrap();
    assert_eq!(late.answer.unwrap().json()["type"], "urn:omnigate:problem:draining");
    assert_eq!(house.omni.arrived(), 0);
}

#[tokio::test(start_paused = true)]
async fn our_own_question_about_a_key_is_not_sent_either() {
    let house = Plan::default().build().await;
    let desk = house.desk();
    desk.pause(None, Some(10 * SECOND)).unwrap();
    let began = Instant::now();
    let answer = desk.test_key(omnigate::base::CredentialId::new("org")).await.unwrap();
    assert!(answer.accepted);
    assert_eq!((began.elapsed().as_secs(), house.omni.arrived()), (10, 1));
}

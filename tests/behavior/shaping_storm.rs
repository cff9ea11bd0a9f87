//! When Omni says that it is too much: the limit's refusal pauses everybody, the application's
//! concerns only its caller.

use std::collections::BTreeMap;
use std::time::Duration;

use omnigate::fake_omni::{Fault, RetryAfter, Rule, Verdict};
use tokio::time::Instant;

use crate::harness::{Plan, SECOND, ask, get, post};
use http_body_util::Full;

const CALLS: usize = 500;
const BLOCK: Duration = Duration::from_secs(45);

/// Upstream refuses everything for 45 s in the middle of 500 calls.
async fn storm(profile: &str, retry_after: RetryAfter, back_within: Duration) {
    let budget = format!("profile = \"{profile}\"\nmax_wait = \"1h\"");
    let house = Plan { budget, ..Plan::default() }.build().await;
    let told = retry_after != RetryAfter::Absent;
    let block = Rule::new(Fault::Block(retry_after)).skip(CALLS / 2).lasting(BLOCK);
    house.omni.fail(block);
    let mut calls = Vec::new();
    for serial in 0..CALLS {
        let path = format!("/api/v1/labels?serial={serial}");
        calls.push(house.call(get(&path).body(Full::default()).unwrap()).await);
    }
    for call in calls {
        assert_eq!(call.await.unwrap().status(), 200);
    }
    let arrivals = house.omni.arrivals();
    let mut succeeded: BTreeMap<&str, usize> = BTreeMap::new();
    for one in &arrivals {
        *succeeded.entry(one.target.query().unwrap()).or_default() +=
            usize::from(one.verdict == Verdict::Admitted);
    }
    assert!(succeeded.len() == CALLS && succeeded.values().all(|times| *times == 1));
    for (nth, one) in arrivals.iter().enumerate().filter(|(_, a)| a.verdict == Verdict::Admitted) {
        let again = arrivals[nth + 1..].iter().any(|later| later.target == one.target);
        assert!(!again, "{} was sent again", one.target);
    }

    let refused: Vec<Instant> =
        arrivals.iter().filter(|a| a.verdict == Verdict::Failed).map(|a| a.at).collect();
    let (first, end) = (refused[0], refused[0] + BLOCK);
    let into = arrivals.iter().filter(|a| a.at > first && a.at < end).count();
    // What was refused was sent, and counts. So where a whole window was spent in one moment the
    // block may end while the ledger is full of it; the next slot is then the beginning.
    let counts = |at: Instant| {
        let span = |one: Instant| one <= at && at < one + 61 * SECOND;
        arrivals.iter().filter(|a| a.at < end && span(a.at)).count()
    };
    let mut free = end;
    while counts(free) >= 60 {
        free += SECOND / 10;
    }
    let back = free + back_within;
    let span = 120 * SECOND;
    let after = arrivals.iter().filter(|a| a.at >= back && a.at < back + span).count();
    assert!(arrivals.last().unwrap().at >= back + span, "the calls ended too early to tell");
    let rate = if profile == "strict" { 59.0 / 61.0 } else { 60.0 / 61.0 };
    let share = after as f64 / (rate * span.as_secs_f64());
    println!(
        "{profile}, max_wait 1h, Retry-After {}: {} refusals, {into} sends between the first one \
         and the block's end (bar 3); slots free {:.1} s after the end; {} s later \
         {:.1} % of the profile's rate over 120 s \
         (bar 95 %)",
        if told { "45" } else { "absent" },
        refused.len(),
        (free - end).as_secs_f64(),
        back_within.as_secs(),
        share * 100.0
    );
    assert!(into <= 3);
    assert!(share >= 0.95, "{share}");
    assert!(house.omni.highest_in_any_window(60 * SECOND) <= 60);
}

#[tokio::test(start_paused = true)]
async fn a_block_of_45_s_costs_three_sends_and_no_caller_sees_it() {
    for profile in ["smooth", "strict", "burst"] {
        storm(profile, RetryAfter::Absent, 60 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_that_says_its_end_is_over_when_it_says() {
    for profile in ["smooth", "strict", "burst"] {
        storm(profile, RetryAfter::Seconds(BLOCK.as_secs()), 5 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_429_goes_to_its_caller_and_nobody_else_waits() {
    let house = Plan::default().build().await;
    let models = house.caller().await.get("/api/v1/models").await.json();
    let model = models["records"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/models/{model}/suggestions/generate");
    assert_eq!(house.call(post(&path, "{}")).await.await.unwrap().status(), 202);
    let refused = house.call(post(&path, "{}")).await.await.unwrap().answer.unwrap();
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), "300");
    assert_eq!(refused.json()["retryAfterSeconds"], 300);
    let snapshot = &house.rooms.shaper.snapshots()[0];
    assert_eq!((snapshot.paused, snapshot.strict, snapshot.used), (None, false, 3));
    let mut longest = Duration::ZERO;
    for _ in 0..7 {
        let call = house.call(ask("/api/v1/labels", "other")).await.await.unwrap();
        assert_eq!(call.status(), 200);
        longest = longest.max(call.took);
    }
    println!("smooth: seven calls right after an application 429 waited {longest:?} at most");
    assert!(longest < SECOND / 20);
    assert_eq!(house.omni.arrived(), 10);
}

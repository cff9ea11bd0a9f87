//! Waiting, leaving and being refused.

use crate::harness::{Plan, SECOND, get};
use http_body_util::Full;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_call_that_would_wait_longer_than_it_says_is_refused_at_once() {
    // One send a second from the start: eleven calls ahead are a queue of ten seconds.
    let house = Plan { budget: "burst = 1".to_owned(), ..Plan::default() }.build().await;
    for _ in 0..11 {
        let mut caller = house.caller().await;
        tokio::spawn(async move { caller.get("/api/v1/labels").await });
    }
    while house.queued() < 10 {
        tokio::task::yield_now().await;
    }
    let mut caller = house.caller().await;
    let asked = Instant::now();
    let request = get("/api/v1/labels").header("prefer", "respond-async, wait=3");
    let answer = caller.call(request.body(Full::default()).unwrap()).await;
    assert!(asked.elapsed() <= SECOND / 20, "{:?}", asked.elapsed());
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.header("retry-after"), "12");
    let problem = answer.json();
    assert_eq!(problem["type"], "urn:omnigate:problem:queue-deadline");
    assert_eq!(problem["position"], 10);
    let estimate = problem["estimated_wait_s"].as_f64().unwrap();
    assert!((10.0..11.5).contains(&estimate), "{estimate}");

    let request = get("/api/v1/labels").header("prefer", "wait=12");
    let answer = caller.call(request.body(Full::default()).unwrap()).await;
    assert_eq!(answer.status, 200);
    let waited = asked.elapsed().as_secs_f64();
    assert!((waited - estimate).abs() < 0.1, "waited {waited} s of {estimate} s");
}

#[tokio::test(start_paused = true)]
async fn those_who_hang_up_cost_the_next_caller_nothing_over_h2_too() {
    let house = Plan { budget: "burst = 1".to_owned(), ..Plan::default() }.build().await;
    assert_eq!(house.caller().await.get("/api/v1/labels?first").await.status, 200);
    // One connection, which stays open: only its streams are reset.
    let leavers = house.h2_caller().await;
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = leavers.another();
            tokio::spawn(async move { stream.get("/api/v1/labels?leaver").await })
        })
        .collect();
    while house.queued() < 100 {
        tokio::task::yield_now().await;
    }
    calls.iter().for_each(|call| call.abort());
    let asked = Instant::now();
    assert_eq!(house.h2_caller().await.get("/api/v1/labels?next").await.status, 200);
    assert!(asked.elapsed().as_secs_f64() < 1.12, "{:?}", asked.elapsed());
    assert_eq!(house.omni.arrived(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_who_spoke_and_how_long_it_waited() {
    let house = Plan { budget: "burst = 1".to_owned(), ..Plan::default() }.build().await;
    let mut caller = house.caller().await;
    let request = get("/api/v1/labels").header("x-request-id", "job-7");
    let answer = caller.call(request.body(Full::default()).unwrap()).await;
    assert_eq!(answer.header("x-request-id"), "job-7");
    assert_eq!(answer.header("proxy-status"), "omnigate; received-status=200");
    assert_eq!(answer.header("set-cookie"), "");
    let answer = caller.get("/api/v1/labels").await;
    let timing = answer.header("server-timing");
    assert!(timing.starts_with("queue;dur=101") && timing.contains("upstream;dur="), "{timing}");
    let refused = caller.get("/api/v1/%2e%2e/labels").await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.header("proxy-status"), "omnigate; error=http_request_error");
    assert_eq!(refused.json()["instance"], refused.header("x-request-id"));
    assert_eq!(house.omni.arrived(), 2);
}

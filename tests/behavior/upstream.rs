//! What a caller sees when its call, or Omni's answer, is not whole.

use http_body_util::{BodyExt, Full};
use omnigate::fake_omni::{Fault, Reset, Rule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::harness::{Plan, SECOND, get};

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_cut_never_looks_whole() {
    let house = Plan { budget: "profile = \"burst\"".to_owned(), ..Plan::default() }.build().await;
    let mut heads = (0, 0);
    for reset in [Reset::AfterHead, Reset::MidBody] {
        house.omni.fail(Rule::new(Fault::Reset(reset)));
        // A length that is declared, and chunks.
        for path in ["/api/v1/labels", "/api/v1/query/wait?job_ids=none"] {
            let request = || get(path).body(Full::default()).unwrap();
            let mut one = house.caller().await;
            if let Ok(response) = one.send(request()).await {
                assert!(response.into_body().collect().await.is_err(), "{reset:?} {path}");
                heads.0 += 1;
            }
            let two = format!("http://127.0.0.1:6664{path}");
            let request = http::Request::get(two).body(Full::default()).unwrap();
            let mut two = house.h2_caller().await;
            if let Ok(response) = two.send(request).await {
                assert!(response.into_body().collect().await.is_err(), "h2 {reset:?} {path}");
                heads.1 += 1;
            }
        }
        house.omni.heal();
    }
    assert!(heads.0 > 0 && heads.1 > 0, "no head came down: {heads:?}");
    println!("answers whose head came down before the cut, over HTTP/1.1 and h2: {heads:?}");
}

#[tokio::test(start_paused = true)]
async fn a_first_chunk_that_is_too_large_is_413_and_costs_no_permit() {
    let route = "max_body = \"1KiB\"".to_owned();
    let house = Plan { route, ..Plan::default() }.build().await;
    let mut caller = house.connect();
    let head = "POST /api/v1/labels HTTP/1.1\r\nhost: 127.0.0.1:6664\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(0x800));
    caller.write_all(format!("{head}{chunk}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(house.omni.arrived(), 0);
    assert_eq!(house.rooms.shaper.snapshots()[0].used, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_does_not_wait_is_served_at_once_or_refused_at_once() {
    let house = Plan { budget: "burst = 1".to_owned(), ..Plan::default() }.build().await;
    let mut caller = house.caller().await;
    let begun = Instant::now();
    for status in [200, 503, 503] {
        let request = get("/api/v1/labels").header("prefer", "wait=0");
        let answer = caller.call(request.body(Full::default()).unwrap()).await;
        assert_eq!(answer.status, status);
    }
    assert!(begun.elapsed() < SECOND / 20, "{:?}", begun.elapsed());
    assert_eq!(house.omni.arrived(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_too_slow_is_504_and_paid_for() {
    let route = "timeout = \"5s\"".to_owned();
    let house = Plan { route, ..Plan::default() }.build().await;
    house.omni.fail(Rule::new(Fault::SlowHead(20 * SECOND)));
    let answer = house.caller().await.get("/api/v1/labels").await;
    assert_eq!(answer.status, 504);
    let problem = answer.json();
    assert_eq!(problem["type"], "urn:omnigate:problem:upstream-timeout");
    assert_eq!(problem["attempts"], 3);
    assert_eq!(problem["elapsed_s"], 5.0);
    assert_eq!(house.rooms.shaper.snapshots()[0].used, 3);
}

//! What a caller is told of its budget and of its own limits, and whether it is true.

use tokio::time::{Instant, sleep};

use crate::harness::{Answer, House, Plan, SECOND, ask};

const CALLERS: &str = r#"
    [callers.crawler]
    priority = "batch"
    [callers.person]
    priority = "interactive"
"#;

/// The values `r` and `t` of a `RateLimit` field with one budget.
fn rate_limit(answer: &Answer) -> (usize, u32) {
    let field = answer.header("ratelimit");
    let value = |name: &str| field.split(';').find_map(|part| part.strip_prefix(name)).unwrap();
    assert!(field.starts_with("\"omni\";"), "{field}");
    (value("r=").parse().unwrap(), value("t=").parse().unwrap())
}

async fn told(house: &House, who: &str) -> (usize, u32) {
    let call = house.call(ask("/api/v1/labels", who)).await.await.unwrap();
    let answer = call.answer.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("ratelimit-policy"), "\"omni\";q=60;w=60");
    rate_limit(&answer)
}

/// Asks, believes, and looks whether it was so.
async fn is_true(house: &House, who: &str) -> (usize, u32) {
    let (r, t) = told(house, who).await;
    let asked = Instant::now();
    if r > 0 {
        assert_eq!(t, 0, "r={r} calls may go at once, so the next may");
    }
    let mut calls = Vec::new();
    for _ in 0..=r {
        calls.push(house.call(ask("/api/v1/labels", who)).await);
    }
    for (nth, call) in calls.into_iter().enumerate() {
        let call = call.await.unwrap();
        assert_eq!(call.status(), 200);
        if nth < r {
            assert!(call.took < SECOND / 100, "{who}: call {nth} of r={r} waited {:?}", call.took);
        } else {
            assert!(call.took > SECOND / 100, "{who}: r={r}, and one more went at once");
        }
    }
    if r == 0 {
        let took = asked.elapsed();
        assert!(
            took <= t * SECOND && took + SECOND > t * SECOND,
            "{who}: t={t}, and it was {took:?}"
        );
    }
    (r, t)
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_fields_tell_the_truth() {
    for budget in [
        "profile = \"smooth\"",
        "profile = \"strict\"",
        "profile = \"burst\"",
        "profile = \"smooth\"\nreserve = 6",
        "profile = \"burst\"\nreserve = 6",
        "profile = \"smooth\"\nburst = 60",
    ] {
        let house = Plan {
            budget: format!("{budget}\nmax_wait = \"1h\""),
            more: CALLERS.to_owned(),
            ..Plan::default()
        };
        let house = house.build().await;
        let mut shown = Vec::new();
        for (nth, idle) in
            [0.0, 0.0, 3.4, 0.0, 17.2, 40.0, 200.0, 1.0, 61.0].into_iter().enumerate()
        {
            sleep(SECOND.mul_f64(idle)).await;
            let who = if nth % 2 == 0 { "crawler" } else { "person" };
            let (r, t) = is_true(&house, who).await;
            shown.push(format!("{who} r={r} t={t}"));
        }
        println!("{}: {}", budget.replace('\n', ", "), shown.join("; "));
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_fields_tell_the_truth_behind_a_queue() {
    let house = Plan {
        budget: "profile = \"smooth\"\nmax_wait = \"1h\"".to_owned(),
        more: CALLERS.to_owned(),
        ..Plan::default()
    };
    let house = house.build().await;
    let mut calls = Vec::new();
    for _ in 0..100 {
        calls.push(house.call(ask("/api/v1/labels", "crawler")).await);
    }
    // The first answer was given while ninety waited.
    let mut first = None;
    for call in calls {
        let call = call.await.unwrap();
        let answer = call.answer.unwrap();
        first.get_or_insert((rate_limit(&answer), call.took));
    }
    println!("smooth, 100 calls at once: the first is told {first:?}");
    let (r, t) = told(&house, "crawler").await;
    let asked = Instant::now();
    let call = house.call(ask("/api/v1/labels", "crawler")).await.await.unwrap();
    assert_eq!((r, call.status()), (0, 200));
    assert!(asked.elapsed() <= t * SECOND && asked.elapsed() + SECOND > t * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_callers_cap_is_429_until_the_second_that_it_is_told() {
    let more = "[callers.nightly]\nrate = { limit = 3, window = \"60s\" }\n[callers.other]";
    let house = Plan { more: more.to_owned(), ..Plan::default() }.build().await;
    let nightly =
        async || house.call(ask("/api/v1/labels", "nightly")).await.await.unwrap().answer.unwrap();
    for _ in 0..3 {
        assert_eq!(nightly().await.status, 200);
        sleep(SECOND * 5).await;
    }
    let refused = nightly().await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["type"], "urn:omnigate:problem:caller-limit");
    assert_eq!(refused.header("retry-after"), "45");
    assert_eq!(house.call(ask("/api/v1/labels", "other")).await.await.unwrap().status(), 200);
    sleep(SECOND * 44).await;
    let refused = nightly().await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"));
    sleep(SECOND).await;
    assert_eq!(nightly().await.status, 200);
    assert_eq!(nightly().await.status, 429);
    assert_eq!(house.omni.arrived(), 5);
    println!(
        "rate = 3 per 60s, calls at 0, 5, 10 s: refused at 15 s (Retry-After 45) and 59 s (1), served at 60 s"
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_has_as_many_waiting_as_it_may_and_leaves_the_rest_of_the_queue() {
    let more = "[callers.nightly]\nmax_queued = 2\n[callers.other]";
    let budget = "burst = 1".to_owned();
    let house = Plan { budget, more: more.to_owned(), ..Plan::default() }.build().await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(house.call(ask("/api/v1/labels", "nightly")).await);
    }
    let asked = Instant::now();
    let refused = house.call(ask("/api/v1/labels", "nightly")).await.await.unwrap();
    assert!(asked.elapsed() < SECOND / 20);
    let answer = refused.answer.unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["type"], "urn:omnigate:problem:queue-full");
    // One is sent, two wait: a place is free in about a second, and the next turn in four.
    println!(
        "burst = 1, max_queued = 2: refused with Retry-After {}",
        answer.header("retry-after")
    );
    assert!((1..=5).contains(&answer.header("retry-after").parse::<u32>().unwrap()));
    waiting.push(house.call(ask("/api/v1/labels", "other")).await);
    for call in waiting {
        assert_eq!(call.await.unwrap().status(), 200);
    }
    assert_eq!(house.omni.arrived(), 4);
}

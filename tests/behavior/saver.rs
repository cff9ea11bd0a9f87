//! Routes that have fewer calls made: larger pages, and pollers who are held apart.

use std::time::Duration;

use http_body_util::Full;
use omnigate::fake_omni::{Fault, Hold, Rule, Settings};
use tokio::time::{Instant, sleep};

use crate::harness::{House, Plan, SECOND, ask, get, post};

const JOB: &str = "/api/v1/ai/jobs/j1";

async fn house(route: &str) -> House {
    Plan { route: route.to_owned(), ..Plan::default() }.build().await
}

fn targets(house: &House) -> Vec<String> {
    house.omni.arrivals().iter().map(|arrival| arrival.target.to_string()).collect()
}

/// Walks a list to its end; how many records there were, and how many calls that took.
async fn walk(house: &House, list: &str) -> (usize, usize) {
    let before = house.omni.arrived();
    let mut caller = house.caller().await;
    let (mut records, mut target) = (0, list.to_owned());
    loop {
        let page = caller.get(&target).await;
        assert_eq!(page.status, 200, "{target}");
        let page = page.json();
        records += page["records"].as_array().unwrap().len();
        let Some(cursor) = page["pageInfo"]["nextCursor"].as_str() else { break };
        target = format!("{list}?cursor={cursor}");
    }
    (records, house.omni.arrived() - before)
}

#[tokio::test(start_paused = true)]
async fn a_walk_through_a_list_takes_a_fifth_of_the_calls() {
    let fake = || Settings { records: Some(1000), ..Plan::default().fake };
    let plain = Plan { fake: fake(), ..Plan::default() }.build().await;
    let route = "page_size = 100".to_owned();
    let saving = Plan { route, fake: fake(), ..Plan::default() }.build().await;
    for list in ["/api/v1/models", "/api/v1/folders", "/api/v1/schedules", "/api/v1/uploads"] {
        let (records, calls) = walk(&plain, list).await;
        assert_eq!(records, 1000, "{list}");
        assert_eq!(walk(&saving, list).await, (records, 10), "{list}");
        assert!(calls >= 20, "{list}: {calls}");
    }
    assert!(targets(&plain).iter().all(|target| !target.contains("pageSize")));
}

#[tokio::test(start_paused = true)]
async fn only_lists_whose_caller_names_no_size_are_asked_for_otherwise() {
    let house = house("page_size = 100\nsensitive = true").await;
    let mut caller = house.caller().await;
    let as_it_came = [
        "/api/v1/models?pageSize=7",
        "/api/v1/folders?page%53ize=7&path=",
        "/api/v1/uploads?pageSize=",
        "/api/v1/users/email-only",
        "/api/v1/labels",
        "/api/scim/v2/Users?count=3",
        "/api/v1/ai/conversations",
        "/api/v1/whoami",
    ];
    for target in as_it_came {
        caller.get(target).await;
    }
    assert_eq!(targets(&house), as_it_came);
    house.omni.forget();
    let answer = caller.get("/api/v1/models?name=&cursor=").await;
    assert_eq!(answer.status, 200, "the strict one takes it");
    caller.call(post("/api/v1/folders", "{}")).await;
    assert_eq!(targets(&house), ["/api/v1/models?name=&cursor=&pageSize=100", "/api/v1/folders"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_what_was_sent_for() {
    let house = house("page_size = 100\ncache = { ttl = \"60s\" }").await;
    let mut caller = house.caller().await;
    for (target, from) in [
        ("/api/v1/folders", "fwd=uri-miss"),
        ("/api/v1/folders?pageSize=100", "hit"),
        ("/api/v1/folders", "hit"),
        ("/api/v1/folders?pageSize=20", "fwd=uri-miss"),
        ("/api/v1/folders?pageSize=020", "fwd=uri-miss"),
    ] {
        let answer = caller.get(target).await;
        let status = answer.header("cache-status");
        assert!(status.contains(from), "{target}: {status}");
    }
    // A write forgets all of them.
    caller.call(post("/api/v1/folders", "{\"name\":\"new\"}")).await;
    let status = caller.get("/api/v1/folders?pageSize=100").await;
    assert!(status.header("cache-status").contains("fwd=uri-miss"));
}

#[tokio::test(start_paused = true)]
async fn a_page_size_is_no_way_around_what_a_call_may_do() {
    let house = house("page_size = 100\nimpersonation = { pin = \"m1\" }").await;
    let mut caller = house.caller().await;
    assert_eq!(caller.get("/api/v1/folders").await.status, 403);
    assert_eq!(caller.get("/api/v1/folders?userId=m2").await.status, 403);
    caller.get("/api/v1/folders?userId=m1").await;
    assert_eq!(targets(&house), ["/api/v1/folders?userId=m1&pageSize=100"]);
}

#[tokio::test(start_paused = true)]
async fn a_poller_of_every_two_seconds_makes_a_call_every_five() {
    let house = house("min_interval = \"5s\"").await;
    let mut caller = house.caller().await;
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    while began.elapsed() < 60 * SECOND {
        let asked = Instant::now();
        assert_eq!(caller.get(JOB).await.status, 200);
        longest = longest.max(asked.elapsed());
        sleep(2 * SECOND).await;
    }
    let times: Vec<_> = house.omni.arrivals().iter().map(|arrival| arrival.at).collect();
    // At 0, 5, … 60 s; without it there were 30.
    assert_eq!(times.len(), 13);
    assert!(times[0] - began < SECOND / 10, "the first at once");
    for pair in times.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= 5 * SECOND && gap < 5 * SECOND + SECOND / 10, "{gap:?}");
    }
    assert!(longest <= 3 * SECOND + SECOND / 10, "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn several_pollers_of_one_job_are_told_the_same_and_none_waits_longer_than_an_interval() {
    let house = house("min_interval = \"5s\"").await;
    house.caller().await.get(JOB).await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        sleep(SECOND).await;
        calls.push(house.call(get(JOB).body(Full::default()).unwrap()).await);
    }
    let mut collapsed = 0;
    for (call, wait) in calls.into_iter().zip([4, 3, 2]) {
        let timed = call.await.unwrap();
        assert!(timed.took < wait * SECOND + SECOND / 10, "{:?}", timed.took);
        let answer = timed.answer.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("proxy-status"), "omnigate; received-status=200");
        assert!(answer.header("server-timing").starts_with(&format!("paced;dur={wait}00")));
        collapsed += usize::from(answer.header("cache-status").contains("collapsed"));
        assert!(!answer.body.is_empty());
    }
    assert_eq!((house.omni.arrived(), collapsed), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_came_after_another_was_sent_is_not_answered_by_it() {
    let house = house("min_interval = \"5s\"").await;
    let hold = Hold::new();
    house.omni.fail(Rule::new(Fault::Hold(hold.clone())).path(JOB).times(1));
    let before = house.call(get(JOB).body(Full::default()).unwrap()).await;
    hold.wait_for(1).await;
    // Another cancels the job, and asks how it is: the question that is under way knows nothing of it.
    let mut caller = house.caller().await;
    assert!(caller.call(post("/api/v1/ai/jobs/j1/cancel", "{}")).await.status.is_success());
    let after = house.call(get(JOB).body(Full::default()).unwrap()).await;
    hold.release();
    assert_eq!(before.await.unwrap().status(), 200);
    let after = after.await.unwrap();
    assert_eq!(after.status(), 200);
    assert!(after.took > 4 * SECOND, "{:?}", after.took);
    assert_eq!(house.omni.arrived(), 3);
}

#[tokio::test(start_paused = true)]
async fn other_jobs_methods_members_and_spellings_are_other_questions() {
    let house = house("min_interval = \"5s\"\nimpersonation = \"allow\"").await;
    let began = Instant::now();
    let mut caller = house.caller().await;
    for target in
        [JOB, "/api/v1/ai/jobs/j2", "/api/v1/ai/jobs/j1?userId=x", "/api/v1/jobs/j1/status"]
    {
        caller.get(target).await;
    }
    caller.call(get(JOB).header("x-mcp-user-id", "m1").body(Full::default()).unwrap()).await;
    for _ in 0..2 {
        caller.get("/api/v1/documents").await;
        caller.get("/api/v1/ai/jobs/j1/result").await;
    }
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!(house.omni.arrived(), 9);
}

#[tokio::test(start_paused = true)]
async fn who_would_not_wait_so_long_is_told_when_to_come_again() {
    let house = house("min_interval = \"5s\"").await;
    let mut caller = house.caller().await;
    caller.get(JOB).await;
    sleep(SECOND + SECOND / 2).await;
    let asked = Instant::now();
    let request = get(JOB).header("prefer", "wait=1").body(Full::default()).unwrap();
    let answer = caller.call(request).await;
    assert!(asked.elapsed() < SECOND / 20);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), "4");
    let problem = answer.json();
    assert_eq!(problem["type"], "urn:omnigate:problem:queue-deadline");
    assert_eq!(problem["estimated_wait_s"], 3.5);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with("This job was asked about a moment ago"), "{detail}");
    assert!(detail.contains("5.0 s between two questions"), "{detail}");
    let request = get(JOB).header("prefer", "wait=4").body(Full::default()).unwrap();
    assert_eq!(caller.call(request).await.status, 200);
    assert_eq!(house.omni.arrived(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_it_is_held_back_costs_nobody_anything() {
    let house = house("min_interval = \"5s\"").await;
    house.caller().await.get(JOB).await;
    let began = Instant::now();
    for _ in 0..20 {
        let call = house.call(get(JOB).body(Full::default()).unwrap()).await;
        sleep(SECOND / 10).await;
        call.abort();
    }
    let next = house.call(get(JOB).body(Full::default()).unwrap()).await.await.unwrap();
    assert_eq!(next.status(), 200);
    assert!(began.elapsed() < 5 * SECOND + SECOND / 10, "{:?}", began.elapsed());
    assert_eq!(house.omni.arrived(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_its_question_waits_in_the_queue_gives_its_turn_back() {
    let plan = Plan { budget: "burst = 1".to_owned(), ..Plan::default() };
    let house = Plan { route: "min_interval = \"5s\"".to_owned(), ..plan }.build().await;
    house.caller().await.get("/api/v1/labels").await;
    // Three others are before it, a second each.
    let others = [0, 1, 2].map(|at| get(&format!("/api/v1/labels?{at}")).body(Full::default()));
    for other in others {
        house.call(other.unwrap()).await;
    }
    let leaver = house.call(get(JOB).body(Full::default()).unwrap()).await;
    let stays = house.call(get(JOB).body(Full::default()).unwrap()).await;
    sleep(SECOND).await;
    leaver.abort();
    let stays = stays.await.unwrap();
    assert_eq!(stays.status(), 200);
    assert!(stays.took < 5 * SECOND, "{:?}", stays.took);
    let asked = targets(&house).iter().filter(|target| *target == JOB).count();
    assert_eq!(asked, 1);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_failed_is_told_to_nobody_as_ours() {
    let house = house("min_interval = \"5s\"\ntimeout = \"3s\"").await;
    house.omni.fail(Rule::new(Fault::SlowHead(60 * SECOND)).path(JOB).times(3));
    let first = house.call(get(JOB).body(Full::default()).unwrap()).await;
    let second = house.call(ask(JOB, "another")).await;
    assert_eq!(first.await.unwrap().status(), 504);
    let second = second.await.unwrap();
    assert_eq!(second.status(), 200);
    assert!(!second.answer.unwrap().header("cache-status").contains("collapsed"));
}

#[tokio::test(start_paused = true)]
async fn without_a_word_in_the_config_nothing_is_changed() {
    let house = house("").await;
    let began = Instant::now();
    let mut caller = house.caller().await;
    for target in [JOB, JOB, JOB, "/api/v1/models", "/api/v1/folders?cursor="] {
        assert_eq!(caller.get(target).await.status, 200);
    }
    assert!(began.elapsed() < SECOND);
    assert_eq!(targets(&house), [JOB, JOB, JOB, "/api/v1/models", "/api/v1/folders?cursor="]);
}

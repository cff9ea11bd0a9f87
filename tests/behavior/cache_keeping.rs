//! What is never kept, and what never comes out of what is.

use bytes::Bytes;
use http::header::{HeaderValue, RANGE, SET_COOKIE};
use http::{HeaderName, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use omnigate::fake_omni::{Fault, Hold, Reset, Rule};
use tokio::time::sleep;

use crate::cache_writes::{is_hit, keeping, plain};
use crate::harness::{Answer, House, Plan, SECOND, get};

const LIST: &str = "/api/v1/folders";

/// Design section 4, each in more than one spelling where it has one.
const NEVER: [&str; 19] = [
    "/api/v1/query/wait",
    "/api/v1/query/wait?job_ids=a",
    "/api/v1/QUERY/anything/",
    "/api/v1/jobs/j/status",
    "/api/v1/jobs/j",
    "/api/v1/ai/jobs/j",
    "/api/v1/ai/jobs/j/result",
    "/api/v1/ai/jobs/j/vis",
    "/api/v1/dashboards/d/download/j",
    "/api/v1/dashboards/d/download/j/status",
    "/api/v1/Dashboards/d/Download/j/status/",
    "/mcp",
    "/mcp/other",
    "/api/v1/whoami",
    "/api/v1/whoami/",
    "/api/v1/%77hoami",
    "/api/v1/api-keys",
    "/API/V1/API-KEYS/k",
    "/api/v1/api%2Dkeys/k/",
];

fn with(path: &str, name: HeaderName, value: &str) -> Request<Full<Bytes>> {
    get(path).header(name, value).body(Full::default()).unwrap()
}

async fn call(house: &House, request: Request<Full<Bytes>>) -> Answer {
    house.call(request).await.await.unwrap().answer.unwrap()
}

fn status(answer: &Answer) -> &str {
    answer.header("cache-status")
}

fn small() -> Plan {
    let usual = keeping();
    Plan { more: "[cache]\nmax_entry = \"64KiB\"".to_owned(), ..usual }
}

#[tokio::test(start_paused = true)]
async fn what_is_true_once_or_about_rights_is_fetched_for_each_call() {
    let house = keeping().build().await;
    for path in NEVER {
        // They are under way at the same time, so neither could have been answered by the other.
        let (before, hold) = (house.omni.arrived(), Hold::new());
        house.omni.fail(Rule::new(Fault::Hold(hold.clone())));
        let one = house.call(plain(path)).await;
        let other = house.call(plain(path)).await;
        house.omni.wait_for_arrivals(before + 2).await;
        hold.release();
        for call in [one, other] {
            let answer = call.await.unwrap().answer.unwrap();
            assert!(status(&answer).starts_with("omnigate; fwd=bypass"), "{}", status(&answer));
            assert!(!answer.headers.contains_key("age"), "{path}");
        }
        house.omni.heal();
        let third = call(&house, with(path, HeaderName::from_static("cache-control"), "max-stale"));
        assert!(status(&third.await).starts_with("omnigate; fwd=bypass"), "{path}");
        assert_eq!(house.omni.arrived(), before + 3, "{path}");
    }
}

/// An answer that has no end comes to each, as it is sent.
#[tokio::test(start_paused = true)]
async fn an_event_stream_is_nobody_elses() {
    let house = keeping().build().await;
    for nth in 1..=2 {
        let mut caller = house.caller().await;
        let head = caller.send(plain("/mcp/https")).await.unwrap();
        assert_eq!(head.headers()["content-type"], "text/event-stream");
        let mut body = head.into_body();
        for _ in 0..3 {
            assert!(body.frame().await.unwrap().unwrap().is_data());
        }
        assert_eq!(house.omni.arrived(), nth);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cookie_never_comes_along() {
    let mut plan = keeping();
    plan.route = "cache = { ttl = \"10s\", stale = \"1h\" }".to_owned();
    let house = plan.build().await;
    for cookie in ["a=1", "b=2; HttpOnly"] {
        house.omni.set_field("/", SET_COOKIE, HeaderValue::from_static(cookie));
    }
    house.omni.set_field(
        "/",
        HeaderName::from_static("set-cookie2"),
        HeaderValue::from_static("c"),
    );
    let hold = Hold::new();
    house.omni.fail(Rule::new(Fault::Hold(hold.clone())).path(LIST).times(1));
    let miss = house.call(plain(LIST)).await;
    hold.wait_for(1).await;
    let collapsed = house.call(plain(LIST)).await;
    hold.release();
    let mut all = Vec::new();
    for call in [miss, collapsed] {
        all.push(call.await.unwrap().answer.unwrap());
    }
    all.push(call(&house, plain(LIST)).await);
    let head = Request::head(LIST).header("host", "localhost").body(Full::default()).unwrap();
    all.push(call(&house, head).await);
    all.push(call(&house, with(LIST, RANGE, "bytes=0-9")).await);
    let none_match = HeaderName::from_static("if-none-match");
    all.push(call(&house, with(LIST, none_match, "*")).await);
    let control = HeaderName::from_static("cache-control");
    all.push(call(&house, with(LIST, control.clone(), "no-store")).await);
    sleep(20 * SECOND).await;
    all.push(call(&house, with(LIST, control, "max-stale")).await);
    house.omni.fail(Rule::new(Fault::Status(StatusCode::INTERNAL_SERVER_ERROR)).path(LIST));
    all.push(call(&house, plain(LIST)).await);
    house.omni.heal();
    all.push(call(&house, plain("/api/v1/whoami")).await);
    let ways = ["stored", "collapsed", "; hit", "welcome", "upstream-failed", "bypass", "request"];
    for way in ways {
        assert!(all.iter().any(|answer| status(answer).contains(way)), "{way}");
    }
    for answer in all {
        let cookies = answer.headers.keys().filter(|name| name.as_str().starts_with("set-cookie"));
        assert_eq!(cookies.count(), 0, "{}", status(&answer));
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_and_a_condition_are_answered_from_what_is_kept_and_rightly() {
    let house = keeping().build().await;
    let whole = call(&house, plain(LIST)).await;
    let (length, tag) = (whole.body.len(), whole.header("etag").to_owned());
    let if_range = HeaderName::from_static("if-range");
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=5-", 5, length),
        ("bytes=-7", length - 7, length),
        ("bytes=0-99999999", 0, length),
    ] {
        let answer = call(&house, with(LIST, RANGE, range)).await;
        assert!(is_hit(&answer));
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(answer.body, whole.body.slice(from..to), "{range}");
        let place = format!("bytes {from}-{}/{length}", to - 1);
        assert_eq!(answer.header("content-range"), place);
        assert_eq!(answer.header("content-length"), (to - from).to_string());
        let mut other = with(LIST, RANGE, range);
        other.headers_mut().insert(if_range.clone(), HeaderValue::from_static("\"other\""));
        let answer = call(&house, other).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &whole.body));
    }
    let beyond = call(&house, with(LIST, RANGE, &format!("bytes={length}-"))).await;
    assert_eq!((beyond.status.as_u16(), beyond.body.len()), (416, 0));
    let several = call(&house, with(LIST, RANGE, "bytes=0-1,5-6")).await;
    assert_eq!((several.status, &several.body), (StatusCode::OK, &whole.body));

    let none_match = HeaderName::from_static("if-none-match");
    for asked in [&tag, "*", &format!("\"x\", {tag}")] {
        let mut request = with(LIST, none_match.clone(), asked);
        request.headers_mut().insert(RANGE, HeaderValue::from_static("bytes=0-1"));
        let same = call(&house, request).await;
        assert_eq!((same.status, same.body.len()), (StatusCode::NOT_MODIFIED, 0), "{asked}");
        assert_eq!(same.header("etag"), tag);
    }
    let other = call(&house, with(LIST, none_match, "\"x\"")).await;
    assert_eq!((other.status, &other.body), (StatusCode::OK, &whole.body));
    assert_eq!(house.omni.arrived(), 1);
}

/// Asked for before anything is kept, it neither spoils nor becomes what is.
#[tokio::test(start_paused = true)]
async fn a_part_or_a_condition_that_comes_first_leaves_nothing_wrong_behind() {
    let house = keeping().build().await;
    let fresh = call(&house, plain("/api/v1/folders?fresh")).await;
    let none_match = HeaderName::from_static("if-none-match");
    let (tag, control) = (fresh.header("etag"), HeaderName::from_static("cache-control"));
    for (nth, first) in [
        with("/", RANGE, "bytes=0-3"),
        with("/", none_match.clone(), tag),
        with("/", none_match, "*"),
        with("/", control, "no-store"),
        Request::head("/").header("host", "localhost").body(Full::default()).unwrap(),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("{LIST}?nth={nth}");
        let mut first = first;
        *first.uri_mut() = target.parse().unwrap();
        call(&house, first).await;
        for _ in 0..2 {
            let answer = call(&house, plain(&target)).await;
            assert_eq!((answer.status, &answer.body), (StatusCode::OK, &fresh.body), "{nth}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_streams_through_whole_and_its_calls_do_not_wait_for_each_other() {
    for chunked in ["", "&chunked"] {
        let mut plan = small();
        plan.route = "cache = { ttl = \"30s\", stale = \"1h\" }".to_owned();
        let house = plan.build().await;
        let target = format!("{LIST}?bytes=300000{chunked}");
        let (mut sent, mut hits) = (0, 0);
        for round in 0..3 {
            let hold = Hold::new();
            house.omni.fail(Rule::new(Fault::Hold(hold.clone())).target(&target));
            let first = house.call(plain(&target)).await;
            hold.wait_for(1).await;
            let second = house.call(plain(&target)).await;
            sleep(SECOND).await;
            // The first time they cannot know; from then on each goes by itself for 30 s.
            let alone = round == 1;
            assert_eq!(house.omni.arrived() - sent, 1 + usize::from(alone), "{round} {chunked}");
            hold.release();
            for call in [first, second] {
                let answer = call.await.unwrap().answer.unwrap();
                assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 300_000));
                assert!(answer.json()["padding"].as_str().unwrap().bytes().all(|b| b == b'x'));
                assert!(!status(&answer).contains("stored"), "{}", status(&answer));
                hits += usize::from(is_hit(&answer));
            }
            sent = house.omni.arrived();
            house.omni.heal();
            if round == 1 {
                sleep(31 * SECOND).await;
            }
        }
        assert_eq!(hits, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_as_large_as_may_be_is_kept_and_one_byte_more_is_not() {
    let house = small().build().await;
    for chunked in ["", "&chunked"] {
        for (bytes, fits) in [(65_535, true), (65_536, true), (65_537, false)] {
            let target = format!("{LIST}?bytes={bytes}{chunked}");
            call(&house, plain(&target)).await;
            let again = call(&house, plain(&target)).await;
            assert_eq!((is_hit(&again), again.body.len()), (fits, bytes), "{target}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_never_kept_nor_given_to_another() {
    let house = small().build().await;
    for reset in [Reset::MidBody, Reset::AfterHead] {
        for target in ["?a", "?chunked", "?bytes=50000&chunked", "?bytes=300000&chunked"] {
            let target = format!("{LIST}{target}&{reset:?}");
            let rule = Rule::new(Fault::Reset(reset)).method(Method::GET).target(&target);
            house.omni.fail(rule.times(1));
            let first = house.call(plain(&target)).await;
            let second = house.call(plain(&target)).await;
            let whole = call(&house, plain(&format!("{target}&whole"))).await;
            let mut good = 0;
            for call in [first, second] {
                if let Some(answer) = call.await.unwrap().answer.filter(|one| one.status == 200) {
                    assert_eq!(answer.body, whole.body, "{target}");
                    good += 1;
                }
            }
            assert!(good <= 1, "{target}");
            let after = call(&house, plain(&target)).await;
            assert_eq!((after.status, &after.body), (StatusCode::OK, &whole.body), "{target}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_200_is_kept() {
    let house = keeping().build().await;
    for status in [203, 204, 206, 300, 301, 404, 410, 500, 503] {
        let target = format!("{LIST}?status={status}");
        let mut odd = http::Response::new(Bytes::from_static(b"odd"));
        *odd.status_mut() = StatusCode::from_u16(status).unwrap();
        house.omni.fail(Rule::new(Fault::Answer(odd)).target(&target));
        for _ in 0..2 {
            let before = house.omni.arrived();
            let answer = call(&house, plain(&target)).await;
            assert_eq!(answer.status.as_u16(), status);
            assert!(house.omni.arrived() > before, "{status}");
        }
        house.omni.heal();
        assert!(!is_hit(&call(&house, plain(&target)).await));
        assert!(is_hit(&call(&house, plain(&target)).await));
    }
}

//! What is kept is shown only to whom the same question would be answered so by Omni itself.

use std::env;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;
use omnigate::fake_omni::{Fault, Hold, Key, KeyKind, Rule, Settings, write_body};
use serde_json::Value;
use tokio::time::sleep;

use crate::cache_writes::{Direct, is_hit, keeping, plain};
use crate::harness::{Answer, Dice, House, Plan, SECOND, get, post};

const FOLDERS: &str = "/api/v1/folders";
const DOCUMENTS: &str = "/api/v1/documents";
const LABELS: &str = "/api/v1/labels";

fn owned(name: &str) -> Key {
    Key::made_up(KeyKind::Organization, name)
}

/// Two keys: each has a route of its own, and there is one for both.
fn two() -> Plan {
    let usual = keeping();
    let mut keys = usual.fake.keys.clone();
    keys.push(owned("two"));
    let more = r#"
        impersonation = "allow"
        [credentials.two]
        kind = "organization"
        secret = "two"
        budget = "omni"
        [[routes]]
        name = "documents"
        path = "/api/v1/documents"
        credential = "two"
        impersonation = "allow"
        cache = { ttl = "1h", vary = ["accept-language"] }
        [[routes]]
        name = "labels"
        path = "/api/v1/labels"
        credential = ["org", "two"]
        impersonation = "allow"
        forward_headers = ["x-tenant"]
        cache = { ttl = "1h", same_data = true }
    "#;
    Plan { more: more.to_owned(), fake: Settings { keys, ..usual.fake }, ..usual }
}

/// What the environment says, or so many from 1 on.
pub(crate) fn seeds(usual: u64) -> std::ops::Range<u64> {
    let said = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = said("SEED").unwrap_or(1);
    first..first + said("SEEDS").unwrap_or(usual)
}

async fn call(house: &House, request: Request<Full<Bytes>>) -> Answer {
    house.call(request).await.await.unwrap().answer.unwrap()
}

/// The ids of two members whom Omni knows.
async fn members(house: &House) -> Vec<String> {
    let users = Direct::to(house).await.call(plain("/api/scim/v2/Users")).await.json();
    let id = |user: &Value| user["id"].as_str().unwrap().to_owned();
    users["Resources"].as_array().unwrap().iter().take(2).map(id).collect()
}

fn pick<'a>(dice: &mut Dice, from: &[&'a str]) -> &'a str {
    from[dice.below(from.len())]
}

/// By dice: whose route, for whom, in which form, in which language; and the second key changes.
#[tokio::test(start_paused = true)]
async fn an_answer_is_always_what_omni_would_say_to_this_call() {
    let (mut hits, mut calls) = (0, 0);
    for seed in seeds(12) {
        let house = two().build().await;
        house.keep_keys();
        let members = members(&house).await;
        let (mut dice, mut owner) = (Dice(seed), "two".to_owned());
        for step in 0..200 {
            if dice.below(50) == 0 {
                owner = format!("two-{step}");
                let keys = ["org", "web", &owner].map(owned).to_vec();
                house.omni.set_keys(keys);
                house.write_secret("two", owned(&owner).token());
                sleep(6 * SECOND).await;
            }
            let path = pick(&mut dice, &[FOLDERS, DOCUMENTS, LABELS]);
            let user = [None, members.first(), members.last()][dice.below(3)];
            let size = pick(&mut dice, &["pageSize=2", "pageSize=3"]);
            let target = match user {
                Some(user) => format!("{path}?{size}&userId={user}"),
                None => format!("{path}?{size}"),
            };
            let accept = pick(&mut dice, &["", "application/json", "text/csv", "*/*"]);
            let also = pick(&mut dice, &["", "", "a/b"]);
            let language = pick(&mut dice, &["", "de", "en"]);
            let mut request = plain(&target);
            for (name, value) in
                [("accept", accept), ("accept", also), ("accept-language", language)]
            {
                if !value.is_empty() {
                    request.headers_mut().append(name, HeaderValue::from_static(value));
                }
            }
            let asked: Vec<_> = [accept, also].into_iter().filter(|one| !one.is_empty()).collect();
            let answer = call(&house, request).await;
            let shown = format!("SEED={seed}, step {step}, {target}: {:?}", answer.body);
            let document = answer.json();
            let text = |member: &str| document[member].as_str().map(str::to_owned);
            let seen_by = text("seenBy").unwrap();
            match path {
                FOLDERS => assert_eq!(seen_by, "org", "{shown}"),
                DOCUMENTS => assert_eq!(seen_by, owner, "{shown}"),
                _ => assert!(seen_by == "org" || seen_by == owner, "{shown}"),
            }
            assert_eq!(text("actingFor").as_ref(), user, "{shown}");
            let expected = (!asked.is_empty()).then(|| asked.join(", "));
            assert_eq!(text("asked"), expected, "{shown}");
            // Where answers are said not to differ by it, Omni is not told of it.
            let told = path == DOCUMENTS && !language.is_empty();
            assert_eq!(text("language"), told.then(|| language.to_owned()), "{shown}");
            if path != LABELS {
                assert_eq!(document["pageInfo"]["pageSize"].to_string(), size[9..], "{shown}");
            }
            hits += usize::from(is_hit(&answer));
            calls += 1;
        }
    }
    println!("seeds {:?}: {hits} of {calls} calls were hits", seeds(12));
    assert!(hits * 10 > calls && hits * 10 < calls * 9);
}

#[tokio::test(start_paused = true)]
async fn nothing_from_before_a_rotation_is_served_after_it_nor_what_was_under_way() {
    let house = two().build().await;
    house.keep_keys();
    let mut caller = house.caller().await;
    caller.get(DOCUMENTS).await;
    assert!(is_hit(&caller.get(DOCUMENTS).await));
    let hold = Hold::new();
    let slow = format!("{DOCUMENTS}?pageSize=1");
    house.omni.fail(Rule::new(Fault::Hold(hold.clone())).target(&slow).times(1));
    let early = house.call(plain(&slow)).await;
    hold.wait_for(1).await;
    house.omni.set_keys(["org", "web", "next"].map(owned).to_vec());
    house.write_secret("two", owned("next").token());
    sleep(6 * SECOND).await;
    assert_eq!(caller.get(DOCUMENTS).await.json()["seenBy"], "next");
    // Not by the fetch that is under way with the old value.
    let late = house.call(plain(&slow)).await.await.unwrap().answer.unwrap();
    assert_eq!(late.json()["seenBy"], "next");
    hold.release();
    early.await.unwrap();
    let after = caller.get(&slow).await;
    assert_eq!((is_hit(&after), &after.json()["seenBy"]), (true, &Value::from("next")));
    // The other key's answers are still there; those of a pool that has the changed one are not.
    let before = house.omni.arrived();
    caller.get(FOLDERS).await;
    caller.get(FOLDERS).await;
    assert_eq!(house.omni.arrived(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_key_has_shown_is_not_served_once_omni_refuses_it() {
    let house = two().build().await;
    house.keep_keys();
    let mut caller = house.caller().await;
    for path in [DOCUMENTS, FOLDERS] {
        caller.get(path).await;
        assert!(is_hit(&caller.get(path).await), "{path}");
    }
    house.omni.set_keys(["org", "web"].map(owned).to_vec());
    assert_eq!(caller.get(&format!("{DOCUMENTS}?pageSize=1")).await.status, 503);
    for asked in ["", "only-if-cached", "max-stale"] {
        let request = get(DOCUMENTS).header("cache-control", asked);
        let answer = caller.call(request.body(Full::default()).unwrap()).await;
        assert!(answer.status.is_server_error(), "{asked}: {}", answer.status);
    }
    assert!(is_hit(&caller.get(FOLDERS).await));
}

#[tokio::test(start_paused = true)]
async fn a_write_with_one_key_counts_for_what_another_has_shown() {
    let house = two().build().await;
    let mut caller = house.caller().await;
    for path in [FOLDERS, LABELS] {
        caller.get(path).await;
        assert!(is_hit(&caller.get(path).await), "{path}");
    }
    let made = caller.call(post(DOCUMENTS, write_body("made"))).await;
    assert_eq!(made.status, StatusCode::OK);
    for path in [FOLDERS, LABELS] {
        assert_eq!(caller.get(path).await.json()["revision"], 1, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_route_forwards_tells_its_answers_apart() {
    let house = two().build().await;
    let of = |tenants: &[&'static str]| {
        let mut request = plain(LABELS);
        for tenant in tenants {
            request.headers_mut().append("x-tenant", HeaderValue::from_static(tenant));
        }
        request
    };
    for tenants in [&["a"][..], &["b"], &["a", "b"], &["a, b"], &[""], &[]] {
        assert!(!is_hit(&call(&house, of(tenants)).await), "{tenants:?}");
        assert!(is_hit(&call(&house, of(tenants)).await), "{tenants:?}");
    }
}

/// What a caller may add to a call: it changes nothing for those who ask plainly.
const ADDED: [(&str, &[&str]); 38] = [
    ("x-forwarded-host", &["evil.example"]),
    ("x-forwarded-for", &["10.0.0.1"]),
    ("x-forwarded-proto", &["https", "nothing"]),
    ("forwarded", &["host=evil.example"]),
    ("x-original-url", &["/api/v1/labels"]),
    ("x-rewrite-url", &["/api/v1/labels"]),
    ("x-http-method-override", &["DELETE", "POST"]),
    ("x-http-method", &["HEAD"]),
    ("accept-language", &["de", "xx", "de, en;q=0.1"]),
    ("accept-charset", &["utf-16"]),
    ("accept-encoding", &["gzip", "br", "identity;q=0", "*;q=0", "gzip, identity;q=0"]),
    ("prefer", &["wait=0", "return=minimal", "respond-async"]),
    ("range", &["bytes=0-3", "bytes=5-", "bytes=-1", "bytes=999999-", "bytes=0-1,3-4"]),
    ("if-range", &["\"a\"", "Thu, 01 Jan 1970 00:00:07 GMT"]),
    ("if-none-match", &["*", "\"a\"", "W/\"a\""]),
    ("if-match", &["*", "\"a\""]),
    ("if-modified-since", &["Thu, 01 Jan 2026 00:00:07 GMT"]),
    ("if-unmodified-since", &["Thu, 01 Jan 1970 00:00:07 GMT"]),
    ("cache-control", &["no-cache", "no-store", "max-age=0", "only-if-cached", "max-stale"]),
    ("pragma", &["no-cache"]),
    ("user-agent", &["evil/1", ""]),
    ("cookie", &["session=evil"]),
    ("x-mcp-model-id", &["evil"]),
    ("x-mcp-query-all-views", &["true"]),
    ("authorization", &["Bearer evil", "Basic eDp5", ""]),
    ("proxy-authorization", &["Basic eDp5"]),
    ("connection", &["host", "x-request-id, via", "authorization", "accept-encoding"]),
    ("te", &["trailers"]),
    ("x-request-id", &["evil", "evil\"id"]),
    ("via", &["1.1 evil", "1.0 a, 1.1 b"]),
    ("content-type", &["text/plain"]),
    ("last-event-id", &["7"]),
    ("mcp-session-id", &["evil"]),
    ("priority", &["u=7", "u=0"]),
    ("x-omnigate-caller", &["evil"]),
    ("origin", &["https://evil.example"]),
    ("age", &["999"]),
    ("x-unheard-of", &["evil"]),
];

/// Fields of an answer that tell of its time, its way and what is left of the budget.
const PASSING: [&str; 9] = [
    "age",
    "cache-status",
    "date",
    "proxy-status",
    "ratelimit",
    "ratelimit-policy",
    "server-timing",
    "x-request-id",
    "x-trace-id",
];

fn lasting(answer: &Answer) -> (StatusCode, HeaderMap, Bytes) {
    let mut headers = answer.headers.clone();
    for name in PASSING {
        headers.remove(name);
    }
    (answer.status, headers, answer.body.clone())
}

fn poisoned(dice: &mut Dice, target: &str) -> Request<Full<Bytes>> {
    let mut request = plain(target);
    for _ in 0..=dice.below(6) {
        let (name, values) = ADDED[dice.below(ADDED.len())];
        let value = HeaderValue::from_static(pick(dice, values));
        request.headers_mut().append(HeaderName::from_static(name), value);
    }
    match dice.below(6) {
        0 => *request.method_mut() = Method::HEAD,
        1 => *request.body_mut() = Full::from("{\"userId\":\"evil\"}"),
        _ => {}
    }
    request
}

#[tokio::test(start_paused = true)]
async fn nothing_that_a_caller_adds_changes_what_a_plain_caller_gets() {
    let mut plan = two();
    plan.more = plan.more.replace("impersonation = \"allow\"", "");
    let house = plan.build().await;
    let mut kept = 0;
    for (nth, seed) in seeds(400).enumerate() {
        let mut dice = Dice(seed);
        let path = pick(&mut dice, &[FOLDERS, "/api/v1/content", "/api/v1/folders/f/permissions"]);
        // Omni takes no notice of what it does not know, so each case has a page of its own.
        let target = format!("{path}?case={nth}");
        let fresh = lasting(&call(&house, plain(&format!("{target}&fresh"))).await);
        house.omni.fail(Rule::new(Fault::SlowHead(SECOND / 10)).target(&target).times(1));
        let request = poisoned(&mut dice, &target);
        let said = format!("SEED={seed}: {} {:?}", request.method(), request.headers());
        // The plain caller comes while the other one's call is under way, and again afterwards.
        let first = house.call(request).await;
        let beside = house.call(plain(&target)).await;
        first.await.unwrap();
        let beside = beside.await.unwrap().answer.unwrap();
        assert_eq!(lasting(&beside), fresh, "{said}");
        let after = call(&house, plain(&target)).await;
        assert_eq!(lasting(&after), fresh, "{said}");
        kept += usize::from(is_hit(&after));
        house.omni.heal();
        // And what is kept is not changed by those who come for it.
        let request = poisoned(&mut dice, &target);
        let said = format!("SEED={seed}: {} {:?}", request.method(), request.headers());
        let _ = house.call(request).await.await.unwrap();
        assert_eq!(lasting(&call(&house, plain(&target)).await), fresh, "{said}");
    }
    println!("seeds {:?}: {kept} plain calls were hits", seeds(400));
    assert!(kept as u64 == seeds(400).count() as u64);
}

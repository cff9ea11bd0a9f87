//! For whom a call may act by its JSON body: what each rule lets through to Omni.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use omnigate::fake_omni::{Fault, RetryAfter, Rule};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Answer, House, Plan, post};

const MEMBER: &str = "9f1c2d3e-0a1b-4c5d-8e9f-001122334455";

/// `replay_limit`, where nothing else is said.
const LIMIT: usize = 1024 * 1024;

/// The endpoints whose body may name a user, in odd letters too.
const ENDPOINTS: [(Method, &str); 8] = [
    (Method::POST, "/api/v1/query/run"),
    (Method::POST, "/api/v1/ai/generate-query"),
    (Method::POST, "/api/v1/ai/pick-topic"),
    (Method::POST, "/api/v1/folders"),
    (Method::PUT, "/api/v1/documents/d/transfer-ownership"),
    (Method::PUT, "/api/v1/schedules/s/transfer-ownership"),
    (Method::POST, "/API/v1/Query/RUN/"),
    (Method::POST, "/api/v1/qu%65ry/run"),
];

async fn house(route: &str) -> House {
    Plan { route: route.to_owned(), ..Plan::default() }.build().await
}

async fn pinned() -> House {
    house(&format!("impersonation = {{ pin = \"{MEMBER}\" }}")).await
}

fn with(method: &Method, path: &str, body: &str) -> Request<Full<Bytes>> {
    let mut request = post(path, body.to_owned());
    *request.method_mut() = method.clone();
    request
}

async fn call(house: &House, request: Request<Full<Bytes>>) -> Answer {
    house.caller().await.call(request).await
}

fn is_denied(answer: &Answer, words: &str) {
    assert_eq!(answer.status, 403, "{:?}", answer.body);
    let problem = answer.json();
    assert_eq!(problem["type"], "urn:omnigate:problem:impersonation-denied");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(words) && !detail.contains(MEMBER), "{detail}");
}

fn sha256(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the fake has read of the last body.
fn last_body(house: &House) -> Option<String> {
    house.omni.arrivals().last().unwrap().body.sha256.clone()
}

#[tokio::test(start_paused = true)]
async fn no_body_that_names_a_user_reaches_omni_where_it_is_denied() {
    let house = house("").await;
    for (method, path) in &ENDPOINTS {
        for body in [
            r#"{"userId":"7"}"#,
            r#"{"a":1,"user\u0049d":"7"}"#,
            r#"{"USERID":null}"#,
            r#"{"a":1,"userId":"7","userId":"8"}"#,
        ] {
            let answer = call(&house, with(method, path, body)).await;
            is_denied(&answer, "leave `userId` out of the body");
        }
        for (body, words) in [
            ("\u{feff}{}", "one JSON object"),
            ("{} {\"userId\":7}", "one JSON object"),
            ("userId=7", "one JSON object"),
            (r#"{"__proto__":{"userId":"7"}}"#, "leave out `__proto__`"),
        ] {
            is_denied(&call(&house, with(method, path, body)).await, words);
        }
        for media in ["application/x-www-form-urlencoded", "application/json; charset=utf-16"] {
            let mut form = with(method, path, "{}");
            form.headers_mut().insert("content-type", media.parse().unwrap());
            is_denied(&call(&house, form).await, "Content-Type: application/json");
        }
    }
    assert_eq!(house.omni.arrived(), 0);
    for (method, path) in &ENDPOINTS {
        for body in ["{\"query\":{\"filters\":{\"userId\":{}}}}", ""] {
            assert_ne!(call(&house, with(method, path, body)).await.status, 403, "{path}");
            assert_eq!(last_body(&house), Some(sha256(body.as_bytes())));
        }
    }
    // Elsewhere `userId` in a body has another meaning.
    call(&house, post("/api/v1/documents", r#"{"userId":"7"}"#)).await;
    assert_eq!(house.omni.arrived(), 2 * ENDPOINTS.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn where_calls_may_act_for_anybody_bodies_are_nobodys_business() {
    let house = house("impersonation = \"allow\"").await;
    for body in [r#"{"userId":"7"}"#, "no json at all", "\u{feff}{}"] {
        assert_ne!(call(&house, post("/api/v1/query/run", body)).await.status, 403);
        assert_eq!(last_body(&house), Some(sha256(body.as_bytes())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pinned_call_names_the_one_user_once_in_query_or_body() {
    let house = pinned().await;
    let said = format!("{{\"name\":\"x\",\"userId\":\"{MEMBER}\"}}");
    let query = format!("/api/v1/folders?userId={MEMBER}");
    for (path, body) in
        [("/api/v1/folders", said.as_str()), (&query, "{\"name\":\"x\"}"), (&query, "")]
    {
        assert_ne!(call(&house, post(path, body.to_owned())).await.status, 403, "{path} {body}");
        assert_eq!(last_body(&house), Some(sha256(body.as_bytes())));
    }
    assert_eq!(house.omni.arrived(), 3);
    let twice = format!("{{\"userId\":\"{MEMBER}\",\"userId\":\"{MEMBER}\"}}");
    for (path, body) in [
        ("/api/v1/folders", "{}"),
        ("/api/v1/folders", ""),
        ("/api/v1/folders", r#"{"userId":"7"}"#),
        ("/api/v1/folders", &twice),
        ("/api/v1/folders?userId=7", &said),
        (&query, &said),
        (&query, r#"{"userId":"7"}"#),
    ] {
        let answer = call(&house, post(path, body.to_owned())).await;
        is_denied(&answer, "acts for one user alone");
    }
    assert_eq!(house.omni.arrived(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_chunked_body_and_one_over_h2_are_looked_into_too() {
    let house = house("").await;
    for (body, status) in [(r#"{"userId":"7"}"#, "403"), (r#"{"query":{}}"#, "200")] {
        let mut wire = house.connect();
        let head = "POST /api/v1/query/run HTTP/1.1\r\nHost: 127.0.0.1:6664\r\nConnection: close\r\n\
                    Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        wire.write_all(head.as_bytes()).await.unwrap();
        for byte in body.bytes() {
            let chunk = format!("1\r\n{}\r\n", char::from(byte));
            wire.write_all(chunk.as_bytes()).await.unwrap();
        }
        wire.write_all(b"0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        wire.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
    }
    assert_eq!(last_body(&house), Some(sha256(br#"{"query":{}}"#)));
    let mut request = post("http://127.0.0.1:6664/api/v1/query/run", r#"{"userId":"7"}"#);
    request.headers_mut().remove("host");
    let answer = house.h2_caller().await.call(request).await;
    is_denied(&answer, "leave `userId` out of the body");
    assert_eq!(house.omni.arrived(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_not_sent() {
    let house = house("").await;
    let mut wire = house.connect();
    let head = "POST /api/v1/query/run HTTP/1.1\r\nHost: 127.0.0.1:6664\r\n\
                Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n";
    wire.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    wire.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(house.omni.arrived(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_too_long_to_be_looked_into_is_refused() {
    let house = house("").await;
    let padded = |size: usize| {
        let mut body = String::from("{\"a\":\"\"}");
        body.insert_str(6, &"x".repeat(size - body.len()));
        body
    };
    let fits = padded(LIMIT);
    assert_eq!(call(&house, post("/api/v1/query/run", fits.clone())).await.status, 200);
    assert_eq!(last_body(&house), Some(sha256(fits.as_bytes())));
    let answer = call(&house, post("/api/v1/query/run", padded(LIMIT + 1))).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["type"], "urn:omnigate:problem:body-too-large");
    assert_eq!(house.omni.arrived(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_looked_into_is_sent_again_as_a_whole() {
    let house = house("").await;
    house.omni.fail(Rule::new(Fault::Block(RetryAfter::Absent)).times(1));
    let body = format!("{{\"query\":{{\"a\":\"{}\"}}}}", "é".repeat(30_000));
    assert_eq!(call(&house, post("/api/v1/query/run", body.clone())).await.status, 200);
    assert_eq!(house.omni.arrived(), 2);
    assert_eq!(last_body(&house), Some(sha256(body.as_bytes())));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_dribbles_in_is_given_up_after_a_minute_and_its_connection_with_it() {
    let house = house("").await;
    let (mut reads, mut writes) = tokio::io::split(house.connect());
    let head = "POST /api/v1/folders HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
    let began = tokio::time::Instant::now();
    writes.write_all(head.as_bytes()).await.unwrap();
    // Fast enough for the server's own clocks.
    let dribble = tokio::spawn(async move {
        while writes.write_all(&[b' '; 200]).await.is_ok() {
            tokio::time::sleep(crate::harness::SECOND).await;
        }
    });
    let mut answer = String::new();
    reads.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("within 60 s"), "{answer}");
    assert_eq!(began.elapsed().as_secs(), 60);
    dribble.await.unwrap();
    assert_eq!(house.omni.arrived(), 0);
}

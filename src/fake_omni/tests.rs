//! The fake Omni as a client sees it, in virtual time over in-memory pipes.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use http::request::Builder;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::base::Body;

mod cache;
mod mcp;

/// A client on one connection.
struct Client {
    send: SendRequest<Body>,
    key: Key,
}

struct Answer {
    status: StatusCode,
    fields: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Client {
    async fn new(omni: &FakeOmni, key: &Key) -> Self {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let omni = omni.clone();
        tokio::spawn(async move { omni.serve_connection(far).await });
        let (send, connection) = handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        Self { send, key: key.clone() }
    }

    fn ask(&self, method: Method, target: &str) -> Builder {
        let bearer = format!("Bearer {}", self.key.token());
        Request::builder().method(method).uri(target).header(AUTHORIZATION, bearer)
    }

    async fn open(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        self.send.ready().await?;
        self.send.send_request(request).await
    }

    async fn send(&mut self, request: Request<Body>) -> Answer {
        let (head, body) = self.open(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, fields: head.headers, body }
    }

    async fn call(&mut self, method: Method, target: &str, document: Value) -> Answer {
        let request = self.ask(method, target).body(Body::full(document.to_string())).unwrap();
        self.send(request).await
    }

    async fn get(&mut self, target: &str) -> Answer {
        let request = self.ask(Method::GET, target).body(Body::empty()).unwrap();
        self.send(request).await
    }
}

fn unlimited() -> Settings {
    let limit = Limit::new(Algorithm::Off, 0, Duration::from_secs(60));
    Settings { limit, ..Settings::default() }
}

fn three_keys() -> Vec<Key> {
    vec![
        Key::made_up(KeyKind::Organization, "org"),
        Key::made_up(KeyKind::Personal, "ada"),
        Key::made_up(KeyKind::Mcp, "bob"),
    ]
}

async fn unlimited_client() -> (FakeOmni, Client) {
    let omni = FakeOmni::new(unlimited());
    let client = Client::new(&omni, &omni.0.settings.keys[0]).await;
    (omni, client)
}

#[tokio::test(start_paused = true)]
async fn a_missing_or_malformed_bearer_is_400_and_an_unknown_one_403() {
    let (omni, mut client) = unlimited_client().await;
    for value in [None, Some("Basic eDp5"), Some("Bearer "), Some("bearer x"), Some("Bearer a b")] {
        let mut request = Request::builder().uri("/api/v1/whoami");
        if let Some(value) = value {
            request = request.header(AUTHORIZATION, value);
        }
        let answer = client.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let message = "Bad authorization header, must be formatted as Bearer <token>";
        assert_eq!(answer.json()["error"]["message"], message);
    }
    let unknown = Key::new(KeyKind::Organization, "nobody", "omni_osk_unknown");
    let answer = Client::new(&omni, &unknown).await.get("/api/v1/whoami").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let expected = json!({ "error": { "code": 403, "message": "Invalid bearer token" } });
    assert_eq!(answer.json(), expected);
    assert_eq!(omni.arrivals().last().unwrap().sender, Sender::Invalid);
}

#[tokio::test(start_paused = true)]
async fn two_authorization_fields_are_malformed_and_both_are_seen() {
    let (omni, mut client) = unlimited_client().await;
    let request = client.ask(Method::GET, "/api/v1/whoami").header(AUTHORIZATION, "Bearer dummy");
    let answer = client.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(omni.arrivals()[0].authorizations, 2);
    assert_eq!(omni.arrivals()[0].sender, Sender::Malformed);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_key_and_a_demoted_user_are_refused() {
    let (omni, mut client) = unlimited_client().await;
    assert_eq!(client.get("/api/v1/whoami").await.json()["keyScope"], "organization");
    omni.set_keys(vec![client.key.clone().demoted()]);
    let answer = client.get("/api/v1/whoami").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.json()["error"]["message"].as_str().unwrap().starts_with("User no longer"));
    omni.set_keys(vec![Key::new(KeyKind::Organization, "org", "omni_osk_next")]);
    assert_eq!(client.get("/api/v1/whoami").await.json()["error"]["code"], 403);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_path_is_not_found_with_the_recorded_fields() {
    let (_, mut client) = unlimited_client().await;
    for target in ["/api/v0/folders", "/api/v1/nothing", "/api/v1/folders/x/y"] {
        let answer = client.get(target).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.json(), json!({ "message": "Not found" }));
        assert_eq!(answer.fields["cache-control"], "no-cache, no-store");
        assert_eq!(answer.fields["vary"], "Accept-Encoding");
        assert!(answer.fields["etag"].to_str().unwrap().starts_with("W/\"17-"));
        assert!(answer.fields["x-trace-id"].to_str().unwrap().starts_with("Root=1-"));
        assert!(answer.fields.contains_key("strict-transport-security"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_walk_sees_every_record_once() {
    let (_, mut client) = unlimited_client().await;
    for (list, key, size, total) in [
        ("folders", "id", 7, 120),
        ("documents", "identifier", 100, 300),
        ("models", "id", 6, 12),
        ("content", "key", 50, 420),
        ("schedules", "id", 20, 30),
        ("users/email-only", "email", 20, 25),
        ("api-keys", "id", 1, 1),
    ] {
        let mut seen = BTreeSet::new();
        let mut target = format!("/api/v1/{list}?pageSize={size}");
        for page in 1.. {
            let answer = client.get(&target).await.json();
            for record in answer["records"].as_array().unwrap() {
                assert_eq!(record["seenBy"], "org");
                assert!(seen.insert(record[key].as_str().unwrap().to_owned()), "{list} twice");
            }
            assert_eq!(answer["pageInfo"]["totalRecords"], total);
            let Some(cursor) = answer["pageInfo"]["nextCursor"].as_str() else {
                assert_eq!(answer["pageInfo"]["hasNextPage"], false);
                assert_eq!(page, total_pages(total, size), "{list}");
                break;
            };
            let cursor = cursor.replace('=', "%3D").replace('@', "%40");
            target = format!("/api/v1/{list}?pageSize={size}&cursor={cursor}");
        }
        assert_eq!(seen.len(), total, "{list}");
    }
}

fn total_pages(total: usize, size: usize) -> usize {
    total.div_ceil(size)
}

#[tokio::test(start_paused = true)]
async fn models_take_no_unknown_parameter_and_have_their_own_cursor_error() {
    let (_, mut client) = unlimited_client().await;
    assert_eq!(client.get("/api/v1/models?name=&pageSize=5").await.status, StatusCode::OK);
    let answer = client.get("/api/v1/models?utm_source=x").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["status"], 400);
    let answer = client.get("/api/v1/models?cursor=!").await;
    assert_eq!(answer.json(), json!({ "error": "Invalid cursor", "success": false }));
    let answer = client.get("/api/v1/folders?cursor=!&path=").await;
    assert_eq!(answer.json(), json!({ "detail": "Invalid cursor", "status": 400 }));
    for size in ["0", "101", "x"] {
        let answer = client.get(&format!("/api/v1/folders?pageSize={size}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test(start_paused = true)]
async fn scim_serves_organization_keys_in_any_letter_case_and_no_others() {
    let omni = FakeOmni::new(Settings { keys: three_keys(), ..unlimited() });
    let keys = three_keys();
    let mut org = Client::new(&omni, &keys[0]).await;
    for users in ["Users", "users", "USERS"] {
        let target = format!("/api/scim/v2/{users}?startIndex=31&count=20");
        let answer = org.get(&target).await.json();
        assert_eq!(answer["totalResults"], 40);
        assert_eq!((&answer["startIndex"], &answer["itemsPerPage"]), (&json!(31), &json!(10)));
    }
    let filter = "/api/scim/v2/users?filter=userName%20eq%20%22user7%40acme.example%22";
    assert_eq!(org.get(filter).await.json()["Resources"][0]["displayName"], "User 7");
    for key in &keys[1..] {
        let answer = Client::new(&omni, key).await.get("/api/scim/v2/Groups").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        let message = "User-scoped API keys are not allowed to access the SCIM API.";
        assert_eq!(answer.json()["detail"], message);
    }
}

#[tokio::test(start_paused = true)]
async fn only_an_organization_key_acts_for_others() {
    let omni = FakeOmni::new(Settings { keys: three_keys(), ..unlimited() });
    let keys = three_keys();
    let mut org = Client::new(&omni, &keys[0]).await;
    let users = org.get("/api/scim/v2/users").await.json();
    let me = Client::new(&omni, &keys[1]).await.get("/api/v1/whoami").await.json();
    let other = users["Resources"].as_array().unwrap().iter();
    let other = other.map(|user| &user["id"]).find(|id| **id != me["membershipId"]).unwrap();
    let target = format!("/api/v1/folders?userId={}", other.as_str().unwrap());
    assert_eq!(org.get(&target).await.json()["records"][0]["actingFor"], *other);
    assert_eq!(org.get("/api/v1/folders?userId=x").await.status, StatusCode::NOT_FOUND);
    let answer = Client::new(&omni, &keys[1]).await.get(&target).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let both = org.call(Method::POST, &target, json!({ "name": "n", "userId": other })).await;
    assert_eq!(both.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_per_key_and_its_refusal_comes_from_the_edge() {
    let omni = FakeOmni::new(Settings { keys: three_keys(), ..Settings::default() });
    let keys = three_keys();
    let mut org = Client::new(&omni, &keys[0]).await;
    for _ in 0..60 {
        assert_eq!(org.get("/api/v1/whoami").await.status, StatusCode::OK);
    }
    let answer = org.get("/api/v1/whoami").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.fields["x-omni-waf-action"], "block");
    assert_eq!(answer.fields[CONTENT_TYPE], "text/html");
    assert!(!answer.fields.contains_key(RETRY_AFTER));
    assert!(!answer.fields.contains_key("x-trace-id"));
    assert!(answer.body.starts_with(b"<html>"));
    let mut ada = Client::new(&omni, &keys[1]).await;
    assert_eq!(ada.get("/api/v1/whoami").await.json()["seenBy"], "ada");
    assert_eq!((omni.refusals(), omni.arrived()), (1, 62));
    let minute = Duration::from_secs(60);
    assert_eq!(omni.highest_in_any_window(minute), 62);
    assert_eq!(omni.highest_for_owner("org", minute), 61);
    tokio::time::advance(minute).await;
    assert_eq!(org.get("/api/v1/whoami").await.status, StatusCode::OK);
    assert_eq!(omni.distinct_authorizations("org"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_query_streams_its_lines_as_they_come() {
    let (_, mut client) = unlimited_client().await;
    let start = Instant::now();
    let run = client.ask(Method::POST, "/api/v1/query/run");
    let request = run.body(Body::full(r#"{"query":{"table":"orders"}}"#)).unwrap();
    let mut answer = client.open(request).await.unwrap();
    assert_eq!(answer.headers()[CONTENT_TYPE], "text/ndjson; charset=utf-8");
    assert!(!answer.headers().contains_key(CONTENT_LENGTH));
    let first = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"{\"jobs_submitted\":") && first.ends_with(b"}\n"));
    assert_eq!(start.elapsed(), Duration::ZERO);
    let rest = answer.collect().await.unwrap().to_bytes();
    let lines: Vec<Value> =
        rest.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["status"], &lines[0]["seenBy"]), (&json!("COMPLETE"), &json!("org")));
    assert_eq!(lines[1], json!({ "remaining_job_ids": [], "timed_out": "false" }));
    assert_eq!(start.elapsed(), Duration::from_millis(140));
}

#[tokio::test(start_paused = true)]
async fn a_long_query_is_fetched_once_by_polling() {
    let settings = Settings { query_time: Duration::from_secs(45), ..unlimited() };
    let omni = FakeOmni::new(settings);
    let mut client = Client::new(&omni, &omni.0.settings.keys[0]).await;
    let start = Instant::now();
    let run = client.call(Method::POST, "/api/v1/query/run", json!({ "query": {} })).await;
    assert_eq!(start.elapsed().as_secs(), 10);
    let footer = run.body.split(|&b| b == b'\n').nth(1).unwrap();
    let footer: Value = serde_json::from_slice(footer).unwrap();
    assert_eq!(footer["timed_out"], "true");
    let job = footer["remaining_job_ids"][0].as_str().unwrap().to_owned();
    let target = format!("/api/v1/query/wait?job_ids=%5B%22{job}%22%5D");
    let poll = client.get(&target).await;
    assert_eq!(start.elapsed().as_secs(), 40);
    assert!(poll.body.ends_with(b"\"timed_out\":\"true\"}\n"));
    let poll = client.get(&format!("/api/v1/query/wait?jobIds={job}")).await;
    assert_eq!(start.elapsed().as_secs(), 45);
    assert!(poll.body.starts_with(b"{") && poll.body.ends_with(b"\"timed_out\":\"false\"}\n"));
    assert!(String::from_utf8_lossy(&poll.body).contains("COMPLETE"));
    let again = client.get(&target).await;
    assert!(!String::from_utf8_lossy(&again.body).contains("COMPLETE"));
    let document = json!({ "query": {}, "resultType": "csv" });
    let late = client.call(Method::POST, "/api/v1/query/run", document).await;
    assert_eq!(late.status, StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_write_changes_what_lists_show_and_is_counted() {
    let (omni, mut client) = unlimited_client().await;
    let names = |answer: Answer| -> Vec<String> {
        let labels = answer.json()["labels"].as_array().unwrap().clone();
        labels.iter().map(|label| label["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(client.get("/api/v1/labels").await).len(), 4);
    let created = client.call(Method::POST, "/api/v1/labels", json!({ "name": "new/one" })).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let again = client.call(Method::POST, "/api/v1/labels", json!({ "name": "new/one" })).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert_eq!(omni.applied("new/one"), 1);
    let rename = json!({ "name": "newer", "serial": "w-2" });
    let renamed = client.call(Method::PUT, "/api/v1/labels/new%2Fone", rename).await;
    assert_eq!((renamed.status, omni.applied("w-2")), (StatusCode::OK, 1));
    assert!(names(client.get("/api/v1/labels").await).contains(&"newer".to_owned()));
    let used = client.call(Method::DELETE, "/api/v1/labels/verified", Value::Null).await;
    assert_eq!(used.status, StatusCode::CONFLICT);
    let gone = client.call(Method::DELETE, "/api/v1/labels/newer", Value::Null).await;
    assert_eq!((gone.status, gone.body.len()), (StatusCode::NO_CONTENT, 0));
    let folder = client.call(Method::POST, "/api/v1/folders", json!({ "name": "My Folder" })).await;
    let id = folder.json()["id"].as_str().unwrap().to_owned();
    let found = client.get("/api/v1/folders?path=my-folder").await.json();
    assert_eq!(found["records"][0]["id"], id);
    client.call(Method::DELETE, &format!("/api/v1/folders/{id}"), Value::Null).await;
    let found = client.get("/api/v1/folders?path=my-folder").await.json();
    assert_eq!(found["pageInfo"]["totalRecords"], 0);
}

#[tokio::test(start_paused = true)]
async fn suggestions_have_a_cooldown_of_the_applications_own() {
    let (_, mut client) = unlimited_client().await;
    let models = client.get("/api/v1/models?pageSize=1").await.json();
    let model = models["records"][0]["id"].as_str().unwrap();
    let target = format!("/api/v1/models/{model}/suggestions/generate");
    assert_eq!(client.call(Method::POST, &target, json!({})).await.status, StatusCode::ACCEPTED);
    tokio::time::advance(Duration::from_millis(100_500)).await;
    let refused = client.call(Method::POST, &target, json!({})).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.fields[RETRY_AFTER], "200");
    assert!(!refused.fields.contains_key("x-omni-waf-action"));
    let document = refused.json();
    assert_eq!((&document["status"], &document["retryAfterSeconds"]), (&json!(429), &json!(200)));
    tokio::time::advance(Duration::from_millis(199_500)).await;
    assert_eq!(client.call(Method::POST, &target, json!({})).await.status, StatusCode::ACCEPTED);
}

#[tokio::test(start_paused = true)]
async fn mcp_speaks_events_or_json_as_the_client_accepts() {
    let (_, mut client) = unlimited_client().await;
    let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {} });
    let plain = client.call(Method::POST, "/mcp/https", call.clone()).await;
    assert_eq!(plain.json()["id"], 7);
    let request = client
        .ask(Method::POST, "/mcp/https")
        .header("accept", "application/json, text/event-stream")
        .body(Body::full(call.to_string()))
        .unwrap();
    let events = client.send(request).await;
    assert_eq!(events.fields[CONTENT_TYPE], "text/event-stream");
    let text = String::from_utf8(events.body.to_vec()).unwrap();
    assert_eq!(text.matches("data: ").count(), 3);
    assert!(
        text.trim_end().rsplit("data: ").next().unwrap().contains("\\\"seenBy\\\":\\\"org\\\"")
    );
    let start = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize" });
    let start = client.call(Method::POST, "/mcp/https", start).await;
    assert!(start.fields.contains_key("mcp-session-id"));
    let note = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let note = client.call(Method::POST, "/mcp/https", note).await;
    assert_eq!(note.status, StatusCode::ACCEPTED);
    let end = client.call(Method::DELETE, "/mcp/https", Value::Null).await;
    assert_eq!(end.status, StatusCode::NO_CONTENT);
    let request = client.ask(Method::GET, "/mcp/https").body(Body::empty()).unwrap();
    let mut stream = client.open(request).await.unwrap();
    let before = Instant::now();
    for _ in 0..3 {
        assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap()[..1], *b":");
    }
    assert_eq!(before.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn a_hundred_mebibytes_come_and_go_without_being_held() {
    const SIZE: u64 = 100 * 1024 * 1024;
    let (omni, mut client) = unlimited_client().await;
    let target = format!("/api/v1/dashboards/d1/download/j1?bytes={SIZE}");
    let request = client.ask(Method::GET, &target).body(Body::empty()).unwrap();
    let answer = client.open(request).await.unwrap();
    assert_eq!(answer.headers()[CONTENT_LENGTH], SIZE.to_string());
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=\"d1.pdf\"");
    let mut body = answer.into_body();
    let mut offset = 0;
    while let Some(frame) = body.frame().await {
        let chunk = frame.unwrap().into_data().unwrap();
        assert_eq!(chunk[0], pattern(offset));
        offset += chunk.len() as u64;
        assert_eq!(chunk[chunk.len() - 1], pattern(offset - 1));
    }
    assert_eq!(offset, SIZE);

    let upload = client
        .ask(Method::POST, "/api/v1/uploads")
        .header(CONTENT_TYPE, "multipart/form-data; boundary=x")
        .header("x-serial", "u-1");
    let answer = client.send(upload.body(bodies::file(SIZE)).unwrap()).await;
    assert_eq!(
        (answer.status, answer.json()["sizeBytes"].as_u64()),
        (StatusCode::CREATED, Some(SIZE))
    );
    let seen = &omni.arrivals()[1].body;
    assert_eq!((seen.bytes, seen.complete), (SIZE, true));
    assert_eq!(omni.applied("u-1"), 1);
    assert_eq!(client.get("/api/v1/uploads").await.json()["pageInfo"]["totalRecords"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_download_that_nobody_reads_is_not_sent() {
    let (near, far) = tokio::io::duplex(1024);
    let omni = FakeOmni::new(unlimited());
    let serving = omni.clone();
    let server = tokio::spawn(async move { serving.serve_connection(far).await });
    let bearer = omni.0.settings.keys[0].token().to_owned();
    let (read, mut write) = tokio::io::split(near);
    let head = format!(
        "GET /api/v1/dashboards/d/download/j?bytes=1073741824 HTTP/1.1\r\n\
         authorization: Bearer {bearer}\r\n\r\n"
    );
    tokio::io::AsyncWriteExt::write_all(&mut write, head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!server.is_finished(), "the server waits for its reader");
    drop((read, write));
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn resets_come_where_they_are_ordered() {
    for (reset, applied) in [(Reset::OnArrival, 0), (Reset::BeforeHead, 1)] {
        let (omni, mut client) = unlimited_client().await;
        omni.fail(Rule::new(Fault::Reset(reset)).method(Method::POST).times(1));
        let request = client.ask(Method::POST, "/api/v1/labels");
        let request = request.body(Body::full(r#"{"name":"n"}"#)).unwrap();
        assert!(client.open(request).await.is_err());
        assert_eq!(omni.applied("n"), applied, "{reset:?}");
    }
    let target = "/api/v1/dashboards/d/download/j?bytes=1000";
    // Where no length is declared, the first chunk is what comes: here the header line.
    let line = br#"{"jobs_submitted":{"00000000-0009-4000-8000-0000000f4241":"result-1"}}"#.len();
    for (method, target, reset, kept) in [
        (Method::GET, target, Reset::AfterHead, 0),
        (Method::GET, target, Reset::MidBody, 500),
        (Method::POST, "/api/v1/query/run", Reset::MidBody, line + 1),
    ] {
        let (omni, mut client) = unlimited_client().await;
        omni.fail(Rule::new(Fault::Reset(reset)));
        let request = client.ask(method, target).body(Body::full("{}")).unwrap();
        let mut answer = client.open(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let mut got = 0;
        let cut = loop {
            match answer.frame().await {
                Some(Ok(frame)) => got += frame.into_data().unwrap().len(),
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        assert!(cut, "{reset:?}");
        assert_eq!(got, kept, "{reset:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_failures_are_as_ordered() {
    let (omni, mut client) = unlimited_client().await;
    let target = "/api/v1/whoami";
    omni.fail(Rule::new(Fault::Status(StatusCode::BAD_GATEWAY)).times(1));
    assert_eq!(client.get(target).await.status, StatusCode::BAD_GATEWAY);
    assert_eq!(omni.arrivals()[0].verdict, Verdict::Failed);
    assert_eq!(client.get(target).await.status, StatusCode::OK);
    omni.fail(Rule::new(Fault::Block(RetryAfter::Seconds(7))).times(1));
    let blocked = client.get(target).await;
    assert_eq!(blocked.fields[RETRY_AFTER], "7");
    assert_eq!((blocked.status.as_u16(), omni.refusals()), (429, 0));
    omni.fail(Rule::new(Fault::Block(RetryAfter::Date(Duration::from_secs(9)))).times(1));
    let date = client.get(target).await.fields[RETRY_AFTER].clone();
    assert!(httpdate::parse_http_date(date.to_str().unwrap()).is_ok());
    omni.fail(Rule::new(Fault::EchoAuthorization).times(1));
    let echo = client.get(target).await;
    assert!(echo.fields["x-echo-authorization"].to_str().unwrap().contains(client.key.token()));
    assert!(String::from_utf8_lossy(&echo.body).contains(client.key.token()));
    let elsewhere = HeaderValue::from_static("https://evil.example/");
    omni.fail(Rule::new(Fault::Redirect(elsewhere)).times(1));
    assert_eq!(client.get(target).await.fields["location"], "https://evil.example/");
    let own = Response::builder().status(418).header("x-a", "b").body(Bytes::from("tea")).unwrap();
    omni.fail(Rule::new(Fault::Answer(own)).times(1));
    assert_eq!(client.get(target).await.body, "tea");
    let start = Instant::now();
    omni.fail(Rule::new(Fault::SlowHead(Duration::from_secs(5))).times(1));
    client.get(target).await;
    assert_eq!(start.elapsed().as_secs(), 5);
    let slow = Fault::SlowBody { piece: 100, pause: Duration::from_secs(1) };
    omni.fail(Rule::new(slow));
    let answer = client.get("/api/v1/dashboards/d/download/j?bytes=1000").await;
    assert_eq!((answer.body.len(), start.elapsed().as_secs()), (1000, 15));
    omni.heal();
    client.get(target).await;
    assert_eq!(start.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_answer_is_not_sent_again_but_counts() {
    let (omni, mut client) = unlimited_client().await;
    let tag = client.get("/api/v1/labels").await.fields[ETAG].clone();
    let request = client.ask(Method::GET, "/api/v1/labels").header(IF_NONE_MATCH, tag);
    let answer = client.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(omni.arrived(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_log_keeps_the_head_and_never_shows_the_token() {
    let (omni, mut client) = unlimited_client().await;
    let request = client.ask(Method::POST, "/api/v1/labels?x=%2F").header("x-forwarded-for", "1");
    client.send(request.body(Body::full(r#"{"name":"n"}"#)).unwrap()).await;
    omni.wait_for_arrivals(1).await;
    let arrival = &omni.arrivals()[0];
    assert_eq!(arrival.sender, Sender::Owner("org".into()));
    assert_eq!(arrival.target, "/api/v1/labels?x=%2F");
    assert_eq!(arrival.headers["x-forwarded-for"], "1");
    assert!(arrival.headers[AUTHORIZATION].to_str().unwrap().ends_with(client.key.token()));
    assert_eq!((arrival.body.bytes, arrival.body.complete), (12, true));
    let shown = format!("{arrival:?} {:?} {omni:?}", arrival.headers);
    assert!(!shown.contains(client.key.token()));
    omni.forget();
    assert_eq!((omni.arrived(), omni.applied("n")), (0, 0));
}

#[tokio::test]
async fn it_serves_real_sockets_until_it_is_stopped() {
    let omni = FakeOmni::new(Settings::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(omni.clone().serve(listener, stop.clone()));
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let (send, connection) = handshake(TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = Client { send, key: omni.0.settings.keys[0].clone() };
    for _ in 0..2 {
        assert_eq!(client.get("/api/v1/folders").await.status, StatusCode::OK);
    }
    assert!(omni.arrivals().iter().all(|arrival| arrival.connection == 0));
    stop.cancel();
    serving.await.unwrap();
    let _ = connection.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

//! The MCP endpoint by the letter of its specification.

use super::*;

const EVENTS: &str = "application/json, text/event-stream";

fn message(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

async fn client_of(mcp: Mcp) -> Client {
    let omni = FakeOmni::new(Settings { mcp, ..unlimited() });
    Client::new(&omni, &Settings::default().keys[0]).await
}

/// A request with these fields.
async fn ask(client: &mut Client, method: Method, fields: &[(&str, &str)], body: Value) -> Answer {
    let mut request = client.ask(method, "/mcp/https");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.send(request.body(Body::full(body.to_string())).unwrap()).await
}

/// A new session's id.
async fn begin(client: &mut Client, version: &str) -> String {
    let hello = message("initialize", json!({ "protocolVersion": version }));
    let answer = client.call(Method::POST, "/mcp/https", hello).await;
    assert_eq!(answer.json()["result"]["protocolVersion"], version);
    answer.fields["mcp-session-id"].to_str().unwrap().to_owned()
}

/// The ids and the messages of a stream's events.
fn events(answer: &Answer) -> Vec<(Option<String>, Option<Value>)> {
    assert_eq!(answer.fields[CONTENT_TYPE], "text/event-stream");
    let text = std::str::from_utf8(&answer.body).unwrap();
    let event = |text: &str| {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        (
            field("id: ").map(str::to_owned),
            field("data: ").and_then(|data| serde_json::from_str(data).ok()),
        )
    };
    text.split_terminator("\n\n").map(event).collect()
}

#[tokio::test(start_paused = true)]
async fn a_session_is_its_owners_until_it_is_ended() {
    let omni =
        FakeOmni::new(Settings { keys: three_keys(), mcp: Mcp::SessionsRequired, ..unlimited() });
    let mut client = Client::new(&omni, &three_keys()[0]).await;
    let mut other = Client::new(&omni, &three_keys()[1]).await;
    let session = begin(&mut client, "2025-06-18").await;
    let second = begin(&mut client, "2025-06-18").await;
    assert!(session.len() == 32 && session != second, "{session} {second}");
    let list = message("tools/list", json!({}));
    for (named, status) in [(Some(&*session), 200), (Some("made-up"), 404), (None, 400)] {
        let fields: Vec<_> = named.map(|id| ("mcp-session-id", id)).into_iter().collect();
        let answer = ask(&mut client, Method::POST, &fields, list.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{named:?}");
        if status != 200 {
            let theirs = ask(&mut client, Method::GET, &fields, Value::Null).await;
            assert_eq!(theirs.status.as_u16(), status, "{named:?}");
        }
    }
    let fields = [("mcp-session-id", &*session)];
    let theirs = ask(&mut other, Method::POST, &fields, list.clone()).await;
    assert_eq!(theirs.status, StatusCode::NOT_FOUND);
    assert_eq!(ask(&mut other, Method::DELETE, &fields, Value::Null).await.status, 404);
    assert_eq!(ask(&mut client, Method::DELETE, &fields, Value::Null).await.status, 204);
    for method in [Method::POST, Method::GET, Method::DELETE] {
        assert_eq!(ask(&mut client, method, &fields, list.clone()).await.status, 404);
    }
    let fields = [("mcp-session-id", &*second)];
    assert_eq!(ask(&mut client, Method::POST, &fields, list).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_after_the_last_event_that_came() {
    for (version, primed) in [("2025-06-18", 0), ("2025-11-25", 1)] {
        let mut client = client_of(Mcp::Sessions).await;
        let session = begin(&mut client, version).await;
        let fields = [("mcp-session-id", &*session), ("accept", EVENTS)];
        let arguments = json!({ "steps": 4, "closeAfter": 2 });
        let params = json!({
            "name": "getData", "arguments": arguments, "_meta": { "progressToken": "t" },
        });
        let run = message("tools/call", params);
        let first = events(&ask(&mut client, Method::POST, &fields, run).await);
        assert_eq!(first.len(), 2 + primed);
        assert_eq!(first[primed].1.as_ref().unwrap()["params"]["progress"], 1);
        assert!(primed == 0 || first[0].1.is_none());
        let last = first.last().unwrap().0.clone().unwrap();
        for _ in 0..2 {
            let fields = [fields[0], fields[1], ("last-event-id", &*last)];
            let rest = events(&ask(&mut client, Method::GET, &fields, Value::Null).await);
            let mut said = rest.iter().map(|(_, message)| message.as_ref().unwrap());
            let progress: Vec<_> =
                said.clone().map(|one| one["params"]["progress"].clone()).collect();
            assert_eq!(progress, [json!(3), json!(4), Value::Null]);
            assert_eq!(said.next_back().unwrap()["result"]["isError"], false);
        }
        let fields = [fields[0], ("last-event-id", "9-9")];
        assert_eq!(ask(&mut client, Method::GET, &fields, Value::Null).await.status, 400);
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_waits_for_the_client_where_it_says_so() {
    let omni = FakeOmni::new(unlimited());
    let key = &Settings::default().keys[0];
    let (mut client, mut other) = (Client::new(&omni, key).await, Client::new(&omni, key).await);
    let session = begin(&mut client, "2025-06-18").await;
    let fields = [("mcp-session-id", &*session), ("accept", EVENTS)];
    let arguments = json!({ "steps": 2, "acknowledged": true });
    let run = message("tools/call", json!({ "name": "getData", "arguments": arguments }));
    let mut request = client.ask(Method::POST, "/mcp/https");
    for (name, value) in fields {
        request = request.header(name, value);
    }
    let mut body =
        client.open(request.body(Body::full(run.to_string())).unwrap()).await.unwrap().into_body();
    let said = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": {} });
    for step in 0..3 {
        assert!(body.frame().await.unwrap().is_ok());
        let waits = tokio::time::timeout(Duration::from_secs(60), body.frame()).await;
        assert_eq!(waits.is_err(), step < 2, "step {step}");
        let told = ask(&mut other, Method::POST, &fields, said.clone()).await;
        assert_eq!(told.status, StatusCode::ACCEPTED);
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_speaks_first_on_a_stream_that_its_session_ends() {
    let omni = FakeOmni::new(unlimited());
    let key = &Settings::default().keys[0];
    let (mut client, mut other) = (Client::new(&omni, key).await, Client::new(&omni, key).await);
    let session = begin(&mut client, "2025-11-25").await;
    let fields = [("mcp-session-id", &*session)];
    let (answer, _) = tokio::join!(ask(&mut client, Method::GET, &fields, Value::Null), async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        let pong = json!({ "jsonrpc": "2.0", "id": "are-you-there", "result": {} });
        assert_eq!(ask(&mut other, Method::POST, &fields, pong).await.status, 202);
        assert_eq!(ask(&mut other, Method::DELETE, &fields, Value::Null).await.status, 204);
    });
    let said = events(&answer);
    assert_eq!(said[1].1.as_ref().unwrap()["method"], "notifications/message");
    assert_eq!(said[2].1.as_ref().unwrap()["method"], "ping");
    assert_eq!(said.iter().filter(|event| **event == (None, None)).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_offered_is_refused_by_its_own_status() {
    let list = message("tools/list", json!({}));
    let mut client = client_of(Mcp::Sessions).await;
    let fields = [("mcp-protocol-version", "2024-01-01")];
    assert_eq!(ask(&mut client, Method::POST, &fields, list.clone()).await.status, 400);
    let unknown = message("tools/call", json!({ "name": "dropTables" }));
    let answer = ask(&mut client, Method::POST, &[], unknown).await;
    assert_eq!(answer.json()["error"]["code"], -32602);
    let mut client = client_of(Mcp::NoSessions).await;
    for method in [Method::GET, Method::DELETE] {
        let answer = ask(&mut client, method, &[], Value::Null).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.fields["allow"]),
            (405, &"POST".parse().unwrap())
        );
    }
    assert_eq!(ask(&mut client, Method::POST, &[], list).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn without_a_handshake_fields_must_say_what_the_body_says() {
    let mut client = client_of(Mcp::Stateless).await;
    let call = |version: &str| {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({ "name": "getData", "arguments": { "topic": "Ä" }, "_meta": meta });
        message("tools/call", params)
    };
    let good = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "getData"),
        ("mcp-param-topic", "=?base64?w4Q=?="),
    ];
    let answer = ask(&mut client, Method::POST, &good, call("2026-07-28")).await;
    assert_eq!(
        events(&answer).last().unwrap().1.as_ref().unwrap()["result"]["resultType"],
        "complete"
    );
    for missing in 0..good.len() {
        let fields: Vec<_> = (0..4).filter(|&nth| nth != missing).map(|nth| good[nth]).collect();
        let answer = ask(&mut client, Method::POST, &fields, call("2026-07-28")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json()["error"]["code"], -32020, "without {}", good[missing].0);
    }
    let mut old = good;
    old[0].1 = "2025-11-25";
    let answer = ask(&mut client, Method::POST, &old, call("2025-11-25")).await;
    assert_eq!(answer.json()["error"]["data"]["supported"], json!(["2026-07-28"]));
    assert_eq!(ask(&mut client, Method::GET, &[], Value::Null).await.status, 405);
}

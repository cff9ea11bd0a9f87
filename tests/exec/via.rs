//! What becomes of the program's calls: by which way they go, and that the relay adds nothing and holds
//! nothing back.

use std::time::Duration;

use http::StatusCode;
use omnigate::fake_omni::{Fault, Rule};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{Call, House, StandIn, Start};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[tokio::test]
async fn the_report_says_what_reached_omni() {
    let house = House::roomy().await;
    let missing = Fault::Status(StatusCode::NOT_FOUND);
    house.omni.fail(Rule::new(missing).path("/api/v1/folders"));
    let report = house.path("report.json");
    let script = "for i in 1 2 3; do curl -sfo /dev/null $OMNI_BASE_URL/api/v1/labels || exit 9; done; \
                  curl -so /dev/null $OMNI_BASE_URL/api/v1/folders; \
                  curl -so /dev/null -X CONNECT $OMNI_BASE_URL/x; \
                  curl -so /dev/null $OMNI_BASE_URL/api/v1/%2fx; exit 4";
    let via = format!("http://{}", house.gateway);
    let ended =
        Start::new(&["--via", &via, "--report", report.to_str().unwrap(), "sh", "-c", script])
            .run()
            .await;
    assert_eq!(ended.code(), Some(4), "{}", ended.err);
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(house.omni.arrived(), 4);
    assert_eq!(report["sent"], 4, "{report:#}");
    assert_eq!((&report["exit_code"], &report["program"]), (&json!(4), &json!("sh")));
    assert_eq!((&report["answered"]["200"], &report["answered"]["404"]), (&json!(3), &json!(1)));
    assert_eq!(
        (&report["failed"], &report["unanswered"], &report["cut"]),
        (&json!(0), &json!(0), &json!(0))
    );
    let all: u64 =
        report["answered"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(report["calls"], all);
    assert_eq!(
        (&report["budget"]["limit"], &report["budget"]["sent_in_window"]),
        (&json!(100_000), &json!(4))
    );
    assert!(ended.err.contains("3 answered with 2xx, "), "{}", ended.err);
    assert!(ended.err.contains("4 sent to Omni, 0 at no cost"), "{}", ended.err);
}

#[tokio::test]
async fn a_kept_answer_is_counted_as_one_that_cost_nothing() {
    let keeps = "[[routes]]\nname = \"labels\"\npath = \"/api/v1/labels\"\nmethods = [\"GET\"]\n\
                 credential = \"org\"\ncache = { ttl = \"1h\" }";
    let house = House::build("limit = 1000\nprofile = \"burst\"", keeps).await;
    let script =
        "for i in 1 2 3; do curl -sfo /dev/null $OMNI_BASE_URL/api/v1/labels || exit 9; done";
    let ended = Start::script(house.gateway, script).run().await;
    assert_eq!((ended.code(), house.omni.arrived()), (Some(0), 1), "{}", ended.err);
    assert!(ended.err.contains("1 sent to Omni, 2 at no cost"), "{}", ended.err);
}

#[tokio::test]
async fn calls_that_exceed_the_budget_wait_and_are_said_to() {
    let house =
        House::build("limit = 2\nwindow = \"1s\"\nguard = \"200ms\"\nprofile = \"burst\"", "")
            .await;
    let script =
        "for i in 1 2 3 4 5; do curl -sfo /dev/null $OMNI_BASE_URL/api/v1/labels & done; wait";
    let ended = Start::script(house.gateway, script).run().await;
    assert!(ended.err.contains("5 answered with 2xx"), "{}", ended.err);
    assert!(house.omni.highest_in_any_window(Duration::from_secs(1)) <= 2);
    assert!(ended.err.contains("5 sent to Omni, 0 at no cost; waited "), "{}", ended.err);
}

#[tokio::test]
async fn nothing_of_a_stream_is_held_back() {
    let mut gateway = StandIn::start().await;
    let mut exec = Start::script(gateway.address, "curl -sN $OMNI_BASE_URL/stream").spawn();
    let mut call = gateway.call().await;
    call.write(CHUNKED).await;
    // Each piece is at the program before the next one is written.
    for piece in ["one", "two", "data: three\n\n"] {
        call.write(&chunk(piece)).await;
        assert_eq!(exec.reads(piece.len()).await, piece);
    }
    call.write("0\r\n\r\n").await;
    assert_eq!(exec.ends().await.code(), Some(0));
}

#[tokio::test]
async fn a_request_body_goes_on_as_it_comes() {
    let mut gateway = StandIn::start().await;
    let script = "curl -sN -T . -H 'Expect:' $OMNI_BASE_URL/upload";
    let mut exec = Start::script(gateway.address, script).spawn();
    exec.say("first").await;
    let mut call = gateway.call().await;
    assert!(call.head.starts_with("PUT /upload HTTP/1.1\r\n"), "{}", call.head);
    let mut seen = String::new();
    while !seen.contains("first") {
        let mut some = [0; 64];
        let read = tokio::io::AsyncReadExt::read(&mut call.stream, &mut some).await.unwrap();
        assert_ne!(read, 0, "{seen}");
        seen.push_str(std::str::from_utf8(&some[..read]).unwrap());
    }
    call.write("HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\ndone").await;
    assert_eq!(exec.reads(4).await, "done");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_whole_one() {
    for head in [CHUNKED, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"] {
        let mut gateway = StandIn::start().await;
        let script = "curl -sN $OMNI_BASE_URL/x; echo; echo $?";
        let mut exec = Start::script(gateway.address, &script.replace("echo; ", "")).spawn();
        let mut call = gateway.call().await;
        call.write(head).await;
        let piece = if head == CHUNKED { chunk("half") } else { "half".to_owned() };
        call.write(&piece).await;
        assert_eq!(exec.reads(4).await, "half");
        drop(call);
        let ended = exec.ends().await;
        // curl's own: a partial file.
        assert_eq!(ended.out, "18\n", "{}", ended.err);
        assert!(ended.err.contains("1 with an answer that broke off"), "{}", ended.err);
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_is_given_up_at_the_gateway_too() {
    let mut gateway = StandIn::start().await;
    let script = "curl -sN $OMNI_BASE_URL/x & p=$!; read line; kill $p; wait $p; echo left; read line; exit 0";
    for answered in [false, true] {
        let mut exec = Start::script(gateway.address, script).spawn();
        let mut call = gateway.call().await;
        if answered {
            call.write(CHUNKED).await;
            call.write(&chunk("begun")).await;
            assert_eq!(exec.reads(5).await, "begun");
        }
        exec.say("leave\n").await;
        assert_eq!(exec.line().await, "left");
        call.sees_the_end().await;
        exec.say("end\n").await;
        let ended = exec.ends().await;
        let says = if answered { "1 not read to the end" } else { "1 given up by the program" };
        assert!(ended.err.contains(says), "{}", ended.err);
    }
}

#[tokio::test]
async fn a_call_is_sent_once_and_a_dead_connection_is_not_used() {
    let mut gateway = StandIn::start().await;
    let script = "curl -s -o /dev/null -w '%{http_code}\\n' $OMNI_BASE_URL/one; read line; \
                  curl -s -o /dev/null -w '%{http_code}\\n' $OMNI_BASE_URL/two; \
                  curl -s -o /dev/null -w '%{http_code}\\n' -X POST -d x $OMNI_BASE_URL/three";
    let mut exec = Start::script(gateway.address, script).spawn();
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let mut one = gateway.call().await;
    one.write(ok).await;
    assert_eq!(exec.line().await, "200");
    drop(one);
    exec.say("\n").await;
    let mut two = gateway.call().await;
    assert!(two.head.starts_with("GET /two "), "{}", two.head);
    two.write(ok).await;
    assert_eq!(exec.line().await, "200");
    // The third comes by the connection of the second, which ends without an answer.
    let three = two.next().await.unwrap();
    assert!(three.head.starts_with("POST /three "), "{}", three.head);
    drop(three);
    assert_eq!(exec.line().await, "502");
    assert!(gateway.is_idle(), "it was sent again");
    let ended = exec.ends().await;
    assert!(ended.err.contains("1 without an answer of the gateway"), "{}", ended.err);
}

async fn answered(mut call: Call) -> Call {
    call.write(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\nkeep-alive: x\r\n\r\n",
    )
    .await;
    call
}

#[tokio::test]
async fn calls_say_what_they_were_told_to_and_keep_their_own_words() {
    let mut gateway = StandIn::start().await;
    let via = format!("http://{}", gateway.address);
    let script = "curl -si -H 'Connection: x-mine' -H 'X-Mine: 1' -H \"Authorization: Bearer $OMNI_API_KEY\" \
                  $OMNI_BASE_URL/one?a=%20b; \
                  curl -s -H 'Priority: u=0' -H 'X-Omnigate-Caller: me' $OMNI_BASE_URL/two";
    let arguments = ["--via", &via, "--priority", "batch", "--as", "nightly", "sh", "-c", script];
    let exec = Start::new(&arguments).env("OMNIGATE_TOKEN", "word").spawn();
    let one = answered(gateway.call().await).await;
    assert!(one.head.starts_with("GET /one?a=%20b HTTP/1.1\r\n"), "{}", one.head);
    assert_eq!(one.field("host"), Some(gateway.address.to_string().as_str()));
    assert_eq!(
        (one.field("priority"), one.field("x-omnigate-caller")),
        (Some("u=6"), Some("nightly"))
    );
    assert_eq!((one.field("x-omnigate-token"), one.field("authorization")), (Some("word"), None));
    assert_eq!((one.field("x-mine"), one.field("connection")), (None, None));
    let two = answered(gateway.call().await).await;
    assert_eq!((two.field("priority"), two.field("x-omnigate-caller")), (Some("u=0"), Some("me")));
    let ended = exec.ends().await;
    assert!(!ended.out.contains("keep-alive: x"), "{}", ended.out);
}

#[tokio::test]
async fn pages_and_other_users_do_not_come_in() {
    let mut gateway = StandIn::start().await;
    let mut script = String::new();
    for tried in [
        "-H 'Host: evil.example'",
        "-H 'Origin: https://evil.example'",
        "-H 'Sec-Fetch-Site: cross-site'",
        "-H 'Referer: https://evil.example/'",
        "-A 'Mozilla/5.0'",
        "-H 'Access-Control-Request-Method: POST' -X OPTIONS",
    ] {
        script.push_str(&format!(
            "curl -s -o /dev/null -w '%{{http_code}}\\n' {tried} $OMNI_BASE_URL/x;"
        ));
    }
    let mut expected = "403\n".repeat(6);
    if rustix::process::geteuid().is_root() {
        script.push_str(
            "setpriv --reuid 65534 --clear-groups curl -s -w '\\n%{http_code}\\n' $OMNI_BASE_URL/x",
        );
        let detail = "another user of this machine holds the other end of this connection; whoever wants to \
                      make calls runs `omnigate exec` too";
        let problem = json!({
            "detail": detail, "status": 403, "title": "You may not do this here",
            "type": "urn:omnigate:problem:caller-denied",
        });
        expected.push_str(&format!("{problem}\n403\n"));
    }
    let ended = Start::script(gateway.address, &script).run().await;
    assert_eq!(ended.out, expected, "{}", ended.err);
    assert!(gateway.is_idle(), "one of them reached the gateway");
    assert!(ended.err.contains(" turned away"), "{}", ended.err);
}

#[tokio::test]
async fn the_program_is_not_started_without_a_gateway() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    let ended = Start::script(nobody, "echo ran").run().await;
    assert_eq!((ended.code(), ended.out.as_str()), (Some(69), ""));
    assert!(ended.err.contains("omnigate serve"), "{}", ended.err);
    // The fake Omni is no gateway, and is not asked for anything that costs.
    let ended = Start::new(&["--via", "https://acme.omniapp.co", "echo", "ran"]).run().await;
    assert_eq!((ended.code(), ended.out.as_str()), (Some(2), ""));
    assert!(ended.err.contains("this is Omni itself"), "{}", ended.err);
    let ended = Start::new(&["--via", "localhost:6664", "echo", "ran"]).run().await;
    assert_eq!((ended.code(), ended.out.as_str()), (Some(2), ""));
}

#[tokio::test]
async fn a_gateway_that_knows_its_callers_by_a_token_is_shown_ours() {
    let digest =
        Sha256::digest(b"the word").iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let callers = format!("[callers.nightly]\nmatch = {{ token_sha256 = \"{digest}\" }}");
    let house = House::guarded(&callers).await;
    let script = "curl -sf -H \"Authorization: Bearer $OMNI_API_KEY\" -o /dev/null $OMNI_BASE_URL/api/v1/labels; \
                  echo $? $OMNIGATE_TOKEN";
    let ended = Start::script(house.gateway, script).run().await;
    assert_eq!((ended.code(), ended.out.as_str()), (Some(69), ""), "{}", ended.err);
    assert!(ended.err.contains("OMNIGATE_TOKEN"), "{}", ended.err);
    let ended = Start::script(house.gateway, script).env("OMNIGATE_TOKEN", "the word").run().await;
    assert_eq!((ended.code(), ended.out.as_str()), (Some(0), "0\n"), "{}", ended.err);
    assert_eq!(house.omni.arrived(), 1);
}

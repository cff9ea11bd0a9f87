//! Whatever callers say, the metrics speak in the words of the config and in our own.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;

use http::{HeaderName, HeaderValue, Method};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Caller, Gateway, Plan, get, soon};

/// So many go over one connection, written at once.
const BATCH: usize = 100;

/// Whatever a caller makes up has this in it.
const TRICK: &str = "trick";

/// Besides the route `all` of every gateway here: one that keeps answers, so that most tries cost
/// nothing upstream, and one that takes one method.
const CONFIG: &str = r#"
limit = 100000
profile = "burst"
[callers.crawler]
[[routes]]
name = "kept"
path = "/api/v1/folders"
credential = "org"
cache = { ttl = "1h" }
[[routes]]
name = "closed"
path = "/closed/{*rest}"
methods = ["GET"]
credential = "org"
"#;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// All values of labels that there may be, but for statuses, and for buckets' bounds.
const WORDS: [(&str, &[&str]); 12] = [
    ("route", &["all", "kept", "closed", "none"]),
    ("method", &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"]),
    ("budget", &["omni"]),
    ("caller", &["anonymous", "crawler"]),
    ("priority", &["interactive", "normal", "batch"]),
    ("credential", &["org"]),
    ("state", &["ready", "stale", "rejected", "missing"]),
    ("by", &["omni", "operator"]),
    ("within_budget", &["true", "false"]),
    ("version", &[env!("CARGO_PKG_VERSION")]),
    (
        "outcome",
        &[
            "hit",
            "stale",
            "collapsed",
            "miss",
            "bypass",
            "exported",
            "failed",
            "dropped",
            "accepted",
            "refused",
            "unclear",
        ],
    ),
    // Of a problem, and of a retry.
    (
        "reason",
        &[
            "bad-request",
            "loop",
            "browser-request",
            "caller-unknown",
            "caller-denied",
            "no-route",
            "method-not-allowed",
            "body-too-large",
            "sensitive",
            "impersonation-denied",
            "queue-full",
            "queue-deadline",
            "paused",
            "shared-budget-lost",
            "draining",
            "credential-unavailable",
            "upstream-unreachable",
            "upstream-timeout",
            "upstream-busy",
            "overloaded",
            "not-cached",
            "caller-limit",
            "credential-rejected",
            "internal",
            "stale",
            "unreachable",
            "broken",
            "timeout",
        ],
    ),
];

/// An upstream that answers whatever it is asked at once: it is not what is looked at here.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut stream, mut line) = (BufReader::new(stream), String::new());
                // No call here has a body.
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                    if line == "\r\n" {
                        stream.write_all(ANSWER).await.unwrap();
                    }
                    line.clear();
                }
            });
        }
    });
    address
}

/// The names and labels of all samples.
async fn series(gateway: &Gateway) -> BTreeSet<String> {
    let page = gateway.admin("/metrics").await.text();
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

/// Calls that were answered and counted.
async fn counted(gateway: &Gateway) -> f64 {
    let page = gateway.admin("/metrics").await.text();
    let counts =
        page.lines().filter(|l| l.starts_with("http_server_request_duration_seconds_count"));
    counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

/// The nth call. None of them ends its connection.
fn call(nth: usize) -> String {
    let (mut method, mut target) = ("GET".to_owned(), "/api/v1/folders".to_owned());
    let mut host = "127.0.0.1".to_owned();
    let mut field = "X-Nothing: x".to_owned();
    let made_up = format!("{TRICK}{nth}");
    match nth % 20 {
        0 => target = format!("/api/v1/{made_up}"),
        1 => target = format!("/{made_up}/%22%7D%20{made_up}%7B%C3%A9"),
        2 => target = format!("/api/v1/folders?{made_up}={made_up}&route=%22{made_up}%22"),
        3 | 4 => (method, target) = (made_up.to_uppercase(), "/closed/x".to_owned()),
        5 => (method, target) = (format!("get{nth}"), format!("/closed/{made_up}")),
        6 => host = format!("{made_up}.example"),
        7 => field = format!("X-Omnigate-Caller: {made_up}"),
        8 => field = format!("X-Omnigate-Caller: crawler\r\nX-Omnigate-Caller: {made_up}"),
        9 => field = format!("X-Omnigate-Caller: crawler\",caller=\"{made_up}"),
        10 => field = format!("{made_up}: {made_up}"),
        11 => {
            field = format!("traceparent: 00-{nth:032x}-{nth:016x}-01\r\ntracestate: {made_up}=1")
        }
        12 => field = format!("traceparent: {made_up}\r\nbaggage: {made_up}={made_up}"),
        13 => field = format!("X-Request-Id: {made_up}"),
        14 => field = format!("Priority: u={nth}, {made_up}"),
        15 => field = format!("User-Agent: {made_up}\r\nReferer: http://{made_up}/"),
        16 => field = format!("Cache-Control: {made_up}=1\r\nAccept: {made_up}/{made_up}"),
        17 => field = format!("X-Forwarded-For: {made_up}\r\nForwarded: for={made_up}"),
        18 => field = format!("Cookie: {made_up}={made_up}\r\nAccept-Language: {made_up}"),
        _ => field = format!("X-Omnigate-Caller: crawler\r\nX-{made_up}: {{}}\"\\"),
    }
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{field}\r\n")
}

/// These calls, one after the other over one connection.
async fn pipelined(gateway: &Gateway, calls: std::ops::Range<usize>) {
    let mut text = String::new();
    for nth in calls.clone() {
        let last = if nth + 1 == calls.end { "Connection: close\r\n" } else { "" };
        write!(text, "{}{last}\r\n", call(nth)).unwrap();
    }
    let mut caller = TcpStream::connect(gateway.address()).await.unwrap();
    let mut answers = Vec::new();
    let (mut reads, mut writes) = caller.split();
    let (sent, _) = soon(async {
        tokio::join!(writes.write_all(text.as_bytes()), reads.read_to_end(&mut answers))
    })
    .await;
    sent.unwrap();
    let starts = answers.windows(9).filter(|start| start == b"HTTP/1.1 ").count();
    assert!(starts >= calls.len(), "{starts} of {} answers", calls.len());
}

/// Calls after which the connection ends, one each.
async fn closing(gateway: &Gateway, nth: usize) {
    let made_up = format!("{TRICK}{nth}");
    for head in [
        format!("GET /{made_up}/../../{made_up} HTTP/1.1\r\nHost: 127.0.0.1"),
        format!("GET /%00{made_up}%0a HTTP/1.1\r\nHost: 127.0.0.1"),
        format!("GET / HTTP/1.1\r\nHost: {made_up}\r\nHost: {made_up}"),
        format!("GET / HTTP/1.1\r\n{made_up}"),
        made_up.clone(),
        format!("GET /\"}}{made_up} HTTP/1.1\r\nHost: 127.0.0.1"),
        format!("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: {made_up}"),
        format!("GET http://{made_up}/ HTTP/1.1\r\nHost: 127.0.0.1"),
        format!("CONNECT {made_up}:1 HTTP/1.1\r\nHost: {made_up}"),
    ] {
        let mut caller = TcpStream::connect(gateway.address()).await.unwrap();
        let text = format!("{head}\r\nConnection: close\r\n\r\n");
        let _ = caller.write_all(text.as_bytes()).await;
        let _ = soon(caller.read_to_end(&mut Vec::new())).await;
    }
}

async fn in_h2(gateway: &Gateway, calls: std::ops::Range<usize>) {
    let mut caller = Caller::connect_h2(gateway.address()).await;
    for nth in calls {
        let made_up = format!("{TRICK}{nth}");
        let mut request = get(&format!("/closed/{made_up}?{made_up}"));
        *request.method_mut() = Method::from_bytes(made_up.to_uppercase().as_bytes()).unwrap();
        let value = HeaderValue::from_str(&made_up).unwrap();
        for name in ["x-omnigate-caller", "traceparent", "x-request-id", &made_up] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, value.clone());
        }
        let _ = caller.call(request).await;
    }
}

async fn at_the_admin_port(gateway: &Gateway, nth: usize) {
    let made_up = format!("{TRICK}{nth}");
    for page in ["/", "/metrics?name[]=", "/metrics/", "/readyz?", "/-/"] {
        gateway.admin(&format!("{page}{made_up}")).await;
    }
    for page in [
        "/-/cache/purge?route=",
        "/-/pause?budget=",
        "/-/resume?budget=",
        "/-/log?filter=",
        "/-/credentials/",
    ] {
        let end = if page.ends_with("credentials/") { "/test" } else { "" };
        gateway.tell(&format!("{page}{made_up}{end}")).await;
    }
}

/// One of each kind, from `nth` on.
async fn round(gateway: &Gateway, nth: usize) {
    closing(gateway, nth).await;
    in_h2(gateway, nth..nth + 20).await;
    at_the_admin_port(gateway, nth).await;
}

/// So many calls try it in HTTP/1.1, and some more in HTTP/2, with heads that end the connection, and at the
/// admin port.
async fn try_it(calls: usize) {
    let (budget, origin) = (CONFIG.to_owned(), Some(upstream().await));
    let house = Plan { budget, origin, ..Plan::default() }.build().await;
    let gateway = house.start().await;
    for path in ["/api/v1/folders", "/api/v1/labels"] {
        let mut request = get(path);
        request.headers_mut().insert("x-omnigate-caller", HeaderValue::from_static("crawler"));
        gateway.caller().await.call(request).await.unwrap();
    }
    pipelined(&gateway, 0..BATCH).await;
    round(&gateway, 0).await;
    let (before, began) = (series(&gateway).await, counted(&gateway).await);

    let batches: Vec<usize> = (1..=calls / BATCH).collect();
    for pair in batches.chunks(4) {
        let all = pair.iter().map(|nth| pipelined(&gateway, nth * BATCH..(nth + 1) * BATCH));
        futures_util::future::join_all(all).await;
    }
    for nth in 1..=calls / 500 {
        round(&gateway, nth * calls).await;
    }

    let (after, made) = (series(&gateway).await, counted(&gateway).await - began);
    println!("{made} calls; {} series before, {} after", before.len(), after.len());
    assert!(made >= calls as f64, "{made} were counted");
    for one in &after {
        assert!(!one.to_ascii_lowercase().contains(TRICK), "{one}");
        let labels = one.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (name, value) = label.split_once('=').unwrap();
            let value = value.trim_matches('"');
            let fits = match name {
                "le" => value == "+Inf" || value.parse::<f64>().is_ok(),
                "status" => value.parse::<u16>().is_ok_and(|status| status < 600),
                name => WORDS.iter().any(|(word, known)| *word == name && known.contains(&value)),
            };
            assert!(fits, "{label} in {one}");
        }
    }
    // Each kind of call had been there once. What may come up later depends on the moment, not on what
    // callers say: an upstream connection that had just ended, a permit that was late.
    let new: Vec<&String> = after.difference(&before).collect();
    let by_chance = |one: &String| {
        one.starts_with("omnigate_retries_total{") || one.contains("outcome=\"collapsed\"")
    };
    assert!(new.iter().all(|one| by_chance(one)), "{new:#?}");
    assert!(new.len() <= 8, "{new:#?}");
}

#[tokio::test]
async fn a_thousand_hostile_calls_add_no_series() {
    try_it(1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten times as many; tests/run --all runs it"]
async fn ten_thousand_hostile_calls_add_no_series() {
    try_it(10_000).await;
}

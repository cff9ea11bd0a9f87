//! A token that occurs nowhere else, every path driven at trace level, and then a search in all that
//! anybody is shown: the log, the spans, the metrics, the admin pages, what callers are told.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use omnigate::base::Body;
use omnigate::fake_omni::{Fault, Key, KeyKind, Reset, RetryAfter, Rule};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Duration;

use crate::harness::disguise::find;
use crate::harness::{Caller, Collector, Gateway, House, Plan, get, key, soon, until};

/// What a caller brings of its own, which is nobody's business either.
const CALLERS_OWN: &str = "omni_osk_callersown7Zk3mT9xW2bV8nR5cY1aD4eF6gH7iJ0kL2o";

/// What the admin port shows.
const PAGES: [&str; 6] = ["/", "/-/status.json", "/livez", "/readyz", "/metrics", "/none"];

/// What tells the admin port to do something, or tries to.
const ORDERS: [&str; 7] = [
    "/-/reload",
    "/-/cache/purge",
    "/-/credentials/org/test",
    "/-/pause?budget=none",
    "/-/resume?budget=none",
    "/-/log?filter=a=b=c",
    "/-/log?filter=trace",
];

/// Starts a gateway whose spans go there, all of them.
async fn start(house: &House, collector: &Collector) -> Gateway {
    let endpoint = collector.endpoint();
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let mut gateway = Gateway::spawn(&house.config(), &env);
    gateway.serves().await;
    gateway
}

/// All that the admin port shows, in each form, and what it says to each order.
async fn shown(gateway: &Gateway) -> String {
    let mut answers = Vec::new();
    for page in PAGES {
        answers.push(gateway.admin(page).await);
    }
    for order in ORDERS {
        answers.push(gateway.tell(order).await);
    }
    let mut open = get("/metrics");
    open.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/openmetrics-text"));
    let open = gateway.operator().await.call(open).await.unwrap();
    assert!(open.text().ends_with("# EOF\n"));
    answers.push(open);
    let mut shown = String::new();
    for answer in answers {
        shown += &format!("{} {:?}\n{}\n", answer.status, answer.headers, answer.text());
    }
    shown + &events(gateway, 2).await
}

/// So many of what the status page is told each second.
async fn events(gateway: &Gateway, many: usize) -> String {
    let mut operator = gateway.operator().await;
    let answer = soon(operator.send(get("/-/events"))).await.unwrap();
    assert_eq!(answer.status(), 200);
    let (mut body, mut text) = (answer.into_body(), String::new());
    while text.matches("event: status\n").count() < many || !text.ends_with("\n\n") {
        let frame = soon(body.frame()).await.expect("it goes on").unwrap();
        text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
    }
    text
}

async fn raw(gateway: &Gateway, request: &str) -> String {
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The same over HTTP/2, by a caller who brings a key.
async fn h2(gateway: &Gateway, path: &str) {
    let mut request = get(path);
    let own = format!("Bearer {CALLERS_OWN}").parse().unwrap();
    request.headers_mut().insert(AUTHORIZATION, own);
    let _ = Caller::connect_h2(gateway.address()).await.call(request).await;
}

/// Drives everything that can go right or wrong with a call; gives what callers were told.
async fn drive(house: &House, gateway: &Gateway) -> String {
    let mut told = String::new();
    let faults = [
        Fault::Status(StatusCode::BAD_GATEWAY),
        Fault::Reset(Reset::OnArrival),
        Fault::Reset(Reset::BeforeHead),
        Fault::Reset(Reset::AfterHead),
        Fault::Reset(Reset::MidBody),
        Fault::SlowBody { piece: 64, pause: Duration::from_millis(1) },
        // Last, since it pauses everybody.
        Fault::Block(RetryAfter::Seconds(1)),
    ];
    for fault in faults {
        house.omni.fail(Rule::new(fault));
        for method in [Method::GET, Method::POST] {
            let mut request = get("/api/v1/folders");
            *request.method_mut() = method;
            if let Ok(answer) = gateway.caller().await.call(request).await {
                told += &format!("{:?}\n{}\n", answer.headers, answer.text());
            }
        }
        h2(gateway, "/api/v1/folders").await;
        house.omni.heal();
    }
    // An upstream that shows what it got: the log must not repeat it.
    house.omni.fail(Rule::new(Fault::EchoAuthorization));
    gateway.get("/api/v1/folders").await;
    h2(gateway, "/api/v1/folders").await;
    house.omni.heal();
    for request in [
        "GET /api/../secret HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: y\r\nConnection: close\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: upgrade, close\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "TRACE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nVia: 1.1 omnigate\r\nConnection: close\r\n",
        "BAD / HTTP/9.9\r\n",
    ] {
        let request = format!("{request}Authorization: Bearer {CALLERS_OWN}\r\n\r\n");
        told += &raw(gateway, &request).await;
    }
    // A caller's own token is no less a secret, right or wrong.
    let head = "GET /api/v1/folders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    told += &raw(gateway, &format!("{head}X-Omnigate-Token: {CALLERS_OWN}\r\n\r\n")).await;
    // Nor where nobody expects one; a refusal stands on the status page, with its id.
    let own = CALLERS_OWN;
    for (line, field) in [
        ("GET /api/v1/folders".to_owned(), format!("X-Request-Id: {own}")),
        ("GET /api/v1/../folders".to_owned(), format!("X-Request-Id: {}", own.to_uppercase())),
        (format!("GET /api/v1/{own}"), "Accept: */*".to_owned()),
        (format!("GET /api/v1/folders?{own}&x={own}&{own}=1"), "Accept: */*".to_owned()),
        (format!("{own} /api/v1/folders"), "Accept: */*".to_owned()),
        ("GET /api/v1/folders".to_owned(), format!("X-Omnigate-Caller: {own}")),
        ("GET /api/v1/folders".to_owned(), format!("Traceparent: {own}\r\nTracestate: a={own}")),
        ("GET /api/v1/folders".to_owned(), format!("Prefer: {own}=1\r\nPriority: {own}")),
        ("GET /api/v1/folders".to_owned(), format!("User-Agent: {own}\r\nBaggage: a={own}")),
    ] {
        let rest = "HTTP/1.1\r\nHost: localhost\r\nConnection: close";
        told += &raw(gateway, &format!("{line} {rest}\r\n{field}\r\n\r\n")).await;
    }
    // A caller who leaves in the middle of its upload.
    let mut left = TcpStream::connect(gateway.address()).await.unwrap();
    let half = "POST /api/v1/folders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{";
    left.write_all(half.as_bytes()).await.unwrap();
    drop(left);
    told
}

#[tokio::test]
async fn no_credential_is_ever_logged_or_told() {
    // Who is refused by the limit gives up after a second, not after the minutes of a pause.
    let budget = "limit = 100000\nprofile = \"burst\"\nmax_wait = \"1s\"".to_owned();
    let house = Plan { log: "trace", budget, ..Plan::default() }.build().await;
    let collector = Collector::open().await;
    let gateway = start(&house, &collector).await;
    assert_eq!(gateway.get("/api/v1/whoami").await.status, 200);
    let mut told = drive(&house, &gateway).await;

    // A new token, one that upstream does not know, one that is no token, none at all.
    let second = Key::made_up(KeyKind::Organization, "second");
    house.keep(&second);
    gateway.signal(Signal::HUP);
    gateway.says("credential refreshed").await;
    told += &gateway.get("/api/v1/whoami").await.text();
    let broken = format!("{} {}", key().token(), second.token());
    house.keep(&Key::new(KeyKind::Organization, "broken", &broken));
    gateway.signal(Signal::HUP);
    gateway.says("credential not readable").await;
    told += &gateway.get("/api/v1/whoami").await.text();
    told += &shown(&gateway).await;
    gateway.signal(Signal::TERM);
    let served = gateway.ends().await;

    // And an upstream that is not there; the log is told to say all while the gateway runs.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let house = Plan { log: "info", origin: Some(gone), ..Plan::default() }.build().await;
    let gateway = start(&house, &collector).await;
    assert_eq!(gateway.tell("/-/log?filter=trace").await.status, 200);
    let request = Request::post("/api/v1/folders").header("host", "127.0.0.1");
    let request = request.header("content-type", "application/json");
    let request = request.body(Body::full(Bytes::from_static(b"{}"))).unwrap();
    let answer = gateway.caller().await.call(request).await.unwrap();
    assert_eq!(answer.status, 502);
    told += &answer.text();
    until(async || (gateway.exchanges(502) == 1).then_some(())).await;
    // h2 is who says the most.
    h2(&gateway, "/api/v1/folders").await;
    told += &shown(&gateway).await;
    gateway.signal(Signal::TERM);
    let failed = gateway.ends().await;
    for part in [&served.said, &failed.said] {
        assert!(part.contains("\"level\":\"TRACE\""), "the log was not at trace level");
    }
    let said = format!("{}\n{}", served.said, failed.said);
    let spans = collector.taken();

    let traces = said.lines().filter(|line| line.contains("\"level\":\"TRACE\"")).count();
    println!("{} lines were logged, {traces} of them at trace level", said.lines().count());
    println!("{} bytes of spans came", spans.len());
    for word in ["http.request.method", "http.request.resend_count", "error.type"] {
        assert!(spans.contains(word), "no span has {word}");
    }
    for secret in [key().token(), second.token(), CALLERS_OWN] {
        let reversed: String = secret.chars().rev().collect();
        for secret in [secret, &reversed] {
            assert_eq!(find(secret, &said), None, "a credential was logged");
            assert_eq!(find(secret, &told), None, "a credential was told");
            assert_eq!(find(secret, &spans), None, "a credential is in a span");
        }
    }
}

//! What `explain` says of a call is what becomes of it: each call of a table is explained by the config
//! alone, and by the gateway, and then made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use omnigate::admin::Desk;
use omnigate::app::Rooms;
use omnigate::base::{Peer, Remote};
use omnigate::config;
use omnigate::fake_omni::{Arrival, Key, KeyKind, Sender, Settings};
use omnigate::proxy::explained::Outcome;
use omnigate::proxy::{Call, Explanation};
use omnigate::telemetry::Exposition;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use sha2::{Digest, Sha256};

use crate::harness::{Caller, Collector, House, Plan, SECOND, fake, get, key, said};

/// Everything that a route and a caller can say.
const RICH: &str = r#"
[[listeners]]
address = "unix:callers.sock"
[callers.nightly]
priority = "batch"
max_priority = "batch"
[callers.lister]
routes = ["labels", "documents"]
[callers.cluster]
match = { cidr = "127.0.9.0/24" }
priority = "interactive"
max_wait = "5s"
[callers.app]
match = { uid = 1001 }
[callers.keyed]
match = { token_sha256 = "TOKEN" }
[credentials.a]
kind = "organization"
secret = "a"
budget = "omni"
[credentials.b]
kind = "organization"
secret = "b"
budget = "omni"
[credentials.mine]
kind = "personal"
secret = "mine"
budget = "omni"
[credentials.agents]
kind = "mcp"
secret = "agents"
budget = "omni"
[[routes]]
name = "documents"
path = "/api/v1/documents"
methods = ["GET"]
credential = "org"
priority = "interactive"
cache = { ttl = "30s", stale = "10m", vary = ["accept-language"] }
[[routes]]
name = "labels"
path = "/api/v1/labels"
methods = ["GET"]
credential = ["a", "b"]
cache = { ttl = "1m", same_data = true }
[[routes]]
name = "models"
path = "/api/v1/models"
methods = ["GET"]
credential = "org"
cache = {}
respect_upstream = true
[[routes]]
name = "folders"
path = "/api/v1/folders"
methods = ["GET", "POST"]
credential = "mine"
max_wait = "9s"
max_body = "64B"
forward_headers = ["idempotency-key"]
[[routes]]
name = "one-document"
path = "/api/v1/documents/{id}"
credential = "mine"
[[routes]]
name = "below-documents"
path = "/api/v1/documents/{*rest}"
methods = ["GET", "PUT"]
credential = "org"
[[routes]]
name = "query"
path = "/api/v1/query/run"
methods = ["POST"]
credential = "org"
impersonation = { pin = "m-1" }
[[routes]]
name = "anybody"
path = "/api/v1/content"
credential = "org"
impersonation = "allow"
[[routes]]
name = "people"
path = "/api/scim/{*rest}"
credential = "org"
sensitive = true
[[routes]]
name = "mcp"
path = "/mcp/https"
credential = "agents"
[[routes]]
name = "pinned-mcp"
path = "/mcp/pinned"
credential = "agents"
impersonation = { pin = "m-1" }
"#;

/// A call, and what becomes of it: `KEY ROUTE` where it is sent, `STATUS TYPE` where it is refused.
struct Sample {
    becomes: &'static str,
    call: Call,
}

fn sample(becomes: &'static str, method: &str, url: &str) -> Sample {
    let call = Call { method: method.to_owned(), url: url.to_owned(), ..Call::default() };
    Sample { becomes, call }
}

impl Sample {
    fn with(mut self, name: &str, value: &str) -> Self {
        self.call.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn from(mut self, from: &str) -> Self {
        self.call.from = Some(from.to_owned());
        self
    }

    fn json(mut self, body: &str) -> Self {
        self.call.body = Some(body.as_bytes().to_vec());
        self.with("content-type", "application/json")
    }
}

/// Each with a query of its own, so that no answer to one is kept for another.
fn samples() -> Vec<Sample> {
    let by = "x-omnigate-caller";
    vec![
        // Which route, and which key.
        sample("org documents", "GET", "/api/v1/documents?pageSize=1"),
        sample("org documents", "GET", "/API/v1/Documents/?pageSize=2"),
        sample("org documents", "GET", "http://127.0.0.1:9/api/v1/documents?pageSize=3"),
        sample("org documents", "GET", "http://localhost:6664/api/v1/documents?pageSize=4#here"),
        sample("org documents", "HEAD", "/api/v1/documents?pageSize=5"),
        sample("org all", "POST", "/api/v1/documents").json(r#"{"name":"x","userId":"7"}"#),
        sample("mine one-document", "GET", "/api/v1/documents/%64%6f%63?n=6"),
        sample("org below-documents", "GET", "/api/v1/documents/d/draft?n=7"),
        sample("org all", "DELETE", "/api/v1/documents/d/draft?n=8"),
        sample("pool labels", "GET", "/api/v1/labels?n=9").with("accept", "application/json"),
        sample("mine folders", "GET", "/api/v1/folders?n=10").with("idempotency-key", "k-1"),
        sample("org all", "PATCH", "/api/v1/folders/f?n=11").json("{}"),
        sample("org anybody", "GET", "/api/v1/content?userId=7&n=12"),
        sample("org people", "GET", "/api/scim/v2/Users?n=13"),
        sample("org all", "GET", "/?n=14"),
        // Who asks.
        sample("org documents", "GET", "/api/v1/documents?n=15").with(by, "nightly"),
        sample("pool labels", "GET", "/api/v1/labels?n=16").with(by, "lister"),
        sample("403 caller-denied", "GET", "/api/v1/folders?n=17").with(by, "lister"),
        sample("mine folders", "GET", "/api/v1/folders?n=18").from("127.0.9.7").with(by, "lister"),
        sample("mine folders", "GET", "/api/v1/folders?n=19").from("uid:1001"),
        sample("mine folders", "GET", "/api/v1/folders?n=20").with("x-omnigate-token", "t-keyed"),
        sample("org all", "GET", "/n?n=21").with("authorization", "Bearer t-keyed"),
        sample("401 caller-unknown", "GET", "/api/v1/folders").with("x-omnigate-token", "wrong"),
        // How urgent, how long.
        sample("org all", "GET", "/n?n=22").with("priority", "u=6").with("prefer", "wait=3"),
        sample("org all", "GET", "/n?n=23").with(by, "nightly").with("priority", "u=1"),
        // What is kept.
        sample("org documents", "GET", "/api/v1/documents?n=24").with("cache-control", "no-store"),
        sample("org documents", "GET", "/api/v1/documents?n=25").with("accept-language", "de"),
        sample("org documents", "GET", "/api/v1/documents?n=26").with("range", "bytes=0-9"),
        sample("504 not-cached", "GET", "/api/v1/documents?n=27")
            .with("cache-control", "only-if-cached"),
        sample("org models", "GET", "/api/v1/models?n=28").with("user-agent", "crawler/1"),
        sample("org documents", "GET", "/api/v1/documents?n=29").json("{}"),
        sample("org documents", "GET", "/api/v1/documents?n=30").with("if-match", "\"e\""),
        // Fields.
        sample("org all", "GET", "/n?n=31")
            .with("cookie", "zqsecretzq")
            .with("x-forwarded-for", "10.0.0.1")
            .with("connection", "x-own")
            .with("x-own", "1")
            .with("user-agent", "curl/8"),
        // For whom.
        sample("org query", "POST", "/api/v1/query/run").json(r#"{"userId":"m-1","query":{}}"#),
        sample("403 impersonation-denied", "POST", "/api/v1/query/run").json(r#"{"query":{}}"#),
        sample("403 impersonation-denied", "POST", "/api/v1/folders").json(r#"{"userId":"7"}"#),
        sample("403 impersonation-denied", "GET", "/api/v1/documents?userId=7"),
        sample("agents mcp", "POST", "/mcp/https").json(r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#),
        sample("agents pinned-mcp", "POST", "/mcp/pinned").json("{}"),
        sample("403 impersonation-denied", "POST", "/mcp/https")
            .with("x-mcp-user-id", "7")
            .json("{}"),
        // What is refused.
        sample("413 body-too-large", "POST", "/api/v1/folders").json(&"[1]".repeat(40)),
        sample("415 bad-request", "POST", "/api/v1/folders").with("content-encoding", "gzip"),
        sample("403 sensitive", "GET", "/api/v1/api-keys"),
        sample("405 method-not-allowed", "PUT", "/mcp/https"),
        sample("404 no-route", "GET", "/.well-known/oauth-protected-resource"),
        sample("400 bad-request", "GET", "/api/v1/../v1/documents"),
        sample("400 bad-request", "GET", "/api/v1/%2e%2e/documents"),
        sample("400 bad-request", "GET", "/api//v1/documents"),
        sample("400 bad-request", "GET", "/api/v1/documents/a%2Fb"),
        sample("403 browser-request", "GET", "http://elsewhere.example/api/v1/documents"),
        sample("403 browser-request", "GET", "/api/v1/documents")
            .with("origin", "https://x.example"),
        sample("403 browser-request", "GET", "/n").with("user-agent", "Mozilla/5.0"),
        sample("508 loop", "GET", "/n?n=32").with("via", "1.1 ourselves"),
    ]
}

async fn rich(collector: Option<omnigate::net::Dial>) -> House {
    let more = RICH.replace("TOKEN", &sha256("t-keyed"));
    let keys = ["a", "b"].map(|owner| Key::made_up(KeyKind::Organization, owner));
    let keys = keys.into_iter().chain([
        key(),
        Key::made_up(KeyKind::Personal, "mine"),
        Key::made_up(KeyKind::Mcp, "agents"),
    ]);
    let plan = Plan {
        budget: "limit = 100000\nprofile = \"burst\"".to_owned(),
        more,
        fake: Settings { keys: keys.collect(), ..Plan::default().fake },
        collector,
        ..Plan::default()
    };
    plan.build().await
}

fn sha256(token: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn peer(from: Option<&str>) -> Peer {
    let remote = match from.map(|from| from.strip_prefix("uid:").ok_or(from)) {
        None => Remote::Tcp(SocketAddr::from(([127, 0, 0, 1], 50_000))),
        Some(Err(ip)) => Remote::Tcp(SocketAddr::new(ip.parse().unwrap(), 50_000)),
        Some(Ok(uid)) => Remote::Unix { uid: Some(uid.parse().unwrap()) },
    };
    Peer::plain(remote, Some(SocketAddr::from(([127, 0, 0, 1], 6664))))
}

/// The call as a client makes it.
fn request(call: &Call) -> Request<Full<Bytes>> {
    let url = call.url.split('#').next().unwrap();
    let (host, target) = match url.strip_prefix("http://") {
        Some(rest) => rest.split_at(rest.find('/').unwrap()),
        None => ("127.0.0.1:6664", url),
    };
    // Nobody asks upstream by our port.
    let host = if host == "127.0.0.1:9" { "127.0.0.1:6664" } else { host };
    let mut request =
        Request::builder().method(call.method.as_str()).uri(target).header(HOST, host);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    request.body(Full::from(call.body.clone().unwrap_or_default())).unwrap()
}

/// What a call came to.
struct Came {
    status: u16,
    headers: HeaderMap,
    kind: Option<String>,
    arrived: Vec<Arrival>,
}

/// Makes the call. Of a stream only the head is waited for.
async fn make(house: &House, call: &Call, streaming: bool) -> Came {
    let before = house.omni.arrived();
    let mut caller = Caller::http1(house.connect_as(peer(call.from.as_deref()))).await;
    let (head, body) = caller.send(request(call)).await.unwrap().into_parts();
    let body = match streaming {
        true => Bytes::new(),
        false => body.collect().await.unwrap().to_bytes(),
    };
    let problem: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let kind = problem.and_then(|problem| Some(problem["type"].as_str()?.to_owned()));
    let arrived = house.omni.arrivals().into_iter().skip(before).collect();
    Came { status: head.status.as_u16(), headers: head.headers, kind, arrived }
}

fn cache_status(came: &Came) -> String {
    let field = came.headers.get("cache-status").map_or("", |value| value.to_str().unwrap());
    let words = field.split("; ").nth(1).unwrap_or_default();
    words.strip_prefix("fwd=").or(words.strip_prefix("detail=")).unwrap_or(words).to_owned()
}

/// Holds what was said of a call against what became of it.
fn compare(what: &str, said: &Explanation, came: &Came) {
    match said.verdict.outcome {
        Outcome::Refused => {
            let kind = said.verdict.kind.clone();
            let is = (Some(came.status), came.kind.clone());
            assert_eq!(is, (said.verdict.status, kind), "{what}");
            assert!(came.arrived.is_empty(), "{what}");
        }
        Outcome::Kept => {
            assert!(came.arrived.is_empty() && came.kind.is_none(), "{what}: {said:#?}");
            assert_eq!(cache_status(came), "hit", "{what}");
        }
        Outcome::Sent | Outcome::SentOrKept => {
            let [arrival] = &came.arrived[..] else { panic!("{what}: {said:#?}") };
            let Sender::Owner(owner) = &arrival.sender else { panic!("{what}: {arrival:?}") };
            assert!(said.credentials.iter().any(|key| key.name == **owner), "{what}: {owner}");
            let target = match &said.call.query {
                Some(query) => format!("{}?{query}", said.call.path.as_ref().unwrap()),
                None => said.call.path.clone().unwrap(),
            };
            assert_eq!(arrival.target.to_string(), target, "{what}");
            let fields = said.fields.as_ref().unwrap();
            let expected: BTreeSet<&str> =
                fields.go.iter().chain(&fields.added).map(String::as_str).collect();
            let arrived: BTreeSet<&str> =
                arrival.headers.keys().map(|name| name.as_str()).collect();
            assert_eq!(arrived, expected, "{what}");
            for dropped in &fields.dropped {
                let ours = dropped.name == "authorization";
                assert!(ours || !arrived.contains(dropped.name.as_str()), "{what}: {dropped:?}");
            }
            assert_eq!(cache_status(came), said.cache.as_ref().unwrap().status, "{what}");
        }
    }
}

/// What the table says of the call.
fn becomes(said: &Explanation) -> String {
    if said.verdict.outcome == Outcome::Refused {
        let kind = said.verdict.kind.as_deref().unwrap().rsplit(':').next().unwrap();
        return format!("{} {kind}", said.verdict.status.unwrap());
    }
    let key = match &said.credentials[..] {
        [one] => one.name.as_str(),
        _ => "pool",
    };
    format!("{key} {}", said.route.as_ref().unwrap().name)
}

/// The spans of the exchanges, by request id.
async fn exchanges(house: &House, collector: &Collector) -> BTreeMap<String, Span> {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    house.rooms.telemetry.end().await;
    let spans = collector.spans().into_iter().filter(|span| span.kind == SpanKind::Server as i32);
    spans.map(|span| (said(&span, "omnigate.request_id").unwrap(), span)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_a_call_is_what_becomes_of_it() {
    let (collector, dial) = Collector::open();
    let house = rich(Some(dial)).await;
    let config = config::load(&house.folder.path().join("omnigate.toml")).unwrap();
    let unread = Rooms::unread(&config).await.unwrap();
    // A name by which this gateway knows itself, for the call that comes round.
    house.caller().await.get("/first").await;
    let via = house.omni.arrivals()[0].headers["via"].to_str().unwrap().to_owned();
    let mut all = Vec::new();
    for (number, Sample { becomes: expected, mut call }) in samples().into_iter().enumerate() {
        call.headers.push(("x-request-id".to_owned(), format!("call-{number}")));
        let loops = expected == "508 loop";
        call.headers.iter_mut().filter(|_| loops).filter(|one| one.0 == "via").for_each(|one| {
            one.1.clone_from(&via);
        });
        let what = format!("{number}: {} {}", call.method, call.url);
        let alone = unread.explain(call.clone()).await.unwrap();
        let live = house.rooms.explain(call.clone()).await.unwrap();
        assert_eq!(becomes(&live), expected, "{what}");
        // The pseudonym is each process's own.
        if !loops {
            assert_eq!(without_now(&alone), without_now(&live), "{what}");
        }
        let sent = live.verdict.outcome != Outcome::Refused;
        let streaming = sent && live.sending.as_ref().is_some_and(|sending| sending.streaming);
        let came = make(&house, &call, streaming).await;
        compare(&what, &live, &came);
        if !loops {
            compare(&what, &alone, &came);
        }
        // Once more: what was kept by the first call answers the second.
        let again = house.rooms.explain(call.clone()).await.unwrap();
        compare(&format!("{what}, again"), &again, &make(&house, &call, streaming).await);
        all.push((what, number, live));
    }
    let kept = all.len();
    assert!(kept >= 50, "{kept}");
    let spans = exchanges(&house, &collector).await;
    for (what, number, live) in all {
        let span = &spans[&format!("call-{number}")];
        let name = |word| said(span, word);
        assert_eq!(name("omnigate.caller"), live.caller.map(|caller| caller.name), "{what}");
        assert_eq!(name("omnigate.route"), live.route.map(|route| route.name), "{what}");
        if live.verdict.outcome != Outcome::Refused {
            let priority = live.priority.map(|priority| priority.value);
            assert_eq!(name("omnigate.queue.priority"), priority, "{what}");
        }
    }
}

/// Without what only a gateway that runs can say.
fn without_now(said: &Explanation) -> Explanation {
    let mut said = said.clone();
    said.now = None;
    said.verdict.why = said.verdict.why.replace(", at once", "");
    for key in &mut said.credentials {
        (key.state, key.age_s) = (None, None);
    }
    if let Some(cache) = &mut said.cache {
        (cache.now, cache.age_s, cache.fresh_for_s) = (None, None, None);
        for (_, number) in cache.key.iter_mut().flat_map(|key| &mut key.credentials) {
            *number = None;
        }
    }
    said
}

#[tokio::test(start_paused = true)]
async fn an_explanation_changes_nothing_and_repeats_no_secret() {
    let house = rich(None).await;
    house.caller().await.get("/api/v1/documents?pageSize=1").await;
    let counted = || house.desk().metrics(Exposition::Classic);
    let counts = |text: String| -> Vec<String> {
        // Not those of the process itself, which has the time to compute.
        let ours =
            text.lines().filter(|line| line.starts_with("omnigate") || line.starts_with("http"));
        let counts = ours.filter(|line| line.contains("_total") || line.contains("_count"));
        counts.map(str::to_owned).collect()
    };
    let (arrived, before) = (house.omni.arrived(), counts(counted()));
    let entries = house.rooms.cache.entries();
    for _ in 0..3 {
        for Sample { call, .. } in samples() {
            let said = house.desk().explain(call).await.unwrap();
            let text = format!("{said:?}{}", serde_json::to_string(&said).unwrap());
            for secret in ["zqsecretzq", "t-keyed", "Bearer", key().token()] {
                assert!(!text.contains(secret), "{secret}: {text}");
            }
        }
    }
    assert_eq!((house.omni.arrived(), counts(counted())), (arrived, before));
    assert_eq!((house.rooms.cache.entries(), house.queued()), (entries, 0));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_says_when_the_turn_comes_and_what_the_queue_would_refuse() {
    let budget = "profile = \"burst\"\nlimit = 1\nwindow = \"9s\"\nguard = \"1s\"".to_owned();
    let house = Plan { budget, fake: fake(), ..Plan::default() }.build().await;
    let call = |wait: &str| {
        sample("", "GET", "/api/v1/labels").with("prefer", &format!("wait={wait}")).call
    };
    let at_once = house.rooms.explain(call("60")).await.unwrap().now.unwrap();
    assert_eq!((at_once.position, at_once.wait_s, at_once.free), (0, 0.0, 1));
    house.caller().await.get("/api/v1/labels").await;
    let waiting = house.call(get("/api/v1/labels").body(Full::default()).unwrap()).await;
    let now = house.rooms.explain(call("60")).await.unwrap().now.unwrap();
    assert_eq!((now.position, now.free), (1, 0));
    assert!((19.0..=20.1).contains(&now.wait_s), "{now:?}");
    let late = house.rooms.explain(call("5")).await.unwrap();
    assert_eq!(becomes(&late), "503 queue-deadline");
    assert!(late.verdict.mend.unwrap().contains("Prefer: wait"));
    waiting.abort();
    house.desk().pause(None, Some(60 * SECOND)).unwrap();
    let paused = house.rooms.explain(call("300")).await.unwrap().now.unwrap();
    assert!(paused.paused && paused.wait_s >= 59.0, "{paused:?}");
    assert_eq!(becomes(&house.rooms.explain(call("5")).await.unwrap()), "503 paused");
}

#[tokio::test(start_paused = true)]
async fn a_config_is_asked_without_its_secrets_its_state_or_a_way_out() {
    let house = rich(None).await;
    let path = house.folder.path().join("omnigate.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let config = config::parse(&text, &path).unwrap();
    // The state folder is another's, no secret can be had, and upstream is nowhere.
    for owner in ["org", "a", "b", "mine", "agents"] {
        std::fs::remove_file(house.folder.path().join(owner)).unwrap();
    }
    let unread = Rooms::unread(&config).await.unwrap();
    let said = unread.explain(sample("", "GET", "/api/v1/documents?n=1").call).await.unwrap();
    assert_eq!(becomes(&said), "org documents");
    assert!(said.now.is_none() && said.credentials[0].state.is_none(), "{said:?}");
    assert!(unread.explain(sample("", "GET", "no url").call).await.is_err());
}

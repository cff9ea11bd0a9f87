//! What spans say of a call, and what upstream is told of them.

use std::time::Duration;

use http_body_util::Full;
use omnigate::fake_omni::{Fault, Reset, RetryAfter, Rule, Settings};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::harness::{Collector, Plan, SECOND, fake, get, said};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn took(span: &Span) -> Duration {
    Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano)
}

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<Span> {
    spans.iter().filter(|span| span.kind == kind as i32).cloned().collect()
}

/// Everything that was exported, once the export has ended.
async fn exported(house: &crate::harness::House, collector: &Collector) -> Vec<Span> {
    // The record of an exchange is written when its body's last owner lets go of it.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    house.rooms.telemetry.end().await;
    collector.spans()
}

#[tokio::test(start_paused = true)]
async fn a_wait_and_a_refusal_of_the_limit_are_seen_in_the_callers_own_trace() {
    let (collector, dial) = Collector::open();
    // One send in 3 s: the second call waits for them.
    let plan = Plan {
        budget: "profile = \"burst\"\nlimit = 1\nwindow = \"2s\"\nguard = \"1s\"".to_owned(),
        collector: Some(dial),
        fake: Settings { ..fake() },
        ..Plan::default()
    };
    let house = plan.build().await;
    let mut caller = house.caller().await;
    assert_eq!(caller.get("/api/v1/labels").await.status, 200);
    let retry_after = RetryAfter::Seconds(1);
    house.omni.fail(Rule::new(Fault::Block(retry_after)).times(1));
    let request = get("/api/v1/documents?pageSize=7").header("traceparent", PARENT);
    let answer = caller.call(request.body(Full::default()).unwrap()).await;
    assert_eq!(answer.status, 200);

    let spans = exported(&house, &collector).await;
    let spans: Vec<Span> = spans.into_iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let [server] = &of_kind(&spans, SpanKind::Server)[..] else { panic!("{spans:#?}") };
    assert_eq!(server.name, "GET /{*rest}");
    assert_eq!(hex(&server.parent_span_id), "b7ad6b7169203331");
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/{*rest}"),
        ("http.response.status_code", "200"),
        ("url.path", "/api/v1/documents"),
        ("url.query", "pageSize=REDACTED"),
        ("url.scheme", "http"),
        ("omnigate.route", "all"),
        ("omnigate.caller", "anonymous"),
        ("omnigate.credential", "org"),
        ("omnigate.attempts", "2"),
        ("omnigate.request_id", answer.header("x-request-id")),
    ] {
        assert_eq!(said(server, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(said(server, "error.type"), None);

    let waits = of_kind(&spans, SpanKind::Internal);
    assert_eq!(waits.len(), 2, "{waits:#?}");
    let first = took(&waits[0]).as_secs_f64();
    assert!((2.9..3.1).contains(&first), "{first}");
    assert_eq!(waits[0].name, "omnigate.queue");
    assert_eq!(said(&waits[0], "omnigate.queue.priority").as_deref(), Some("normal"));
    assert_eq!(said(&waits[0], "omnigate.queue.position").as_deref(), Some("0"));

    let attempts = of_kind(&spans, SpanKind::Client);
    let [refused, served] = &attempts[..] else { panic!("{attempts:#?}") };
    assert_eq!(said(refused, "http.response.status_code").as_deref(), Some("429"));
    assert_eq!(said(refused, "error.type").as_deref(), Some("429"));
    assert_eq!(said(refused, "http.request.resend_count"), None);
    assert_eq!(said(served, "http.response.status_code").as_deref(), Some("200"));
    assert_eq!(said(served, "http.request.resend_count").as_deref(), Some("1"));
    let full = "http://127.0.0.1:9/api/v1/documents?pageSize=REDACTED";
    assert_eq!(said(served, "url.full").as_deref(), Some(full));
    assert!(said(served, "omni.trace_id").unwrap().starts_with("Root=1-"));
    for span in waits.iter().chain(&attempts) {
        assert_eq!(span.parent_span_id, server.span_id, "{span:#?}");
        assert!(server.start_time_unix_nano <= span.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= server.end_time_unix_nano);
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_that_nothing_is_to_be_recorded_is_heard() {
    let (collector, dial) = Collector::open();
    let house = Plan { collector: Some(dial), ..Plan::default() }.build().await;
    let unsampled = PARENT.replace("-01", "-00");
    let request = get("/api/v1/labels").header("traceparent", &unsampled);
    let mut caller = house.caller().await;
    assert_eq!(caller.call(request.body(Full::default()).unwrap()).await.status, 200);
    // A problem names the trace all the same.
    let request = get("/api/v1/%2e%2e/labels").header("traceparent", &unsampled);
    let refused = house.caller().await.call(request.body(Full::default()).unwrap()).await;
    assert_eq!(refused.json()["trace_id"], TRACE);
    assert_eq!(exported(&house, &collector).await, []);
}

#[tokio::test(start_paused = true)]
async fn upstream_hears_of_a_trace_only_where_the_route_says_so() {
    let (_collector, dial) = Collector::open();
    let more = "[[routes]]\nname = \"asked\"\npath = \"/api/v1/documents\"\ncredential = \"org\"\n\
                forward_headers = [\"traceparent\"]";
    let plan = Plan { collector: Some(dial), more: more.to_owned(), ..Plan::default() };
    let house = plan.build().await;
    for (path, parent) in [
        ("/api/v1/labels", Some(PARENT)),
        ("/api/v1/documents", Some(PARENT)),
        ("/api/v1/documents", None),
    ] {
        let mut request = get(path);
        if let Some(parent) = parent {
            request = request.header("traceparent", parent);
        }
        house.caller().await.call(request.body(Full::default()).unwrap()).await;
    }
    let told: Vec<Option<String>> = house
        .omni
        .arrivals()
        .iter()
        .map(|one| Some(one.headers.get("traceparent")?.to_str().unwrap().to_owned()))
        .collect();
    let [None, Some(ours), Some(own)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(ours[..36], PARENT[..36]);
    assert_ne!(ours[36..52], PARENT[36..52], "it is our own span");
    assert!(!own.contains(TRACE) && own.ends_with("-01"), "{own}");
}

#[tokio::test(start_paused = true)]
async fn those_who_share_a_fetch_point_to_its_attempt() {
    let (collector, dial) = Collector::open();
    let more = "[[routes]]\nname = \"lists\"\npath = \"/api/v1/folders\"\ncredential = \"org\"\n\
                cache = { ttl = \"30s\" }";
    let plan = Plan { collector: Some(dial), more: more.to_owned(), ..Plan::default() };
    let house = plan.build().await;
    let slow = Rule::new(Fault::SlowHead(SECOND));
    house.omni.fail(slow.path("/api/v1/folders"));
    let request = || get("/api/v1/folders").body(Full::default()).unwrap();
    let (first, second) = (house.call(request()).await, house.call(request()).await);
    assert_eq!((first.await.unwrap().status(), second.await.unwrap().status()), (200, 200));
    assert_eq!(house.caller().await.get("/api/v1/folders").await.status, 200);
    assert_eq!(house.omni.arrived(), 1);

    let spans = exported(&house, &collector).await;
    let [attempt] = &of_kind(&spans, SpanKind::Client)[..] else { panic!("{spans:#?}") };
    let servers = of_kind(&spans, SpanKind::Server);
    let by_cache = |word: &str| -> &Span {
        let is = |span: &&Span| said(span, "omnigate.cache").as_deref() == Some(word);
        servers.iter().find(is).unwrap_or_else(|| panic!("no {word} in {servers:#?}"))
    };
    let (miss, shared, hit) = (by_cache("miss"), by_cache("collapsed"), by_cache("hit"));
    assert_eq!(attempt.parent_span_id, miss.span_id);
    assert_eq!(shared.links.len(), 1);
    assert_eq!(shared.links[0].span_id, attempt.span_id);
    assert_eq!(shared.links[0].trace_id, attempt.trace_id);
    assert_eq!((miss.links.len(), hit.links.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_ends_its_spans() {
    let (collector, dial) = Collector::open();
    let house = Plan { collector: Some(dial), ..Plan::default() }.build().await;
    house.omni.fail(Rule::new(Fault::SlowHead(60 * SECOND)));
    let call = house.call(get("/api/v1/labels").body(Full::default()).unwrap()).await;
    while house.omni.arrived() == 0 {
        tokio::time::sleep(SECOND / 100).await;
    }
    call.abort();
    tokio::time::sleep(SECOND).await;
    let spans = exported(&house, &collector).await;
    assert_eq!(spans.len(), 2, "{spans:#?}");
    for span in &spans {
        // What is ended on purpose is no error.
        assert_eq!(said(span, "omnigate.caller_left").as_deref(), Some("BoolValue(true)"));
        assert_eq!(said(span, "error.type"), None);
        assert_eq!(said(span, "http.response.status_code"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_queue_leaves_the_span_of_its_wait() {
    let (collector, dial) = Collector::open();
    let budget = "profile = \"burst\"\nlimit = 1\nwindow = \"59s\"\nguard = \"1s\"".to_owned();
    let house = Plan { budget, collector: Some(dial), ..Plan::default() }.build().await;
    assert_eq!(house.caller().await.get("/api/v1/labels").await.status, 200);
    let call = house.call(get("/api/v1/documents").body(Full::default()).unwrap()).await;
    tokio::time::sleep(5 * SECOND).await;
    call.abort();
    tokio::time::sleep(SECOND).await;
    let spans = exported(&house, &collector).await;
    let [wait] = &of_kind(&spans, SpanKind::Internal)[..] else { panic!("{spans:#?}") };
    assert_eq!(took(wait).as_secs(), 5);
    assert_eq!(said(wait, "omnigate.queue.granted").as_deref(), Some("BoolValue(false)"));
    let server = spans.iter().find(|span| span.span_id == wait.parent_span_id).unwrap();
    assert_eq!(said(server, "omnigate.caller_left").as_deref(), Some("BoolValue(true)"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_an_error() {
    let (collector, dial) = Collector::open();
    let house = Plan { collector: Some(dial), ..Plan::default() }.build().await;
    house.omni.fail(Rule::new(Fault::Reset(Reset::MidBody)).times(1));
    let broken = house.call(get("/api/v1/documents").body(Full::default()).unwrap()).await;
    assert!(broken.await.unwrap().answer.is_none());
    let spans = exported(&house, &collector).await;
    let [server] = &of_kind(&spans, SpanKind::Server)[..] else { panic!("{spans:#?}") };
    assert_eq!(said(server, "http.response.status_code").as_deref(), Some("200"));
    assert_eq!(said(server, "error.type").as_deref(), Some("response_broken_off"));
}

#[tokio::test(start_paused = true)]
async fn a_tracestate_goes_with_the_trace_that_it_belongs_to_and_no_other() {
    let (_collector, dial) = Collector::open();
    let route = "forward_headers = [\"traceparent\", \"tracestate\"]".to_owned();
    let house = Plan { collector: Some(dial), route, ..Plan::default() }.build().await;
    for parent in [PARENT, "00-not-a-parent-01"] {
        let request = get("/api/v1/labels").header("traceparent", parent);
        let request = request.header("tracestate", "vendor=one").body(Full::default()).unwrap();
        assert_eq!(house.caller().await.call(request).await.status, 200);
    }
    let told: Vec<bool> =
        house.omni.arrivals().iter().map(|one| one.headers.contains_key("tracestate")).collect();
    assert_eq!(told, [true, false]);
}

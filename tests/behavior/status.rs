//! The facts that operators see, and whether they are true.

use std::time::Duration;

use http::Request;
use http_body_util::Full;
use omnigate::admin::Desk;
use omnigate::admin::status::{BudgetStatus, CallerStatus, Cell, QueueStatus, RouteStatus, Status};
use omnigate::base::CredentialId;
use omnigate::fake_omni::{Fault, RetryAfter, Rule};
use tokio::time::sleep;

use crate::harness::{House, Plan, SECOND, ask, get};

const LABELS: &str = "/api/v1/labels";
const MINUTE: Duration = Duration::from_secs(60);

const CALLERS: &str = r#"
    [callers.dashboard]
    priority = "interactive"
    [callers.sync]
    [callers.crawler]
    priority = "batch"
"#;

fn plan(budget: &str) -> Plan {
    Plan { budget: budget.to_owned(), more: CALLERS.to_owned(), ..Plan::default() }
}

impl House {
    fn status(&self) -> Status {
        self.desk().status()
    }

    fn budget(&self) -> BudgetStatus {
        self.status().budgets.remove(0)
    }
}

fn caller(status: &Status, name: &str) -> CallerStatus {
    status.callers.iter().find(|one| one.caller == name).unwrap().clone()
}

async fn served(house: &House, request: Request<Full<bytes::Bytes>>) {
    assert_eq!(house.call(request).await.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn the_window_shows_who_took_each_slot_and_how_long_ago() {
    let house = plan("profile = \"burst\"").build().await;
    for name in ["dashboard", "sync", "crawler", "sync"] {
        served(&house, ask(LABELS, name)).await;
        sleep(10 * SECOND).await;
    }
    assert!(house.desk().test_key(CredentialId::new("org")).await.unwrap().accepted);
    sleep(SECOND / 4).await;
    let budget = house.budget();
    let shown: Vec<_> = budget.cells.iter().map(|cell| cell.caller.as_deref().unwrap()).collect();
    assert_eq!(shown, ["dashboard", "sync", "crawler", "sync", "omnigate"]);
    let priorities: Vec<_> = budget.cells.iter().map(|cell| cell.priority.unwrap()).collect();
    assert_eq!(priorities, ["interactive", "normal", "batch", "normal", "interactive"]);
    let ago: Vec<f64> = budget.cells.iter().map(|cell| cell.ago_s).collect();
    for (ago, expected) in ago.iter().zip([40.25, 30.25, 20.25, 10.25, 0.25]) {
        assert!((expected..expected + 0.02).contains(ago), "{ago} and not {expected}");
    }
    assert_eq!((budget.used, budget.in_hand, budget.limit), (5, 0, 60));
    assert_eq!((budget.window_s, budget.span_s, budget.profile), (60.0, 61.0, "burst"));
    // For so long a send counts.
    sleep(61 * SECOND - Duration::from_millis(40_270)).await;
    assert_eq!((house.budget().cells.len(), house.budget().used), (5, 5));
    sleep(SECOND / 50).await;
    assert_eq!((house.budget().cells.len(), house.budget().used), (4, 4));
    // Nobody knows who sent before the process began.
    let house = house.killed_and_started_again(2).await;
    let cells = house.budget().cells;
    assert!(!cells.is_empty());
    assert!(cells.iter().all(|cell| *cell == Cell { ago_s: cell.ago_s, ..Cell::default() }));
}

#[tokio::test(start_paused = true)]
async fn of_a_great_window_the_latest_six_hundred_are_shown() {
    let house = plan("profile = \"burst\"\nlimit = 700").build().await;
    let mut connection = house.caller().await;
    for nth in 0..650 {
        let who = if nth < 50 { "crawler" } else { "sync" };
        assert_eq!(connection.call(ask(LABELS, who)).await.status, 200);
    }
    let budget = house.budget();
    assert_eq!((budget.used, budget.cells.len()), (650, 600));
    assert!(budget.cells.iter().all(|cell| cell.caller.as_deref() == Some("sync")));
    assert!(budget.cells.iter().map(|cell| cell.ago_s).is_sorted_by(|a, b| a >= b));
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_shown_by_priority_and_by_caller_and_its_oldest_to_the_millisecond() {
    let house = plan("profile = \"burst\"\nlimit = 1\nmax_wait = \"1h\"").build().await;
    assert_eq!(house.budget().next_slot_s, Some(0.0));
    served(&house, ask(LABELS, "sync")).await;
    let mut calls = Vec::new();
    for name in ["crawler", "sync", "crawler", "sync", "dashboard"] {
        calls.push(house.call(ask(LABELS, name)).await);
        sleep(Duration::from_millis(1_007)).await;
    }
    let status = house.status();
    let waits = |priority, waiting, oldest_s| QueueStatus { priority, waiting, oldest_s };
    assert_eq!(
        status.budgets[0].queue,
        [
            waits("interactive", 1, Some(1.007)),
            waits("normal", 2, Some(4.028)),
            waits("batch", 2, Some(5.035)),
        ]
    );
    let of = |name| (caller(&status, name).waiting, caller(&status, name).oldest_s);
    assert_eq!(of("crawler"), (2, Some(5.035)));
    assert_eq!(of("sync"), (2, Some(4.028)));
    // A slot comes free when the only send counts no more, whoever takes it.
    let next = status.budgets[0].next_slot_s.unwrap();
    assert!((61.0 - 5.035 - next).abs() < 0.03, "{next}");
    sleep(Duration::from_secs_f64(next) + SECOND / 100).await;
    let status = house.status();
    assert_eq!(status.budgets[0].queue[0], waits("interactive", 0, None));
    assert_eq!(status.budgets[0].cells[0].caller.as_deref(), Some("dashboard"));
    let dashboard = caller(&status, "dashboard");
    assert_eq!((dashboard.waiting, dashboard.oldest_s, dashboard.calls), (0, None, 1));
    assert!((dashboard.longest_wait_s - 57.0).abs() < 0.1, "{dashboard:?}");
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn the_next_slot_is_when_the_next_call_goes() {
    for budget in ["profile = \"smooth\"", "profile = \"strict\"", "profile = \"burst\"\nlimit = 5"]
    {
        let house = plan(&format!("{budget}\nmax_wait = \"1h\"")).build().await;
        for round in 0..30 {
            let told = house.budget().next_slot_s.unwrap();
            let call = house.call(ask(LABELS, "sync")).await.await.unwrap();
            assert_eq!(call.status(), 200);
            let took = call.took.as_secs_f64();
            assert!((took - told).abs() < 0.02, "{budget}, {round}: {took} s, told {told} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_shown_with_who_asked_for_it_and_until_when() {
    let house = plan("").build().await;
    let desk = house.desk();
    let shown = || house.budget().paused.map(|pause| (pause.by, pause.ends_in_s));
    assert_eq!(shown(), None);
    desk.pause(None, Some(MINUTE)).unwrap();
    sleep(SECOND / 2).await;
    assert_eq!(shown(), Some(("operator", Some(59.5))));
    assert_eq!(house.budget().next_slot_s, Some(59.5));
    desk.pause(None, None).unwrap();
    assert_eq!((shown(), house.budget().next_slot_s), (Some(("operator", None)), None));
    desk.resume(None).unwrap();
    assert_eq!((shown(), house.budget().next_slot_s), (None, Some(0.0)));

    house.omni.fail(Rule::new(Fault::Block(RetryAfter::Seconds(20))).times(1));
    let call = house.call(ask(LABELS, "sync")).await;
    sleep(SECOND).await;
    let (by, ends) = shown().unwrap();
    assert!(by == "omni" && (18.9..19.1).contains(&ends.unwrap()), "{ends:?}");
    let budget = house.budget();
    assert_eq!((budget.limited_within, budget.limited_beyond), (1, 0));
    assert!(budget.strict_for_now && budget.profile == "smooth");
    // Of two pauses the one that lasts longer.
    desk.pause(None, Some(10 * SECOND)).unwrap();
    assert_eq!(shown().unwrap().0, "omni");
    desk.pause(None, Some(30 * SECOND)).unwrap();
    assert_eq!(shown(), Some(("operator", Some(30.0))));
    assert_eq!(call.await.unwrap().status(), 200);
    assert_eq!(shown(), None);
}

#[tokio::test(start_paused = true)]
async fn callers_and_routes_are_tallied_and_a_quarter_of_an_hour_later_they_are_empty() {
    let route = "cache = { ttl = \"60s\" }".to_owned();
    let house = Plan { route, ..plan("") }.build().await;
    let status = house.status();
    let names: Vec<_> = status.callers.iter().map(|one| one.caller.as_str()).collect();
    assert_eq!(names, ["crawler", "dashboard", "sync"]);
    assert_eq!((caller(&status, "sync").seen_s, status.routes.len()), (None, 1));
    for _ in 0..3 {
        served(&house, ask("/api/v1/folders", "sync")).await;
    }
    served(&house, get(LABELS).body(Full::default()).unwrap()).await;
    sleep(SECOND).await;
    let status = house.status();
    let sync = caller(&status, "sync");
    assert_eq!((sync.calls, sync.sent, sync.saved, sync.calls_ever), (3, 1, 2, 3));
    assert!((1.0..1.1).contains(&sync.seen_s.unwrap()), "{sync:?}");
    assert_eq!(caller(&status, "anonymous").calls, 1);
    let RouteStatus { route, keeps, calls, sent, saved, .. } = &status.routes[0];
    assert_eq!((route.as_str(), *keeps, *calls, *sent, *saved), ("all", true, 4, 2, 2));
    assert_eq!((status.cache.calls, status.cache.saved, status.cache.saved_ever), (4, 2, 2));
    assert!(status.cache.bytes > 0 && status.cache.max_bytes == 64 << 20);
    let admitted = &status.budgets[0].admissions;
    assert_eq!((admitted.step_s, admitted.normal.len()), (5, 180));
    assert_eq!(admitted.normal.iter().sum::<u32>(), 2);

    sleep(14 * MINUTE).await;
    assert_eq!(caller(&house.status(), "sync").calls, 3);
    sleep(2 * MINUTE).await;
    let status = house.status();
    let sync = caller(&status, "sync");
    assert_eq!((sync.calls, sync.sent, sync.saved, sync.calls_ever), (0, 0, 0, 3));
    assert_eq!((status.routes[0].calls, status.routes[0].calls_ever), (0, 4));
    assert_eq!((status.cache.calls, status.cache.saved_ever), (0, 2));
    let admitted = &status.budgets[0].admissions;
    let all = [&admitted.interactive, &admitted.normal, &admitted.batch];
    assert!(all.iter().all(|steps| steps.len() == 180 && steps.iter().sum::<u32>() == 0));
}

#[tokio::test(start_paused = true)]
async fn errors_are_shown_with_the_id_that_finds_them_and_no_text_of_the_callers() {
    let house = plan("").build().await;
    house.omni.fail(Rule::new(Fault::Status(http::StatusCode::INTERNAL_SERVER_ERROR)).times(1));
    let failed = house.call(ask(LABELS, "sync")).await.await.unwrap().answer.unwrap();
    assert_eq!(failed.status, 500);
    sleep(3 * SECOND).await;
    let hostile = Request::builder()
        .method("SEKRIT1")
        .uri("/api/v1/%2e%2e/sekrit2?sekrit3=sekrit4")
        .header("host", "127.0.0.1:6664")
        .header("x-omnigate-caller", "sekrit5")
        .header("x-request-id", "sekrit6 <script>")
        .header("user-agent", "sekrit7")
        .header("prefer", "wait=sekrit8");
    let refused = house.call(hostile.body(Full::default()).unwrap()).await.await.unwrap();
    let refused = refused.answer.unwrap();
    assert_eq!(refused.status, 400);
    let status = house.status();
    let [last, first] = &status.errors[..] else { panic!("{:?}", status.errors) };
    assert_eq!((last.kind, last.status, last.method), ("bad-request", 400, "other"));
    assert_eq!((last.request_id.as_str(), last.ago_s), (refused.header("x-request-id"), 0.0));
    assert_eq!((first.kind, first.status, first.method, first.count), ("upstream", 500, "GET", 1));
    assert_eq!(first.request_id, failed.header("x-request-id"));
    assert_eq!((first.caller.as_deref(), first.route.as_deref()), (Some("sync"), Some("all")));
    let (sync, route) = (caller(&status, "sync"), &status.routes[0]);
    assert_eq!((sync.failed, sync.refused, route.failed), (1, 0, 1));
    let text = serde_json::to_string(&status).unwrap();
    assert!(!text.to_lowercase().contains("sekrit"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn the_document_says_who_speaks_and_since_when() {
    let house = plan("").build().await;
    sleep(90 * SECOND).await;
    let (connection, status) = (house.caller().await, house.status());
    assert_eq!((status.version, status.up_s), (env!("CARGO_PKG_VERSION"), 90.0));
    assert!(status.now.len() == 24 && status.now.ends_with('Z'), "{}", status.now);
    assert!(status.readiness.ready && status.readiness.credentials.len() == 1);
    let [this] = &status.instances[..] else { panic!("{:?}", status.instances) };
    assert!(this.is_this && !this.instance.is_empty() && this.up_s == status.up_s);
    assert_eq!(status.traces.state, "off");
    assert!(status.certificates.is_empty() && status.errors.is_empty());
    drop(connection);
}

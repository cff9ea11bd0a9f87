//! Several gateways before one Omni: what is written through one, no other shows as it was before.
//!
//! How they hear of each other is a stand-in here: what one tells, the other hears after a while.

use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use omnigate::admin::{Desk, Reason};
use omnigate::base::RouteId;
use omnigate::fake_omni::{Fault, Hold, Reset, Rule, write_body};
use omnigate::proxy::{Others, Proxy, Touched};
use omnigate::shape::{BudgetStore, Connection, FleetSettings, News, OnLost, Running, StoreError};
use omnigate::telemetry::Exposition;
use tokio::time::{Instant, sleep};

use crate::cache_writes::{is_hit, keeping, plain, revision};
use crate::harness::{Answer, House, Plan, SECOND, get, post};

const FOLDERS: &str = "/api/v1/folders";
const MOMENT: Duration = Duration::from_millis(1);

/// What one gateway has of the other.
#[derive(Debug)]
struct Wire {
    other: Mutex<Weak<Proxy>>,
    takes: Duration,
    told: Mutex<Vec<Touched>>,
    current: AtomicBool,
}

impl Wire {
    fn new(takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            other: Mutex::default(),
            takes,
            told: Mutex::default(),
            current: AtomicBool::new(true),
        })
    }

    fn leads_to(&self, house: &House) {
        *self.other.lock().unwrap() = Arc::downgrade(&house.rooms.proxy);
    }

    fn told(&self) -> Vec<Touched> {
        self.told.lock().unwrap().clone()
    }

    fn is_behind(&self, behind: bool) {
        self.current.store(!behind, Ordering::Relaxed);
    }
}

impl Others for Wire {
    fn tell(&self, touched: &Touched) -> BoxFuture<'static, ()> {
        self.told.lock().unwrap().push(touched.clone());
        let (other, touched, takes) =
            (self.other.lock().unwrap().clone(), touched.clone(), self.takes);
        let heard = tokio::spawn(async move {
            sleep(takes).await;
            if let Some(other) = other.upgrade() {
                other.hear(&touched);
            }
        });
        Box::pin(async move { heard.await.unwrap() })
    }

    fn is_current(&self) -> bool {
        self.current.load(Ordering::Relaxed)
    }

    fn catch_up(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Two gateways, the first of which is heard by the second so long after it told.
async fn two(takes: Duration) -> ([House; 2], [Arc<Wire>; 2]) {
    let wires = [Wire::new(takes), Wire::new(Duration::ZERO)];
    let plan = |wire: &Arc<Wire>| Plan { others: Some(wire.clone()), ..keeping() };
    let one = plan(&wires[0]).build().await;
    let other = Plan { omni: Some(one.omni.clone()), ..plan(&wires[1]) }.build().await;
    wires[0].leads_to(&other);
    wires[1].leads_to(&one);
    ([one, other], wires)
}

/// One gateway that hears nobody.
async fn one() -> (House, Arc<Wire>) {
    let wire = Wire::new(Duration::ZERO);
    (Plan { others: Some(wire.clone()), ..keeping() }.build().await, wire)
}

fn make(name: &str) -> Request<Full<Bytes>> {
    post(FOLDERS, write_body(name))
}

fn written() -> Touched {
    Touched::Written { method: Method::POST, path: FOLDERS.into() }
}

async fn folders(house: &House) -> Answer {
    house.caller().await.get(FOLDERS).await
}

/// Has the list kept, and makes sure that it is.
async fn warm(house: &House) {
    folders(house).await;
    assert!(is_hit(&folders(house).await));
}

#[tokio::test(start_paused = true)]
async fn who_has_written_through_one_reads_it_through_the_other() {
    let ([one, other], _) = two(SECOND / 2).await;
    for (nth, (writes, reads)) in [(&one, &other), (&other, &one)].into_iter().enumerate() {
        warm(reads).await;
        let made = writes.caller().await.call(make(&format!("f{nth}"))).await;
        assert_eq!(made.status, StatusCode::CREATED);
        let answer = folders(reads).await;
        assert_eq!((revision(&answer), is_hit(&answer)), (Some(nth as u64 + 1), false));
        assert!(is_hit(&folders(reads).await));
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_write_waits_until_the_other_has_heard() {
    let ([one, other], _) = two(SECOND).await;
    warm(&one).await;
    warm(&other).await;
    let began = Instant::now();
    let call = one.call(make("made")).await;
    sleep(SECOND / 2).await;
    // Here it is known at once, and nobody waits for anything.
    assert_eq!(revision(&folders(&one).await), Some(1));
    assert!(is_hit(&folders(&other).await) && !call.is_finished());
    assert_eq!(call.await.unwrap().status(), 201);
    assert!(began.elapsed() >= SECOND && began.elapsed() < SECOND * 3 / 2);
    assert_eq!(revision(&folders(&other).await), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_writes_nothing_tells_nobody_and_waits_for_nobody() {
    let ([one, _other], wires) = two(SECOND).await;
    let refused = Fault::Status(StatusCode::UNPROCESSABLE_ENTITY);
    one.omni.fail(Rule::new(refused).method(Method::POST).path(FOLDERS));
    let began = Instant::now();
    assert_eq!(one.caller().await.call(make("refused")).await.status.as_u16(), 422);
    one.caller().await.call(post("/api/v1/query/run", write_body("x"))).await;
    folders(&one).await;
    assert!(began.elapsed() < SECOND / 2 && wires[0].told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_ends_badly_is_heard_before_its_caller_is_told_and_once_more_later() {
    for fault in [Fault::Reset(Reset::BeforeHead), Fault::Status(StatusCode::BAD_GATEWAY)] {
        let ([one, other], wires) = two(SECOND / 2).await;
        warm(&other).await;
        one.omni.fail(Rule::new(fault.clone()).method(Method::POST).times(1));
        let end = one.call(make("made")).await.await.unwrap();
        assert_eq!(end.status() / 100, 5, "{fault:?}");
        assert!(end.took >= SECOND / 2, "{fault:?}: {:?}", end.took);
        assert!(!is_hit(&folders(&other).await), "{fault:?}");
        assert_eq!(wires[0].told(), [written()], "{fault:?}");
        sleep(50 * SECOND).await;
        assert!(is_hit(&folders(&other).await), "{fault:?}");
        sleep(12 * SECOND).await;
        assert!(!is_hit(&folders(&other).await), "{fault:?}");
        assert_eq!(wires[0].told(), [written(), written()], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_is_told_whose_caller_has_left() {
    let ([one, other], wires) = two(SECOND / 10).await;
    warm(&other).await;
    let hold = Hold::new();
    one.omni.fail(Rule::new(Fault::Hold(hold.clone())).method(Method::POST));
    let leaves = one.call(make("made")).await;
    hold.wait_for(1).await;
    assert!(wires[0].told().is_empty());
    leaves.abort();
    let _ = leaves.await;
    sleep(SECOND / 5).await;
    assert_eq!(wires[0].told(), [written()]);
    assert_eq!(revision(&folders(&other).await), Some(1));
    // And one who leaves while the other hears.
    one.omni.heal();
    let leaves = one.call(make("more")).await;
    sleep(SECOND / 20).await;
    leaves.abort();
    let _ = leaves.await;
    sleep(SECOND / 5).await;
    assert_eq!(revision(&folders(&other).await), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_began_before_a_write_elsewhere_is_kept_for_nobody_and_given_to_nobody_after_it()
 {
    let ([one, other], _) = two(SECOND / 10).await;
    let hold = Hold::new();
    let slow = Rule::new(Fault::Hold(hold.clone())).method(Method::GET).path(FOLDERS);
    one.omni.fail(slow.times(1));
    let early = other.call(plain(FOLDERS)).await;
    hold.wait_for(1).await;
    assert_eq!(one.caller().await.call(make("made")).await.status, StatusCode::CREATED);
    let late = folders(&other).await;
    assert_eq!((revision(&late), is_hit(&late)), (Some(1), false));
    hold.release();
    assert_eq!(revision(&early.await.unwrap().answer.unwrap()), Some(0));
    let after = folders(&other).await;
    assert_eq!((revision(&after), is_hit(&after)), (Some(1), true));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_behind_serves_nothing_kept_until_it_is_not() {
    let (house, wire) = one().await;
    warm(&house).await;
    let tag = folders(&house).await.headers["etag"].clone();
    let before = house.omni.arrived();
    wire.is_behind(true);
    let asked = |name: &'static str, value: &str| {
        get(FOLDERS).header(name, value).body(Full::default()).unwrap()
    };
    let requests = || {
        [
            plain(FOLDERS),
            asked("range", "bytes=0-3"),
            asked("if-none-match", tag.to_str().unwrap()),
            asked("cache-control", "max-stale"),
            Request::head(FOLDERS).header("host", "127.0.0.1:6664").body(Full::default()).unwrap(),
        ]
    };
    let mut caller = house.caller().await;
    for (nth, request) in requests().into_iter().enumerate() {
        let answer = caller.call(request).await;
        assert!(!is_hit(&answer), "{nth}: {}", answer.header("cache-status"));
        assert_eq!(house.omni.arrived(), before + nth + 1);
    }
    let only = caller.call(asked("cache-control", "only-if-cached")).await;
    assert_eq!(only.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(only.json()["type"], "urn:omnigate:problem:not-cached");
    wire.is_behind(false);
    for request in requests() {
        let answer = caller.call(request).await;
        assert!(is_hit(&answer), "{}", answer.header("cache-status"));
    }
    assert_eq!(caller.call(asked("cache-control", "only-if-cached")).await.status, StatusCode::OK);
    assert_eq!(house.omni.arrived(), before + 5);
}

#[tokio::test(start_paused = true)]
async fn nothing_stale_is_served_in_need_by_an_instance_that_is_behind() {
    let (house, wire) = one().await;
    warm(&house).await;
    sleep(3_700 * SECOND).await;
    house.omni.fail(Rule::new(Fault::Status(StatusCode::SERVICE_UNAVAILABLE)).owner("org"));
    wire.is_behind(true);
    let answer = folders(&house).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    wire.is_behind(false);
    let answer = folders(&house).await;
    assert_eq!((answer.status, is_hit(&answer)), (StatusCode::OK, true));
}

/// It may have been sent before a write of which this instance does not know.
#[tokio::test(start_paused = true)]
async fn who_comes_while_the_instance_is_behind_waits_for_no_fetch_that_was_sent_before() {
    let (house, wire) = one().await;
    let hold = Hold::new();
    house.omni.fail(Rule::new(Fault::Hold(hold.clone())).times(1));
    let early = house.call(plain(FOLDERS)).await;
    hold.wait_for(1).await;
    let beside = house.call(plain(FOLDERS)).await;
    sleep(MOMENT).await;
    assert_eq!(house.omni.arrived(), 1);
    wire.is_behind(true);
    let late = folders(&house).await;
    assert_eq!((late.status, house.omni.arrived()), (StatusCode::OK, 2));
    hold.release();
    for one in [early, beside] {
        assert_eq!(one.await.unwrap().status(), 200);
    }
}

/// Or each of them would cost a request, just when there may be many.
#[tokio::test(start_paused = true)]
async fn those_who_come_while_the_instance_is_behind_wait_for_one_fetch_that_was_not_sent_yet() {
    let wire = Wire::new(Duration::ZERO);
    let mut plan = Plan { others: Some(wire.clone()), ..keeping() };
    plan.budget = "burst = 1".to_owned();
    let house = plan.build().await;
    folders(&house).await;
    wire.is_behind(true);
    let mut calls = Vec::new();
    for _ in 0..20 {
        calls.push(house.call(plain(FOLDERS)).await);
    }
    for call in calls {
        assert_eq!(call.await.unwrap().status(), 200);
    }
    assert_eq!(house.omni.arrived(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_purge_is_heard_before_the_operator_is_told() {
    let ([one, other], wires) = two(SECOND / 2).await;
    let all = RouteId::new("all");
    for route in [None, Some(all.clone())] {
        warm(&one).await;
        warm(&other).await;
        let began = Instant::now();
        one.desk().purge(route).await.unwrap();
        assert!(began.elapsed() >= SECOND / 2);
        assert!(!is_hit(&folders(&other).await) && !is_hit(&folders(&one).await));
    }
    assert!(one.desk().purge(Some(RouteId::new("none"))).await.is_err());
    assert_eq!(wires[0].told(), [Touched::Everything, Touched::Route(all)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_heard_leaves_stale_what_it_names_and_all_where_nobody_knows() {
    let (house, _) = one().await;
    let hear = house.rooms.hear();
    let told = |text: &str| News::Told(text.replacen("1 ", "1 00000000000000ab ", 1));
    let long = format!("1 write POST {}", "/a".repeat(2_000));
    let all = [
        ("a write", told("1 write POST /api/v1/folders")),
        ("a route", told("1 route all")),
        ("a route of another config", told("1 route unheard-of")),
        ("everything", told("1 everything")),
        ("a write that only asks, by our catalogue", told("1 write POST /api/v1/query/run")),
        ("a read", told("1 write GET /api/v1/users")),
        ("an endpoint nobody knows", told("1 write POST /api/v9/things")),
        ("nothing", told("")),
        ("a later version", told("2 write POST /api/v1/ai/branding")),
        ("too long", told(&long)),
        ("what was missed", News::Missed),
    ];
    for (what, news) in all {
        warm(&house).await;
        hear(news);
        assert!(!is_hit(&folders(&house).await), "{what}");
    }
    // One in 1024 shares a bucket with the list.
    let mut kept = 0;
    for nth in 0..5 {
        warm(&house).await;
        hear(told(&format!("1 write PUT /api/v1/schedules/s{nth}")));
        kept += usize::from(is_hit(&folders(&house).await));
    }
    assert!(kept >= 3, "{kept}");
}

/// The shaper holds what hears, and the proxy holds the shaper.
#[tokio::test(start_paused = true)]
async fn who_hears_does_not_keep_the_gateway_alive() {
    let (house, _) = one().await;
    let (hear, gateway) = (house.rooms.hear(), Arc::downgrade(&house.rooms.proxy));
    drop(house);
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.strong_count(), 0);
    hear(News::Missed);
}

/// A store that nobody reaches.
#[derive(Debug)]
struct Nowhere;

impl BudgetStore for Nowhere {
    fn connect<'a>(&'a self, _: &'a str) -> Running<'a, Connection> {
        Box::pin(ready(Err(StoreError::Unreachable("connection refused".to_owned()))))
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_not_reached_the_shared_budget_is_not_ready_and_says_so_everywhere() {
    let house = keeping().build().await;
    let desk = house.desk();
    let metrics = |name: &str| {
        let text = desk.metrics(Exposition::Classic);
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| Some(line.rsplit_once(' ')?.1.to_owned()))
    };
    assert_eq!((desk.readiness().reasons, desk.status().shared), (vec![], None));
    assert_eq!(metrics("omnigate_shared_budget_up"), None);
    let settings =
        FleetSettings { on_lost: OnLost::Local, trust_empty: false, name: "gate-1".to_owned() };
    house.rooms.shaper.join_fleet(&settings, Arc::new(Nowhere), house.rooms.hear());
    sleep(SECOND).await;
    assert_eq!(desk.readiness().reasons, [Reason::SharedBudget]);
    let status = desk.status();
    let shared = status.shared.unwrap();
    assert_eq!((shared.standing, shared.on_lost, shared.lost_s), ("joining", "local", None));
    assert!(!status.readiness.ready);
    assert_eq!(status.readiness.reasons, [serde_json::json!({ "reason": "shared-budget" })]);
    assert_eq!(status.instances.len(), 1);
    assert!(status.instances[0].is_this);
    assert_eq!(metrics("omnigate_shared_budget_up").as_deref(), Some("0"));
    assert_eq!(metrics("omnigate_instances").as_deref(), Some("1"));
    assert_eq!(metrics("omnigate_unshared_sends_total").as_deref(), Some("0"));
    assert_eq!(metrics("omnigate_ready").as_deref(), Some("0"));
}

//! The status page, its facts, and those who watch them.

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::*;

const LOCAL: [(&str, &str); 1] = [("host", "127.0.0.1:6663")];

fn operator() -> (Admin, Arc<Told>) {
    let told = told(Vec::new());
    (Admin::new(Role::Operator, Rules::default(), told.clone()), told)
}

async fn watch(admin: &Admin) -> Response<Body> {
    admin.answer(get("/-/events", &LOCAL), Peer::pipe()).await
}

async fn piece(body: &mut Body) -> Option<Bytes> {
    Some(body.frame().await?.unwrap().into_data().unwrap())
}

/// The facts in one event.
fn facts(event: &Bytes) -> Value {
    let text = std::str::from_utf8(event).unwrap();
    let line = text.strip_prefix("event: status\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
    assert!(!line.contains('\n'), "{line}");
    serde_json::from_str(line).unwrap()
}

fn looks(told: &Told) -> usize {
    told.looks.load(Ordering::Relaxed)
}

#[tokio::test]
async fn the_page_is_shown_to_who_types_its_address_and_not_to_who_follows_a_link_of_others() {
    let (admin, told) = operator();
    let browser = ("user-agent", "Mozilla/5.0");
    for (site, status) in
        [("none", 200), ("same-origin", 200), ("cross-site", 403), ("same-site", 403)]
    {
        let fields = [LOCAL[0], browser, ("sec-fetch-site", site), ("sec-fetch-mode", "navigate")];
        assert_eq!(ask(&admin, get("/", &fields)).await.0, status, "{site}");
    }
    assert_eq!(ask(&admin, get("/", &[LOCAL[0], browser])).await.0, 403);
    let mut head = get("/", &LOCAL);
    *head.method_mut() = Method::HEAD;
    assert_eq!(admin.answer(head, Peer::pipe()).await.status(), 200);
    assert_eq!(looks(&told), 0);
}

#[tokio::test]
async fn the_page_may_do_nothing_but_ask_us() {
    let (admin, _) = operator();
    let response = admin.answer(get("/", &LOCAL), Peer::pipe()).await;
    let headers = response.headers();
    let policy = headers["content-security-policy"].to_str().unwrap();
    for part in [
        "default-src 'none';",
        "connect-src 'self';",
        "base-uri 'none';",
        "form-action 'none';",
        "frame-ancestors 'none';",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(headers["permissions-policy"].to_str().unwrap().contains("camera=()"));
}

#[tokio::test]
async fn the_facts_are_one_document_and_each_event_is_the_same() {
    let (admin, _) = operator();
    let (status, document) = ask(&admin, get("/-/status.json", &LOCAL)).await;
    assert_eq!(status, 200);
    let mut document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!((&document["viewers"], &document["log"]), (&json!(0), &json!("info")));
    assert_eq!(document["credentials"][0]["trouble"], "/run/secrets/org is not there");

    let response = watch(&admin).await;
    assert_eq!(response.status(), 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
    assert!(!response.headers().contains_key("content-encoding"));
    let event = piece(&mut response.into_body()).await.unwrap();
    document["viewers"] = json!(1);
    assert_eq!(facts(&event), document);
}

#[tokio::test]
async fn probes_see_none_of_it() {
    let probe = Admin::new(Role::Probe, Rules::default(), told(Vec::new()));
    for path in ["/", "/-/status.json", "/-/events"] {
        assert_eq!(ask(&probe, get(path, &LOCAL)).await.0, 404, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_viewers_cost_one_look_a_second_and_none_costs_none() {
    let (admin, told) = operator();
    let mut bodies = Vec::new();
    for _ in 0..50 {
        let mut body = watch(&admin).await.into_body();
        // At once, whoever came before.
        let came = Instant::now();
        facts(&piece(&mut body).await.unwrap());
        assert_eq!(came.elapsed(), Duration::ZERO);
        bodies.push(body);
    }
    assert_eq!(looks(&told), 1);
    for second in 1..=60 {
        for body in &mut bodies {
            let event = facts(&piece(body).await.unwrap());
            assert_eq!(event["viewers"], 50);
        }
        assert_eq!(looks(&told), 1 + second);
    }
    drop(bodies);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(looks(&told), 61);
    // The next one begins anew, with facts of now.
    let mut body = watch(&admin).await.into_body();
    assert_eq!(facts(&piece(&mut body).await.unwrap())["viewers"], 1);
    assert_eq!(looks(&told), 62);
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_sees_the_latest_and_no_backlog() {
    let (admin, told) = operator();
    let mut slow = watch(&admin).await.into_body();
    piece(&mut slow).await.unwrap();
    sleep(Duration::from_millis(3_600_500)).await;
    let seen = looks(&told);
    let pauses = json!("operator");
    told.pauses.lock().unwrap().push((None, None));
    // What was written before the pause, and no older one after it.
    let now = Instant::now();
    assert_eq!(facts(&piece(&mut slow).await.unwrap())["budgets"][0]["paused"], Value::Null);
    assert_eq!(now.elapsed(), Duration::ZERO);
    let next = facts(&piece(&mut slow).await.unwrap());
    assert_eq!(next["budgets"][0]["paused"]["by"], pauses);
    assert_eq!(looks(&told), seen + 1);
}

#[tokio::test(start_paused = true)]
async fn the_sixty_fifth_viewer_is_asked_to_come_later() {
    let (admin, _) = operator();
    let mut bodies = Vec::new();
    for _ in 0..64 {
        bodies.push(watch(&admin).await.into_body());
    }
    let refused = watch(&admin).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (503, &"10".parse().unwrap())
    );
    assert_eq!(ask(&admin, get("/-/status.json", &LOCAL)).await.0, 200);
    bodies.pop();
    assert_eq!(watch(&admin).await.status(), 200);
}

/// A gateway that may have few connections has as few places for operators; who watches took them all,
/// and nobody else was told any more that it lives.
#[tokio::test(start_paused = true)]
async fn who_watches_leaves_places_for_others() {
    for (places, may_watch) in [(1, 0), (2, 1), (3, 2), (40, 26), (96, 64), (1_000, 64)] {
        let admin = operator().0.with_places(places);
        let mut bodies = Vec::new();
        for _ in 0..may_watch {
            let watches = watch(&admin).await;
            assert_eq!(watches.status(), 200, "{places}");
            bodies.push(watches.into_body());
        }
        assert_eq!(watch(&admin).await.status(), 503, "{places}");
        let said = ask(&admin, get("/-/status.json", &LOCAL)).await.1;
        let facts: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(facts["viewers"], may_watch);
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_that_fails_ends_the_events_and_the_next_viewer_begins_anew() {
    struct Fails(Arc<Told>);
    impl Desk for Fails {
        fn readiness(&self) -> Readiness {
            self.0.readiness()
        }
        fn metrics(&self, form: telemetry::Exposition) -> String {
            self.0.metrics(form)
        }
        fn reload(&self) -> BoxFuture<'static, ()> {
            self.0.reload()
        }
        fn test_key(&self, id: CredentialId) -> BoxFuture<'static, Result<KeyAnswer, NoAnswer>> {
            self.0.test_key(id)
        }
        fn purge(&self, route: Option<RouteId>) -> BoxFuture<'static, Result<Purged, NoSuchRoute>> {
            self.0.purge(route)
        }
        fn views(&self) -> telemetry::Viewer {
            self.0.views()
        }
        fn status(&self) -> Status {
            let status = self.0.status();
            assert_ne!(looks(&self.0), 3, "as it was meant to");
            status
        }
        fn pause(&self, _: Option<&BudgetId>, _: Option<Duration>) -> Result<(), NoSuchBudget> {
            Ok(())
        }
        fn resume(&self, _: Option<&BudgetId>) -> Result<(), NoSuchBudget> {
            Ok(())
        }
        fn explain(&self, call: Call) -> BoxFuture<'static, Result<Explanation, BadCall>> {
            self.0.explain(call)
        }
        fn log_filter(&self) -> String {
            self.0.log_filter()
        }
        fn set_log(&self, _: Option<&str>) -> Result<String, BadFilter> {
            Ok(self.log_filter())
        }
    }
    let desk = Arc::new(Fails(told(Vec::new())));
    let admin = Admin::new(Role::Operator, Rules::default(), desk);
    let mut body = watch(&admin).await.into_body();
    assert!(piece(&mut body).await.is_some() && piece(&mut body).await.is_some());
    assert!(piece(&mut body).await.is_none());
    drop(body);
    let mut body = watch(&admin).await.into_body();
    assert!(piece(&mut body).await.is_some() && piece(&mut body).await.is_some());
}

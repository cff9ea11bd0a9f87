//! Pauses and the log's filter at an operator's word.

use super::*;

const LOCAL: [(&str, &str); 1] = [("host", "127.0.0.1:6663")];

fn operator() -> (Admin, Arc<Told>) {
    let told = told(Vec::new());
    (Admin::new(Role::Operator, Rules::default(), told.clone()), told)
}

async fn tell(admin: &Admin, path: &str) -> (u16, Value) {
    let (status, body) = ask(admin, post(path, &LOCAL)).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn everything_or_one_budget_is_paused_for_a_time_or_until_somebody_resumes() {
    let (admin, told) = operator();
    let in_force = |ends: Value| json!([{ "budget": "omni", "credential": null, "by": "operator", "ends_in_s": ends }]);
    let answer = tell(&admin, "/-/pause").await;
    assert_eq!(answer, (200, json!({ "budget": null, "paused": in_force(Value::Null) })));
    let answer = tell(&admin, "/-/pause?for=10m&budget=omni").await;
    assert_eq!(answer, (200, json!({ "budget": "omni", "paused": in_force(json!(600.0)) })));
    let omni = Some(BudgetId::new("omni"));
    let paused = [(None, None), (omni, Some(Duration::from_secs(600)))];
    assert_eq!(*told.pauses.lock().unwrap(), paused);

    let answer = tell(&admin, "/-/resume?budget=omni").await;
    assert_eq!(answer, (200, json!({ "budget": "omni", "paused": [] })));
    assert_eq!(*told.pauses.lock().unwrap(), []);
}

#[tokio::test]
async fn a_slip_in_a_query_changes_nothing_and_is_told_how_to_mend_it() {
    let (admin, told) = operator();
    for (slip, way_out) in [
        ("/-/pause?", "`budget` and `for`"),
        ("/-/pause?bugdet=omni", "`budget` and `for`"),
        ("/-/pause?budget=omni&budget=omni", "say it once"),
        ("/-/pause?budget=", "leave it away"),
        ("/-/pause?for=10", "such as 10m"),
        ("/-/pause?for=25h", "at most 24h"),
        ("/-/pause?for=0s", "more than nothing"),
        ("/-/pause?budget=a+b", "%20"),
        ("/-/resume?for=10m", "`budget`"),
        ("/-/log?filter=", "leave it away"),
        ("/-/log?filter=debgu", "MODULE=LEVEL"),
        ("/-/log?level=debug", "`filter`"),
        ("/-/log?filter=a%5B=debug", "no log filter"),
    ] {
        let (status, body) = tell(&admin, slip).await;
        let detail = body["detail"].as_str().unwrap();
        assert_eq!((status, &body["type"]), (400, &json!("urn:omnigate:problem:bad-request")));
        assert!(detail.contains(way_out) && detail.starts_with("Nothing changed: "), "{detail}");
        assert!(!detail.contains("bugdet") && !detail.contains("debgu"), "{detail}");
    }
    for path in ["/-/pause?budget=omin", "/-/resume?budget=omin"] {
        let (status, body) = tell(&admin, path).await;
        assert_eq!((status, &body["budgets"]), (404, &json!(["omni", "spare"])));
        assert!(!body.to_string().contains("omin"), "{body}");
    }
    assert_eq!(*told.pauses.lock().unwrap(), []);
    assert_eq!(*told.log.lock().unwrap(), None);
}

#[tokio::test]
async fn the_log_says_more_until_the_config_is_asked_for_again() {
    let (admin, _) = operator();
    let answer = tell(&admin, "/-/log?filter=omnigate%3A%3Ashape%3Ddebug%2Cinfo").await;
    assert_eq!(answer, (200, json!({ "log": "omnigate::shape=debug,info" })));
    assert_eq!(tell(&admin, "/-/log").await, (200, json!({ "log": "info" })));
}

#[tokio::test]
async fn nobody_but_an_operator_stops_anything() {
    let told = told(Vec::new());
    let operator = Admin::new(Role::Operator, Rules::default(), told.clone());
    let probe = Admin::new(Role::Probe, Rules::default(), told.clone());
    for path in ["/-/pause", "/-/resume", "/-/log", "/-/log?filter=trace"] {
        assert_eq!(ask(&probe, post(path, &LOCAL)).await.0, 404, "{path}");
        assert_eq!(ask(&operator, get(path, &LOCAL)).await.0, 405, "{path}");
        for field in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("referer", "https://evil.example/"),
        ] {
            let foreign = [LOCAL[0], field];
            assert_eq!(ask(&operator, post(path, &foreign)).await.0, 403, "{path} {field:?}");
        }
        let rebound = [("host", "evil.example"), ("sec-fetch-site", "same-origin")];
        assert_eq!(ask(&operator, post(path, &rebound)).await.0, 403, "{path}");
    }
    assert_eq!(*told.pauses.lock().unwrap(), []);
    assert_eq!(*told.log.lock().unwrap(), None);
    // The status page itself may.
    let own = [
        ("host", "localhost:6663"),
        ("origin", "http://localhost:6663"),
        ("sec-fetch-site", "same-origin"),
        ("user-agent", "Mozilla/5.0"),
    ];
    assert_eq!(ask(&operator, post("/-/pause", &own)).await.0, 200);
}

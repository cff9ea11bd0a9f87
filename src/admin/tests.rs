//! What the listeners answer, and to whom.

mod explaining;
mod steering;
mod watching;

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Method;
use http::header::{CACHE_CONTROL, CONNECTION, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http_body_util::BodyExt;

use super::status::{BudgetStatus, PauseStatus};
use super::*;
use crate::base::{BudgetId, CredentialId, Remote, RouteId};
use crate::caller::TokenDigest;
use crate::proxy::explained::Said;
use crate::proxy::{BadCall, Call, Explanation};
use crate::telemetry::{self, BadFilter};

#[derive(Default)]
struct Told {
    reasons: Vec<Reason>,
    reloads: AtomicUsize,
    purges: Mutex<Vec<Option<RouteId>>>,
    /// How often the facts were asked for.
    looks: AtomicUsize,
    /// Pauses by hand, of the one budget or of everything.
    pauses: Mutex<Vec<(Option<BudgetId>, Option<Duration>)>>,
    log: Mutex<Option<String>>,
}

impl Desk for Told {
    fn readiness(&self) -> Readiness {
        let view = CredentialView {
            id: CredentialId::new("org"),
            state: "stale",
            age: Some(Duration::from_secs(7)),
            trouble: Some("/run/secrets/org is not there".to_owned()),
        };
        Readiness { reasons: self.reasons.clone(), credentials: vec![view] }
    }

    fn metrics(&self, form: telemetry::Exposition) -> String {
        format!("# {form:?}\n")
    }

    fn reload(&self) -> BoxFuture<'static, ()> {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    }

    fn test_key(&self, id: CredentialId) -> BoxFuture<'static, Result<KeyAnswer, NoAnswer>> {
        let good = KeyAnswer {
            status: 200,
            accepted: true,
            refused: false,
            sha256: Some("01234567".to_owned()),
            key_scope: Some("organization"),
        };
        let answer = if id.as_str() == "org" { Ok(good) } else { Err(NoAnswer::Unknown) };
        Box::pin(std::future::ready(answer))
    }

    fn purge(&self, route: Option<RouteId>) -> BoxFuture<'static, Result<Purged, NoSuchRoute>> {
        if route.as_ref().is_some_and(|route| route.as_str() != "lists") {
            let known = ["lists", "rest"].map(RouteId::new).to_vec();
            return Box::pin(std::future::ready(Err(NoSuchRoute { known })));
        }
        let entries = route.as_ref().map(|_| 12);
        self.purges.lock().unwrap().push(route);
        Box::pin(std::future::ready(Ok(Purged { entries })))
    }

    fn views(&self) -> telemetry::Viewer {
        telemetry::Metrics::new().views()
    }

    fn status(&self) -> Status {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let of = |(_, time): &(_, Option<Duration>)| PauseStatus {
            by: "operator",
            ends_in_s: time.map(|time| time.as_secs_f64()),
        };
        let paused = self.pauses.lock().unwrap().last().map(of);
        let omni = BudgetStatus { budget: "omni".to_owned(), paused, ..BudgetStatus::default() };
        Status {
            readiness: self.readiness().into(),
            log: self.log_filter(),
            budgets: vec![omni],
            ..Status::default()
        }
    }

    fn pause(&self, budget: Option<&BudgetId>, time: Option<Duration>) -> Result<(), NoSuchBudget> {
        known(budget)?;
        self.pauses.lock().unwrap().push((budget.cloned(), time));
        Ok(())
    }

    fn resume(&self, budget: Option<&BudgetId>) -> Result<(), NoSuchBudget> {
        known(budget)?;
        self.pauses.lock().unwrap().clear();
        Ok(())
    }

    fn explain(&self, call: Call) -> BoxFuture<'static, Result<Explanation, BadCall>> {
        let said = Said { method: call.method, path: Some(call.url.clone()), ..Said::default() };
        let explained = Explanation { call: said, ..Explanation::default() };
        let is_path = call.url.starts_with('/');
        Box::pin(async move { if is_path { Ok(explained) } else { Err(BadCall::From) } })
    }

    fn log_filter(&self) -> String {
        self.log.lock().unwrap().clone().unwrap_or_else(|| "info".to_owned())
    }

    fn set_log(&self, filter: Option<&str>) -> Result<String, BadFilter> {
        filter.map_or(Ok(()), telemetry::check_filter)?;
        *self.log.lock().unwrap() = filter.map(str::to_owned);
        Ok(self.log_filter())
    }
}

fn known(budget: Option<&BudgetId>) -> Result<(), NoSuchBudget> {
    if budget.is_some_and(|budget| budget.as_str() != "omni") {
        return Err(NoSuchBudget { known: ["omni", "spare"].map(BudgetId::new).to_vec() });
    }
    Ok(())
}

fn told(reasons: Vec<Reason>) -> Arc<Told> {
    Arc::new(Told { reasons, ..Told::default() })
}

fn admin(role: Role, reasons: Vec<Reason>) -> Admin {
    Admin::new(role, Rules::default(), told(reasons))
}

fn post(path: &str, fields: &[(&'static str, &'static str)]) -> Request<Body> {
    let mut request = get(path, fields);
    *request.method_mut() = Method::POST;
    request
}

fn get(path: &str, fields: &[(&'static str, &'static str)]) -> Request<Body> {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    for (name, value) in fields {
        request.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    request
}

async fn ask(admin: &Admin, request: Request<Body>) -> (u16, String) {
    let response = admin.answer(request, Peer::pipe()).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn metrics_come_in_the_form_that_was_asked_for_and_say_so() {
    let admin = admin(Role::Probe, Vec::new());
    let open = "application/openmetrics-text";
    for (accept, media, text) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", "# Classic\n"),
        (open, "application/openmetrics-text; version=1.0.0; charset=utf-8", "# OpenMetrics\n"),
    ] {
        let response = admin.answer(get("/metrics", &[("accept", accept)]), Peer::pipe()).await;
        assert_eq!(response.headers()["content-type"], media);
        assert_eq!(response.headers()["vary"], "accept");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), text);
    }
}

#[tokio::test]
async fn a_gateway_that_cannot_serve_is_alive_and_not_ready() {
    let missing = Reason::CredentialMissing(CredentialId::new("org"));
    let admin = admin(Role::Operator, vec![missing]);
    let local = [("host", "127.0.0.1:6663")];
    assert_eq!(ask(&admin, get("/livez", &local)).await.0, 200);
    let (status, body) = ask(&admin, get("/readyz", &local)).await;
    assert_eq!(status, 503);
    assert!(body.contains("credential-missing") && body.contains("org"), "{body}");
    assert_eq!(ask(&admin, get("/metrics", &local)).await, (200, "# Classic\n".to_owned()));
    assert_eq!(ask(&admin, get("/status", &local)).await.0, 404);
}

#[tokio::test]
async fn a_web_page_gets_nothing_from_the_operators_listener() {
    let admin = admin(Role::Operator, Vec::new());
    for fields in [
        &[("host", "evil.example")][..],
        &[("host", "localhost"), ("origin", "https://evil.example")],
        &[("host", "localhost"), ("origin", "null")],
        &[("host", "localhost"), ("sec-fetch-site", "cross-site")],
        &[("host", "localhost"), ("sec-fetch-site", "same-site")],
        &[("host", "localhost.evil.example")],
        &[("host", "10.0.0.1")],
    ] {
        assert_eq!(ask(&admin, get("/metrics", fields)).await.0, 403, "{fields:?}");
        assert_eq!(ask(&admin, get("/livez", fields)).await.0, 403, "{fields:?}");
    }
    for fields in [&[][..], &[("host", "127.0.0.1"), ("host", "localhost")]] {
        assert_eq!(ask(&admin, get("/metrics", fields)).await.0, 400, "{fields:?}");
    }
    for fields in [
        &[("host", "localhost:6663")][..],
        &[("host", "[::1]:6663")],
        &[("host", "localhost:6663"), ("origin", "http://localhost:6663")],
        &[("host", "127.0.0.1"), ("sec-fetch-site", "none")],
    ] {
        assert_eq!(ask(&admin, get("/metrics", fields)).await.0, 200, "{fields:?}");
    }
}

#[tokio::test]
async fn a_kubelet_may_name_any_host() {
    let admin = admin(Role::Probe, Vec::new());
    assert_eq!(ask(&admin, get("/readyz", &[("host", "10.1.2.3:6662")])).await.0, 200);
}

#[tokio::test]
async fn only_a_post_to_the_operators_listener_changes_anything() {
    let local = [("host", "127.0.0.1:6663")];
    let reloads = |admin: &Arc<Told>| admin.reloads.load(Ordering::Relaxed);
    let told = told(Vec::new());
    let operator = Admin::new(Role::Operator, Rules::default(), told.clone());
    let probe = Admin::new(Role::Probe, Rules::default(), told.clone());
    assert_eq!(ask(&operator, get("/-/reload", &local)).await.0, 405);
    assert_eq!(ask(&operator, post("/metrics", &local)).await.0, 405);
    assert_eq!(ask(&probe, post("/-/reload", &local)).await.0, 404);
    assert_eq!(ask(&probe, post("/-/credentials/org/test", &local)).await.0, 404);
    let foreign = [("host", "127.0.0.1:6663"), ("origin", "https://evil.example")];
    assert_eq!(ask(&operator, post("/-/reload", &foreign)).await.0, 403);
    assert_eq!(reloads(&told), 0);
    let (status, body) = ask(&operator, post("/-/reload", &local)).await;
    assert_eq!((status, reloads(&told)), (200, 1));
    assert!(body.contains("is not there") && body.contains("\"age_s\":7"), "{body}");
}

#[tokio::test]
async fn a_place_is_named_to_operators_and_not_to_probes() {
    let (_, body) = ask(&admin(Role::Probe, Vec::new()), get("/readyz", &[])).await;
    assert!(body.contains("\"state\":\"stale\"") && !body.contains("/run"), "{body}");
}

#[tokio::test]
async fn a_key_is_tested_by_name() {
    let admin = admin(Role::Operator, Vec::new());
    let local = [("host", "localhost")];
    let (status, body) = ask(&admin, post("/-/credentials/org/test", &local)).await;
    assert_eq!(status, 200);
    assert!(body.contains("\"accepted\":true"), "{body}");
    assert_eq!(ask(&admin, post("/-/credentials/no/test", &local)).await.0, 404);
}

#[tokio::test]
async fn what_is_kept_is_forgotten_whole_or_by_route() {
    let told = told(Vec::new());
    let (operator, probe) = (
        Admin::new(Role::Operator, Rules::default(), told.clone()),
        Admin::new(Role::Probe, Rules::default(), told.clone()),
    );
    let local = [("host", "127.0.0.1:6663")];
    let all = "/-/cache/purge";
    let route = |query: &str| format!("{all}?{query}");

    assert_eq!(ask(&operator, get(all, &local)).await.0, 405);
    assert_eq!(ask(&probe, post(all, &local)).await.0, 404);
    for field in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
        let foreign = [local[0], field];
        assert_eq!(ask(&operator, post(all, &foreign)).await.0, 403, "{field:?}");
    }
    assert_eq!(ask(&operator, post(all, &[("host", "evil.example")])).await.0, 403);
    // A slip must not take everything along.
    for slip in [
        "",
        "route",
        "route=",
        "rout=lists",
        "Route=lists",
        "route=lists&route=rest",
        "route=lists&",
        "&route=lists",
        "route=li%73ts",
        "route=a+b",
    ] {
        let (status, body) = ask(&operator, post(&route(slip), &local)).await;
        assert_eq!(status, 400, "{slip}: {body}");
    }
    let (status, body) = ask(&operator, post(&route("route=labels"), &local)).await;
    assert_eq!(status, 404);
    assert!(body.contains("no-such-route") && body.contains("lists, rest"), "{body}");
    assert!(body.contains("\"routes\":[\"lists\",\"rest\"]"), "{body}");
    assert_eq!(*told.purges.lock().unwrap(), []);

    let (status, body) = ask(&operator, post(&route("route=lists"), &local)).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, body), (200, json!({ "route": "lists", "entries": 12 })));
    let (status, body) = ask(&operator, post(all, &local)).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, body), (200, json!({ "route": null, "entries": null })));
    assert_eq!(*told.purges.lock().unwrap(), [Some(RouteId::new("lists")), None]);
}

fn with_token() -> (Admin, Arc<Told>) {
    let told = told(Vec::new());
    let token = Some(TokenDigest::of(b"of-operators"));
    (Admin::new(Role::Operator, Rules { token, ..Rules::default() }, told.clone()), told)
}

/// What only operators get; some are none of ours, and nobody is told which.
const CLOSED: [&str; 15] = [
    "/metrics",
    "/-/reload",
    "/-/cache/purge",
    "/-/credentials/org/test",
    "/-/status.json",
    "/-/events",
    "/-/pause",
    "/-/resume",
    "/-/log?filter=trace",
    "/x",
    "/-/credentials/../../livez/test",
    "/%6civez/../-/pause",
    "/./",
    "/-/events/../..",
    "/-/",
];

#[tokio::test]
async fn where_there_is_a_token_only_who_shows_it_gets_more_than_a_sign_of_life() {
    let (admin, told) = with_token();
    let local = ("host", "127.0.0.1:6663");
    for page in ["/livez", "/readyz", "/"] {
        assert_eq!(ask(&admin, get(page, &[local])).await.0, 200, "{page}");
        assert_eq!(ask(&admin, post(page, &[local])).await.0, 405, "{page}");
    }
    // The page is the same for everybody; what it shows comes from elsewhere.
    let front = |admin: &Admin| {
        let admin = admin.clone();
        async move { ask(&admin, get("/", &[local])).await }
    };
    assert_eq!(front(&admin).await, front(&self::admin(Role::Operator, Vec::new())).await);
    let right = ("authorization", "Bearer of-operators");
    for shows in [
        &[local][..],
        &[local, ("authorization", "Bearer of-operator")],
        &[local, ("authorization", "Bearer OF-OPERATORS")],
        &[local, ("authorization", "Bearer")],
        &[local, ("authorization", "of-operators")],
        &[local, ("authorization", "Basic of-operators")],
        &[local, ("x-omnigate-token", "of-operators")],
        &[local, right, right],
    ] {
        for path in CLOSED {
            for request in [get(path, shows), post(path, shows)] {
                let response = admin.answer(request, Peer::pipe()).await;
                // Some are no targets at all.
                if response.status() == 400 && path.contains("./") {
                    continue;
                }
                assert_eq!(response.status(), 401, "{path} {shows:?}");
                assert!(response.headers()[WWW_AUTHENTICATE].as_bytes().starts_with(b"Bearer "));
            }
        }
    }
    assert_eq!(told.reloads.load(Ordering::Relaxed), 0);
    assert_eq!(told.looks.load(Ordering::Relaxed), 0);
    assert_eq!(*told.purges.lock().unwrap(), []);
    assert_eq!(*told.pauses.lock().unwrap(), []);
    assert_eq!(*told.log.lock().unwrap(), None);
    assert_eq!(ask(&admin, get("/metrics", &[local, right])).await.0, 200);
    assert_eq!(ask(&admin, post("/-/reload", &[local, right])).await.0, 200);
    // A token does not open the door to web pages.
    let page = ("origin", "https://evil.example");
    assert_eq!(ask(&admin, post("/-/reload", &[local, right, page])).await.0, 403);
    assert_eq!(told.reloads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn without_a_token_nobody_is_answered_from_elsewhere() {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let peer = |remote| Peer::plain(Remote::Tcp(at(remote)), Some(at("10.0.0.1:6663")));
    let local = [("host", "10.0.0.1:6663"), ("authorization", "Bearer of-operators")];
    let status = async |admin: &Admin, peer| {
        let answer = admin.answer(post("/-/reload", &local), peer).await;
        answer.status().as_u16()
    };
    let open = admin(Role::Operator, Vec::new());
    assert_eq!(status(&open, peer("10.0.0.2:5000")).await, 403);
    assert_eq!(status(&open, peer("127.0.0.1:5000")).await, 200);
    assert_eq!(status(&with_token().0, peer("10.0.0.2:5000")).await, 200);
}

/// A body that never ends; reading it fails the test.
struct Endless;

impl http_body::Body for Endless {
    type Data = bytes::Bytes;
    type Error = crate::base::BoxError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        panic!("the body was read")
    }
}

#[tokio::test]
async fn a_body_is_neither_read_nor_obeyed() {
    let told = told(Vec::new());
    let local = [("host", "127.0.0.1:6663")];
    for role in [Role::Operator, Role::Probe] {
        let admin = Admin::new(role, Rules::default(), told.clone());
        for path in CLOSED.into_iter().chain(["/", "/livez"]) {
            for request in [post(path, &local), get(path, &local)] {
                let request = request.map(|_| Body::boxed(Endless));
                let response = admin.answer(request, Peer::pipe()).await;
                assert!(response.status().is_client_error(), "{path}");
            }
        }
        let request = get("/livez", &local).map(|_| Body::boxed(Endless));
        let response = admin.answer(request, Peer::pipe()).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()[CONNECTION]),
            (413, &"close".parse().unwrap())
        );
    }
    assert_eq!(told.reloads.load(Ordering::Relaxed), 0);
    assert_eq!(*told.purges.lock().unwrap(), []);
}

#[tokio::test]
async fn no_answer_is_kept_or_guessed_at_or_shared() {
    let local = [("host", "127.0.0.1:6663")];
    let foreign = [("host", "evil.example"), ("origin", "https://evil.example")];
    for role in [Role::Operator, Role::Probe] {
        for path in ["/livez", "/readyz", "/", "//"].into_iter().chain(CLOSED) {
            for fields in [&local[..], &foreign] {
                for request in [get(path, fields), post(path, fields)] {
                    let response = admin(role, Vec::new()).answer(request, Peer::pipe()).await;
                    let headers = response.headers();
                    assert_eq!(headers[CACHE_CONTROL], "no-store", "{path}");
                    assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
                    let cors =
                        |name: &http::HeaderName| name.as_str().starts_with("access-control");
                    assert!(!headers.keys().any(cors), "{path}");
                }
            }
        }
    }
}

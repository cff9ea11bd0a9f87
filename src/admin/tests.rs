//! What the listeners answer, and to whom.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt;

use super::*;

struct Told {
    reasons: Vec<Reason>,
    reloads: AtomicUsize,
    purges: Mutex<Vec<Option<RouteId>>>,
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

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
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

    fn purge(&self, route: Option<&RouteId>) -> Result<Purged, NoSuchRoute> {
        if route.is_some_and(|route| route.as_str() != "lists") {
            return Err(NoSuchRoute { known: ["lists", "rest"].map(RouteId::new).to_vec() });
        }
        self.purges.lock().unwrap().push(route.cloned());
        Ok(Purged { entries: route.map(|_| 12) })
    }
}

fn told(reasons: Vec<Reason>) -> Arc<Told> {
    Arc::new(Told { reasons, reloads: AtomicUsize::new(0), purges: Mutex::default() })
}

fn admin(role: Role, reasons: Vec<Reason>) -> Admin {
    Admin::new(role, told(reasons))
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
async fn a_gateway_that_cannot_serve_is_alive_and_not_ready() {
    let missing = Reason::CredentialMissing(CredentialId::new("org"));
    let admin = admin(Role::Operator, vec![missing]);
    let local = [("host", "127.0.0.1:6663")];
    assert_eq!(ask(&admin, get("/livez", &local)).await.0, 200);
    let (status, body) = ask(&admin, get("/readyz", &local)).await;
    assert_eq!(status, 503);
    assert!(body.contains("credential-missing") && body.contains("org"), "{body}");
    assert_eq!(ask(&admin, get("/metrics", &local)).await, (200, "# EOF\n".to_owned()));
    assert_eq!(ask(&admin, get("/", &local)).await.0, 404);
}

#[tokio::test]
async fn a_web_page_gets_nothing_from_the_operators_listener() {
    let admin = admin(Role::Operator, Vec::new());
    for fields in [
        &[("host", "evil.example")][..],
        &[],
        &[("host", "127.0.0.1"), ("host", "localhost")],
        &[("host", "localhost"), ("origin", "https://evil.example")],
        &[("host", "localhost"), ("origin", "null")],
        &[("host", "localhost"), ("sec-fetch-site", "cross-site")],
        &[("host", "localhost"), ("sec-fetch-site", "same-site")],
        &[("host", "localhost.evil.example")],
        &[("host", "10.0.0.1")],
    ] {
        assert_eq!(ask(&admin, get("/metrics", fields)).await.0, 403, "{fields:?}");
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
    let operator = Admin::new(Role::Operator, told.clone());
    let probe = Admin::new(Role::Probe, told.clone());
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
    let (operator, probe) =
        (Admin::new(Role::Operator, told.clone()), Admin::new(Role::Probe, told.clone()));
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

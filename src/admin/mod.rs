//! What operators ask: is it alive, is it ready, what does it count; and what they tell it to do.

mod guard;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::base::{Body, CredentialId, Peer};

/// Where operators connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Loopback only.
    pub listen: SocketAddr,
    /// Serves `/livez`, `/readyz` and `/metrics` alone, for kubelets and Prometheus.
    pub probe_listen: Option<SocketAddr>,
}

/// Which listener asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operators' own, on loopback. Closed to web pages.
    Operator,
    /// For kubelets and Prometheus, which name any host.
    Probe,
}

/// Whether calls would be served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// What keeps them from it; nothing when ready.
    pub reasons: Vec<Reason>,
    /// How the keys stand.
    pub credentials: Vec<CredentialView>,
}

/// How one key stands. Never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialView {
    /// Its name.
    pub id: CredentialId,
    /// `ready`, `stale`, `rejected` or `missing`.
    pub state: &'static str,
    /// How long ago its value was first read; `None` when it has none.
    pub age: Option<Duration>,
    /// What is wrong with its place, for operators.
    pub trouble: Option<String>,
}

/// What Omni said when it was asked about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAnswer {
    /// The status of its answer.
    pub status: u16,
    /// Whether it takes the key.
    pub accepted: bool,
    /// Whether it refuses the key; where neither, it did not say.
    pub refused: bool,
    /// The first eight digits of the SHA-256 of the value that it was asked about.
    pub sha256: Option<String>,
    /// `organization` or `user`, where it said so.
    pub key_scope: Option<&'static str>,
}

/// Why Omni could not be asked about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// There is no such key.
    Unknown,
    /// Nothing was sent, or nothing came back.
    Because {
        /// Why.
        why: String,
        /// Whether the question may have been sent, and was charged.
        sent: bool,
    },
}

/// Why calls, or some of them, would not be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The process is about to end.
    Draining,
    /// This credential has no value.
    CredentialMissing(CredentialId),
}

/// What the listeners show and do; asked anew each time.
pub trait Desk: Send + Sync + 'static {
    /// Whether calls would be served.
    fn readiness(&self) -> Readiness;

    /// The metrics in the OpenMetrics text format.
    fn metrics(&self) -> String;

    /// Looks at every secret's place again.
    fn reload(&self) -> BoxFuture<'static, ()>;

    /// Asks Omni whether a key is good; costs one request.
    fn test_key(&self, id: CredentialId) -> BoxFuture<'static, Result<KeyAnswer, NoAnswer>>;
}

/// Answers one listener's requests.
#[derive(Clone)]
pub struct Admin {
    role: Role,
    desk: Arc<dyn Desk>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("role", &self.role).finish_non_exhaustive()
    }
}

impl Admin {
    /// Answers as `role` what `desk` has to say.
    pub fn new(role: Role, desk: Arc<dyn Desk>) -> Self {
        Self { role, desk }
    }

    /// Answers one request. Only a POST changes anything, and only on the operators' own listener.
    pub async fn answer(&self, request: Request<Body>, peer: Peer) -> Response<Body> {
        let guarded = match self.role {
            Role::Operator => guard::check(&request, &peer),
            Role::Probe => Ok(()),
        };
        if let Err(refused) = guarded {
            return problem(StatusCode::FORBIDDEN, "browser-request", &refused.to_string());
        }
        let Some(page) = Page::at(request.uri().path(), self.role) else {
            return problem(StatusCode::NOT_FOUND, "no-route", self.role.pages());
        };
        let (fits, allowed) = match page {
            Page::Live | Page::Ready | Page::Metrics => {
                (matches!(*request.method(), Method::GET | Method::HEAD), "GET, HEAD")
            }
            Page::Reload | Page::Test(_) => (request.method() == Method::POST, "POST"),
        };
        if !fits {
            let detail = format!("Only {allowed}.");
            let mut response =
                problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", &detail);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return response;
        }
        match page {
            Page::Live => answer(StatusCode::OK, "text/plain; charset=utf-8", "alive\n".to_owned()),
            Page::Ready => ready(&self.desk.readiness()),
            Page::Metrics => answer(StatusCode::OK, OPEN_METRICS, self.desk.metrics()),
            Page::Reload => {
                self.desk.reload().await;
                let credentials = self.desk.readiness().credentials;
                let all: Vec<Value> = credentials.iter().map(|one| shown(one, true)).collect();
                document(StatusCode::OK, &json!({ "credentials": all }))
            }
            Page::Test(id) => tested(&id, self.desk.test_key(id.clone()).await),
        }
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

enum Page {
    Live,
    Ready,
    Metrics,
    Reload,
    Test(CredentialId),
}

impl Page {
    fn at(path: &str, role: Role) -> Option<Self> {
        match (path, role) {
            ("/livez", _) => Some(Self::Live),
            ("/readyz", _) => Some(Self::Ready),
            ("/metrics", _) => Some(Self::Metrics),
            ("/-/reload", Role::Operator) => Some(Self::Reload),
            (_, Role::Operator) => {
                let name = path.strip_prefix("/-/credentials/")?.strip_suffix("/test")?;
                Some(Self::Test(CredentialId::new(name)))
            }
            (_, Role::Probe) => None,
        }
    }
}

impl Role {
    fn pages(self) -> &'static str {
        match self {
            Self::Operator => {
                "There are /livez, /readyz and /metrics here, and to POST to: /-/reload and \
                 /-/credentials/NAME/test."
            }
            Self::Probe => "There are /livez, /readyz and /metrics here.",
        }
    }
}

/// One key's standing; `whole` with what is wrong with its place, for operators.
fn shown(view: &CredentialView, whole: bool) -> Value {
    let mut shown = json!({ "credential": view.id.as_str(), "state": view.state });
    if let Some(age) = view.age {
        shown["age_s"] = json!(age.as_secs());
    }
    if let Some(trouble) = view.trouble.as_ref().filter(|_| whole) {
        shown["trouble"] = json!(trouble);
    }
    shown
}

fn tested(id: &CredentialId, said: Result<KeyAnswer, NoAnswer>) -> Response<Body> {
    match said {
        Ok(KeyAnswer { status, accepted, refused, sha256, key_scope }) => {
            let body = json!({
                "credential": id.as_str(),
                "accepted": accepted,
                "refused": refused,
                "sha256": sha256,
                "status": status,
                "key_scope": key_scope,
            });
            document(StatusCode::OK, &body)
        }
        Err(NoAnswer::Unknown) => {
            problem(StatusCode::NOT_FOUND, "no-route", "There is no credential of that name.")
        }
        Err(NoAnswer::Because { why, sent }) => {
            let body = json!({
                "type": "urn:omnigate:problem:upstream-unreachable",
                "status": 503,
                "detail": format!("Omni could not be asked: {why}."),
                "sent": sent,
            });
            answer(StatusCode::SERVICE_UNAVAILABLE, "application/problem+json", body.to_string())
        }
    }
}

fn ready(readiness: &Readiness) -> Response<Body> {
    let reasons: Vec<Value> = readiness
        .reasons
        .iter()
        .map(|reason| match reason {
            Reason::Draining => json!({ "reason": "draining" }),
            Reason::CredentialMissing(id) => {
                json!({ "reason": "credential-missing", "credential": id.as_str() })
            }
        })
        .collect();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let keys: Vec<Value> = readiness.credentials.iter().map(|one| shown(one, false)).collect();
    document(status, &json!({ "ready": ready, "reasons": reasons, "credentials": keys }))
}

fn document(status: StatusCode, body: &Value) -> Response<Body> {
    answer(status, "application/json", format!("{body}\n"))
}

fn answer(status: StatusCode, media: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn problem(status: StatusCode, kind: &str, detail: &str) -> Response<Body> {
    let body = json!({
        "type": format!("urn:omnigate:problem:{kind}"),
        "status": status.as_u16(),
        "detail": detail,
    });
    answer(status, "application/problem+json", body.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;

    use super::*;

    struct Told {
        reasons: Vec<Reason>,
        reloads: AtomicUsize,
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
    }

    fn admin(role: Role, reasons: Vec<Reason>) -> Admin {
        Admin::new(role, Arc::new(Told { reasons, reloads: AtomicUsize::new(0) }))
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
        let told = Arc::new(Told { reasons: Vec::new(), reloads: AtomicUsize::new(0) });
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
}

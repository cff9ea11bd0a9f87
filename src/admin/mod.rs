//! What operators ask: is it alive, is it ready, what does it count.

mod guard;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

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
}

/// Why calls, or some of them, would not be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The process is about to end.
    Draining,
    /// This credential has no value.
    CredentialMissing(CredentialId),
}

/// What the listeners show; both are asked anew each time.
#[derive(Clone)]
pub struct Views {
    /// Whether calls would be served.
    pub readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// The metrics in the OpenMetrics text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Views")
    }
}

/// Answers one listener's requests.
#[derive(Clone, Debug)]
pub struct Admin {
    role: Role,
    views: Views,
}

impl Admin {
    /// Answers as `role` with what `views` show.
    pub fn new(role: Role, views: Views) -> Self {
        Self { role, views }
    }

    /// Answers one request. Nothing here changes anything.
    pub fn answer(&self, request: &Request<Body>, peer: &Peer) -> Response<Body> {
        let guarded = match self.role {
            Role::Operator => guard::check(request, peer),
            Role::Probe => Ok(()),
        };
        if let Err(refused) = guarded {
            return problem(StatusCode::FORBIDDEN, "browser-request", &refused.to_string());
        }
        let page = match request.uri().path() {
            "/livez" => Page::Live,
            "/readyz" => Page::Ready,
            "/metrics" => Page::Metrics,
            _ => return problem(StatusCode::NOT_FOUND, "no-route", PAGES),
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response =
                problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Only GET and HEAD.");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match page {
            Page::Live => answer(StatusCode::OK, "text/plain; charset=utf-8", "alive\n".to_owned()),
            Page::Ready => ready(&(self.views.readiness)()),
            Page::Metrics => answer(StatusCode::OK, OPEN_METRICS, (self.views.metrics)()),
        }
    }
}

const PAGES: &str = "There are /livez, /readyz and /metrics here.";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

enum Page {
    Live,
    Ready,
    Metrics,
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
    let body = json!({ "ready": ready, "reasons": reasons });
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
    use http_body_util::BodyExt;

    use super::*;

    fn admin(role: Role, reasons: Vec<Reason>) -> Admin {
        let readiness = move || Readiness { reasons: reasons.clone() };
        let views =
            Views { readiness: Arc::new(readiness), metrics: Arc::new(|| "# EOF\n".to_owned()) };
        Admin::new(role, views)
    }

    fn get(path: &str, fields: &[(&'static str, &'static str)]) -> Request<Body> {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request
    }

    async fn ask(admin: &Admin, request: Request<Body>) -> (u16, String) {
        let response = admin.answer(&request, &Peer::pipe());
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
    async fn nothing_is_changed_by_any_method() {
        let admin = admin(Role::Probe, Vec::new());
        let mut post = get("/metrics", &[]);
        *post.method_mut() = Method::POST;
        assert_eq!(ask(&admin, post).await.0, 405);
    }
}

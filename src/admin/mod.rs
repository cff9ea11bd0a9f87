//! What operators ask: is it alive, is it ready, what does it count; and what they tell it to do.

mod exposition;
mod purge;
mod rules;
pub mod status;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::base::{Body, BudgetId, CredentialId, Peer, RouteId};
use crate::caller::TokenDigest;
use crate::route::{BadTarget, Target};
use crate::telemetry::{BadFilter, Exposition};

pub use rules::Rules;
pub use status::Status;

/// Where operators connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Loopback or a unix socket, unless there is a token.
    pub listen: Place,
    /// Serves `/livez`, `/readyz` and `/metrics` alone, for kubelets and Prometheus.
    pub probe_listen: Option<SocketAddr>,
    /// The token that operators show.
    pub token: Option<TokenDigest>,
}

/// Where operators connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix {
        /// Where it is made.
        path: PathBuf,
        /// Its file mode, such as `0o600`.
        mode: u32,
    },
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which listener asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operators' own. Closed to web pages, and to whoever cannot show its token.
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

/// What was kept and is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purged {
    /// How many answers, where they were counted.
    pub entries: Option<u64>,
}

/// There is no such route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchRoute {
    /// Those that there are.
    pub known: Vec<RouteId>,
}

/// There is no such budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchBudget {
    /// Those that there are.
    pub known: Vec<BudgetId>,
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

    /// The metrics in this text format.
    fn metrics(&self, form: Exposition) -> String;

    /// Looks at every secret's place again.
    fn reload(&self) -> BoxFuture<'static, ()>;

    /// Asks Omni whether a key is good; costs one request.
    fn test_key(&self, id: CredentialId) -> BoxFuture<'static, Result<KeyAnswer, NoAnswer>>;

    /// Forgets every answer that is kept, or those of one route.
    ///
    /// # Errors
    /// There is no such route; nothing was forgotten.
    fn purge(&self, route: Option<&RouteId>) -> Result<Purged, NoSuchRoute>;

    /// The facts of this moment.
    fn status(&self) -> Status;

    /// Sends nothing any more that is charged to this budget, or nothing at all, until somebody resumes
    /// or `time` has passed. Calls wait as long as they would wait for their turn.
    ///
    /// # Errors
    /// There is no such budget; nothing was paused.
    fn pause(&self, budget: Option<&BudgetId>, time: Option<Duration>) -> Result<(), NoSuchBudget>;

    /// Ends what [`Desk::pause`] began: for this budget, or everything that was paused by hand. What Omni
    /// asked for stays.
    ///
    /// # Errors
    /// There is no such budget.
    fn resume(&self, budget: Option<&BudgetId>) -> Result<(), NoSuchBudget>;

    /// The log filter in force.
    fn log_filter(&self) -> String;

    /// Puts another log filter in force, or that of the config; gives the one in force now.
    ///
    /// # Errors
    /// The text is no filter.
    fn set_log(&self, filter: Option<&str>) -> Result<String, BadFilter>;
}

/// Answers one listener's requests.
#[derive(Clone)]
pub struct Admin {
    role: Role,
    rules: Rules,
    desk: Arc<dyn Desk>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("role", &self.role).finish_non_exhaustive()
    }
}

impl Admin {
    /// Answers as `role` what `desk` has to say. The rules are the operators'; probes have none.
    pub fn new(role: Role, rules: Rules, desk: Arc<dyn Desk>) -> Self {
        Self { role, rules, desk }
    }

    /// Answers one request. Only a POST changes anything, and only on the operators' own listener. No
    /// page takes a body, and none is read.
    pub async fn answer(&self, request: Request<Body>, peer: Peer) -> Response<Body> {
        let request = request.map(|body| HasBody(!http_body::Body::is_end_stream(&body)));
        let target = match Target::read(request.method(), request.uri(), request.headers()) {
            Ok(target) => target,
            // Probes are written by hand, some without a Host.
            Err(BadTarget::NoHost) if self.role == Role::Probe => return self.page(&request).await,
            Err(bad) => {
                return closing(problem(StatusCode::BAD_REQUEST, "bad-request", &bad.to_string()));
            }
        };
        if self.role == Role::Operator
            && let Err(refused) = self.rules.let_in(&target, request.headers(), &peer)
        {
            return refused.answer();
        }
        self.page(&request).await
    }

    async fn page(&self, request: &Request<HasBody>) -> Response<Body> {
        let Some(page) = Page::at(request.uri().path(), self.role) else {
            return problem(StatusCode::NOT_FOUND, "no-route", self.role.pages());
        };
        let (fits, allowed) = match page {
            Page::Live | Page::Ready | Page::Metrics => {
                (matches!(*request.method(), Method::GET | Method::HEAD), "GET, HEAD")
            }
            Page::Reload | Page::Test(_) | Page::Purge => {
                (request.method() == Method::POST, "POST")
            }
        };
        if !fits {
            let detail = format!("Only {allowed}.");
            let mut response =
                problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", &detail);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return response;
        }
        if request.body().0 {
            // What it says was meant to matter, and nobody knows how long it is.
            let detail = "No page here takes a body; what is to be done stands in the path.";
            return closing(problem(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail));
        }
        match page {
            Page::Live => answer(StatusCode::OK, "text/plain; charset=utf-8", "alive\n".to_owned()),
            Page::Ready => ready(&self.desk.readiness()),
            Page::Metrics => exposition::metrics(request.headers(), &*self.desk),
            Page::Reload => {
                self.desk.reload().await;
                let credentials = self.desk.readiness().credentials;
                let all: Vec<Value> = credentials.iter().map(|one| shown(one, true)).collect();
                document(StatusCode::OK, &json!({ "credentials": all }))
            }
            Page::Test(id) => tested(&id, self.desk.test_key(id.clone()).await),
            Page::Purge => purge::answer(request.uri().query(), &*self.desk),
        }
    }
}

/// All that we want to know of a body.
struct HasBody(bool);

/// The connection ends with this answer; what else comes over it is not read.
fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

enum Page {
    Live,
    Ready,
    Metrics,
    Reload,
    Test(CredentialId),
    Purge,
}

impl Page {
    fn at(path: &str, role: Role) -> Option<Self> {
        match (path, role) {
            ("/livez", _) => Some(Self::Live),
            ("/readyz", _) => Some(Self::Ready),
            ("/metrics", _) => Some(Self::Metrics),
            ("/-/reload", Role::Operator) => Some(Self::Reload),
            ("/-/cache/purge", Role::Operator) => Some(Self::Purge),
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
                "There are /livez, /readyz and /metrics here, and to POST to: /-/reload, \
                 /-/credentials/NAME/test, /-/cache/purge and /-/cache/purge?route=NAME."
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

fn reason(reason: &Reason) -> Value {
    match reason {
        Reason::Draining => json!({ "reason": "draining" }),
        Reason::CredentialMissing(id) => {
            json!({ "reason": "credential-missing", "credential": id.as_str() })
        }
    }
}

fn ready(readiness: &Readiness) -> Response<Body> {
    let reasons: Vec<Value> = readiness.reasons.iter().map(reason).collect();
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
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
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
mod tests;

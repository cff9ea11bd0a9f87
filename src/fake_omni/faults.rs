//! Failures that a test can order.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use tokio::time::Instant;

use super::held::Hold;
use super::settings::{Refusal, RetryAfter};
use super::{answer, bodies};
use crate::base::Body;

/// A way to fail.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The limit's own refusal, with or without `Retry-After`.
    Block(RetryAfter),
    /// An error of the application or of a load balancer with this status.
    Status(StatusCode),
    /// Closes the connection.
    Reset(Reset),
    /// Holds the head back for so long. The request has taken effect by then.
    SlowHead(Duration),
    /// Holds the head back until the test lets go. The request has taken effect by then, and what
    /// the answer shows is what there was when the request came.
    Hold(Hold),
    /// Sends the body in pieces of so many bytes, with a pause before each.
    SlowBody {
        /// Bytes in a piece.
        piece: usize,
        /// The pause.
        pause: Duration,
    },
    /// Answers 200 with the received `Authorization` in a field and in the body.
    EchoAuthorization,
    /// Answers 307 with this `Location`.
    Redirect(HeaderValue),
    /// Answers just this.
    Answer(Response<Bytes>),
}

/// When a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// At once: the body is not read and nothing takes effect.
    OnArrival,
    /// After the request took effect, before any byte of the answer.
    BeforeHead,
    /// After the head, before any byte of the body.
    AfterHead,
    /// Half way through the body, or after its first chunk where its length is not declared.
    ///
    /// The body is cut: `Content-Length` promises more, or the last chunk is missing.
    MidBody,
}

/// Which requests fail, and how.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    method: Option<Method>,
    path: Option<String>,
    target: Option<String>,
    owner: Option<String>,
    skip: usize,
    times: Option<usize>,
    lasting: Option<Duration>,
    until: Option<Instant>,
}

impl Rule {
    /// Every request fails like this, until [`heal`](super::FakeOmni::heal).
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            method: None,
            path: None,
            target: None,
            owner: None,
            skip: 0,
            times: None,
            lasting: None,
            until: None,
        }
    }

    /// Only requests of this method.
    pub fn method(self, method: Method) -> Self {
        Self { method: Some(method), ..self }
    }

    /// Only requests whose path begins like this.
    pub fn path(self, prefix: &str) -> Self {
        Self { path: Some(prefix.to_owned()), ..self }
    }

    /// Only requests of exactly this path and query.
    pub fn target(self, target: &str) -> Self {
        Self { target: Some(target.to_owned()), ..self }
    }

    /// Only requests with a key of this owner.
    pub fn owner(self, owner: &str) -> Self {
        Self { owner: Some(owner.to_owned()), ..self }
    }

    /// Spares the first `count` requests that match.
    pub fn skip(self, count: usize) -> Self {
        Self { skip: count, ..self }
    }

    /// Ends after `count` failures.
    pub fn times(self, count: usize) -> Self {
        Self { times: Some(count), ..self }
    }

    /// Ends so long after the first failure.
    pub fn lasting(self, time: Duration) -> Self {
        Self { lasting: Some(time), ..self }
    }

    fn matches(&self, method: &Method, target: &Uri, owner: Option<&str>) -> bool {
        let whole = target.path_and_query().map(PathAndQuery::as_str);
        self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.path.as_ref().is_none_or(|prefix| target.path().starts_with(prefix))
            && self.target.as_deref().is_none_or(|wanted| whole == Some(wanted))
            && self.owner.as_ref().is_none_or(|wanted| owner == Some(wanted))
    }

    fn spent(&self, now: Instant) -> bool {
        self.times == Some(0) || self.until.is_some_and(|end| now >= end)
    }
}

/// The rules in force, oldest first.
#[derive(Debug, Default)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    pub(super) fn push(&mut self, rule: Rule) {
        self.0.push(rule);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault of the first rule that wants this request.
    pub(super) fn strike(
        &mut self,
        method: &Method,
        target: &Uri,
        owner: Option<&str>,
        now: Instant,
    ) -> Option<Fault> {
        self.0.retain(|rule| !rule.spent(now));
        for rule in &mut self.0 {
            if !rule.matches(method, target, owner) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times = rule.times.map(|left| left - 1);
            rule.until = rule.until.or_else(|| rule.lasting.map(|time| now + time));
            return Some(rule.fault.clone());
        }
        None
    }
}

/// Why a connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection was ordered to be closed")]
pub(super) struct HungUp;

impl Fault {
    /// The answer that takes the application's place, if the application is not to be asked.
    pub(super) fn instead(
        &self,
        fields: &HeaderMap,
        refusal: &Refusal,
    ) -> Result<Option<Response<Body>>, HungUp> {
        Ok(Some(match self {
            Self::Block(retry_after) => {
                answer::refused(&Refusal { retry_after: retry_after.clone(), ..refusal.clone() })
            }
            Self::Status(status) => answer::failed(*status),
            Self::EchoAuthorization => echo(fields),
            Self::Redirect(location) => {
                let mut answer = answer::empty(StatusCode::TEMPORARY_REDIRECT);
                answer.headers_mut().insert(LOCATION, location.clone());
                answer
            }
            Self::Answer(answer) => answer.clone().map(Body::full),
            Self::Reset(Reset::OnArrival) => return Err(HungUp),
            Self::Reset(Reset::BeforeHead | Reset::AfterHead | Reset::MidBody)
            | Self::SlowHead(_)
            | Self::Hold(_)
            | Self::SlowBody { .. } => return Ok(None),
        }))
    }

    /// Spoils the application's answer.
    pub(super) async fn spoil(self, answer: Response<Body>) -> Result<Response<Body>, HungUp> {
        match self {
            Self::Reset(Reset::OnArrival | Reset::BeforeHead) => Err(HungUp),
            Self::Reset(Reset::AfterHead) => Ok(answer.map(|body| bodies::cut(body, Some(0)))),
            Self::Reset(Reset::MidBody) => {
                let length = answer::declared_length(&answer);
                Ok(answer.map(|body| bodies::cut(body, length.map(|length| length / 2))))
            }
            Self::SlowHead(delay) => {
                tokio::time::sleep(delay).await;
                Ok(answer)
            }
            Self::Hold(hold) => {
                hold.pass().await;
                Ok(answer)
            }
            Self::SlowBody { piece, pause } => {
                Ok(answer.map(|body| bodies::slow(body, piece, pause)))
            }
            Self::Block(_)
            | Self::Status(_)
            | Self::EchoAuthorization
            | Self::Redirect(_)
            | Self::Answer(_) => Ok(answer),
        }
    }
}

fn echo(fields: &HeaderMap) -> Response<Body> {
    let value = fields.get(AUTHORIZATION).cloned().unwrap_or(HeaderValue::from_static("none"));
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut answer =
        answer::json(StatusCode::OK, &serde_json::json!({ "received": { "authorization": text } }));
    answer.headers_mut().insert("x-echo-authorization", value);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(rules: &mut Rules, method: &Method, path: &str) -> bool {
        rules.strike(method, &path.parse().unwrap(), Some("ada"), Instant::now()).is_some()
    }

    #[test]
    fn a_rule_strikes_the_nth_matching_request_and_then_ends() {
        let mut rules = Rules::default();
        let fault = Fault::Status(StatusCode::BAD_GATEWAY);
        rules.push(Rule::new(fault).method(Method::GET).path("/api/v1/fol").skip(1).times(2));
        assert!(!strikes(&mut rules, &Method::GET, "/api/v1/folders"));
        assert!(!strikes(&mut rules, &Method::POST, "/api/v1/folders"));
        assert!(!strikes(&mut rules, &Method::GET, "/api/v1/labels"));
        assert!(strikes(&mut rules, &Method::GET, "/api/v1/folders"));
        assert!(strikes(&mut rules, &Method::GET, "/api/v1/folders"));
        assert!(!strikes(&mut rules, &Method::GET, "/api/v1/folders"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_for_a_time_begins_with_its_first_strike() {
        let mut rules = Rules::default();
        let block = Fault::Block(RetryAfter::Absent);
        rules.push(Rule::new(block).owner("ada").lasting(Duration::from_secs(30)));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(strikes(&mut rules, &Method::GET, "/"));
        tokio::time::advance(Duration::from_millis(29_999)).await;
        assert!(strikes(&mut rules, &Method::GET, "/"));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!strikes(&mut rules, &Method::GET, "/"));
    }
}

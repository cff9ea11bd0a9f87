//! From an error to the answer that the caller reads (RFC 9457). The only status table.

use std::time::Duration;

use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::base::Body;
use crate::caller::Unknown;
use crate::policy::Denied;
use crate::proxy::error::Error;
use crate::proxy::exchange::Exchange;
use crate::route::{BadPath, BadTarget};
use crate::shape::Refused;
use crate::upstream::{ConnectError, SendError};

/// RFC 9209.
pub(crate) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// What one kind of error looks like from outside.
struct Shape {
    status: StatusCode,
    /// The last part of `type`; stable.
    kind: &'static str,
    /// The error type of RFC 9209.
    proxy_status: &'static str,
    /// Whether the connection may carry another request afterwards.
    close: bool,
}

const fn shape(status: StatusCode, kind: &'static str, proxy_status: &'static str) -> Shape {
    Shape { status, kind, proxy_status, close: false }
}

const fn bad_request(status: StatusCode) -> Shape {
    Shape { status, kind: "bad-request", proxy_status: "http_request_error", close: true }
}

impl Error {
    /// The stable name of this refusal, for metrics and logs.
    pub(crate) fn kind(&self) -> &'static str {
        self.shape().kind
    }

    /// The status of its answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.shape().status
    }

    /// The type of its answer.
    pub(crate) fn urn(&self) -> String {
        format!("urn:omnigate:problem:{}", self.kind())
    }

    fn shape(&self) -> Shape {
        use StatusCode as S;
        match self {
            Self::Target(BadTarget::Path(BadPath::TooLong) | BadTarget::QueryTooLong) => {
                bad_request(S::URI_TOO_LONG)
            }
            Self::Target(_) | Self::Framing(_) | Self::EscapedSeparator | Self::Upload(_) => {
                bad_request(S::BAD_REQUEST)
            }
            Self::TooSlow(_) => bad_request(S::REQUEST_TIMEOUT),
            Self::Loop(_) => shape(S::LOOP_DETECTED, "loop", "proxy_loop_detected"),
            Self::Browser(_) => shape(S::FORBIDDEN, "browser-request", "http_request_denied"),
            Self::Caller(Unknown::Token | Unknown::Tokens | Unknown::NoToken) => {
                shape(S::UNAUTHORIZED, "caller-unknown", "http_request_denied")
            }
            Self::Caller(Unknown::Header { .. } | Unknown::Nobody) | Self::RouteDenied { .. } => {
                shape(S::FORBIDDEN, "caller-denied", "http_request_denied")
            }
            Self::NoRoute { .. } => shape(S::NOT_FOUND, "no-route", "destination_not_found"),
            Self::Method { .. } => {
                shape(S::METHOD_NOT_ALLOWED, "method-not-allowed", "http_request_denied")
            }
            Self::Denied(denied) => denied_shape(denied),
            Self::Refused(Refused::Rejected { .. }) => {
                shape(S::SERVICE_UNAVAILABLE, "credential-rejected", "proxy_configuration_error")
            }
            Self::Refused(Refused::CallerLimit { .. }) => {
                shape(S::TOO_MANY_REQUESTS, "caller-limit", "http_request_denied")
            }
            Self::Refused(Refused::Full { .. } | Refused::CallerFull { .. }) => {
                shape(S::SERVICE_UNAVAILABLE, "queue-full", "connection_limit_reached")
            }
            Self::Refused(Refused::Late { .. }) | Self::TooSoon(_) => {
                shape(S::SERVICE_UNAVAILABLE, "queue-deadline", "connection_limit_reached")
            }
            Self::Refused(Refused::Paused { .. }) => {
                shape(S::SERVICE_UNAVAILABLE, "paused", "proxy_internal_response")
            }
            Self::Refused(Refused::Unshared { .. }) => {
                shape(S::SERVICE_UNAVAILABLE, "shared-budget-lost", "proxy_internal_response")
            }
            Self::Refused(Refused::Draining { .. }) => {
                shape(S::SERVICE_UNAVAILABLE, "draining", "proxy_internal_response")
            }
            Self::Credential(_) | Self::Replaced { .. } => {
                shape(S::SERVICE_UNAVAILABLE, "credential-unavailable", "proxy_configuration_error")
            }
            Self::Connect(ConnectError::Timeout { .. }) => {
                shape(S::BAD_GATEWAY, "upstream-unreachable", "connection_timeout")
            }
            Self::Connect(ConnectError::Io(_) | ConnectError::Handshake(_)) => {
                shape(S::BAD_GATEWAY, "upstream-unreachable", "destination_unavailable")
            }
            Self::Send(SendError::Timeout { .. }) => {
                shape(S::GATEWAY_TIMEOUT, "upstream-timeout", "http_response_timeout")
            }
            Self::Send(SendError::Switched) => {
                shape(S::BAD_GATEWAY, "upstream-unreachable", "http_protocol_error")
            }
            Self::Send(SendError::Broken(_) | SendError::NotBegun | SendError::Upload(_))
            | Self::Unsteady
            | Self::Incomplete => {
                shape(S::BAD_GATEWAY, "upstream-unreachable", "connection_terminated")
            }
            Self::Busy { .. } => {
                shape(S::SERVICE_UNAVAILABLE, "upstream-busy", "http_request_denied")
            }
            Self::Overloaded => Shape {
                close: true,
                ..shape(S::SERVICE_UNAVAILABLE, "overloaded", "connection_limit_reached")
            },
            Self::NotKept => shape(S::GATEWAY_TIMEOUT, "not-cached", "http_request_denied"),
            Self::Shared(error) => error.shape(),
            Self::Panic => shape(S::INTERNAL_SERVER_ERROR, "internal", "proxy_internal_error"),
        }
    }

    /// What the caller is told. The chain of causes goes to the log only.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Connect(_) => "Omni cannot be reached.".to_owned(),
            Self::Send(SendError::Timeout { after }) => {
                format!("Omni did not answer within {:.1} s.", after.as_secs_f64())
            }
            Self::Upload(_) => "The request body broke off before its end.".to_owned(),
            Self::Send(_) => "The connection to Omni broke before it answered.".to_owned(),
            Self::Shared(error) => error.detail(),
            Self::Panic => "This is a fault of omnigate's; its log knows more.".to_owned(),
            _ => {
                let text = self.to_string();
                let mut letters = text.chars();
                let first = letters.next().map(|c| c.to_uppercase().to_string());
                format!("{}{}.", first.unwrap_or_default(), letters.as_str())
            }
        }
    }

    fn extras(&self, body: &mut Map<String, Value>) {
        match self {
            Self::NoRoute { nearest } => {
                let names: Vec<&str> = nearest.iter().map(|id| id.as_str()).collect();
                body.insert("nearest".into(), json!(names));
            }
            Self::Refused(
                Refused::Full { queued, estimate } | Refused::CallerFull { queued, estimate, .. },
            ) => {
                body.insert("position".into(), json!(queued));
                body.insert("estimated_wait_s".into(), seconds(*estimate));
            }
            Self::Refused(
                Refused::Late { position, estimate, .. }
                | Refused::Draining { position, estimate, .. },
            ) => {
                body.insert("position".into(), json!(position));
                body.insert("estimated_wait_s".into(), seconds(*estimate));
            }
            Self::TooSoon(soon) => {
                body.insert("estimated_wait_s".into(), seconds(soon.after));
            }
            Self::Refused(Refused::Rejected { credential }) | Self::Replaced { credential } => {
                body.insert("credential".into(), json!(credential.as_str()));
            }
            Self::Send(SendError::Timeout { after }) => {
                body.insert("elapsed_s".into(), seconds(*after));
            }
            Self::Credential(unavailable) => {
                body.insert("credential".into(), json!(unavailable.credential.as_str()));
            }
            Self::Shared(error) => error.extras(body),
            _ => {}
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(
                Refused::Full { estimate, .. }
                | Refused::CallerFull { estimate, .. }
                | Refused::Late { estimate, .. }
                | Refused::Draining { estimate, .. },
            ) => Some(*estimate),
            Self::Refused(
                Refused::CallerLimit { retry_after, .. }
                | Refused::Paused { retry_after }
                | Refused::Unshared { retry_after },
            )
            | Self::Busy { retry_after } => Some(*retry_after),
            Self::Refused(Refused::Rejected { .. }) => Some(Duration::from_secs(60)),
            Self::TooSoon(soon) => Some(soon.after),
            Self::Credential(_) => Some(Duration::from_secs(5)),
            Self::Replaced { .. } | Self::Overloaded => Some(Duration::from_secs(1)),
            Self::Shared(error) => error.retry_after(),
            _ => None,
        }
    }
}

fn denied_shape(denied: &Denied) -> Shape {
    match denied {
        Denied::BodyTooLarge { .. } | Denied::BodyUnseen { .. } => Shape {
            close: true,
            ..shape(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "http_request_denied")
        },
        Denied::ContentEncoding => bad_request(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        Denied::Expectation => bad_request(StatusCode::EXPECTATION_FAILED),
        Denied::Upgrade => bad_request(StatusCode::BAD_REQUEST),
        Denied::Sensitive => shape(StatusCode::FORBIDDEN, "sensitive", "http_request_denied"),
        Denied::Impersonation(_) => {
            shape(StatusCode::FORBIDDEN, "impersonation-denied", "http_request_denied")
        }
    }
}

fn seconds(time: Duration) -> Value {
    json!((time.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// Says that it was upstream who spoke (RFC 9209 §2.1.5).
pub(crate) fn received(headers: &mut HeaderMap, status: StatusCode) {
    let status = status.as_u16();
    if let Ok(value) = HeaderValue::try_from(format!("omnigate; received-status={status}")) {
        headers.append(PROXY_STATUS, value);
    }
}

/// The answer to a call that upstream did not answer.
pub(crate) fn respond(error: &Error, exchange: &Exchange) -> Response<Body> {
    let shape = error.shape();
    let mut body = Map::new();
    body.insert("type".into(), json!(error.urn()));
    body.insert("title".into(), json!(title(shape.kind)));
    body.insert("status".into(), json!(shape.status.as_u16()));
    body.insert("detail".into(), json!(error.detail()));
    body.insert("instance".into(), json!(exchange.request_id().as_str()));
    if let Some(trace) = exchange.trail.trace.id() {
        body.insert("trace_id".into(), json!(trace.to_string()));
    }
    let attempts = exchange.trail.facts().attempts;
    if attempts > 0 {
        body.insert("attempts".into(), json!(attempts));
    }
    error.extras(&mut body);

    let mut response = Response::new(Body::full(Value::Object(body).to_string()));
    *response.status_mut() = shape.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Ok(value) = HeaderValue::try_from(format!("omnigate; error={}", shape.proxy_status)) {
        headers.insert(PROXY_STATUS, value);
    }
    if let Some(wait) = error.retry_after() {
        // Whole seconds (RFC 9110 §10.2.3), rounded up so that nobody comes too early.
        let whole = wait.as_millis().div_ceil(1000).max(1);
        headers.insert(RETRY_AFTER, HeaderValue::from(u64::try_from(whole).unwrap_or(u64::MAX)));
    }
    if let Error::Method { allowed } = error {
        let list: Vec<&str> = allowed.iter().map(|method| method.as_str()).collect();
        if let Ok(value) = HeaderValue::try_from(list.join(", ")) {
            headers.insert(ALLOW, value);
        }
    }
    if shape.status == StatusCode::UNAUTHORIZED {
        // RFC 9110 §15.5.2 wants one with each 401.
        let challenge = HeaderValue::from_static("Bearer realm=\"omnigate\"");
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if shape.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Every stable name, with its title.
pub(crate) const TITLES: [(&str, &str); 24] = [
    ("bad-request", "This request cannot be passed on"),
    ("loop", "The request goes in circles"),
    ("browser-request", "Web pages may not ask here"),
    ("caller-unknown", "It is not known who asks"),
    ("caller-denied", "You may not do this here"),
    ("no-route", "No route for this path"),
    ("method-not-allowed", "No route for this method"),
    ("body-too-large", "The body is too large"),
    ("sensitive", "This call is not taken by a route that was not made for it"),
    ("impersonation-denied", "Acting for another user is not allowed here"),
    ("queue-full", "Too many calls wait already"),
    ("queue-deadline", "The turn comes too late"),
    ("paused", "This gateway was told to send nothing for now"),
    ("shared-budget-lost", "The shared budget is out of reach"),
    ("draining", "This gateway is shutting down"),
    ("credential-unavailable", "The key for this route is not at hand"),
    ("upstream-unreachable", "Omni cannot be reached"),
    ("upstream-timeout", "Omni does not answer"),
    ("upstream-busy", "Omni is busy"),
    ("overloaded", "This gateway has no room for this body now"),
    ("not-cached", "Nothing is kept for this"),
    ("caller-limit", "You have made as many calls as you may for now"),
    ("credential-rejected", "Omni refuses the key for this route"),
    ("internal", "A fault in this gateway"),
];

fn title(kind: &str) -> &'static str {
    let found = TITLES.iter().find(|(name, _)| *name == kind);
    found.map_or("A fault in this gateway", |(_, title)| title)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::TooSlow;

    #[test]
    fn every_stable_name_has_a_title() {
        let source = include_str!("problem.rs").split("#[cfg(test)]").next().unwrap();
        let texts: Vec<&str> = source.split('"').collect();
        let names: Vec<&str> = texts
            .windows(2)
            .filter(|pair| pair[0].lines().last().is_some_and(|line| line.contains("shape(")))
            .map(|pair| pair[1])
            .collect();
        assert!(names.len() > 15, "{names:?}");
        for name in names {
            assert!(TITLES.iter().any(|(known, _)| *known == name), "{name} has no title");
        }
    }

    #[test]
    fn a_budget_that_is_lost_is_a_503_that_says_when_to_come_again() {
        let retry_after = Duration::from_secs(7);
        let error = Error::from(Refused::Unshared { retry_after });
        let shape = error.shape();
        assert_eq!(
            (shape.status, shape.kind, shape.close),
            (StatusCode::SERVICE_UNAVAILABLE, "shared-budget-lost", false)
        );
        assert_eq!(error.retry_after(), Some(retry_after));
        assert!(!error.is_upstreams() && !error.caller_left());
        let detail = error.detail();
        assert_eq!(detail, "The shared budget cannot be reached, and nothing is sent without it.");
    }

    #[test]
    fn a_body_that_came_too_slowly_is_a_408_after_which_the_connection_closes() {
        let slow = TooSlow::Silent { after: Duration::from_secs(15) };
        let error = Error::upload(slow.into());
        let shape = error.shape();
        assert_eq!((shape.status, shape.kind), (StatusCode::REQUEST_TIMEOUT, "bad-request"));
        assert!(shape.close && !error.caller_left() && !error.is_upstreams());
        assert_eq!(error.detail(), "No byte of the request body came for 15 s.");
    }
}

//! ROOM: may this call be made.

mod body;
mod impersonation;

use http::header::{CONTENT_ENCODING, EXPECT, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::base::Body;
use crate::omni;

pub use body::{Inspection, Unread};
pub use impersonation::{Impersonation, Membership, WrongUser};

/// What one route lets through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Request fields that go upstream besides the allow-list, as far as [`may_forward`] lets them.
    pub forward_headers: Vec<HeaderName>,
    /// The most body bytes that a request may have.
    pub max_body: Option<u64>,
    /// For whom its calls may act.
    pub impersonation: Impersonation,
    /// Whether it takes calls that reach keys, people and what they may see.
    pub sensitive: bool,
    /// Whether upstream is asked not to code its answers, so that a key in them is seen.
    pub plain_answers: bool,
}

/// What is asked for, as far as it is known before the body is read.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// The canonical path.
    pub path: &'a str,
    /// The query, as it will be sent.
    pub query: Option<&'a str>,
    /// The caller's fields.
    pub headers: &'a HeaderMap,
    /// The body's length, where the request says it.
    pub length: Option<u64>,
}

/// Why a call is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// More body bytes than the route takes.
    #[error("the body is larger than the {limit} bytes that this route takes")]
    BodyTooLarge {
        /// The route's limit, in bytes.
        limit: u64,
    },
    /// More body bytes than can be looked into, on a call that must be.
    #[error(
        "the body is larger than the {limit} bytes within which it is looked into for a `userId`"
    )]
    BodyUnseen {
        /// How much of a body is looked into, in bytes.
        limit: u64,
    },
    /// A content coding, under which a body cannot be looked into.
    #[error("request bodies may not be compressed")]
    ContentEncoding,
    /// An expectation other than `100-continue`.
    #[error("the only expectation that can be met is `100-continue`")]
    Expectation,
    /// A wish for another protocol.
    #[error("no other protocol is spoken here than HTTP; there is no upgrade")]
    Upgrade,
    /// A call that reaches keys, people or rights, on a route that takes it by chance.
    #[error(
        "this call reaches keys, people or what they may see, and the route takes such calls only \
         where it says `sensitive = true`"
    )]
    Sensitive,
    /// The call would act for another user than it may.
    #[error(transparent)]
    Impersonation(#[from] WrongUser),
}

impl Policy {
    /// Looks at a request before anything is paid for it.
    ///
    /// # Errors
    /// Says what is not let through.
    pub fn check(&self, asked: &Asked<'_>) -> Result<(), Denied> {
        let Asked { method, path, query, headers, length } = *asked;
        if headers.contains_key(UPGRADE) {
            return Err(Denied::Upgrade);
        }
        let all_are =
            |name, word: &[u8]| headers.get_all(name).iter().all(|value| value_is(value, word));
        if !all_are(EXPECT, b"100-continue") {
            return Err(Denied::Expectation);
        }
        if !all_are(CONTENT_ENCODING, b"identity") {
            return Err(Denied::ContentEncoding);
        }
        if !self.sensitive && omni::is_sensitive(method, path) {
            return Err(Denied::Sensitive);
        }
        self.impersonation.check(path, query, headers)?;
        match (self.max_body, length) {
            (Some(limit), Some(length)) if length > limit => Err(Denied::BodyTooLarge { limit }),
            _ => Ok(()),
        }
    }

    /// What has to be found out about the body of a call that has passed [`Policy::check`], where
    /// it may say for whom the call acts.
    pub fn inspection(&self, asked: &Asked<'_>) -> Option<Inspection<'_>> {
        self.impersonation.inspection(asked.path, asked.query, asked.headers)
    }

    /// Whether this request field goes upstream besides the allow-list.
    pub fn forwards(&self, name: &HeaderName) -> bool {
        self.impersonation.forwards(name)
            || self.forward_headers.contains(name) && may_forward(name)
    }

    /// Makes an MCP call act for the member that the route is pinned to, if it is. For the fields
    /// that go upstream, after the caller's own are gone.
    pub fn set_member(&self, path: &str, headers: &mut HeaderMap) {
        self.impersonation.set(path, headers);
    }

    /// Holds a body to the route's limit while it streams, also where it did not say its length.
    ///
    /// Past the limit the body's error is [`Denied::BodyTooLarge`].
    pub fn limit(&self, body: Body) -> Body {
        let Some(limit) = self.max_body else { return body };
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        Body::boxed(Limited::new(body, most).map_err(move |error| {
            if error.is::<LengthLimitError>() {
                Denied::BodyTooLarge { limit }.into()
            } else {
                error
            }
        }))
    }
}

/// Whether a route may add this request field to the allow-list.
///
/// Not those that say who the caller is or was (upstream would believe them), those that belong to
/// one connection, those that frame the message, and our own.
pub fn may_forward(name: &HeaderName) -> bool {
    let name = name.as_str();
    let never = [
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "cookie",
        "cookie2",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        // Between a caller and our queue; upstream has no queue of ours.
        "priority",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        // Another method or path than the route was chosen for.
        "x-http-method",
        "x-http-method-override",
        "x-mcp-user-id",
        "x-method-override",
        "x-original-url",
        "x-real-ip",
        "x-rewrite-url",
    ];
    let never_with = ["proxy-", "x-forwarded", "x-omnigate"];
    // Some servers take `_` for `-`: `x_forwarded_for` would be believed there.
    !name.contains('_')
        && !never.contains(&name)
        && !never_with.iter().any(|begin| name.starts_with(begin))
}

fn value_is(value: &HeaderValue, word: &[u8]) -> bool {
    value.as_bytes().trim_ascii().eq_ignore_ascii_case(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn check(fields: &[(&'static str, &'static str)]) -> Result<(), Denied> {
        check_with(&Policy::default(), &headers(fields), None)
    }

    fn check_with(policy: &Policy, headers: &HeaderMap, length: Option<u64>) -> Result<(), Denied> {
        let (method, path, query) = (&Method::POST, "/mcp/https", Some("a=1"));
        policy.check(&Asked { method, path, query, headers, length })
    }

    #[test]
    fn a_sensitive_call_needs_a_route_that_says_so() {
        let headers = HeaderMap::new();
        for (method, path, sensitive) in [
            (Method::GET, "/api/scim/v2/Users", true),
            (Method::HEAD, "/API/v1/API-Keys/", true),
            (Method::GET, "/api/v1/connections", false),
            (Method::POST, "/api/v1/connections", true),
            (Method::GET, "/api/v1/documents", false),
        ] {
            let asked =
                Asked { method: &method, path, query: None, headers: &headers, length: None };
            let expected = if sensitive { Err(Denied::Sensitive) } else { Ok(()) };
            assert_eq!(Policy::default().check(&asked), expected, "{method} {path}");
            let says_so = Policy { sensitive: true, ..Policy::default() };
            assert_eq!(says_so.check(&asked), Ok(()), "{method} {path}");
        }
    }

    #[test]
    fn a_plain_call_passes() {
        let plain =
            [("accept", "*/*"), ("expect", "100-Continue"), ("content-encoding", "identity")];
        assert_eq!(check(&plain), Ok(()));
        assert_eq!(check(&[]), Ok(()));
    }

    #[test]
    fn what_cannot_be_met_is_refused() {
        assert_eq!(check(&[("upgrade", "websocket")]), Err(Denied::Upgrade));
        assert_eq!(check(&[("expect", "200-ok")]), Err(Denied::Expectation));
        let twice = [("expect", "100-continue"), ("expect", "more")];
        assert_eq!(check(&twice), Err(Denied::Expectation));
        for coding in ["gzip", "identity, gzip", "", "br"] {
            let coding = [("content-encoding", coding)];
            assert_eq!(check(&coding), Err(Denied::ContentEncoding), "{coding:?}");
        }
    }

    #[test]
    fn no_call_acts_for_another_user_unless_its_route_says_so() {
        let name = HeaderName::from_static("x-mcp-user-id");
        let run_as = headers(&[("x-mcp-user-id", "7")]);
        let mut policy = Policy { forward_headers: vec![name.clone()], ..Policy::default() };
        let denied = Err(Denied::Impersonation(WrongUser::Field));
        assert_eq!(check_with(&policy, &run_as, None), denied);
        assert!(!policy.forwards(&name));
        policy.impersonation = Impersonation::Pin(Membership::parse("8").unwrap());
        let denied = Err(Denied::Impersonation(WrongUser::NotPinnedField));
        assert_eq!(check_with(&policy, &run_as, None), denied);
        assert!(!policy.forwards(&name));
        policy.impersonation = Impersonation::Allow;
        assert_eq!(check_with(&policy, &run_as, None), Ok(()));
        assert!(policy.forwards(&name));
    }

    #[test]
    fn a_body_that_says_it_is_too_large_is_refused_at_once() {
        let policy = Policy { max_body: Some(10), ..Policy::default() };
        assert_eq!(check_with(&policy, &headers(&[]), Some(10)), Ok(()));
        assert_eq!(check_with(&policy, &headers(&[]), None), Ok(()));
        let refused = Err(Denied::BodyTooLarge { limit: 10 });
        assert_eq!(check_with(&policy, &headers(&[]), Some(11)), refused);
    }

    #[tokio::test]
    async fn a_body_that_grows_too_large_ends_in_an_error() {
        let policy = Policy { max_body: Some(3), ..Policy::default() };
        let body = policy.limit(Body::full("abc")).collect().await.unwrap();
        assert_eq!(body.to_bytes(), "abc");
        let error = policy.limit(Body::full("abcd")).collect().await.unwrap_err();
        let denied = error.downcast_ref::<Denied>();
        assert_eq!(denied, Some(&Denied::BodyTooLarge { limit: 3 }));
    }

    #[test]
    fn no_route_can_forward_what_upstream_would_believe() {
        for name in [
            "authorization",
            "cookie",
            "connection",
            "transfer-encoding",
            "x-forwarded-for",
            "x_forwarded_for",
            "proxy-authorization",
            "via",
            "host",
            "x-omnigate-token",
            "x-mcp-user-id",
            "x-http-method-override",
            "x-original-url",
            "x-omnigate-caller",
            "priority",
        ] {
            assert!(!may_forward(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["traceparent", "idempotency-key"] {
            assert!(may_forward(&HeaderName::from_static(name)), "{name}");
        }
    }
}

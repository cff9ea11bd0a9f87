//! Fields on their way through: framing, hop-by-hop, scrubbing, `Via`, `Prefer`, `Priority`.
//!
//! The order matters. What belongs to one connection goes first, then all that is not on the
//! allow-list, and the bearer is set last: proxies that did it the other way round let
//! `Connection: authorization` take their own key out again.

use std::time::Duration;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ALT_SVC, AUTHORIZATION, CONNECTION,
    CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, LOCATION, RANGE, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, USER_AGENT, VIA, WWW_AUTHENTICATE,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use crate::base::Priority;
use crate::policy::Policy;
use crate::telemetry::{TRACEPARENT, Trace};
use crate::upstream::Origin;

/// Makes an MCP call act for another user.
pub(crate) const RUN_AS: HeaderName = HeaderName::from_static("x-mcp-user-id");

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PRIORITY: HeaderName = HeaderName::from_static("priority");

/// The longest wait that a caller may ask for.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Request fields that go upstream. Everything else stays here.
const ALLOWED: [HeaderName; 19] = [
    ACCEPT,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    CONTENT_DISPOSITION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    PREFER,
    RANGE,
    USER_AGENT,
    VIA,
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("mcp-protocol-version"),
    HeaderName::from_static("mcp-session-id"),
    HeaderName::from_static("x-request-id"),
];

/// What upstream tells browsers to do with its own host. Ours is another one: it would be closed to
/// plain HTTP, or have its other pages' storage cleared.
const OF_ITS_HOST: [&str; 7] = [
    "clear-site-data",
    "nel",
    "public-key-pins",
    "report-to",
    "service-worker-allowed",
    "set-cookie2",
    "strict-transport-security",
];

/// Why nobody can be sure where a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFraming {
    /// More than one `Content-Length`, or a list of them.
    #[error("the message has more than one Content-Length")]
    TwoLengths,
    /// A `Content-Length` that is not a plain number.
    #[error("the message's Content-Length is not a number")]
    Length,
    /// A `Transfer-Encoding` that is not `chunked`, once.
    #[error("the message's Transfer-Encoding is not `chunked`, once")]
    TransferEncoding,
    /// Both; which one counts depends on who reads.
    #[error("the message has a Content-Length and a Transfer-Encoding")]
    Both,
}

/// The length that a message gives, where it gives one.
///
/// hyper takes some messages whose framing others read otherwise; this does not.
///
/// # Errors
/// The message could be read as two.
pub(crate) fn framing(headers: &HeaderMap) -> Result<Option<u64>, BadFraming> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next();
    let chunked = coding.is_none_or(|v| v.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !chunked || codings.next().is_some() {
        return Err(BadFraming::TransferEncoding);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next().map(HeaderValue::as_bytes) else { return Ok(None) };
    if lengths.next().is_some() || length.contains(&b',') {
        return Err(BadFraming::TwoLengths);
    }
    if coding.is_some() {
        return Err(BadFraming::Both);
    }
    // `u64::from_str` would take `+5`.
    let digits = length.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(length).ok().filter(|_| digits).and_then(|t| t.parse().ok());
    number.map(Some).ok_or(BadFraming::Length)
}

/// Takes away all that a caller brought and upstream shall not see, `Host` and `Authorization`
/// included. The route's policy may add to the allow-list.
pub(crate) fn scrub_request(headers: &mut HeaderMap, policy: &Policy) {
    remove_hop_by_hop(headers);
    retain(headers, |name| ALLOWED.contains(name) || is_mcp(name) || policy.forwards(name));
    without_wait(headers);
    if policy.plain_answers {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Tells upstream of the span that the request belongs to, where its route asks for that and we take
/// part in the trace (W3C Trace Context §3.2: whoever takes part puts itself in).
pub(crate) fn set_trace(headers: &mut HeaderMap, policy: &Policy, trace: &Trace) {
    if policy.forward_headers.contains(&TRACEPARENT)
        && let Some(field) = trace.field()
    {
        // `tracestate` belongs to the trace that the caller named. Where it named none, it is nobody's.
        let id = |field: &HeaderValue| field.as_bytes().get(3..35).map(<[u8]>::to_vec);
        let came = headers.insert(TRACEPARENT, field.clone());
        if came.as_ref().and_then(id) != id(&field) {
            headers.remove("tracestate");
        }
    }
}

/// Sets the one `Authorization` that upstream sees. The last step before sending.
pub(crate) fn set_bearer(headers: &mut HeaderMap, bearer: HeaderValue) {
    headers.insert(AUTHORIZATION, bearer);
}

/// Takes away all that upstream sent and a caller shall not see; a redirect to upstream's own
/// origin becomes one to ours.
pub(crate) fn scrub_response(headers: &mut HeaderMap, upstream: &Origin) {
    remove_hop_by_hop(headers);
    retain(headers, |name| {
        let named = [&SET_COOKIE, &WWW_AUTHENTICATE, &ALT_SVC, &AUTHORIZATION].contains(&name);
        let text = name.as_str();
        !named && !OF_ITS_HOST.contains(&text) && !text.starts_with("access-control-")
    });
    let ours = headers.get(LOCATION).and_then(|location| relative(location, upstream));
    if let Some(ours) = ours {
        headers.insert(LOCATION, ours);
    }
}

/// How long the caller wants to wait for its turn: the first `wait=SECONDS` of its `Prefer` fields
/// (RFC 7240 §4.3), an hour at most. One that cannot be read is as good as none.
pub(crate) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let texts = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let preferences = texts.flat_map(split_list);
    let wait = preferences.map(name_and_value).find(|(name, _)| name.eq_ignore_ascii_case("wait"));
    let seconds = wait.and_then(|(_, value)| value)?.trim_matches('"');
    let digits = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
    // A number too large for u64 is longer than an hour too.
    digits.then(|| Duration::from_secs(seconds.parse().unwrap_or(u64::MAX)).min(MAX_WAIT))
}

/// How urgent the caller says its call is: the last `u` of its `Priority` fields (RFC 9218 §4.1),
/// which are one dictionary together (RFC 9651 §3.2). What cannot be read says nothing.
pub(crate) fn asked_priority(headers: &HeaderMap) -> Option<Priority> {
    let lines: Result<Vec<&str>, _> =
        headers.get_all(PRIORITY).iter().map(|v| v.to_str()).collect();
    let text = lines.ok()?.join(",");
    let mut asked = None;
    for member in split_list(&text) {
        let (key, value) = member.split_at(member.find(['=', ';']).unwrap_or(member.len()));
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b);
        // Who wrote a key that cannot be one did not write a dictionary; none of it counts then.
        if !key.starts_with(|c: char| c.is_ascii_lowercase() || c == '*') || !key.bytes().all(plain)
        {
            return None;
        }
        if key == "u" {
            let urgency = value.split(';').next().and_then(|value| value.strip_prefix('='));
            // An integer has no quotes, no sign and no fraction.
            let digit = urgency.filter(|u| u.len() == 1).and_then(|u| u.parse().ok());
            asked = digit.and_then(Priority::from_urgency);
        }
    }
    asked
}

/// Who we are in `Via` fields: a name made up for this process, so that a request which comes
/// round again is known, while other omnigates in the chain are fine.
#[derive(Clone, Debug)]
pub(crate) struct Pseudonym(String);

/// A request that we sent ourselves came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request has been here before: upstream leads back to this gateway")]
pub(crate) struct Loop;

impl Pseudonym {
    /// Makes up a name.
    pub(crate) fn fresh() -> Self {
        let random = uuid::Uuid::now_v7().as_u64_pair().1;
        Self(format!("omnigate-{random:016x}"))
    }

    /// Looks for ourselves among those who passed the request on.
    ///
    /// # Errors
    /// It has been here before.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Loop> {
        let been = |value: &HeaderValue| {
            let bytes = value.as_bytes();
            bytes.windows(self.0.len()).any(|w| w.eq_ignore_ascii_case(self.0.as_bytes()))
        };
        if headers.get_all(VIA).iter().any(been) { Err(Loop) } else { Ok(()) }
    }

    /// Adds ourselves to those who passed the message on; `version` is the one it came in.
    pub(crate) fn sign(&self, headers: &mut HeaderMap, version: Version) {
        let protocol = match version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            Version::HTTP_3 => "3",
            _ => "1.1",
        };
        if let Ok(value) = HeaderValue::try_from(format!("{protocol} {}", self.0)) {
            headers.append(VIA, value);
        }
    }
}

/// What belongs to one connection (RFC 9110 §7.6.1), and what any `Connection` field names.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    let fixed = [&CONNECTION, &TE, &TRAILER, &TRANSFER_ENCODING, &UPGRADE];
    retain(headers, |name| {
        let text = name.as_str();
        let hop = fixed.contains(&name) || matches!(text, "keep-alive" | "http2-settings");
        !hop && !text.starts_with("proxy-") && !named.contains(name)
    });
}

/// Takes away all fields but those that `keep` names.
pub(crate) fn retain(headers: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    let gone: Vec<HeaderName> = headers.keys().filter(|&name| !keep(name)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

/// MCP's own fields, but for the one that makes a call run as another user.
///
/// From its revision 2026-07-28 on they repeat parts of the body, arguments of tools too
/// (`Mcp-Param-*`), and a server refuses a call whose fields and body differ.
fn is_mcp(name: &HeaderName) -> bool {
    let name = name.as_str();
    let omnis = name.starts_with("x-mcp-") && name != "x-mcp-user-id";
    let own = name.starts_with("mcp-param-") || matches!(name, "mcp-method" | "mcp-name");
    (omnis || own) && !name.contains('_')
}

/// Leaves the preferences that are not ours to meet.
fn without_wait(headers: &mut HeaderMap) {
    let kept: Vec<HeaderValue> = headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter_map(|text| {
            let others = split_list(text)
                .filter(|one| !name_and_value(one).0.eq_ignore_ascii_case("wait"))
                .collect::<Vec<_>>();
            HeaderValue::try_from(others.join(", ")).ok().filter(|value| !value.is_empty())
        })
        .collect();
    headers.remove(PREFER);
    for value in kept {
        headers.append(PREFER, value);
    }
}

/// The members of a comma-separated list; commas in quotes separate nothing.
fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let members = text.split(move |c| {
        let separates = c == ',' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && quoted && !escaped;
        separates
    });
    members.map(str::trim).filter(|member| !member.is_empty())
}

/// A preference without its parameters.
fn name_and_value(preference: &str) -> (&str, Option<&str>) {
    let plain = preference.split(';').next().unwrap_or_default();
    match plain.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (plain.trim(), None),
    }
}

/// A `Location` at upstream's own origin without that origin, so that it leads to us.
fn relative(location: &HeaderValue, upstream: &Origin) -> Option<HeaderValue> {
    // Browsers leave tabs out, so that `/<tab>/elsewhere` would lead to another host.
    let text = location.to_str().ok().filter(|text| !text.contains('\t'))?;
    let (scheme, rest) = text.split_once("//")?;
    let same_scheme = scheme.is_empty()
        || scheme.eq_ignore_ascii_case(if upstream.is_https() { "https:" } else { "http:" });
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let authority: Authority = authority.parse().ok().filter(|_| same_scheme)?;
    let port = authority.port_u16().unwrap_or(if upstream.is_https() { 443 } else { 80 });
    let same = authority.host().eq_ignore_ascii_case(upstream.authority().host())
        && port == upstream.port()
        && !authority.as_str().contains('@');
    // `//elsewhere` on its own would lead to another host, to browsers `/\elsewhere` too.
    if !same || tail.get(1..2).is_some_and(|second| matches!(second, "/" | "\\")) {
        return None;
    }
    let slash = if tail.starts_with('/') { "" } else { "/" };
    HeaderValue::try_from(format!("{slash}{tail}")).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn scrubbed(fields: &[(&str, &str)], forward: &[&'static str]) -> HeaderMap {
        let forward_headers = forward.iter().map(|name| HeaderName::from_static(name)).collect();
        let mut headers = headers(fields.iter().copied());
        scrub_request(&mut headers, &Policy { forward_headers, ..Policy::default() });
        headers
    }

    fn origin() -> Origin {
        Origin::parse("https://acme.omniapp.co").unwrap()
    }

    #[test]
    fn what_a_caller_says_about_itself_stays_here() {
        let brought = [
            ("authorization", "Bearer dummy"),
            ("proxy-authorization", "Basic x"),
            ("cookie", "a=b"),
            ("host", "omnigate"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("x-omnigate-token", "t"),
            ("origin", "https://evil"),
            ("expect", "100-continue"),
            ("priority", "u=1"),
            ("x-omnigate-caller", "nightly"),
            ("x-mcp-user-id", "7"),
            ("x-mcp-user_id", "7"),
            ("traceparent", "00-1"),
            ("accept", "text/csv"),
            ("x-mcp-model-id", "m"),
            ("x-request-id", "r"),
        ];
        let wanted = ["authorization", "cookie", "x-forwarded-for", "host", "priority"];
        let left = scrubbed(&brought, &wanted);
        let kept = [("accept", "text/csv"), ("x-mcp-model-id", "m"), ("x-request-id", "r")];
        assert_eq!(left, headers(kept));
        let asked = scrubbed(&brought, &["traceparent", "x-mcp-user-id"]);
        assert_eq!(asked["traceparent"], "00-1");
        assert!(!asked.contains_key("x-mcp-user-id"));
    }

    #[test]
    fn what_mcp_says_of_a_body_in_fields_goes_on_with_it() {
        let kept = [
            ("last-event-id", "0-2"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "getData"),
            ("mcp-param-topic", "=?base64?VW1zw6R0emU=?="),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-session-id", "s"),
        ];
        let strange = [("mcp_name", "a"), ("mcp-param_topic", "b"), ("mcp-other", "c")];
        let brought: Vec<_> = kept.iter().chain(&strange).copied().collect();
        assert_eq!(scrubbed(&brought, &[]), headers(kept));
    }

    #[test]
    fn whatever_any_connection_field_names_goes_first() {
        for connection in [
            &["authorization, accept, x-mcp-model-id"][..],
            &["close", "X-MCP-Model-ID,,ACCEPT"],
            &["", "accept", ", \t,", "x-mcp-model-id ,authorization"],
        ] {
            let mut all =
                headers([("accept", "*/*"), ("x-mcp-model-id", "m"), ("range", "bytes=0-")]);
            for value in connection {
                all.append(CONNECTION, HeaderValue::from_static(value));
            }
            scrub_request(&mut all, &Policy::default());
            set_bearer(&mut all, HeaderValue::from_static("Bearer ours"));
            assert_eq!(all, headers([("range", "bytes=0-"), ("authorization", "Bearer ours")]));
        }
    }

    #[test]
    fn framing_has_one_reading_or_none() {
        use BadFraming::*;
        for (fields, reading) in [
            (&[][..], Ok(None)),
            (&[("content-length", "0")], Ok(Some(0))),
            (&[("content-length", "12")], Ok(Some(12))),
            (&[("transfer-encoding", "Chunked")], Ok(None)),
            (&[("content-length", "5"), ("content-length", "5")], Err(TwoLengths)),
            (&[("content-length", "5, 5")], Err(TwoLengths)),
            (&[("content-length", "+5")], Err(Length)),
            (&[("content-length", "0x5")], Err(Length)),
            (&[("content-length", "")], Err(Length)),
            (&[("content-length", "99999999999999999999")], Err(Length)),
            (&[("transfer-encoding", "chunked"), ("content-length", "5")], Err(Both)),
            (&[("transfer-encoding", "gzip, chunked")], Err(TransferEncoding)),
            (&[("transfer-encoding", "chunked, chunked")], Err(TransferEncoding)),
            (&[("transfer-encoding", "identity")], Err(TransferEncoding)),
            (&[("transfer-encoding", "xchunked")], Err(TransferEncoding)),
            (&[("transfer-encoding", "")], Err(TransferEncoding)),
            (
                &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Err(TransferEncoding),
            ),
        ] {
            assert_eq!(framing(&headers(fields.iter().copied())), reading, "{fields:?}");
        }
    }

    #[test]
    fn prefer_goes_on_without_its_wait() {
        for (fields, rest) in [
            (&["wait=3"][..], &[][..]),
            (&["respond-async, wait=3"], &["respond-async"]),
            (&["WAIT = 3;a=b, handling=lenient"], &["handling=lenient"]),
            (&["a=\"x, wait=1\", wait=\"5\""], &["a=\"x, wait=1\""]),
            (&["wait=1", "return=minimal"], &["return=minimal"]),
            (&["waiting=1"], &["waiting=1"]),
        ] {
            let prefer = |values: &[&'static str]| headers(values.iter().map(|v| ("prefer", *v)));
            let mut all = prefer(fields);
            scrub_request(&mut all, &Policy::default());
            assert_eq!(all, prefer(rest), "{fields:?}");
        }
    }

    #[test]
    fn the_wait_that_a_caller_prefers_is_read() {
        let wait = |values: &[&'static str]| {
            preferred_wait(&headers(values.iter().map(|value| ("prefer", *value))))
        };
        assert_eq!(wait(&["respond-async, Wait=3"]), Some(Duration::from_secs(3)));
        assert_eq!(wait(&["wait=\"4\"; x"]), Some(Duration::from_secs(4)));
        assert_eq!(wait(&["wait=1", "wait=2"]), Some(Duration::from_secs(1)));
        assert_eq!(wait(&["wait=0"]), Some(Duration::ZERO));
        assert_eq!(wait(&["wait=99999999999999999999999"]), Some(MAX_WAIT));
        for none in
            ["", "wait", "wait=", "wait=-1", "wait=+1", "wait=1.5", "a=\"wait=3\"", "await=3"]
        {
            assert_eq!(wait(&[none]), None, "{none}");
        }
    }

    #[test]
    fn the_urgency_that_a_caller_asks_for_is_read() {
        use Priority::{Batch, Interactive, Normal};
        for (lines, asked) in [
            (&[][..], None),
            (&["u=0"], Some(Interactive)),
            (&["u=2, i"], Some(Interactive)),
            (&["i,u=3"], Some(Normal)),
            (&["i;x=1 ,\t u=4;y"], Some(Normal)),
            (&["u=7"], Some(Batch)),
            // The last one counts, over all lines, also where it says nothing.
            (&["u=1, u=5"], Some(Batch)),
            (&["u=5", "u=1"], Some(Interactive)),
            (&["u=1", "u=x"], None),
            (&["u=1, u"], None),
            (&["i"], None),
            (&["urgent=1"], None),
            (&["a=\"x, u=1\", b=(1 2);u=0"], None),
            (&["a=\"x\\\", u=1\", u=6"], Some(Batch)),
            (&["a=\"x", "u=1\""], None),
        ] {
            let all = headers(lines.iter().map(|line| ("priority", *line)));
            assert_eq!(asked_priority(&all), asked, "{lines:?}");
        }
        for junk in [
            "", "u", "u=", "u=8", "u=10", "u=-1", "u=+1", "u=1.0", "u=\"1\"", "u=?1", "u = 1",
            "u=1 2", "U=1", "=1", "1", "u=1, %", "u=1, U=1", "u:1",
        ] {
            assert_eq!(asked_priority(&headers([("priority", junk)])), None, "{junk}");
        }
        let mut all = headers([("priority", "u=1")]);
        all.append(PRIORITY, HeaderValue::from_bytes("\u{e9}".as_bytes()).unwrap());
        assert_eq!(asked_priority(&all), None);
    }

    #[test]
    fn a_request_that_comes_round_again_is_known() {
        let (ours, other) = (Pseudonym::fresh(), Pseudonym::fresh());
        assert_ne!(ours.0, other.0);
        let mut all = headers([("via", "1.1 some-proxy, 1.1 omnigate"), ("via", "2 other")]);
        other.sign(&mut all, Version::HTTP_2);
        assert_eq!(ours.check(&all), Ok(()));
        ours.sign(&mut all, Version::HTTP_11);
        other.sign(&mut all, Version::HTTP_10);
        assert_eq!(ours.check(&all), Err(Loop));
        assert_eq!(all.get_all(VIA).iter().next_back().unwrap(), &format!("1.0 {}", other.0));
        scrub_request(&mut all, &Policy::default());
        assert_eq!(all.get_all(VIA).iter().count(), 5);
    }

    #[test]
    fn a_response_keeps_nothing_of_upstreams_connection_and_cookies() {
        let fields = [
            ("content-type", "text/csv"),
            ("x-omni-workbook-url", "u"),
            ("set-cookie", "a"),
            ("www-authenticate", "Bearer"),
            ("alt-svc", "h3"),
            ("access-control-allow-origin", "*"),
            ("strict-transport-security", "max-age=1"),
            ("clear-site-data", "\"*\""),
            ("service-worker-allowed", "/"),
            ("connection", "x-gone"),
            ("x-gone", "1"),
            ("keep-alive", "timeout=5"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("proxy-authenticate", "Basic"),
        ];
        let mut all = headers(fields);
        scrub_response(&mut all, &origin());
        assert_eq!(all, headers([("content-type", "text/csv"), ("x-omni-workbook-url", "u")]));
    }

    #[test]
    fn redirects_to_upstream_lead_to_us_and_others_are_passed_on() {
        for (sent, seen) in [
            ("https://acme.omniapp.co/a?b#c", "/a?b#c"),
            ("HTTPS://Acme.OmniApp.co:443/a", "/a"),
            ("//acme.omniapp.co/a", "/a"),
            ("https://acme.omniapp.co", "/"),
            ("https://acme.omniapp.co?b", "/?b"),
            ("/a", "/a"),
            ("a/../b", "a/../b"),
            ("http://acme.omniapp.co/a", "http://acme.omniapp.co/a"),
            ("https://acme.omniapp.co:8443/a", "https://acme.omniapp.co:8443/a"),
            ("https://elsewhere/a", "https://elsewhere/a"),
            ("https://acme.omniapp.co@elsewhere/a", "https://acme.omniapp.co@elsewhere/a"),
            ("https://user@acme.omniapp.co/a", "https://user@acme.omniapp.co/a"),
            ("https://acme.omniapp.co//elsewhere/a", "https://acme.omniapp.co//elsewhere/a"),
            ("https://acme.omniapp.co/\\elsewhere/a", "https://acme.omniapp.co/\\elsewhere/a"),
            ("https://acme.omniapp.co/\t/elsewhere/a", "https://acme.omniapp.co/\t/elsewhere/a"),
            ("/login?next=https://acme.omniapp.co/a", "/login?next=https://acme.omniapp.co/a"),
        ] {
            let mut all = headers([("location", sent)]);
            scrub_response(&mut all, &origin());
            assert_eq!(all[LOCATION], seen, "{sent}");
        }
    }

    fn any_fields() -> impl Strategy<Value = Vec<(String, String)>> {
        let known = prop::sample::select(vec![
            "authorization",
            "connection",
            "cookie",
            "x-forwarded-for",
            "x-forwarded",
            "te",
            "via",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
            "accept",
            "prefer",
            "content-type",
            "x-mcp-topic-name",
            "forwarded",
            "host",
            "trailer",
            "x_forwarded_for",
        ]);
        let name = prop_oneof![known.prop_map(str::to_owned), "[a-z][a-z0-9_-]{0,12}"];
        let list = "(authorization|Accept|,| |\t|close|PREFER|x-mcp-topic-name|[!-~]){0,6}";
        prop::collection::vec((name, list), 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn whatever_comes_in_one_authorization_goes_out(
            fields in any_fields(),
            forward in prop::collection::vec(any_fields(), 0..2),
        ) {
            let field = |(n, v): &(String, String)| (n.clone(), v.trim_matches('\t').to_owned());
            let fields: Vec<_> = fields.iter().map(field).collect();
            let mut all = headers(fields.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            let forward_headers =
                forward.iter().flatten().map(|(name, _)| name.parse().unwrap()).collect();
            scrub_request(&mut all, &Policy { forward_headers, ..Policy::default() });
            for name in all.keys().map(HeaderName::as_str) {
                let hop = ["connection", "te", "keep-alive", "transfer-encoding", "upgrade", "trailer"];
                let told = ["authorization", "cookie", "forwarded", "host"];
                prop_assert!(!hop.contains(&name) && !told.contains(&name), "{}", name);
                prop_assert!(!name.starts_with("proxy-") && !name.starts_with("x-forwarded"));
                prop_assert!(!name.contains('_'), "{}", name);
            }
            let bearer = HeaderValue::from_static("Bearer ours");
            set_bearer(&mut all, bearer.clone());
            prop_assert_eq!(all.get_all(AUTHORIZATION).iter().collect::<Vec<_>>(), vec![&bearer]);
        }
    }
}

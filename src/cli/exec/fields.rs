//! Fields of calls and answers on their way through the relay.

use std::time::Duration;

use http::header::{CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName};

/// Fields of one connection besides those that `Connection` names (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
];

/// What an answer says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    /// How long the call waited for its turn.
    pub(super) waited: Option<Duration>,
    /// How long Omni took, where the call was sent there by itself.
    pub(super) upstream: Option<Duration>,
    /// Whether it was answered from what is kept, or by another call's request.
    pub(super) spared: bool,
    /// Why the gateway refused it, in the words of RFC 9209.
    pub(super) refusal: Option<String>,
    /// What is left of the budget.
    pub(super) budget: Option<Budget>,
}

/// A budget, as answers show it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Budget {
    /// Sends in a window.
    pub(super) limit: u64,
    pub(super) window: Duration,
    /// How many calls would go at once.
    pub(super) free: u64,
    /// When a call that comes now would go.
    pub(super) next: Duration,
}

/// Takes away what belongs to one connection.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let texts = headers.get_all(CONNECTION).iter().map(|value| value.as_bytes().to_vec());
    let texts: Vec<_> = texts.collect();
    let names = texts.iter().flat_map(|text| text.split(|&byte| byte == b','));
    let named: Vec<_> =
        names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

impl Said {
    /// Reads what the gateway adds to answers; what cannot be read was not said.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        // Upstream's own values stand before the gateway's.
        let timing = |name| {
            let metric = members(headers, "server-timing").rfind(|metric| metric.name == name)?;
            let ms: f64 = metric.parameter("dur")?.parse().ok()?;
            Duration::try_from_secs_f64(ms / 1000.0).ok()
        };
        let ours = |name| members(headers, name).filter(|member| member.name == "omnigate");
        let status = ours("cache-status").next_back();
        let spared = status.is_some_and(|status| status.has("hit") || status.has("collapsed"));
        let refusal = ours("proxy-status").find_map(|member| member.parameter("error"));
        Self {
            waited: timing("queue"),
            upstream: timing("upstream").filter(|_| !spared),
            spared,
            refusal: refusal.map(str::to_owned),
            budget: Budget::read(headers),
        }
    }
}

impl Budget {
    /// Of several, the slowest: it is the one that calls wait for.
    fn read(headers: &HeaderMap) -> Option<Self> {
        let states: Vec<_> = members(headers, "ratelimit").collect();
        let budgets = members(headers, "ratelimit-policy").filter_map(|policy| {
            let state = states.iter().find(|state| state.name == policy.name)?;
            Some(Self {
                limit: policy.number("q").filter(|limit| *limit > 0)?,
                window: Duration::from_secs(policy.number("w").filter(|window| *window > 0)?),
                free: state.number("r")?,
                next: Duration::from_secs(state.number("t")?),
            })
        });
        budgets.max_by(|one, two| one.spacing().cmp(&two.spacing()))
    }

    /// From one call to the next, where all of it is used.
    pub(super) fn spacing(&self) -> Duration {
        self.window / u32::try_from(self.limit).unwrap_or(u32::MAX)
    }
}

/// One member of a list, with its parameters.
struct Member<'a> {
    name: &'a str,
    parameters: Vec<&'a str>,
}

impl<'a> Member<'a> {
    fn has(&self, name: &str) -> bool {
        self.parameters.contains(&name)
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find_map(|one| one.strip_prefix(name)?.strip_prefix('='))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.parameter(name)?.parse().ok()
    }
}

/// The members of a field that is a list. The gateway writes no `,` and no `;` into strings.
fn members<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> impl DoubleEndedIterator<Item = Member<'a>> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let members: Vec<&str> = values.flat_map(|text| text.split(',')).collect();
    members.into_iter().map(|member| {
        let mut parts = member.split(';').map(str::trim);
        Member { name: parts.next().unwrap_or_default(), parameters: parts.collect() }
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(pair).collect()
    }

    #[test]
    fn what_belongs_to_a_connection_goes_and_the_rest_stays() {
        let mut fields = headers(&[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("proxy-connection", "keep-alive"),
            ("proxy-status", "omnigate; received-status=200"),
            ("authorization", "Bearer dummy"),
        ]);
        remove_hop_by_hop(&mut fields);
        let mut left: Vec<&str> = fields.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "proxy-status"]);
    }

    #[test]
    fn an_answer_says_how_it_came_about() {
        let said = Said::read(&headers(&[
            ("server-timing", "queue;dur=5, db;dur=1"),
            ("server-timing", "queue;dur=1500.5, upstream;dur=20"),
            ("cache-status", "omnigate; fwd=miss; fwd-status=200"),
            ("proxy-status", "omnigate; received-status=200"),
            ("ratelimit-policy", "\"fast\";q=100;w=1, \"omni\";q=60;w=60"),
            ("ratelimit", "\"fast\";r=3;t=0, \"omni\";r=3;t=23"),
        ]));
        let budget = Budget {
            limit: 60,
            window: Duration::from_secs(60),
            free: 3,
            next: Duration::from_secs(23),
        };
        assert_eq!(
            said,
            Said {
                waited: Some(Duration::from_micros(1_500_500)),
                upstream: Some(Duration::from_millis(20)),
                spared: false,
                refusal: None,
                budget: Some(budget),
            }
        );
        assert_eq!(budget.spacing(), Duration::from_secs(1));
    }

    #[test]
    fn an_answer_that_cost_nothing_was_not_sent() {
        for status in ["omnigate; hit; ttl=3", "omnigate; fwd=miss; fwd-status=200; collapsed"] {
            let said = Said::read(&headers(&[
                ("cache-status", status),
                ("server-timing", "upstream;dur=3"),
            ]));
            assert!(said.spared && said.upstream.is_none(), "{status}");
        }
    }

    #[test]
    fn a_refusal_is_known_by_who_speaks() {
        let refusal = |text| Said::read(&headers(&[("proxy-status", text)])).refusal;
        assert_eq!(
            refusal("omnigate; error=http_request_denied").as_deref(),
            Some("http_request_denied")
        );
        assert_eq!(refusal("omnigate; received-status=403"), None);
        assert_eq!(refusal("other; error=http_request_denied"), None);
    }

    #[test]
    fn what_cannot_be_read_was_not_said() {
        for (name, value) in [
            ("server-timing", "queue;dur=soon, upstream;dur=-1"),
            ("server-timing", "queue;dur=NaN, upstream;dur=inf"),
            ("ratelimit-policy", "\"omni\";q=0;w=60"),
            ("ratelimit", ";;,,"),
        ] {
            assert_eq!(Said::read(&headers(&[(name, value)])), Said::default(), "{value}");
        }
    }
}

//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers): what a budget allows,
//! and what is left of it.

use std::time::Duration;

use crate::proxy::plan::Quota;
use crate::shape::Outlook;

use http::{HeaderMap, HeaderName, HeaderValue};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The largest integer of a structured field (RFC 9651 §3.3.1).
const MOST: u128 = 999_999_999_999_999;

/// What there is to say about one budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance<'a> {
    /// The budget's name.
    pub(crate) name: &'a str,
    /// Sends per window.
    pub(crate) quota: u64,
    /// The length of the window.
    pub(crate) window: Duration,
    /// Sends that are left now.
    pub(crate) remaining: u64,
    /// How long that is all that is left.
    pub(crate) reset: Duration,
}

/// Tells a caller what is left of the budgets that it is charged to, by the outlook of a call such
/// as its own: how many would go at once, and when the next one would.
pub(crate) fn show(headers: &mut HeaderMap, budgets: &[Quota], outlook: Outlook) {
    let all = budgets.iter().map(|quota| Allowance {
        name: quota.budget.as_str(),
        quota: quota.limit.into(),
        window: quota.window,
        remaining: u64::try_from(outlook.free).unwrap_or(u64::MAX),
        reset: outlook.next,
    });
    put(headers, &all.collect::<Vec<_>>());
}

/// Puts both fields on a response, in place of upstream's own; without a budget those stay.
pub(crate) fn put(headers: &mut HeaderMap, budgets: &[Allowance<'_>]) {
    for (name, value) in [(RATE_LIMIT_POLICY, policy(budgets)), (RATE_LIMIT, state(budgets))] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

/// The value of `RateLimit-Policy`, such as `"omni";q=60;w=60`; `None` without a budget.
fn policy(budgets: &[Allowance<'_>]) -> Option<HeaderValue> {
    list(budgets, |budget| {
        let window = seconds(budget.window).max(1);
        format!("{};q={};w={window}", string(budget.name), integer(budget.quota))
    })
}

/// The value of `RateLimit`, such as `"omni";r=17;t=23`; `None` without a budget.
fn state(budgets: &[Allowance<'_>]) -> Option<HeaderValue> {
    list(budgets, |budget| {
        let remaining = integer(budget.remaining.min(budget.quota));
        format!("{};r={remaining};t={}", string(budget.name), seconds(budget.reset))
    })
}

fn list(budgets: &[Allowance<'_>], item: impl Fn(&Allowance<'_>) -> String) -> Option<HeaderValue> {
    let items: Vec<String> = budgets.iter().map(item).collect();
    HeaderValue::try_from(items.join(", ")).ok().filter(|value| !value.is_empty())
}

/// Whole seconds, rounded up so that nobody comes too early.
fn seconds(time: Duration) -> u128 {
    time.as_nanos().div_ceil(1_000_000_000).min(MOST)
}

fn integer(number: u64) -> u128 {
    u128::from(number).min(MOST)
}

/// A string of a structured field. Names from the config have nothing to escape.
fn string(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OMNI: Allowance<'_> = Allowance {
        name: "omni",
        quota: 60,
        window: Duration::from_secs(60),
        remaining: 17,
        reset: Duration::from_secs(23),
    };

    fn both(budgets: &[Allowance<'_>]) -> [String; 2] {
        [policy(budgets), state(budgets)].map(|value| value.unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn a_budget_says_what_it_allows_and_what_is_left() {
        assert_eq!(both(&[OMNI]), [r#""omni";q=60;w=60"#, r#""omni";r=17;t=23"#]);
    }

    #[test]
    fn where_we_have_a_budget_upstreams_own_word_gives_way() {
        let mut headers = HeaderMap::new();
        headers.append(RATE_LIMIT, HeaderValue::from_static("upstream's"));
        headers.append(RATE_LIMIT, HeaderValue::from_static("upstream's again"));
        put(&mut headers, &[]);
        assert_eq!(headers.len(), 2);
        put(&mut headers, &[OMNI]);
        assert_eq!(headers.get_all("ratelimit").iter().count(), 1);
        assert_eq!(headers["RateLimit"], r#""omni";r=17;t=23"#);
        assert_eq!(headers["RateLimit-Policy"], r#""omni";q=60;w=60"#);
    }

    #[test]
    fn seconds_are_whole_and_never_too_few() {
        let (window, reset) = (Duration::from_millis(250), Duration::from_nanos(1_000_000_001));
        let budget = Allowance { window, reset, ..OMNI };
        assert_eq!(both(&[budget]), [r#""omni";q=60;w=1"#, r#""omni";r=17;t=2"#]);
        let free = Allowance { reset: Duration::ZERO, ..OMNI };
        assert_eq!(both(&[free])[1], r#""omni";r=17;t=0"#);
    }

    #[test]
    fn several_budgets_are_a_list_and_none_is_no_field() {
        let key = Allowance { name: "key-1", quota: 30, remaining: 0, ..OMNI };
        let [policy_text, state_text] = both(&[key, OMNI]);
        assert_eq!(policy_text, r#""key-1";q=30;w=60, "omni";q=60;w=60"#);
        assert_eq!(state_text, r#""key-1";r=0;t=23, "omni";r=17;t=23"#);
        assert_eq!((policy(&[]), state(&[])), (None, None));
    }

    #[test]
    fn no_number_is_more_than_a_structured_field_can_hold() {
        let huge = Allowance { quota: u64::MAX, remaining: u64::MAX, reset: Duration::MAX, ..OMNI };
        assert_eq!(both(&[huge])[1], r#""omni";r=999999999999999;t=999999999999999"#);
        let more = Allowance { remaining: 99, ..OMNI };
        assert_eq!(both(&[more])[1], r#""omni";r=60;t=23"#);
    }

    #[test]
    fn a_name_stays_within_its_quotes() {
        let odd = Allowance { name: r#"a"b\c"#, ..OMNI };
        assert_eq!(both(&[odd])[0], r#""a\"b\\c";q=60;w=60"#);
        assert_eq!(policy(&[Allowance { name: "a\nb", ..OMNI }]), None);
    }
}

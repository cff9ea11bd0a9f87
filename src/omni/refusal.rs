//! Reading a 429: whose it is, and how long it asks to wait.
//!
//! Omni's limit is enforced in front of its application, which has 429s of its own (the cooldown of
//! `suggestions/generate`). Taking the limit's for the application's would send on into a block;
//! the other way round only costs a pause. So whatever is in doubt is the limit's.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What the firewall in front of Omni puts on its refusals.
const WAF_ACTION: HeaderName = HeaderName::from_static("x-omni-waf-action");

/// How many bytes of a 429's body are looked at. A longer one is no application's.
pub const LOOKED_AT: usize = 64 * 1024;

/// The longest wait that a limit is believed to mean.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Whether an answer is the firewall's: it says nothing of what was asked for.
pub fn is_of_the_firewall(headers: &HeaderMap) -> bool {
    headers.contains_key(WAF_ACTION)
}

/// Whether a 429 comes from Omni's application, and so is about this one call.
///
/// It does when its body is one whole JSON object with the number `status: 429`, said once, and it
/// does not bear `X-Omni-Waf-Action`. A body that was cut, is compressed, or holds anything beside
/// the object is no such body.
pub fn is_application_429(headers: &HeaderMap, body: &[u8]) -> bool {
    if is_of_the_firewall(headers) || body.len() > LOOKED_AT {
        return false;
    }
    let text = std::str::from_utf8(body).ok();
    text.is_some_and(|text| serde_json::from_str::<Says429>(text).is_ok())
}

/// How long a refusal of the limit asks to wait, counted from `now` (RFC 9110 §10.2.3).
///
/// `None` where the choice is ours: nothing readable is said, or no wait at all (`0`, a date that
/// is past), or more than an hour.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    stated_wait(headers, now).filter(|wait| !wait.is_zero() && *wait <= LONGEST)
}

/// The wait that `Retry-After` states, counted from `now`: in seconds or until a date, which is no
/// wait when it is past. The longest where there are several; `None` when one cannot be read.
pub fn stated_wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let waits = headers.get_all(RETRY_AFTER).iter().map(|value| read_wait(value, now));
    waits.reduce(|one, other| Some(one?.max(other?))).flatten()
}

fn read_wait(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim_ascii();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits for a number are still a very long wait.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

/// What only an application's 429 can be read as.
struct Says429;

impl<'de> Deserialize<'de> for Says429 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Not `deserialize_any`: an array is no object.
        from.deserialize_map(Object)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Says429;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `status: 429`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Says429, A::Error> {
        let mut said = None;
        // As `String`, because an escaped letter in a name counts as the letter.
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if name == "status" && said.replace(value).is_some() {
                return Err(A::Error::duplicate_field("status"));
            }
        }
        match said.as_ref().and_then(Value::as_u64) {
            Some(429) => Ok(Says429),
            Some(_) | None => Err(A::Error::custom("another status")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COOLDOWN: &str =
        r#"{"detail":"Cooldown","lastCompletedAt":null,"retryAfterSeconds":300,"status":429}"#;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    /// Sun, 06 Nov 1994 08:49:37 GMT, the RFC's own example.
    fn example() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    #[test]
    fn an_object_that_says_429_is_the_applications() {
        let empty = HeaderMap::new();
        for body in [
            COOLDOWN,
            r#"{"status":429}"#,
            " {\r\n\t\"status\" : 429 }\n",
            r#"{"st\u0061tus":429}"#,
            r#"{"status":429,"error":{"status":403}}"#,
        ] {
            assert!(is_application_429(&empty, body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn whatever_is_in_doubt_is_the_limits() {
        let empty = HeaderMap::new();
        let long = format!("{}{}", r#"{"status":429}"#, " ".repeat(LOOKED_AT));
        let deep = format!(r#"{{"a":{}{},"status":429}}"#, "[".repeat(5_000), "]".repeat(5_000));
        for body in [
            "",
            "<html><h1>429 Too Many Requests</h1></html>",
            "429",
            r#""status: 429""#,
            r#"{"error":"Too many requests","message":"Rate limit"}"#,
            r#"{"status":"429"}"#,
            r#"{"status":429.0}"#,
            r#"{"status":4.29e2}"#,
            r#"{"status":-429}"#,
            r#"{"status":[429]}"#,
            r#"{"status":null}"#,
            r#"{"status":403}"#,
            r#"{"Status":429}"#,
            r#"{"error":{"status":429}}"#,
            r#"[{"status":429}]"#,
            r#"["status",429]"#,
            r#"{"status":429,"status":429}"#,
            r#"{"status":429,"st\u0061tus":200}"#,
            r#"{"status":429"#,
            r#"{"status":429,"#,
            r#"{"status":429} trailing"#,
            r#"{"status":429}{"status":429}"#,
            "\u{feff}{\"status\":429}",
            "{\"status\":429}\0",
            "{'status':429}",
            &long,
            &deep,
        ] {
            assert!(!is_application_429(&empty, body.as_bytes()), "{body:.60}");
        }
        assert!(!is_application_429(&empty, b"{\"status\":429,\"detail\":\"\xff\"}"));
    }

    #[test]
    fn a_body_that_is_cut_anywhere_is_the_limits() {
        for end in 0..COOLDOWN.len() {
            assert!(!is_application_429(&HeaderMap::new(), &COOLDOWN.as_bytes()[..end]));
        }
    }

    #[test]
    fn a_wait_is_read_as_seconds_or_as_a_date() {
        let s = |seconds| Some(Duration::from_secs(seconds));
        for (fields, wait) in [
            (&[][..], None),
            (&["45"], s(45)),
            (&["3600"], s(3600)),
            (&["3601"], None),
            (&["99999999999999999999999"], None),
            (&["0"], None),
            (&["-5"], None),
            (&["+5"], None),
            (&["4.5"], None),
            (&["1e3"], None),
            (&["0x10"], None),
            (&["5 s"], None),
            (&["5, 6"], None),
            (&[""], None),
            (&["soon"], None),
            // All three forms of a date (RFC 9110 §5.6.7).
            (&["Sun, 06 Nov 1994 08:50:37 GMT"], s(60)),
            (&["Sunday, 06-Nov-94 08:50:37 GMT"], s(60)),
            (&["Sun Nov  6 08:50:37 1994"], s(60)),
            (&["Sun, 06 Nov 1994 08:49:37 GMT"], None),
            (&["Sun, 06 Nov 1994 08:00:00 GMT"], None),
            (&["Sun, 06 Nov 1994 09:49:38 GMT"], None),
            (&["Sun, 99 Nov 1994 09:49:38 GMT"], None),
            (&["5", "7"], s(7)),
            (&["7", "Sun, 06 Nov 1994 08:49:39 GMT"], s(7)),
            (&["5", "soon"], None),
            (&["5", "7200"], None),
        ] {
            let fields: Vec<_> = fields.iter().map(|value| ("retry-after", *value)).collect();
            assert_eq!(retry_after(&headers(&fields), example()), wait, "{fields:?}");
        }
    }

    #[test]
    fn what_is_stated_is_told_apart_from_what_is_believed() {
        let stated = |value| stated_wait(&headers(&[("retry-after", value)]), example());
        assert_eq!(stated("0"), Some(Duration::ZERO));
        assert_eq!(stated("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(stated("7200"), Some(Duration::from_secs(7200)));
        assert_eq!(stated("99999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(stated("soon"), None);
        let half = example() + Duration::from_millis(500);
        let date = headers(&[("retry-after", "Sun, 06 Nov 1994 08:49:39 GMT")]);
        assert_eq!(stated_wait(&date, half), Some(Duration::from_millis(1500)));
    }

    fn body() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "[{}\\[\\]\",:0-9a-z \\\\]{0,80}".prop_map(String::into_bytes),
            (0..=COOLDOWN.len()).prop_map(|end| COOLDOWN.as_bytes()[..end].to_vec()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn what_the_firewall_signed_is_never_the_applications(
            body in body(),
            action in "[ -~]{0,20}",
            wait in "[ -~]{0,40}",
            now in 0..10_000_000_000u64,
        ) {
            let mut headers = headers(&[("retry-after", &wait)]);
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            if let Some(wait) = retry_after(&headers, now) {
                prop_assert!(!wait.is_zero() && wait <= LONGEST);
            }
            // Whatever it says, reading it does not panic, and what it says is what JSON says.
            let says = serde_json::from_slice::<Value>(&body)
                .is_ok_and(|value| value.is_object() && value["status"] == 429);
            prop_assert!(says || !is_application_429(&headers, &body));
            headers.insert(WAF_ACTION, HeaderValue::from_str(&action).unwrap());
            prop_assert!(!is_application_429(&headers, &body));
        }
    }
}

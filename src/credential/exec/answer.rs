//! What a program printed: a token, or a JSON object with one.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::SecretSlice;
use secrecy::zeroize::Zeroizing;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::credential::store::Found;

use super::{ExecError, when};

/// The last second of the year 9999. A greater number counts milliseconds.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// Why a JSON document holds no secret. Shows nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// Bytes that are no text.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Not JSON, or more than one document.
    #[error("it is no JSON object (line {line}, column {column})")]
    NotJson {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// Which of the two counts depends on who reads.
    #[error("it has `token` or `expires_at` twice")]
    Twice,
    /// The one member that must be there.
    #[error("it has no `token`; print {{\"token\": \"…\"}}, or the token alone")]
    NoToken,
    /// A number, a list or the like.
    #[error("its `token` is not a string")]
    TokenNotText,
    /// No time, or none of the two ways to write one.
    #[error(
        "its `expires_at` is neither a time such as \"2030-01-31T12:00:00Z\" nor a number of seconds \
         since 1970"
    )]
    ExpiresAt,
}

/// The members that matter; others may stand beside them.
#[derive(serde::Deserialize)]
struct Answer {
    token: Option<Member>,
    expires_at: Option<Member>,
}

/// A value, as far as it can be one of ours.
enum Member {
    Text(Zeroizing<String>),
    Number(f64),
    Other,
}

/// Reads what a program printed.
///
/// A bare token is handed on as it is: what a token may look like is known elsewhere.
pub(super) fn read(output: &[u8], now: SystemTime) -> Result<Found, ExecError> {
    if !output.trim_ascii_start().starts_with(b"{") {
        return Ok(Found::lasting(SecretSlice::from(output.to_vec())));
    }
    let text = std::str::from_utf8(output).map_err(|_| BadAnswer::NotUtf8)?;
    let answer: Answer = serde_json::from_str(text).map_err(|error| bad_json(&error))?;
    let token = match answer.token {
        Some(Member::Text(token)) => token,
        Some(Member::Number(_) | Member::Other) => return Err(BadAnswer::TokenNotText.into()),
        None => return Err(BadAnswer::NoToken.into()),
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let valid_for = match answer.expires_at {
        None => None,
        Some(said) => {
            let left = moment(&said).ok_or(BadAnswer::ExpiresAt)?.saturating_sub(now);
            Some(left).filter(|left| !left.is_zero()).ok_or(ExecError::Expired).map(Some)?
        }
    };
    Ok(Found { secret: SecretSlice::from(token.as_bytes().to_vec()), valid_for })
}

/// Since 1970; what was before is long past too.
fn moment(said: &Member) -> Option<Duration> {
    match said {
        Member::Text(text) => when::since_1970(text),
        Member::Number(seconds) if *seconds > LAST_SECOND => None,
        Member::Number(seconds) => Duration::try_from_secs_f64(seconds.max(0.0)).ok(),
        Member::Other => None,
    }
}

/// serde's own words repeat what they stumbled over.
fn bad_json(error: &serde_json::Error) -> BadAnswer {
    if error.is_data() {
        BadAnswer::Twice
    } else {
        BadAnswer::NotJson { line: error.line(), column: error.column() }
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MemberVisitor)
    }
}

/// Takes every value there is, so that no error speaks of it.
struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    // A text with escapes was put together in a buffer of serde's, which is not wiped. Tokens need
    // none.
    fn visit_str<E>(self, text: &str) -> Result<Member, E> {
        Ok(Member::Text(Zeroizing::new(text.to_owned())))
    }

    #[allow(clippy::cast_precision_loss, reason = "exact until the year 285 million")]
    fn visit_u64<E>(self, number: u64) -> Result<Member, E> {
        Ok(Member::Number(number as f64))
    }

    #[allow(clippy::cast_precision_loss, reason = "only negative numbers, all long past")]
    fn visit_i64<E>(self, number: i64) -> Result<Member, E> {
        Ok(Member::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Member, E> {
        Ok(Member::Number(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_unit<E>(self) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Member, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const NOW: u64 = 1_900_000_000;

    fn answer(output: &str) -> Result<(String, Option<u64>), ExecError> {
        let found = read(output.as_bytes(), UNIX_EPOCH + Duration::from_secs(NOW))?;
        let secret = String::from_utf8(found.secret.expose_secret().to_vec()).unwrap();
        Ok((secret, found.valid_for.map(|left| left.as_secs())))
    }

    #[test]
    fn a_bare_token_is_handed_on_as_it_is() {
        for output in ["abc\n", "", "Bearer abc", "\"abc\"", "[1]", " \n abc"] {
            assert_eq!(answer(output), Ok((output.to_owned(), None)));
        }
        assert!(read(b"ab\xff", SystemTime::now()).is_ok());
    }

    #[test]
    fn a_json_object_holds_a_token_and_perhaps_its_end() {
        for (output, left) in [
            (r#"{"token":"abc"}"#, None),
            (" \n\t{ \"token\" : \"abc\" } \n", None),
            (r#"{"token":"a\u0062c","expires_at":null}"#, None),
            (r#"{"token":"abc","expires_at":1900000060}"#, Some(60)),
            (r#"{"token":"abc","expires_at":1.90000006e9}"#, Some(60)),
            (r#"{"token":"abc","expires_at":1900000060.9}"#, Some(60)),
            (r#"{"expires_at":"2030-03-17T17:47:40Z","token":"abc"}"#, Some(60)),
            (r#"{"token":"abc","expires_at":"2030-03-17T18:47:40.5+01:00"}"#, Some(60)),
            (r#"{"Version":1,"more":{"token":7,"a":[{}]},"token":"abc","b":[]}"#, None),
        ] {
            assert_eq!(answer(output), Ok(("abc".to_owned(), left)), "{output}");
        }
    }

    #[test]
    fn what_is_no_answer_is_told_without_its_content() {
        use BadAnswer::*;
        let deep = format!("{{\"token\":\"hunter2\",\"a\":{}", "[".repeat(60_000));
        for (output, why) in [
            ("{hunter2", NotJson { line: 1, column: 2 }),
            ("\n{\"token\":\"hunter2\"", NotJson { line: 2, column: 18 }),
            (r#"{"token":"hunter2"}{"token":"b"}"#, NotJson { line: 1, column: 20 }),
            (r#"{"token":"hunter2"} more"#, NotJson { line: 1, column: 21 }),
            ("{}", NoToken),
            (r#"{"Token":"hunter2"}"#, NoToken),
            (r#"{"token":null}"#, NoToken),
            (r#"{"token":7}"#, TokenNotText),
            (r#"{"token":-7.5}"#, TokenNotText),
            (r#"{"token":true}"#, TokenNotText),
            (r#"{"token":["hunter2"]}"#, TokenNotText),
            (r#"{"token":{"hunter2":"hunter2"}}"#, TokenNotText),
            (r#"{"token":"hunter2","token":"b"}"#, Twice),
            (r#"{"token":"b","to\u006ben":"hunter2"}"#, Twice),
            (r#"{"token":"a","expires_at":1,"expires_at":2}"#, Twice),
            (r#"{"token":"a","expires_at":"hunter2"}"#, ExpiresAt),
            (r#"{"token":"a","expires_at":""}"#, ExpiresAt),
            (r#"{"token":"a","expires_at":"1900000060"}"#, ExpiresAt),
            (r#"{"token":"a","expires_at":1900000060000}"#, ExpiresAt),
            (r#"{"token":"a","expires_at":true}"#, ExpiresAt),
            (r#"{"token":"a","expires_at":["hunter2"]}"#, ExpiresAt),
        ] {
            let error = answer(output).unwrap_err();
            assert_eq!(error, ExecError::BadAnswer(why), "{output}");
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
        }
        assert!(matches!(answer(&deep), Err(ExecError::BadAnswer(NotJson { .. }))));
        let not_text = read(b"{\"token\":\"\xff\"}", SystemTime::now()).unwrap_err();
        assert_eq!(not_text, ExecError::BadAnswer(NotUtf8));
    }

    #[test]
    fn a_token_that_has_expired_is_none() {
        for end in ["1900000000", "1", "-5", "0", "-1e300", "\"1969-12-31T23:59:59Z\""] {
            let output = format!("{{\"token\":\"abc\",\"expires_at\":{end}}}");
            assert_eq!(answer(&output), Err(ExecError::Expired), "{end}");
        }
    }
}

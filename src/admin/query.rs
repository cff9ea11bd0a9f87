//! What a query says. Whatever could be read in two ways is refused: a slip must not stop a gateway.

use std::time::Duration;

/// The longest that a pause may be asked for.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a query is not obeyed. Says how to write it, and repeats nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadQuery {
    #[error("the query has no part but {known}; each is NAME=VALUE, with & between them")]
    Unknown { known: String },
    #[error("the query says `{0}` twice; say it once")]
    Twice(&'static str),
    #[error("the query says nothing for `{0}`; give it a value or leave it away")]
    Empty(&'static str),
    #[error(
        "the value of `{0}` is no text in UTF-8 with %XX for what a query cannot have; a blank is %20, \
         a plus %2B"
    )]
    Escape(&'static str),
    #[error(
        "`for` is a whole number and a unit, ms, s, m or h, such as 10m; more than nothing and at most 24h"
    )]
    Time,
}

/// The values of these names, in their order; `None` for one that the query does not have.
pub(super) fn read<const N: usize>(
    query: Option<&str>,
    names: [&'static str; N],
) -> Result<[Option<String>; N], BadQuery> {
    let mut values = [const { None }; N];
    let Some(query) = query else { return Ok(values) };
    let unknown =
        || BadQuery::Unknown { known: names.map(|name| format!("`{name}`")).join(" and ") };
    for part in query.split('&') {
        let (name, value) = part.split_once('=').ok_or_else(unknown)?;
        let at = names.iter().position(|known| *known == name).ok_or_else(unknown)?;
        let name = names[at];
        let value = decoded(value).ok_or(BadQuery::Escape(name))?;
        if value.is_empty() {
            return Err(BadQuery::Empty(name));
        }
        if values[at].replace(value).is_some() {
            return Err(BadQuery::Twice(name));
        }
    }
    Ok(values)
}

/// A value without its escapes. A plus is a blank to some and a plus to others, so it is neither.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let byte = digit(digits[0])? * 16 + digit(digits[1])?;
                bytes.push(u8::try_from(byte).ok()?);
                rest = after;
            }
            b'+' => return None,
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

/// A length of time as the config writes them.
pub(super) fn time(text: &str) -> Result<Duration, BadQuery> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| BadQuery::Time)?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60 * 1000),
        "h" => number.checked_mul(60 * 60 * 1000),
        _ => None,
    };
    let time = millis.map(Duration::from_millis);
    time.filter(|time| !time.is_zero() && *time <= LONGEST).ok_or(BadQuery::Time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 2] = ["budget", "for"];

    fn values(query: &str) -> Result<[Option<String>; 2], BadQuery> {
        read(Some(query), NAMES)
    }

    #[test]
    fn each_part_is_said_once_in_any_order() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read(None, NAMES), Ok([None, None]));
        assert_eq!(values("budget=omni"), Ok([some("omni"), None]));
        assert_eq!(values("for=10m&budget=omni"), Ok([some("omni"), some("10m")]));
        assert_eq!(values("budget=%6Fmni%20%2b%C3%A4"), Ok([some("omni +ä"), None]));
        assert_eq!(
            read(Some("filter=omnigate::shape=debug,info"), ["filter"]),
            Ok([some("omnigate::shape=debug,info")])
        );
    }

    #[test]
    fn a_slip_is_not_taken_for_something_else() {
        let unknown = BadQuery::Unknown { known: "`budget` and `for`".to_owned() };
        for slip in ["", "budget", "Budget=omni", "bugdet=omni", "&", "for=1m&", "=", "budget=a&&"]
        {
            assert_eq!(values(slip), Err(unknown.clone()), "{slip}");
        }
        assert_eq!(values("for=1m&for=1m"), Err(BadQuery::Twice("for")));
        assert_eq!(values("budget=&for=1m"), Err(BadQuery::Empty("budget")));
        for odd in ["a+b", "%", "%2", "%zz", "%ff", "a%0Ab", "a%00", "%+1", "%C2%85"] {
            assert_eq!(values(&format!("budget={odd}")), Err(BadQuery::Escape("budget")), "{odd}");
        }
    }

    #[test]
    fn a_time_is_more_than_nothing_and_at_most_a_day() {
        let millis = |text: &str| time(text).map(|time| time.as_millis());
        for (text, expected) in [
            ("1ms", 1),
            ("30s", 30_000),
            ("10m", 600_000),
            ("24h", 86_400_000),
            ("1440m", 86_400_000),
        ] {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "10",
            "m",
            "0s",
            "0m",
            "-1m",
            "1.5h",
            "25h",
            "1441m",
            "10 m",
            "10M",
            "1h30m",
            "1d",
            "18446744073709551615h",
            "99999999999999999999s",
        ] {
            assert_eq!(time(text), Err(BadQuery::Time), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic(query in "[a-z=&%+0-9é]{0,40}", text in "[0-9]{0,25}[a-z é]{0,3}") {
            let _ = values(&query);
            let _ = values(&format!("for={query}"));
            let _ = time(&text);
        }
    }
}

//! Durations and sizes as the file says them: a whole number and a unit.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};

/// How the schema marks a [`Period`].
pub(super) const PERIOD: &str = "period";
/// How the schema marks a [`Size`].
pub(super) const SIZE: &str = "size";

/// A year: so long that nobody means it, and so short that adding it to now cannot overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A length of time such as `"30s"`; at most a year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period(pub(super) Duration);

/// A number of bytes such as `"4MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// Why a text is not a duration or a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnitError {
    #[error("a whole number and a unit are needed")]
    NoNumber,
    #[error("the unit is missing")]
    NoUnit,
    #[error("there is no such unit")]
    UnknownUnit,
    #[error("the number is too large")]
    TooLarge,
}

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text)?;
        let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
        let period = match unit {
            "ms" => Some(Duration::from_millis(number)),
            "s" => seconds(1),
            "m" => seconds(60),
            "h" => seconds(60 * 60),
            _ => return Err(UnitError::UnknownUnit),
        };
        period.filter(|period| *period <= LONGEST).map(Self).ok_or(UnitError::TooLarge)
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text)?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(UnitError::UnknownUnit),
        };
        number.checked_mul(1 << shift).map(Self).ok_or(UnitError::TooLarge)
    }
}

fn split(text: &str) -> Result<(u64, &str), UnitError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    match (number, unit) {
        ("", _) => Err(UnitError::NoNumber),
        (_, "") => Err(UnitError::NoUnit),
        // Only digits are left, so that the one thing that can go wrong is their number.
        (number, unit) => Ok((number.parse().map_err(|_| UnitError::TooLarge)?, unit)),
    }
}

macro_rules! from_the_file {
    ($type:ident, $format:expr, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "pattern": $pattern })
            }
        }
    };
}

from_the_file!(Period, PERIOD, "^[0-9]+(ms|s|m|h)$");
from_the_file!(Size, SIZE, "^[0-9]+(B|KiB|MiB|GiB)$");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        let cases =
            [("500ms", 500), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)];
        for (text, millis) in cases {
            assert_eq!(text.parse(), Ok(Period(Duration::from_millis(millis))), "{text}");
        }
    }

    #[test]
    fn a_size_counts_in_powers_of_1024() {
        let cases = [("7B", 7), ("64KiB", 65_536), ("4MiB", 4_194_304), ("1GiB", 1 << 30)];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let cases = [
            ("30", UnitError::NoUnit),
            ("", UnitError::NoNumber),
            ("s", UnitError::NoNumber),
            ("-1s", UnitError::NoNumber),
            ("1.5s", UnitError::UnknownUnit),
            ("30 s", UnitError::UnknownUnit),
            ("30S", UnitError::UnknownUnit),
            ("1m30s", UnitError::UnknownUnit),
            ("9000h", UnitError::TooLarge),
            ("18446744073709551616s", UnitError::TooLarge),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Period>(), Err(error), "{text}");
        }
        assert_eq!("4MB".parse::<Size>(), Err(UnitError::UnknownUnit));
        assert_eq!("18446744073709551615GiB".parse::<Size>(), Err(UnitError::TooLarge));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "[0-9]{0,25}[a-zA-Z .é]{0,4}") {
            let _ = text.parse::<Period>();
            let _ = text.parse::<Size>();
        }
    }
}

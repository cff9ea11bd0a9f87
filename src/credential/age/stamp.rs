//! A moment of the calendar, as people and TOML write it.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use toml::value::{Datetime, Offset};

const DAY: i64 = 86_400;

/// Seconds since 1970, shown as `2026-11-21T10:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(i64);

impl Stamp {
    /// The time on the wall now.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    /// How many seconds ago that was; 0 for what is still to come.
    pub fn age_seconds(self, now: Self) -> u64 {
        u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0)
    }

    /// A date and time with its offset; `None` where one of them is missing.
    pub(super) fn of(said: &Datetime) -> Option<Self> {
        let (date, time, offset) = (said.date?, said.time?, said.offset?);
        let east = match offset {
            Offset::Z => 0,
            Offset::Custom { minutes } => i64::from(minutes) * 60,
        };
        let clock = i64::from(time.hour) * 3600
            + i64::from(time.minute) * 60
            + i64::from(time.second.unwrap_or(0));
        let days = days(i64::from(date.year), i64::from(date.month), i64::from(date.day));
        Some(Self(days * DAY + clock - east))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, clock) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (year, month, day) = date(days);
        let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

// Years that begin in March have the leap day at their end, and months of 153 days in each five;
// 400 of them have 146,097 days. 719,468 days lie between 0000-03-01 and 1970-01-01.

/// Days since 1970 of a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let before = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    before + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The date, as year, month and day.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Stamp> {
        Stamp::of(&text.parse().unwrap())
    }

    #[test]
    fn moments_are_read_as_they_are_written() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-11-21T10:00:00Z", 1_795_255_200),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(read(text), Some(Stamp(seconds)), "{text}");
            assert_eq!(Stamp(seconds).to_string(), text);
        }
        assert_eq!(read("2026-11-21T11:30:00.5+01:30"), read("2026-11-21T10:00:00Z"));
        assert_eq!(read("2026-11-21"), None);
        assert_eq!(read("2026-11-21T10:00:00"), None);
    }

    #[test]
    fn what_is_still_to_come_has_no_age() {
        assert_eq!(Stamp(10).age_seconds(Stamp(70)), 60);
        assert_eq!(Stamp(70).age_seconds(Stamp(10)), 0);
    }

    proptest! {
        #[test]
        fn every_second_comes_back(seconds in 0i64..200_000_000_000) {
            prop_assert_eq!(read(&Stamp(seconds).to_string()), Some(Stamp(seconds)));
        }
    }
}

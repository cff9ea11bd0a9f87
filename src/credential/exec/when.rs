//! Times as RFC 3339 writes them.

use std::time::Duration;

/// Days from the first of January of year 1 to that of 1970.
const DAYS_TO_1970: i64 = 719_162;

/// How long after the beginning of 1970 that is; nothing where it is before. `None` where the text is
/// no time.
pub(super) fn since_1970(text: &str) -> Option<Duration> {
    let (date, rest) = text.split_at_checked("2030-01-31".len())?;
    let (time, rest) = rest.split_at_checked("T12:00:00".len())?;
    let [year, month, day] = numbers(date, ["", "-", "-"], [4, 2, 2])?;
    // §5.6 lets a blank stand for the T, and small letters for capitals.
    let mark = ["T", "t", " "].into_iter().find(|mark| time.starts_with(mark))?;
    let [hour, minute, second] = numbers(time, [mark, ":", ":"], [2, 2, 2])?;
    let (nanos, zone) = fraction(rest)?;
    let east = offset(zone)?;
    // A leap second is the first one of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second - east;
    Some(u64::try_from(seconds).map_or(Duration::ZERO, |seconds| Duration::new(seconds, nanos)))
}

/// Three numbers, each with what stands before it.
fn numbers(text: &str, before: [&str; 3], digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut rest = text;
    let mut found = [0; 3];
    for ((found, before), digits) in found.iter_mut().zip(before).zip(digits) {
        let (number, after) = rest.strip_prefix(before)?.split_at_checked(digits)?;
        *found = number_of(number)?;
        rest = after;
    }
    rest.is_empty().then_some(found)
}

/// `parse` alone would take a sign.
fn number_of(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The nanoseconds after the point, if there is one, and what follows.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(text) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, rest) = text.split_at(end);
    let nanos: String = digits.chars().chain("000000000".chars()).take(9).collect();
    if digits.is_empty() { None } else { Some((nanos.parse().ok()?, rest)) }
}

/// The seconds by which the zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => return Some(0),
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').filter(|_| rest.len() == "01:00".len())?;
    let (hours, minutes) = (number_of(hours)?, number_of(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// The days from the beginning of 1970 to that day.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
    let february = if leap { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month - 1).ok()?;
    if !(1..=*months.get(before)?).contains(&day) {
        return None;
    }
    let earlier = year - 1;
    let years =
        earlier * 365 + earlier.div_euclid(4) - earlier.div_euclid(100) + earlier.div_euclid(400);
    Some(years + months[..before].iter().sum::<i64>() + day - 1 - DAYS_TO_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> u64 {
        since_1970(text).unwrap_or_else(|| panic!("{text} was refused")).as_secs()
    }

    #[test]
    fn known_moments() {
        // From RFC 3339 §5.8, and from `date -u -d TEXT +%s`.
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1985-04-12T23:20:50.52Z", 482_196_050),
            ("1996-12-19T16:39:57-08:00", 851_042_397),
            ("1996-12-20t00:39:57z", 851_042_397),
            ("1990-12-31T23:59:60Z", 662_688_000),
            ("1990-12-31T15:59:60-08:00", 662_688_000),
            ("2000-02-29 00:00:00+00:00", 951_782_400),
            ("2030-03-17T17:46:40Z", 1_900_000_000),
            ("2030-03-17T17:46:40-00:00", 1_900_000_000),
            ("2030-03-18T17:45:40+23:59", 1_900_000_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
            ("1969-12-31T23:59:59Z", 0),
            ("0000-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn fractions_are_kept_to_the_nanosecond() {
        for (fraction, nanos) in
            [(".5", 500_000_000), (".000000001", 1), (".1234567899", 123_456_789), (".00", 0)]
        {
            let moment = since_1970(&format!("2030-03-17T17:46:40{fraction}Z")).unwrap();
            assert_eq!(moment, Duration::new(1_900_000_000, nanos), "{fraction}");
        }
    }

    #[test]
    fn every_day_is_a_day_after_the_one_before() {
        let mut expected = 0;
        for year in 1970..2405 {
            let leap = year % 400 == 0 || year % 4 == 0 && year % 100 != 0;
            for month in 1..=12 {
                let length = match month {
                    2 if leap => 29,
                    2 => 28,
                    4 | 6 | 9 | 11 => 30,
                    _ => 31,
                };
                for day in 1..=length {
                    let text = format!("{year:04}-{month:02}-{day:02}T00:00:00Z");
                    assert_eq!(seconds(&text), expected, "{text}");
                    expected += 86_400;
                }
                let none = format!("{year:04}-{month:02}-{:02}T00:00:00Z", length + 1);
                assert_eq!(since_1970(&none), None, "{none}");
            }
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2030",
            "2030-01-31",
            "2030-01-31T12:00:00",
            "2030-01-31T12:00:00.Z",
            "2030-01-31T12:00:00.5",
            "2030-01-31T12:00Z",
            "2030-01-31T24:00:00Z",
            "2030-01-31T12:60:00Z",
            "2030-01-31T12:00:61Z",
            "2030-13-01T12:00:00Z",
            "2030-00-01T12:00:00Z",
            "2030-01-00T12:00:00Z",
            "2030-02-29T12:00:00Z",
            "2030-01-31_12:00:00Z",
            "2030/01/31T12:00:00Z",
            "2030-01-31T12:00:00ZZ",
            "2030-01-31T12:00:00Z ",
            " 2030-01-31T12:00:00Z",
            "2030-01-31T12:00:00+0100",
            "2030-01-31T12:00:00+01",
            "2030-01-31T12:00:00+24:00",
            "2030-01-31T12:00:00+01:60",
            "2030-01-31T12:00:00 UTC",
            "+030-01-31T12:00:00Z",
            "2030-+1-31T12:00:00Z",
            "２030-01-31T12:00:00Z",
            "2030-01-31T12:00:00é",
            "20300131T120000Z",
        ] {
            assert_eq!(since_1970(text), None, "{text}");
        }
    }
}

//! How long an answer may be kept for others, where upstream decides (RFC 9111).

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AGE, AUTHORIZATION, DATE, EXPIRES, LAST_MODIFIED, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::directives::{LONGEST, Terms, seconds};
use super::{Life, Wishes};

/// Statuses that may be kept without being told for how long (RFC 9110 §15.1); 206 is not for us.
const HEURISTIC: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];

/// Statuses that mean nothing to a cache beyond what it does with any answer, besides `HEURISTIC`.
const UNDERSTOOD: [u16; 3] = [302, 303, 307];

/// The longest lifetime that is guessed. A `Last-Modified` of 1970 is a default, not a fact.
const LONGEST_GUESS: Duration = Duration::from_secs(24 * 60 * 60);

/// The bytes of the longest form of a date: `Wednesday, 04-Nov-26 12:00:00 GMT`.
const LONGEST_DATE: usize = 33;

/// An answer as it came, and the request that it answers.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    /// The fields of the caller's request, as they came.
    pub request: &'a HeaderMap,
    /// The status of the answer.
    pub status: StatusCode,
    /// The fields of the answer, as they came.
    pub response: &'a HeaderMap,
    /// When the request was sent.
    pub sent: Instant,
    /// When the head of the answer was received.
    pub received: Instant,
    /// What the clock on the wall said then.
    pub wall: SystemTime,
}

/// Request fields by which answers of one URL differ (RFC 9110 §12.5.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// All callers get the same.
    Nothing,
    /// By these fields, sorted and each once.
    By(Box<[HeaderName]>),
    /// By something that is not told, or cannot be read.
    Everything,
}

/// The life of an answer; `None` when it must not be kept nor given to anybody else.
///
/// `stale` is the route's: upstream can end it and not lengthen it. An answer that wants to be asked
/// about each time is not kept, since asking costs what fetching does.
pub fn life(received: &Received<'_>, stale: Duration) -> Option<Life> {
    let terms = Terms::read(received.response);
    if !is_storable(received, &terms) {
        return None;
    }
    Some(Life {
        since: received.sent,
        age: age_when_sent(received),
        lifetime: lifetime(received, &terms)?,
        stale: if terms.no_stale { Duration::ZERO } else { stale },
    })
}

impl fmt::Debug for Received<'_> {
    /// Without the fields: they hold what callers and Omni say to each other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Vary {
    /// Reads by what a response varies.
    pub fn read(response: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for field in response.get_all(VARY) {
            for member in field.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                match HeaderName::from_bytes(member) {
                    _ if member.is_empty() => {}
                    // By its grammar `*` is a name like any other.
                    Ok(name) if !member.contains(&b'*') => names.push(name),
                    _ => return Self::Everything,
                }
            }
        }
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        if names.is_empty() { Self::Nothing } else { Self::By(names.into()) }
    }
}

/// Whether the answer may be kept and shared at all (§3, §3.5).
fn is_storable(received: &Received<'_>, terms: &Terms) -> bool {
    let status = received.status.as_u16();
    let is_final = (200..600).contains(&status) && !matches!(status, 206 | 304);
    let is_understood = HEURISTIC.contains(&status) || UNDERSTOOD.contains(&status);
    is_final
        && !terms.forbids
        && (is_understood || !terms.must_understand)
        && (terms.for_all || !received.request.contains_key(AUTHORIZATION))
        && !Wishes::read(received.request).no_store
        && Vary::read(received.response) != Vary::Everything
}

/// Up to which age the answer is fresh (§4.2.1); `None` when nothing says so.
fn lifetime(received: &Received<'_>, terms: &Terms) -> Option<Duration> {
    let lifetime = match terms.lifetime {
        Some(said) => said,
        None if received.response.contains_key(EXPIRES) => until_expiry(received),
        None => guess(received, terms)?,
    };
    Some(lifetime.min(LONGEST))
}

/// `Expires` less `Date`; zero when a value of `Expires` cannot be read (§5.3).
fn until_expiry(received: &Received<'_>) -> Duration {
    let mut earliest = None;
    for value in received.response.get_all(EXPIRES) {
        let Some(expiry) = date(value) else { return Duration::ZERO };
        earliest = Some(earliest.map_or(expiry, |known: SystemTime| known.min(expiry)));
    }
    let made = dates(received.response).max().unwrap_or(received.wall);
    earliest.and_then(|expiry| expiry.duration_since(made).ok()).unwrap_or_default()
}

/// A tenth of the time that it had not been modified when it was made (§4.2.2).
fn guess(received: &Received<'_>, terms: &Terms) -> Option<Duration> {
    if !terms.public && !HEURISTIC.contains(&received.status.as_u16()) {
        return None;
    }
    let mut latest = None;
    for value in received.response.get_all(LAST_MODIFIED) {
        latest = latest.max(Some(date(value)?));
    }
    let made = dates(received.response).min().unwrap_or(received.wall);
    let unmodified = made.duration_since(latest?).ok()?;
    Some((unmodified / 10).min(LONGEST_GUESS))
}

/// How old the answer was when its request was sent (§4.2.3).
///
/// The RFC gives the age at arrival, `max(apparent_age, age_value + response_delay)`; `Life` adds
/// the delay itself, as part of the time since.
fn age_when_sent(received: &Received<'_>) -> Duration {
    // Date has whole seconds; the fraction of ours would make every answer a little older.
    let wall = received.wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let wall = UNIX_EPOCH + Duration::from_secs(wall);
    let made = dates(received.response).min();
    let apparent = made.and_then(|made| wall.duration_since(made).ok()).unwrap_or_default();
    let delay = received.received.saturating_duration_since(received.sent);
    let told = told_age(received.response);
    apparent.saturating_sub(delay).max(told).min(LONGEST)
}

/// What `Age` says. One that is not one whole number is as old as can be: §5.1 would have it
/// ignored, and whoever sent it does not know how old the answer is.
fn told_age(response: &HeaderMap) -> Duration {
    let mut ages = response.get_all(AGE).iter();
    match (ages.next(), ages.next()) {
        (None, _) => Duration::ZERO,
        (Some(age), None) => seconds(age.as_bytes().trim_ascii()).unwrap_or(LONGEST),
        (Some(_), Some(_)) => LONGEST,
    }
}

/// The values of `Date` that can be read.
fn dates(response: &HeaderMap) -> impl Iterator<Item = SystemTime> {
    response.get_all(DATE).iter().filter_map(date)
}

/// A date in one of the three forms of HTTP; a cache ought not to mind its case (§4.2).
pub(super) fn date(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?;
    if let Ok(date) = httpdate::parse_http_date(text) {
        return Some(date);
    }
    if text.len() > LONGEST_DATE {
        return None;
    }
    let mut after_letter = false;
    let tidy: String = text
        .chars()
        .map(|letter| match std::mem::replace(&mut after_letter, letter.is_ascii_alphabetic()) {
            true => letter.to_ascii_lowercase(),
            false => letter.to_ascii_uppercase(),
        })
        .collect();
    httpdate::parse_http_date(&tidy.replace("Gmt", "GMT")).ok()
}

#[cfg(test)]
mod tests;

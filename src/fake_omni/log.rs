//! What reached the fake Omni.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Uri};
use tokio::time::Instant;

/// One request head that arrived.
#[derive(Clone)]
pub struct Arrival {
    /// Counts arrivals from 0 since the instance was built.
    pub number: u64,
    /// When the head had been read.
    pub at: Instant,
    /// Which connection brought it, counted from 0.
    pub connection: u64,
    /// Whose key it bore.
    pub sender: Sender,
    /// How many `Authorization` fields it had.
    pub authorizations: usize,
    /// The method.
    pub method: Method,
    /// The request target as it came, query string included.
    pub target: Uri,
    /// All fields, with `Authorization` marked sensitive. `Debug` shows only the names.
    pub headers: HeaderMap,
    /// What has been read of its body so far.
    pub body: BodySeen,
    /// What became of it.
    pub verdict: Verdict,
}

/// Whose key a request bore. The token itself is not kept here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The owner of a key that the instance knows.
    Owner(Arc<str>),
    /// Well-formed, but no key of ours.
    Invalid,
    /// No `Authorization`, more than one, or not `Bearer <token>`.
    Malformed,
}

/// What was read of a request's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodySeen {
    /// The bytes that were read.
    pub bytes: u64,
    /// Whether its end was reached.
    pub complete: bool,
    /// SHA-256 in hexadecimal digits, once complete. For uploads only if the settings say so.
    pub sha256: Option<String>,
}

/// What became of a request at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It went on to the application.
    Admitted,
    /// The limit refused it.
    Limited,
    /// A rule ordered its failure.
    Failed,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("number", &self.number)
            .field("at", &self.at)
            .field("connection", &self.connection)
            .field("sender", &self.sender)
            .field("authorizations", &self.authorizations)
            .field("method", &self.method)
            .field("target", &self.target)
            .field("fields", &self.headers.keys().collect::<Vec<_>>())
            .field("body", &self.body)
            .field("verdict", &self.verdict)
            .finish()
    }
}

/// The arrivals, and which writes took effect.
#[derive(Default)]
pub(super) struct Log {
    keep: usize,
    next: u64,
    whole: VecDeque<Arrival>,
    times: Vec<(Instant, Sender)>,
    values: HashMap<Arc<str>, HashSet<Vec<u8>>>,
    refusals: usize,
    applied: HashMap<String, u32>,
}

impl Log {
    pub(super) fn new(keep: usize) -> Self {
        Self { keep, ..Self::default() }
    }

    /// Adds an arrival under the next number, which it returns.
    pub(super) fn push(&mut self, arrival: Arrival) -> u64 {
        let number = self.next;
        self.next += 1;
        self.times.push((arrival.at, arrival.sender.clone()));
        self.refusals += usize::from(arrival.verdict == Verdict::Limited);
        if let Sender::Owner(owner) = &arrival.sender {
            let values = self.values.entry(Arc::clone(owner)).or_default();
            for value in arrival.headers.get_all(http::header::AUTHORIZATION) {
                if !values.contains(value.as_bytes()) {
                    values.insert(value.as_bytes().to_vec());
                }
            }
        }
        self.whole.push_back(Arrival { number, ..arrival });
        while self.whole.len() > self.keep {
            self.whole.pop_front();
        }
        number
    }

    /// Notes how far a body was read.
    pub(super) fn body(&mut self, number: u64, seen: BodySeen) {
        let first = self.whole.front().map_or(0, |arrival| arrival.number);
        let index = number.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        if let Some(arrival) = index.and_then(|index| self.whole.get_mut(index)) {
            arrival.body = seen;
        }
    }

    /// Notes that a write took effect.
    pub(super) fn apply(&mut self, serial: String) {
        *self.applied.entry(serial).or_default() += 1;
    }

    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.whole.iter().cloned().collect()
    }

    pub(super) fn count(&self) -> usize {
        self.times.len()
    }

    pub(super) fn refusals(&self) -> usize {
        self.refusals
    }

    pub(super) fn applied(&self, serial: &str) -> u32 {
        self.applied.get(serial).copied().unwrap_or_default()
    }

    pub(super) fn distinct_authorizations(&self, owner: &str) -> usize {
        self.values.get(owner).map_or(0, HashSet::len)
    }

    /// The most arrivals in any `[t, t + window)`, of one owner or of all.
    pub(super) fn highest_in_any_window(&self, window: Duration, owner: Option<&str>) -> usize {
        let mut inside = VecDeque::new();
        let mut highest = 0;
        for (at, sender) in &self.times {
            if owner.is_some_and(|owner| !sender.is(owner)) {
                continue;
            }
            inside.push_back(*at);
            while inside.front().is_some_and(|&first| at.duration_since(first) >= window) {
                inside.pop_front();
            }
            highest = highest.max(inside.len());
        }
        highest
    }

    /// Empties the log; numbers go on, so that a body still being read finds nothing to change.
    pub(super) fn forget(&mut self) {
        *self = Self { next: self.next, ..Self::new(self.keep) };
    }
}

impl Sender {
    fn is(&self, name: &str) -> bool {
        match self {
            Self::Owner(owner) => &**owner == name,
            Self::Invalid | Self::Malformed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(at: Instant, owner: &str) -> Arrival {
        Arrival {
            number: 0,
            at,
            connection: 0,
            sender: Sender::Owner(owner.into()),
            authorizations: 1,
            method: Method::GET,
            target: Uri::from_static("/"),
            headers: HeaderMap::new(),
            body: BodySeen::default(),
            verdict: Verdict::Admitted,
        }
    }

    fn log_of(times: &[u64], start: Instant) -> Log {
        let mut log = Log::new(10);
        for &ms in times {
            log.push(arrival(start + Duration::from_millis(ms), "ada"));
        }
        log
    }

    #[test]
    fn the_windows_maximum_is_found_wherever_it_lies() {
        let log = log_of(&[0, 500, 1_400, 1_500, 2_399, 2_400, 9_000], Instant::now());
        let second = Duration::from_secs(1);
        // [1.4 s, 2.4 s) holds three; what comes exactly a window later is outside.
        assert_eq!(log.highest_in_any_window(second, None), 3);
        assert_eq!(log.highest_in_any_window(second, Some("ada")), 3);
        assert_eq!(log.highest_in_any_window(second, Some("bob")), 0);
        assert_eq!(log.highest_in_any_window(Duration::from_secs(60), None), 7);
    }

    #[test]
    fn a_full_log_drops_the_oldest_and_still_counts_all() {
        let mut log = log_of(&[0; 25], Instant::now());
        assert_eq!((log.arrivals().len(), log.count()), (10, 25));
        assert_eq!(log.arrivals()[0].number, 15);
        log.body(3, BodySeen { bytes: 1, ..BodySeen::default() });
        log.body(15, BodySeen { bytes: 9, ..BodySeen::default() });
        assert_eq!(log.arrivals()[0].body.bytes, 9);
        log.forget();
        assert_eq!((log.arrivals().len(), log.count()), (0, 0));
        assert_eq!(log.push(arrival(Instant::now(), "ada")), 25);
    }
}

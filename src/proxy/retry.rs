//! Whether a call is sent once more. Pure: time and chance are values.
//!
//! Asked while nothing has gone downstream: who passes a response head on does not ask any more.
//! A refusal of Omni's limit is not decided here: it pauses a budget, and is sent again by that.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use crate::omni;
use crate::telemetry::Retry;

/// How often one call is sent at most.
const MOST: u32 = 3;

/// The longest wait before the first repetition; it doubles with each.
const BACKOFF: Duration = Duration::from_millis(500);

/// The longest wait that a 503 may ask of us. Its caller is there for longer ones: it gets the 503.
const LONGEST: Duration = Duration::from_secs(10);

/// How many retries a minute a route has however few its calls are.
const FLOOR: u32 = 3;

/// One retry more for each so many calls: 20 %.
const CALLS_A_RETRY: u32 = 5;

/// What a call says about being sent again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// Whether the method does the same when it is done twice; see [`is_idempotent`].
    pub(crate) idempotent: bool,
    /// Whether its body is at hand from its beginning.
    pub(crate) at_hand: bool,
    /// Whether its route streams.
    pub(crate) streaming: bool,
    /// How often it was tried, the last time included.
    pub(crate) attempts: u32,
}

/// How an attempt ended that brought no answer for the caller yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A connection was kept too long: it was gone before the head was handed to it.
    Stale,
    /// No connection was to be had.
    Unreachable,
    /// The connection broke after the head was begun.
    Broken,
    /// No response head in time.
    Silent,
    /// A response head.
    Answered {
        /// Its status.
        status: StatusCode,
        /// The wait that it states, however long.
        stated: Option<Duration>,
    },
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It stays at this outcome.
    Done,
    /// The call is sent again after this time, and pays for its slot again.
    Again {
        /// From now.
        after: Duration,
        /// What it is counted as.
        reason: Retry,
        /// Whether the route's [`RetryBudget`] must allow it.
        budgeted: bool,
    },
}

/// Decides about one call. `share`, from 0 to 1, is chance's part: full jitter.
///
/// | outcome | sent again |
/// | --- | --- |
/// | stale | at once, any method, any route: upstream knows nothing of it |
/// | unreachable | any method, any route, after a backoff |
/// | broken, silent, 502, 504 | idempotent methods with their body at hand, not on streaming routes, after a backoff |
/// | 503 | the same, and not before `Retry-After` has passed; if that is beyond 10 s, not at all |
/// | any other answer | never |
pub(crate) fn next(call: Call, outcome: Outcome, share: f64) -> Next {
    if call.attempts >= MOST {
        return Next::Done;
    }
    let backoff = backoff(call.attempts, share);
    let again = |after, reason| Next::Again { after, reason, budgeted: true };
    let repeatable = call.idempotent && call.at_hand && !call.streaming;
    match outcome {
        Outcome::Stale => {
            Next::Again { after: Duration::ZERO, reason: Retry::Stale, budgeted: false }
        }
        Outcome::Unreachable => again(backoff, Retry::Unreachable),
        Outcome::Broken if repeatable => again(backoff, Retry::Broken),
        Outcome::Silent if repeatable => again(backoff, Retry::Silent),
        Outcome::Answered { status: StatusCode::BAD_GATEWAY, .. } if repeatable => {
            again(backoff, Retry::BadGateway)
        }
        Outcome::Answered { status: StatusCode::GATEWAY_TIMEOUT, .. } if repeatable => {
            again(backoff, Retry::GatewayTimeout)
        }
        Outcome::Answered { status: StatusCode::SERVICE_UNAVAILABLE, stated } if repeatable => {
            match stated.unwrap_or_default() {
                // On top, so that not all who were told the same come at the same time.
                wait if wait <= LONGEST => again(wait + backoff, Retry::Unavailable),
                _ => Next::Done,
            }
        }
        Outcome::Broken | Outcome::Silent | Outcome::Answered { .. } => Next::Done,
    }
}

/// Whether a method may be repeated without doing more than once (RFC 9110 §9.2.2). One that we
/// do not know may not.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

impl Outcome {
    /// Reads a response head, at the wall clock's `now`.
    pub(crate) fn answered(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Self {
        Self::Answered { status, stated: omni::stated_wait(headers, now) }
    }
}

fn backoff(attempts: u32, share: f64) -> Duration {
    let most = BACKOFF * 2u32.saturating_pow(attempts.saturating_sub(1));
    // `!(x > 0)` is true of NaN too, which `mul_f64` does not take.
    if share > 0.0 { most.mul_f64(share.min(1.0)) } else { Duration::ZERO }
}

/// How much of a route's traffic may be retries, so that they do not bury an upstream in trouble.
///
/// With each retry that it allows, the retries of the minute that ends there are at most 3 and a
/// fifth of the calls of the same minute. The minute rolls; calls are counted by the second, those
/// of the oldest second not at all, and retries of it whole, so that rounding errs to this side.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    began: Instant,
    /// The seconds in which something happened, oldest first.
    seconds: VecDeque<Second>,
}

#[derive(Debug)]
struct Second {
    at: u64,
    calls: u32,
    retries: u32,
}

impl RetryBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { began: now, seconds: VecDeque::new() }
    }

    /// A call is sent for the first time.
    pub(crate) fn called(&mut self, now: Instant) {
        let second = self.second(now);
        second.calls = second.calls.saturating_add(1);
    }

    /// Takes one retry, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let at = self.second(now).at;
        let retries = self.seconds.iter().map(|second| second.retries).sum::<u32>();
        let whole = self.seconds.iter().filter(|second| second.at + 60 > at);
        let calls = whole.fold(0u32, |calls, second| calls.saturating_add(second.calls));
        let allowed = retries < FLOOR + calls / CALLS_A_RETRY;
        if allowed {
            self.second(now).retries += 1;
        }
        allowed
    }

    /// The second of `now`. Those that lie wholly more than a minute back are forgotten.
    fn second(&mut self, now: Instant) -> &mut Second {
        let last = self.seconds.back().map_or(0, |second| second.at);
        // Callers take their time before they take the lock, so it may seem to go back.
        let at = now.saturating_duration_since(self.began).as_secs().max(last);
        while self.seconds.front().is_some_and(|second| second.at + 60 < at) {
            self.seconds.pop_front();
        }
        if self.seconds.back().is_none_or(|second| second.at != at) {
            self.seconds.push_back(Second { at, calls: 0, retries: 0 });
        }
        let newest = self.seconds.len() - 1;
        &mut self.seconds[newest]
    }
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;
    use proptest::prelude::*;

    use super::*;

    const GET: Call = Call { idempotent: true, at_hand: true, streaming: false, attempts: 1 };
    const POST: Call = Call { idempotent: false, ..GET };

    fn answered(status: u16) -> Outcome {
        Outcome::Answered { status: StatusCode::from_u16(status).unwrap(), stated: None }
    }

    fn after(call: Call, outcome: Outcome, share: f64) -> Option<Duration> {
        match next(call, outcome, share) {
            Next::Again { after, .. } => Some(after),
            Next::Done => None,
        }
    }

    #[test]
    fn only_what_does_the_same_twice_is_idempotent() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_idempotent(&method.parse().unwrap()), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "get", "QUERY"] {
            assert!(!is_idempotent(&method.parse().unwrap()), "{method}");
        }
    }

    #[test]
    fn an_upstream_in_trouble_is_asked_again_and_nothing_else_is() {
        for status in 100..600 {
            let again = after(GET, answered(status), 1.0).is_some();
            assert_eq!(again, [502, 503, 504].contains(&status), "{status}");
            assert_eq!(after(POST, answered(status), 1.0), None, "{status}");
        }
    }

    #[test]
    fn what_upstream_knows_nothing_of_is_sent_again_whatever_it_is() {
        let stream = Call { at_hand: false, streaming: true, ..POST };
        assert!(after(stream, Outcome::Unreachable, 1.0).is_some());
        let free = Next::Again { after: Duration::ZERO, reason: Retry::Stale, budgeted: false };
        assert_eq!(next(stream, Outcome::Stale, 1.0), free);
    }

    #[test]
    fn the_wait_doubles_and_chance_shares_it() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let second = Call { attempts: 2, ..GET };
        for (call, share, wait) in [
            (GET, 1.0, ms(500)),
            (GET, 0.5, ms(250)),
            (GET, 0.0, ms(0)),
            (GET, f64::NAN, ms(0)),
            (GET, 7.0, ms(500)),
            (GET, -7.0, ms(0)),
            (second, 1.0, ms(1000)),
            (Call { attempts: 3, ..GET }, 1.0, None),
        ] {
            assert_eq!(after(call, Outcome::Broken, share), wait, "{call:?} {share}");
        }
    }

    #[test]
    fn a_503_is_not_asked_again_before_it_said() {
        let said = |value: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            Outcome::answered(StatusCode::SERVICE_UNAVAILABLE, &headers, SystemTime::UNIX_EPOCH)
        };
        let wait = |outcome| after(GET, outcome, 0.0);
        assert_eq!(wait(said("10")), Some(Duration::from_secs(10)));
        assert_eq!(wait(said("11")), None);
        assert_eq!(wait(said("99999999999999999999")), None);
        assert_eq!(wait(said("Fri, 02 Jan 1970 00:00:00 GMT")), None);
        assert_eq!(wait(said("Thu, 01 Jan 1970 00:00:07 GMT")), Some(Duration::from_secs(7)));
        assert_eq!(wait(said("soon")), Some(Duration::ZERO));
        assert_eq!(after(POST, said("1"), 0.0), None);
    }

    #[test]
    fn a_lone_call_may_be_retried_as_often_as_any() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        budget.called(now);
        let granted = (0..10).filter(|_| budget.take(now)).count();
        assert_eq!(granted, 3);
        assert!(!budget.take(now + Duration::from_secs(60)));
        assert!(budget.take(now + Duration::from_secs(61)));
    }

    #[test]
    fn a_fifth_of_the_calls_may_be_retried() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        (0..100).for_each(|_| budget.called(now));
        assert_eq!((0..100).filter(|_| budget.take(now)).count(), 23);
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        let stated = proptest::option::of(prop_oneof![0..20u64, 0..u64::MAX]);
        prop_oneof![
            Just(Outcome::Stale),
            Just(Outcome::Unreachable),
            Just(Outcome::Broken),
            Just(Outcome::Silent),
            (prop_oneof![500u16..506, 100..600u16], stated).prop_map(|(status, stated)| {
                Outcome::Answered {
                    status: StatusCode::from_u16(status).unwrap(),
                    stated: stated.map(Duration::from_secs),
                }
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_may_have_been_done_is_not_done_again(
            outcome in outcome(),
            (idempotent, at_hand, streaming) in any::<(bool, bool, bool)>(),
            attempts in 0u32..6,
            share in any::<f64>(),
        ) {
            let call = Call { idempotent, at_hand, streaming, attempts };
            if let Next::Again { after, budgeted, .. } = next(call, outcome, share) {
                let unsent = matches!(outcome, Outcome::Stale | Outcome::Unreachable);
                prop_assert!(unsent || idempotent && at_hand && !streaming);
                prop_assert!(attempts < MOST);
                prop_assert!(budgeted || outcome == Outcome::Stale);
                prop_assert!(after <= LONGEST + BACKOFF * 2);
                if let Outcome::Answered { stated: Some(wait), status } = outcome {
                    prop_assert!(after >= wait || status != StatusCode::SERVICE_UNAVAILABLE);
                }
            }
        }

        #[test]
        fn more_chance_is_more_wait(outcome in outcome(), a in 0.0..1.0f64, b in 0.0..1.0f64) {
            let (less, more) = (a.min(b), a.max(b));
            prop_assert!(after(GET, outcome, less) <= after(GET, outcome, more));
        }

        #[test]
        fn in_any_minute_a_fifth_are_retries_and_three(
            steps in proptest::collection::vec((0u64..3_000, any::<bool>()), 1..400),
        ) {
            let start = Instant::now();
            let mut budget = RetryBudget::new(start);
            let (mut now, mut calls, mut retries) = (start, Vec::new(), Vec::new());
            for (pause, is_call) in steps {
                // Mostly close together, so that the bound is reached.
                now += Duration::from_millis(if pause < 2_800 { pause / 20 } else { pause * 10 });
                if is_call {
                    budget.called(now);
                    calls.push(now);
                } else if budget.take(now) {
                    retries.push(now);
                    let minute = |at: &&Instant| **at + Duration::from_secs(60) > now;
                    let retries = retries.iter().filter(minute).count();
                    let calls = calls.iter().filter(minute).count();
                    prop_assert!(retries <= 3 + calls / 5, "{retries} of {calls}");
                }
                prop_assert!(budget.seconds.len() <= 61);
            }
        }
    }
}

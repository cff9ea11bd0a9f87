//! A token of ours, and until when it is good. Pure: time is a value.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use crate::base::chance;

/// No lease is longer to us than ten years; Vault's longest is 32 days where nobody changes it.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How soon a lease may be seen to again.
const SOONEST: Duration = Duration::from_secs(1);

/// A token, and what is to be done to keep it.
pub(super) struct Lease {
    /// The value of `X-Vault-Token`.
    pub(super) token: HeaderValue,
    /// Counts log-ins.
    pub(super) number: u64,
    /// When it ends; `None` is never.
    until: Option<Instant>,
    next: Next,
    /// What a renewal asks for: what was granted at first.
    pub(super) asks: Duration,
}

/// What keeps a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It does not end.
    Nothing,
    /// To renew it, from then on.
    Renew(Instant),
    /// To log in anew, from then on.
    LogIn(Instant),
}

/// What was granted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// How long from now; zero is for ever.
    pub(super) ttl: Duration,
    /// How long when it was new.
    pub(super) at_first: Duration,
    pub(super) renewable: bool,
}

impl Terms {
    pub(super) fn new(seconds: u64, renewable: bool) -> Self {
        let ttl = Duration::from_secs(seconds).min(LONGEST);
        Self { ttl, at_first: ttl, renewable }
    }
}

impl Lease {
    /// `asked` is when the grant was asked for: it began no earlier.
    pub(super) fn new(token: HeaderValue, number: u64, terms: Terms, asked: Instant) -> Self {
        let Terms { ttl, at_first, renewable } = terms;
        if ttl.is_zero() {
            return Self { token, number, until: None, next: Next::Nothing, asks: ttl };
        }
        // Two thirds, give or take a tenth of that, so that many who began together part.
        let share = 2.0 / 3.0 * (0.9 + 0.2 * chance());
        let due = asked + ttl.mul_f64(share).max(SOONEST);
        let next = if renewable { Next::Renew(due) } else { Next::LogIn(due) };
        Self { token, number, until: Some(asked + ttl), next, asks: at_first.max(SOONEST) }
    }

    /// The same token, after a renewal. When it was granted less than it asked for, it nears its
    /// greatest age, and no renewal will get it beyond.
    pub(super) fn renewed(&self, terms: Terms, asked: Instant) -> Self {
        let (token, number, asks) = (self.token.clone(), self.number, self.asks);
        if terms.ttl.is_zero() {
            // Not for ever: it had an end before.
            return Self { token, number, until: Some(asked), next: Next::LogIn(asked), asks };
        }
        let renewable = terms.renewable && terms.ttl >= asks;
        let terms = Terms { at_first: asks, renewable, ..terms };
        Self::new(token, number, terms, asked)
    }

    /// What keeps it.
    pub(super) fn next(&self) -> Next {
        self.next
    }

    /// Whether it is good at `now`.
    pub(super) fn is_good(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("number", &self.number)
            .field("until", &self.until)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(seconds: u64, renewable: bool, now: Instant) -> Lease {
        let token = HeaderValue::from_static("x");
        Lease::new(token, 1, Terms::new(seconds, renewable), now)
    }

    #[tokio::test]
    async fn a_lease_is_renewed_at_two_thirds_give_or_take_a_tenth() {
        let now = Instant::now();
        let mut all = Vec::new();
        for _ in 0..1000 {
            let Next::Renew(at) = lease(30, true, now).next() else { panic!() };
            all.push((at - now).as_secs_f64());
        }
        let (least, most) = all.iter().fold((f64::MAX, 0.0f64), |(a, b), &x| (a.min(x), b.max(x)));
        assert!((18.0..18.5).contains(&least) && (21.5..=22.0).contains(&most), "{least} {most}");
    }

    #[tokio::test]
    async fn a_lease_that_got_less_than_it_asked_for_is_not_renewed_again() {
        let now = Instant::now();
        let first = lease(30, true, now);
        assert!(matches!(first.renewed(Terms::new(30, true), now).next(), Next::Renew(_)));
        let short = first.renewed(Terms::new(29, true), now);
        assert!(matches!(short.next(), Next::LogIn(_)));
        assert!(short.is_good(now + Duration::from_secs(28)));
        assert!(!short.is_good(now + Duration::from_secs(29)));
        assert!(matches!(first.renewed(Terms::new(30, false), now).next(), Next::LogIn(_)));
        let ended = first.renewed(Terms::new(0, true), now);
        assert!(ended.next() == Next::LogIn(now) && !ended.is_good(now));
    }

    #[tokio::test]
    async fn a_lease_without_end_needs_nothing_and_an_absurd_one_breaks_nothing() {
        let now = Instant::now();
        let root = lease(0, false, now);
        assert!(root.next() == Next::Nothing && root.is_good(now + LONGEST));
        assert!(lease(u64::MAX, true, now).is_good(now));
    }
}

//! How old an answer is, and for whom it is good enough.

use std::time::Duration;

use tokio::time::Instant;

use super::Wishes;

/// The life of an answer that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When its request was sent.
    pub since: Instant,
    /// How old it was then.
    pub age: Duration,
    /// Up to this age it is fresh.
    pub lifetime: Duration,
    /// So much longer it may be served in need.
    pub stale: Duration,
}

/// What an answer is to one caller at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Within its lifetime: serve it.
    Fresh,
    /// Past its lifetime, which the caller's `max-stale` takes: serve it.
    Welcome,
    /// Past its lifetime, and the caller says nothing against it: serve it in need.
    Stale,
    /// This caller wants a newer one.
    Unwanted,
    /// Good for nobody any more.
    Over,
}

impl Life {
    /// The age of the answer (RFC 9111 §4.2.3).
    pub fn age(&self, now: Instant) -> Duration {
        self.age.saturating_add(now.saturating_duration_since(self.since))
    }

    /// The whole seconds that it stays fresh, rounded down; less than zero once it is stale (RFC 9211
    /// §2.3), so that 0.2 s past its lifetime it is -1.
    pub fn ttl(&self, now: Instant) -> i64 {
        let age = self.age(now);
        match self.lifetime.checked_sub(age) {
            Some(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            None => {
                let over = age.saturating_sub(self.lifetime);
                let begun = over.as_secs().saturating_add(u64::from(over.subsec_nanos() > 0));
                i64::try_from(begun).map_or(i64::MIN, |begun| -begun)
            }
        }
    }

    /// Whether it is past its lifetime and all that may follow.
    pub fn is_over(&self, now: Instant) -> bool {
        self.age(now) >= self.lifetime.saturating_add(self.stale)
    }

    /// Judges the answer for a caller. Age makes it worse and never better.
    pub fn judge(&self, wishes: &Wishes, now: Instant) -> Judgement {
        let age = self.age(now);
        let is_fresh = age < self.lifetime;
        if self.is_over(now) {
            Judgement::Over
        } else if wishes.no_cache || !wishes.take_age(age) {
            Judgement::Unwanted
        } else if is_fresh {
            match wishes.min_fresh {
                Some(asked) if self.lifetime.saturating_sub(age) < asked => Judgement::Unwanted,
                _ => Judgement::Fresh,
            }
        } else if wishes.min_fresh.is_some() {
            Judgement::Unwanted
        } else {
            match (wishes.max_stale, wishes.max_age) {
                (Some(most), _) if age.saturating_sub(self.lifetime) <= most => Judgement::Welcome,
                (Some(_), _) => Judgement::Unwanted,
                // A caller who gives an age and no max-stale wants no stale answer (§5.2.1.1).
                (None, Some(_)) => Judgement::Unwanted,
                (None, None) => Judgement::Stale,
            }
        }
    }
}

impl Wishes {
    /// Whether nothing will do that was sent for before the call came.
    pub fn wants_anew(&self) -> bool {
        self.no_cache || !self.take_age(Duration::ZERO)
    }

    /// Whether an answer of this age will do. `max-age=0` is how `no-cache` is said by reloading
    /// browsers, and means even what came in this very moment.
    fn take_age(&self, age: Duration) -> bool {
        self.max_age.is_none_or(|most| age <= most && !most.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Judgement::{Fresh, Over, Stale, Unwanted, Welcome};
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    fn life(age: Duration, lifetime: Duration, stale: Duration) -> Life {
        Life { since: Instant::now(), age, lifetime, stale }
    }

    #[test]
    fn the_time_left_is_rounded_down() {
        let life = life(10 * S, 70 * S, 30 * S);
        for (after, left) in [
            (0, 60),
            (1, 59),
            (999, 59),
            (59_001, 0),
            (60_000, 0),
            (60_001, -1),
            (60_200, -1),
            (61_000, -1),
            (61_001, -2),
        ] {
            assert_eq!(life.ttl(life.since + after * MS), left, "{after} ms");
        }
        assert_eq!(life.age(life.since - S), 10 * S);
        assert!(!life.is_over(life.since + 89_999 * MS) && life.is_over(life.since + 90 * S));
    }

    #[test]
    fn no_time_is_too_long_to_reckon_with() {
        let (most, none) = (Duration::MAX, Duration::ZERO);
        let now = Instant::now() + S;
        assert_eq!(life(most, most, none).ttl(now), 0);
        assert_eq!(life(none, most, most).ttl(now), i64::MAX);
        assert_eq!(life(most, none, most).ttl(now), i64::MIN);
        assert_eq!(life(most, most, most).judge(&Wishes::default(), now), Over);
        let wishes = Wishes { min_fresh: Some(most), max_stale: Some(most), ..Wishes::default() };
        assert_eq!(life(S, most, most).judge(&wishes, now), Unwanted);
    }

    #[test]
    fn an_answer_is_judged_by_its_age_and_the_callers_wishes() {
        let none = Wishes::default();
        let max_age = |s| Wishes { max_age: Some(s * S), ..none };
        let max_stale = |s| Wishes { max_stale: Some(s * S), ..none };
        let min_fresh = |s| Wishes { min_fresh: Some(s * S), ..none };
        let both = |age, stale| Wishes { max_stale: Some(stale * S), ..max_age(age) };
        let any = Wishes { max_stale: Some(Duration::MAX), ..none };
        // Sent 5 s old, fresh for 60 s, stale for 30 s more.
        let life = life(5 * S, 60 * S, 30 * S);
        let no_cache = Wishes { no_cache: true, ..any };
        for (age, wishes, expected) in [
            (5_000, none, Fresh),
            (59_999, none, Fresh),
            (60_000, none, Stale),
            (89_999, none, Stale),
            (90_000, none, Over),
            (5_000, no_cache, Unwanted),
            (70_000, no_cache, Unwanted),
            (90_000, no_cache, Over),
            (10_000, max_age(10), Fresh),
            (10_001, max_age(10), Unwanted),
            (60_000, max_age(600), Unwanted),
            (60_000, both(600, 0), Welcome),
            (70_000, both(600, 10), Welcome),
            (70_001, both(600, 10), Unwanted),
            (70_000, both(65, 10), Unwanted),
            (60_001, max_stale(0), Unwanted),
            (70_000, max_stale(10), Welcome),
            (80_000, max_stale(10), Unwanted),
            (89_999, any, Welcome),
            (90_000, any, Over),
            (30_000, any, Fresh),
            (50_000, min_fresh(10), Fresh),
            (50_001, min_fresh(10), Unwanted),
            (60_000, min_fresh(0), Unwanted),
            (70_000, Wishes { min_fresh: Some(S), ..any }, Unwanted),
            (30_000, Wishes { no_store: true, only_if_cached: true, ..none }, Fresh),
        ] {
            let now = life.since + age * MS - 5 * S;
            assert_eq!(life.judge(&wishes, now), expected, "{wishes:?} at {age} ms");
        }
    }

    #[test]
    fn max_age_zero_takes_not_even_what_came_this_moment() {
        let life = life(Duration::ZERO, 60 * S, Duration::ZERO);
        let wishes = Wishes { max_age: Some(Duration::ZERO), ..Wishes::default() };
        assert_eq!(life.judge(&wishes, life.since), Unwanted);
    }

    fn time() -> impl Strategy<Value = Duration> {
        prop_oneof![Just(0), 0u64..200, 0u64..200_000]
            .prop_map(|ms| u32::try_from(ms).unwrap() * MS)
    }

    fn wishes() -> impl Strategy<Value = Wishes> {
        let time = || prop::option::of(time());
        let max_stale = prop::option::of(prop_oneof![4 => self::time(), 1 => Just(Duration::MAX)]);
        let flag = || prop::bool::weighted(0.2);
        (flag(), flag(), flag(), time(), max_stale, time()).prop_map(
            |(no_cache, no_store, only_if_cached, max_age, max_stale, min_fresh)| Wishes {
                no_cache,
                no_store,
                only_if_cached,
                max_age,
                max_stale,
                min_fresh,
            },
        )
    }

    /// Whether age can lead from one judgement to another.
    fn leads(from: Judgement, to: Judgement) -> bool {
        match from {
            Fresh => true,
            Welcome => to != Fresh && to != Stale,
            Stale => to == Stale || to == Over,
            Unwanted => to == Unwanted || to == Over,
            Over => to == Over,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn age_makes_an_answer_worse_and_never_better(
            life in (time(), time(), time()).prop_map(|(age, long, stale)| life(age, long, stale)),
            wishes in wishes(),
            mut times in prop::collection::vec(time(), 2..20),
        ) {
            times.sort_unstable();
            let judged = times.iter().map(|after| life.judge(&wishes, life.since + *after));
            let judged: Vec<_> = judged.collect();
            for (before, after) in judged.iter().zip(&judged[1..]) {
                prop_assert!(leads(*before, *after), "{before:?} became {after:?}");
            }
            for (after, judged) in times.iter().zip(judged) {
                let now = life.since + *after;
                let age = life.age + *after;
                let last = life.lifetime + life.stale;
                prop_assert_eq!(judged == Over, age >= last);
                prop_assert_eq!(life.is_over(now), age >= last);
                prop_assert!(judged != Fresh || age < life.lifetime);
                prop_assert!(!matches!(judged, Welcome | Stale) || age >= life.lifetime);
                prop_assert_eq!(life.ttl(now) < 0, age > life.lifetime);
            }
        }

        /// Neither a longer `stale` of the route nor a longer `max-stale` of the caller takes away.
        #[test]
        fn more_stale_never_refuses_what_less_allowed(
            parts in (time(), time(), time(), time()),
            (wishes, more) in (wishes(), time()),
            after in time(),
        ) {
            let (age, lifetime, stale, longer) = parts;
            let life = life(age, lifetime, stale);
            let now = life.since + after;
            let judged = life.judge(&wishes, now);
            let lasting = Life { stale: stale + longer, ..life }.judge(&wishes, now);
            prop_assert!(judged == lasting || judged == Over);
            let patient = Wishes {
                max_stale: wishes.max_stale.map(|most| most.saturating_add(more)),
                ..wishes
            };
            let then = life.judge(&patient, now);
            prop_assert!(then == judged || (judged, then) == (Unwanted, Welcome));
        }
    }
}

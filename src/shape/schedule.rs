//! When the next send may go: the ledger and the buckets together. Pure; time comes as a value.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use crate::shape::bucket::Bucket;
use crate::shape::journal::Slot;
use crate::shape::ledger::{Ledger, Stamp};
use crate::shape::meter::later;
use crate::shape::settings::{BudgetSettings, Profile};

/// How far ahead an estimate simulates, in sends. Beyond it the lower bound is shown.
const LOOK_AHEAD: usize = 1_024;

/// The bucket of `strict`, also where a budget turns strict for a while.
const STRICT_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// When the next send may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Now,
    At(Instant),
    /// No time can be told: every slot is taken and one of them by a permit in hand, or somebody has
    /// paused it by hand until further notice.
    Untold,
}

/// Whether a call may use the slots that are kept for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// All slots: `interactive`.
    Whole,
    /// Those that are not reserved: the lower classes.
    Unreserved,
}

/// The sends of one budget (or of one key of it).
#[derive(Debug)]
pub(crate) struct Schedule {
    settings: BudgetSettings,
    limit: usize,
    span: Duration,
    reserve: usize,
    /// Tokens that the lower classes leave in the bucket; one less than fit in, or they would wait
    /// for ever.
    kept_tokens: usize,
    ledger: Ledger,
    bucket: Option<Bucket>,
    /// Paces the lower classes at what the reserve leaves them.
    unreserved: Option<Bucket>,
    strict_until: Option<Instant>,
}

impl Schedule {
    pub(crate) fn new(settings: &BudgetSettings, now: Instant) -> Self {
        let span = settings.window + settings.guard;
        let limit = settings.limit.get() as usize;
        let reserve = (settings.reserve as usize).min(limit - 1);
        let mut schedule = Self {
            settings: settings.clone(),
            limit,
            span,
            reserve,
            kept_tokens: 0,
            ledger: Ledger::new(limit, span),
            bucket: None,
            unreserved: None,
            strict_until: None,
        };
        schedule.set_profile(settings.profile, now);
        schedule
    }

    fn set_profile(&mut self, profile: Profile, now: Instant) {
        let fewer = |by: u32| NonZeroU32::new(self.settings.limit.get().saturating_sub(by));
        let fewer = |by| fewer(by).unwrap_or(NonZeroU32::MIN);
        let (burst, sends) = match profile {
            Profile::Burst => {
                (self.bucket, self.unreserved) = (None, None);
                return;
            }
            Profile::Smooth { burst } => (burst, fewer(0)),
            Profile::Strict { burst } => (burst, fewer(1)),
        };
        self.bucket = Some(Bucket::new(burst, interval(self.span, sends), now));
        self.kept_tokens = self.reserve.min(burst.get() as usize - 1);
        let reserve = self.settings.reserve;
        self.unreserved = (self.reserve > 0).then(|| {
            let burst = NonZeroU32::new(burst.get().saturating_sub(reserve));
            let each = interval(self.span, fewer(reserve));
            Bucket::new(burst.unwrap_or(NonZeroU32::MIN), each, now)
        });
    }

    pub(crate) fn span(&self) -> Duration {
        self.span
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn used(&self) -> usize {
        self.ledger.used()
    }

    /// Permits in hand.
    pub(crate) fn held(&self) -> usize {
        self.ledger.held()
    }

    /// The sends that count, the oldest first.
    pub(crate) fn stamps(&self) -> impl ExactSizeIterator<Item = &Stamp> {
        self.ledger.stamps()
    }

    pub(crate) fn settings(&self) -> &BudgetSettings {
        &self.settings
    }

    pub(crate) fn strict_until(&self) -> Option<Instant> {
        self.strict_until
    }

    pub(crate) fn is_strict(&self) -> bool {
        self.strict_until.is_some()
    }

    fn reserve_of(&self, share: Share) -> usize {
        match share {
            Share::Whole => 0,
            Share::Unreserved => self.reserve,
        }
    }

    /// Takes over sends of an earlier life; the bucket lacks the tokens that they took.
    pub(crate) fn restore(&mut self, mut stamps: Vec<Stamp>, now: Instant) {
        stamps.sort_by_key(|stamp| stamp.at);
        if let (Some(bucket), Some(first)) = (&mut self.bucket, stamps.first()) {
            bucket.rewind(first.at.min(now));
            for stamp in &stamps {
                bucket.take(stamp.at.min(now));
            }
        }
        self.ledger.restore(stamps);
    }

    /// Begins anew with an empty bucket: after a pause sends go at pace.
    pub(crate) fn empty(&mut self, now: Instant) {
        for bucket in self.buckets() {
            bucket.restart(now);
            bucket.take(now);
        }
    }

    /// Sends as `strict` does until `until`, whatever the profile.
    pub(crate) fn turn_strict(&mut self, now: Instant, until: Instant) {
        if self.strict_until.is_none() && !matches!(self.settings.profile, Profile::Strict { .. }) {
            self.set_profile(Profile::Strict { burst: STRICT_BURST }, now);
            self.empty(now);
        }
        self.strict_until = self.strict_until.max(Some(until));
    }

    fn buckets(&mut self) -> impl Iterator<Item = &mut Bucket> {
        self.bucket.iter_mut().chain(&mut self.unreserved)
    }

    /// Forgets the sends that no longer count at `now` and hands back their journal slots.
    pub(crate) fn expire(&mut self, now: Instant, mut forget: impl FnMut(Slot)) {
        if self.strict_until.is_some_and(|until| until <= now) {
            self.strict_until = None;
            self.set_profile(self.settings.profile, now);
            self.empty(now);
        }
        loop {
            let was_full = self.ledger.is_full(0);
            let had_none_unreserved = self.ledger.is_full(self.reserve);
            let Some(stamp) = self.ledger.expire_one(now) else { return };
            if let Some(slot) = stamp.slot {
                forget(slot);
            }
            // A bucket does not refill while the ledger is what blocks; without this a backlog
            // sends its burst at once, paces, and falls silent again, for ever.
            let opened = stamp.at + self.span;
            if was_full && !self.ledger.is_full(0) {
                self.bucket.iter_mut().for_each(|bucket| bucket.restart(opened));
            }
            if had_none_unreserved && !self.ledger.is_full(self.reserve) {
                self.unreserved.iter_mut().for_each(|bucket| bucket.restart(opened));
            }
        }
    }

    /// When the next send may go. `expire` was called with the same `now`.
    pub(crate) fn next(&self, now: Instant, share: Share) -> Next {
        let token = self.token_at(0, now, share);
        let token = if token <= now { Next::Now } else { Next::At(token) };
        later(self.next_slot(share), token)
    }

    /// When the ledger has a slot for the next send, whatever the buckets hold.
    pub(crate) fn next_slot(&self, share: Share) -> Next {
        let reserve = self.reserve_of(share);
        match self.ledger.is_full(reserve) {
            true => self.ledger.frees_at(reserve).map_or(Next::Untold, Next::At),
            false => Next::Now,
        }
    }

    /// When the buckets have a token after `ahead` further ones.
    fn token_at(&self, ahead: usize, now: Instant, share: Share) -> Instant {
        let all = self.bucket.as_ref();
        let own = self.unreserved.as_ref().filter(|_| share == Share::Unreserved);
        // Who may not touch the reserve leaves so many tokens behind.
        let kept = if share == Share::Unreserved { self.kept_tokens } else { 0 };
        let all = all.map(|bucket| bucket.nth_at(ahead + kept, now));
        let own = own.map(|bucket| bucket.nth_at(ahead, now));
        all.into_iter().chain(own).fold(now, Instant::max)
    }

    /// Takes the slot and the tokens that `next` said are there.
    pub(crate) fn take(&mut self, now: Instant, share: Share) {
        self.ledger.hold();
        self.each_bucket(share, |bucket| bucket.take(now));
    }

    /// The head of a taken send is handed to the socket.
    pub(crate) fn stamp(&mut self, stamp: Stamp) {
        self.ledger.stamp(stamp);
    }

    /// A taken send did not begin.
    pub(crate) fn give_back(&mut self, share: Share) {
        self.ledger.give_back();
        self.each_bucket(share, Bucket::give_back);
    }

    fn each_bucket(&mut self, share: Share, mut change: impl FnMut(&mut Bucket)) {
        self.bucket.iter_mut().for_each(&mut change);
        if share == Share::Unreserved {
            self.unreserved.iter_mut().for_each(change);
        }
    }

    /// The earliest moment at which a call with `ahead` calls before it can go. O(1).
    pub(crate) fn lower_bound(&self, ahead: usize, now: Instant, share: Share) -> Instant {
        let slot_at = self.ledger.slot_at(ahead, now, true, self.reserve_of(share));
        slot_at.max(self.token_at(ahead, now, share))
    }

    /// How many calls could go at once.
    pub(crate) fn free(&self, now: Instant, share: Share) -> usize {
        let slots = self.limit.saturating_sub(self.used() + self.reserve_of(share));
        let burst = match self.settings.profile {
            Profile::Burst => slots,
            Profile::Smooth { burst } | Profile::Strict { burst } => burst.get() as usize,
        };
        // Tokens come one after the other, so it is halved, not counted: each answer asks for this
        // under the queue's lock, and with a limit of 100,000 its head was late for it by
        // milliseconds.
        let (mut free, mut most) = (0, slots.min(burst));
        while free < most {
            let middle = free.midpoint(most);
            if self.token_at(middle, now, share) <= now {
                free = middle + 1;
            } else {
                most = middle;
            }
        }
        free
    }

    /// When calls with 0, 1, … `most` calls before them will go if all of them send and none
    /// comes between. Shown to people; it never decides.
    pub(crate) fn estimates(&self, most: usize, now: Instant, share: Share) -> Vec<Instant> {
        let (mut all, mut own) = (self.bucket.clone(), self.unreserved.clone());
        own = own.filter(|_| share == Share::Unreserved);
        let reserve = self.reserve_of(share);
        let kept = if share == Share::Unreserved { self.kept_tokens } else { 0 };
        let mut sends: Vec<Instant> = Vec::with_capacity(most.min(LOOK_AHEAD) + 1);
        let mut last = now;
        for nth in 0..=most.min(LOOK_AHEAD) {
            let slot_at = match nth.checked_sub(self.limit - reserve) {
                None => self.ledger.slot_at(nth, now, false, reserve),
                Some(earlier) => sends[earlier] + self.span,
            };
            if slot_at > last {
                all.iter_mut().chain(&mut own).for_each(|bucket| bucket.restart(slot_at));
            }
            let tokens = all.iter().map(|bucket| bucket.nth_at(kept, last));
            let tokens = tokens.chain(own.iter().map(|bucket| bucket.ready_at(last)));
            last = tokens.fold(slot_at, Instant::max).max(last);
            all.iter_mut().chain(&mut own).for_each(|bucket| bucket.take(last));
            sends.push(last);
        }
        sends
    }

    /// The last of [`Schedule::estimates`].
    pub(crate) fn estimate(&self, ahead: usize, now: Instant, share: Share) -> Instant {
        let near = self.estimates(ahead, now, share).pop().unwrap_or(now);
        if ahead <= LOOK_AHEAD { near } else { near.max(self.lower_bound(ahead, now, share)) }
    }
}

/// `span / sends`, rounded up so that pacing never runs ahead of the limit.
fn interval(span: Duration, sends: NonZeroU32) -> Duration {
    span / sends.get() + Duration::from_nanos(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BudgetId;
    use crate::shape::settings::{ColdStart, Scope};
    use proptest::prelude::*;

    fn settings(limit: u32, profile: Profile) -> BudgetSettings {
        BudgetSettings {
            id: BudgetId::new("omni"),
            limit: NonZeroU32::new(limit).unwrap(),
            window: Duration::from_secs(60),
            guard: Duration::from_secs(1),
            reserve: 0,
            scope: Scope::Organization,
            profile,
            max_queued: 10_000,
            max_wait: Duration::from_secs(120),
            batch_max_wait: Duration::from_secs(3_600),
            cold_start: ColdStart::Trust,
        }
    }

    fn smooth(burst: u32) -> Profile {
        Profile::Smooth { burst: NonZeroU32::new(burst).unwrap() }
    }

    fn strict(burst: u32) -> Profile {
        Profile::Strict { burst: NonZeroU32::new(burst).unwrap() }
    }

    /// Sends as soon as it may, `n` times; what a backlog does.
    fn backlog(schedule: &mut Schedule, start: Instant, n: usize) -> Vec<Instant> {
        let mut now = start;
        let mut sends = Vec::new();
        while sends.len() < n {
            schedule.expire(now, |_| ());
            match schedule.next(now, Share::Whole) {
                Next::Now => {
                    schedule.take(now, Share::Whole);
                    schedule.stamp(Stamp::of_nobody(now));
                    sends.push(now);
                }
                Next::At(at) => now = at,
                Next::Untold => panic!("nothing is in hand"),
            }
        }
        sends
    }

    fn highest(sends: &[Instant], window: Duration) -> usize {
        (0..sends.len())
            .map(|i| sends[i..].iter().take_while(|&&at| at < sends[i] + window).count())
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn a_backlog_is_sent_at_the_profiles_rate() {
        let start = Instant::now();
        for (profile, makespan) in [
            (smooth(10), 939.0 * 61.0 / 60.0),
            (strict(2), 938.0 * 61.0 / 59.0),
            (Profile::Burst, 15.0 * 61.0),
        ] {
            let mut schedule = Schedule::new(&settings(60, profile), start);
            let sends = backlog(&mut schedule, start, 940);
            let took = (*sends.last().unwrap() - start).as_secs_f64();
            assert!((took - makespan).abs() < 0.01, "{profile:?}: {took} s for {makespan} s");
            assert!(highest(&sends, Duration::from_secs(61)) <= 60);
        }
    }

    #[test]
    fn a_backlog_has_one_gap_ever() {
        let start = Instant::now();
        let mut schedule = Schedule::new(&settings(60, smooth(10)), start);
        let sends = backlog(&mut schedule, start, 3_000);
        let gaps = sends.windows(2).filter(|pair| pair[1] - pair[0] > Duration::from_secs(2));
        assert_eq!(gaps.count(), 1);
    }

    #[test]
    fn the_estimate_of_a_backlog_is_what_then_happens() {
        let start = Instant::now();
        for profile in [smooth(10), strict(2), Profile::Burst] {
            let mut schedule = Schedule::new(&settings(60, profile), start);
            backlog(&mut schedule, start, 25);
            let shown: Vec<_> =
                (0..400).map(|n| schedule.estimate(n, start, Share::Whole)).collect();
            let bound: Vec<_> =
                (0..400).map(|n| schedule.lower_bound(n, start, Share::Whole)).collect();
            let sends = backlog(&mut schedule, start, 400);
            for n in 0..400 {
                assert_eq!(shown[n], sends[n], "{profile:?}, {n} ahead");
                assert!(bound[n] <= sends[n], "{profile:?}, {n} ahead");
            }
        }
    }

    fn any_profile() -> impl Strategy<Value = Profile> {
        prop_oneof![Just(Profile::Burst), (1u32..20).prop_map(smooth), (1u32..4).prop_map(strict)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn what_is_free_is_what_can_be_taken_at_once(
            limit in 1u32..40,
            reserve in 0u32..10,
            profile in any_profile(),
            waits in prop::collection::vec(0u64..4_000, 0..60),
        ) {
            for share in [Share::Whole, Share::Unreserved] {
                let mut now = Instant::now();
                let settings = BudgetSettings { reserve, ..settings(limit, profile) };
                let mut schedule = Schedule::new(&settings, now);
                for wait in &waits {
                    now += Duration::from_millis(*wait);
                    schedule.expire(now, |_| ());
                    if schedule.next(now, Share::Whole) == Next::Now {
                        schedule.take(now, Share::Whole);
                        schedule.stamp(Stamp::of_nobody(now));
                    }
                }
                let (free, mut taken) = (schedule.free(now, share), 0);
                while schedule.next(now, share) == Next::Now {
                    schedule.take(now, share);
                    taken += 1;
                }
                prop_assert_eq!(free, taken);
            }
        }

        /// S1 and S3: whatever callers do, no interval of `span` holds more than `limit` stamps,
        /// and a call that could go is told so.
        #[test]
        fn no_interval_holds_more_than_the_limit(
            limit in 1u32..40,
            profile in any_profile(),
            steps in prop::collection::vec((0u64..4_000, 0u8..8), 1..400),
        ) {
            let start = Instant::now();
            let mut schedule = Schedule::new(&settings(limit, profile), start);
            let (mut now, mut held, mut sends) = (start, 0usize, Vec::new());
            for (wait, deed) in steps {
                now += Duration::from_millis(wait);
                schedule.expire(now, |_| ());
                match deed {
                    0..4 => if schedule.next(now, Share::Whole) == Next::Now {
                        schedule.take(now, Share::Whole);
                        held += 1;
                    },
                    4..7 => if held > 0 {
                        schedule.stamp(Stamp::of_nobody(now));
                        sends.push(now);
                        held -= 1;
                    },
                    _ => if held > 0 {
                        schedule.give_back(Share::Whole);
                        held -= 1;
                    },
                }
                let used = sends.iter().filter(|at| **at + schedule.span > now).count() + held;
                prop_assert_eq!(schedule.used(), used);
                if let Next::At(at) = schedule.next(now, Share::Whole) {
                    prop_assert!(at > now);
                    prop_assert!(schedule.lower_bound(0, now, Share::Whole) <= at);
                }
                if used < limit as usize && matches!(profile, Profile::Burst) {
                    prop_assert_eq!(schedule.next(now, Share::Whole), Next::Now);
                }
            }
            prop_assert!(highest(&sends, schedule.span) <= limit as usize);
        }
    }
}

//! What those who wait, and those who come, may expect.

use std::time::Duration;

use tokio::time::Instant;

use crate::shape::lane::Lane;
use crate::shape::line::{Count, LaneIndex, Seat, Ticket};
use crate::shape::queue::Queue;

impl Queue {
    /// How many calls go before this one, of those that take what it waits for.
    pub(super) fn rank(&self, seat: Seat, ticket: Ticket, count: Count, now: Instant) -> usize {
        self.line.rank(seat, ticket, count, |other| self.is_in_way(other, seat.lane, count, now))
    }

    /// How many calls would go before one that comes now.
    pub(super) fn rank_of_next(&self, seat: Seat, count: Count, now: Instant) -> usize {
        self.line.rank_of_next(seat, count, |other| self.is_in_way(other, seat.lane, count, now))
    }

    /// Whether calls of the lane `other` take slots that those of `lane` wait for. Surely, if they are
    /// charged alike; and presumably, if they share a ledger and are not held elsewhere.
    fn is_in_way(&self, other: LaneIndex, lane: LaneIndex, count: Count, now: Instant) -> bool {
        let (one, two) = (&self.lanes[other], &self.lanes[lane]);
        let alike = || other == lane || one.charges_like(two);
        let presumably = || {
            let held_elsewhere = || self.is_paused(other, now) && !self.is_paused(lane, now);
            one.shares_with(two) && !held_elsewhere()
        };
        match count {
            Count::Sure => alike(),
            Count::Expected => alike() || presumably(),
        }
    }

    pub(super) fn lower_bound(&self, seat: Seat, ahead: usize, now: Instant) -> Instant {
        let lane = &self.lanes[seat.lane];
        let bound = lane.lower_bound(&self.meters, ahead, now, seat.priority);
        self.stop.until().map_or(bound, |until| bound.max(until))
    }

    pub(super) fn lane_estimate(&self, seat: Seat, ahead: usize, now: Instant) -> Duration {
        let from = self.stop.expected_end(now);
        self.lanes[seat.lane].estimate(&self.meters, ahead, from, seat.priority) - now
    }

    /// How many calls wait for a lane that charges this meter, by priority.
    pub(crate) fn queued(&self, meter: usize) -> usize {
        let charges = |lane: &Lane| lane.ways.iter().any(|way| way.meters.contains(&meter));
        self.lanes.iter().filter(|lane| charges(lane)).map(|lane| lane.queued).sum()
    }

    /// Whether nobody sends who comes by this lane: Omni said that it is too much, or somebody has
    /// paused it by hand.
    pub(crate) fn is_paused(&self, lane: LaneIndex, now: Instant) -> bool {
        let one = &self.lanes[lane];
        one.is_paused(&self.meters, now) || (!one.all_out() && self.stop.holds(now))
    }

    /// How many calls of this kind could go at once, and when one that comes now would go.
    pub(crate) fn outlook(&self, seat: Seat, now: Instant) -> (usize, Duration) {
        let rank = self.rank_of_next(seat, Count::Expected, now);
        let free = match self.stop.holds(now) {
            true => 0,
            false => self.lanes[seat.lane].free(&self.meters, now, seat.priority),
        };
        (free.saturating_sub(rank), self.lane_estimate(seat, rank, now))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::base::{BudgetId, CallerId, CredentialId, Priority};
    use crate::shape::place::Place;
    use crate::shape::refused::Refused;
    use crate::shape::settings::{BudgetSettings, ColdStart, Key, Profile, Scope};
    use crate::shape::shaper::{Ask, Outlook, Shaper, ShaperSettings};

    const SECOND: Duration = Duration::from_secs(1);

    /// Two budgets, each of one call a second, and keys that are charged to the one, the other, both.
    struct World {
        shaper: Shaper,
    }

    impl World {
        fn new() -> Self {
            let budgets = ["a", "b"].map(|id| BudgetSettings {
                id: BudgetId::new(id),
                limit: NonZeroU32::new(60).unwrap(),
                window: 60 * SECOND,
                guard: SECOND,
                profile: Profile::Smooth { burst: NonZeroU32::MIN },
                reserve: 0,
                scope: Scope::Organization,
                max_queued: 1_000,
                max_wait: 3_600 * SECOND,
                batch_max_wait: 3_600 * SECOND,
                cold_start: ColdStart::Trust,
            });
            let keys = ["a", "b", "ab"].map(key);
            let settings =
                ShaperSettings { budgets: budgets.into(), keys: keys.into(), callers: Vec::new() };
            Self { shaper: Shaper::open(settings, None).unwrap() }
        }

        fn ask<T>(
            &self,
            budgets: &str,
            caller: &str,
            priority: Priority,
            wait: u32,
            ask: impl Fn(&Ask<'_>) -> T,
        ) -> T {
            let lane = self.shaper.lane(&[key(budgets)]).unwrap();
            let max_wait = Some(wait * SECOND);
            ask(&Ask { lane, caller: &CallerId::new(caller), priority, max_wait })
        }

        fn join(&self, budgets: &str, caller: &str, priority: Priority, wait: u32) -> Joined {
            self.ask(budgets, caller, priority, wait, |ask| self.shaper.join(ask))
        }

        fn crowd(&self, budgets: &str, caller: &str, priority: Priority) -> Vec<Place> {
            (0..100).map(|_| self.join(budgets, caller, priority, 3_000).unwrap()).collect()
        }

        fn outlook(&self, budgets: &str, caller: &str) -> Outlook {
            self.ask(budgets, caller, Priority::Normal, 3, |ask| self.shaper.outlook(ask))
        }
    }

    type Joined = Result<Place, Refused>;

    fn key(budgets: &str) -> Key {
        let named = budgets.chars().map(|one| BudgetId::new(one.to_string()));
        Key { credential: CredentialId::new(budgets), budgets: named.collect() }
    }

    async fn send(mut place: Place) {
        place.near().await.unwrap();
        place.turn().await.unwrap().begin();
    }

    /// They were counted as sure to go first: calls of the other budget were refused as if they had to
    /// wait for them, or were told to prepare when their slot had long been free.
    #[tokio::test(start_paused = true)]
    async fn who_waits_for_another_budget_goes_before_nobody() {
        for (crowd, priority) in [("a", Priority::Interactive), ("ab", Priority::Normal)] {
            let world = World::new();
            world.shaper.pause(Some(&BudgetId::new("a")), None);
            let waiting = world.crowd(crowd, "many", priority);
            let start = Instant::now();
            assert_eq!(world.outlook("b", "one").free, 1);
            for nth in 0..4 {
                assert!(world.outlook("b", "one").next <= 2 * SECOND);
                let place = world.join("b", "one", Priority::Normal, 3).unwrap();
                assert_eq!(place.position(), 0);
                send(place).await;
                // One goes at once, and then one each second or so.
                assert!(start.elapsed() <= nth * SECOND * 61 / 60 + SECOND / 10, "{nth}");
            }
            drop(waiting);
        }
    }

    /// A call that is charged to two budgets waits for the crowd of each.
    #[tokio::test(start_paused = true)]
    async fn who_waits_for_one_of_two_budgets_is_expected_and_not_sure_to_go_first() {
        let world = World::new();
        let waiting = world.crowd("a", "many", Priority::Interactive);
        let late = world.join("a", "one", Priority::Batch, 3);
        assert!(matches!(late, Err(Refused::Late { .. })), "{late:?}");
        let both = world.join("ab", "one", Priority::Interactive, 3).unwrap();
        assert_eq!(both.position(), 1);
        drop(waiting);
    }
}

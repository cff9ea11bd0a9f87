//! What a place stands on, changed from outside: by those for whom another task waits.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use crate::shape::line::{Count, Seat, Ticket};
use crate::shape::place::Shared;
use crate::shape::queue::{LATE, Queue};
use crate::shape::refused::Refused;
use crate::shape::shaper::{Ask, seat};
use crate::shape::stop::Stop;

/// The terms of a place, while its holder waits in it. It does not keep the place: once that is
/// dropped or refused, there is nothing left to change.
#[derive(Clone)]
pub struct Terms {
    shared: Arc<Shared>,
    ticket: Ticket,
}

impl Terms {
    pub(crate) fn new(shared: Arc<Shared>, ticket: Ticket) -> Self {
        Self { shared, ticket }
    }

    /// From now on the place has the priority and the caller of `ask`, and waits until `deadline`;
    /// its lane stays, and `ask.max_wait` says nothing. Among those beside whom it then stands it
    /// keeps the order of arrival, and whoever was ready still is.
    ///
    /// While its permit is in hand, this counts once the place is taken again. It counts as one
    /// more that waits for that caller, whatever the caller may have waiting, and is not charged
    /// to the caller's own rate.
    pub fn change(&self, ask: &Ask<'_>, deadline: Instant) {
        self.shared.with(|queue| {
            let seat = seat(queue, ask);
            queue.change(Instant::now(), self.ticket, seat, deadline);
        });
    }

    /// What one is told who waits for this place until `deadline`, where the turn is sure to come
    /// after that. `None` where it may come in time, was granted, or never comes.
    pub fn late(&self, deadline: Instant) -> Option<Refused> {
        self.shared.with(|queue| queue.late_for(Instant::now(), self.ticket, deadline))
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the queue, which may hold 100,000.
        f.debug_struct("Terms").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Queue {
    /// From now on `ticket` stands where `seat` says, but in its own lane, and waits until
    /// `deadline`.
    pub(crate) fn change(&mut self, now: Instant, ticket: Ticket, seat: Seat, deadline: Instant) {
        // Not advanced before: whoever is given more time in the last moment is not refused in it.
        let Some(waiter) = self.waiters.get_mut(&ticket) else { return };
        let (from, until) = (waiter.seat, waiter.until());
        let to = Seat { lane: from.lane, ..seat };
        if to == from && deadline == waiter.deadline {
            return;
        }
        (waiter.seat, waiter.deadline) = (to, deadline);
        if waiter.until() != until {
            // Its timer is set to the old one.
            waiter.wake();
            // Who prepares has none: connecting is not waiting.
            if self.deadlines.remove(&(until, ticket)) {
                self.deadlines.insert((waiter.until(), ticket));
            }
        }
        if !waiter.queued() {
            return;
        }
        if to != from {
            self.line.change(from, to, ticket);
            self.callers.leave(from.caller);
            self.callers.rejoin(to.caller);
        }
        self.advance(now);
    }

    fn late_for(&mut self, now: Instant, ticket: Ticket, deadline: Instant) -> Option<Refused> {
        self.advance(now);
        let waiter = self.waiters.get(&ticket).filter(|waiter| waiter.queued())?;
        let seat = waiter.seat;
        let sure = self.rank(seat, ticket, Count::Sure, now);
        // Who waits for somebody to resume learns nothing from a lower bound.
        let waits_in_vain = deadline <= now && self.stop_of(seat.lane, now) == Stop::UntilResumed;
        let is_late = waits_in_vain || self.lower_bound(seat, sure, now) > deadline;
        is_late.then(|| self.late(ticket, seat, now, deadline))
    }

    /// What is told when a deadline has come.
    pub(super) fn refusal(&self, now: Instant, ticket: Ticket) -> Refused {
        match self.waiters.get(&ticket) {
            Some(waiter) if waiter.queued() => self.late(ticket, waiter.seat, now, now),
            Some(_) | None => LATE,
        }
    }

    /// Until when the place may wait, as was said.
    pub(crate) fn position(&self, ticket: Ticket) -> usize {
        self.waiters.get(&ticket).map_or(0, |waiter| waiter.position)
    }

    pub(crate) fn deadline(&self, ticket: Ticket) -> Option<Instant> {
        self.waiters.get(&ticket).map(|waiter| waiter.deadline)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use tokio::task::yield_now;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::base::{BudgetId, CallerId, CredentialId, Priority};
    use crate::shape::callers::CallerRules;
    use crate::shape::place::{Permit, Place};
    use crate::shape::settings::{BudgetSettings, ColdStart, Key, Profile, Scope};
    use crate::shape::shaper::{LaneId, Shaper, ShaperSettings};

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3_600);

    /// One budget with one lane. Caller `two` may have two calls waiting, and `one` makes one a
    /// minute.
    struct Budget {
        shaper: Shaper,
        lane: LaneId,
    }

    fn budget(limit: u32, reserve: u32) -> Budget {
        let settings = BudgetSettings {
            id: BudgetId::new("omni"),
            limit: NonZeroU32::new(limit).unwrap(),
            window: 60 * SECOND,
            guard: SECOND,
            profile: Profile::Burst,
            reserve,
            scope: Scope::Organization,
            max_queued: 100,
            max_wait: HOUR,
            batch_max_wait: 2 * HOUR,
            cold_start: ColdStart::Trust,
        };
        let keys =
            vec![Key { credential: CredentialId::new("org"), budgets: vec![settings.id.clone()] }];
        let rules = |id, max_queued, rate| CallerRules { id: CallerId::new(id), max_queued, rate };
        let settings = ShaperSettings {
            budgets: vec![settings],
            keys: keys.clone(),
            callers: vec![
                rules("two", Some(2), None),
                rules("one", None, Some((NonZeroU32::MIN, 60 * SECOND))),
            ],
        };
        let shaper = Shaper::open(settings, None).unwrap();
        let lane = shaper.lane(&keys).unwrap();
        Budget { shaper, lane }
    }

    impl Budget {
        fn ask<'a>(&self, caller: &'a CallerId, priority: Priority) -> Ask<'a> {
            Ask { lane: self.lane, caller, priority, max_wait: None }
        }

        fn join_as(&self, caller: &str, max_wait: Duration) -> Result<Place, Refused> {
            let caller = &CallerId::new(caller);
            let ask = self.ask(caller, Priority::Normal);
            self.shaper.join(&Ask { max_wait: Some(max_wait), ..ask })
        }

        fn join(&self, max_wait: Duration) -> Place {
            self.join_as("anonymous", max_wait).unwrap()
        }

        /// Waits for its turn from now on.
        async fn ready(&self) -> Place {
            let mut place = self.join(HOUR);
            place.near().await.unwrap();
            assert!(timeout(Duration::ZERO, place.turn()).await.is_err());
            place
        }

        async fn permit(&self) -> Permit {
            permit(&mut self.join(HOUR)).await.unwrap()
        }

        fn change_as(&self, caller: &str, terms: &Terms, priority: Priority, left: Duration) {
            let caller = &CallerId::new(caller);
            terms.change(&self.ask(caller, priority), Instant::now() + left);
        }

        fn change(&self, terms: &Terms, priority: Priority, left: Duration) {
            self.change_as("anonymous", terms, priority, left);
        }

        fn counts(&self) -> (usize, usize) {
            let snapshot = self.shaper.snapshots().remove(0);
            (snapshot.used, snapshot.queued)
        }
    }

    async fn permit(place: &mut Place) -> Result<Permit, Refused> {
        place.near().await?;
        place.turn().await
    }

    /// When the place is granted or refused, from now.
    async fn ended(mut place: Place) -> (Result<(), Refused>, Duration) {
        let start = Instant::now();
        let result = permit(&mut place).await;
        (result.map(Permit::begin), start.elapsed())
    }

    fn is_late(refused: &Result<(), Refused>) -> bool {
        matches!(refused, Err(Refused::Late { .. }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_raised_overtakes_and_one_that_is_lowered_is_overtaken() {
        let budget = budget(1, 0);
        budget.permit().await.begin();
        let places = [(); 3].map(|()| budget.join(HOUR));
        let terms = places.each_ref().map(Place::terms);
        let [first, second, third] = places.map(|place| tokio::spawn(ended(place)));
        sleep(SECOND).await;
        budget.change(&terms[2], Priority::Interactive, HOUR);
        budget.change(&terms[0], Priority::Batch, HOUR);
        assert_eq!(third.await.unwrap(), (Ok(()), 61 * SECOND));
        assert_eq!(second.await.unwrap(), (Ok(()), 122 * SECOND));
        assert_eq!(first.await.unwrap(), (Ok(()), 183 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_changed_and_changed_back_stands_where_its_arrival_puts_it() {
        let budget = budget(1, 0);
        budget.permit().await.begin();
        let places = [(); 3].map(|()| budget.join(HOUR));
        let terms = places.each_ref().map(Place::terms);
        let tasks = places.map(|place| tokio::spawn(ended(place)));
        for priority in [Priority::Batch, Priority::Interactive, Priority::Normal] {
            sleep(SECOND).await;
            budget.change(&terms[1], priority, HOUR);
        }
        for (task, after) in tasks.into_iter().zip([61, 122, 183]) {
            assert_eq!(task.await.unwrap(), (Ok(()), after * SECOND));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_raised_to_what_is_free_goes_at_once() {
        let budget = budget(3, 2);
        budget.permit().await.begin();
        let place = budget.ready().await;
        let terms = place.terms();
        let turn = tokio::spawn(ended(place));
        sleep(SECOND).await;
        budget.change(&terms, Priority::Interactive, HOUR);
        assert_eq!(turn.await.unwrap(), (Ok(()), SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_sleeps_far_from_its_turn_is_not_refused_at_a_deadline_that_was_put_off() {
        let budget = budget(1, 0);
        budget.permit().await.begin();
        let place = budget.join(62 * SECOND);
        let terms = place.terms();
        let place = tokio::spawn(ended(place));
        sleep(SECOND).await;
        budget.change(&terms, Priority::Normal, 199 * SECOND);
        let caller = &CallerId::new("anonymous");
        let urgent = budget.shaper.join(&budget.ask(caller, Priority::Interactive)).unwrap();
        assert_eq!(ended(urgent).await, (Ok(()), 60 * SECOND));
        assert_eq!(place.await.unwrap(), (Ok(()), 122 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_its_turn_is_not_refused_at_a_deadline_that_was_put_off() {
        let budget = budget(1, 0);
        let held = budget.permit().await;
        let place = budget.join(3 * SECOND);
        let terms = place.terms();
        let place = tokio::spawn(ended(place));
        sleep(SECOND).await;
        budget.change(&terms, Priority::Normal, 9 * SECOND);
        sleep(4 * SECOND).await;
        drop(held);
        assert_eq!(place.await.unwrap(), (Ok(()), 5 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_put_off_in_its_last_moment_is_put_off() {
        let budget = budget(1, 0);
        let held = budget.permit().await;
        let place = budget.join(3 * SECOND);
        let terms = place.terms();
        let place = tokio::spawn(ended(place));
        yield_now().await;
        // The timer is due, but the waiter has not been asked yet.
        tokio::time::advance(3 * SECOND).await;
        budget.change(&terms, Priority::Normal, SECOND);
        sleep(SECOND / 2).await;
        drop(held);
        let (result, after) = place.await.unwrap();
        assert!(result.is_ok() && after >= 3_500 * SECOND / 1_000, "{result:?} {after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_brought_forward_ends_the_wait_then() {
        let budget = budget(1, 0);
        // Nobody can tell how long it will take.
        let _held = budget.permit().await;
        let place = budget.join(HOUR);
        let terms = place.terms();
        let place = tokio::spawn(ended(place));
        sleep(SECOND).await;
        budget.change(&terms, Priority::Normal, 2 * SECOND);
        let (result, after) = place.await.unwrap();
        assert!(is_late(&result));
        assert_eq!((after, budget.counts()), (3 * SECOND, (1, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_brought_before_the_turn_ends_the_wait_at_once() {
        let budget = budget(1, 0);
        budget.permit().await.begin();
        for left in [30 * SECOND, Duration::ZERO] {
            let place = budget.join(HOUR);
            let terms = place.terms();
            let place = tokio::spawn(ended(place));
            sleep(SECOND).await;
            budget.change(&terms, Priority::Normal, left);
            let (result, after) = place.await.unwrap();
            assert!(is_late(&result));
            assert_eq!((after, budget.counts()), (SECOND, (1, 0)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_connecting_is_not_refused_before_it_is_ready() {
        let budget = budget(1, 0);
        let mut place = budget.join(HOUR);
        place.near().await.unwrap();
        budget.change(&place.terms(), Priority::Batch, Duration::ZERO);
        sleep(SECOND).await;
        place.turn().await.unwrap().begin();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_ready_still_is() {
        let budget = budget(1, 0);
        let held = budget.permit().await;
        let mut place = budget.ready().await;
        budget.change(&place.terms(), Priority::Batch, 2 * HOUR);
        assert_eq!(budget.counts(), (1, 1));
        drop(held);
        // Granted, although its holder did not say again that it is ready.
        assert_eq!(budget.counts(), (1, 0));
        assert_eq!(permit_at_once(&mut place).await, Duration::ZERO);
    }

    async fn permit_at_once(place: &mut Place) -> Duration {
        let start = Instant::now();
        place.turn().await.unwrap().begin();
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_changed_while_the_permit_is_in_hand_counts_when_the_place_is_taken_again() {
        let budget = budget(1, 0);
        let mut place = budget.join(10 * SECOND);
        let held = permit(&mut place).await.unwrap();
        let mut other = budget.ready().await;
        budget.change(&place.terms(), Priority::Batch, HOUR);
        assert_eq!((place.left(), budget.counts()), (HOUR, (1, 1)));
        sleep(20 * SECOND).await;
        // Both are late for their old deadlines; the other came later, and goes first now.
        drop(held);
        place.again();
        let start = Instant::now();
        other.turn().await.unwrap().begin();
        assert_eq!(start.elapsed(), Duration::ZERO);
        permit(&mut place).await.unwrap().begin();
        assert_eq!(start.elapsed(), 61 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_that_nobody_fetched_yet_stays_granted() {
        let budget = budget(1, 0);
        let held = budget.permit().await;
        let mut place = budget.ready().await;
        drop(held);
        budget.change(&place.terms(), Priority::Batch, Duration::ZERO);
        assert_eq!(budget.counts(), (1, 0));
        assert_eq!(permit_at_once(&mut place).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_counts_as_a_call_of_the_caller_on_whose_behalf_it_stands() {
        let budget = budget(1, 0);
        let held = budget.permit().await;
        let [first, second] = [(); 2].map(|()| budget.join(HOUR));
        for place in [&first, &second] {
            budget.change_as("two", &place.terms(), Priority::Normal, HOUR);
        }
        let refused = budget.join_as("two", HOUR);
        assert!(matches!(refused, Err(Refused::CallerFull { queued: 2, .. })), "{refused:?}");
        budget.change(&first.terms(), Priority::Normal, HOUR);
        let third = budget.join_as("two", HOUR).unwrap();
        assert!(budget.join_as("two", HOUR).is_err());
        drop((second, third));
        let _two = [budget.join_as("two", HOUR).unwrap(), budget.join_as("two", HOUR).unwrap()];
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_not_charged_to_the_callers_own_rate() {
        let budget = budget(1, 0);
        let _held = budget.permit().await;
        let place = budget.ready().await;
        for caller in ["one", "anonymous", "one"] {
            budget.change_as(caller, &place.terms(), Priority::Normal, HOUR);
        }
        assert!(budget.join_as("one", HOUR).is_ok());
        assert!(matches!(budget.join_as("one", HOUR), Err(Refused::CallerLimit { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_joiner_whose_turn_is_sure_to_come_too_late_is_told_where_the_place_stands() {
        let budget = budget(1, 0);
        budget.permit().await.begin();
        let first = budget.join(HOUR);
        let mut second = budget.join(HOUR);
        let (now, terms) = (Instant::now(), second.terms());
        let late = Refused::Late { position: 1, estimate: 122 * SECOND };
        assert_eq!(terms.late(now + 121 * SECOND), Some(late));
        assert_eq!(terms.late(now + 122 * SECOND), None);
        // By what it stands on now, and not by what it joined with.
        budget.change(&terms, Priority::Interactive, HOUR);
        assert_eq!(terms.late(now + 61 * SECOND), None);
        let late = Refused::Late { position: 0, estimate: 51 * SECOND };
        sleep(10 * SECOND).await;
        assert_eq!(terms.late(now + 60 * SECOND), Some(late));
        let permit = permit(&mut second).await.unwrap();
        assert_eq!(terms.late(now), None);
        drop((permit, first));
    }

    #[tokio::test(start_paused = true)]
    async fn terms_do_not_keep_a_place_and_change_nothing_once_it_is_gone() {
        let budget = budget(1, 0);
        budget.permit().await.begin();
        let mut refused = budget.join(62 * SECOND);
        let dropped = budget.join(HOUR);
        let all = [refused.terms(), dropped.terms()];
        drop(dropped);
        assert_eq!(budget.counts(), (1, 1));
        budget.change(&all[0], Priority::Normal, SECOND);
        for _ in 0..2 {
            for terms in &all {
                budget.change(terms, Priority::Interactive, HOUR);
                assert_eq!(terms.late(Instant::now()), None);
            }
            assert_eq!(budget.counts(), (1, 0));
            assert!(is_late(&refused.near().await));
            refused.again();
        }
        assert_eq!(format!("{:?}", all[0]), "Terms { ticket: 1, .. }");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_as_long_as_it_says_or_else_as_its_budget_does() {
        let budget = budget(1, 0);
        let caller = &CallerId::new("anonymous");
        let most = |priority, max_wait| {
            budget.shaper.max_wait(&Ask { max_wait, ..budget.ask(caller, priority) })
        };
        assert_eq!(most(Priority::Interactive, None), HOUR);
        assert_eq!(most(Priority::Batch, None), 2 * HOUR);
        assert_eq!(most(Priority::Batch, Some(SECOND)), SECOND);
    }
}

//! A call's place in the line, and the permit that comes of it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::base::{CredentialId, chance};
use crate::shape::line::Ticket;
use crate::shape::queue::{Grant, Look, Queue};
use crate::shape::refused::Refused;
use crate::shape::terms::Terms;

/// The queue, its lock, and the bell of its pump.
#[derive(Debug)]
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    /// The alarm was set to an earlier time than the pump knows.
    sooner: Notify,
}

impl Shared {
    pub(crate) fn new(queue: Queue) -> Self {
        Self { queue: Mutex::new(queue), sooner: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under this lock panics half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue, and wakes the pump where that set the alarm earlier.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.lock();
        let result = change(&mut queue);
        let ring = queue.alarm_moved();
        drop(queue);
        if ring {
            self.sooner.notify_one();
        }
        result
    }
}

/// Wakes when a slot comes free or a turn comes near, and grants. Everything else is granted by
/// whoever frees or adds.
pub(crate) async fn pump(shared: Arc<Shared>) {
    loop {
        let alarm = {
            let mut queue = shared.lock();
            queue.advance(Instant::now());
            queue.hear_alarm()
        };
        let sooner = shared.sooner.notified();
        match alarm {
            Some(at) => tokio::select! {
                () = sleep_until(at) => {}
                () = sooner => {}
            },
            None => sooner.await,
        }
    }
}

/// A place in the line. Dropping it gives it up, and a permit that was just granted too.
#[derive(Debug)]
pub struct Place {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ticket: Ticket,
    pub(crate) joined: Instant,
}

impl Place {
    /// Waits until the turn is near, so that a connection can be made ready for it.
    ///
    /// Cancel-safe: the place is kept.
    ///
    /// # Errors
    /// [`Refused`], when the deadline comes first, is sure to, or the process ends.
    pub async fn near(&mut self) -> Result<(), Refused> {
        loop {
            match self.wait().await? {
                None => return Ok(()),
                // Granted only after `turn`; a grant here is from a turn that was cancelled.
                Some(grant) => drop(self.permit(grant)),
            }
            self.again();
        }
    }

    /// Says that the connection is there, and waits for the permit. Called after [`Place::near`].
    ///
    /// Cancel-safe: the place is kept until the future is done; a permit is never lost.
    ///
    /// # Errors
    /// [`Refused`], when the deadline comes first, is sure to, or the process ends.
    pub async fn turn(&mut self) -> Result<Permit, Refused> {
        loop {
            let now = Instant::now();
            self.shared.with(|queue| queue.make_ready(now, self.ticket));
            let Some(grant) = self.wait().await? else { continue };
            let permit = self.permit(grant);
            if Instant::now() < permit.expires() {
                return Ok(permit);
            }
            // Fetched so late that it could not be used: the machine is busy. The place is kept.
            drop(permit);
            self.again();
        }
    }

    /// Takes the old place in the order again, after a permit was given back or used in vain.
    pub fn again(&mut self) {
        self.shared.with(|queue| queue.rejoin(Instant::now(), self.ticket));
    }

    /// By which others change what it stands on, while its holder waits.
    pub fn terms(&self) -> Terms {
        Terms::new(self.shared.clone(), self.ticket)
    }

    /// How long this call has been here.
    pub fn waited(&self) -> Duration {
        self.joined.elapsed()
    }

    /// How many calls were expected to go first when it joined.
    pub fn position(&self) -> usize {
        self.shared.lock().position(self.ticket)
    }

    /// How long it may still wait.
    pub fn left(&self) -> Duration {
        let deadline = self.shared.lock().deadline(self.ticket);
        deadline.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }

    /// Waits for a grant, or until it is time to prepare.
    async fn wait(&self) -> Result<Option<Grant>, Refused> {
        let mut timer = pin!(sleep_until(Instant::now()));
        poll_fn(|cx| {
            loop {
                // Not in the head of the match, which would hold the lock to its end.
                let found = self.shared.lock().look(self.ticket, cx.waker());
                let until = match found {
                    Look::Prepare => return Poll::Ready(Ok(None)),
                    Look::Wait(until) => until,
                    Look::Granted(grant) => return Poll::Ready(Ok(Some(grant))),
                    Look::Refused(refused) => return Poll::Ready(Err(refused)),
                };
                // The deadline may have been moved, to either side, since it last looked.
                if timer.deadline() != until {
                    timer.as_mut().reset(until);
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if let Some(ended) = self.expire() {
                    return Poll::Ready(ended.map(Some));
                }
            }
        })
        .await
    }

    fn expire(&self) -> Option<Result<Grant, Refused>> {
        self.shared.with(|queue| queue.expire(Instant::now(), self.ticket))
    }

    fn permit(&self, grant: Grant) -> Permit {
        let credential = self.shared.lock().credential(&grant);
        Permit { shared: self.shared.clone(), grant, credential, begun: false }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.with(|queue| queue.leave(Instant::now(), self.ticket));
    }
}

/// The right to send one request head now. Dropped before [`Permit::begin`], it goes back.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    grant: Grant,
    credential: CredentialId,
    begun: bool,
}

impl Permit {
    /// Whose bearer the call goes with.
    pub fn credential(&self) -> &CredentialId {
        &self.credential
    }

    /// Until when the send may begin; past it the permit must be dropped.
    pub fn expires(&self) -> Instant {
        self.grant.expires
    }

    /// What has to be told of the send, once it is known.
    pub fn outcome(&self) -> Outcome {
        Outcome { shared: self.shared.clone(), grant: self.grant, told: false }
    }

    /// Charges the send: its head is handed to the socket in this moment.
    pub fn begin(mut self) {
        self.begun = true;
        let grant = self.grant;
        self.shared.with(|queue| queue.stamp(Instant::now(), &grant));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.begun {
            let grant = self.grant;
            self.shared.with(|queue| queue.give_back(Instant::now(), &grant));
        }
    }
}

/// What became of a send; a pause begins and ends by it. Dropped untold, nothing came of it.
#[derive(Debug)]
pub struct Outcome {
    shared: Arc<Shared>,
    grant: Grant,
    told: bool,
}

impl Outcome {
    /// Omni answered, and not with its limit.
    pub fn taken(mut self) {
        self.told = true;
        self.shared.with(|queue| queue.taken(Instant::now(), &self.grant));
    }

    /// Omni answered with its limit: nobody charged to the same ledger sends for a while.
    pub fn limited(mut self, retry_after: Option<Duration>) {
        self.told = true;
        let jitter = chance();
        self.shared.with(|queue| queue.refused(Instant::now(), &self.grant, retry_after, jitter));
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if !self.told {
            self.shared.with(|queue| queue.lost(Instant::now(), &self.grant));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tokio::time::{advance, sleep, timeout};

    use super::*;
    use crate::base::{BudgetId, CallerId, Priority};
    use crate::shape::callers::CallerRules;
    use crate::shape::settings::{BudgetSettings, ColdStart, Key, Profile, Scope};
    use crate::shape::shaper::{Ask, LaneId, Shaper, ShaperSettings};

    const SECOND: Duration = Duration::from_secs(1);

    /// One budget with one lane.
    struct Budget {
        shaper: Shaper,
        lane: LaneId,
    }

    impl Budget {
        fn snapshot(&self) -> crate::shape::shaper::Snapshot {
            self.shaper.snapshots().remove(0)
        }
    }

    fn budget(profile: Profile, limit: u32) -> Budget {
        let settings = BudgetSettings {
            id: BudgetId::new("omni"),
            limit: NonZeroU32::new(limit).unwrap(),
            window: 60 * SECOND,
            guard: SECOND,
            profile,
            reserve: 0,
            scope: Scope::Organization,
            max_queued: 100_000,
            max_wait: 3_600 * SECOND,
            batch_max_wait: 3_600 * SECOND,
            cold_start: ColdStart::Trust,
        };
        let key =
            Key { credential: CredentialId::new("org"), budgets: vec![BudgetId::new("omni")] };
        let keys = vec![key];
        let all = ShaperSettings {
            budgets: vec![settings],
            keys: keys.clone(),
            callers: vec![CallerRules {
                id: CallerId::new("two"),
                max_queued: Some(2),
                rate: None,
            }],
        };
        let shaper = Shaper::open(all, None).unwrap();
        let lane = shaper.lane(&keys).unwrap();
        Budget { shaper, lane }
    }

    fn burst(limit: u32) -> Budget {
        budget(Profile::Burst, limit)
    }

    fn join(budget: &Budget, max_wait: Option<Duration>) -> Result<Place, Refused> {
        join_as(budget, "anonymous", max_wait)
    }

    fn join_as(
        budget: &Budget,
        caller: &str,
        max_wait: Option<Duration>,
    ) -> Result<Place, Refused> {
        let caller = &CallerId::new(caller);
        let ask = Ask { lane: budget.lane, caller, priority: Priority::Normal, max_wait };
        budget.shaper.join(&ask)
    }

    async fn permit(budget: &Budget) -> Permit {
        let mut place = join(budget, None).unwrap();
        place.near().await.unwrap();
        place.turn().await.unwrap()
    }

    /// Polls `future` once; it must not be done.
    async fn not_yet<T>(future: impl Future<Output = T>) {
        assert!(timeout(Duration::ZERO, future).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_budget_gives_a_permit_without_waiting() {
        let budget = burst(1);
        permit(&budget).await.begin();
        assert_eq!(budget.snapshot().used, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_that_is_dropped_goes_to_the_next_at_once() {
        let budget = burst(1);
        let held = permit(&budget).await;
        let mut next = join(&budget, None).unwrap();
        next.near().await.unwrap();
        not_yet(next.turn()).await;
        drop(held);
        let start = Instant::now();
        next.turn().await.unwrap().begin();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_send_is_counted_from_its_beginning_and_not_from_its_grant() {
        let budget = burst(1);
        let held = permit(&budget).await;
        advance(Duration::from_millis(90)).await;
        held.begin();
        let start = Instant::now();
        permit(&budget).await.begin();
        assert_eq!(start.elapsed(), 61 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_go_in_the_order_in_which_they_came() {
        let budget = Arc::new(budget(Profile::Smooth { burst: NonZeroU32::MIN }, 60));
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiters: Vec<_> = (0..200)
            .map(|nth| {
                let mut place = join(&budget, None).unwrap();
                let order = order.clone();
                tokio::spawn(async move {
                    place.near().await.unwrap();
                    place.turn().await.unwrap().begin();
                    order.lock().unwrap().push(nth);
                })
            })
            .collect();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert!(order.lock().unwrap().iter().copied().eq(0..200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_is_not_ready_is_passed_over_and_keeps_its_place() {
        let budget = budget(Profile::Smooth { burst: NonZeroU32::MIN }, 60);
        permit(&budget).await.begin();
        let mut slow = join(&budget, None).unwrap();
        let mut quick = join(&budget, None).unwrap();
        slow.near().await.unwrap();
        quick.near().await.unwrap();
        // `slow` is still connecting when the slot comes; `quick` takes it.
        quick.turn().await.unwrap().begin();
        let mut later = join(&budget, None).unwrap();
        later.near().await.unwrap();
        let (first, second) = tokio::join!(
            async {
                slow.turn().await.map(|permit| {
                    permit.begin();
                    Instant::now()
                })
            },
            async {
                later.turn().await.map(|permit| {
                    permit.begin();
                    Instant::now()
                })
            },
        );
        assert!(first.unwrap() < second.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_died_costs_the_place_nothing() {
        let budget = budget(Profile::Smooth { burst: NonZeroU32::MIN }, 60);
        let mut first = join(&budget, None).unwrap();
        let mut second = join(&budget, None).unwrap();
        first.near().await.unwrap();
        drop(first.turn().await.unwrap());
        first.again();
        first.near().await.unwrap();
        second.near().await.unwrap();
        let start = Instant::now();
        first.turn().await.unwrap().begin();
        second.turn().await.unwrap().begin();
        assert!(start.elapsed() <= Duration::from_millis(1_018), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_leave_cost_nobody_anything() {
        let budget = budget(Profile::Smooth { burst: NonZeroU32::MIN }, 60);
        permit(&budget).await.begin();
        let leavers: Vec<_> = (0..100).map(|_| join(&budget, None).unwrap()).collect();
        let mut next = join(&budget, None).unwrap();
        sleep(SECOND / 2).await;
        drop(leavers);
        next.near().await.unwrap();
        let start = Instant::now();
        next.turn().await.unwrap().begin();
        assert!(start.elapsed() < Duration::from_millis(520), "{:?}", start.elapsed());
        assert_eq!(budget.snapshot().used, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_that_meets_a_cancel_is_not_lost() {
        let budget = burst(1);
        let mut place = join(&budget, None).unwrap();
        place.near().await.unwrap();
        // Granted under the lock, and dropped before anybody looked.
        place.shared.with(|queue| queue.make_ready(Instant::now(), place.ticket));
        assert_eq!(budget.snapshot().used, 1);
        drop(place);
        assert_eq!(budget.snapshot().used, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_sure_to_be_too_long_is_refused_at_arrival() {
        let budget = budget(Profile::Smooth { burst: NonZeroU32::MIN }, 60);
        permit(&budget).await.begin();
        let queue: Vec<_> = (0..10).map(|_| join(&budget, None).unwrap()).collect();
        let refused = join(&budget, Some(3 * SECOND)).unwrap_err();
        let Refused::Late { position: 10, estimate, .. } = refused else { panic!("{refused:?}") };
        assert!((estimate.as_secs_f64() - 11.0 * 61.0 / 60.0).abs() < 0.01, "{estimate:?}");
        assert!(join(&budget, Some(12 * SECOND)).is_ok());
        drop(queue);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_becomes_hopeless_is_refused_then_and_not_at_its_end() {
        let budget = burst(1);
        let held = permit(&budget).await;
        let mut place = join(&budget, Some(3 * SECOND)).unwrap();
        place.near().await.unwrap();
        let start = Instant::now();
        let turn = tokio::spawn(async move { place.turn().await.map(drop) });
        tokio::task::yield_now().await;
        held.begin();
        assert!(matches!(turn.await.unwrap(), Err(Refused::Late { position: 0, .. })));
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(budget.snapshot().queued, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_deadline() {
        let budget = burst(1);
        // A permit that never comes back nor is used: nobody can tell how long it will take.
        std::mem::forget(permit(&budget).await);
        let mut place = join(&budget, Some(3 * SECOND)).unwrap();
        place.near().await.unwrap();
        let start = Instant::now();
        assert!(matches!(place.turn().await, Err(Refused::Late { position: 0, .. })));
        assert_eq!(start.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_keeps_those_who_go_in_time_and_refuses_the_rest_at_once() {
        let budget = budget(Profile::Smooth { burst: NonZeroU32::MIN }, 60);
        permit(&budget).await.begin();
        let mut places: Vec<_> = (0..60).map(|_| join(&budget, None).unwrap()).collect();
        budget.shaper.drain(30 * SECOND);
        let start = Instant::now();
        let mut last = places.split_off(29);
        let mut first = last.remove(0);
        for place in &mut last {
            assert!(matches!(place.near().await, Err(Refused::Draining { .. })));
        }
        // The thirtieth would go after 30.5 s.
        assert!(matches!(first.near().await, Err(Refused::Draining { position: 29, .. })));
        assert_eq!(start.elapsed(), Duration::ZERO);
        for mut place in places {
            place.near().await.unwrap();
            place.turn().await.unwrap().begin();
        }
        assert!(start.elapsed() <= 30 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_by_omni_pauses_everybody_and_one_probe_ends_it() {
        let budget = budget(Profile::Smooth { burst: NonZeroU32::new(10).unwrap() }, 60);
        let first = permit(&budget).await;
        let outcome = first.outcome();
        first.begin();
        outcome.limited(Some(30 * SECOND));
        assert!(matches!(join(&budget, Some(29 * SECOND)), Err(Refused::Late { .. })));
        let start = Instant::now();
        let probe = permit(&budget).await;
        assert_eq!(start.elapsed(), 30 * SECOND);
        let mut second = join(&budget, None).unwrap();
        second.near().await.unwrap();
        not_yet(second.turn()).await;
        let taken = probe.outcome();
        probe.begin();
        not_yet(second.turn()).await;
        taken.taken();
        // At pace, from an empty bucket, and as `strict` does for an hour.
        second.turn().await.unwrap().begin();
        let waited = start.elapsed() - 30 * SECOND;
        assert!((waited.as_secs_f64() - 61.0 / 59.0).abs() < 0.01, "{waited:?}");
        assert!(budget.snapshot().strict);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_when_a_pause_makes_it_hopeless_is_told_at_once() {
        let budget = budget(Profile::Smooth { burst: NonZeroU32::MIN }, 60);
        let first = permit(&budget).await;
        let outcome = first.outcome();
        first.begin();
        let mut short = join(&budget, Some(20 * SECOND)).unwrap();
        let mut long = join(&budget, Some(90 * SECOND)).unwrap();
        let start = Instant::now();
        outcome.limited(Some(30 * SECOND));
        short.near().await.unwrap();
        assert!(matches!(short.turn().await, Err(Refused::Late { .. })));
        assert_eq!(start.elapsed(), Duration::ZERO);
        long.near().await.unwrap();
        long.turn().await.unwrap().begin();
        assert_eq!(start.elapsed(), 30 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_with_too_many_waiting_is_told_and_others_are_not() {
        let budget = burst(1);
        permit(&budget).await.begin();
        let _queue =
            [join_as(&budget, "two", None).unwrap(), join_as(&budget, "two", None).unwrap()];
        let refused = join_as(&budget, "two", None);
        assert!(matches!(refused, Err(Refused::CallerFull { queued: 2, .. })));
        assert!(join(&budget, None).is_ok());
    }
}

//! Equal fetches in flight pay once.
//!
//! A flight is led by a task of its own, the *pilot*; callers *ride*. Each rider leaves when it
//! will. The last to leave before the pilot goes has it give up; once it goes, it runs to its end.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::base::{CallerId, Priority};
use crate::cache::invalidation::Stamp;
use crate::cache::key::Key;

/// How one who rides waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Who asks.
    pub caller: CallerId,
    /// How urgent it is.
    pub priority: Priority,
    /// How long it waits for the turn.
    pub until: Instant,
}

/// Fetches under way; `P` is a hold on a flight's place in the queue, `L` is what a flight comes
/// to.
#[derive(Debug)]
pub struct Flights<P, L> {
    map: Arc<Map<P, L>>,
}

type Map<P, L> = Mutex<HashMap<Key, Arc<Flight<P, L>>>>;

/// Where a flight is.
#[derive(Clone, Debug)]
pub enum Stage<L> {
    /// It waits for its turn.
    Waits,
    /// Its request is sent, or about to be.
    Goes,
    /// It is over.
    Landed(L),
    /// Its pilot is gone, and told nothing.
    Lost,
}

struct Flight<P, L> {
    cabin: Mutex<Cabin<P>>,
    stage: watch::Sender<Stage<L>>,
    /// Rung when the last rider has left.
    empty: Notify,
}

struct Cabin<P> {
    riders: HashMap<u64, Waits>,
    /// The most urgent first, and of those the first who came.
    by_priority: BTreeSet<(Priority, u64)>,
    /// Who waits the longest comes last.
    by_until: BTreeSet<(Instant, u64)>,
    next: u64,
    /// What its answer will be measured by; since it goes.
    stamp: Option<Stamp>,
    /// Its pilot gives up, or is gone.
    closed: bool,
    place: Option<P>,
    change: Option<fn(&P, &Waits)>,
    /// How the place was last told to wait.
    told: Option<Waits>,
}

/// One who waits for a flight. Dropping it leaves.
pub struct Rider<P, L> {
    flight: Arc<Flight<P, L>>,
    stage: watch::Receiver<Stage<L>>,
    number: u64,
    stays: bool,
}

/// Who leads a flight. Dropped without landing, it is lost.
pub struct Pilot<P, L> {
    map: Arc<Map<P, L>>,
    key: Key,
    flight: Arc<Flight<P, L>>,
}

impl<P, L> Default for Flights<P, L> {
    fn default() -> Self {
        Self { map: Arc::default() }
    }
}

impl<P: Clone, L: Clone> Flights<P, L> {
    /// Joins the flight for this key, or begins one; then there is a pilot to be put to work.
    ///
    /// `may_join` is asked about a flight that goes already, with what its answer will be measured
    /// by; one that waits may always be joined.
    pub fn join(
        &self,
        key: &Key,
        waits: Waits,
        may_join: impl FnOnce(Stamp) -> bool,
    ) -> (Rider<P, L>, Option<Pilot<P, L>>) {
        let mut map = lock(&self.map);
        if let Some(flight) = map.get(key) {
            let mut cabin = lock(&flight.cabin);
            if !cabin.closed && cabin.stamp.is_none_or(may_join) {
                let number = cabin.enter(waits);
                drop(cabin);
                return (Rider::new(flight.clone(), number), None);
            }
        }
        let mut cabin = Cabin::default();
        let number = cabin.enter(waits);
        let flight = Arc::new(Flight {
            cabin: Mutex::new(cabin),
            stage: watch::Sender::new(Stage::Waits),
            empty: Notify::new(),
        });
        // In the place of one that may not be joined any more; that one lands for its own riders.
        map.insert(key.clone(), flight.clone());
        let pilot = Pilot { map: self.map.clone(), key: key.clone(), flight: flight.clone() };
        (Rider::new(flight, number), Some(pilot))
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        lock(&self.map).len()
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<P, L: Clone> Pilot<P, L> {
    /// Says where the flight waits. `change` has the place wait as the most urgent of those who
    /// ride, and as long as any of them: now, and whenever that changes; under the flight's lock.
    pub fn waits_at(&self, place: P, change: fn(&P, &Waits)) {
        let mut cabin = lock(&self.flight.cabin);
        (cabin.place, cabin.change) = (Some(place), Some(change));
        cabin.tell();
    }

    /// The request is about to be sent. Its answer will be measured by `stamp`.
    pub fn goes(&self, stamp: Stamp) {
        lock(&self.flight.cabin).stamp = Some(stamp);
        self.flight.stage.send_replace(Stage::Goes);
    }

    /// The request was refused, and waits for its turn again.
    pub fn waits(&self) {
        self.flight.stage.send_replace(Stage::Waits);
    }

    /// What the answer is measured by, once the flight goes.
    pub fn stamp(&self) -> Option<Stamp> {
        lock(&self.flight.cabin).stamp
    }

    /// Waits until nobody rides any more and the flight has not gone yet. Nobody joins it then.
    ///
    /// Cancel-safe.
    pub async fn abandoned(&self) {
        loop {
            let empty = self.flight.empty.notified();
            if self.give_up() {
                return;
            }
            empty.await;
        }
    }

    fn give_up(&self) -> bool {
        let mut cabin = lock(&self.flight.cabin);
        let alone = cabin.riders.is_empty() && cabin.stamp.is_none();
        cabin.closed |= alone;
        alone
    }

    /// Lets nobody join any more. Those who ride go on.
    pub fn close(&self) {
        self.leave_the_map();
    }

    /// Tells all who ride what it came to. Who comes later looks at what is kept, and begins anew.
    pub fn land(self, landed: L) {
        self.leave_the_map();
        self.flight.stage.send_replace(Stage::Landed(landed));
    }
}

impl<P, L> Pilot<P, L> {
    fn leave_the_map(&self) {
        let mut map = lock(&self.map);
        if map.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            map.remove(&self.key);
        }
        drop(map);
        let mut cabin = lock(&self.flight.cabin);
        cabin.closed = true;
        cabin.place = None;
    }
}

impl<P, L> Drop for Pilot<P, L> {
    fn drop(&mut self) {
        self.leave_the_map();
        self.flight.stage.send_if_modified(|stage| {
            let lost = matches!(stage, Stage::Waits | Stage::Goes);
            if lost {
                *stage = Stage::Lost;
            }
            lost
        });
    }
}

impl<P: Clone, L: Clone> Rider<P, L> {
    fn new(flight: Arc<Flight<P, L>>, number: u64) -> Self {
        let stage = flight.stage.subscribe();
        Self { flight, stage, number, stays: false }
    }

    /// Where the flight is. What [`Rider::moved`] waits for is a change since.
    pub fn stage(&mut self) -> Stage<L> {
        self.stage.borrow_and_update().clone()
    }

    /// Waits until the flight is somewhere else.
    ///
    /// Cancel-safe.
    pub async fn moved(&mut self) {
        // The sender lives as long as the flight, and that as long as we ride.
        let _ = self.stage.changed().await;
    }

    /// Where the flight waits, while it does.
    pub fn place(&self) -> Option<P> {
        lock(&self.flight.cabin).place.clone()
    }

    /// Leaves, and has the flight run to its end all the same, on these terms.
    pub fn stay(mut self, waits: Waits) {
        self.stays = true;
        let mut cabin = lock(&self.flight.cabin);
        cabin.leave(self.number);
        cabin.enter(waits);
    }
}

impl<P, L> Drop for Rider<P, L> {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let mut cabin = lock(&self.flight.cabin);
        cabin.leave(self.number);
        cabin.tell();
        let empty = cabin.riders.is_empty();
        drop(cabin);
        if empty {
            self.flight.empty.notify_one();
        }
    }
}

impl<P> Cabin<P> {
    fn enter(&mut self, waits: Waits) -> u64 {
        let number = self.next;
        self.next += 1;
        self.by_priority.insert((waits.priority, number));
        self.by_until.insert((waits.until, number));
        self.riders.insert(number, waits);
        self.tell();
        number
    }

    fn leave(&mut self, number: u64) {
        if let Some(waits) = self.riders.remove(&number) {
            self.by_priority.remove(&(waits.priority, number));
            self.by_until.remove(&(waits.until, number));
        }
    }

    fn tell(&mut self) {
        let Some((place, change)) = self.place.as_ref().zip(self.change) else { return };
        let best = self.by_priority.first().and_then(|(_, number)| self.riders.get(number));
        let waits = best.zip(self.by_until.last());
        let waits = waits.map(|(best, (until, _))| Waits { until: *until, ..best.clone() });
        if let Some(waits) = waits.filter(|waits| self.told.as_ref() != Some(waits)) {
            change(place, &waits);
            self.told = Some(waits);
        }
    }
}

impl<P> Default for Cabin<P> {
    fn default() -> Self {
        Self {
            riders: HashMap::new(),
            by_priority: BTreeSet::new(),
            by_until: BTreeSet::new(),
            next: 0,
            stamp: None,
            closed: false,
            place: None,
            change: None,
            told: None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks panics half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P, L> fmt::Debug for Flight<P, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let riders = lock(&self.cabin).riders.len();
        f.debug_struct("Flight").field("riders", &riders).finish_non_exhaustive()
    }
}

impl<P, L> fmt::Debug for Rider<P, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rider").field(&self.flight).finish()
    }
}

impl<P, L> fmt::Debug for Pilot<P, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pilot").field(&self.flight).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;
    use proptest::prelude::*;
    use tokio::time::timeout;

    use super::*;
    use crate::cache::invalidation::Generations;
    use crate::cache::key::Question;

    type All = Flights<Arc<Mutex<Vec<Waits>>>, u32>;

    fn key(path: &str) -> Key {
        let (query, acts_for, fields) = (None, None, &HeaderMap::new());
        Key::of(&Question { keys: &[], path, query, acts_for, fields, vary: &[] })
    }

    fn waits(priority: Priority, seconds: u64) -> Waits {
        let until = Instant::now() + Duration::from_secs(seconds);
        Waits { caller: CallerId::new("a"), priority, until }
    }

    fn stamp() -> Stamp {
        let generations = Generations::new();
        let route = generations.route(&crate::base::RouteId::new("r"));
        generations.stamp(&generations.subject("/api/v1/labels", &route))
    }

    const NORMAL: Priority = Priority::Normal;

    #[tokio::test(start_paused = true)]
    async fn equal_calls_ride_together_and_all_are_told() {
        let all = All::default();
        let (mut first, pilot) = all.join(&key("/a"), waits(NORMAL, 1), |_| false);
        let (mut second, none) = all.join(&key("/a"), waits(NORMAL, 1), |_| false);
        let (_other, another) = all.join(&key("/b"), waits(NORMAL, 1), |_| false);
        assert!(none.is_none() && another.is_some() && all.len() == 2);
        let pilot = pilot.unwrap();
        assert!(matches!(first.stage(), Stage::Waits));
        pilot.goes(stamp());
        first.moved().await;
        assert!(matches!(first.stage(), Stage::Goes));
        pilot.land(7);
        for rider in [&mut first, &mut second] {
            rider.moved().await;
            assert!(matches!(rider.stage(), Stage::Landed(7)));
        }
        assert_eq!(all.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_goes_is_joined_only_by_whom_it_serves() {
        let all = All::default();
        let (mut first, pilot) = all.join(&key("/a"), waits(NORMAL, 1), |_| false);
        let pilot = pilot.unwrap();
        pilot.goes(stamp());
        assert!(all.join(&key("/a"), waits(NORMAL, 1), |at| at == stamp()).1.is_none());
        let (_third, anew) = all.join(&key("/a"), waits(NORMAL, 1), |_| false);
        // The old one lands for its own, and does not take the new one's place on the map.
        pilot.land(1);
        assert!(matches!(first.stage(), Stage::Landed(1)));
        assert_eq!(all.len(), 1);
        anew.unwrap().land(2);
        assert_eq!(all.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pilot_gives_up_when_the_last_has_left_and_not_once_it_goes() {
        let all = All::default();
        let (first, pilot) = all.join(&key("/a"), waits(NORMAL, 1), |_| false);
        let (second, _) = all.join(&key("/a"), waits(NORMAL, 1), |_| false);
        let pilot = pilot.unwrap();
        drop(first);
        assert!(timeout(Duration::ZERO, pilot.abandoned()).await.is_err());
        drop(second);
        pilot.abandoned().await;
        // Who comes now does not join what was given up.
        let (late, anew) = all.join(&key("/a"), waits(NORMAL, 1), |_| false);
        let anew = anew.unwrap();
        drop(pilot);
        assert_eq!(all.len(), 1);
        anew.goes(stamp());
        drop(late);
        assert!(timeout(Duration::from_secs(9), anew.abandoned()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pilot_that_vanishes_is_told_too() {
        let all = All::default();
        let (mut rider, pilot) = all.join(&key("/a"), waits(NORMAL, 1), |_| false);
        drop(pilot);
        rider.moved().await;
        assert!(matches!(rider.stage(), Stage::Lost));
        assert_eq!(all.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stays_keeps_the_flight_alive_on_other_terms() {
        let all = All::default();
        let (rider, pilot) = all.join(&key("/a"), waits(NORMAL, 1), |_| false);
        let (pilot, told) = (pilot.unwrap(), Arc::default());
        pilot.waits_at(Arc::clone(&told), |told, waits| lock(told).push(waits.clone()));
        let background = waits(Priority::Batch, 3_600);
        rider.stay(background.clone());
        assert_eq!(lock(&told).last(), Some(&background));
        assert!(timeout(Duration::from_secs(9), pilot.abandoned()).await.is_err());
    }

    fn any_waits() -> impl Strategy<Value = (usize, u64)> {
        (0usize..3, 0u64..50)
    }

    proptest! {
        /// Whoever comes and leaves: the place waits as the most urgent, and as long as any.
        #[test]
        fn the_place_waits_as_the_most_urgent_and_as_long_as_any(
            steps in prop::collection::vec((any_waits(), any::<Option<prop::sample::Index>>()), 1..40),
        ) {
            let start = Instant::now();
            let all = All::default();
            let of = |(class, seconds): (usize, u64), nth: usize| Waits {
                caller: CallerId::new(format!("c{nth}")),
                priority: Priority::ALL[class],
                until: start + Duration::from_secs(seconds),
            };
            let first = of((2, 0), 1_000);
            let (rider, pilot) = all.join(&key("/a"), first.clone(), |_| false);
            let (pilot, told) = (pilot.unwrap(), Arc::default());
            pilot.waits_at(Arc::clone(&told), |told, waits| lock(told).push(waits.clone()));
            let mut riders = vec![(rider, first)];
            for (nth, (how, leaves)) in steps.into_iter().enumerate() {
                let waits = of(how, nth);
                let (rider, none) = all.join(&key("/a"), waits.clone(), |_| false);
                prop_assert!(none.is_none());
                riders.push((rider, waits));
                if let Some(leaves) = leaves && riders.len() > 1 {
                    riders.remove(leaves.index(riders.len()));
                }
                let best = riders.iter().map(|(_, waits)| waits).min_by_key(|one| one.priority);
                let until = riders.iter().map(|(_, waits)| waits.until).max().unwrap();
                let expected = Waits { until, ..best.unwrap().clone() };
                let last = lock(&told).last().cloned();
                prop_assert_eq!(last, Some(expected));
            }
        }
    }
}

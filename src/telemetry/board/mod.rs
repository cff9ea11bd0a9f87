//! What the status page shows of the last quarter of an hour: tallies by caller and by route, admissions,
//! the last errors. Fixed in size: names are the config's, and beyond 1,100 of a kind there is
//! no room for more.
//!
//! Time goes by in minutes from the board's beginning. What is told of the last quarter of an hour is
//! told of the minute that runs and of the fifteen before it: an exchange is in it for fifteen minutes
//! at least and for less than sixteen.

mod admissions;
mod errors;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use crate::base::{BudgetId, CallerId, Priority, RequestId, RouteId};
use crate::telemetry::labels::method_word;
use crate::telemetry::{CacheOutcome, TraceId};

use admissions::Steps;
use errors::{Errors, Kind};
use tally::Ring;

pub use admissions::{Admitted, STEP, STEPS};
pub use errors::ErrorView;
pub use tally::Tally;

/// So many callers, routes and budgets have room each. More than anybody has.
const MOST_NAMES: usize = 1_100;

/// How one exchange ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// Its route, where it had one.
    pub route: Option<&'a RouteId>,
    /// Who asked, where that was known.
    pub caller: Option<&'a CallerId>,
    /// The caller's method.
    pub method: &'a Method,
    /// What the caller was answered; 499 when it left first.
    pub status: u16,
    /// The stable name of the problem that omnigate answered with, where it did.
    pub refusal: Option<&'static str>,
    /// What the cache did, where its route keeps answers.
    pub cache: Option<CacheOutcome>,
    /// Attempts that were sent for it alone.
    pub attempts: u32,
    /// How long it waited for its turn, where it did.
    pub waited: Option<Duration>,
    /// How long upstream took to its response head, where it answered.
    pub upstream: Option<Duration>,
    /// Its id.
    pub request_id: &'a RequestId,
    /// Its trace, where it has one.
    pub trace: Option<TraceId>,
}

/// The tallies of a process.
#[derive(Debug)]
pub struct Board {
    began: Instant,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    callers: Names<CallerId, Ring>,
    routes: Names<RouteId, Ring>,
    /// Of all calls on routes that keep answers.
    cache: Ring,
    budgets: Names<BudgetId, Steps>,
    errors: Errors,
}

/// What there is of each name, in the order of coming. An index never changes.
#[derive(Debug)]
struct Names<N, T> {
    index: HashMap<N, usize>,
    all: Vec<(N, T)>,
}

/// The board at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct BoardView {
    /// Those who called since the start.
    pub callers: Vec<(CallerId, Tally)>,
    /// Those that were called since the start.
    pub routes: Vec<(RouteId, Tally)>,
    /// Calls on routes that keep answers.
    pub cache: Tally,
    /// What was granted of each budget.
    pub budgets: Vec<(BudgetId, Admitted)>,
    /// How much of the last step has passed.
    pub into_step: Duration,
    /// Those of the last quarter of an hour, the latest first.
    pub errors: Vec<ErrorView>,
}

impl Default for Board {
    fn default() -> Self {
        Self { began: Instant::now(), told: Mutex::default() }
    }
}

impl Board {
    /// An exchange has ended.
    pub fn ended(&self, now: Instant, what: &Ended<'_>) {
        let minute = self.minute(now);
        let mut told = self.told();
        let told = &mut *told;
        let caller = what.caller.and_then(|caller| told.callers.index(caller));
        let route = what.route.and_then(|route| told.routes.index(route));
        if let Some((_, ring)) = caller.and_then(|index| told.callers.all.get_mut(index)) {
            ring.count(minute, now, what);
        }
        if let Some((_, ring)) = route.and_then(|index| told.routes.all.get_mut(index)) {
            ring.count(minute, now, what);
        }
        if what.cache.is_some() {
            told.cache.count(minute, now, what);
        }
        if let Some(kind) = what.error() {
            let (method, status) = (method_word(what.method), what.status);
            let kind = Kind { kind, status, method, route, caller };
            told.errors.add(minute, now, kind, what.request_id, what.trace);
        }
    }

    /// A call was granted its permit.
    pub fn granted(&self, now: Instant, budget: &BudgetId, priority: Priority) {
        let step = admissions::step(self.age(now));
        let mut told = self.told();
        let Some(index) = told.budgets.index(budget) else { return };
        if let Some((_, steps)) = told.budgets.all.get_mut(index) {
            steps.count(step, priority);
        }
    }

    /// What is told at `now`.
    pub fn view(&self, now: Instant) -> BoardView {
        let (minute, age) = (self.minute(now), self.age(now));
        let (step, into_step) = (admissions::step(age), admissions::into_step(age));
        let told = self.told();
        let errors = told.errors.view(
            minute,
            now,
            |caller| told.callers.name(caller).cloned(),
            |route| told.routes.name(route).cloned(),
        );
        BoardView {
            callers: told.callers.each(|ring| ring.view(minute, now)),
            routes: told.routes.each(|ring| ring.view(minute, now)),
            cache: told.cache.view(minute, now),
            budgets: told.budgets.each(|steps| steps.view(step)),
            into_step,
            errors,
        }
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    fn minute(&self, now: Instant) -> u32 {
        u32::try_from(self.age(now).as_secs() / 60).unwrap_or(u32::MAX)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // What a panic leaves half told is told.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended<'_> {
    /// Whether omnigate answered with a problem.
    fn is_refused(&self) -> bool {
        self.refusal.is_some() && self.status != LEFT
    }

    /// Whether upstream's answer says that it failed.
    fn is_failed(&self) -> bool {
        self.refusal.is_none() && self.status >= 500
    }

    /// Whether it cost no request.
    fn is_saved(&self) -> bool {
        self.attempts == 0 && self.cache.is_some_and(CacheOutcome::saves)
    }

    /// What is wrong, where something is.
    fn error(&self) -> Option<&'static str> {
        match self.refusal {
            Some(kind) if self.is_refused() => Some(kind),
            None if self.is_failed() => Some("upstream"),
            Some(_) | None => None,
        }
    }
}

/// The status of a call whose caller left before it was answered.
const LEFT: u16 = 499;

impl<N, T> Default for Names<N, T> {
    fn default() -> Self {
        Self { index: HashMap::new(), all: Vec::new() }
    }
}

impl<N: Clone + Eq + std::hash::Hash, T: Default> Names<N, T> {
    /// The place of a name; a new one gets one while there is room.
    fn index(&mut self, name: &N) -> Option<usize> {
        if let Some(&index) = self.index.get(name) {
            return Some(index);
        }
        if self.all.len() >= MOST_NAMES {
            return None;
        }
        self.index.insert(name.clone(), self.all.len());
        self.all.push((name.clone(), T::default()));
        Some(self.all.len() - 1)
    }

    /// Who has this index.
    fn name(&self, index: usize) -> Option<&N> {
        self.all.get(index).map(|(name, _)| name)
    }

    fn each<V>(&self, view: impl Fn(&T) -> V) -> Vec<(N, V)> {
        self.all.iter().map(|(name, of)| (name.clone(), view(of))).collect()
    }
}

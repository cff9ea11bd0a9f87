//! The series of one route.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::base::{CallerId, Priority};
use crate::telemetry::labels::{
    CacheOutcome, CallLabels, GrantLabels, Retry, RetryLabels, Word, method_word,
};

/// The series of one route, looked up once per plan.
#[derive(Clone, Debug)]
pub struct RouteSeries(pub(super) Arc<Series>);

/// What it holds.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) route: Arc<str>,
    pub(super) server: Family<CallLabels, Histogram, fn() -> Histogram>,
    pub(super) client: Family<CallLabels, Histogram, fn() -> Histogram>,
    pub(super) server_known: Known,
    pub(super) client_known: Known,
    pub(super) retries: Family<RetryLabels, Counter>,
    pub(super) budget: Option<BudgetSeries>,
    pub(super) cache: Option<CacheSeries>,
}

/// The histograms that a route has by now, in the order of method and status: a handful, so that a call
/// makes no labels and takes no lock of the family's.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Vec<((&'static str, u16), Histogram)>>);

impl Known {
    fn observe(
        &self,
        method: &Method,
        status: u16,
        took: Duration,
        new: impl FnOnce() -> Histogram,
    ) {
        let key = (method_word(method), status);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.binary_search_by_key(&key, |(key, _)| *key).unwrap_or_else(|at| {
            known.insert(at, (key, new()));
            at
        });
        known[at].1.observe(took.as_secs_f64());
    }
}

/// The series of a route that keeps answers.
#[derive(Debug)]
pub(super) struct CacheSeries {
    /// In the order of [`CacheOutcome::ALL`].
    pub(super) outcomes: [Counter; 5],
    pub(super) saved: Counter,
}

/// The series of a route that is charged to a budget.
#[derive(Debug)]
pub(super) struct BudgetSeries {
    pub(super) wait: Histogram,
    /// 429s of the limit while our own count was beyond its bound.
    pub(super) limited: Counter,
    /// And while it was within.
    pub(super) limited_within: Counter,
    pub(super) budget: Arc<str>,
    pub(super) grants: Family<GrantLabels, Counter>,
    /// Those of the callers who came by now, in the order of [`Priority::ALL`]: callers are the config's.
    pub(super) grants_known: RwLock<HashMap<CallerId, [Counter; 3]>>,
}

impl BudgetSeries {
    fn granted(&self, caller: &CallerId, priority: Priority) {
        let count = |all: &[Counter; 3]| {
            for (counter, each) in all.iter().zip(Priority::ALL) {
                if each == priority {
                    counter.inc();
                }
            }
        };
        let known = self.grants_known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(all) = known.get(caller) {
            return count(all);
        }
        drop(known);
        let all = Priority::ALL.map(|priority| {
            let (budget, caller) = (self.budget.clone(), caller.as_str().into());
            let labels = GrantLabels { budget, caller, priority: Word(priority.as_str()) };
            self.grants.get_or_create_owned(&labels)
        });
        count(&all);
        let mut known = self.grants_known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(caller.clone(), all);
    }
}

impl Series {
    /// Without a budget and without a cache rule.
    pub(super) fn new(
        route: Arc<str>,
        server: &Family<CallLabels, Histogram, fn() -> Histogram>,
        client: &Family<CallLabels, Histogram, fn() -> Histogram>,
        retries: &Family<RetryLabels, Counter>,
    ) -> Self {
        Self {
            route,
            server: server.clone(),
            client: client.clone(),
            server_known: Known::default(),
            client_known: Known::default(),
            retries: retries.clone(),
            budget: None,
            cache: None,
        }
    }
}

impl RouteSeries {
    /// A call of this caller by this route was granted its permit.
    pub fn granted(&self, waited: Duration, caller: &CallerId, priority: Priority) {
        if let Some(budget) = &self.0.budget {
            budget.wait.observe(waited.as_secs_f64());
            budget.granted(caller, priority);
        }
    }

    /// An attempt has ended; `None` when upstream did not answer.
    pub fn attempted(&self, method: &Method, status: Option<StatusCode>, took: Duration) {
        let status = status.map_or(0, |status| status.as_u16());
        self.0.client_known.observe(method, status, took, || {
            self.0.client.get_or_create_owned(&self.labels(method, status))
        });
    }

    /// Upstream's limit refused an attempt. `within_budget` says that by our own count it had no
    /// reason to: somebody else spends the key, or upstream counts otherwise.
    pub fn limited(&self, within_budget: bool) {
        if let Some(budget) = &self.0.budget {
            if within_budget { &budget.limited_within } else { &budget.limited }.inc();
        }
    }

    /// A call of this route is sent once more.
    pub fn retried(&self, reason: Retry) {
        let labels = RetryLabels { route: self.0.route.clone(), reason: reason.word() };
        self.0.retries.get_or_create(&labels).inc();
    }

    /// The cache answered a call of this route, or passed it on.
    /// `attempts` is how many requests were sent for it.
    pub fn cached(&self, outcome: CacheOutcome, attempts: u32) {
        let Some(cache) = &self.0.cache else { return };
        for (counter, each) in cache.outcomes.iter().zip(CacheOutcome::ALL) {
            if each == outcome {
                counter.inc();
            }
        }
        if outcome.saves() && attempts == 0 {
            cache.saved.inc();
        }
    }

    pub(super) fn answered(&self, method: &Method, status: u16, took: Duration) {
        self.0.server_known.observe(method, status, took, || {
            self.0.server.get_or_create_owned(&self.labels(method, status))
        });
    }

    fn labels(&self, method: &Method, status: u16) -> CallLabels {
        CallLabels { route: self.0.route.clone(), method: Word(method_word(method)), status }
    }
}

//! The series of one route.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::telemetry::labels::{CacheOutcome, CallLabels, Retry, RetryLabels, Word, method_word};

/// The series of one route, looked up once per plan.
#[derive(Clone, Debug)]
pub struct RouteSeries(pub(super) Arc<Series>);

/// What it holds.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) route: Arc<str>,
    pub(super) server: Family<CallLabels, Histogram, fn() -> Histogram>,
    pub(super) client: Family<CallLabels, Histogram, fn() -> Histogram>,
    /// By method and status: a handful each, so that a call takes no lock of the family's.
    pub(super) server_known: Mutex<HashMap<(&'static str, u16), Histogram>>,
    pub(super) retries: Family<RetryLabels, Counter>,
    pub(super) budget: Option<BudgetSeries>,
    pub(super) cache: Option<CacheSeries>,
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
            server_known: Mutex::default(),
            retries: retries.clone(),
            budget: None,
            cache: None,
        }
    }
}

impl RouteSeries {
    /// A call of this route was granted its permit.
    pub fn granted(&self, waited: Duration) {
        if let Some(budget) = &self.0.budget {
            budget.wait.observe(waited.as_secs_f64());
        }
    }

    /// An attempt has ended; `None` when upstream did not answer.
    pub fn attempted(&self, method: &Method, status: Option<StatusCode>, took: Duration) {
        let status = status.map_or(0, |status| status.as_u16());
        let labels = self.labels(method, status);
        self.0.client.get_or_create(&labels).observe(took.as_secs_f64());
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
        let mut known = self.0.server_known.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = known
            .entry((method_word(method), status))
            .or_insert_with(|| self.0.server.get_or_create(&self.labels(method, status)).clone());
        histogram.observe(took.as_secs_f64());
    }

    fn labels(&self, method: &Method, status: u16) -> CallLabels {
        CallLabels { route: self.0.route.clone(), method: Word(method_word(method)), status }
    }
}

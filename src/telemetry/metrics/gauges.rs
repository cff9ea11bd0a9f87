//! What is not counted as it happens, but read off the rooms when somebody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::base::{BudgetId, CredentialId, Priority};
use crate::telemetry::labels::{
    BudgetLabel, CredentialLabel, CredentialState, ListenerLabel, PauseLabels, QueueLabels, Word,
};

/// The states that a credential may be in, as metrics spell them.
const CREDENTIAL_STATES: [&str; 4] = ["ready", "stale", "rejected", "missing"];

/// What is read off the rooms when somebody asks.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// All of them.
    pub budgets: Vec<BudgetGauges>,
    /// Name, state as a fixed word, seconds since the value was first seen.
    pub credentials: Vec<(CredentialId, &'static str, Option<Duration>)>,
    /// Where callers connect by TLS, and when that certificate expires.
    pub certificates: Vec<(String, SystemTime)>,
    /// Whether calls would be served.
    pub ready: bool,
    /// Open connections of callers.
    pub connections: usize,
    /// What the answers that are kept take up.
    pub cache_bytes: u64,
    /// How many answers are kept.
    pub cache_entries: u64,
    /// How it stands with those that share the budgets; `None` where nobody does.
    pub shared: Option<SharedGauges>,
}

/// How it stands with those that share the budgets.
#[derive(Clone, Copy, Debug)]
pub struct SharedGauges {
    /// Whether what they share them through answers.
    pub up: bool,
    /// How many they are, this one among them, as far as is known.
    pub instances: usize,
    /// Sends since the start that the others knew nothing of.
    pub unshared: u64,
}

/// How one budget stands.
#[derive(Clone, Debug)]
pub struct BudgetGauges {
    /// Its name.
    pub id: BudgetId,
    /// The key, where each has a ledger of its own.
    pub key: Option<CredentialId>,
    /// Sends that count now.
    pub used: usize,
    /// Sends per window.
    pub limit: usize,
    /// Calls that wait.
    pub queued: usize,
    /// How long the oldest of them has waited, in the order of [`Priority::ALL`]; `None` where none waits.
    pub oldest: [Option<Duration>; 3],
    /// Whether nobody sends, because upstream said 429.
    pub paused: bool,
    /// Whether nobody sends, because an operator said so.
    pub held: bool,
}

/// Their series.
#[derive(Debug, Default)]
pub(super) struct GaugeSeries {
    queue_depth: Family<BudgetLabel, Gauge>,
    queue_oldest: Family<QueueLabels, Gauge<f64, AtomicU64>>,
    budget_used: Family<BudgetLabel, Gauge>,
    budget_limit: Family<BudgetLabel, Gauge>,
    budget_paused: Family<PauseLabels, Gauge>,
    credential_state: Family<CredentialState, Gauge>,
    credential_age: Family<CredentialLabel, Gauge>,
    certificate_expiry: Family<ListenerLabel, Gauge<f64, AtomicU64>>,
    ready: Gauge,
    connections: Gauge,
    cache_bytes: Gauge,
    cache_entries: Gauge,
    shared_up: Family<[(&'static str, &'static str); 0], Gauge>,
    instances: Family<[(&'static str, &'static str); 0], Gauge>,
    unshared: Family<[(&'static str, &'static str); 0], Counter>,
}

impl GaugeSeries {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("omnigate_queue_depth", "Calls that wait", self.queue_depth.clone());
        r.register_with_unit(
            "omnigate_queue_oldest",
            "How long the call has waited that came first; 0 where none waits",
            Unit::Seconds,
            self.queue_oldest.clone(),
        );
        r.register("omnigate_budget_used", "Sends that count now", self.budget_used.clone());
        r.register("omnigate_budget_limit", "Sends per window", self.budget_limit.clone());
        r.register(
            "omnigate_budget_paused",
            "1 while nobody sends, because Omni said 429 or because an operator said so",
            self.budget_paused.clone(),
        );
        r.register(
            "omnigate_credential_state",
            "1 for the state that the credential is in",
            self.credential_state.clone(),
        );
        r.register_with_unit(
            "omnigate_credential_age",
            "Time since the credential's value was first seen, where it has one",
            Unit::Seconds,
            self.credential_age.clone(),
        );
        r.register_with_unit(
            "omnigate_certificate_expiry_timestamp",
            "When the certificate of a listener expires, in seconds since 1970",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
        r.register("omnigate_ready", "1 while calls would be served", self.ready.clone());
        r.register("omnigate_connections", "Open connections of callers", self.connections.clone());
        r.register_with_unit(
            "omnigate_cache",
            "What the answers that are kept take up",
            Unit::Bytes,
            self.cache_bytes.clone(),
        );
        r.register(
            "omnigate_cache_entries",
            "Things that are kept: answers, and what leads to them",
            self.cache_entries.clone(),
        );
        r.register(
            "omnigate_shared_budget_up",
            "1 while what the budgets are shared through answers; not there where they are not shared",
            self.shared_up.clone(),
        );
        r.register(
            "omnigate_instances",
            "Instances that share the budgets, as far as this one knows",
            self.instances.clone(),
        );
        r.register(
            "omnigate_unshared_sends",
            "Sends while the shared budget was lost, of which the others knew nothing",
            self.unshared.clone(),
        );
    }

    /// Has them say how things stand now.
    pub(super) fn set(&self, gauges: &Gauges) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for budget in &gauges.budgets {
            let name: Arc<str> = match &budget.key {
                None => budget.id.as_str().into(),
                Some(key) => format!("{}/{key}", budget.id).into(),
            };
            let label = BudgetLabel { budget: name.clone() };
            self.budget_used.get_or_create(&label).set(count(budget.used));
            self.budget_limit.get_or_create(&label).set(count(budget.limit));
            self.queue_depth.get_or_create(&label).set(count(budget.queued));
            for (priority, oldest) in Priority::ALL.into_iter().zip(budget.oldest) {
                let priority = Word(priority.as_str());
                let label = QueueLabels { budget: name.clone(), priority };
                let seconds = oldest.unwrap_or(Duration::ZERO).as_secs_f64();
                self.queue_oldest.get_or_create(&label).set(seconds);
            }
            for (by, on) in [("omni", budget.paused), ("operator", budget.held)] {
                let label = PauseLabels { budget: name.clone(), by: Word(by) };
                self.budget_paused.get_or_create(&label).set(i64::from(on));
            }
        }
        for (credential, state, age) in &gauges.credentials {
            let credential: Arc<str> = credential.as_str().into();
            for each in CREDENTIAL_STATES {
                let label = CredentialState { credential: credential.clone(), state: Word(each) };
                self.credential_state.get_or_create(&label).set(i64::from(each == *state));
            }
            let label = CredentialLabel { credential };
            match age {
                Some(age) => {
                    self.credential_age.get_or_create(&label).set(whole(age.as_secs()));
                }
                // No value, no age; 0 would be a new one.
                None => {
                    self.credential_age.remove(&label);
                }
            }
        }
        for (listener, expires) in &gauges.certificates {
            let label = ListenerLabel { listener: listener.as_str().into() };
            // One that expired before 1970 has expired.
            let since = expires.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            self.certificate_expiry.get_or_create(&label).set(since.as_secs_f64());
        }
        self.ready.set(i64::from(gauges.ready));
        self.connections.set(count(gauges.connections));
        self.cache_bytes.set(whole(gauges.cache_bytes));
        self.cache_entries.set(whole(gauges.cache_entries));
        if let Some(shared) = &gauges.shared {
            self.shared_up.get_or_create(&[]).set(i64::from(shared.up));
            self.instances.get_or_create(&[]).set(count(shared.instances));
            // Counted elsewhere; it only grows there too.
            self.unshared.get_or_create(&[]).inner().store(shared.unshared, Relaxed);
        }
    }
}

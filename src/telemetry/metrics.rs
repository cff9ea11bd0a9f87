//! Every metric that omnigate has, by name. Labels are names from the config and fixed words,
//! never a caller's text, so that nobody can add a series.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::base::{BudgetId, CallerId, CredentialId, Priority, RouteId};
use crate::telemetry::labels::{
    BudgetLabel, BudgetRoute, CacheLabels, CacheOutcome, CallLabels, CredentialLabel,
    CredentialState, GrantLabels, LimitLabels, Probe, ProbeLabels, ReasonLabel, RetryLabels, Word,
};
use crate::telemetry::series::{BudgetSeries, CacheSeries, RouteSeries, Series};

/// Seconds. A queue of minutes is normal here, so the buckets reach far.
const BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// The name of a route for calls that have none.
const NO_ROUTE: &str = "none";

/// All series of a process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    server: Family<CallLabels, Histogram, fn() -> Histogram>,
    client: Family<CallLabels, Histogram, fn() -> Histogram>,
    queue_wait: Family<BudgetRoute, Histogram, fn() -> Histogram>,
    grants: Family<GrantLabels, Counter>,
    upstream_429: Family<LimitLabels, Counter>,
    retries: Family<RetryLabels, Counter>,
    refusals: Family<ReasonLabel, Counter>,
    probes: Family<ProbeLabels, Counter>,
    echoed: Family<CredentialLabel, Counter>,
    queue_depth: Family<BudgetLabel, Gauge>,
    budget_used: Family<BudgetLabel, Gauge>,
    budget_limit: Family<BudgetLabel, Gauge>,
    budget_paused: Family<BudgetLabel, Gauge>,
    credential_state: Family<CredentialState, Gauge>,
    credential_age: Family<CredentialLabel, Gauge>,
    connections: Gauge,
    cache_requests: Family<CacheLabels, Counter>,
    cache_saved: Counter,
    cache_bytes: Gauge,
    cache_entries: Gauge,
    no_route: RouteSeries,
}

/// How one exchange ended.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeFacts<'a> {
    /// The series of its route, where it had one.
    pub route: Option<&'a RouteSeries>,
    /// The caller's method.
    pub method: &'a Method,
    /// What the caller was answered; 499 when it left first.
    pub status: u16,
    /// From the request's head to the end of the response's body.
    pub took: Duration,
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
    /// Whether nobody sends, because upstream said 429.
    pub paused: bool,
}

/// What is read off the budgets and credentials when somebody asks.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// All of them.
    pub budgets: Vec<BudgetGauges>,
    /// Name, state as a fixed word, seconds since the value was first seen.
    pub credentials: Vec<(CredentialId, &'static str, Option<Duration>)>,
    /// Open connections of callers.
    pub connections: usize,
    /// What the answers that are kept take up.
    pub cache_bytes: u64,
    /// How many answers are kept.
    pub cache_entries: u64,
}

/// The states that a credential may be in, as metrics spell them.
const CREDENTIAL_STATES: [&str; 4] = ["ready", "stale", "rejected", "missing"];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers every metric, at zero.
    pub fn new() -> Self {
        let histograms = || Family::new_with_constructor(histogram as fn() -> Histogram);
        let server = histograms();
        let client = histograms();
        let retries = Family::default();
        let no_route = Series::new(Arc::from(NO_ROUTE), &server, &client, &retries);
        let no_route = RouteSeries(Arc::new(no_route));
        let mut metrics = Self {
            registry: Registry::default(),
            server,
            client,
            retries,
            queue_wait: Family::new_with_constructor(histogram),
            grants: Family::default(),
            upstream_429: Family::default(),
            refusals: Family::default(),
            probes: Family::default(),
            echoed: Family::default(),
            queue_depth: Family::default(),
            budget_used: Family::default(),
            budget_limit: Family::default(),
            budget_paused: Family::default(),
            credential_state: Family::default(),
            credential_age: Family::default(),
            connections: Gauge::default(),
            cache_requests: Family::default(),
            cache_saved: Counter::default(),
            cache_bytes: Gauge::default(),
            cache_entries: Gauge::default(),
            no_route,
        };
        metrics.register();
        metrics.register_cache();
        metrics
    }

    fn register_cache(&mut self) {
        let r = &mut self.registry;
        r.register(
            "omnigate_cache_requests",
            "Calls on routes that keep answers, by how they were answered",
            self.cache_requests.clone(),
        );
        r.register(
            "omnigate_cache_saved_requests",
            "Calls that cost no request of their own",
            self.cache_saved.clone(),
        );
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
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        let seconds = Unit::Seconds;
        r.register_with_unit(
            "http_server_request_duration",
            "Time from a caller's request head to the end of its answer",
            seconds.clone(),
            self.server.clone(),
        );
        r.register_with_unit(
            "http_client_request_duration",
            "Time from a request head sent to Omni to its response head",
            seconds.clone(),
            self.client.clone(),
        );
        r.register_with_unit(
            "omnigate_queue_wait",
            "Time that granted calls waited for their turn",
            seconds.clone(),
            self.queue_wait.clone(),
        );
        r.register("omnigate_grants", "Permits to send one request", self.grants.clone());
        r.register(
            "omnigate_refusals",
            "Calls that omnigate answered itself",
            self.refusals.clone(),
        );
        r.register(
            "omnigate_credential_probes",
            "Times that Omni was asked whether a key is good",
            self.probes.clone(),
        );
        r.register(
            "omnigate_echoed_secrets",
            "Times that Omni sent a key back, which was blotted out",
            self.echoed.clone(),
        );
        r.register("omnigate_upstream_429", "429s of Omni's limit", self.upstream_429.clone());
        r.register("omnigate_retries", "Calls sent once more", self.retries.clone());
        r.register("omnigate_queue_depth", "Calls that wait", self.queue_depth.clone());
        r.register("omnigate_budget_used", "Sends that count now", self.budget_used.clone());
        r.register("omnigate_budget_limit", "Sends per window", self.budget_limit.clone());
        r.register(
            "omnigate_budget_paused",
            "1 while nobody sends, because Omni said 429",
            self.budget_paused.clone(),
        );
        r.register(
            "omnigate_credential_state",
            "1 for the state that the credential is in",
            self.credential_state.clone(),
        );
        r.register_with_unit(
            "omnigate_credential_age",
            "Time since the credential's value was first seen",
            seconds,
            self.credential_age.clone(),
        );
        r.register("omnigate_connections", "Open connections of callers", self.connections.clone());
    }

    /// The series of one route; `keeps` says that it has a cache rule.
    pub fn route(&self, route: &RouteId, budget: Option<&BudgetId>, keeps: bool) -> RouteSeries {
        let route: Arc<str> = route.as_str().into();
        let budget = budget.map(|budget| {
            let budget: Arc<str> = budget.as_str().into();
            let labels = BudgetRoute { budget: budget.clone(), route: route.clone() };
            let limited = |word| {
                let labels = LimitLabels { budget: budget.clone(), within_budget: Word(word) };
                self.upstream_429.get_or_create(&labels).clone()
            };
            BudgetSeries {
                wait: self.queue_wait.get_or_create(&labels).clone(),
                limited: limited("false"),
                limited_within: limited("true"),
            }
        });
        let cache = keeps.then(|| CacheSeries {
            outcomes: CacheOutcome::ALL.map(|outcome| {
                let outcome = Word(outcome.as_str());
                let labels = CacheLabels { route: route.clone(), outcome };
                self.cache_requests.get_or_create(&labels).clone()
            }),
            saved: self.cache_saved.clone(),
        });
        let series = Series::new(route, &self.server, &self.client, &self.retries);
        RouteSeries(Arc::new(Series { budget, cache, ..series }))
    }

    /// An exchange has ended.
    pub fn exchanged(&self, facts: &ExchangeFacts<'_>) {
        facts.route.unwrap_or(&self.no_route).answered(facts.method, facts.status, facts.took);
    }

    /// A call of this caller was granted its permit.
    pub fn granted(&self, budget: &BudgetId, caller: &CallerId, priority: Priority) {
        let labels = GrantLabels {
            budget: budget.as_str().into(),
            caller: caller.as_str().into(),
            priority: Word(priority.as_str()),
        };
        self.grants.get_or_create(&labels).inc();
    }

    /// 429s of the limit since the start that were charged to this budget: while our own count was
    /// within its bound, and beyond it.
    pub fn limited(&self, budget: &BudgetId) -> (u64, u64) {
        let count = |word| {
            let budget = budget.as_str().into();
            let labels = LimitLabels { budget, within_budget: Word(word) };
            self.upstream_429.get(&labels).map_or(0, |count| count.get())
        };
        (count("true"), count("false"))
    }

    /// omnigate answered a call itself; `reason` is the problem's stable name.
    pub fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&ReasonLabel { reason: Word(reason) }).inc();
    }

    /// Omni sent this key back so many times.
    pub fn echoed(&self, credential: &CredentialId, times: u64) {
        let credential = credential.as_str().into();
        self.echoed.get_or_create(&CredentialLabel { credential }).inc_by(times);
    }

    /// Omni was asked who a key is.
    pub fn probed(&self, credential: &CredentialId, outcome: Probe) {
        let credential = credential.as_str().into();
        self.probes.get_or_create(&ProbeLabels { credential, outcome: outcome.word() }).inc();
    }

    /// Everything in the OpenMetrics text format, with `gauges` as they stand now.
    pub fn render(&self, gauges: &Gauges) -> String {
        let int = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for budget in &gauges.budgets {
            let name = match &budget.key {
                None => budget.id.to_string(),
                Some(key) => format!("{}/{key}", budget.id),
            };
            let label = BudgetLabel { budget: name.into() };
            self.budget_used.get_or_create(&label).set(int(budget.used));
            self.budget_limit.get_or_create(&label).set(int(budget.limit));
            self.queue_depth.get_or_create(&label).set(int(budget.queued));
            self.budget_paused.get_or_create(&label).set(i64::from(budget.paused));
        }
        for (credential, state, age) in &gauges.credentials {
            let credential: Arc<str> = credential.as_str().into();
            for each in CREDENTIAL_STATES {
                let label = CredentialState { credential: credential.clone(), state: Word(each) };
                self.credential_state.get_or_create(&label).set(i64::from(each == *state));
            }
            let seconds = age.map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
            self.credential_age.get_or_create(&CredentialLabel { credential }).set(seconds);
        }
        self.connections.set(int(gauges.connections));
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.cache_bytes.set(whole(gauges.cache_bytes));
        self.cache_entries.set(whole(gauges.cache_entries));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::labels::Retry;

    #[test]
    fn what_happened_is_counted_under_names_from_the_config() {
        let metrics = Metrics::new();
        let series = metrics.route(&RouteId::new("lists"), Some(&BudgetId::new("omni")), true);
        series.cached(CacheOutcome::Hit, 0);
        series.cached(CacheOutcome::Bypass, 1);
        series.granted(Duration::from_secs(3));
        let (budget, caller) = (BudgetId::new("omni"), CallerId::new("nightly"));
        metrics.granted(&budget, &caller, Priority::Batch);
        series.limited(true);
        series.retried(Retry::Limited);
        let facts = ExchangeFacts {
            route: Some(&series),
            method: &Method::GET,
            status: 200,
            took: Duration::from_secs(3),
        };
        metrics.exchanged(&facts);
        metrics.refused("no-route");
        let text = metrics.render(&Gauges {
            budgets: vec![BudgetGauges {
                id: BudgetId::new("omni"),
                key: None,
                used: 17,
                limit: 60,
                queued: 4,
                paused: true,
            }],
            credentials: vec![(CredentialId::new("org"), "ready", Some(Duration::from_secs(9)))],
            connections: 2,
            cache_bytes: 70_000,
            cache_entries: 3,
        });
        for line in [
            "omnigate_grants_total{budget=\"omni\",caller=\"nightly\",priority=\"batch\"} 1",
            "omnigate_queue_wait_seconds_sum{budget=\"omni\",route=\"lists\"} 3.0",
            "omnigate_upstream_429_total{budget=\"omni\",within_budget=\"true\"} 1",
            "omnigate_upstream_429_total{budget=\"omni\",within_budget=\"false\"} 0",
            "omnigate_retries_total{route=\"lists\",reason=\"429\"} 1",
            "omnigate_budget_paused{budget=\"omni\"} 1",
            "omnigate_refusals_total{reason=\"no-route\"} 1",
            "omnigate_budget_used{budget=\"omni\"} 17",
            "omnigate_queue_depth{budget=\"omni\"} 4",
            "omnigate_credential_state{credential=\"org\",state=\"ready\"} 1",
            "omnigate_credential_state{credential=\"org\",state=\"missing\"} 0",
            "omnigate_credential_age_seconds{credential=\"org\"} 9",
            "omnigate_connections 2",
            "omnigate_cache_requests_total{route=\"lists\",outcome=\"hit\"} 1",
            "omnigate_cache_requests_total{route=\"lists\",outcome=\"stale\"} 0",
            "omnigate_cache_saved_requests_total 1",
            "omnigate_cache_bytes 70000",
            "omnigate_cache_entries 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let count = "http_server_request_duration_seconds_count{route=\"lists\",method=\"GET\",status=\"200\"} 1";
        assert!(text.contains(count), "{text}");
    }

    #[test]
    fn a_made_up_method_adds_no_series() {
        let metrics = Metrics::new();
        let series = metrics.route(&RouteId::new("lists"), None, false);
        for nth in 0..100 {
            let method = Method::from_bytes(format!("M{nth}").as_bytes()).unwrap();
            let took = Duration::ZERO;
            metrics.exchanged(&ExchangeFacts {
                route: Some(&series),
                method: &method,
                status: 405,
                took,
            });
        }
        let text = metrics.render(&Gauges::default());
        assert_eq!(text.matches("http_server_request_duration_seconds_count").count(), 1);
    }
}

//! Every metric that omnigate has, by name. Labels are names from the config and fixed words,
//! never a caller's text, so that nobody can add a series.
//!
//! So the number of series is bounded by the config. With R routes, B budgets (or budget and key, where
//! each key has a ledger of its own), C callers (and `anonymous`) and K credentials there are at most
//!
//! - 8 methods × the statuses that were answered, for each route and for calls without one, of the two
//!   histograms of durations (17 lines each). What a caller does decides which of omnigate's own statuses
//!   there are; the others are Omni's, and no caller chooses them;
//! - R histograms of waits, 3 × B × C counters of grants, 2 × B of 429s, 9 × R of retries, 5 × R of the
//!   cache, 9 × K of credentials, 8 × B of budgets, one for each refusal in `proxy/problem.rs`;
//! - one for each listener with TLS, and about twenty of the process.

mod gauges;
mod register;
mod text;
mod vitals;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::base::{BudgetId, CredentialId, RouteId};
use crate::telemetry::ExportCounts;
use crate::telemetry::labels::{
    BudgetRoute, CacheLabels, CacheOutcome, CallLabels, CredentialLabel, GrantLabels, LimitLabels,
    OutcomeLabel, Probe, ProbeLabels, ReasonLabel, RetryLabels, Word,
};
use crate::telemetry::series::{BudgetSeries, CacheSeries, RouteSeries, Series};

use gauges::GaugeSeries;
pub use gauges::{BudgetGauges, Gauges, SharedGauges};
pub use text::Exposition;

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
    cache_requests: Family<CacheLabels, Counter>,
    cache_saved: Counter,
    exports: Family<OutcomeLabel, Counter>,
    spans: Family<OutcomeLabel, Counter>,
    viewers: Gauge,
    gauges: GaugeSeries,
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

/// Somebody who is told how things stand each second, until this is dropped.
#[derive(Debug)]
pub struct Viewer(Gauge);

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.dec();
    }
}

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
            cache_requests: Family::default(),
            cache_saved: Counter::default(),
            exports: Family::default(),
            spans: Family::default(),
            viewers: Gauge::default(),
            gauges: GaugeSeries::default(),
            no_route,
        };
        metrics.register();
        // They are at zero from the start: a rate needs something to rise from.
        let _ = metrics.exports();
        metrics
    }

    /// The series of one route; `keeps` says that it has a cache rule.
    pub fn route(&self, route: &RouteId, budget: Option<&BudgetId>, keeps: bool) -> RouteSeries {
        let route: Arc<str> = route.as_str().into();
        let budget = budget.map(|budget| {
            let budget: Arc<str> = budget.as_str().into();
            let labels = BudgetRoute { budget: budget.clone(), route: route.clone() };
            let limited = |word| {
                let labels = LimitLabels { budget: budget.clone(), within_budget: Word(word) };
                self.upstream_429.get_or_create_owned(&labels)
            };
            BudgetSeries {
                wait: self.queue_wait.get_or_create_owned(&labels),
                limited: limited("false"),
                limited_within: limited("true"),
                grants: self.grants.clone(),
                grants_known: Default::default(),
                budget,
            }
        });
        let cache = keeps.then(|| CacheSeries {
            outcomes: CacheOutcome::ALL.map(|outcome| {
                let outcome = Word(outcome.as_str());
                let labels = CacheLabels { route: route.clone(), outcome };
                self.cache_requests.get_or_create_owned(&labels)
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

    /// Shows these reasons from the start, at zero: a counter that comes with its first one has no rise to
    /// be seen.
    pub fn expect_refusals(&self, reasons: impl Iterator<Item = &'static str>) {
        for reason in reasons {
            drop(self.refusals.get_or_create(&ReasonLabel { reason: Word(reason) }));
        }
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

    /// What is counted of spans and of the batches that carry them.
    pub fn exports(&self) -> ExportCounts {
        let batches =
            |fate| self.exports.get_or_create_owned(&OutcomeLabel { outcome: Word(fate) });
        let spans = |fate| self.spans.get_or_create_owned(&OutcomeLabel { outcome: Word(fate) });
        ExportCounts {
            taken: batches("exported"),
            refused: batches("failed"),
            exported: spans("exported"),
            failed: spans("failed"),
            dropped: spans("dropped"),
        }
    }

    /// One more is told how things stand each second, until what this gives is dropped.
    pub fn views(&self) -> Viewer {
        self.viewers.inc();
        Viewer(self.viewers.clone())
    }

    /// Everything as text, with `gauges` as they stand now.
    pub fn render(&self, gauges: &Gauges, exposition: Exposition) -> String {
        self.gauges.set(gauges);
        let mut open = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut open, &self.registry);
        match exposition {
            Exposition::OpenMetrics => open,
            Exposition::Classic => text::classic(&open),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::base::{CallerId, Priority};
    use crate::telemetry::labels::Retry;

    #[test]
    fn what_happened_is_counted_under_names_from_the_config() {
        let metrics = Metrics::new();
        let series = metrics.route(&RouteId::new("lists"), Some(&BudgetId::new("omni")), true);
        series.cached(CacheOutcome::Hit, 0);
        series.cached(CacheOutcome::Bypass, 1);
        series.granted(Duration::from_secs(3), &CallerId::new("nightly"), Priority::Batch);
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
        let gauges = Gauges {
            budgets: vec![BudgetGauges {
                id: BudgetId::new("omni"),
                key: None,
                used: 17,
                limit: 60,
                queued: 4,
                oldest: [None, Some(Duration::from_millis(1500)), None],
                paused: true,
                held: false,
            }],
            credentials: vec![
                (CredentialId::new("org"), "ready", Some(Duration::from_secs(9))),
                (CredentialId::new("gone"), "missing", None),
            ],
            certificates: vec![("[::]:6664".to_owned(), UNIX_EPOCH + Duration::from_millis(4500))],
            ready: true,
            connections: 2,
            cache_bytes: 70_000,
            cache_entries: 3,
            shared: Some(SharedGauges { up: true, instances: 3, unshared: 17 }),
        };
        let text = metrics.render(&gauges, Exposition::Classic);
        for line in [
            "omnigate_grants_total{budget=\"omni\",caller=\"nightly\",priority=\"batch\"} 1",
            "omnigate_queue_wait_seconds_sum{budget=\"omni\",route=\"lists\"} 3.0",
            "omnigate_upstream_429_total{budget=\"omni\",within_budget=\"true\"} 1",
            "omnigate_upstream_429_total{budget=\"omni\",within_budget=\"false\"} 0",
            "omnigate_retries_total{route=\"lists\",reason=\"429\"} 1",
            "omnigate_budget_paused{budget=\"omni\",by=\"omni\"} 1",
            "omnigate_budget_paused{budget=\"omni\",by=\"operator\"} 0",
            "omnigate_certificate_expiry_timestamp_seconds{listener=\"[::]:6664\"} 4.5",
            "omnigate_ready 1",
            "omnigate_status_viewers 0",
            "omnigate_otlp_exports_total{outcome=\"failed\"} 0",
            "omnigate_otlp_spans_total{outcome=\"dropped\"} 0",
            "omnigate_credential_state{credential=\"gone\",state=\"missing\"} 1",
            "omnigate_refusals_total{reason=\"no-route\"} 1",
            "omnigate_budget_used{budget=\"omni\"} 17",
            "omnigate_queue_depth{budget=\"omni\"} 4",
            "omnigate_queue_oldest_seconds{budget=\"omni\",priority=\"normal\"} 1.5",
            "omnigate_queue_oldest_seconds{budget=\"omni\",priority=\"batch\"} 0.0",
            "omnigate_credential_state{credential=\"org\",state=\"ready\"} 1",
            "omnigate_credential_state{credential=\"org\",state=\"missing\"} 0",
            "omnigate_credential_age_seconds{credential=\"org\"} 9",
            "omnigate_connections 2",
            "omnigate_cache_requests_total{route=\"lists\",outcome=\"hit\"} 1",
            "omnigate_cache_requests_total{route=\"lists\",outcome=\"stale\"} 0",
            "omnigate_cache_saved_requests_total 1",
            "omnigate_cache_bytes 70000",
            "omnigate_cache_entries 3",
            "omnigate_shared_budget_up{} 1",
            "omnigate_instances{} 3",
            "omnigate_unshared_sends_total{} 17",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        // 0 would be the age of a new one.
        assert!(!text.contains("omnigate_credential_age_seconds{credential=\"gone\"}"), "{text}");
        let count = "http_server_request_duration_seconds_count{route=\"lists\",method=\"GET\",status=\"200\"} 1";
        assert!(text.contains(count), "{text}");
    }

    #[test]
    fn who_shares_nothing_says_nothing_of_a_shared_budget() {
        let text = Metrics::new().render(&Gauges::default(), Exposition::Classic);
        for name in ["shared_budget_up", "instances", "unshared_sends_total"] {
            let name = format!("omnigate_{name}");
            assert!(!text.lines().any(|line| line.starts_with(&name)), "{text}");
        }
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
        let text = metrics.render(&Gauges::default(), Exposition::Classic);
        assert_eq!(text.matches("http_server_request_duration_seconds_count").count(), 1);
    }

    #[test]
    fn spans_and_viewers_are_counted_until_they_are_gone() {
        let metrics = Metrics::new();
        metrics.exports().taken.inc();
        metrics.exports().dropped.inc_by(3);
        let viewers = [metrics.views(), metrics.views()];
        let text = || metrics.render(&Gauges::default(), Exposition::OpenMetrics);
        assert!(text().contains("\nomnigate_status_viewers 2\n"));
        drop(viewers);
        assert!(text().contains("\nomnigate_status_viewers 0\n"));
        assert!(text().contains("\nomnigate_otlp_exports_total{outcome=\"exported\"} 1\n"));
        assert!(text().contains("\nomnigate_otlp_spans_total{outcome=\"dropped\"} 3\n"));
    }

    #[test]
    fn no_help_has_to_be_escaped() {
        let text = Metrics::new().render(&Gauges::default(), Exposition::OpenMetrics);
        let helps: Vec<&str> = text.lines().filter(|line| line.starts_with("# HELP")).collect();
        assert!(helps.len() > 10, "{text}");
        for help in helps {
            assert!(!help.contains(['"', '\\']), "{help}");
            assert!(help.ends_with('.') && !help.ends_with(".."), "{help}");
        }
    }
}

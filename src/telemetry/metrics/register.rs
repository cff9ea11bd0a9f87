//! The names of what is counted as it happens, and what it means.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;
use super::vitals::Vitals;
use crate::telemetry::labels::{VersionLabel, Word};

impl Metrics {
    /// Gives every metric its name.
    pub(super) fn register(&mut self) {
        let mut registry = Registry::default();
        self.register_times(&mut registry);
        self.register_calls(&mut registry);
        self.register_traces(&mut registry);
        self.gauges.register(&mut registry);
        let build: Family<VersionLabel, Gauge> = Family::default();
        build.get_or_create(&VersionLabel { version: Word(env!("CARGO_PKG_VERSION")) }).set(1);
        registry.register("omnigate_build_info", "1, with the version of omnigate", build);
        registry.register_collector(Box::new(Vitals::new()));
        self.registry = registry;
    }

    fn register_times(&self, r: &mut Registry) {
        r.register_with_unit(
            "http_server_request_duration",
            "Time from a caller's request head to the end of its answer",
            Unit::Seconds,
            self.server.clone(),
        );
        r.register_with_unit(
            "http_client_request_duration",
            "Time from a request head sent to Omni to its response head",
            Unit::Seconds,
            self.client.clone(),
        );
        r.register_with_unit(
            "omnigate_queue_wait",
            "Time that granted calls waited for their turn",
            Unit::Seconds,
            self.queue_wait.clone(),
        );
    }

    fn register_calls(&self, r: &mut Registry) {
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
    }

    fn register_traces(&self, r: &mut Registry) {
        r.register(
            "omnigate_otlp_exports",
            "Batches of spans that were sent to the collector, by whether it took them",
            self.exports.clone(),
        );
        r.register(
            "omnigate_otlp_spans",
            "Spans, by whether the collector took them, did not, or the queue had no room",
            self.spans.clone(),
        );
        r.register(
            "omnigate_status_viewers",
            "Open connections that are told how things stand each second",
            self.viewers.clone(),
        );
    }
}

//! What metrics read off the rooms when somebody asks.

use std::sync::Arc;

use crate::admin::Desk;
use crate::app::office::{self, Office};
use crate::base::{BudgetId, CredentialId};
use crate::server::{Bound, Certificates};
use crate::telemetry::{BudgetGauges, Gauges};

/// A place where callers connect by TLS, as its log lines name it, and its certificate.
pub(super) type Certified = (String, Arc<Certificates>);

/// Those of these places that have certificates.
pub(super) fn certified(bound: &[Bound]) -> Vec<Certified> {
    bound.iter().filter_map(|one| Some((one.to_string(), one.certificates()?))).collect()
}

impl Office {
    pub(super) fn gauges(&self) -> Gauges {
        let seen = self.rooms.shaper.view().budgets;
        let oldest = |id: &BudgetId, key: &Option<CredentialId>| {
            let one = seen.iter().find(|one| one.id == *id && one.key == *key);
            one.map_or([None; 3], |one| one.queue.map(|waiting| waiting.oldest))
        };
        let budgets = self.rooms.shaper.snapshots().into_iter().map(|budget| BudgetGauges {
            oldest: oldest(&budget.id, &budget.key),
            id: budget.id,
            key: budget.key,
            used: budget.used,
            limit: budget.limit,
            queued: budget.queued,
            paused: budget.paused.is_some(),
            held: budget.held,
        });
        let credentials = self.rooms.credentials.iter();
        let certificates = self.certified.iter();
        Gauges {
            budgets: budgets.collect(),
            credentials: credentials
                .map(|one| (one.id().clone(), one.state().as_str(), one.age()))
                .collect(),
            certificates: certificates.map(|(at, one)| (at.clone(), one.expires())).collect(),
            ready: self.readiness().reasons.is_empty(),
            connections: self.callers.connections(),
            cache_bytes: self.rooms.cache.bytes(),
            cache_entries: self.rooms.cache.entries(),
            shared: self.rooms.shaper.fleet().map(|fleet| office::gauges(&fleet.view())),
        }
    }
}

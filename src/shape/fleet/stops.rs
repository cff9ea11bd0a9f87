//! Pauses by hand, which hold for all instances.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::BudgetId;
use crate::shape::fleet::call::{Answer, StopTold, StopUntil};
use crate::shape::queue::Queue;
use crate::shape::stop::Stop;

/// So far apart two readings of one moment may lie.
const SAME: Duration = Duration::from_millis(250);

impl Queue {
    /// An operator has paused or resumed here: the others have to know.
    pub(in crate::shape) fn tell_stop(
        &mut self,
        now: Instant,
        budget: Option<&BudgetId>,
        stop: Stop,
    ) {
        let Some(fleet) = &mut self.fleet else { return };
        let until = match stop.at(now) {
            Stop::Off => StopUntil::Resumed,
            Stop::Until(end) => StopUntil::At(end),
            Stop::UntilResumed => StopUntil::WhenResumed,
        };
        if budget.is_none() && until == StopUntil::Resumed {
            // Whoever resumes everything resumes each budget.
            for meter in &self.meters {
                let budget = Some(meter.budget.to_string());
                fleet.stopped(StopTold { budget, until });
            }
        }
        fleet.stopped(StopTold { budget: budget.map(ToString::to_string), until });
    }

    /// What operators have paused, of all instances.
    pub(super) fn hear_stops(&mut self, now: Instant, answer: &Answer) {
        let budgets: Vec<BudgetId> = self.meters.iter().map(|meter| meter.budget.clone()).collect();
        for budget in budgets.iter().map(Some).chain([None]) {
            let name = budget.map(BudgetId::as_str);
            let Some(fleet) = &self.fleet else { return };
            if fleet.tells_stop(name) {
                continue;
            }
            let told = answer.stops.iter().find(|(budget, _)| budget.as_deref() == name);
            let told = told.map_or(Stop::Off, |(_, left)| Stop::lasting(now, *left));
            let held = match budget {
                None => self.stop,
                Some(budget) => {
                    let mut mine = self.meters.iter().filter(|meter| meter.budget == *budget);
                    mine.next().map_or(Stop::Off, |meter| meter.stop)
                }
            };
            if !alike(held.at(now), told) {
                self.pause(now, budget, told);
            }
        }
    }
}

fn alike(one: Stop, other: Stop) -> bool {
    match (one, other) {
        (Stop::Until(one), Stop::Until(other)) => one.max(other) - one.min(other) < SAME,
        (Stop::Off | Stop::Until(_) | Stop::UntilResumed, _) => one == other,
    }
}

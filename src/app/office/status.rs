//! The status document, put together.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::wall::rfc3339;
use super::{Office, fleet};
use crate::admin::Desk;
use crate::admin::Status;
use crate::admin::status::{
    Admissions, BudgetStatus, CacheStatus, CallerStatus, Cell, CertificateStatus, ErrorStatus,
    PauseStatus, QueueStatus, RouteStatus, TracesStatus,
};
use crate::base::{BudgetId, CallerId, Priority, RouteId};
use crate::config::Config;
use crate::shape::{BudgetView, CallerView, Fleet, Held, Profile, SentView};
use crate::telemetry::{Admitted, BoardView, ErrorView, ExportState, STEP, STEPS, Tally};

/// What the config names, and since when.
#[derive(Debug)]
pub(in crate::app) struct Named {
    began: Instant,
    callers: Vec<CallerId>,
    /// And whether it keeps answers.
    routes: Vec<(RouteId, bool)>,
}

impl Named {
    pub(in crate::app) fn of(config: &Config) -> Self {
        let routes = config.routes.iter().map(|one| (one.id.clone(), one.cache.is_some()));
        Self {
            began: Instant::now(),
            callers: config.callers.iter().map(|one| one.caller.id.clone()).collect(),
            routes: routes.collect(),
        }
    }
}

impl Office {
    /// The facts of this moment.
    pub(super) fn facts(&self) -> Status {
        let now = Instant::now();
        let (board, view) = (self.rooms.telemetry.board.view(now), self.rooms.shaper.view());
        let fleet = self.rooms.shaper.fleet().map(Fleet::view);
        let up_s = seconds(now - self.rooms.named.began);
        Status {
            version: env!("CARGO_PKG_VERSION"),
            now: rfc3339(SystemTime::now()),
            up_s,
            readiness: self.readiness().into(),
            log: self.log_filter(),
            connections: self.callers.connections(),
            // Those who serve the events know.
            viewers: 0,
            budgets: view.budgets.into_iter().map(|one| self.budget(one, &board)).collect(),
            callers: self.callers_shown(&board, view.callers),
            routes: self.routes_shown(&board),
            cache: self.cache_shown(&board),
            certificates: self.certificates_shown(),
            instances: fleet::instances(fleet.as_ref(), up_s),
            shared: fleet.as_ref().map(fleet::shared),
            traces: self.rooms.telemetry.traces.state().map_or_else(off, export),
            errors: board.errors.into_iter().map(error).collect(),
        }
    }

    fn budget(&self, view: BudgetView, board: &BoardView) -> BudgetStatus {
        let (within, beyond) = self.rooms.telemetry.metrics.limited(&view.id);
        let queue = view.queue.iter().zip(Priority::ALL).map(|(waiting, priority)| QueueStatus {
            priority: priority.as_str(),
            waiting: waiting.calls,
            oldest_s: waiting.oldest.map(seconds),
        });
        BudgetStatus {
            admissions: admissions(&view.id, board),
            budget: view.id.to_string(),
            credential: view.key.map(|key| key.to_string()),
            profile: match view.profile {
                Profile::Burst => "burst",
                Profile::Smooth { .. } => "smooth",
                Profile::Strict { .. } => "strict",
            },
            strict_for_now: view.strict,
            limit: view.limit,
            window_s: seconds(view.window),
            span_s: seconds(view.span),
            used: view.used,
            in_hand: view.in_hand,
            next_slot_s: view.next.map(seconds),
            paused: view.held.map(|held| match held {
                Held::ByOmni(left) => PauseStatus { by: "omni", ends_in_s: left.map(seconds) },
                Held::ByOperator(left) => {
                    PauseStatus { by: "operator", ends_in_s: left.map(seconds) }
                }
            }),
            limited_within: within,
            limited_beyond: beyond,
            cells: view.sent.into_iter().map(cell).collect(),
            queue: queue.collect(),
        }
    }

    /// Those of the config, those who have called, and those who wait.
    fn callers_shown(&self, board: &BoardView, waiting: Vec<CallerView>) -> Vec<CallerStatus> {
        let named = |caller: &CallerId| {
            (caller.clone(), CallerStatus { caller: caller.to_string(), ..CallerStatus::default() })
        };
        let mut all: BTreeMap<CallerId, CallerStatus> =
            self.rooms.named.callers.iter().map(named).collect();
        for (caller, tally) in &board.callers {
            let shown = all.entry(caller.clone()).or_insert_with(|| named(caller).1);
            let Tally { calls, sent, saved, refused, failed, calls_ever, .. } = *tally;
            *shown = CallerStatus {
                calls,
                sent,
                saved,
                refused,
                failed,
                longest_wait_s: seconds(tally.longest_wait),
                seen_s: tally.seen.map(seconds),
                calls_ever,
                ..std::mem::take(shown)
            };
        }
        for CallerView { id, waiting } in waiting {
            let shown = all.entry(id.clone()).or_insert_with(|| named(&id).1);
            shown.waiting = waiting.calls;
            shown.oldest_s = waiting.oldest.map(seconds);
        }
        all.into_values().collect()
    }

    fn routes_shown(&self, board: &BoardView) -> Vec<RouteStatus> {
        let tallies: BTreeMap<&RouteId, &Tally> =
            board.routes.iter().map(|(route, tally)| (route, tally)).collect();
        let shown = |(route, keeps): &(RouteId, bool)| {
            let tally = tallies.get(route).map_or_else(Tally::default, |tally| **tally);
            RouteStatus {
                route: route.to_string(),
                keeps: *keeps,
                calls: tally.calls,
                sent: tally.sent,
                saved: tally.saved,
                refused: tally.refused,
                failed: tally.failed,
                mean_wait_s: tally.mean_wait.map(seconds),
                mean_upstream_s: tally.mean_upstream.map(seconds),
                calls_ever: tally.calls_ever,
            }
        };
        self.rooms.named.routes.iter().map(shown).collect()
    }

    fn cache_shown(&self, board: &BoardView) -> CacheStatus {
        let cache = &self.rooms.cache;
        CacheStatus {
            bytes: cache.bytes(),
            max_bytes: cache.settings().max_bytes,
            entries: cache.entries(),
            calls: board.cache.calls,
            saved: board.cache.saved,
            saved_ever: board.cache.saved_ever,
        }
    }

    fn certificates_shown(&self) -> Vec<CertificateStatus> {
        let now = SystemTime::now();
        let left = |end: SystemTime| match end.duration_since(now) {
            Ok(left) => seconds(left),
            Err(ago) => -seconds(ago.duration()),
        };
        let shown = self.certified.iter().map(|(listener, one)| CertificateStatus {
            listener: listener.clone(),
            expires_in_s: left(one.expires()),
        });
        shown.collect()
    }
}

/// What was granted of a budget; the same for each of its keys.
fn admissions(budget: &BudgetId, board: &BoardView) -> Admissions {
    let known = board.budgets.iter().find(|(id, _)| id == budget);
    let none = || -> Admitted { [(); 3].map(|()| vec![0; STEPS]) };
    let [interactive, normal, batch] = known.map_or_else(none, |(_, admitted)| admitted.clone());
    Admissions {
        step_s: u32::try_from(STEP.as_secs()).unwrap_or(u32::MAX),
        into_step_s: seconds(board.into_step),
        interactive,
        normal,
        batch,
    }
}

fn cell(sent: SentView) -> Cell {
    let (caller, priority) = sent.by.map(|by| (by.caller, by.priority)).unzip();
    Cell {
        ago_s: seconds(sent.ago),
        caller: caller.map(|caller| caller.to_string()),
        priority: priority.map(Priority::as_str),
    }
}

fn error(view: ErrorView) -> ErrorStatus {
    ErrorStatus {
        ago_s: seconds(view.ago),
        count: view.count,
        kind: view.kind,
        status: view.status,
        method: view.method,
        route: view.route.map(|route| route.to_string()),
        caller: view.caller.map(|caller| caller.to_string()),
        request_id: view.request_id.to_string(),
        trace_id: view.trace.map(|trace| trace.to_string()),
    }
}

fn off() -> TracesStatus {
    TracesStatus { state: "off", ..TracesStatus::default() }
}

fn export(state: ExportState) -> TracesStatus {
    TracesStatus {
        state: if state.why.is_some() { "failing" } else { "on" },
        endpoint: Some(state.endpoint),
        exported: state.exported,
        failed: state.failed,
        dropped: state.dropped,
        why: state.why,
    }
}

/// Whole milliseconds.
pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

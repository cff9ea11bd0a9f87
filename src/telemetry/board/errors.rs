//! What went wrong, like ones counted together.

use std::time::Duration;

use tokio::time::Instant;

use super::tally::{MINUTES, is_told, slot};
use crate::base::{CallerId, RequestId, RouteId};
use crate::telemetry::TraceId;

/// So many kinds are told.
const MOST: usize = 32;

/// So many of them may have one name, or be the callers' own doing: nobody washes out what
/// happened to others.
const MOST_ALIKE: usize = 12;

/// Errors that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorView {
    /// When the last one ended, ago.
    pub ago: Duration,
    /// How many.
    pub count: u64,
    /// The problem's stable name; `upstream` where that answered with 5xx.
    pub kind: &'static str,
    /// What the caller was answered.
    pub status: u16,
    /// The caller's method; `other` for one that is made up.
    pub method: &'static str,
    /// The route, where it had one.
    pub route: Option<RouteId>,
    /// Who asked, where that was known.
    pub caller: Option<CallerId>,
    /// Of the last one.
    pub request_id: RequestId,
    /// Of the last one, where it had one.
    pub trace: Option<TraceId>,
}

/// What those have in common that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) kind: &'static str,
    pub(super) status: u16,
    pub(super) method: &'static str,
    pub(super) route: Option<usize>,
    pub(super) caller: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Errors {
    /// With room for all of them from the beginning.
    all: Vec<One>,
}

#[derive(Debug)]
struct One {
    kind: Kind,
    minutes: [Minute; MINUTES],
    last: Instant,
    request_id: RequestId,
    trace: Option<TraceId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    number: u32,
    count: u32,
}

impl Default for Errors {
    fn default() -> Self {
        Self { all: Vec::with_capacity(MOST) }
    }
}

impl Errors {
    pub(super) fn add(
        &mut self,
        minute: u32,
        now: Instant,
        kind: Kind,
        request_id: &RequestId,
        trace: Option<TraceId>,
    ) {
        let known = self.all.iter().position(|one| one.kind == kind);
        let at = known.unwrap_or_else(|| {
            let minutes = [Minute::default(); MINUTES];
            let one = One { kind, minutes, last: now, request_id: request_id.clone(), trace };
            match self.makes_room_for(&kind) {
                Some(at) => {
                    self.all[at] = one;
                    at
                }
                None => {
                    self.all.push(one);
                    self.all.len() - 1
                }
            }
        });
        let one = &mut self.all[at];
        if let Some(slot) = slot(&mut one.minutes, minute, |slot| &mut slot.number) {
            slot.count = slot.count.saturating_add(1);
        }
        if now >= one.last {
            (one.last, one.trace) = (now, trace);
            one.request_id.clone_from(request_id);
        }
    }

    /// Which one goes for a new kind; `None` while there is room.
    fn makes_room_for(&self, new: &Kind) -> Option<usize> {
        let oldest = |among: &dyn Fn(&Kind) -> bool, most: usize| {
            let mut those = (0..self.all.len()).filter(|&at| among(&self.all[at].kind));
            let full = those.clone().nth(most - 1).is_some();
            let first = those.next().filter(|_| full)?;
            Some(those.fold(first, |a, b| if self.all[b].last < self.all[a].last { b } else { a }))
        };
        let of_its_name = oldest(&|kind| kind.kind == new.kind, MOST_ALIKE);
        let of_callers = || oldest(&Kind::is_the_callers_doing, MOST_ALIKE);
        of_its_name.or_else(|| of_callers().filter(|_| new.is_the_callers_doing())).or_else(|| {
            // Of whoever has the most of them.
            let of = |whose: Option<usize>| {
                self.all.iter().filter(|one| one.kind.caller == whose).count()
            };
            let most = self.all.iter().map(|one| of(one.kind.caller)).max()?;
            let is_full = self.all.len() >= MOST;
            is_full.then(|| oldest(&|kind| of(kind.caller) == most, 1)).flatten()
        })
    }

    pub(super) fn view(
        &self,
        minute: u32,
        now: Instant,
        caller: impl Fn(usize) -> Option<CallerId>,
        route: impl Fn(usize) -> Option<RouteId>,
    ) -> Vec<ErrorView> {
        let shown = |one: &One| {
            let told = one.minutes.iter().filter(|slot| is_told(slot.number, minute));
            let count = told.map(|slot| u64::from(slot.count)).sum();
            let Kind { kind, status, method, .. } = one.kind;
            (count > 0).then(|| ErrorView {
                ago: now.saturating_duration_since(one.last),
                count,
                kind,
                status,
                method,
                route: one.kind.route.and_then(&route),
                caller: one.kind.caller.and_then(&caller),
                request_id: one.request_id.clone(),
                trace: one.trace,
            })
        };
        let mut all: Vec<ErrorView> = self.all.iter().filter_map(shown).collect();
        all.sort_by_key(|one| one.ago);
        all
    }
}

#[cfg(test)]
impl Errors {
    /// What they take up, with the room that is not used yet.
    pub(super) fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<One>()
    }
}

impl Kind {
    fn is_the_callers_doing(&self) -> bool {
        self.status < 500
    }
}

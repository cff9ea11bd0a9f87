//! The part of the queue that is about the other instances: which calls the store was told of, what it
//! has granted, and what is done while it is lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::base::Priority;
use crate::shape::fleet::call::{GrantId, Report, Sent, SentId, StopTold};
use crate::shape::fleet::handle::{Blocked, OnLost};
use crate::shape::fleet::sharing::{Part, Seen, Sharing};
use crate::shape::line::{Seat, Ticket};
use crate::shape::meter::Meter;
use crate::shape::queue::Queue;

/// For so long after the start nobody acts as if the store were lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// So soon after the store is back every instance has found it, and has told it what it sent: an attempt
/// that fails, the pause after it, one that does not, and getting to know its clock.
const OTHERS: Duration = Duration::from_secs(5);

/// How it stands with the other instances.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(super) on_lost: OnLost,
    pub(super) reach: Reach,
    /// Rung when the store has to be told something now.
    pub(super) bell: Arc<Notify>,
    /// The calls that the store was told of, and the lane's ways that it may choose from.
    pub(super) known: BTreeMap<Ticket, Known>,
    pub(super) credits: Vec<Credit>,
    pub(super) returns: Vec<GrantId>,
    pub(super) reports: Vec<Report>,
    pub(super) stops: Vec<StopTold>,
    /// When the store wants to be asked again.
    pub(super) look: Option<Instant>,
    pub(super) blocked: Option<(Instant, Blocked)>,
    /// The store answers again, and is first told what was sent without it. Until then nothing more is
    /// sent without it: it would not know.
    pub(super) settles: bool,
    /// Until then those who were without the store, too, tell it what they sent meanwhile.
    pub(super) others_until: Option<Instant>,
    /// What was sent while it still counts, the oldest first.
    pub(super) sends: VecDeque<Sent>,
    /// The longest time for which a send counts.
    pub(super) span: Duration,
    pub(super) own_sends: u64,
    pub(super) unshared: u64,
}

/// Whether the store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It has not answered since the start.
    Joining {
        since: Instant,
    },
    Joined,
    Lost {
        since: Instant,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) seat: Seat,
    pub(super) ways: Vec<usize>,
}

/// A grant of the store that nobody has used yet.
#[derive(Clone, Debug)]
pub(super) struct Credit {
    pub(super) paid: GrantId,
    pub(super) ticket: Ticket,
    pub(super) priority: Priority,
    /// What it charges.
    pub(super) meters: Vec<usize>,
    pub(super) expires: Instant,
}

impl Membership {
    pub(crate) fn new(on_lost: OnLost, bell: Arc<Notify>, span: Duration, now: Instant) -> Self {
        Self {
            on_lost,
            reach: Reach::Joining { since: now },
            bell,
            known: BTreeMap::new(),
            credits: Vec::new(),
            returns: Vec::new(),
            reports: Vec::new(),
            stops: Vec::new(),
            look: None,
            blocked: None,
            settles: false,
            others_until: None,
            sends: VecDeque::new(),
            span,
            own_sends: 0,
            unshared: 0,
        }
    }

    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    pub(crate) fn look(&self) -> Option<Instant> {
        self.look.filter(|_| !self.known.is_empty())
    }

    pub(crate) fn blocked(&self, now: Instant) -> Option<(Duration, Blocked)> {
        let (until, why) = self.blocked.filter(|(until, _)| *until > now)?;
        Some((until - now, why))
    }

    pub(crate) fn unshared(&self) -> u64 {
        self.unshared
    }

    /// What was sent lately, to be told to a store that may not know.
    pub(crate) fn sends(&self) -> impl Iterator<Item = &Sent> {
        self.sends.iter()
    }

    /// Whether calls wait for nothing but the store.
    pub(crate) fn holds(&self) -> bool {
        self.on_lost == OnLost::Hold && self.reach != Reach::Joined
    }

    /// Whether anything is ever sent without the store.
    pub(super) fn sends_alone(&self) -> bool {
        self.on_lost != OnLost::Hold
    }

    /// The store answers. Where it was away for so long that others who share may have sent without it,
    /// they need a moment to tell.
    pub(super) fn join(&mut self, now: Instant, shortest_span: Duration) {
        let was_away = match self.reach {
            Reach::Joined => false,
            // Nobody here knows how long it was away before.
            Reach::Joining { since } => now > since + PATIENCE,
            Reach::Lost { since } => now >= since + shortest_span,
        };
        if was_away && matches!(self.on_lost, OnLost::Share { .. }) {
            // After a whole span nothing of it counts any more.
            self.others_until = Some(now + OTHERS.min(self.span));
        }
        (self.reach, self.settles) = (Reach::Joined, false);
    }

    /// An operator has paused or resumed.
    pub(crate) fn stopped(&mut self, stop: StopTold) {
        self.stops.retain(|other| other.budget != stop.budget);
        self.stops.push(stop);
        self.bell.notify_one();
    }

    /// Whether what is paused of this is known better here.
    pub(super) fn tells_stop(&self, budget: Option<&str>) -> bool {
        self.stops.iter().any(|stop| stop.budget.as_deref() == budget)
    }

    pub(crate) fn report(&mut self, report: Report) {
        self.reports.push(report);
        self.bell.notify_one();
    }

    pub(crate) fn give_back(&mut self, paid: GrantId) {
        self.returns.push(paid);
        self.bell.notify_one();
    }

    /// A send has begun.
    pub(crate) fn sent(&mut self, at: Instant, paid: Option<GrantId>, meters: &[usize]) {
        let id = match paid {
            Some(paid) => SentId::Granted(paid),
            None => {
                self.own_sends += 1;
                self.unshared += 1;
                SentId::Own(self.own_sends)
            }
        };
        while self.sends.front().is_some_and(|sent| sent.at + self.span <= at) {
            self.sends.pop_front();
        }
        self.sends.push_back(Sent { id, at, meters: meters.to_vec() });
    }

    /// Grants that charge one of these are not used any more.
    pub(in crate::shape) fn revoke(&mut self, charged: impl Fn(usize) -> bool) {
        let (revoked, kept): (Vec<Credit>, Vec<Credit>) =
            self.credits.drain(..).partition(|one| one.meters.iter().any(|&meter| charged(meter)));
        self.credits = kept;
        self.returns.extend(revoked.iter().map(|one| one.paid));
    }

    /// Whether a refusal by Omni is on its way to the store, which does not know of it yet.
    pub(super) fn knows_better(&self, meter: usize) -> bool {
        self.reports.iter().any(|report| match report {
            Report::Limited { meters, .. } => meters.contains(&meter),
            Report::Taken { .. } | Report::Lost { .. } => false,
        })
    }

    /// Who decides about a meter now.
    fn sharing(&self, meter: &Meter, now: Instant) -> Option<Sharing> {
        let out_since = match self.reach {
            Reach::Joined => {
                let until = self.blocked.map(|(until, _)| until).max(self.others_until);
                let until = until.filter(|until| *until > now);
                return match (&meter.sharing, until) {
                    (Sharing::Store(_), None) => None,
                    (_, None) => Some(Sharing::Store(Seen::default())),
                    (_, Some(until)) => Some(Sharing::Shut(Some(until))),
                };
            }
            Reach::Joining { since } => since + PATIENCE,
            Reach::Lost { since } => since,
        };
        match self.on_lost {
            OnLost::Hold => Some(Sharing::Shut(None)),
            OnLost::Local if now < out_since => Some(Sharing::Shut(Some(out_since))),
            OnLost::Local if self.settles => Some(Sharing::Shut(None)),
            OnLost::Local => Some(Sharing::Nobody),
            OnLost::Share { instances } => {
                let quiet = out_since + meter.schedule.span();
                if now < quiet {
                    return Some(Sharing::Shut(Some(quiet)));
                }
                if matches!(meter.sharing, Sharing::Part(_)) {
                    return None;
                }
                if self.settles {
                    return Some(Sharing::Shut(None));
                }
                let mut part = Part::of(meter.schedule.settings(), instances, now);
                if let (Some(part), Some(until)) = (&mut part, meter.schedule.strict_until()) {
                    part.schedule.turn_strict(now, until);
                }
                Some(part.map_or(Sharing::Shut(None), |part| Sharing::Part(Box::new(part))))
            }
        }
    }

    /// Whether a call has a grant of the store that it waits to use.
    pub(super) fn has(&self, ticket: Ticket) -> bool {
        self.credits.iter().any(|credit| credit.ticket == ticket)
    }

    pub(super) fn knows_row(&self, seat: Seat) -> bool {
        self.known.values().any(|known| known.seat == seat)
    }
}

impl Queue {
    /// Who decides about each budget at this moment.
    pub(in crate::shape) fn tend_sharing(&mut self, now: Instant) {
        let Some(fleet) = &self.fleet else { return };
        for meter in &mut self.meters {
            if let Some(sharing) = fleet.sharing(meter, now) {
                meter.sharing = sharing;
            }
            if let Sharing::Part(part) = &mut meter.sharing {
                part.rests = fleet.settles;
            }
        }
    }
}

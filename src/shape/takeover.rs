//! Hands what an earlier life has sent to the meters that count it.

use std::sync::Arc;

use tokio::time::Instant;

use crate::base::{BudgetId, CredentialId};
use crate::shape::clock::Moment;
use crate::shape::journal::{Journal, Past, Sender, Sent};
use crate::shape::ledger::Stamp;
use crate::shape::meter::Meter;
use crate::shape::schedule::Schedule;
use crate::shape::settings::{BudgetSettings, ColdStart, Key};

/// What is known of the time before this start.
pub(crate) enum Before {
    /// Nothing was ever sent from here, as far as this folder knows.
    FirstStart,
    /// It cannot be told.
    Lost,
    /// These were, and these pauses have not ended.
    Known { sends: Vec<Sent>, pauses: Vec<Sent> },
}

impl Before {
    pub(crate) fn from(past: Past, used_before: bool) -> Self {
        match past {
            Past::Known { sends, pauses } => Self::Known { sends, pauses },
            Past::Unreadable => Self::Lost,
            Past::Nothing if used_before => Self::Lost,
            Past::Nothing => Self::FirstStart,
        }
    }

    pub(crate) fn records(&self) -> usize {
        match self {
            Self::Known { sends, pauses } => sends.len() + pauses.len(),
            Self::FirstStart | Self::Lost => 0,
        }
    }
}

/// A meter before it is one: its budget, and its key where each key has its own.
pub(crate) type Plan = (BudgetSettings, Option<CredentialId>);

pub(crate) struct Takeover<'a> {
    pub(crate) keys: &'a [Key],
    /// All meters, the one that counts longest first.
    pub(crate) plans: &'a [Plan],
    pub(crate) before: Before,
    pub(crate) now: Moment,
    pub(crate) journal: Option<Arc<Journal>>,
    /// Which of the known sends stand in the new journal. One that several meters count must
    /// stand there once: each restart would double it otherwise.
    journaled: Vec<bool>,
}

impl<'a> Takeover<'a> {
    pub(crate) fn new(
        keys: &'a [Key],
        plans: &'a [Plan],
        before: Before,
        now: Moment,
        journal: Option<Arc<Journal>>,
    ) -> Self {
        let journaled = vec![false; before.records()];
        Self { keys, plans, before, now, journal, journaled }
    }

    pub(crate) fn meter(&mut self, (settings, key): &Plan) -> Meter {
        let mut schedule = Schedule::new(settings, self.now.instant);
        schedule.restore(self.stamps(settings, key.as_ref()), self.now.instant);
        let mut meter = Meter::new(settings, key.clone(), schedule);
        if let Before::Known { pauses, .. } = &self.before {
            let mine = pauses.iter().filter(|(_, sender)| {
                counts_against(&settings.id, key.as_ref(), *sender, self.keys, self.plans)
            });
            if let Some(&(until, sender)) = mine.max_by_key(|(until, _)| *until) {
                meter.pause.resume(until);
                if let Some(journal) = &self.journal {
                    journal.pause(&mut meter.pause_slot, until, sender);
                }
            }
        }
        meter
    }

    /// The sends that count against one meter at its start, written to the new journal.
    fn stamps(&mut self, settings: &BudgetSettings, key: Option<&CredentialId>) -> Vec<Stamp> {
        let span = settings.window + settings.guard;
        let limit = settings.limit.get();
        let unseen = Sender::unseen(&settings.id, key);
        let now = &self.now;
        let unknown: Vec<Instant> = match &self.before {
            Before::Known { sends, .. } => {
                let (keys, plans) = (self.keys, self.plans);
                let counts = |at: Instant, sender| {
                    let mine = counts_against(&settings.id, key, sender, keys, plans);
                    mine && at + span > now.instant
                };
                let (journal, journaled) = (self.journal.as_deref(), &mut self.journaled);
                let counted = sends.iter().zip(journaled);
                let counted = counted.filter(|((at, sender), _)| counts(*at, *sender));
                return counted
                    .map(|(&(at, sender), journaled)| {
                        let first = !std::mem::replace(journaled, true);
                        let slot = journal.filter(|_| first).and_then(|j| j.record(at, sender));
                        Stamp { slot, ..Stamp::of_nobody(at) }
                    })
                    .collect();
            }
            Before::Lost => {
                tracing::warn!(budget = %settings.id, shut_for_s = span.as_secs_f64(),
                    "what was sent before this start is not known; nothing is sent for a whole window");
                vec![now.instant; limit as usize]
            }
            Before::FirstStart => match settings.cold_start {
                ColdStart::Trust => Vec::new(),
                ColdStart::Pace => {
                    tracing::info!(budget = %settings.id,
                        "first start: sends begin at pace, since nobody knows what was sent elsewhere");
                    // One slot comes free at once, the next an interval later, and so on.
                    (0..limit).map(|nth| now.before(span - span * nth / limit)).collect()
                }
            },
        };
        let journal = self.journal.as_deref();
        let record = |at| {
            let slot = journal.and_then(|j| j.record(at, unseen));
            Stamp { slot, ..Stamp::of_nobody(at) }
        };
        unknown.into_iter().map(record).collect()
    }
}

/// Whether a send counts here. One whose credential is not configured any more counts against
/// every meter; one that another meter counts to be safe does not.
fn counts_against(
    budget: &BudgetId,
    key: Option<&CredentialId>,
    sender: Sender,
    keys: &[Key],
    plans: &[Plan],
) -> bool {
    if sender == Sender::unseen(budget, key) {
        return true;
    }
    let mut mine = keys.iter().filter(|one| Sender::credential(&one.credential) == sender);
    let mut known = mine.clone();
    if known.next().is_some() {
        return mine.any(|one| {
            one.budgets.contains(budget) && key.is_none_or(|key| *key == one.credential)
        });
    }
    !plans.iter().any(|(other, key)| Sender::unseen(&other.id, key.as_ref()) == sender)
}

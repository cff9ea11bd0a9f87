//! What each caller may have waiting, and how many calls it may make.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::CallerId;
use crate::shape::ledger::{Ledger, Stamp};
use crate::shape::line::CallerIndex;
use crate::shape::refused::Refused;

/// What one caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerRules {
    /// Whose.
    pub id: CallerId,
    /// How many of its calls may wait at once.
    pub max_queued: Option<usize>,
    /// How many calls it may make in which window.
    pub rate: Option<(NonZeroU32, Duration)>,
}

#[derive(Debug, Default)]
pub(crate) struct Callers {
    index: HashMap<CallerId, CallerIndex>,
    all: Vec<Caller>,
}

#[derive(Debug)]
struct Caller {
    rules: CallerRules,
    /// An exact log: a bucket of 30 a minute would admit 59.
    calls: Option<Ledger>,
    queued: usize,
}

impl Callers {
    pub(crate) fn new(rules: Vec<CallerRules>) -> Self {
        let mut callers = Self::default();
        for one in rules {
            callers.add(one);
        }
        callers
    }

    fn add(&mut self, rules: CallerRules) -> CallerIndex {
        let rate = rules.rate;
        let calls = rate.map(|(limit, window)| Ledger::new(limit.get() as usize, window));
        self.index.insert(rules.id.clone(), self.all.len());
        self.all.push(Caller { rules, calls, queued: 0 });
        self.all.len() - 1
    }

    /// The index of a caller; one without rules of its own gets one.
    pub(crate) fn index(&mut self, id: &CallerId) -> CallerIndex {
        match self.index.get(id) {
            Some(&index) => index,
            None => self.add(CallerRules { id: id.clone(), max_queued: None, rate: None }),
        }
    }

    /// Who has this index.
    pub(crate) fn name(&self, index: CallerIndex) -> Option<&CallerId> {
        self.all.get(index).map(|caller| &caller.rules.id)
    }

    /// Counts one more call of the caller, which may make it.
    pub(crate) fn join(&mut self, index: CallerIndex, now: Instant) {
        let caller = &mut self.all[index];
        if let Some(calls) = &mut caller.calls {
            calls.hold();
            calls.stamp(Stamp::of_nobody(now));
        }
        caller.queued += 1;
    }

    /// Whether the caller may make one more call.
    pub(crate) fn may_join(
        &mut self,
        index: CallerIndex,
        now: Instant,
        waits: bool,
        estimate: Duration,
    ) -> Result<(), Refused> {
        let caller = &mut self.all[index];
        let most = caller.rules.max_queued.filter(|most| waits && caller.queued >= *most);
        if most.is_some() {
            let (caller, queued) = (caller.rules.id.clone(), caller.queued);
            return Err(Refused::CallerFull { caller, queued, estimate });
        }
        if let Some(calls) = &mut caller.calls {
            while calls.expire_one(now).is_some() {}
            if calls.is_full(0) {
                let retry_after = calls.frees_at(0).map_or(Duration::ZERO, |at| at - now);
                let caller = caller.rules.id.clone();
                return Err(Refused::CallerLimit { caller, retry_after });
            }
        }
        Ok(())
    }

    /// One of its calls waits again.
    pub(crate) fn rejoin(&mut self, index: CallerIndex) {
        self.all[index].queued += 1;
    }

    /// One of its calls waits no longer.
    pub(crate) fn leave(&mut self, index: CallerIndex) {
        self.all[index].queued -= 1;
    }

    #[cfg(test)]
    pub(crate) fn queued(&self, index: CallerIndex) -> usize {
        self.all[index].queued
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_cap_holds_in_every_window_and_says_when_to_come_again() {
        let id = CallerId::new("nightly");
        let rate = Some((NonZeroU32::new(3).unwrap(), MINUTE));
        let rules = CallerRules { id: id.clone(), max_queued: None, rate };
        let mut callers = Callers::new(vec![rules]);
        let (index, start) = (callers.index(&id), Instant::now());
        for second in [0, 10, 20] {
            let now = start + Duration::from_secs(second);
            callers.may_join(index, now, false, Duration::ZERO).unwrap();
            callers.join(index, now);
        }
        let now = start + Duration::from_secs(45);
        let refused = callers.may_join(index, now, false, Duration::ZERO).unwrap_err();
        let retry_after = Duration::from_secs(15);
        assert_eq!(refused, Refused::CallerLimit { caller: id, retry_after });
        callers.may_join(index, start + MINUTE, false, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_caller_has_so_many_waiting_and_no_more() {
        let id = CallerId::new("nightly");
        let rules = CallerRules { id: id.clone(), max_queued: Some(2), rate: None };
        let mut callers = Callers::new(vec![rules]);
        let (index, now) = (callers.index(&id), Instant::now());
        for _ in 0..2 {
            callers.may_join(index, now, true, MINUTE).unwrap();
            callers.join(index, now);
        }
        let full = callers.may_join(index, now, true, MINUTE);
        assert!(matches!(full, Err(Refused::CallerFull { queued: 2, .. })));
        callers.leave(index);
        callers.may_join(index, now, true, MINUTE).unwrap();
    }
}

//! What became of a grant: begun, given back, taken by Omni, refused by it, or lost.

use std::time::Duration;

use tokio::time::Instant;

use crate::shape::fleet::Report;
use crate::shape::lane::Way;
use crate::shape::ledger::By;
use crate::shape::queue::{Grant, Queue};

impl Queue {
    /// The head of `grant`'s request is handed to the socket.
    pub(crate) fn stamp(&mut self, now: Instant, grant: &Grant) {
        let way = &self.lanes[grant.lane].ways[grant.way];
        let caller = u32::try_from(grant.caller).ok();
        let by = caller.map(|caller| By { caller, priority: grant.priority });
        for (nth, &meter) in way.meters.iter().enumerate() {
            // The one that counts longest keeps the record.
            let slot = grant.slot.filter(|_| nth == 0);
            self.meters[meter].stamp(grant.at, now, slot, by);
        }
        if let Some(fleet) = self.fleet.as_mut().filter(|_| !way.meters.is_empty()) {
            fleet.sent(now, grant.paid, &way.meters);
        }
        if let (Some(journal), Some(slot)) = (&self.journal, grant.slot) {
            journal.correct(slot, now, way.sender);
        }
        // A ledger that was full of permits in hand knows only now when it opens.
        self.advance(now);
    }

    /// `grant`'s send did not begin.
    pub(crate) fn give_back(&mut self, now: Instant, grant: &Grant) {
        for &meter in &self.lanes[grant.lane].ways[grant.way].meters {
            self.meters[meter].give_back(now, grant);
        }
        if let (Some(journal), Some(slot)) = (&self.journal, grant.slot) {
            journal.erase(slot);
        }
        if let (Some(fleet), Some(paid)) = (&mut self.fleet, grant.paid) {
            fleet.give_back(paid);
        }
        self.advance(now);
    }

    /// Omni took the call that `grant` was for: it answered, and not with its limit.
    pub(crate) fn taken(&mut self, now: Instant, grant: &Grant) {
        self.report(grant, |meters, number| Report::Taken { meters, number });
        for &meter in &self.lanes[grant.lane].ways[grant.way].meters {
            self.meters[meter].taken(now, grant.number);
        }
        self.advance(now);
    }

    /// The call that `grant` was for brought no answer.
    pub(crate) fn lost(&mut self, now: Instant, grant: &Grant) {
        self.report(grant, |meters, number| Report::Lost { meters, number });
        for &meter in &self.lanes[grant.lane].ways[grant.way].meters {
            self.meters[meter].pause.lost(now, grant.number);
        }
        self.advance(now);
    }

    /// Omni refused the call that `grant` was for: nobody sends for a while.
    pub(crate) fn refused(
        &mut self,
        now: Instant,
        grant: &Grant,
        retry_after: Option<Duration>,
        jitter: f64,
    ) {
        let Way { meters, sender, .. } = &self.lanes[grant.lane].ways[grant.way];
        for &meter in meters {
            let meter = &mut self.meters[meter];
            meter.refused(now, grant.number, self.grants, retry_after, jitter);
            if let (Some(journal), Some(until)) = (&self.journal, meter.pause.until()) {
                journal.pause(&mut meter.pause_slot, until, *sender);
            }
        }
        let meters = meters.clone();
        if let Some(fleet) = self.fleet.as_mut().filter(|_| !meters.is_empty()) {
            fleet.revoke(|charged| meters.contains(&charged));
            let number = grant.paid.map(|paid| paid.number);
            fleet.report(Report::Limited { meters, number, retry_after, jitter });
        }
        self.advance(now);
    }

    /// Tells the store what became of a send, where it may be waiting to hear: some budget of it is
    /// paused, and this may have been the probe.
    fn report(&mut self, grant: &Grant, what: impl Fn(Vec<usize>, Option<u64>) -> Report) {
        let Some(fleet) = &mut self.fleet else { return };
        let charged = &self.lanes[grant.lane].ways[grant.way].meters;
        let paused = charged.iter().copied().filter(|&meter| self.meters[meter].pause.is_on());
        let paused: Vec<usize> = paused.collect();
        if !paused.is_empty() {
            fleet.report(what(paused, grant.paid.map(|paid| paid.number)));
        }
    }
}

//! What those who wait, and those who come, may expect.

use std::time::Duration;

use tokio::time::Instant;

use crate::shape::lane::Lane;
use crate::shape::line::{Count, LaneIndex, Seat};
use crate::shape::queue::Queue;

impl Queue {
    pub(super) fn lower_bound(&self, seat: Seat, ahead: usize, now: Instant) -> Instant {
        let lane = &self.lanes[seat.lane];
        let bound = lane.lower_bound(&self.meters, ahead, now, seat.priority);
        self.stop.until().map_or(bound, |until| bound.max(until))
    }

    pub(super) fn lane_estimate(&self, seat: Seat, ahead: usize, now: Instant) -> Duration {
        let from = self.stop.expected_end(now);
        self.lanes[seat.lane].estimate(&self.meters, ahead, from, seat.priority) - now
    }

    /// How many calls wait for a lane that charges this meter, by priority.
    pub(crate) fn queued(&self, meter: usize) -> usize {
        let charges = |lane: &Lane| lane.ways.iter().any(|way| way.meters.contains(&meter));
        self.lanes.iter().filter(|lane| charges(lane)).map(|lane| lane.queued).sum()
    }

    /// Whether nobody sends who comes by this lane: Omni said that it is too much, or somebody has
    /// paused it by hand.
    pub(crate) fn is_paused(&self, lane: LaneIndex, now: Instant) -> bool {
        let one = &self.lanes[lane];
        one.is_paused(&self.meters, now) || (!one.all_out() && self.stop.holds(now))
    }

    /// How many calls of this kind could go at once, and when one that comes now would go.
    pub(crate) fn outlook(&self, seat: Seat, now: Instant) -> (usize, Duration) {
        let rank = self.line.rank_of_next(seat, Count::Expected);
        let free = match self.stop.holds(now) {
            true => 0,
            false => self.lanes[seat.lane].free(&self.meters, now, seat.priority),
        };
        (free.saturating_sub(rank), self.lane_estimate(seat, rank, now))
    }
}

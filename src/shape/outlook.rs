//! What those who wait, and those who come, may expect.

use std::time::Duration;

use tokio::time::Instant;

use crate::shape::lane::Lane;
use crate::shape::line::{Count, Seat};
use crate::shape::queue::Queue;

impl Queue {
    pub(super) fn lower_bound(&self, seat: Seat, ahead: usize, now: Instant) -> Instant {
        self.lanes[seat.lane].lower_bound(&self.meters, ahead, now, seat.priority)
    }

    pub(super) fn lane_estimate(&self, seat: Seat, ahead: usize, now: Instant) -> Duration {
        self.lanes[seat.lane].estimate(&self.meters, ahead, now, seat.priority) - now
    }

    /// How many calls wait for a lane that charges this meter, by priority.
    pub(crate) fn queued(&self, meter: usize) -> usize {
        let charges = |lane: &Lane| lane.ways.iter().any(|way| way.meters.contains(&meter));
        self.lanes.iter().filter(|lane| charges(lane)).map(|lane| lane.queued).sum()
    }

    /// How many calls of this kind could go at once, and when one that comes now would go.
    pub(crate) fn outlook(&self, seat: Seat, now: Instant) -> (usize, Duration) {
        let rank = self.line.rank_of_next(seat, Count::Expected);
        let free = self.lanes[seat.lane].free(&self.meters, now, seat.priority);
        (free.saturating_sub(rank), self.lane_estimate(seat, rank, now))
    }
}

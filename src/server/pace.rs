//! Whether a peer keeps pace, told by the time that was spent waiting for it alone.

use std::time::Duration;

use tokio::time::Instant;

/// Of how much waiting the rate is taken, at least.
const SPAN: Duration = Duration::from_secs(30);

/// What is asked of the peer while it is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// How long it may bring, or take, nothing at all.
    silence: Duration,
    /// How many bytes a second it must move on average; 0 for any number.
    pub(super) rate: u64,
    /// Of how much waiting.
    span: Duration,
}

impl Demand {
    /// Of whoever sends us bytes.
    pub(super) fn of_a_sender(silence: Duration, rate: u64) -> Self {
        Self { silence, rate, span: SPAN }
    }

    /// Of whoever takes them from us: the rate never cuts off a silence that is allowed, since bytes
    /// that went before it are gone from sight in the kernel.
    pub(super) fn of_a_taker(silence: Duration, rate: u64) -> Self {
        Self { silence, rate, span: silence.max(SPAN) }
    }

    fn bytes(&self) -> u64 {
        self.rate.saturating_mul(self.span.as_secs())
    }
}

/// How a peer failed to keep pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It moved nothing.
    Silent,
    /// It moved too little.
    Trickle,
}

/// How fast bytes come, or go.
///
/// The rate is taken anew of each span: else whoever moved much at first could trickle for days.
#[derive(Debug)]
pub(super) struct Pace {
    demand: Demand,
    /// Since when the peer is waited for, if it is.
    since: Option<Instant>,
    /// Waiting that is over, and the bytes that moved, in this span.
    waited: Duration,
    moved: u64,
    /// Waiting that is over, in all.
    in_all: Duration,
}

impl Pace {
    pub(super) fn new(demand: Demand) -> Self {
        let (waited, in_all) = (Duration::ZERO, Duration::ZERO);
        Self { demand, since: None, waited, moved: 0, in_all }
    }

    /// The peer is waited for.
    pub(super) fn wait(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// This many bytes moved. Says whether they had been waited for.
    pub(super) fn moved(&mut self, bytes: usize) -> bool {
        if bytes == 0 {
            return false;
        }
        self.moved = self.moved.saturating_add(bytes as u64);
        self.rest()
    }

    /// The peer is no longer waited for. Says whether it was.
    pub(super) fn rest(&mut self) -> bool {
        let Some(since) = self.since.take() else { return false };
        let waited = since.elapsed();
        self.waited = self.waited.saturating_add(waited);
        self.in_all = self.in_all.saturating_add(waited);
        // Short of bytes it stays over the span, and the next wait ends at once.
        if self.waited >= self.demand.span && self.moved >= self.demand.bytes() {
            self.waited = Duration::ZERO;
            self.moved = 0;
        }
        true
    }

    /// Whether the peer is waited for.
    pub(super) fn waits(&self) -> bool {
        self.since.is_some()
    }

    /// How long the peer was waited for, in all.
    pub(super) fn waited(&self) -> Duration {
        self.in_all.saturating_add(self.since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// When the peer is too slow if nothing moves until then, and how; `None` while it is not waited
    /// for.
    pub(super) fn due(&self) -> Option<(Instant, Fault)> {
        let since = self.since?;
        let silent = since.checked_add(self.demand.silence).map(|due| (due, Fault::Silent));
        let short = self.moved < self.demand.bytes();
        let left = self.demand.span.saturating_sub(self.waited);
        let trickle = short.then(|| since.checked_add(left)).flatten();
        let trickle = trickle.map(|due| (due, Fault::Trickle));
        match (silent, trickle) {
            (Some(silent), Some(trickle)) if trickle.0 < silent.0 => Some(trickle),
            (Some(silent), _) => Some(silent),
            (None, trickle) => trickle,
        }
    }
}

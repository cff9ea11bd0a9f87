//! What arrived at Omni, beside what was asked of the gateways: the judgement.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::crowd::Call;
use crate::harness::omni::Stall;
use crate::harness::{Fleet, GUARD, LIMIT, SPAN, WINDOW, figure};

/// An arrival that is so near to a stall that is so long is seen at no certain time.
const NEAR: Duration = Duration::from_millis(20);

/// An inversion that is so long is shown, and how many of them.
const LONG: Duration = Duration::from_millis(50);
const SHOWN: usize = 20;

/// One send that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) at: Instant,
    /// The call that it was for; none where nobody here made it.
    pub(crate) call: Option<Call>,
}

/// All that arrived so far, in order.
pub(crate) struct Seen {
    pub(crate) arrived: Vec<Arrived>,
    pub(crate) calls: Vec<Call>,
    /// When the judge was not there.
    stalls: Vec<Stall>,
}

impl Seen {
    pub(crate) fn by(fleet: &Fleet) -> Self {
        let calls = fleet.calls.all();
        let call = |target: String| {
            let number: usize = target.rsplit_once("serial=")?.1.parse().ok()?;
            calls.get(number).cloned()
        };
        let all = fleet.omni.fake.arrivals().into_iter();
        let arrived =
            all.map(|one| Arrived { at: one.at, call: call(one.target.to_string()) }).collect();
        Self { arrived, calls, stalls: fleet.omni.stalls() }
    }

    /// The most arrivals in any half-open rolling window.
    pub(crate) fn worst_window(&self) -> usize {
        self.worst(&[])
    }

    /// The most arrivals in any window that was not within one of these times.
    fn worst(&self, gone: &[Stall]) -> usize {
        let mut first = 0;
        let mut worst = 0;
        for (last, arrived) in self.arrived.iter().enumerate() {
            while arrived.at - self.arrived[first].at >= WINDOW {
                first += 1;
            }
            let start = self.arrived[first].at;
            if !gone.iter().any(|gone| gone.start <= arrived.at && gone.end >= start) {
                worst = worst.max(last + 1 - first);
            }
        }
        worst
    }

    /// Fails where more than `most` arrived in some window; shows the worst one.
    ///
    /// There is no judgement of a window in which this machine held the judge up for as long as half of
    /// the guard: what was sent before it is seen too late.
    pub(crate) fn at_most(&self, most: usize, what: &str) {
        let long = |stall: &Stall| stall.end - stall.start >= GUARD / 2;
        let gone: Vec<_> = self.stalls.iter().copied().filter(long).collect();
        let longest = self.stalls.iter().map(|stall| stall.end - stall.start).max();
        let judged = self.worst(&gone);
        figure(format!(
            "{what}: worst window {} of {most} ({judged} where the judge saw all; it was away {} times, \
             for {} ms at most)",
            self.worst_window(),
            gone.len(),
            longest.unwrap_or_default().as_millis()
        ));
        assert!(judged <= most, "{what}: {judged} arrivals in a window\n{}", self.timeline());
    }

    /// As [`at_most`](Self::at_most), for the limit.
    pub(crate) fn within_the_limit(&self, what: &str) {
        self.at_most(LIMIT, what);
    }

    /// When each arrived, in milliseconds, and from which instance.
    fn timeline(&self) -> String {
        let start = self.arrived.first().map(|one| one.at);
        let one = |arrived: &Arrived| {
            let after = start.map_or(0, |start| (arrived.at - start).as_millis());
            let seat = arrived.call.as_ref().map_or("?".to_owned(), |call| call.seat.to_string());
            format!("{after}:{seat}")
        };
        self.arrived.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// How many arrived between two moments.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> usize {
        self.arrived.iter().filter(|one| (from..to).contains(&one.at)).count()
    }

    /// What arrived between two moments, as a share of what may.
    pub(crate) fn throughput(&self, from: Instant, to: Instant) -> f64 {
        let most = (to - from).as_secs_f64() / SPAN.as_secs_f64() * LIMIT as f64;
        self.between(from, to) as f64 / most
    }

    /// The longest time in which nothing arrived, between two moments.
    pub(crate) fn longest_silence(&self, from: Instant, to: Instant) -> Duration {
        let inside = self.arrived.iter().map(|one| one.at).filter(|at| (from..to).contains(at));
        let moments: Vec<_> = [from].into_iter().chain(inside).chain([to]).collect();
        moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// How long those of this name waited for their turns, sorted, in seconds, of what was sent from
    /// `from` on.
    pub(crate) fn waits(&self, name: &str, from: Instant) -> Waits {
        let of = |call: &Call| call.name == name && call.sent >= from;
        Waits::of(self.arrived.iter().filter_map(|one| {
            let call = one.call.as_ref().filter(|call| of(call))?;
            Some(one.at.saturating_duration_since(call.sent).as_secs_f64())
        }))
    }

    /// By how much each call overtook one of another instance that had come earlier, among those of
    /// one name and sent from `from` on. Without those that came or went while this machine held the
    /// judge up: nobody knows then who came first.
    pub(crate) fn inversions(&self, name: &str, from: Instant) -> Waits {
        let known = |at: Instant| {
            let near = |stall: &&Stall| stall.start <= at + NEAR && stall.end + NEAR >= at;
            !self.stalls.iter().filter(|stall| stall.end - stall.start >= NEAR).any(|it| near(&it))
        };
        let all = self.arrived.iter().filter_map(|one| Some((one.at, one.call.as_ref()?)));
        let all: Vec<_> = all.filter(|(_, call)| call.name == name && call.sent >= from).collect();
        let seats = all.iter().map(|(_, call)| call.seat + 1).max().unwrap_or(0);
        // For each instance, the earliest of its calls that arrived later than the one looked at.
        let mut earliest: Vec<Option<Instant>> = vec![None; seats];
        let (mut by, mut shown) = (Vec::new(), 0);
        for (at, call) in all.into_iter().rev() {
            if !known(at) || !known(call.sent) {
                continue;
            }
            let others = earliest.iter().enumerate().filter(|(seat, _)| *seat != call.seat);
            let overtaken = others.filter_map(|(seat, sent)| Some(((*sent)?, seat))).min();
            let late = overtaken
                .map_or(Duration::ZERO, |(sent, _)| call.sent.saturating_duration_since(sent));
            if let Some((_, seat)) = overtaken.filter(|_| late > LONG && shown < SHOWN) {
                shown += 1;
                figure(format!(
                    "{:.1} s after the start, instance {} overtook {seat} by {} ms; silence before \
                     that of {} ms",
                    (at - from).as_secs_f64(),
                    call.seat,
                    late.as_millis(),
                    self.longest_silence(at - SPAN / 4, at).as_millis()
                ));
            }
            by.push(late.as_secs_f64());
            let own = &mut earliest[call.seat];
            *own = Some(own.map_or(call.sent, |sent| sent.min(call.sent)));
        }
        Waits::of(by.into_iter())
    }

    /// How many calls from `from` on were answered with this status.
    pub(crate) fn ended(&self, status: u16, from: Instant) -> usize {
        self.ends(from).filter(|seen| *seen == Some(status)).count()
    }

    /// How many ended with another status, or without an answer.
    pub(crate) fn ended_otherwise(&self, statuses: &[u16], from: Instant) -> usize {
        self.ends(from).filter(|seen| !seen.is_some_and(|seen| statuses.contains(&seen))).count()
    }

    fn ends(&self, from: Instant) -> impl Iterator<Item = Option<u16>> {
        let calls = self.calls.iter().filter(move |call| call.sent >= from);
        calls.filter_map(|call| call.ended).map(|(_, status)| status.map(|status| status.as_u16()))
    }
}

/// Times, sorted, in seconds.
#[derive(Clone, Debug)]
pub(crate) struct Waits(Vec<f64>);

impl Waits {
    pub(crate) fn of(all: impl Iterator<Item = f64>) -> Self {
        let mut all: Vec<_> = all.collect();
        all.sort_by(f64::total_cmp);
        Self(all)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// How many were longer.
    pub(crate) fn above(&self, milliseconds: f64) -> usize {
        self.0.iter().filter(|wait| **wait * 1e3 > milliseconds).count()
    }

    /// Milliseconds that so great a share of all does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let last = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(last.max(1) - 1).map_or(0.0, |wait| wait * 1e3)
    }

    /// Milliseconds on average.
    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64 * 1e3
    }
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99, worst] = [0.5, 0.99, 1.0].map(|share| self.quantile(share));
        write!(
            f,
            "mean {:.1} ms, p50 {p50:.1}, p99 {p99:.1}, worst {worst:.1} ({} calls)",
            self.mean(),
            self.count()
        )
    }
}

//! The limit, by each of the algorithms that Omni may use. Pure: time comes in as a value.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// A way to count requests against a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Windows that start at whole multiples of the window since the instance was built.
    FixedAligned,
    /// A window starts with the first request after the last one ended.
    FixedFromFirst,
    /// The times of admitted requests.
    SlidingLog,
    /// The times of all requests, so that retrying prolongs a block.
    SlidingLogCountingRefusals,
    /// The last aligned window, weighted by how much of it is still in view, plus this one.
    /// A request is refused when what was admitted before it already weighs as much as the limit.
    WeightedTwoWindow,
    /// `limit` tokens, refilled evenly over the window.
    TokenBucket,
    /// An estimate that looks at its own times and counts refusals, as AWS WAF describes its own.
    ///
    /// Every twelfth of a window it adds up the requests of the last window. One counts whole
    /// while it is younger than half a window and for less with age, down to one half. Above
    /// the limit everything is blocked, until two looks in a row are not above it. Traffic can
    /// thus be too fast between two looks, and a block outlasts its cause.
    WafEstimate,
    /// No limit.
    Off,
}

impl Algorithm {
    /// Every algorithm that limits.
    pub const ALL: [Self; 7] = [
        Self::FixedAligned,
        Self::FixedFromFirst,
        Self::SlidingLog,
        Self::SlidingLogCountingRefusals,
        Self::WeightedTwoWindow,
        Self::TokenBucket,
        Self::WafEstimate,
    ];
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::FixedAligned => "fixed window, aligned",
            Self::FixedFromFirst => "fixed window from the first hit",
            Self::SlidingLog => "sliding log",
            Self::SlidingLogCountingRefusals => "sliding log counting refusals",
            Self::WeightedTwoWindow => "weighted two-window counter",
            Self::TokenBucket => "token bucket",
            Self::WafEstimate => "WAF-like estimate",
            Self::Off => "off",
        })
    }
}

/// So many requests in a window, counted in some way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    algorithm: Algorithm,
    limit: u32,
    window: Duration,
}

impl Limit {
    /// A limit of `limit` requests per `window`. A window below 1 µs is taken as 1 µs.
    pub fn new(algorithm: Algorithm, limit: u32, window: Duration) -> Self {
        Self { algorithm, limit, window: window.max(Duration::from_micros(1)) }
    }

    /// Omni's documented 60 a minute.
    pub fn sixty_a_minute(algorithm: Algorithm) -> Self {
        Self::new(algorithm, 60, Duration::from_secs(60))
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self::sixty_a_minute(Algorithm::SlidingLog)
    }
}

/// The count of one key's requests.
#[derive(Clone, Debug)]
pub struct Meter {
    limit: u64,
    window: Duration,
    epoch: Instant,
    count: Count,
}

#[derive(Clone, Debug)]
enum Count {
    Off,
    Aligned { index: u128, current: u64 },
    FromFirst { start: Instant, current: u64 },
    Log { times: VecDeque<Instant>, refusals_count: bool },
    Weighted { index: u128, last: u64, current: u64 },
    Bucket { level: u128, at: Instant },
    Waf(Waf),
}

#[derive(Clone, Debug)]
struct Waf {
    times: VecDeque<Instant>,
    looks: u128,
    blocked: bool,
    calm: u8,
}

/// How often the WAF-like estimate looks in one window.
const LOOKS: u32 = 12;

impl Meter {
    /// Starts at zero. `epoch` is where aligned windows and the looks of the estimate begin.
    pub fn new(limit: Limit, epoch: Instant) -> Self {
        let Limit { algorithm, limit, window } = limit;
        let count = match algorithm {
            Algorithm::Off => Count::Off,
            Algorithm::FixedAligned => Count::Aligned { index: 0, current: 0 },
            Algorithm::FixedFromFirst => Count::FromFirst { start: epoch, current: 0 },
            Algorithm::SlidingLog => Count::Log { times: VecDeque::new(), refusals_count: false },
            Algorithm::SlidingLogCountingRefusals => {
                Count::Log { times: VecDeque::new(), refusals_count: true }
            }
            Algorithm::WeightedTwoWindow => Count::Weighted { index: 0, last: 0, current: 0 },
            Algorithm::TokenBucket => {
                Count::Bucket { level: u128::from(limit) * window.as_nanos(), at: epoch }
            }
            Algorithm::WafEstimate => {
                Count::Waf(Waf { times: VecDeque::new(), looks: 0, blocked: false, calm: 0 })
            }
        };
        Self { limit: u64::from(limit), window, epoch, count }
    }

    /// Counts a request that arrives `now` and says whether it passes.
    ///
    /// `now` must not go back from call to call.
    pub fn admit(&mut self, now: Instant) -> bool {
        let limit = self.limit;
        let width = self.window.as_nanos();
        let since = now.saturating_duration_since(self.epoch).as_nanos();
        match &mut self.count {
            Count::Off => true,
            Count::Aligned { index, current } => {
                if since / width != *index {
                    (*index, *current) = (since / width, 0);
                }
                take(current, limit)
            }
            Count::FromFirst { start, current } => {
                if *current == 0 || now.duration_since(*start) >= self.window {
                    (*start, *current) = (now, 0);
                }
                take(current, limit)
            }
            Count::Log { times, refusals_count } => {
                forget_older(times, now, self.window);
                let passes = (times.len() as u64) < limit;
                if passes || *refusals_count {
                    times.push_back(now);
                }
                passes
            }
            Count::Weighted { index, last, current } => {
                let here = since / width;
                if here != *index {
                    *last = if here == *index + 1 { *current } else { 0 };
                    (*index, *current) = (here, 0);
                }
                let in_view = u128::from(*last) * (width - since % width);
                let seen = in_view + u128::from(*current) * width;
                let passes = seen < u128::from(limit) * width;
                *current += u64::from(passes);
                passes
            }
            // The level is kept in tokens times the window in nanoseconds, so that it is exact.
            Count::Bucket { level, at } => {
                let refill = now.duration_since(*at).as_nanos() * u128::from(limit);
                *level = (*level + refill).min(u128::from(limit) * width);
                *at = now;
                let passes = *level >= width;
                *level -= if passes { width } else { 0 };
                passes
            }
            Count::Waf(waf) => {
                waf.look_until(now, self.epoch, self.window, limit);
                waf.times.push_back(now);
                !waf.blocked
            }
        }
    }
}

/// Counts one more when there is room.
fn take(current: &mut u64, limit: u64) -> bool {
    let passes = *current < limit;
    *current += u64::from(passes);
    passes
}

/// Drops what is a window old or older: the window is half-open.
fn forget_older(times: &mut VecDeque<Instant>, now: Instant, window: Duration) {
    while times.front().is_some_and(|&at| now.duration_since(at) >= window) {
        times.pop_front();
    }
}

impl Waf {
    /// Takes every look that was due until `now`.
    fn look_until(&mut self, now: Instant, epoch: Instant, window: Duration, limit: u64) {
        let every = (window / LOOKS).max(Duration::from_nanos(1));
        let due = now.saturating_duration_since(epoch).as_nanos() / every.as_nanos();
        // After a window without requests the estimate is nil: two looks more settle everything.
        let enough = u128::from(LOOKS) + 3;
        let settled = self.looks + enough < due;
        let last = if settled { self.looks + enough } else { due };
        while self.looks < last {
            self.looks += 1;
            let age =
                now.saturating_duration_since(epoch).as_nanos() - self.looks * every.as_nanos();
            let then = now - Duration::from_nanos(u64::try_from(age).unwrap_or(u64::MAX));
            forget_older(&mut self.times, then, window);
            let above = self.estimate(then, window) > u128::from(limit) * 2 * window.as_nanos();
            self.calm = if above { 0 } else { self.calm.saturating_add(1) };
            self.blocked = above || (self.blocked && self.calm < 2);
        }
        self.looks = due;
    }

    /// The weighted sum at `then`, times twice the window in nanoseconds, so that it is exact.
    fn estimate(&self, then: Instant, window: Duration) -> u128 {
        let width = window.as_nanos();
        let weight = |&at: &Instant| {
            let age = then.saturating_duration_since(at).as_nanos();
            // From 1 at half a window down to 1/2 at a whole one.
            2 * width - (2 * age).saturating_sub(width)
        };
        self.times.iter().map(weight).sum()
    }
}

/// The meters of all `Authorization` values.
pub(super) struct Gate {
    limit: Limit,
    epoch: Instant,
    meters: HashMap<Vec<u8>, Meter>,
}

impl Gate {
    pub(super) fn new(limit: Limit, epoch: Instant) -> Self {
        Self { limit, epoch, meters: HashMap::new() }
    }

    /// Counts a request with these exact `Authorization` bytes; one without any is not limited.
    pub(super) fn admit(&mut self, authorization: Option<&[u8]>, now: Instant) -> bool {
        let Some(value) = authorization else { return true };
        if let Some(meter) = self.meters.get_mut(value) {
            return meter.admit(now);
        }
        let mut meter = Meter::new(self.limit, self.epoch);
        let passes = meter.admit(now);
        self.meters.insert(value.to_vec(), meter);
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Sends the given times, in milliseconds since the epoch, and tells which passed.
    fn passed(algorithm: Algorithm, limit: u32, times: &[u64]) -> Vec<bool> {
        let epoch = Instant::now();
        let mut meter = Meter::new(Limit::new(algorithm, limit, MINUTE), epoch);
        times.iter().map(|&ms| meter.admit(epoch + Duration::from_millis(ms))).collect()
    }

    fn refused(algorithm: Algorithm, limit: u32, times: &[u64]) -> usize {
        passed(algorithm, limit, times).iter().filter(|passes| !**passes).count()
    }

    #[test]
    fn an_aligned_window_forgets_at_its_boundary_and_not_before() {
        let times = [59_000, 59_001, 59_999, 60_000, 60_001, 60_002];
        let expected = [true, true, false, true, true, false];
        assert_eq!(passed(Algorithm::FixedAligned, 2, &times), expected);
    }

    #[test]
    fn a_window_from_the_first_hit_starts_with_a_request() {
        let times = [59_000, 60_000, 118_999, 119_000, 119_001, 119_002];
        let expected = [true, true, false, true, true, false];
        assert_eq!(passed(Algorithm::FixedFromFirst, 2, &times), expected);
    }

    #[test]
    fn a_sliding_log_frees_a_place_exactly_a_window_later() {
        let times = [0, 30_000, 59_999, 60_000, 60_001, 90_000];
        let expected = [true, true, false, true, false, true];
        assert_eq!(passed(Algorithm::SlidingLog, 2, &times), expected);
    }

    #[test]
    fn a_log_that_counts_refusals_never_admits_one_who_keeps_asking() {
        let times: Vec<u64> = (0..20).map(|n| n * 10_000).collect();
        let seen = passed(Algorithm::SlidingLogCountingRefusals, 2, &times);
        assert_eq!(seen.iter().filter(|passes| **passes).count(), 2);
        let patient = [0, 1, 60_001, 60_002, 60_003];
        let expected = [true, true, true, true, false];
        assert_eq!(passed(Algorithm::SlidingLogCountingRefusals, 2, &patient), expected);
    }

    #[test]
    fn the_weighted_counter_remembers_the_last_window_in_part() {
        // 4 in the first window; half way through the second, 2 of them are still in view.
        let times = [0, 0, 0, 0, 60_000, 75_000, 90_000, 90_001, 90_002];
        let expected = [true, true, true, true, false, true, true, true, false];
        assert_eq!(passed(Algorithm::WeightedTwoWindow, 4, &times), expected);
        assert_eq!(refused(Algorithm::WeightedTwoWindow, 4, &[0, 0, 0, 0, 120_000, 120_000]), 0);
    }

    #[test]
    fn a_bucket_gives_a_token_exactly_when_it_is_whole() {
        let times = [0, 0, 0, 29_999, 30_000, 30_001, 300_000, 300_000, 300_000];
        let expected = [true, true, false, false, true, false, true, true, false];
        assert_eq!(passed(Algorithm::TokenBucket, 2, &times), expected);
    }

    #[test]
    fn the_estimate_lets_a_burst_pass_until_it_looks() {
        let burst = vec![1; 159];
        assert_eq!(refused(Algorithm::WafEstimate, 10, &burst), 0);
        let mut times = burst;
        times.extend([4_999, 5_000, 59_999]);
        let seen = passed(Algorithm::WafEstimate, 10, &times);
        assert_eq!(seen[159..], [true, false, false]);
    }

    #[test]
    fn the_estimates_block_outlasts_the_burst_and_ends() {
        let mut times = vec![1; 61];
        times.extend([59_000, 64_999, 65_000, 70_000]);
        // The burst weighs 61 at 30 s and 55.9 at 35 s; the second calm look is at 40 s.
        let seen = passed(Algorithm::WafEstimate, 60, &times);
        assert_eq!(seen[61..], [true, true, true, true]);
        let mut times = vec![1; 61];
        times.extend([39_999, 40_000]);
        let seen = passed(Algorithm::WafEstimate, 60, &times);
        assert_eq!(seen[61..], [false, true]);
    }

    #[test]
    fn the_estimate_counts_refusals() {
        let times: Vec<u64> = (0..600).map(|n| n * 500).collect();
        let seen = passed(Algorithm::WafEstimate, 60, &times);
        assert!(seen[200..].iter().all(|passes| !passes), "120 a minute stays blocked");
    }

    #[test]
    fn after_a_day_of_silence_the_estimate_starts_afresh() {
        let mut times = vec![1; 200];
        times.push(86_400_000);
        assert!(passed(Algorithm::WafEstimate, 60, &times)[200]);
    }

    #[test]
    fn sixty_evenly_spread_over_sixty_one_seconds_pass_everywhere() {
        let times: Vec<u64> = (0..1_000).map(|n| n * 61_000 / 60).collect();
        for algorithm in Algorithm::ALL {
            assert_eq!(refused(algorithm, 60, &times), 0, "{algorithm}");
        }
        assert_eq!(refused(Algorithm::Off, 0, &times), 0);
    }

    #[test]
    fn eighty_a_minute_are_refused_everywhere() {
        let times: Vec<u64> = (0..1_000).map(|n| n * 60_000 / 80).collect();
        for algorithm in Algorithm::ALL {
            assert!(refused(algorithm, 60, &times) > 100, "{algorithm}");
        }
    }

    #[test]
    fn each_authorization_value_has_its_own_limit() {
        let now = Instant::now();
        let mut gate = Gate::new(Limit::new(Algorithm::SlidingLog, 1, MINUTE), now);
        assert!(gate.admit(Some(b"Bearer a"), now));
        assert!(!gate.admit(Some(b"Bearer a"), now));
        assert!(gate.admit(Some(b"Bearer  a"), now), "another byte, another count");
        assert!(gate.admit(None, now) && gate.admit(None, now));
    }
}

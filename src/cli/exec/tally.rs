//! What became of the calls, as their answers tell it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::cli::exec::fields::{Budget, Said};

/// The window that counts while no answer has named one.
const MINUTE: Duration = Duration::from_secs(60);

/// Counts calls. Clones of the `Arc` are the same tally.
#[derive(Debug)]
pub(super) struct Tally(Mutex<Book>);

#[derive(Debug)]
struct Book {
    begun_at: Instant,
    counts: Counts,
    /// In milliseconds, of the calls that were told how long they waited.
    waits: Vec<u32>,
    /// When calls were sent to Omni, within the last window.
    sends: VecDeque<Instant>,
    budget: Option<Seen>,
}

/// A budget, and when it was shown so.
#[derive(Clone, Copy, Debug)]
struct Seen {
    budget: Budget,
    at: Instant,
    /// Calls that had begun by then.
    begun: u64,
}

/// How many calls there were of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// All that the program made.
    pub(super) calls: u64,
    /// Those that have no answer yet.
    pub(super) waiting: u64,
    /// Answers by status, those of the gateway too.
    pub(super) answered: BTreeMap<u16, u64>,
    /// Answers that cost nothing: kept ones, and those of another call's request.
    pub(super) from_cache: u64,
    /// Calls that Omni answered.
    pub(super) sent: u64,
    /// Answers of the gateway's own, by why.
    pub(super) refused: BTreeMap<String, u64>,
    /// Calls that could not be brought to the gateway, or that it did not answer.
    pub(super) failed: u64,
    /// Answers that broke off.
    pub(super) cut: u64,
    /// Calls that the program itself gave up before they were answered.
    pub(super) left: u64,
    /// Answers that it did not read to their end.
    pub(super) left_midway: u64,
    /// Calls that were not the program's, or not to be believed that they were.
    pub(super) turned_away: u64,
}

/// What there is to say while the program runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Glance {
    pub(super) counts: Counts,
    pub(super) window: Option<Window>,
    /// When the last of those that wait will presumably have been sent; nothing where that is not known.
    pub(super) eta: Option<Duration>,
}

/// How much of a budget the program has used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    /// What answers said last.
    pub(super) budget: Budget,
    /// Calls of the program that were sent within the last window.
    pub(super) sent: u64,
}

/// What there is to say at the end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figures {
    pub(super) counts: Counts,
    pub(super) window: Option<Window>,
    pub(super) took: Duration,
    pub(super) waits: Option<Waits>,
}

/// How long calls waited for their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) calls: usize,
    pub(super) median: Duration,
    pub(super) longest: Duration,
}

/// One call, from its beginning to the end of its answer.
#[derive(Debug)]
pub(super) struct Call {
    tally: Arc<Tally>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Receiving,
    Over,
}

impl Tally {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Book {
            begun_at: Instant::now(),
            counts: Counts::default(),
            waits: Vec::new(),
            sends: VecDeque::new(),
            budget: None,
        })))
    }

    /// The program made a call.
    pub(super) fn begin(self: &Arc<Self>) -> Call {
        let mut book = self.book();
        book.counts.calls += 1;
        book.counts.waiting += 1;
        Call { tally: Arc::clone(self), stage: Stage::Waiting }
    }

    /// Somebody else made one.
    pub(super) fn turned_away(&self) {
        self.book().counts.turned_away += 1;
    }

    /// Whether there is anything to say.
    pub(super) fn has_calls(&self) -> bool {
        self.book().counts.calls > 0
    }

    pub(super) fn glance(&self) -> Glance {
        let now = Instant::now();
        let mut book = self.book();
        Glance { window: book.window(now), eta: book.eta(now), counts: book.counts.clone() }
    }

    pub(super) fn figures(&self) -> Figures {
        let now = Instant::now();
        let mut book = self.book();
        Figures {
            counts: book.counts.clone(),
            window: book.window(now),
            took: now - book.begun_at,
            waits: Waits::of(&book.waits),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn answered(&mut self, status: StatusCode, said: Said, now: Instant) {
        let counts = &mut self.counts;
        counts.waiting -= 1;
        *counts.answered.entry(status.as_u16()).or_default() += 1;
        counts.from_cache += u64::from(said.spared);
        if let Some(refusal) = said.refusal {
            *counts.refused.entry(refusal).or_default() += 1;
        }
        if let Some(waited) = said.waited.filter(|_| !said.spared) {
            self.waits.push(u32::try_from(waited.as_millis()).unwrap_or(u32::MAX));
        }
        if let Some(upstream) = said.upstream {
            counts.sent += 1;
            self.sends.push_back(now.checked_sub(upstream).unwrap_or(now));
        }
        if let Some(budget) = said.budget {
            self.budget = Some(Seen { budget, at: now, begun: counts.calls });
        }
        self.forget(now);
    }

    /// Drops the sends that no window has any more.
    fn forget(&mut self, now: Instant) {
        let window = self.budget.map_or(MINUTE, |seen| seen.budget.window);
        // Nearly in order: a slow answer tells late that it was sent early.
        self.sends.retain(|at| now - *at < window);
    }

    fn window(&mut self, now: Instant) -> Option<Window> {
        self.forget(now);
        let sent = self.sends.len() as u64;
        self.budget.map(|seen| Window { budget: seen.budget, sent })
    }

    /// By the gateway's own estimate for a call that would have come with the last answer, and one place
    /// in the line for each that came since. It knows of others who wait and of pauses; we do not.
    fn eta(&self, now: Instant) -> Option<Duration> {
        let Seen { budget, at, begun } = self.budget?;
        if self.counts.waiting == 0 || budget.next.is_zero() {
            return None;
        }
        let since = u32::try_from(self.counts.calls - begun).unwrap_or(u32::MAX);
        let then = budget.next.saturating_add(budget.spacing().saturating_mul(since));
        // Past its time it was wrong, and what is right nobody said.
        then.checked_sub(now - at).filter(|left| !left.is_zero())
    }
}

impl Waits {
    fn of(waits: &[u32]) -> Option<Self> {
        let mut sorted = waits.to_vec();
        sorted.sort_unstable();
        let ms = |wait: &u32| Duration::from_millis((*wait).into());
        Some(Self {
            calls: sorted.len(),
            median: ms(sorted.get(sorted.len().saturating_sub(1) / 2)?),
            longest: ms(sorted.last()?),
        })
    }
}

impl Call {
    /// The head of its answer is there.
    pub(super) fn answered(&mut self, status: StatusCode, said: Said) {
        self.stage = Stage::Receiving;
        self.tally.book().answered(status, said, Instant::now());
    }

    /// Its answer was read to the end.
    pub(super) fn complete(mut self) {
        self.stage = Stage::Over;
    }

    /// Its answer broke off.
    pub(super) fn cut(mut self) {
        self.stage = Stage::Over;
        self.tally.book().counts.cut += 1;
    }

    /// The gateway did not answer it.
    pub(super) fn failed(mut self) {
        self.stage = Stage::Over;
        let mut book = self.tally.book();
        book.counts.waiting -= 1;
        book.counts.failed += 1;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let counts = &mut self.tally.book().counts;
        match self.stage {
            Stage::Waiting => {
                counts.waiting -= 1;
                counts.left += 1;
            }
            Stage::Receiving => counts.left_midway += 1,
            Stage::Over => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sent(waited_ms: u64) -> Said {
        Said {
            waited: Some(Duration::from_millis(waited_ms)),
            upstream: Some(Duration::from_millis(10)),
            ..Said::default()
        }
    }

    /// The same, where a call that comes now would go in so many seconds.
    fn next_in(seconds: u64) -> Said {
        let next = Duration::from_secs(seconds);
        let budget = Budget { limit: 60, window: 60 * SECOND, free: 0, next };
        Said { budget: Some(budget), ..sent(0) }
    }

    fn answer(tally: &Arc<Tally>, status: u16, said: Said) {
        let mut call = tally.begin();
        call.answered(StatusCode::from_u16(status).unwrap(), said);
        call.complete();
    }

    #[tokio::test(start_paused = true)]
    async fn every_call_is_counted_as_what_became_of_it() {
        let tally = Tally::new();
        answer(&tally, 200, sent(0));
        answer(&tally, 404, sent(0));
        answer(&tally, 200, Said { spared: true, ..Said::default() });
        answer(&tally, 503, Said { refusal: Some("connection_limit".into()), ..Said::default() });
        tally.begin().failed();
        drop(tally.begin());
        let mut cut = tally.begin();
        cut.answered(StatusCode::OK, sent(0));
        cut.cut();
        let mut left = tally.begin();
        left.answered(StatusCode::OK, sent(0));
        drop(left);
        let open = tally.begin();
        tally.turned_away();
        let counts = Counts {
            calls: 9,
            waiting: 1,
            answered: [(200, 4), (404, 1), (503, 1)].into(),
            from_cache: 1,
            sent: 4,
            refused: [("connection_limit".to_owned(), 1)].into(),
            failed: 1,
            cut: 1,
            left: 1,
            left_midway: 1,
            turned_away: 1,
        };
        assert_eq!(tally.glance().counts, counts);
        drop(open);
        assert_eq!(tally.glance().counts, Counts { waiting: 0, left: 2, ..counts });
    }

    #[tokio::test(start_paused = true)]
    async fn the_median_and_the_longest_wait_are_those_of_calls_that_waited() {
        let tally = Tally::new();
        assert_eq!(tally.figures().waits, None);
        for waited in [900, 10, 500] {
            answer(&tally, 200, sent(waited));
        }
        answer(&tally, 200, Said { spared: true, ..sent(60_000) });
        let [median, longest] = [500, 900].map(Duration::from_millis);
        assert_eq!(tally.figures().waits, Some(Waits { calls: 3, median, longest }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_has_what_was_sent_within_it() {
        let tally = Tally::new();
        answer(&tally, 200, next_in(0));
        tokio::time::advance(30 * SECOND).await;
        answer(&tally, 200, next_in(0));
        let in_window = || tally.glance().window.unwrap().sent;
        assert_eq!(in_window(), 2);
        tokio::time::advance(30 * SECOND).await;
        assert_eq!(in_window(), 1);
        tokio::time::advance(30 * SECOND).await;
        assert_eq!(in_window(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_when_as_long_as_that_is_known() {
        let tally = Tally::new();
        let _waits = tally.begin();
        assert_eq!(tally.glance().eta, None, "nothing was said yet");
        answer(&tally, 200, next_in(20));
        assert_eq!(tally.glance().eta, Some(20 * SECOND));
        let _one_more = tally.begin();
        assert_eq!(tally.glance().eta, Some(21 * SECOND));
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(tally.glance().eta, Some(16 * SECOND));
        tokio::time::advance(16 * SECOND).await;
        assert_eq!(tally.glance().eta, None, "it was wrong");
        answer(&tally, 200, next_in(0));
        assert_eq!(tally.glance().eta, None, "they wait for Omni, not for their turn");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_who_waits_is_no_time_to_tell() {
        let tally = Tally::new();
        answer(&tally, 200, next_in(20));
        assert_eq!(tally.glance().eta, None);
    }
}

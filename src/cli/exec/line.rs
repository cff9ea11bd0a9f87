//! What is shown on stderr while the program runs.

use std::time::Duration;

use tokio::time::Instant;

use crate::cli::exec::pinned::{Pinned, can_pin};
use crate::cli::exec::say;
use crate::cli::exec::tally::{Counts, Glance, Tally};
use crate::cli::exec::words;

/// How often a line on a terminal is drawn.
pub(super) const FRAME: Duration = Duration::from_millis(250);
/// How often a line is written elsewhere.
const LOG: Duration = Duration::from_secs(10);

/// How things are shown.
#[derive(Debug)]
pub(super) enum Line {
    /// In the terminal's last row.
    Pinned(Pinned),
    /// A line from time to time.
    Plain(Plain),
    /// Not at all.
    Nothing,
}

/// Lines in a log.
#[derive(Debug)]
pub(super) struct Plain {
    next: Instant,
    last: Counts,
}

impl Line {
    pub(super) fn open(quiet: bool) -> Self {
        match (quiet, can_pin()) {
            (true, _) => Self::Nothing,
            (false, true) => Self::Pinned(Pinned::new()),
            (false, false) => Self::Plain(Plain::new()),
        }
    }

    /// To be called each [`FRAME`].
    pub(super) fn tick(&mut self, tally: &Tally) {
        // A program that makes no calls is not to notice anything.
        if !tally.has_calls() {
            return;
        }
        match self {
            Self::Pinned(pinned) => pinned.show(words::line(&tally.glance())),
            Self::Plain(plain) => {
                if let Some(line) = plain.next(&tally.glance()) {
                    say(&line);
                }
            }
            Self::Nothing => {}
        }
    }

    /// Leaves the terminal as it was, until the next tick.
    pub(super) fn release(&self) {
        match self {
            Self::Pinned(pinned) => pinned.release(),
            Self::Plain(_) | Self::Nothing => {}
        }
    }
}

impl Plain {
    fn new() -> Self {
        Self { next: Instant::now() + LOG, last: Counts::default() }
    }

    /// A line, if it is time for one and there is something new.
    fn next(&mut self, glance: &Glance) -> Option<String> {
        if Instant::now() < self.next {
            return None;
        }
        self.next = Instant::now() + LOG;
        if self.last == glance.counts {
            return None;
        }
        self.last = glance.counts.clone();
        Some(words::line(glance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_log_gets_a_line_each_ten_seconds_if_there_is_news() {
        let tally = Tally::new();
        let mut plain = Plain::new();
        let mut lines = Vec::new();
        let begun = Instant::now();
        // Calls until the 25th second.
        for frame in 0..240 {
            if frame < 100 {
                tally.begin().failed();
            }
            tokio::time::advance(FRAME).await;
            if plain.next(&tally.glance()).is_some() {
                lines.push(begun.elapsed().as_secs());
            }
        }
        assert_eq!(lines, [10, 20, 30]);
    }
}

//! The line that shows how things stand, and the summary, as text.

use std::time::Duration;

use crate::cli::exec::tally::{Counts, Figures, Glance};

/// How things stand, the most important first: a narrow terminal shows the beginning.
pub(super) fn line(glance: &Glance) -> String {
    let counts = &glance.counts;
    let mut parts = vec![format!("{}: {} answered", calls(counts.calls), answers(counts))];
    let mut part = |number: u64, what: &str| {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    };
    part(counts.waiting, "waiting");
    if let Some(eta) = glance.eta {
        parts.push(format!("their turn within about {}", time(eta)));
    }
    if let Some(window) = glance.window {
        let (limit, length) = (window.budget.limit, time(window.budget.window));
        parts.push(format!("{} sent in the last {length} (limit {limit})", window.sent));
    }
    let mut part = |number: u64, what: &str| {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    };
    part(counts.from_cache, "at no cost");
    part(counts.refused.values().sum(), "refused");
    part(counts.failed + counts.cut, "failed");
    parts.join(", ")
}

/// What became of the calls, in a few lines.
pub(super) fn summary(figures: &Figures) -> Vec<String> {
    let counts = &figures.counts;
    if counts.calls == 0 {
        let hint = "does the program take Omni's address from OMNI_BASE_URL?";
        let mut lines = vec![format!("no call came; {hint}")];
        lines.extend(turned_away(counts));
        return lines;
    }
    let mut by_status: Vec<String> = Vec::new();
    let good: u64 = counts.answered.range(200..300).map(|(_, number)| number).sum();
    if good > 0 {
        by_status.push(format!("{good} answered with 2xx"));
    }
    let others = counts.answered.iter().filter(|(status, _)| !(200..300).contains(*status));
    by_status.extend(others.map(|(status, number)| format!("{number} with {status}")));
    let broken = [
        (counts.failed, "without an answer of the gateway"),
        (counts.cut, "with an answer that broke off"),
        (counts.left, "given up by the program"),
        (counts.left_midway, "not read to the end"),
        (counts.waiting, "still waiting when it ended"),
    ];
    let broken = broken.into_iter().filter(|(number, _)| *number > 0);
    by_status.extend(broken.map(|(number, what)| format!("{number} {what}")));
    let took = time(figures.took);
    let mut lines = vec![format!("{} in {took}: {}", calls(counts.calls), by_status.join(", "))];
    lines.push(cost(figures));
    if !counts.refused.is_empty() {
        let reasons = counts.refused.iter().map(|(why, number)| format!("{number} × {why}"));
        lines.push(format!("refused by the gateway: {}", reasons.collect::<Vec<_>>().join(", ")));
    }
    lines.extend(turned_away(counts));
    lines
}

fn cost(figures: &Figures) -> String {
    let counts = &figures.counts;
    let mut parts = vec![format!("{} sent to Omni, {} at no cost", counts.sent, counts.from_cache)];
    if let Some(waits) = figures.waits {
        let (median, longest) = (time(waits.median), time(waits.longest));
        parts.push(format!("waited {median} in the median and {longest} at most"));
    }
    if let Some(window) = figures.window {
        let (limit, length) = (window.budget.limit, time(window.budget.window));
        parts.push(format!("{} in the last {length} (limit {limit})", window.sent));
    }
    parts.join("; ")
}

fn turned_away(counts: &Counts) -> Option<String> {
    let number = counts.turned_away;
    (number > 0).then(|| {
        format!("{} turned away: from a web page, another user, or malformed", calls(number))
    })
}

fn answers(counts: &Counts) -> u64 {
    counts.answered.values().sum()
}

fn calls(number: u64) -> String {
    if number == 1 { "1 call".to_owned() } else { format!("{number} calls") }
}

/// A time for people.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 if time.subsec_millis() > 0 => format!("{:.1} s", time.as_secs_f64()),
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        7200.. => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exec::fields::Budget;
    use crate::cli::exec::tally::{Waits, Window};

    fn window() -> Window {
        let minute = Duration::from_secs(60);
        let budget = Budget { limit: 60, window: minute, free: 0, next: Duration::ZERO };
        Window { budget, sent: 58 }
    }

    fn counts() -> Counts {
        Counts {
            calls: 120,
            waiting: 24,
            answered: [(200, 90), (404, 3), (503, 2)].into(),
            from_cache: 13,
            sent: 80,
            refused: [("connection_limit_reached".to_owned(), 2)].into(),
            failed: 1,
            ..Counts::default()
        }
    }

    #[test]
    fn the_line_says_what_is_known_and_nothing_else() {
        let eta = Some(Duration::from_secs(24));
        let glance = Glance { counts: counts(), window: Some(window()), eta };
        assert_eq!(
            line(&glance),
            "120 calls: 95 answered, 24 waiting, their turn within about 24 s, 58 sent in the last 60 s \
             (limit 60), 13 at no cost, 2 refused, 1 failed"
        );
        let first = Counts { calls: 1, waiting: 1, ..Counts::default() };
        let glance = Glance { counts: first, window: None, eta: None };
        assert_eq!(line(&glance), "1 call: 0 answered, 1 waiting");
    }

    #[test]
    fn the_summary_says_what_became_of_every_call() {
        let [median, longest] = [1_200, 58_000].map(Duration::from_millis);
        let waits = Some(Waits { calls: 80, median, longest });
        let took = Duration::from_secs(124);
        let figures = Figures { counts: counts(), window: Some(window()), took, waits };
        let lines = [
            "120 calls in 2 min 4 s: 90 answered with 2xx, 3 with 404, 2 with 503, 1 without an answer of the \
             gateway, 24 still waiting when it ended",
            "80 sent to Omni, 13 at no cost; waited 1.2 s in the median and 58 s at most; 58 in the last 60 s \
             (limit 60)",
            "refused by the gateway: 2 × connection_limit_reached",
        ];
        assert_eq!(summary(&figures), lines);
    }

    #[test]
    fn a_program_that_makes_no_call_is_told_what_to_look_at() {
        let took = Duration::from_secs(1);
        let counts = Counts { turned_away: 1, ..Counts::default() };
        let figures = Figures { counts, window: None, took, waits: None };
        let lines = summary(&figures);
        assert!(lines[0].contains("OMNI_BASE_URL"), "{lines:?}");
        assert!(lines[1].starts_with("1 call turned away"), "{lines:?}");
    }

    #[test]
    fn times_are_as_people_say_them() {
        let said =
            [400, 9_900, 10_400, 119_000, 125_000, 7_260_000].map(Duration::from_millis).map(time);
        assert_eq!(said, ["0.4 s", "9.9 s", "10 s", "119 s", "2 min 5 s", "2 h 1 min"]);
    }
}

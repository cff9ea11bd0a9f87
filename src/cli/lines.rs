//! Facts on paper: a label, and text that wraps beside it.

use std::io::{IsTerminal, stdout};

/// The widest that text is set, however wide the terminal.
const WIDEST: usize = 100;

/// Where the text beside a label begins.
const BESIDE: usize = 11;

/// How text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// As it is.
    Plain,
    /// Less than the rest.
    Dim,
    /// It is fine.
    Good,
    /// It is not.
    Bad,
}

/// What is written on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paper {
    /// In characters.
    pub(super) width: usize,
    /// Whether it takes colours.
    pub(super) colors: bool,
}

impl Paper {
    /// Standard output: as wide as its terminal, 80 where it is none, and coloured on a terminal that
    /// did not ask for none.
    pub(super) fn of_stdout() -> Self {
        let terminal = stdout().is_terminal();
        let size = terminal.then(|| rustix::termios::tcgetwinsize(stdout()).ok()).flatten();
        let columns = size.map(|size| usize::from(size.ws_col)).filter(|width| *width >= 40);
        let colors = terminal && std::env::var_os("NO_COLOR").is_none();
        Self { width: columns.unwrap_or(80).min(WIDEST), colors }
    }

    /// The text in this ink.
    pub(super) fn ink(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Plain => None,
            Ink::Dim => Some("2"),
            Ink::Good => Some("32"),
            Ink::Bad => Some("1;31"),
        };
        match code.filter(|_| self.colors && !text.is_empty()) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }

    /// A label, and the text beside it, on as many lines as it takes.
    pub(super) fn fact(self, label: &str, ink: Ink, text: &str) -> Vec<String> {
        let lines = wrapped(text, self.width.saturating_sub(BESIDE));
        let labels = std::iter::once(label).chain(std::iter::repeat(""));
        let set = |(label, line): (&str, String)| {
            let label = self.ink(Ink::Dim, &format!("{label:<BESIDE$}"));
            format!("{label}{}", self.ink(ink, &line)).trim_end().to_owned()
        };
        labels.zip(lines).map(set).collect()
    }
}

/// The text in lines of so many characters; one word that is longer has a line of its own.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Seconds for people.
pub(super) fn span(seconds: f64) -> String {
    let whole = |unit: f64| seconds >= unit && (seconds / unit).fract() < 1e-9;
    match () {
        () if whole(3600.0) => format!("{:.0} h", seconds / 3600.0),
        () if whole(60.0) && seconds > 60.0 => format!("{:.0} m", seconds / 60.0),
        () if seconds.fract() < 1e-9 => format!("{seconds:.0} s"),
        () if seconds < 1.0 => format!("{:.0} ms", seconds * 1000.0),
        () => format!("{seconds:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_wraps_beside_its_label() {
        let paper = Paper { width: 24, colors: false };
        let lines = paper.fact("caller", Ink::Plain, "it says so itself, here");
        assert_eq!(lines, ["caller     it says so", "           itself, here"]);
        let long = paper.fact("path", Ink::Plain, "/a-very-long-path-of-one-word");
        assert_eq!(long, ["path       /a-very-long-path-of-one-word"]);
        assert_eq!(paper.fact("x", Ink::Plain, ""), ["x"]);
    }

    #[test]
    fn colors_are_only_where_they_are_wanted() {
        assert_eq!(Paper { width: 80, colors: false }.ink(Ink::Bad, "no"), "no");
        assert_eq!(Paper { width: 80, colors: true }.ink(Ink::Bad, "no"), "\x1b[1;31mno\x1b[0m");
    }

    #[test]
    fn a_time_is_said_in_the_unit_that_fits() {
        for (seconds, text) in [
            (0.0, "0 s"),
            (0.25, "250 ms"),
            (1.017, "1.02 s"),
            (60.0, "60 s"),
            (120.0, "2 m"),
            (3600.0, "1 h"),
            (7200.0, "2 h"),
            (90.0, "90 s"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}

//! Problems with the config, rendered with the line, a caret and a way out.

use std::fmt::{self, Write};
use std::ops::Range;
use std::path::Path;

use crate::config::blot;
use crate::config::nearest::nearest;

/// Columns that an excerpt may take; longer lines are cut around the caret.
const WIDEST: usize = 120;
/// Columns before the caret that stay when a line is cut.
const BEFORE: usize = 40;
const TAB: usize = 4;

/// One thing that is wrong, or looks wrong.
#[derive(Clone)]
pub(super) struct Problem {
    /// The bytes of the file that it is about; `None` for the file as a whole.
    pub(super) span: Option<Range<usize>>,
    pub(super) message: String,
    /// The way out.
    pub(super) help: Option<String>,
}

/// How bad the problems of a report are.
#[derive(Clone, Copy)]
pub(super) enum Grade {
    /// There is no config.
    Error,
    /// There is one, and it may not do what is meant.
    Warning,
}

/// The problems found so far, all of one grade.
#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem with a part of the file.
    pub(super) fn at(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Problem {
        self.push(Some(span.clone()), message.into())
    }

    /// Notes a problem with the file as a whole.
    pub(super) fn whole(&mut self, message: impl Into<String>) -> &mut Problem {
        self.push(None, message.into())
    }

    fn push(&mut self, span: Option<Range<usize>>, message: String) -> &mut Problem {
        self.0.push_mut(Problem { span, message, help: None })
    }

    /// Whether there is one with something inside this part of the file.
    pub(super) fn any_in(&self, span: &Range<usize>) -> bool {
        let inside = |at: &Range<usize>| span.start <= at.start && at.end <= span.end;
        self.0.iter().filter_map(|problem| problem.span.as_ref()).any(inside)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Problem {
    /// Adds the way out.
    pub(super) fn help(&mut self, help: impl Into<String>) {
        self.help = Some(help.into());
    }

    /// Adds a guess at the name that was meant, or else the names that are known.
    pub(super) fn help_with_name<'a>(&mut self, name: &str, known: impl Iterator<Item = &'a str>) {
        let known: Vec<&str> = known.collect();
        if let Some(meant) = nearest(name, known.iter().copied()) {
            self.help(format!("did you mean `{meant}`?"));
        } else if !known.is_empty() {
            self.help(format!("one of: {}", known.join(", ")));
        }
    }
}

/// Everything that is wrong with one config file, or else all its warnings.
///
/// `Display` gives plain text for people, `Debug` the same. Neither shows anything that looks
/// like a secret, nor a control character of the file.
#[derive(Clone)]
pub struct Report {
    grade: Grade,
    name: String,
    problems: Vec<Problem>,
    excerpts: Vec<Option<Excerpt>>,
}

impl Report {
    /// Reports problems with the text of the file; what lies in `hidden` is blotted out.
    pub(super) fn new(
        grade: Grade,
        path: &Path,
        text: &str,
        hidden: &[Range<usize>],
        found: Problems,
    ) -> Self {
        let mut problems = found.0;
        let place = |p: &Problem| p.span.as_ref().map_or(usize::MAX, |span| span.start);
        problems.sort_by_key(place);
        let excerpts = problems
            .iter()
            .map(|problem| Some(Excerpt::of(text, hidden, problem.span.as_ref()?)))
            .collect();
        Self { grade, name: blot::blot(&path.display().to_string()), problems, excerpts }
    }

    /// How many problems there are; at least one.
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// One line for each problem, for a log: `omnigate.toml:12:14: what is wrong`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.problems.iter().zip(&self.excerpts).map(|(problem, excerpt)| {
            let message = blot::blot(&problem.message);
            match excerpt {
                Some(e) => format!("{}:{}:{}: {message}", self.name, e.number, e.column),
                None => format!("{}: {message}", self.name),
            }
        })
    }

    /// The same text with colours, for a terminal.
    pub fn colored(&self) -> impl fmt::Display {
        struct Colored<'a>(&'a Report);
        impl fmt::Display for Colored<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.render(f, &COLORED)
            }
        }
        Colored(self)
    }

    fn render(&self, f: &mut fmt::Formatter<'_>, style: &Style) -> fmt::Result {
        let Style { error, warning, rule, help, strong, off } = style;
        let (word, label, color) = match self.grade {
            Grade::Error => ("problem", format!("{error}error{off}"), error),
            Grade::Warning => ("warning", format!("{warning}warning{off}"), warning),
        };
        for (problem, excerpt) in self.problems.iter().zip(&self.excerpts) {
            let message = blot::blot(&problem.message);
            writeln!(f, "{label}{strong}: {message}{off}")?;
            let gutter = excerpt.as_ref().map_or(1, |e| e.number.to_string().len());
            let blank = " ".repeat(gutter);
            match excerpt {
                None => writeln!(f, "{blank}{rule}-->{off} {}", self.name)?,
                Some(e) => {
                    writeln!(f, "{blank}{rule}-->{off} {}:{}:{}", self.name, e.number, e.column)?;
                    writeln!(f, "{blank} {rule}|{off}")?;
                    writeln!(f, "{rule}{} |{off} {}", e.number, e.line)?;
                    let (pad, caret) = (" ".repeat(e.pad), "^".repeat(e.width));
                    writeln!(f, "{blank} {rule}|{off} {pad}{color}{caret}{off}")?;
                }
            }
            // A way out may be several lines of TOML.
            for (nth, line) in problem.help.iter().flat_map(|help| help.lines()).enumerate() {
                let line = blot::blot(line);
                match nth {
                    0 => writeln!(f, "{blank} {rule}={off} {help}help:{off} {line}")?,
                    _ => writeln!(f, "{blank}         {line}")?,
                }
            }
            f.write_char('\n')?;
        }
        let (count, s) = (self.count(), if self.count() == 1 { "" } else { "s" });
        write!(f, "{strong}{count} {word}{s} in {}{off}", self.name)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.render(f, &PLAIN)
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.render(f, &PLAIN)
    }
}

impl std::error::Error for Report {}

/// Escape sequences.
struct Style {
    error: &'static str,
    warning: &'static str,
    rule: &'static str,
    help: &'static str,
    strong: &'static str,
    off: &'static str,
}

const PLAIN: Style = Style { error: "", warning: "", rule: "", help: "", strong: "", off: "" };
const COLORED: Style = Style {
    error: "\u{1b}[1;31m",
    warning: "\u{1b}[1;33m",
    rule: "\u{1b}[1;34m",
    help: "\u{1b}[1;36m",
    strong: "\u{1b}[1m",
    off: "\u{1b}[0m",
};

/// One line of the file, fit to be shown, and where its caret goes.
#[derive(Clone)]
struct Excerpt {
    /// From 1.
    number: usize,
    /// In characters, from 1.
    column: usize,
    line: String,
    /// Columns before the caret.
    pad: usize,
    /// Columns under the caret.
    width: usize,
}

/// One character as it is shown.
struct Cell {
    shown: char,
    columns: usize,
    marked: bool,
}

impl Excerpt {
    fn of(text: &str, hidden: &[Range<usize>], span: &Range<usize>) -> Self {
        let begin = floor(text, span.start);
        let line_start = text[..begin].rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        // Runs are looked for in the line alone: a secret over several lines is hidden by its
        // tree, or is a syntax error.
        let mut secret = blot::spans(line);
        let from_line = |at: usize| at.saturating_sub(line_start);
        secret.extend(hidden.iter().map(|span| from_line(span.start)..from_line(span.end)));
        let secret = blot::mask(line.len(), &secret);
        // A mark of nothing is still to be seen.
        let mark = begin..span.end.max(begin + 1);
        let mut cells = Vec::new();
        for (at, c) in line.char_indices() {
            let marked = mark.contains(&(line_start + at));
            // Quotes stay, so that the line still reads as what it is.
            let shown = if secret[at] && !matches!(c, '"' | '\'') { '*' } else { c };
            let (shown, times) = if shown == '\t' { (' ', TAB) } else { (blot::plain(shown), 1) };
            let cell = || Cell { shown, columns: columns(shown), marked };
            cells.extend(std::iter::repeat_with(cell).take(times));
        }
        let before = text[line_start..begin].chars().count();
        let (line, pad, width) = lay_out(cells);
        Self {
            number: text[..line_start].matches('\n').count() + 1,
            column: before + 1,
            line,
            pad,
            width,
        }
    }
}

/// The line, the columns before the mark, and the columns of the mark; at least one of these.
fn lay_out(mut cells: Vec<Cell>) -> (String, usize, usize) {
    let sum = |cells: &[Cell]| cells.iter().map(|cell| cell.columns).sum::<usize>();
    // A mark at the end of a line stands behind everything.
    let mark = cells.iter().position(|cell| cell.marked).unwrap_or(cells.len());
    let mut from = 0;
    let cut = |shown| Cell { shown, columns: 1, marked: false };
    if sum(&cells) > WIDEST {
        from = mark.saturating_sub(BEFORE);
        let end = (from + WIDEST).min(cells.len());
        let (front, back) = (from > 0, end < cells.len());
        cells = cells.drain(from..end).collect();
        if front {
            cells.insert(0, cut('…'));
            from -= 1;
        }
        if back {
            cells.push(cut('…'));
        }
    }
    let mark = mark - from;
    let length = cells[mark..].iter().take_while(|cell| cell.marked).count();
    let line = cells.iter().map(|cell| cell.shown).collect::<String>();
    let width = sum(&cells[mark..mark + length]).max(1);
    (line.trim_end().to_owned(), sum(&cells[..mark]), width)
}

/// The nearest character boundary that is not behind `at`.
pub(super) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// How many columns of a terminal a character takes: East Asian wide and emoji take two,
/// combining marks none.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36F | 0x20D0..=0x20FF | 0xFE00..=0xFE0F => 0,
        0x1100..=0x115F
        | 0x2E80..=0x303E
        | 0x3041..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str, needle: &str) -> String {
        let start = text.find(needle).unwrap();
        let mut problems = Problems::default();
        problems.at(&(start..start + needle.len()), "it is wrong").help("mend it");
        Report::new(Grade::Error, Path::new("a.toml"), text, &[], problems).to_string()
    }

    /// The column of the caret and the line above it.
    fn caret(report: &str) -> (String, usize, usize) {
        let lines: Vec<&str> = report.lines().collect();
        let at = lines.iter().position(|line| line.contains('^')).unwrap();
        let after_bar = |line: &str| line.split_once("| ").unwrap().1.to_owned();
        let carets = after_bar(lines[at]);
        (after_bar(lines[at - 1]), carets.find('^').unwrap(), carets.trim().len())
    }

    #[test]
    fn a_problem_reads_like_one_of_rustc() {
        let expected = "error: it is wrong
 --> a.toml:2:5
  |
2 | b = 'x'
  |     ^^^
  = help: mend it

1 problem in a.toml";
        assert_eq!(report("a = 1\nb = 'x'\n", "'x'"), expected);
    }

    #[test]
    fn a_warning_reads_like_a_problem() {
        let text = "a = 1\nb = 'x'\n";
        let mut found = Problems::default();
        found.at(&(10..13), "it is odd");
        let report = Report::new(Grade::Warning, Path::new("a.toml"), text, &[], found);
        let expected = "warning: it is odd
 --> a.toml:2:5
  |
2 | b = 'x'
  |     ^^^

1 warning in a.toml";
        assert_eq!(report.to_string(), expected);
        assert!(report.lines().eq(["a.toml:2:5: it is odd"]));
    }

    #[test]
    fn a_problem_with_the_whole_file_has_no_line() {
        let mut problems = Problems::default();
        problems.whole("nothing in it");
        let shown = Report::new(Grade::Error, Path::new("a.toml"), "", &[], problems).to_string();
        assert_eq!(shown, "error: nothing in it\n --> a.toml\n\n1 problem in a.toml");
    }

    #[test]
    fn neither_tabs_nor_wide_letters_move_the_caret() {
        assert_eq!(caret(&report("\t\tb = 1", "b")), ("        b = 1".into(), 8, 1));
        // Two columns for each of these letters.
        assert_eq!(caret(&report("'漢字' = '語'", "'語'")).1, 9);
        assert_eq!(caret(&report("'漢字' = '語'", "'語'")).2, 4);
        // A combining accent takes none.
        assert_eq!(caret(&report("'e\u{301}' = 7", "7")).1, 6);
    }

    #[test]
    fn a_long_line_is_cut_around_its_caret() {
        let text = format!("a = [{}'here', {}]", "'x', ".repeat(500), "'y', ".repeat(500));
        let (line, at, width) = caret(&report(&text, "'here'"));
        let chars: Vec<char> = line.chars().collect();
        assert!(chars.len() <= WIDEST + 2);
        assert_eq!(chars[at..at + width].iter().collect::<String>(), "'here'");
    }

    #[test]
    fn a_secret_is_blotted_out_and_the_caret_stays() {
        let text = "a = 'omni_osk_1234567890'; bad";
        let (line, at, _) = caret(&report(text, "bad"));
        assert_eq!(line, "a = '*******************'; bad");
        assert_eq!(at, text.find("bad").unwrap());
    }

    #[test]
    fn a_mark_over_several_lines_shows_the_first() {
        assert_eq!(caret(&report("a = [\n 1,\n]", "[\n 1,\n]")), ("a = [".into(), 4, 1));
    }

    #[test]
    fn a_mark_of_nothing_is_one_caret() {
        for (span, column) in [(9..9, 6), (6..6, 6), (2..2, 2)] {
            let mut problems = Problems::default();
            problems.at(&span, "cut off");
            let shown =
                Report::new(Grade::Error, Path::new("a.toml"), "a = 'x", &[], problems).to_string();
            assert_eq!(caret(&shown), ("a = 'x".into(), column, 1));
        }
    }
}

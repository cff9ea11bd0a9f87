//! One screen of the facts.
//!
//! What is said once stands: the sentence, the budgets, the cache, the keys. Callers, routes and errors are
//! tables, and share what is left of the screen's height.

use std::time::Duration;

use serde_json::Value;

use crate::cli::status::facts::{below, budgets, errors, process};
use crate::cli::status::screen::{Screen, Tone};
use crate::cli::status::words::{clean, count, headline, list, number, span, span_of, text};

/// Where the height is not bounded, a table has so many rows at most.
const LONGEST_TABLE: usize = 20;

/// One line, in pieces.
pub(super) type Line = Vec<(Tone, String)>;

/// A table's column: its heading, its width, and the figure in it.
struct Column {
    title: &'static str,
    width: usize,
    of: fn(&Value) -> String,
}

const fn column(title: &'static str, width: usize, of: fn(&Value) -> String) -> Column {
    Column { title, width, of }
}

/// The last ones are left out where the screen is narrow.
const CALLERS: [Column; 9] = [
    column("calls", 7, |one| number(count(one, "calls"))),
    column("sent", 7, |one| number(count(one, "sent"))),
    column("saved", 7, |one| number(count(one, "saved"))),
    column("refused", 8, |one| number(count(one, "refused"))),
    column("failed", 7, |one| number(count(one, "failed"))),
    column("wait", 7, |one| number(count(one, "waiting"))),
    column("oldest", 7, |one| span_of(one, "oldest_s")),
    column("seen", 7, |one| span_of(one, "seen_s")),
    column("longest", 8, |one| span_of(one, "longest_wait_s")),
];

const ROUTES: [Column; 8] = [
    column("calls", 7, |one| number(count(one, "calls"))),
    column("sent", 7, |one| number(count(one, "sent"))),
    column("saved", 7, saved),
    column("refused", 8, |one| number(count(one, "refused"))),
    column("failed", 7, |one| number(count(one, "failed"))),
    column("waited", 7, |one| span_of(one, "mean_wait_s")),
    column("Omni", 7, |one| span_of(one, "mean_upstream_s")),
    column("ever", 7, |one| number(count(one, "calls_ever"))),
];

fn saved(route: &Value) -> String {
    if route["keeps"] == true { number(count(route, "saved")) } else { "-".to_owned() }
}

/// The lines of one screen.
pub(super) fn draw(facts: &Value, screen: &Screen) -> Vec<String> {
    let lines = compose(facts, screen, None);
    lines.iter().map(|line| screen.line(line)).collect()
}

/// The same while it is watched: where the gateway is gone, why and for how long, over what was seen last.
pub(super) fn frame(
    facts: Option<&Value>,
    absence: Option<(String, Duration)>,
    screen: &Screen,
) -> Vec<String> {
    let gone = absence.map(|(why, gone)| {
        let text = format!("no answer for {}: {}", span(gone.as_secs_f64()), clean(&why));
        vec![(Tone::Bad, text)]
    });
    let lines = match (facts, gone) {
        (Some(facts), gone) => compose(facts, screen, gone),
        (None, gone) => gone.into_iter().collect(),
    };
    lines.iter().map(|line| screen.line(line)).collect()
}

fn compose(facts: &Value, screen: &Screen, gone: Option<Line>) -> Vec<Line> {
    let is_gone = gone.is_some();
    let (sentence, tone) = headline(facts);
    let mut above = vec![gone.unwrap_or_else(|| vec![(tone, sentence)]), process(facts)];
    above.push(Vec::new());
    above.extend(budgets(facts, screen));
    let tables = [
        table("caller", &callers(facts), &CALLERS, screen),
        table("route", &routes(facts), &ROUTES, screen),
        errors(facts),
    ];
    let mut lines = fit(above, tables, below(facts), screen);
    if is_gone {
        for (tone, _) in lines.iter_mut().skip(1).flatten() {
            *tone = Tone::Dim;
        }
    }
    lines
}

/// All in order. Where the height does not do, the blank lines go first, then rows of the longest table.
fn fit(
    mut above: Vec<Line>,
    tables: [Vec<Line>; 3],
    below: Vec<Line>,
    screen: &Screen,
) -> Vec<Line> {
    let mut rows = tables.each_ref().map(|table| table.len().min(LONGEST_TABLE + 1));
    let mut blanks = true;
    if let Some(height) = screen.height {
        let spare = if blanks { 3 } else { 0 };
        if above.len() + rows.iter().sum::<usize>() + below.len() + spare > height {
            blanks = false;
            above.retain(|line| !line.is_empty());
        }
        // A heading, a row, and how many more there are.
        while above.len() + rows.iter().sum::<usize>() + below.len() > height
            && let Some(longest) = rows.iter_mut().max().filter(|longest| **longest > 3)
        {
            *longest -= 1;
        }
    }
    let [callers, routes, errors] = [0, 1, 2].map(|at| cut(&tables[at], rows[at]));
    let blank = || blanks.then(Vec::new);
    let mut lines = above;
    lines.extend(blank().into_iter().chain(callers));
    lines.extend(blank().into_iter().chain(routes));
    lines.extend(blank().into_iter().chain(below));
    lines.extend(errors);
    lines.truncate(screen.height.unwrap_or(usize::MAX));
    lines
}

/// A table's first rows, and how many more there are.
fn cut(table: &[Line], rows: usize) -> Vec<Line> {
    if table.len() <= rows {
        return table.to_vec();
    }
    let mut lines = table[..rows.saturating_sub(1)].to_vec();
    let more = table.len() - lines.len();
    lines.push(vec![(Tone::Dim, format!("  and {more} more"))]);
    lines
}

/// Those who wait first, then who called most.
fn callers(facts: &Value) -> Vec<(String, &Value)> {
    let mut callers: Vec<&Value> = list(facts, "callers").iter().collect();
    let busy = |one: &Value| (count(one, "waiting"), count(one, "calls"), count(one, "calls_ever"));
    callers.sort_by_key(|one| std::cmp::Reverse(busy(one)));
    callers.into_iter().map(|one| (text(one, "caller"), one)).collect()
}

fn routes(facts: &Value) -> Vec<(String, &Value)> {
    let mut routes: Vec<&Value> = list(facts, "routes").iter().collect();
    routes.sort_by_key(|one| std::cmp::Reverse(count(one, "calls")));
    routes.into_iter().map(|one| (text(one, "route"), one)).collect()
}

/// A heading and a row for each; as many columns as fit.
fn table(title: &str, rows: &[(String, &Value)], columns: &[Column], screen: &Screen) -> Vec<Line> {
    const LEAST: usize = 14;
    let mut room = screen.width.saturating_sub(LEAST);
    let fits = columns.iter().take_while(|column| {
        let fits = column.width <= room;
        room = room.saturating_sub(column.width);
        fits
    });
    let columns: Vec<&Column> = fits.collect();
    let figures: usize = columns.iter().map(|column| column.width).sum();
    let first = screen.width.saturating_sub(figures).clamp(LEAST, 40);
    let row = |name: &str, of: &dyn Fn(&Column) -> String| {
        let name: String = name.chars().take(first - 1).collect();
        let cells = columns.iter().map(|column| format!("{:>1$}", of(column), column.width));
        format!("{name:first$}{}", cells.collect::<String>())
    };
    let mut lines = vec![vec![(Tone::Bold, row(title, &|column| column.title.to_owned()))]];
    for (name, one) in rows {
        let wrong = count(one, "refused") > 0 || count(one, "failed") > 0;
        let tone = if wrong { Tone::Warn } else { Tone::Plain };
        lines.push(vec![(tone, row(name, &|column| (column.of)(one)))]);
    }
    lines
}

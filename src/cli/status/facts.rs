//! The facts that are no tables, line by line.

use serde_json::Value;

use crate::cli::status::draw::Line;
use crate::cli::status::screen::{Screen, Tone};
use crate::cli::status::words::{bytes, clean, count, list, name, number, pause, span, text};

/// Of more budgets than this it is not said who waits for each.
const MANY_BUDGETS: usize = 3;
/// A certificate that expires within two weeks is somebody's work.
const SOON: f64 = 14.0 * 86_400.0;
/// An instance that was not heard of for so long has missed its time.
const LATE: f64 = 5.0;

pub(super) fn process(facts: &Value) -> Line {
    let up = span(facts["up_s"].as_f64().unwrap_or_default());
    let watch = match count(facts, "viewers") {
        0 => String::new(),
        1 => ", 1 watches".to_owned(),
        more => format!(", {more} watch"),
    };
    let said = format!(
        "omnigate {}, up {up}, {} connections, log {}{watch}",
        text(facts, "version"),
        number(count(facts, "connections")),
        text(facts, "log"),
    );
    vec![(Tone::Dim, said)]
}

pub(super) fn budgets(facts: &Value, screen: &Screen) -> Vec<Line> {
    let budgets = list(facts, "budgets");
    let widest = budgets.iter().map(|one| name(one).chars().count()).max().unwrap_or_default();
    let widest = widest.min(24);
    let mut lines = Vec::new();
    for budget in budgets {
        lines.push(window(budget, widest, screen));
        if !budget["paused"].is_null() {
            lines.push(vec![(Tone::Warn, format!("  {}", pause(&budget["paused"])))]);
        }
        if budgets.len() <= MANY_BUDGETS {
            lines.push(queue(budget));
        }
    }
    lines
}

/// How much of the window is taken, and when the next one goes.
fn window(budget: &Value, widest: usize, screen: &Screen) -> Line {
    let (used, limit) = (count(budget, "used"), count(budget, "limit").max(1));
    let strict = budget["strict_for_now"] == true && budget["profile"] != "strict";
    let next = match budget["next_slot_s"].as_f64() {
        Some(next) if next <= 0.0 => "a slot is free".to_owned(),
        Some(next) => format!("next slot in {}", span(next)),
        None => "next slot unknown".to_owned(),
    };
    let figures = format!(
        " {used} of {limit} in {}, {next}, {}{}",
        span(budget["span_s"].as_f64().unwrap_or_default()),
        text(budget, "profile"),
        if strict { ", strict for now" } else { "" },
    );
    let name: String = name(budget).chars().take(widest).collect();
    let others = widest + 1 + figures.chars().count();
    let width = screen.width.saturating_sub(others).clamp(8, 60);
    // What is taken is seen however little it is, and so is what is free.
    let part = used.saturating_mul(width as u64).div_ceil(limit);
    let full = usize::try_from(part).unwrap_or(width).min(width);
    let full = if used < limit { full.min(width - 1) } else { full };
    let (taken, free) = if screen.unicode { ("█", "░") } else { ("#", ".") };
    let tone = if used < limit { Tone::Good } else { Tone::Warn };
    vec![
        (Tone::Bold, format!("{name:widest$} ")),
        (tone, taken.repeat(full)),
        (Tone::Dim, free.repeat(width - full)),
        (Tone::Plain, figures),
    ]
}

fn queue(budget: &Value) -> Line {
    let waits = list(budget, "queue").iter().map(|queue| {
        let (priority, waiting) = (text(queue, "priority"), count(queue, "waiting"));
        match queue["oldest_s"].as_f64().filter(|_| waiting > 0) {
            Some(oldest) => format!("{priority} {waiting} (for {})", span(oldest)),
            None => format!("{priority} {waiting}"),
        }
    });
    let waits: Vec<String> = waits.collect();
    let mut line = vec![(Tone::Plain, format!("  wait: {}", waits.join(", ")))];
    let limited = (count(budget, "limited_within"), count(budget, "limited_beyond"));
    if limited != (0, 0) {
        let said = format!("; Omni's 429s: {} within the limit, {} beyond", limited.0, limited.1);
        line.push((Tone::Warn, said));
    }
    line
}

/// What stands below the tables.
pub(super) fn below(facts: &Value) -> Vec<Line> {
    let mut lines = vec![cache(facts)];
    lines.extend(keys(facts));
    lines.push(traces(facts));
    lines.extend(certificates(facts));
    lines.extend(instances(facts));
    lines
}

fn heading(title: &str) -> (Tone, String) {
    (Tone::Bold, format!("{title:<8}"))
}

fn cache(facts: &Value) -> Line {
    let cache = &facts["cache"];
    let (calls, saved) = (count(cache, "calls"), count(cache, "saved"));
    let share = saved.saturating_mul(100).checked_div(calls);
    let share = share.map_or(String::new(), |of| format!(" ({of} %)"));
    let said = format!(
        "{} of {} in {} answers; {} of {} calls cost nothing{share}, {} ever",
        bytes(count(cache, "bytes")),
        bytes(count(cache, "max_bytes")),
        number(count(cache, "entries")),
        number(saved),
        number(calls),
        number(count(cache, "saved_ever")),
    );
    vec![heading("cache"), (Tone::Plain, said)]
}

/// One line for each key that is not as it should be, and one for all others.
fn keys(facts: &Value) -> Vec<Line> {
    let all = list(facts, "credentials").iter();
    let (good, other): (Vec<&Value>, Vec<&Value>) = all.partition(|one| one["state"] == "ready");
    let named = |one: &Value| {
        let age = one["age_s"].as_f64().map_or(String::new(), |age| format!(" ({})", span(age)));
        format!("{} {}{age}", text(one, "credential"), text(one, "state"))
    };
    let mut lines = Vec::new();
    for one in other {
        let tone = if one["state"] == "stale" { Tone::Warn } else { Tone::Bad };
        let trouble = text(one, "trouble");
        let why = if trouble.is_empty() { trouble } else { format!(": {trouble}") };
        lines.push(vec![heading("key"), (tone, format!("{}{why}", named(one)))]);
    }
    if !good.is_empty() {
        let good: Vec<String> = good.into_iter().map(named).collect();
        lines.push(vec![heading("keys"), (Tone::Plain, good.join(", "))]);
    }
    lines
}

fn traces(facts: &Value) -> Line {
    let traces = &facts["traces"];
    let state = text(traces, "state");
    if state.is_empty() || state == "off" {
        return vec![heading("traces"), (Tone::Dim, "off".to_owned())];
    }
    let lost = count(traces, "failed").saturating_add(count(traces, "dropped"));
    let why = text(traces, "why");
    let why = if why.is_empty() { why } else { format!(": {why}") };
    let said = format!(
        "{state}, {} spans sent, {} lost, to {}{why}",
        number(count(traces, "exported")),
        number(lost),
        text(traces, "endpoint"),
    );
    let tone = if state == "failing" || lost > 0 { Tone::Warn } else { Tone::Plain };
    vec![heading("traces"), (tone, said)]
}

/// Only those that are somebody's work soon.
fn certificates(facts: &Value) -> Vec<Line> {
    let all = list(facts, "certificates").iter();
    let left = all.filter_map(|one| Some((one, one["expires_in_s"].as_f64()?)));
    let soon = left.filter(|(_, left)| *left < SOON).map(|(one, left)| {
        let (tone, said) = if left > 0.0 {
            (Tone::Warn, format!("expires in {}", span(left)))
        } else {
            (Tone::Bad, format!("expired {} ago", span(-left)))
        };
        vec![heading("cert"), (tone, format!("{} {said}", text(one, "listener")))]
    });
    soon.collect()
}

fn instances(facts: &Value) -> Option<Line> {
    let (instances, shared) = (list(facts, "instances"), &facts["shared"]);
    let named = instances.iter().map(|one| {
        let this = if one["is_this"] == true { ", this one" } else { "" };
        // They are heard of each second, or something is wrong.
        let late = one["heard_s"].as_f64().filter(|heard| *heard >= LATE);
        let late = late.map_or(String::new(), |heard| format!(", heard {} ago", span(heard)));
        let up = span(one["up_s"].as_f64().unwrap_or_default());
        format!("{} ({}, up {up}{late}{this})", text(one, "instance"), text(one, "version"))
    });
    let named = named.collect::<Vec<_>>().join(", ");
    if shared.is_null() && instances.len() < 2 {
        return None;
    }
    let mut line = vec![heading("shared"), (Tone::Plain, named)];
    let unshared = count(shared, "unshared");
    if unshared > 0 {
        let said = format!("; {} sends that the others knew nothing of", number(unshared));
        line.push((Tone::Warn, said));
    }
    Some(line)
}

/// A heading, and a line for errors that are alike.
pub(super) fn errors(facts: &Value) -> Vec<Line> {
    let errors = list(facts, "errors");
    if errors.is_empty() {
        return vec![vec![heading("errors"), (Tone::Dim, "none for 15 minutes".to_owned())]];
    }
    let mut lines = vec![vec![(Tone::Bold, "errors of 15 minutes, the latest first".to_owned())]];
    for error in errors {
        let (trace, route) = (text(error, "trace_id"), text(error, "route"));
        let id = if trace.is_empty() {
            format!("request {}", text(error, "request_id"))
        } else {
            format!("trace {trace}")
        };
        let said = format!(
            "{:>6} ago {:>5} x {} {} {} {} by {}, {id}",
            span(error["ago_s"].as_f64().unwrap_or_default()),
            number(count(error, "count")),
            count(error, "status"),
            text(error, "kind"),
            text(error, "method"),
            if route.is_empty() { "(no route)" } else { &route },
            error["caller"].as_str().map_or_else(|| "nobody known".to_owned(), clean),
        );
        lines.push(vec![(Tone::Plain, said)]);
    }
    lines
}

//! The facts in words. Whoever answered, what comes of it is fit for a terminal.

use serde_json::Value;

use crate::cli::status::screen::Tone;

/// Without what moves a cursor, rings, or turns the order of letters.
pub(in crate::cli) fn clean(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || c == '\u{feff}'
    };
    text.chars().filter(|c| !hidden(*c)).collect()
}

/// The document on one line; what is hidden in its texts is escaped.
pub(super) fn one_line(facts: &Value) -> String {
    let mut line = String::new();
    for c in facts.to_string().chars() {
        // They stand only in texts, where each may be escaped (RFC 8259 §7); all are of the first plane.
        if clean(c.encode_utf8(&mut [0; 4])).is_empty() {
            line.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            line.push(c);
        }
    }
    line
}

pub(super) fn text(of: &Value, key: &str) -> String {
    clean(of[key].as_str().unwrap_or_default())
}

pub(super) fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of[key].as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn count(of: &Value, key: &str) -> u64 {
    of[key].as_u64().unwrap_or_default()
}

/// Seconds for people, in at most 6 characters.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{:.1} s", s.max(0.0)),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} m", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// The same of a figure that may be missing.
pub(super) fn span_of(of: &Value, key: &str) -> String {
    of[key].as_f64().map_or_else(|| "-".to_owned(), span)
}

/// A number for people, in at most 6 characters.
pub(super) fn number(number: u64) -> String {
    match number {
        n if n < 100_000 => n.to_string(),
        n if n < 10_000_000 => format!("{}k", n / 1000),
        n if n < 10_000_000_000 => format!("{}M", n / 1_000_000),
        n => format!("{}G", n / 1_000_000_000),
    }
}

pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        n if n < 1 << 10 => format!("{n} B"),
        n if n < 1 << 20 => format!("{:.1} KiB", n as f64 / 1024.0),
        n if n < 1 << 30 => format!("{:.1} MiB", n as f64 / 1_048_576.0),
        n => format!("{:.1} GiB", n as f64 / 1_073_741_824.0),
    }
}

/// Why a budget sends nothing.
pub(super) fn pause(paused: &Value) -> String {
    let by = text(paused, "by");
    match (by.as_str(), paused["ends_in_s"].as_f64()) {
        ("operator", Some(ends)) => format!("paused by an operator for {} more", span(ends)),
        ("operator", None) => "paused by an operator until somebody resumes".to_owned(),
        (_, Some(ends)) => format!("paused by Omni for {} more", span(ends)),
        (_, None) => "paused by Omni, one call probes".to_owned(),
    }
}

/// The one sentence, and how it is meant.
pub(super) fn headline(facts: &Value) -> (String, Tone) {
    let mut parts = Vec::new();
    let mut tone = Tone::Good;
    let mut unshared = unshared(&facts["shared"]);
    if facts["ready"] == true {
        parts.push("serving".to_owned());
    } else {
        let reasons = list(facts, "reasons").iter().map(|one| match one["reason"].as_str() {
            // It is said once, with its time where that is known.
            Some("shared-budget") => unshared.take().unwrap_or_else(|| reason(one)),
            _ => reason(one),
        });
        let reasons: Vec<String> = reasons.collect();
        parts.push(format!("not ready: {}", reasons.join(", ")));
        tone = Tone::Bad;
    }
    let budgets = list(facts, "budgets");
    for budget in budgets.iter().filter(|one| !one["paused"].is_null()) {
        parts.push(format!("{} is {}", name(budget), pause(&budget["paused"])));
        tone = if tone == Tone::Bad { tone } else { Tone::Warn };
    }
    if let Some(said) = unshared {
        parts.push(said);
        tone = if tone == Tone::Bad { tone } else { Tone::Warn };
    }
    let queues = || budgets.iter().flat_map(|budget| list(budget, "queue"));
    let waiting = queues().map(|queue| count(queue, "waiting")).fold(0, u64::saturating_add);
    let oldest = queues().filter_map(|queue| queue["oldest_s"].as_f64()).reduce(f64::max);
    parts.push(match (waiting, oldest) {
        (0, _) => "nobody waits".to_owned(),
        (1, Some(oldest)) => format!("1 call waits, for {}", span(oldest)),
        (many, Some(oldest)) => format!("{many} calls wait, the oldest for {}", span(oldest)),
        (many, None) => format!("{many} wait"),
    });
    (parts.join("; "), tone)
}

/// What is wrong with the shared budget, if something is.
fn unshared(shared: &Value) -> Option<String> {
    let lost = || format!("the shared budget is lost for {}", span_of(shared, "lost_s"));
    match (text(shared, "standing").as_str(), text(shared, "on_lost").as_str()) {
        ("joining", _) => Some("the shared budget was not reached yet".to_owned()),
        ("lost", "share") => {
            Some(format!("{}: it sends its share, 1 of {}", lost(), count(shared, "share_of")))
        }
        ("lost", "local") => Some(format!("{}: it sends as if it were alone", lost())),
        ("lost", _) => Some(format!("{}: nothing is sent", lost())),
        _ => blocked(&shared["blocked"]),
    }
}

/// Why the shared budget lets nobody send, where it does not.
fn blocked(blocked: &Value) -> Option<String> {
    let ends = span_of(blocked, "ends_in_s");
    let why = match blocked["why"].as_str()? {
        "empty" => "was empty",
        "server" => "is on another server",
        "clock" => "has a clock that jumped",
        "loss" => "has lost a part",
        _ => "is not to be believed",
    };
    Some(format!("the shared budget {why}: nothing is sent for {ends} more"))
}

/// What [`headline`] says but for figures: it changes when something happens.
pub(super) fn state(facts: &Value) -> String {
    let budgets = list(facts, "budgets").iter().filter(|one| !one["paused"].is_null());
    let paused: Vec<String> =
        budgets.map(|one| format!("{} {}", name(one), text(&one["paused"], "by"))).collect();
    let keys = list(facts, "credentials").iter();
    let keys: Vec<String> =
        keys.map(|one| format!("{} {}", text(one, "credential"), text(one, "state"))).collect();
    let shared = &facts["shared"];
    let shared = (text(shared, "standing"), text(&shared["blocked"], "why"));
    format!("{} {} {paused:?} {keys:?} {shared:?}", facts["ready"], facts["reasons"])
}

/// A budget, and its key where each has a ledger of its own.
pub(super) fn name(budget: &Value) -> String {
    match budget["credential"].as_str() {
        Some(key) => format!("{} ({})", text(budget, "budget"), clean(key)),
        None => text(budget, "budget"),
    }
}

fn reason(reason: &Value) -> String {
    match (text(reason, "reason").as_str(), reason["credential"].as_str()) {
        ("draining", _) => "it is about to end".to_owned(),
        ("shared-budget", _) => "the shared budget is out of reach".to_owned(),
        ("credential-missing", Some(key)) => format!("the key {} is missing", clean(key)),
        (other, _) => other.to_owned(),
    }
}

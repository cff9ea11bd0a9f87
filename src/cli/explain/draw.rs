//! The document in words, the verdict first.

use crate::cli::lines::{Ink, Paper, span};
use crate::cli::status::clean;
use crate::proxy::Explanation;
use crate::proxy::explained::{Charged, Fields, Keeping, KeptUnder, KeySaid, Outcome, Taken};

/// How many of the routes that lost are shown.
const MOST_OTHERS: usize = 4;

/// Lines that gather.
struct Lines {
    paper: Paper,
    lines: Vec<String>,
}

impl Lines {
    fn fact(&mut self, label: &str, text: &str) {
        self.lines.extend(self.paper.fact(label, Ink::Plain, &clean(text)));
    }
}

/// The whole document, for people.
pub(super) fn draw(said: &Explanation, paper: Paper) -> Vec<String> {
    let mut lines = Lines { paper, lines: Vec::new() };
    verdict(said, &mut lines);
    lines.lines.push(String::new());
    who_and_where(said, &mut lines);
    how(said, &mut lines);
    lines.lines
}

fn verdict(said: &Explanation, lines: &mut Lines) {
    let verdict = &said.verdict;
    let kind = verdict.kind.as_deref().and_then(|kind| kind.rsplit(':').next()).unwrap_or_default();
    let (word, ink) = match verdict.outcome {
        Outcome::Sent | Outcome::SentOrKept => ("sent".to_owned(), Ink::Good),
        Outcome::Kept => ("kept".to_owned(), Ink::Good),
        Outcome::Refused => {
            let status = verdict.status.map(|status| status.to_string()).unwrap_or_default();
            (format!("refused {status} {kind}"), Ink::Bad)
        }
    };
    match verdict.outcome {
        Outcome::Refused => {
            lines.lines.push(lines.paper.ink(ink, &clean(&word)));
            lines.fact("why", &verdict.why);
        }
        Outcome::Sent | Outcome::SentOrKept | Outcome::Kept => {
            lines.lines.extend(lines.paper.fact("becomes", ink, &clean(&verdict.why)));
        }
    }
    if let Some(mend) = &verdict.mend {
        lines.fact("to mend", mend);
    }
}

fn who_and_where(said: &Explanation, lines: &mut Lines) {
    let query = said.call.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let path = said.call.path.as_deref().unwrap_or("(no path that has one reading)");
    lines.fact("call", &format!("{} {path}{query}", said.call.method));
    for note in &said.call.notes {
        lines.fact("", &format!("({note})"));
    }
    if let Some(caller) = &said.caller {
        lines.fact("caller", &format!("{}: {}", caller.name, caller.why));
    }
    if let Some(route) = &said.route {
        lines.fact("route", &taken(route));
    }
    for other in said.other_routes.iter().take(MOST_OTHERS) {
        lines.fact("  not", &format!("{} ({}): {}", other.name, other.path, other.why));
    }
    if let Some(more) = said.other_routes.len().checked_sub(MOST_OTHERS).filter(|more| *more > 0) {
        lines.fact("  not", &format!("{more} more; see --json"));
    }
    if let Some(endpoint) = &said.endpoint {
        lines.fact("endpoint", &format!("{} ({})", endpoint.name, endpoint.kinds.join(", ")));
    }
}

fn taken(route: &Taken) -> String {
    let methods = match &*route.methods {
        [] => "all methods".to_owned(),
        methods => methods.join(", "),
    };
    format!("{} ({}; {methods}): {}", route.name, route.path, route.why)
}

fn how(said: &Explanation, lines: &mut Lines) {
    let keys: Vec<String> = said.credentials.iter().map(key).collect();
    if !keys.is_empty() {
        lines.fact("key", &keys.join(", or "));
    }
    if said.route.is_some() && said.budgets.is_empty() {
        lines.fact("budget", "none: it is outside Omni's limit");
    }
    for budget in &said.budgets {
        lines.fact("budget", &charged(budget));
    }
    if let Some(priority) = &said.priority {
        let instead = priority.instead_of.as_ref();
        let instead = instead.map(|said| format!("; {said} was said, and is more than it may"));
        let by = by(&priority.by);
        lines.fact("priority", &format!("{}, {by}{}", priority.value, instead.unwrap_or_default()));
    }
    if let Some(wait) = &said.max_wait {
        lines.fact("waits", &format!("at most {}, {}", span(wait.seconds), by(&wait.by)));
    }
    if let Some(now) = &said.now {
        let turn = match now.wait_s > 0.0 {
            true => format!("its turn comes in about {}", span(now.wait_s.ceil())),
            false => "its turn is now".to_owned(),
        };
        let paused = if now.paused { "; nobody sends, it is paused" } else { "" };
        let ends = if now.draining { "; the gateway is shutting down" } else { "" };
        let ahead = match now.position {
            0 => "nobody".to_owned(),
            1 => "1 call".to_owned(),
            more => format!("{more} calls"),
        };
        lines.fact("now", &format!("{turn}, {ahead} before it{paused}{ends}"));
    }
    if let Some(acts) = &said.impersonation {
        let member = acts.member.as_ref().map(|member| format!(" {member}")).unwrap_or_default();
        lines.fact("acts for", &format!("{}{member}: {}", acts.rule, acts.why));
    }
    if let Some(body) = said.body.as_ref().filter(|body| body.inspection != "no") {
        lines.fact("body", &body.why);
    }
    if let Some(cache) = &said.cache {
        lines.fact("cache", &keeping(cache));
        if let Some(key) = &cache.key {
            lines.fact("  under", &under(key));
        }
    }
    if let Some(sending) = &said.sending {
        let timeout =
            sending.timeout_s.map(|time| format!("; its answer begins within {}", span(time)));
        lines.fact("failure", &format!("{}{}", sending.why, timeout.unwrap_or_default()));
    }
    for saver in &said.savers {
        lines.fact("saves", &format!("{}: {}", saver.name, saver.why));
    }
    if let Some(fields) = &said.fields {
        of_fields(fields, lines);
    }
}

fn key(key: &KeySaid) -> String {
    let suits = match key.suits {
        Some(false) => "; Omni refuses this kind here",
        Some(true) | None => "",
    };
    let state = key.state.as_ref().map(|state| format!("; {state}")).unwrap_or_default();
    let age = key.age_s.map(|age| format!(" for {}", span(age.round()))).unwrap_or_default();
    format!("{} ({}{state}{age}{suits})", key.name, key.kind)
}

fn charged(budget: &Charged) -> String {
    let pace = budget
        .then_each_s
        .map(|each| format!("; {} at once, then one each {}", budget.at_once, span(each)));
    let each = if budget.scope == "credential" { " for each key" } else { "" };
    let reserve = match budget.reserve {
        0 => String::new(),
        kept => format!("; {kept} for interactive calls alone"),
    };
    format!(
        "{}: {} per {}{each}, {}{}{reserve}",
        budget.name,
        budget.limit,
        span(budget.window_s),
        budget.profile,
        pace.unwrap_or_default()
    )
}

fn by(who: &str) -> String {
    match who {
        "default" => "by default".to_owned(),
        who => format!("says the {who}"),
    }
}

fn keeping(cache: &Keeping) -> String {
    if !cache.applies {
        return format!("no: {}", cache.why);
    }
    let time = match cache.ttl_s {
        Some(ttl) => format!("fresh for {}", span(ttl)),
        None => "fresh for as long as upstream says".to_owned(),
    };
    let stale = cache.stale_s.filter(|stale| *stale > 0.0);
    let stale = stale.map(|stale| format!(", in need {} more", span(stale))).unwrap_or_default();
    let now = match (cache.now.as_deref(), cache.age_s) {
        (Some("nothing"), _) => "; nothing is kept now".to_owned(),
        (Some(now), Some(age)) => format!("; one of {} is kept now, {now}", span(age.round())),
        (Some(now), None) => format!("; what is kept now is {now}"),
        (None, _) => String::new(),
    };
    format!("{time}{stale}: {}{now}", cache.why)
}

fn under(key: &KeptUnder) -> String {
    let keys = key.credentials.iter().map(|(name, number)| match number {
        Some(number) => format!("key {name} (value {number})"),
        None => format!("key {name}"),
    });
    let mut parts: Vec<String> = keys.collect();
    parts.push("path".to_owned());
    parts.push(if key.query.is_some() { "query" } else { "no query" }.to_owned());
    parts.extend(key.member.as_ref().map(|member| format!("member {member}")));
    parts.push(match &key.accept {
        Some(accept) => format!("Accept {accept}"),
        None => "no Accept".to_owned(),
    });
    parts.extend(key.vary.iter().map(|one| match (&one.value, one.given) {
        (Some(value), _) => format!("{} {value}", one.name),
        (None, true) => format!("the value of {}", one.name),
        (None, false) => format!("no {}", one.name),
    }));
    parts.join(", ")
}

fn of_fields(fields: &Fields, lines: &mut Lines) {
    let go = if fields.go.is_empty() { "none of the call's" } else { &fields.go.join(", ") };
    lines.fact("fields", &format!("{go}; put in: {}", fields.added.join(", ")));
    for dropped in &fields.dropped {
        lines.fact("  stays", &format!("{}: {}", dropped.name, dropped.why));
    }
}

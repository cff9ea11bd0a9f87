//! `[cache]`, and `cache` of a route.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use http::{HeaderName, Method};

use crate::cache::{CacheSettings, Lifetime, Rule};
use crate::config::at::At;
use crate::config::file::{Cache, Kept, Route};
use crate::config::resolve::{Notes, period};
use crate::config::units::Size;
use crate::omni;
use crate::policy;
use crate::route::{Methods, Pattern};

/// Beyond this, answers belong on a disk.
const MOST_ENTRY: u64 = 1024 * 1024 * 1024;

/// A value for parameters that no endpoint spells out.
const VALUE: &str = "value-that-nobody-spells-out";

/// Fields that go upstream on every route and by which an answer may differ.
const USUAL: [&str; 3] = ["accept-language", "prefer", "user-agent"];

/// How much is kept, over all routes.
pub(super) fn settings(said: &Cache, notes: &mut Notes) -> Option<CacheSettings> {
    let usual = CacheSettings::default();
    let mut size = |name, said: &Option<At<Size>>, most: u64| match said {
        None => Some(None),
        Some(at) if at.value.0 == 0 => {
            notes
                .problems
                .at(&at.span, format!("`{name}` must be more than 0"))
                .help("nothing is kept on a route that does not say `cache`");
            None
        }
        Some(at) if at.value.0 > most => {
            notes
                .problems
                .at(&at.span, format!("`{name}` must be at most 1GiB"))
                .help("larger answers are passed on, and not kept");
            None
        }
        Some(at) => Some(Some(at.value.0)),
    };
    let all = size("max_bytes", &said.max_bytes, u64::MAX);
    let one = size("max_entry", &said.max_entry, MOST_ENTRY);
    let max_bytes = all?.unwrap_or(usual.max_bytes);
    // More than half would flush all others, and with what it takes beside its body not fit at all.
    let half = max_bytes / 2;
    // A default must not be what is wrong with a small `max_bytes`.
    let max_entry = one?.unwrap_or(half.min(u64::try_from(usual.max_entry).ok()?));
    if let (Some(at), true) = (&said.max_entry, max_entry > half) {
        notes
            .problems
            .at(&at.span, "`max_entry` is more than half of `max_bytes`")
            .help("raise `max_bytes`, which is for all answers together");
        return None;
    }
    Some(CacheSettings {
        max_bytes,
        max_entry: usize::try_from(max_entry).ok()?,
        stale_after_wait: period(&said.stale_after_wait, usual.stale_after_wait),
    })
}

/// How the answers of a route are kept; `None` within where they are not.
///
/// `pattern` and `methods` are `None` where they have a problem.
pub(super) fn rule(
    said: &Route,
    pattern: Option<&Pattern>,
    methods: Option<&Methods>,
    notes: &mut Notes,
) -> Option<Option<Rule>> {
    let upstream_says = said.respect_upstream.as_ref().filter(|at| at.value);
    let Some(At { span, value: kept }) = &said.cache else {
        let Some(at) = upstream_says else { return Some(None) };
        notes
            .problems
            .at(&at.span, "`respect_upstream` does nothing without `cache`")
            .help("add cache = { stale = \"10m\" }, or leave it out");
        return None;
    };
    // What is missing may stand there and be of a wrong type, which the walk over the tree has said.
    let slip = notes.problems.any_in(span);
    let ours = match upstream_says {
        Some(_) => upstreams(kept, notes).map(|()| (Lifetime::Upstream, Vec::new())),
        None => {
            let (lifetime, vary) = (ours(span, kept, slip, notes), vary(said, notes));
            lifetime.map(Lifetime::Ours).zip(vary)
        }
    };
    let useful = useful(span, pattern, methods, notes);
    let shared = shared(said, slip, notes);
    let (lifetime, vary) = ours.filter(|_| useful && shared)?;
    Some(Some(Rule { lifetime, stale: period(&kept.stale, Duration::ZERO), vary }))
}

/// Whether there is anything that could be kept.
fn useful(
    span: &Range<usize>,
    pattern: Option<&Pattern>,
    methods: Option<&Methods>,
    notes: &mut Notes,
) -> bool {
    if let Some(pattern) = pattern.filter(|pattern| is_never_kept(pattern)) {
        notes
            .problems
            .at(span, format!("answers of `{}` are never kept", pattern.as_str()))
            .help("leave `cache` out: they are true only once, or they are about keys and rights");
        return false;
    }
    if methods.is_some_and(|methods| !methods.takes(&Method::GET)) {
        notes
            .problems
            .at(span, "`cache` does nothing on a route that takes no GET")
            .help("leave it out, or add \"GET\" to `methods`");
        return false;
    }
    true
}

/// Whether no path of a pattern is ever kept.
///
/// What is never kept are whole branches, so the shortest path of a wildcard stands for all of
/// them, and a value that nobody spells out for all values.
fn is_never_kept(pattern: &Pattern) -> bool {
    let mut path = String::new();
    for segment in pattern.as_str().split('/').skip(1).take_while(|one| !one.starts_with("{*")) {
        let around = segment.split_once('{').zip(segment.split_once('}'));
        match around {
            Some(((before, _), (_, after))) => path.extend(["/", before, VALUE, after]),
            None => path.extend(["/", segment]),
        }
    }
    omni::is_never_kept(&path)
}

/// Whether it does not matter with which of the route's keys an answer was got.
fn shared(said: &Route, slip: bool, notes: &mut Notes) -> bool {
    let (Some(At { span, value: kept }), Some(keys)) = (&said.cache, &said.credential) else {
        return true;
    };
    let same = kept.same_data.as_ref().filter(|at| at.value);
    match (keys.texts().len(), same) {
        (0 | 1, Some(at)) => {
            notes
                .problems
                .at(&at.span, "`same_data` does nothing on a route with one key")
                .help("leave it out");
            false
        }
        (0 | 1, None) | (_, Some(_)) => true,
        (_, None) if slip => false,
        (_, None) => {
            notes
                .problems
                .at(span, "answers of a pool are kept only where all of its keys see the same")
                .help(
                    "keys of different owners may see different rows; where they do not, add \
                     same_data = true, else name one credential",
                );
            false
        }
    }
}

/// How long answers are fresh, as the route says.
fn ours(span: &Range<usize>, kept: &Kept, slip: bool, notes: &mut Notes) -> Option<Duration> {
    match &kept.ttl {
        Some(at) if at.value.0.is_zero() => {
            notes
                .problems
                .at(&at.span, "`ttl` must be more than 0")
                .help("leave `cache` out where nothing shall be kept");
            None
        }
        Some(at) => Some(at.value.0),
        None if slip => None,
        None => {
            notes
                .problems
                .at(span, "`cache` does not say how long an answer is fresh")
                .help("add ttl = \"30s\" to it, or respect_upstream = true to the route");
            None
        }
    }
}

/// Notes what upstream decides and the route says as well.
fn upstreams(kept: &Kept, notes: &mut Notes) -> Option<()> {
    let ttl = kept.ttl.as_ref().map(|at| &at.span);
    if let Some(span) = ttl {
        notes
            .problems
            .at(span, "`ttl` cannot stand beside `respect_upstream`")
            .help("RFC 9111 decides how long an answer is fresh; leave one of them out");
    }
    let vary = kept.vary.as_ref().map(|at| &at.span);
    if let Some(span) = vary {
        notes
            .problems
            .at(span, "`vary` cannot stand beside `respect_upstream`")
            .help("upstream's own Vary decides by which fields answers differ; leave it out");
    }
    (ttl.is_none() && vary.is_none()).then_some(())
}

/// The request fields by which answers differ.
fn vary(said: &Route, notes: &mut Notes) -> Option<Vec<HeaderName>> {
    let names = said.cache.iter().flat_map(|kept| &kept.value.vary).flat_map(|at| &at.value);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for name in names {
        let field = field(name, said, notes);
        if let Some(field) = &field
            && !seen.insert(field.as_str().to_owned())
        {
            notes.problems.at(&name.span, format!("`{field}` stands here twice"));
        }
        found.push(field);
    }
    found.into_iter().collect()
}

fn field(said: &At<String>, route: &Route, notes: &mut Notes) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(said.value.as_bytes()) else {
        notes.problems.at(&said.span, "this is not a header's name");
        return None;
    };
    if let Some(why) = pointless(name.as_str()) {
        notes
            .problems
            .at(&said.span, format!("`vary` cannot name `{name}`: {why}"))
            .help("leave it out");
        return None;
    }
    let added = |more: &At<String>| more.value.eq_ignore_ascii_case(name.as_str());
    let may = policy::may_forward(&name);
    let goes = USUAL.contains(&name.as_str()) || may && route.forward_headers.iter().any(added);
    if !goes {
        let way_out = match may {
            true => format!("add \"{name}\" to `forward_headers`, or leave it out"),
            false => "leave it out; it cannot be forwarded".to_owned(),
        };
        notes
            .problems
            .at(&said.span, format!("`{name}` does not go upstream, so no answer differs by it"))
            .help(way_out);
        return None;
    }
    Some(name)
}

/// Why no answer is told apart by a field, though it may go upstream.
fn pointless(name: &str) -> Option<&'static str> {
    match name {
        "accept" | "x-mcp-user-id" => Some("answers are always told apart by it"),
        "accept-encoding" => Some("all kept answers are of one content coding"),
        "if-match" | "if-none-match" | "if-modified-since" | "if-unmodified-since" => {
            Some("conditions are met here, with the answer that is kept")
        }
        "range" | "if-range" => Some("it asks for a part, and answers are kept whole"),
        "via" | "x-request-id" => Some("with every call another one, nothing would be found again"),
        _ if name.starts_with("content-") => Some("it is about a body, and a GET has none"),
        _ if name.starts_with("mcp-") || name.starts_with("x-mcp-") || name == "last-event-id" => {
            Some("it is for MCP, of which nothing is kept")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

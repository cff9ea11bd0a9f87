//! What becomes of a call's fields. Names alone: their values may be secrets.

use std::collections::BTreeSet;

use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST};
use http::{HeaderMap, HeaderName};

use super::document::{Dropped, Fields, KeptUnder, Varies};
use crate::policy::may_forward;
use crate::proxy::headers::RUN_AS;
use crate::proxy::sought::Sought;

/// Fields whose values are never secrets.
const PLAIN: [&str; 6] =
    ["accept", "accept-encoding", "accept-language", "content-type", "range", "x-mcp-user-id"];

/// `came` is what the caller sent, `scrubbed` what a call of its own takes along, and `goes` what is
/// sent: less, where it is a fetch for several callers.
pub(super) fn fields(came: &HeaderMap, scrubbed: &HeaderMap, goes: &HeaderMap) -> Fields {
    let names =
        |headers| -> BTreeSet<&str> { HeaderMap::keys(headers).map(|n| n.as_str()).collect() };
    let (came_names, goes_names) = (names(came), names(goes));
    // These are put in, whether the caller had one or not.
    let ours = BTreeSet::from([HOST.as_str(), AUTHORIZATION.as_str()]);
    let owned = |name: &&str| (*name).to_owned();
    let dropped = came_names.difference(&goes_names).filter(|name| **name != HOST.as_str());
    let dropped = dropped
        .map(|name| Dropped { name: owned(name), why: why(name, came, scrubbed).to_owned() });
    let added: BTreeSet<&str> = goes_names.difference(&came_names).chain(&ours).copied().collect();
    Fields {
        go: came_names
            .intersection(&goes_names)
            .filter(|n| !ours.contains(*n))
            .map(owned)
            .collect(),
        added: added.iter().map(owned).collect(),
        dropped: dropped.collect(),
    }
}

/// Why a field stays here.
fn why(name: &str, came: &HeaderMap, scrubbed: &HeaderMap) -> &'static str {
    let connections = came.get_all(CONNECTION).iter();
    let mut named = connections.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut is_named = || named.any(|one| one.trim_ascii().eq_ignore_ascii_case(name.as_bytes()));
    let is_never_sent = || HeaderName::try_from(name).is_ok_and(|name| !may_forward(&name));
    if name == AUTHORIZATION.as_str() {
        "the credential's goes in its place"
    } else if name.starts_with("x-omnigate") || name == "priority" || name == "prefer" {
        "it is for this gateway alone"
    } else if name == CONNECTION.as_str() || is_named() {
        "it belongs to one connection"
    } else if scrubbed.contains_key(name) {
        "answers are kept for all who ask the same; `vary` makes it a part of what is asked"
    } else if name == RUN_AS.as_str() {
        "the route does not let the caller say for whom it acts"
    } else if is_never_sent() {
        "it is never sent on"
    } else {
        "it is not on the list; `forward_headers` of the route adds it"
    }
}

/// What an answer to this call is kept under. `live` says whether the numbers of the keys' values are
/// those of a gateway that runs.
pub(super) fn kept_under(sought: &Sought<'_>, live: bool) -> KeptUnder {
    let fields = &sought.head.headers;
    let keys = sought.brought.keys.iter();
    let vary = sought.brought.keeps.rule.vary.iter().map(|name| Varies {
        name: name.as_str().to_owned(),
        given: fields.contains_key(name),
        value: value(fields, name).filter(|_| PLAIN.contains(&name.as_str())),
    });
    KeptUnder {
        credentials: keys
            .map(|(id, generation)| (id.to_string(), live.then(|| generation.number())))
            .collect(),
        path: sought.head.uri.path().to_owned(),
        query: sought.head.uri.query().map(str::to_owned),
        member: value(fields, &RUN_AS),
        accept: value(fields, &ACCEPT),
        vary: vary.collect(),
    }
}

fn value(fields: &HeaderMap, name: &HeaderName) -> Option<String> {
    let all = fields.get_all(name).iter();
    let all: Vec<_> = all.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

//! Who and what takes part in a call, in words.

use std::time::Duration;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use super::document::{
    ActsFor, Charged, KeySaid, Known, Other, Patience, Saver, Sending, Taken, Urgency, Who,
};
use crate::base::Priority;
use crate::caller::{Caller, ToldBy};
use crate::credential::{Credential, Kind};
use crate::omni::{self, Endpoint, Keys};
use crate::policy::{Impersonation, Policy};
use crate::proxy::cached::Sight;
use crate::proxy::plan::{Plan, PlannedRoute};
use crate::proxy::{Wait, headers, retry};
use crate::route::{CanonicalPath, Lost, Methods, Rival};
use crate::saver::Savers;
use crate::shape::{BudgetSettings, Profile, Scope};

/// With millisecond precision.
pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

pub(super) fn who(caller: &Caller, told_by: ToldBy, headers: &HeaderMap) -> Who {
    let (word, why) = match told_by {
        ToldBy::Token => ("token", "it shows this caller's token"),
        ToldBy::Certificate => ("certificate", "its certificate has this caller's name"),
        ToldBy::User => ("user", "the user at the other end of the socket is this caller's"),
        ToldBy::Address => ("address", "its address is in this caller's range"),
        ToldBy::Word => ("word", "it says so itself, in X-Omnigate-Caller"),
        ToldBy::Nothing => ("nothing", "no rule of the config knows it"),
    };
    let ignored = told_by != ToldBy::Word && headers.contains_key("x-omnigate-caller");
    let more = if ignored { "; its X-Omnigate-Caller does not count here" } else { "" };
    Who { name: caller.id.to_string(), told_by: word.to_owned(), why: format!("{why}{more}") }
}

pub(super) fn endpoint(endpoint: &Endpoint) -> Known {
    let kinds = [
        (endpoint.list().is_some(), "list"),
        (endpoint.streams(), "stream"),
        (endpoint.writes(), "write"),
        (!endpoint.writes(), "read"),
        (endpoint.is_sensitive(), "sensitive"),
        (endpoint.is_never_kept(), "never-kept"),
        (endpoint.needs_admin(), "admin"),
        (endpoint.refuses_personal(), "organization-key"),
    ];
    let kinds = kinds.into_iter().filter(|(is, _)| *is).map(|(_, word)| word.to_owned());
    Known { name: endpoint.to_string(), kinds: kinds.collect() }
}

/// Those that take the path; where none does, those that are near.
pub(super) fn others(
    plan: &Plan,
    method: &Method,
    path: &CanonicalPath,
    route: Option<&PlannedRoute>,
) -> Vec<Other> {
    let rivals = plan.rivals(method, path, route);
    if route.is_none() && rivals.is_empty() {
        return plan.nearest(method, path).into_iter().map(near).collect();
    }
    rivals.iter().map(rival).collect()
}

fn near(route: &PlannedRoute) -> Other {
    Other {
        name: route.id.to_string(),
        path: route.template.to_string(),
        lost: "path".to_owned(),
        why: "it takes other paths, that begin as this one does".to_owned(),
    }
}

fn rival(rival: &Rival<'_>) -> Other {
    let (lost, why) = match rival.lost {
        Lost::Method => {
            let takes = methods(rival.methods).join(", ");
            ("method", format!("it takes {takes}"))
        }
        Lost::EscapedSeparator => {
            ("escaped-separator", "a wildcard takes no escaped separator".to_owned())
        }
        Lost::Wildcard => ("wildcard", "a wildcard comes after every other path".to_owned()),
        Lost::ListsNoHead => ("lists-no-head", "the other route lists HEAD".to_owned()),
        Lost::LessSpecific => ("less-specific", "its path is less specific".to_owned()),
    };
    let (name, path) = (rival.id.to_string(), rival.pattern.as_str().to_owned());
    Other { name, path, lost: lost.to_owned(), why }
}

fn methods(methods: &Methods) -> Vec<String> {
    match methods {
        Methods::Any => Vec::new(),
        Methods::Only(list) => list.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn taken(route: &PlannedRoute, others: &[Other]) -> Taken {
    let lost = others.iter().filter(|other| other.lost != "method").count();
    let why = match (others.len(), lost) {
        (0, _) => "no other route takes this path",
        (_, 0) => "no other route of this path takes this method",
        (_, _) => "the most specific of the routes that take this call",
    };
    Taken {
        name: route.id.to_string(),
        path: route.template.to_string(),
        methods: methods(&route.methods),
        why: why.to_owned(),
    }
}

pub(super) fn key(key: &Credential, endpoint: Option<&Endpoint>, live: bool) -> KeySaid {
    let suits = endpoint.and_then(|endpoint| match endpoint.keys() {
        Keys::Any | Keys::OrganizationForOthers => Some(true),
        Keys::Organization => Some(key.kind() == Kind::Organization),
        Keys::Unknown => (key.kind() == Kind::Organization).then_some(true),
    });
    KeySaid {
        name: key.id().to_string(),
        kind: key.kind().as_str().to_owned(),
        suits,
        state: live.then(|| key.state().as_str().to_owned()),
        age_s: key.age().filter(|_| live).map(seconds),
    }
}

pub(super) fn charged(budget: &BudgetSettings) -> Charged {
    let limit = budget.limit.get();
    let each = |limit: u32| Some(seconds((budget.window + budget.guard) / limit.max(1)));
    let (profile, at_once, then_each_s) = match budget.profile {
        Profile::Burst => ("burst", limit, None),
        Profile::Smooth { burst } => ("smooth", burst.get(), each(limit)),
        Profile::Strict { burst } => ("strict", burst.get(), each(limit - 1)),
    };
    Charged {
        name: budget.id.to_string(),
        limit,
        window_s: seconds(budget.window),
        profile: profile.to_owned(),
        at_once: at_once.min(limit),
        then_each_s,
        reserve: budget.reserve,
        scope: match budget.scope {
            Scope::Organization => "organization".to_owned(),
            Scope::Credential => "credential".to_owned(),
        },
    }
}

/// Who decided about the priority, in the order of [`Caller::priority_of`].
pub(super) fn urgency(route: &PlannedRoute, wait: &Wait, headers: &HeaderMap) -> Urgency {
    let asked = headers::asked_priority(headers);
    let (by, said) = match (asked, route.priority) {
        (Some(asked), _) => ("call", asked),
        (None, Some(route)) => ("route", route),
        (None, None) if *wait.caller == Caller::anonymous() => ("default", wait.caller.priority),
        (None, None) => ("caller", wait.caller.priority),
    };
    let instead_of = (said != wait.priority).then(|| Priority::as_str(said).to_owned());
    Urgency { value: wait.priority.to_string(), by: by.to_owned(), instead_of }
}

/// Who decided how long it waits, in the order of [`Proxy::decide`](crate::proxy::Proxy).
pub(super) fn patience(
    route: &PlannedRoute,
    wait: &Wait,
    headers: &HeaderMap,
    within: Duration,
) -> Patience {
    let said = [
        (headers::preferred_wait(headers), "call"),
        (route.max_wait, "route"),
        (wait.caller.max_wait, "caller"),
    ];
    let by = said.into_iter().find(|(time, _)| time.is_some()).map_or("budget", |(_, by)| by);
    Patience { seconds: seconds(within), by: by.to_owned() }
}

pub(super) fn acts_for(policy: &Policy) -> ActsFor {
    let (rule, member, why) = match &policy.impersonation {
        Impersonation::Deny => ("deny", None, "it acts for the key's owner, and may name nobody"),
        Impersonation::Allow => ("allow", None, "it acts for whomever it names"),
        Impersonation::Pin(member) => {
            ("pin", Some(member.as_str().to_owned()), "it acts for this member alone")
        }
    };
    ActsFor { rule: rule.to_owned(), member, why: why.to_owned() }
}

pub(super) fn sending(route: &PlannedRoute, method: &Method, path: &str) -> Sending {
    let streaming = omni::is_streaming(path);
    let idempotent = retry::is_idempotent(method);
    let why = match (streaming, idempotent) {
        (true, _) => "its answer comes bit by bit, so it is never sent again once it was begun",
        (false, true) => "it may be done twice, so it is sent again where upstream fails",
        (false, false) => {
            "it must not be done twice, so it is sent again only where Omni never saw it"
        }
    };
    Sending {
        streaming,
        repeated: idempotent && !streaming,
        why: why.to_owned(),
        timeout_s: route.response_timeout.map(seconds),
    }
}

/// What a route does with a call to have fewer made; `target` is the call's own.
pub(super) fn savers(savers: &Savers, method: &Method, target: &PathAndQuery) -> Vec<Saver> {
    let page_size = savers.page_size.map(|size| {
        let why = match savers.sized(method, target) {
            Some(sent) => format!("it is sent as {sent}"),
            None => "it is sent as it is: it names a page size, or takes none so large".to_owned(),
        };
        Saver { name: format!("page_size = {size}"), why }
    });
    let min_interval = savers.min_interval.map(|said| {
        let why = match savers.interval(method, target.path()) {
            Some(_) => "it goes so long after the last question about the same job",
            None => "it is no question about a job, and waits for none",
        };
        Saver { name: format!("min_interval = {}s", seconds(said)), why: why.to_owned() }
    });
    page_size.into_iter().chain(min_interval).collect()
}

/// Why a call on a route that keeps answers goes on as it does.
pub(super) fn of_wishes(sight: &Sight, head: &Parts) -> String {
    let why = match sight {
        Sight::Kept { .. } => "the route keeps it, and it is there",
        Sight::NotKept => "the call takes only what is kept, and nothing is",
        Sight::Pass(_) if head.method == Method::HEAD => {
            "the route keeps it; a HEAD fetches nothing"
        }
        Sight::Pass(_) => "the route keeps it; this call goes past what is kept, as it asks",
        Sight::Fetch { .. } => "the route keeps it for the next who asks the same",
    };
    why.to_owned()
}

//! `[[routes]]`.

use std::collections::BTreeMap;
use std::ops::Range;

use http::{HeaderName, Method};

use crate::base::RouteId;
use crate::config::at::At;
use crate::config::file::{Coding, File, Route};
use crate::config::resolve::budgets::Budgets;
use crate::config::resolve::credentials::Credentials;
use crate::config::resolve::{
    Notes, cache, callers, catalogue, impersonation, keys, name_is_plain, savers, some_time,
};
use crate::policy::{self, Impersonation, Policy};
use crate::proxy::RouteSettings;
use crate::route::{Methods, Pattern, Router};
use crate::shape::Key;

/// The methods that pass through at all.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

pub(super) fn resolve(
    file: &File,
    budgets: &Budgets<'_>,
    credentials: &Credentials<'_>,
    notes: &mut Notes,
) -> Option<Vec<RouteSettings>> {
    let said = file.routes.as_ref()?;
    if said.is_empty() {
        notes
            .problems
            .whole("there are no routes, so that every call would be refused")
            .help("add\n[[routes]]\nname = \"all\"\npath = \"/{*rest}\"\ncredential = \"org\"");
    }
    let mut names = BTreeMap::new();
    let mut matched = Vec::new();
    let mut charged = Vec::new();
    let mut routes = Vec::new();
    for At { value: said, .. } in said {
        unique_name(said, &mut names, notes);
        let methods = methods(&said.methods, notes);
        let pattern = said.path.as_ref().and_then(|path| pattern(path, notes));
        if let (Some(path), Some(pattern), Some(methods)) = (&said.path, &pattern, &methods) {
            matched.push(Matched {
                said,
                span: &path.span,
                pattern: pattern.clone(),
                methods: methods.clone(),
            });
        }
        let keys = keys::of_route(said, budgets, credentials, notes);
        charged.extend(keys.iter().flatten().cloned());
        routes.push(route(said, pattern, methods, keys, notes));
    }
    keys::told_apart(&charged, budgets, credentials, notes);
    // With a route missing, another would seem to serve its calls.
    if let Some(router) = router(&matched, notes).filter(|_| matched.len() == said.len()) {
        catalogue::check(&matched, &router, credentials, notes);
        savers::check(&matched, &router, notes);
    }
    routes.into_iter().collect()
}

fn route(
    said: &Route,
    pattern: Option<Pattern>,
    methods: Option<Methods>,
    keys: Option<Vec<Key>>,
    notes: &mut Notes,
) -> Option<RouteSettings> {
    let name = said.name.as_ref().map(|name| name.value.as_str());
    let mut time = |key, said: &Option<At<_>>| match said {
        None => Some(None),
        some => some_time(key, some, std::time::Duration::ZERO, notes).map(Some),
    };
    let response_timeout = time("timeout", &said.timeout);
    let forward_headers: Vec<Option<HeaderName>> =
        said.forward_headers.iter().map(|name| header(name, notes)).collect();
    let impersonation = match &said.impersonation {
        None => Some(Impersonation::default()),
        Some(said) => impersonation::resolve(said, notes),
    };
    let savers = savers::resolve(said, notes);
    let cache = cache::rule(said, pattern.as_ref(), methods.as_ref(), notes);
    Some(RouteSettings {
        id: RouteId::new(name?),
        pattern: pattern?,
        methods: methods?,
        keys: keys?,
        priority: said.priority.as_ref().map(|at| callers::priority(at.value)),
        max_wait: said.max_wait.as_ref().map(|at| at.value.0),
        response_timeout: response_timeout?,
        policy: Policy {
            forward_headers: forward_headers.into_iter().collect::<Option<_>>()?,
            max_body: said.max_body.as_ref().map(|at| at.value.0),
            impersonation: impersonation?,
            plain_answers: match said.accept_encoding.as_ref().map(|at| at.value) {
                None => false,
                Some(Coding::Identity) => true,
            },
            sensitive: said.sensitive.as_ref().is_some_and(|at| at.value),
        },
        cache: cache?,
        savers: savers?,
    })
}

fn unique_name<'a>(said: &'a Route, names: &mut BTreeMap<&'a str, ()>, notes: &mut Notes) {
    let Some(name) = &said.name else { return };
    if name_is_plain(&name.value, &name.span, "route", notes)
        && names.insert(&name.value, ()).is_some()
    {
        notes
            .problems
            .at(&name.span, format!("two routes are named `{}`", name.value))
            .help("give each a name of its own: logs and metrics tell them apart by it");
    }
}

fn pattern(said: &At<String>, notes: &mut Notes) -> Option<Pattern> {
    Pattern::parse(&said.value)
        .map_err(|error| {
            notes
                .problems
                .at(&said.span, format!("`path`: {error}"))
                .help("such as /api/v1/documents/{identifier} or /api/v1/{*rest}");
        })
        .ok()
}

fn methods(said: &Option<At<Vec<At<String>>>>, notes: &mut Notes) -> Option<Methods> {
    let Some(At { span, value: said }) = said else { return Some(Methods::Any) };
    if said.is_empty() {
        notes.problems.at(span, "`methods` is empty").help("leave it out for all methods");
        return None;
    }
    let mut found: Vec<Option<Method>> = Vec::new();
    for said in said {
        let method = METHODS.iter().find(|method| method.as_str() == said.value);
        if method.is_none() {
            let known = METHODS.iter().map(Method::as_str);
            notes
                .problems
                .at(&said.span, format!("no calls with the method `{}` are made", said.value))
                .help_with_name(&said.value, known);
        } else if found.iter().flatten().any(|earlier| Some(earlier) == method) {
            notes.problems.at(&said.span, format!("`{}` stands here twice", said.value));
        }
        found.push(method.cloned());
    }
    found.into_iter().collect::<Option<_>>().map(Methods::Only)
}

fn header(said: &At<String>, notes: &mut Notes) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(said.value.as_bytes()) else {
        notes.problems.at(&said.span, "this is not a header's name");
        return None;
    };
    if !policy::may_forward(&name) {
        notes.problems.at(&said.span, format!("`{name}` is never forwarded")).help(
            "it would change whose call this is, or where one request ends, or it is for this gateway alone; leave it out",
        );
        return None;
    }
    Some(name)
}

/// What decides which calls a route takes, and where that stands.
pub(super) struct Matched<'a> {
    pub(super) said: &'a Route,
    span: &'a Range<usize>,
    pub(super) pattern: Pattern,
    methods: Methods,
}

/// The router over these routes; `None` after routes were noted that want the same calls.
fn router(routes: &[Matched<'_>], notes: &mut Notes) -> Option<Router> {
    // Told apart by their places: a name may be missing, or stand there twice.
    let table = routes.iter().enumerate().map(|(at, route)| {
        (RouteId::new(at.to_string()), route.pattern.clone(), route.methods.clone())
    });
    let collisions = match Router::new(table.collect()) {
        Ok(router) => return Some(router),
        Err(collisions) => collisions,
    };
    let place = |id: &RouteId| id.as_str().parse().ok().and_then(|at: usize| routes.get(at));
    for collision in collisions {
        let pair = place(&collision.first).zip(place(&collision.second));
        if let Some((first, second)) = pair {
            let (first, path) = (first.pattern.as_str(), second.pattern.as_str());
            let message = format!("`{path}` takes the same calls as `{first}` in an earlier route");
            notes
                .problems
                .at(second.span, message)
                .help("give them different paths, or methods that do not overlap");
        }
    }
    None
}

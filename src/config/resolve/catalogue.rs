//! Routes whose key is refused by the endpoints that they serve.

use http::Method;

use crate::config::at::{At, TextOr};
use crate::config::report::Problem;
use crate::config::resolve::Notes;
use crate::config::resolve::credentials::Credentials;
use crate::config::resolve::routes::Matched;
use crate::credential::Kind;
use crate::omni::{self, Endpoint};
use crate::route::{CanonicalPath, Found, Pattern, Router};

/// A value for parameters that neither a route nor an endpoint spells out.
const VALUE: &str = "value-that-nobody-spells-out";

/// Notes each route with a key that endpoints of its refuse: as a problem when all of them do, as a
/// warning when some do.
pub(super) fn check(
    routes: &[Matched<'_>],
    router: &Router,
    credentials: &Credentials<'_>,
    notes: &mut Notes,
) {
    for (at, route) in routes.iter().enumerate() {
        let key = route.said.credential.as_ref().and_then(|said| refusable(said, credentials));
        let (Some(name), Some((key, kind))) = (&route.said.name, key) else { continue };
        let serves = |endpoint: &&Endpoint| serves(router, at, &route.pattern, endpoint);
        let served: Vec<&Endpoint> = omni::endpoints().filter(serves).collect();
        let refusing: Vec<&Endpoint> =
            served.iter().copied().filter(|endpoint| endpoint.refuses_personal()).collect();
        let Some(first) = refusing.first() else { continue };
        let who = match (refusing.len(), served.len()) {
            (1, 1) => format!("{first}, the only endpoint that the route serves"),
            (1, all) => format!("{first}, one of {all} endpoints that the route serves"),
            (some, all) if some == all => {
                format!("all {all} endpoints that the route serves, such as {first}")
            }
            (some, all) => {
                format!("{some} of {all} endpoints that the route serves, such as {first}")
            }
        };
        let (name, of) = (&name.value, &key.value);
        let message =
            format!("route `{name}`: credential `{of}` of kind \"{kind}\" is refused by {who}");
        if refusing.len() == served.len() {
            let problem = notes.problems.at(&key.span, message);
            problem.help("name a credential of kind \"organization\"");
        } else {
            way_out(notes.warnings.at(&key.span, message), &refusing);
        }
    }
}

/// The first key of a route that some endpoint may refuse, and its kind.
fn refusable(
    said: &At<TextOr<Vec<At<String>>>>,
    credentials: &Credentials<'_>,
) -> Option<(At<String>, &'static str)> {
    said.texts().into_iter().find_map(|name| {
        let kind = match credentials.known.get(name.value.as_str())?.kind? {
            Kind::Organization => return None,
            Kind::Personal => "personal",
            Kind::Mcp => "mcp",
        };
        Some((name, kind))
    })
}

/// Whether the router sends calls to this endpoint to route number `at`.
pub(super) fn serves(router: &Router, at: usize, pattern: &Pattern, endpoint: &Endpoint) -> bool {
    let Some(path) = common_path(endpoint, pattern) else { return false };
    // What the pattern puts into a parameter may make it another endpoint.
    let same = |found: &Endpoint| std::ptr::eq(found, endpoint);
    let head = (*endpoint.method() == Method::GET).then_some(&Method::HEAD);
    let mut methods = [endpoint.method()].into_iter().chain(head);
    omni::endpoint(endpoint.method(), path.as_str()).is_some_and(same)
        && methods.any(|method| router.find(method, &path) == Found::Route(at))
}

/// A path that both the endpoint and the pattern take.
fn common_path(endpoint: &Endpoint, pattern: &Pattern) -> Option<CanonicalPath> {
    let pattern = pattern.as_str();
    let mut wanted = pattern.strip_suffix('/').unwrap_or(pattern).split('/').skip(1).peekable();
    let mut path = String::new();
    for segment in endpoint.segments() {
        path.push('/');
        let in_wildcard = wanted.peek().is_some_and(|wanted| wanted.starts_with("{*"));
        let wanted = if in_wildcard { "{any}" } else { wanted.next()? };
        path.push_str(&common_segment(segment, wanted)?);
    }
    let all = wanted.next().is_none_or(|rest| rest.starts_with("{*"));
    CanonicalPath::parse(&path).ok().filter(|_| all)
}

fn common_segment(endpoint: &str, pattern: &str) -> Option<String> {
    let parameter = pattern.split_once('{').zip(pattern.split_once('}'));
    let around = parameter.map(|((before, _), (_, after))| (before, after));
    match (endpoint.starts_with('{'), around) {
        (true, Some((before, after))) => Some(format!("{before}{VALUE}{after}")),
        (true, None) => Some(pattern.to_owned()),
        // Whether they fit is the router's to say.
        (false, Some(_)) => Some(endpoint.to_owned()),
        (false, None) => endpoint.eq_ignore_ascii_case(pattern).then(|| endpoint.to_owned()),
    }
}

/// A route of their own for the endpoints that refuse.
fn way_out(problem: &mut Problem, refusing: &[&Endpoint]) {
    let mut common: Vec<&str> =
        refusing.first().into_iter().flat_map(|one| one.segments()).collect();
    for endpoint in refusing {
        let same = endpoint.segments().zip(&common).take_while(|(a, b)| a == *b).count();
        common.truncate(same);
    }
    let path = match refusing {
        [one] => one.template().to_owned(),
        _ => common.iter().flat_map(|one| ["/", one]).collect::<String>() + "/{*rest}",
    };
    problem.help(format!(
        "give these a route of their own, with a credential of kind \"organization\":\n\
         path = \"{path}\""
    ));
}

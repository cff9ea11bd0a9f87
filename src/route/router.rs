//! From method and path to the route.

use std::collections::BTreeSet;

use http::Method;

use crate::base::RouteId;

use super::path::CanonicalPath;
use super::pattern::{Methods, Pattern, fold};

/// How many routes are named to a caller whose path has none.
const NEAREST: usize = 3;

/// All routes of a plan; says which one a call takes.
///
/// Among the routes that take the call's method, a pattern without a wildcard goes before every
/// pattern with one; among equals the more specific goes first, as matchit has it. So a `POST` to a
/// path whose own route lists `GET` alone falls through to the `/{*rest}` that takes it. ASCII
/// letter case and one trailing slash do not count, as [`Pattern`] says.
#[derive(Debug)]
pub struct Router {
    pub(super) routes: Vec<(RouteId, Pattern, Methods)>,
    /// For each method that some route lists, and `HEAD`.
    listed: Vec<(Method, Tree)>,
    /// For every other method: the routes that take any.
    other: Tree,
}

/// What the router knows of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The route with this index, in the order that [`Router::new`] was given.
    Route(usize),
    /// The path holds an escaped separator, which no wildcard route takes.
    EscapedSeparator,
    /// The path has routes, but none for this method.
    MethodNotAllowed(Vec<Method>),
    /// The path has no route.
    Nothing {
        /// Up to three routes whose patterns begin as the path does.
        nearest: Vec<RouteId>,
    },
}

/// Two routes that take the same call, so that neither goes before the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("routes `{first}` and `{second}` take the same path and method")]
pub struct Collision {
    /// The one that stands first.
    pub first: RouteId,
    /// The one that stands after it.
    pub second: RouteId,
}

/// The routes that take one method.
#[derive(Debug, Default)]
struct Tree {
    exact: matchit::Router<usize>,
    wild: matchit::Router<usize>,
}

impl Router {
    /// Builds the router.
    ///
    /// # Errors
    /// Names each pair of routes that collide: same or ambiguous pattern and a method in common.
    pub fn new(routes: Vec<(RouteId, Pattern, Methods)>) -> Result<Self, Vec<Collision>> {
        let mut methods = vec![Method::HEAD];
        for (_, _, takes) in &routes {
            if let Methods::Only(list) = takes {
                let new = list.iter().filter(|method| takes.takes(method));
                for method in new {
                    if !methods.contains(method) {
                        methods.push(method.clone());
                    }
                }
            }
        }
        let mut collisions = BTreeSet::new();
        let mut listed = Vec::with_capacity(methods.len());
        for method in methods {
            let tree = Tree::grow(&routes, Some(&method), &mut collisions);
            listed.push((method, tree));
        }
        let other = Tree::grow(&routes, None, &mut collisions);
        if collisions.is_empty() {
            Ok(Self { routes, listed, other })
        } else {
            Err(collisions.into_iter().map(|pair| pair.names(&routes)).collect())
        }
    }

    /// Says which route a call takes.
    pub fn find(&self, method: &Method, path: &CanonicalPath) -> Found {
        let folded = fold(path.as_str());
        let index = match *method {
            Method::CONNECT | Method::TRACE => None,
            _ => self.tree(method).at(&folded),
        };
        match index {
            Some(index) if path.has_escaped_separator() && self.routes[index].1.is_wildcard() => {
                Found::EscapedSeparator
            }
            Some(index) => Found::Route(index),
            None => self.missed(&folded),
        }
    }

    fn tree(&self, method: &Method) -> &Tree {
        self.listed.iter().find(|(m, _)| m == method).map_or(&self.other, |(_, tree)| tree)
    }

    fn missed(&self, folded: &str) -> Found {
        let takes = |(_, tree): &&(Method, Tree)| tree.at(folded).is_some();
        let allowed: Vec<Method> =
            self.listed.iter().filter(takes).map(|(method, _)| method.clone()).collect();
        if allowed.is_empty() {
            Found::Nothing { nearest: self.nearest(folded) }
        } else {
            Found::MethodNotAllowed(allowed)
        }
    }

    /// The routes whose patterns share the longest beginning with the path. Linear in its length,
    /// because anybody can ask.
    fn nearest(&self, folded: &str) -> Vec<RouteId> {
        let shared = |pattern: &Pattern| {
            pattern.folded().bytes().zip(folded.bytes()).take_while(|(a, b)| a == b).count()
        };
        let mut near: Vec<(usize, &RouteId)> =
            self.routes.iter().map(|(id, pattern, _)| (shared(pattern), id)).collect();
        near.retain(|(shared, _)| *shared > 1);
        near.sort_by_key(|(shared, _)| std::cmp::Reverse(*shared));
        near.into_iter().take(NEAREST).map(|(_, id)| id.clone()).collect()
    }
}

impl Tree {
    /// Plants the routes that take `method`; `None` stands for a method that nobody lists.
    fn grow(
        routes: &[(RouteId, Pattern, Methods)],
        method: Option<&Method>,
        collisions: &mut BTreeSet<Pair>,
    ) -> Self {
        let says = |takes: &Methods| match (takes, method) {
            (Methods::Any, _) => true,
            (Methods::Only(list), Some(method)) => list.contains(method),
            (Methods::Only(_), None) => false,
        };
        let takes = |takes: &Methods| method.is_some_and(|method| takes.takes(method));
        let (said, rest): (Vec<usize>, Vec<usize>) =
            (0..routes.len()).partition(|&at| says(&routes[at].2));
        // A HEAD that only comes along with GET yields to one that is listed.
        let comes_along = rest.into_iter().filter(|&at| {
            takes(&routes[at].2)
                && !said.iter().any(|&other| routes[other].1.same_paths(&routes[at].1))
        });

        let mut tree = Self::default();
        let mut planted: Vec<usize> = Vec::new();
        for at in said.iter().copied().chain(comes_along) {
            if tree.plant(&routes[at].1, at).is_ok() {
                planted.push(at);
            } else {
                let mut rivals: Vec<usize> = planted.clone();
                rivals.retain(|&other| {
                    let mut two = Self::default();
                    let first = two.plant(&routes[other].1, other);
                    first.and_then(|()| two.plant(&routes[at].1, at)).is_err()
                });
                // No route is ever dropped in silence, whatever matchit finds wrong with it.
                if rivals.is_empty() {
                    rivals.push(planted.last().copied().unwrap_or(at));
                }
                collisions.extend(rivals.into_iter().map(|o| Pair(o.min(at), o.max(at))));
            }
        }
        tree
    }

    fn plant(&mut self, pattern: &Pattern, at: usize) -> Result<(), matchit::InsertError> {
        match pattern.empty_rest() {
            None => self.exact.insert(pattern.folded(), at),
            Some(empty_rest) => {
                // matchit's wildcard takes at least one character.
                self.wild.insert(empty_rest, at)?;
                self.wild.insert(pattern.folded(), at)
            }
        }
    }

    fn at(&self, folded: &str) -> Option<usize> {
        let found = self.exact.at(folded).or_else(|_| self.wild.at(folded));
        found.ok().map(|found| *found.value)
    }
}

/// Two routes by their index, the smaller one first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pair(usize, usize);

impl Pair {
    fn names(&self, routes: &[(RouteId, Pattern, Methods)]) -> Collision {
        Collision { first: routes[self.0].0.clone(), second: routes[self.1].0.clone() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(name: &str, pattern: &str, methods: &str) -> (RouteId, Pattern, Methods) {
        let methods = match methods {
            "*" => Methods::Any,
            list => Methods::Only(list.split(' ').map(|m| m.parse().unwrap()).collect()),
        };
        (RouteId::new(name), Pattern::parse(pattern).unwrap(), methods)
    }

    fn router(routes: &[(&str, &str)]) -> Router {
        let named = routes.iter().map(|(pattern, methods)| route(pattern, pattern, methods));
        Router::new(named.collect()).unwrap()
    }

    fn find(router: &Router, method: &str, path: &str) -> Found {
        router.find(&method.parse().unwrap(), &CanonicalPath::parse(path).unwrap())
    }

    /// The pattern that takes the call, or `-`.
    fn taker<'a>(router: &'a Router, method: &str, path: &str) -> &'a str {
        match find(router, method, path) {
            Found::Route(at) => router.routes[at].1.as_str(),
            Found::EscapedSeparator | Found::MethodNotAllowed(_) | Found::Nothing { .. } => "-",
        }
    }

    #[test]
    fn the_more_specific_route_goes_first() {
        let all = [
            ("/{*rest}", "*"),
            ("/api/v1/documents", "*"),
            ("/api/v1/documents/{id}", "*"),
            ("/api/v1/documents/{*rest}", "*"),
            ("/api/v1/documents/new", "*"),
        ];
        let router = router(&all);
        for (path, pattern) in [
            ("/api/v1/documents", "/api/v1/documents"),
            ("/api/v1/documents/", "/api/v1/documents"),
            ("/API/v1/Documents", "/api/v1/documents"),
            ("/api/v1/documents/NEW/", "/api/v1/documents/new"),
            ("/api/v1/documents/New-1/", "/api/v1/documents/{id}"),
            ("/api/v1/DOCUMENTS/7/move/", "/api/v1/documents/{*rest}"),
            ("/api/v1/documents/new", "/api/v1/documents/new"),
            ("/api/v1/documents/7", "/api/v1/documents/{id}"),
            ("/api/v1/documents/7/move", "/api/v1/documents/{*rest}"),
            ("/api/v1/folders", "/{*rest}"),
            ("/", "/{*rest}"),
        ] {
            assert_eq!(taker(&router, "GET", path), pattern, "{path}");
        }
    }

    #[test]
    fn a_method_that_the_closest_route_does_not_take_falls_through_to_the_wildcard() {
        let router = router(&[("/api/v1/documents", "GET"), ("/{*rest}", "*")]);
        assert_eq!(taker(&router, "GET", "/api/v1/documents"), "/api/v1/documents");
        assert_eq!(taker(&router, "POST", "/api/v1/documents"), "/{*rest}");
        assert_eq!(taker(&router, "PURGE", "/api/v1/documents"), "/{*rest}");
        assert_eq!(taker(&router, "OPTIONS", "/api/v1/documents"), "/{*rest}");
    }

    #[test]
    fn get_brings_head_along_unless_another_route_lists_it() {
        let both = router(&[("/a", "GET"), ("/{*rest}", "*")]);
        assert_eq!(taker(&both, "HEAD", "/a"), "/a");
        let listed = Router::new(vec![route("get", "/{x}", "GET"), route("head", "/{y}", "HEAD")]);
        assert_eq!(taker(&listed.unwrap(), "HEAD", "/a"), "/{y}");
        let ambiguous = Router::new(vec![route("a", "/a{x}", "GET"), route("b", "/{x}b", "HEAD")]);
        assert_eq!(ambiguous.unwrap_err().len(), 1);
    }

    #[test]
    fn a_path_without_the_method_names_those_it_has() {
        let router = router(&[("/a", "GET POST"), ("/b", "DELETE")]);
        assert_eq!(
            find(&router, "PUT", "/a"),
            Found::MethodNotAllowed(vec![Method::HEAD, Method::GET, Method::POST])
        );
        assert_eq!(find(&router, "GET", "/b"), Found::MethodNotAllowed(vec![Method::DELETE]));
    }

    #[test]
    fn a_path_without_a_route_names_the_nearest() {
        let all =
            [("/api/v1/documents", "GET"), ("/api/v1/folders", "GET"), ("/mcp/https", "POST")];
        let router = router(&all);
        let Found::Nothing { nearest } = find(&router, "GET", "/api/v1/document") else { panic!() };
        assert_eq!(nearest, [RouteId::new("/api/v1/documents"), RouteId::new("/api/v1/folders")]);
        assert_eq!(find(&router, "GET", "/x"), Found::Nothing { nearest: vec![] });
        assert_eq!(
            find(&router, "GET", "/API/v1/documents/7"),
            Found::Nothing {
                nearest: vec![RouteId::new("/api/v1/documents"), RouteId::new("/api/v1/folders")]
            }
        );
    }

    #[test]
    fn connect_and_trace_have_no_route() {
        let router = router(&[("/{*rest}", "*"), ("/a", "TRACE GET")]);
        assert_eq!(taker(&router, "TRACE", "/a"), "-");
        assert_eq!(taker(&router, "CONNECT", "/a"), "-");
    }

    #[test]
    fn an_escaped_separator_never_goes_through_a_wildcard() {
        let path = "/api/v1/labels/a%2Fb";
        let wild = router(&[("/{*rest}", "*")]);
        assert_eq!(find(&wild, "GET", path), Found::EscapedSeparator);
        let exact = router(&[("/{*rest}", "*"), ("/api/v1/labels/{name}", "GET")]);
        assert_eq!(taker(&exact, "GET", path), "/api/v1/labels/{name}");
        assert_eq!(find(&exact, "DELETE", path), Found::EscapedSeparator);
    }

    #[test]
    fn routes_that_take_the_same_call_are_named() {
        let collide = |a: (&str, &str), b: (&str, &str)| {
            Router::new(vec![route("a", a.0, a.1), route("b", b.0, b.1)])
                .err()
                .map(|pairs| pairs.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let message = Some(vec!["routes `a` and `b` take the same path and method".to_owned()]);
        assert_eq!(collide(("/a", "*"), ("/a", "*")), message);
        assert_eq!(collide(("/a", "GET"), ("/a", "*")), message);
        assert_eq!(collide(("/a", "GET PUT"), ("/a", "POST PUT")), message);
        assert_eq!(collide(("/{x}", "GET"), ("/{y}", "GET")), message);
        assert_eq!(collide(("/{*x}", "GET"), ("/{*y}", "GET")), message);
        assert_eq!(collide(("/a/{x}/{*y}", "GET"), ("/a/{*y}", "GET")), message);
        assert_eq!(collide(("/a{x}", "GET"), ("/{x}b", "GET")), message);
        assert_eq!(collide(("/a", "GET"), ("/a", "POST")), None);
        assert_eq!(collide(("/a", "GET"), ("/A/", "GET")), message);
        assert_eq!(collide(("/a/{x}/b", "GET"), ("/a/{Y}/B/", "GET")), message);
        assert_eq!(collide(("/a/{*x}", "GET"), ("/A/{*y}", "GET")), message);
        assert_eq!(collide(("/a", "GET"), ("/A/", "POST")), None);
        assert_eq!(collide(("/a/{*rest}", "GET"), ("/a/", "GET")), None);
    }

    #[test]
    fn every_colliding_pair_is_named_once() {
        let same = ["a", "b", "c"].map(|name| route(name, "/x", "GET POST"));
        assert_eq!(Router::new(same.to_vec()).unwrap_err().len(), 2);
    }

    #[test]
    fn a_wildcard_takes_the_empty_rest_with_and_without_its_slash() {
        let router = router(&[("/api/{*rest}", "*")]);
        for path in ["/api", "/api/", "/Api", "/API/", "/api/a/"] {
            assert_eq!(taker(&router, "GET", path), "/api/{*rest}", "{path}");
        }
        assert_eq!(taker(&router, "GET", "/"), "-");
        assert_eq!(taker(&router, "GET", "/apis"), "-");
    }

    #[test]
    fn other_letters_are_no_way_around_a_route() {
        let all = [("/{*rest}", "*"), ("/api/scim/v2/{*rest}", "*"), ("/mcp/https/", "POST")];
        let router = router(&all);
        for path in ["/API/SCIM/v2/Users", "/api/sCIM/V2", "/Api/Scim/V2/users/1/"] {
            assert_eq!(taker(&router, "GET", path), "/api/scim/v2/{*rest}", "{path}");
        }
        for path in ["/mcp/https", "/MCP/HTTPS/"] {
            assert_eq!(taker(&router, "POST", path), "/mcp/https/", "{path}");
        }
    }

    #[test]
    fn a_separator_is_let_through_in_any_letters_but_under_no_wildcard() {
        let path = "/API/v1/Labels/A%2Fb/";
        let wild = router(&[("/api/v1/labels/{*rest}", "*")]);
        assert_eq!(find(&wild, "GET", path), Found::EscapedSeparator);
        let exact = router(&[("/{*rest}", "*"), ("/api/v1/labels/{name}", "GET")]);
        assert_eq!(taker(&exact, "GET", path), "/api/v1/labels/{name}");
    }

    /// Says whether a pattern takes a path, the slow and plain way.
    fn takes(pattern: &str, path: &str) -> bool {
        let parts = |text: &str| -> Vec<String> {
            let text = text.to_ascii_lowercase();
            let text = text.strip_suffix('/').unwrap_or(&text);
            text.split('/').map(str::to_owned).collect()
        };
        let (wanted, found) = (parts(pattern), parts(path));
        let (mut wanted, mut found) = (wanted.iter(), found.iter());
        loop {
            match (wanted.next(), found.next()) {
                (None, None) => return true,
                (Some(wild), _) if wild.starts_with("{*") => return true,
                (Some(one), Some(text)) if one.starts_with('{') && !text.is_empty() => {}
                (Some(same), Some(text)) if same == text => {}
                _ => return false,
            }
        }
    }

    /// The same path or pattern in other letters, and perhaps with another end.
    fn turned(text: &str, case: u64, slash: bool) -> String {
        let (body, wild) = text.split_at(text.find("{*").unwrap_or(text.len()));
        let body = body.chars().enumerate().map(|(at, c)| match case >> (at % 64) & 1 {
            1 => c.to_ascii_uppercase(),
            _ => c.to_ascii_lowercase(),
        });
        let body: String = body.collect();
        match body.strip_suffix('/') {
            _ if !wild.is_empty() => body + wild,
            Some(bare) if slash && !bare.is_empty() => bare.to_owned(),
            None if slash => body + "/",
            Some(_) | None => body,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_route_is_found_exactly_when_some_pattern_takes_the_path(
            patterns in prop::collection::vec("(/(a|B|\\{x\\})){1,4}(/|/\\{\\*r\\})?", 1..6),
            path in "(/(a|A|b|c)){1,5}/?",
        ) {
            let routes = patterns.iter().map(|p| route(p, p, "GET")).collect();
            if let Ok(router) = Router::new(routes) {
                let found = taker(&router, "GET", &path);
                let any = patterns.iter().any(|pattern| takes(pattern, &path));
                prop_assert_eq!(any, found != "-");
                prop_assert!(!any || takes(found, &path));
            }
        }

        #[test]
        fn neither_letter_case_nor_a_trailing_slash_changes_the_route(
            patterns in prop::collection::vec("(/(a|B|\\{x\\})){0,3}(/|/\\{\\*r\\})", 1..6),
            path in "(/(a|b|c|%C3%A9)){0,4}/?",
            (case, slash) in any::<(u64, bool)>(),
        ) {
            let routes = patterns.iter().map(|p| route(p, p, "GET")).collect();
            if let (Ok(router), false) = (Router::new(routes), path.is_empty()) {
                let other = turned(&path, case, slash);
                prop_assert_eq!(find(&router, "GET", &path), find(&router, "GET", &other), "{}", other);
            }
        }

        #[test]
        fn a_pattern_in_other_letters_collides_with_itself(
            pattern in "(/(a|b|\\{x\\})){1,4}(/|/\\{\\*r\\})?",
            (case, slash) in any::<(u64, bool)>(),
        ) {
            let other = turned(&pattern, case, slash);
            let both = vec![route("one", &pattern, "GET"), route("two", &other, "*")];
            prop_assert!(Router::new(both).is_err(), "{} {}", pattern, other);
        }
    }
}

//! From method and path to the route.

use std::collections::BTreeSet;

use http::Method;

use crate::base::RouteId;

use super::path::CanonicalPath;
use super::pattern::{Methods, Pattern};

/// How many routes are named to a caller whose path has none.
const NEAREST: usize = 3;

/// All routes of a plan; says which one a call takes.
///
/// Among the routes that take the call's method, a pattern without a wildcard goes before every
/// pattern with one; among equals the more specific goes first, as matchit has it. So a `POST` to a
/// path whose own route lists `GET` alone falls through to the `/{*rest}` that takes it.
#[derive(Debug)]
pub struct Router {
    routes: Vec<(RouteId, Pattern, Methods)>,
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
        let index = match *method {
            Method::CONNECT | Method::TRACE => None,
            _ => self.tree(method).at(path.as_str()),
        };
        match index {
            Some(index) if path.has_escaped_separator() && self.routes[index].1.is_wildcard() => {
                Found::EscapedSeparator
            }
            Some(index) => Found::Route(index),
            None => self.missed(path),
        }
    }

    fn tree(&self, method: &Method) -> &Tree {
        self.listed.iter().find(|(m, _)| m == method).map_or(&self.other, |(_, tree)| tree)
    }

    fn missed(&self, path: &CanonicalPath) -> Found {
        let takes = |(_, tree): &&(Method, Tree)| tree.at(path.as_str()).is_some();
        let allowed: Vec<Method> =
            self.listed.iter().filter(takes).map(|(method, _)| method.clone()).collect();
        if allowed.is_empty() {
            Found::Nothing { nearest: self.nearest(path.as_str()) }
        } else {
            Found::MethodNotAllowed(allowed)
        }
    }

    /// The routes whose patterns share the longest beginning with the path. Linear in its length,
    /// because anybody can ask.
    fn nearest(&self, path: &str) -> Vec<RouteId> {
        let shared = |pattern: &Pattern| {
            pattern.as_str().bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count()
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
            None => self.exact.insert(pattern.as_str(), at),
            Some(empty_rest) => {
                // matchit's wildcard takes at least one character.
                self.wild.insert(empty_rest, at)?;
                self.wild.insert(pattern.as_str(), at)
            }
        }
    }

    fn at(&self, path: &str) -> Option<usize> {
        let found = self.exact.at(path).or_else(|_| self.wild.at(path));
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
            ("/api/v1/documents/", "/api/v1/documents/{*rest}"),
            ("/api/v1/documents/new", "/api/v1/documents/new"),
            ("/api/v1/documents/7", "/api/v1/documents/{id}"),
            ("/api/v1/documents/7/move", "/api/v1/documents/{*rest}"),
            ("/api/v1/folders", "/{*rest}"),
            ("/api/v1/Documents", "/{*rest}"),
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
            find(&router, "GET", "/api/v1/documents/"),
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
        assert_eq!(collide(("/a", "GET"), ("/a/", "GET")), None);
        assert_eq!(collide(("/a/{*rest}", "GET"), ("/a/", "GET")), None);
    }

    #[test]
    fn every_colliding_pair_is_named_once() {
        let same = ["a", "b", "c"].map(|name| route(name, "/x", "GET POST"));
        assert_eq!(Router::new(same.to_vec()).unwrap_err().len(), 2);
    }

    /// Says whether a pattern takes a path, the slow and plain way.
    fn takes(pattern: &str, path: &str) -> bool {
        let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
        loop {
            match (wanted.next(), found.next()) {
                (None, None) => return true,
                (Some(wild), Some(_)) if wild.starts_with("{*") => return true,
                (Some(one), Some(text)) if one.starts_with('{') && !text.is_empty() => {}
                (Some(same), Some(text)) if same == text => {}
                _ => return false,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_route_is_found_exactly_when_some_pattern_takes_the_path(
            patterns in prop::collection::vec("(/(a|b|\\{x\\})){1,4}(/|/\\{\\*r\\})?", 1..6),
            path in "(/(a|b|c)){1,5}/?",
        ) {
            let routes = patterns.iter().map(|p| route(p, p, "GET")).collect();
            if let Ok(router) = Router::new(routes) {
                let found = taker(&router, "GET", &path);
                let any = patterns.iter().any(|pattern| takes(pattern, &path));
                prop_assert_eq!(any, found != "-");
                prop_assert!(!any || takes(found, &path));
            }
        }
    }
}

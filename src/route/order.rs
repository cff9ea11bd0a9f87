//! Which route goes before which, and why; for people, who cannot see into a tree.

use std::cmp::Reverse;

use http::Method;

use super::path::CanonicalPath;
use super::pattern::{Methods, Pattern, fold};
use super::router::Router;
use crate::base::RouteId;

/// A route that takes a call's path, and not the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival<'a> {
    /// Its name.
    pub id: &'a RouteId,
    /// Which paths it takes.
    pub pattern: &'a Pattern,
    /// Which methods it takes.
    pub methods: &'a Methods,
    /// Why the call is not its.
    pub lost: Lost,
}

/// Why a route does not take a call whose path it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It does not list the method.
    Method,
    /// It is a wildcard, and those take no escaped separator.
    EscapedSeparator,
    /// It is a wildcard, and another route is not.
    Wildcard,
    /// Its GET brings HEAD along, and another route of the same paths lists HEAD.
    ListsNoHead,
    /// Another one is more specific.
    LessSpecific,
}

impl Router {
    /// The routes that take the path, but for the one that takes the call (`winner`, its index, where
    /// there is one), in the order in which they would be asked.
    pub fn rivals(
        &self,
        method: &Method,
        path: &CanonicalPath,
        winner: Option<usize>,
    ) -> Vec<Rival<'_>> {
        let folded = fold(path.as_str());
        let won = winner.and_then(|index| self.routes.get(index));
        let order = in_order(self.routes.iter().map(|(_, pattern, methods)| (pattern, methods)));
        let others = order.into_iter().filter(|index| Some(*index) != winner);
        let rivals = others.filter_map(|index| {
            let (id, pattern, methods) = &self.routes[index];
            if !pattern.takes(&folded) {
                return None;
            }
            let lost = match won {
                _ if !methods.takes(method) => Lost::Method,
                _ if pattern.is_wildcard() && path.has_escaped_separator() => {
                    Lost::EscapedSeparator
                }
                Some((_, better, _)) if better.same_paths(pattern) => Lost::ListsNoHead,
                Some((_, better, _)) if pattern.is_wildcard() && !better.is_wildcard() => {
                    Lost::Wildcard
                }
                Some(_) | None => Lost::LessSpecific,
            };
            Some(Rival { id, pattern, methods, lost })
        });
        rivals.collect()
    }
}

impl Pattern {
    /// Whether a folded path is one of its own, whatever other patterns there are.
    fn takes(&self, folded: &str) -> bool {
        let is = |pattern: &str| {
            let mut alone = matchit::Router::new();
            alone.insert(pattern, ()).is_ok() && alone.at(folded).is_ok()
        };
        is(self.folded()) || self.empty_rest().is_some_and(is)
    }
}

/// The indices of routes in the order in which a call looks for its own: the first that takes its path
/// and its method has it.
pub fn in_order<'a>(routes: impl Iterator<Item = (&'a Pattern, &'a Methods)>) -> Vec<usize> {
    let mut order: Vec<_> = routes
        .enumerate()
        .map(|(index, (pattern, methods))| {
            let segments: Vec<_> = pattern.folded().split('/').skip(1).map(rank).collect();
            let lists_head = match methods {
                Methods::Any => true,
                Methods::Only(list) => list.contains(&Method::HEAD),
            };
            ((pattern.is_wildcard(), segments, !lists_head), index)
        })
        .collect();
    order.sort();
    order.into_iter().map(|(_, index)| index).collect()
}

/// Text goes before a parameter with text around it, of which the longer text goes first; then a bare
/// parameter, and a wildcard last.
fn rank(segment: &str) -> (u8, Reverse<usize>, &str) {
    match (segment.find('{'), segment.find('}')) {
        (Some(_), Some(_)) if segment.starts_with("{*") => (3, Reverse(0), ""),
        (Some(begin), Some(end)) => {
            let around = begin + segment.len() - end - 1;
            (if around == 0 { 2 } else { 1 }, Reverse(around), "")
        }
        _ => (0, Reverse(0), segment),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::route::Found;

    fn route(name: usize, pattern: &str, methods: &str) -> (RouteId, Pattern, Methods) {
        let methods = match methods {
            "*" => Methods::Any,
            list => Methods::Only(list.split(' ').map(|m| m.parse().unwrap()).collect()),
        };
        (RouteId::new(name.to_string()), Pattern::parse(pattern).unwrap(), methods)
    }

    fn rivals(routes: &[(&str, &str)], method: Method, path: &str) -> Vec<(usize, Lost)> {
        let table = routes.iter().enumerate().map(|(at, (path, of))| route(at, path, of));
        let router = Router::new(table.collect()).unwrap();
        let path = CanonicalPath::parse(path).unwrap();
        let winner = match router.find(&method, &path) {
            Found::Route(index) => Some(index),
            Found::EscapedSeparator | Found::MethodNotAllowed(_) | Found::Nothing { .. } => None,
        };
        let rivals = router.rivals(&method, &path, winner);
        rivals.iter().map(|one| (one.id.as_str().parse().unwrap(), one.lost)).collect()
    }

    #[test]
    fn each_route_of_the_path_says_why_it_lost() {
        let routes = [
            ("/{*rest}", "*"),
            ("/api/v1/documents", "POST"),
            ("/api/v1/{area}", "GET"),
            ("/api/{*rest}", "GET"),
            ("/api/v1/folders", "GET"),
        ];
        let expected = vec![(1, Lost::Method), (3, Lost::Wildcard), (0, Lost::Wildcard)];
        assert_eq!(rivals(&routes, Method::GET, "/api/v1/documents/"), expected);
        let expected = vec![(1, Lost::Method), (2, Lost::Method), (3, Lost::Method)];
        assert_eq!(rivals(&routes, Method::PUT, "/API/v1/Documents"), expected);
        let expected = vec![(0, Lost::LessSpecific)];
        assert_eq!(rivals(&routes, Method::GET, "/api"), expected);
        assert_eq!(rivals(&routes[3..], Method::GET, "/elsewhere"), []);
    }

    #[test]
    fn head_goes_to_the_route_that_lists_it() {
        let routes = [("/a/{x}", "GET"), ("/a/{y}", "HEAD"), ("/{*rest}", "GET")];
        let expected = vec![(0, Lost::ListsNoHead), (2, Lost::Wildcard)];
        assert_eq!(rivals(&routes, Method::HEAD, "/a/b"), expected);
    }

    #[test]
    fn a_wildcard_says_that_it_takes_no_escaped_separator() {
        let path = "/api/v1/models/m/branch/a%2Fb/merge";
        let expected = vec![(0, Lost::EscapedSeparator)];
        assert_eq!(rivals(&[("/{*rest}", "*")], Method::POST, path), expected);
    }

    /// Without text around parameters: matchit does not always come back from there.
    fn pattern() -> impl Strategy<Value = String> {
        let segment = prop::sample::select(vec!["a", "b", "ab", "{x}"]);
        let end = prop::sample::select(vec!["", "/{*rest}"]);
        (prop::collection::vec(segment, 0..4), end).prop_map(|(segments, end)| {
            let text: Vec<String> = segments
                .iter()
                .enumerate()
                .map(|(at, s)| s.replace('x', &format!("x{at}")))
                .collect();
            match (text.is_empty(), end) {
                (true, "") => "/".to_owned(),
                (true, end) => end.to_owned(),
                (false, end) => format!("/{}{end}", text.join("/")),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// The router's own trees are the judge.
        #[test]
        fn the_first_in_order_that_takes_a_call_is_the_one_that_has_it(
            patterns in prop::collection::vec((pattern(), prop::sample::select(
                vec!["*", "GET", "POST", "GET POST", "HEAD"])), 1..7),
            segments in prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "c", "acb"]), 0..5),
            method in prop::sample::select(vec![Method::GET, Method::POST, Method::HEAD, Method::PUT]),
        ) {
            let table: Vec<_> =
                patterns.iter().enumerate().map(|(at, (path, of))| route(at, path, of)).collect();
            let Ok(router) = Router::new(table.clone()) else { return Ok(()) };
            let path = CanonicalPath::parse(&format!("/{}", segments.join("/"))).unwrap();
            let folded = fold(path.as_str());
            let order = in_order(table.iter().map(|(_, pattern, methods)| (pattern, methods)));
            let first = order.into_iter().find(|at| {
                let (_, pattern, methods) = &table[*at];
                methods.takes(&method) && pattern.takes(&folded)
            });
            let found = match router.find(&method, &path) {
                Found::Route(index) => Some(index),
                Found::EscapedSeparator | Found::MethodNotAllowed(_) | Found::Nothing { .. } => None,
            };
            prop_assert_eq!(first, found);
        }
    }
}

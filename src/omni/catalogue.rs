//! What is known of each of Omni's endpoints.
//!
//! One row per endpoint, in `table`. Paths are looked up as Omni's server reads them: ASCII letter
//! case and one trailing slash do not count, and a fixed segment goes before a parameter.

mod collection;
mod endpoint;
mod table;
mod tree;

use std::sync::LazyLock;

use http::Method;

pub use collection::{Collection, Stales};
pub use endpoint::{Endpoint, Keys, Paging};

use tree::Node;

static TREE: LazyLock<Node> = LazyLock::new(|| Node::of(endpoints()));

/// All endpoints that are known.
pub fn endpoints() -> impl Iterator<Item = &'static Endpoint> {
    table::FAMILIES.iter().copied().flatten()
}

/// The endpoint that a call is for. A HEAD is for what a GET would be for.
///
/// The path is the canonical one, as it is matched and sent, without its query: an escape is taken
/// for what it is, so `/api/%761/documents` is unknown here.
pub fn endpoint(method: &Method, path: &str) -> Option<&'static Endpoint> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    TREE.find(path, &|endpoint| endpoint.method() == method)
}

/// Whether segment number `segment` of a canonical path is a free-text parameter (counted from 0,
/// after the first slash), which may hold an escaped `/`, `%`, `;`, `?` or `#`. Everywhere else
/// such an escape has no business in a path.
pub fn is_free_text(path: &str, segment: usize) -> bool {
    TREE.find(path, &|endpoint| endpoint.is_free_text(segment)).is_some()
}

/// Whether the body of a call to this canonical path may name a user for whom it acts, whatever its
/// method: upstream may take methods that are not known here. No spelling gets around it.
pub fn may_name_user_in_body(path: &str) -> bool {
    TREE.find(&super::families::laxly(path), &Endpoint::user_in_body).is_some()
}

/// Whether a call to this canonical path streams, whatever its method: its answer comes bit by bit,
/// over minutes. Such a call is never sent a second time once upstream may have begun on it.
pub fn is_streaming(path: &str) -> bool {
    // What else there may be under /mcp is not known, and so not repeated either.
    super::families::is_mcp(path) || TREE.find(path, &Endpoint::streams).is_some()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::omni::{is_never_kept, is_sensitive};

    fn find(method: &str, path: &str) -> Option<&'static str> {
        endpoint(&method.parse().unwrap(), path).map(Endpoint::template)
    }

    fn row(method: &str, path: &str) -> &'static Endpoint {
        endpoint(&method.parse().unwrap(), path).unwrap_or_else(|| panic!("{method} {path}"))
    }

    #[test]
    fn every_row_stands_once_and_is_found_by_its_own_template() {
        let mut seen = BTreeSet::new();
        for endpoint in endpoints() {
            let shape: Vec<_> = endpoint
                .segments()
                .map(|one| if one.starts_with('{') { "{}" } else { one })
                .collect();
            assert!(seen.insert((endpoint.method().to_string(), shape)), "{endpoint}");
            let found = find(endpoint.method().as_str(), endpoint.template());
            assert_eq!(found, Some(endpoint.template()), "{endpoint}");
        }
        assert!(seen.len() > 200, "{}", seen.len());
    }

    #[test]
    fn every_row_is_well_formed() {
        for endpoint in endpoints() {
            assert!(endpoint.template().starts_with('/') && !endpoint.template().ends_with('/'));
            let names: Vec<_> = endpoint
                .segments()
                .filter_map(|s| s.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            assert!(endpoint.free_text().iter().all(|free| names.contains(free)), "{endpoint}");
            let is_get = *endpoint.method() == Method::GET;
            assert!(!is_get || !endpoint.writes(), "{endpoint}");
            assert!(endpoint.writes() || endpoint.stales() == Stales::Nothing, "{endpoint}");
            assert!(is_get || endpoint.list().is_none() && endpoint.shows().is_none());
            assert!(endpoint.list().is_none() || endpoint.shows().is_some(), "{endpoint}");
        }
    }

    #[test]
    fn letter_case_and_one_trailing_slash_do_not_count() {
        for path in ["/api/scim/v2/Users", "/api/scim/v2/users/", "/API/SCIM/V2/USERS/"] {
            assert_eq!(find("GET", path), Some("/api/scim/v2/Users"), "{path}");
        }
        assert_eq!(find("GET", "/api/v1/labels/"), Some("/api/v1/labels"));
        for unknown in ["/api/v1/labels//", "/", "", "api/v1/labels", "/api/v1/labels/a/b", "//"] {
            assert_eq!(find("GET", unknown), None, "{unknown}");
        }
    }

    #[test]
    fn fixed_segments_go_before_parameters_where_the_method_has_them() {
        let suggestion = "/api/v1/models/{modelId}/suggestions/{suggestionId}";
        let runs = |rest: &str| find("GET", &format!("/api/v1/models/m/suggestions/runs/{rest}"));
        assert_eq!(runs("latest"), Some("/api/v1/models/{modelId}/suggestions/runs/latest"));
        assert_eq!(runs("late"), Some("/api/v1/models/{modelId}/suggestions/runs/{runId}"));
        let delete = |last: &str| find("DELETE", &format!("/api/v1/models/m/suggestions/{last}"));
        assert_eq!(delete("schedule"), Some("/api/v1/models/{modelId}/suggestions/schedule"));
        assert_eq!(delete("generate"), Some(suggestion));
        let roles = "/api/v1/users/{id}/model-roles";
        assert_eq!(find("GET", "/api/v1/users/email-only"), Some("/api/v1/users/email-only"));
        assert_eq!(find("GET", "/api/v1/users/email-only/model-roles"), Some(roles));
    }

    #[test]
    fn no_spelling_hides_that_a_body_may_name_a_user() {
        for path in [
            "/api/v1/query/run",
            "/API/v1/ai/pic%E2%84%AA-topic/",
            "/api/v1/folders%20",
            "/api/v1/documents/a%2Fb/transfer-ownership",
        ] {
            assert!(may_name_user_in_body(path), "{path}");
        }
        assert!(!may_name_user_in_body("/api/v1/query/wait"));
    }

    #[test]
    fn a_head_is_for_what_a_get_is_for() {
        assert_eq!(find("HEAD", "/api/v1/documents"), Some("/api/v1/documents"));
        assert_eq!(find("HEAD", "/api/v1/query/run"), None);
        assert_eq!(find("OPTIONS", "/api/v1/documents"), None);
    }

    #[test]
    fn mcp_and_every_unsure_method_are_there() {
        for method in ["GET", "POST", "DELETE"] {
            assert!(row(method, "/mcp/https").streams());
        }
        for method in ["PUT", "POST"] {
            assert!(find(method, "/api/v1/documents/d/move").is_some());
        }
    }

    #[test]
    fn names_are_free_text_and_ids_are_not() {
        assert!(is_free_text("/api/v1/labels/a%2Fb", 3));
        assert!(is_free_text("/API/v1/labels/a/", 3));
        assert!(is_free_text("/api/v1/models/m/branch/feature%2Fx/merge", 5));
        assert!(is_free_text("/api/v1/models/m/view/v/field/f", 5));
        assert!(is_free_text("/api/v1/models/m/view/v/field/f", 7));
        for (path, segment) in [
            ("/api/v1/models/m%2F/branch/b", 3),
            ("/api/v1/labels/a/b", 3),
            ("/api/v1/labels", 3),
            ("/api/v1/labels/a", 2),
            ("/api/v1/labels/a/", 4),
            ("/api/v1/documents/a", 3),
            ("/api/v1/labels/", 3),
            ("/api/v1/models/m/cache_reset/p", 5),
        ] {
            assert!(!is_free_text(path, segment), "{path}");
        }
    }

    #[test]
    fn queries_downloads_and_mcp_stream_and_lists_do_not() {
        for streams in [
            "/api/v1/query/run",
            "/api/v1/Query/Wait/",
            "/mcp/https",
            "/MCP",
            "/mcp/other/",
            "/api/v1/dashboards/d1/download/j1",
            "/api/v1/ai/jobs/j1/result",
        ] {
            assert!(is_streaming(streams), "{streams}");
        }
        for does_not in [
            "/api/v1/documents",
            "/api/v1/dashboards/d1/filters",
            "/api/v1/dashboards/d1/download/j1/status",
            "/mcpx",
        ] {
            assert!(!is_streaming(does_not), "{does_not}");
        }
    }

    #[test]
    fn only_lists_with_a_cursor_take_a_page_size_and_most_of_them_up_to_a_hundred() {
        let sized = endpoints().filter_map(|one| Some((one.template(), one.largest_page()?)));
        let sized: BTreeSet<_> = sized.collect();
        let hundred = [
            "/api/v1/api-keys",
            "/api/v1/connections/{connectionId}/dbt/environments",
            "/api/v1/content",
            "/api/v1/documents",
            "/api/v1/documents/{identifier}/access-list",
            "/api/v1/folders",
            "/api/v1/models",
            "/api/v1/models/{modelId}/dbt-exposures",
            "/api/v1/schedules",
            "/api/v1/uploads",
        ];
        let expected = hundred.into_iter().map(|one| (one, 100));
        assert_eq!(sized, expected.chain([("/api/v1/users/email-only", 20)]).collect());
        let cursor = |one: &&Endpoint| one.list() == Some(Paging::Cursor);
        let all_are_lists =
            endpoints().filter(|one| one.largest_page().is_some()).all(|one| cursor(&one));
        assert!(all_are_lists);
    }

    #[test]
    fn what_is_polled_is_never_kept_and_does_not_stream() {
        let polled: Vec<_> = endpoints().filter(|one| one.is_polled()).collect();
        let templates: BTreeSet<_> = polled.iter().map(|one| one.template()).collect();
        let expected = [
            "/api/v1/ai/jobs/{jobId}",
            "/api/v1/dashboards/{identifier}/download/{jobId}/status",
            "/api/v1/jobs/{jobId}/status",
        ];
        assert_eq!(templates, BTreeSet::from(expected));
        let plain = |one: &&Endpoint| *one.method() == Method::GET && !one.streams();
        assert!(polled.iter().all(|one| plain(one) && one.is_never_kept()));
    }

    #[test]
    fn scim_refuses_the_tokens_of_persons_and_nothing_else_is_known_to() {
        for endpoint in endpoints() {
            let scim = endpoint.template().starts_with("/api/scim/");
            assert_eq!(endpoint.refuses_personal(), scim, "{endpoint}");
        }
    }

    #[test]
    fn a_body_names_another_user_in_six_places() {
        let all = endpoints().filter(|one| one.user_in_body()).map(ToString::to_string);
        assert_eq!(
            all.collect::<BTreeSet<_>>(),
            BTreeSet::from(
                [
                    "POST /api/v1/query/run",
                    "POST /api/v1/ai/generate-query",
                    "POST /api/v1/ai/pick-topic",
                    "POST /api/v1/folders",
                    "PUT /api/v1/documents/{identifier}/transfer-ownership",
                    "PUT /api/v1/schedules/{scheduleId}/transfer-ownership",
                ]
                .map(str::to_owned)
            )
        );
    }

    #[test]
    fn a_post_that_only_asks_leaves_nothing_stale() {
        let asks = endpoints().filter(|one| *one.method() == Method::POST && !one.writes());
        let asks: Vec<_> = asks.map(Endpoint::template).collect();
        assert_eq!(asks.len(), 4, "{asks:?}");
        assert!(!row("POST", "/api/v1/query/run").writes());
    }

    #[test]
    fn a_write_leaves_its_own_list_stale() {
        let stale = |write: (&str, &str), read: &str| {
            row(write.0, write.1).stales().covers(row("GET", read))
        };
        let (list, item) = ("/api/v1/documents", "/api/v1/documents/d");
        for write in [
            ("POST", list),
            ("PATCH", item),
            ("PUT", "/api/v1/documents/d/favorite"),
            ("PUT", "/api/v1/documents/d/labels/l"),
            ("POST", "/api/v2/documents/d/draft/publish"),
            ("POST", "/api/v1/models/m/branch/b/merge"),
            ("PATCH", "/api/v1/folders/f"),
            ("POST", "/api/scim/v2/Groups"),
            ("DELETE", "/api/v1/connections/c"),
        ] {
            assert!(stale(write, list) && stale(write, item), "{write:?}");
        }
        assert!(stale(("DELETE", item), "/api/v1/schedules"));
        assert!(stale(("POST", "/api/v1/uploads"), "/api/v1/models/m/view"));
        assert!(!stale(("POST", "/api/v1/schedules"), list));
        assert!(!stale(("POST", "/api/v1/ai/jobs"), list));
        // Whatever a collection's own writes are, they cover it.
        for write in endpoints().filter(|one| one.writes()) {
            let target = write.template();
            if let Some(list) = endpoint(&Method::GET, target).filter(|one| one.list().is_some()) {
                assert!(write.stales().covers(list), "{write}");
            }
        }
    }

    #[test]
    fn everything_covers_what_no_collection_names() {
        let branding = row("GET", "/api/v1/ai/branding");
        assert_eq!(branding.shows(), None);
        assert!(row("DELETE", "/api/v1/connections/c").stales().covers(branding));
        assert!(!row("POST", "/api/v1/documents").stales().covers(branding));
    }

    #[test]
    fn every_collection_has_a_list() {
        let shown: BTreeSet<_> =
            endpoints().filter(|one| one.list().is_some()).filter_map(|one| one.shows()).collect();
        for collection in Collection::ALL {
            assert!(shown.contains(&collection), "{collection:?}");
            assert!(collection.endpoints().all(|one| one.shows() == Some(collection)));
        }
    }

    #[test]
    fn rows_know_whether_they_are_kept_or_sensitive() {
        for never in [
            ("GET", "/api/v1/query/wait"),
            ("GET", "/api/v1/jobs/j/status"),
            ("GET", "/api/v1/ai/jobs/j"),
            ("GET", "/api/v1/ai/jobs/j/result"),
            ("GET", "/api/v1/dashboards/d/download/j/status"),
            ("GET", "/api/v1/dashboards/d/download/j"),
            ("GET", "/api/v1/whoami"),
            ("GET", "/api/v1/api-keys"),
            ("GET", "/mcp/https"),
        ] {
            assert!(row(never.0, never.1).is_never_kept(), "{never:?}");
        }
        let family = |one: &Endpoint| {
            one.segments().find(|part| !["api", "v1", "unstable"].contains(part)).unwrap()
        };
        let sensitive: BTreeSet<_> =
            endpoints().filter(|one| one.is_sensitive()).map(family).collect();
        let families = [
            "api-keys",
            "connection-environments",
            "connections",
            "embed",
            "scim",
            "user-groups",
            "users",
        ];
        assert_eq!(sensitive, BTreeSet::from(families));
        assert!(!row("GET", "/api/v1/connections").is_sensitive());
        assert!(!row("POST", "/api/v1/users/email-only").is_sensitive());
        for endpoint in endpoints() {
            let (method, template) = (endpoint.method(), endpoint.template());
            assert_eq!(endpoint.is_sensitive(), is_sensitive(method, template));
            assert_eq!(endpoint.is_never_kept(), is_never_kept(template));
        }
    }

    /// Looks a path up the slow and plain way.
    fn naive(method: &Method, path: &str) -> Option<&'static Endpoint> {
        let path = path.strip_prefix('/')?;
        let path = path.strip_suffix('/').unwrap_or(path).to_ascii_lowercase();
        let found: Vec<&str> = path.split('/').collect();
        let fits = |endpoint: &&Endpoint| {
            let wanted: Vec<&str> = endpoint.segments().collect();
            let pairs = || wanted.iter().zip(&found);
            endpoint.method() == method
                && wanted.len() == found.len()
                && pairs().all(|(want, have)| match want.starts_with('{') {
                    true => !have.is_empty(),
                    false => want.to_ascii_lowercase() == **have,
                })
        };
        // `false` sorts first: a fixed segment goes before a parameter, from the left.
        let parameters = |endpoint: &&Endpoint| -> Vec<bool> {
            endpoint.segments().map(|one| one.starts_with('{')).collect()
        };
        endpoints().filter(fits).min_by_key(parameters)
    }

    /// A path near one of the templates.
    fn near() -> impl Strategy<Value = String> {
        let all: Vec<&str> = endpoints().map(Endpoint::template).collect();
        let words: Vec<&str> = endpoints().flat_map(Endpoint::segments).collect();
        let word = prop_oneof![prop::sample::select(words), Just("x"), Just(""), Just("{")];
        let at = any::<prop::sample::Index>;
        let change = prop_oneof![3 => Just(None), 1 => (at(), word).prop_map(Some)];
        (prop::sample::select(all), change, any::<u64>(), "/{0,2}").prop_map(
            |(template, change, case, end)| {
                let mut path: Vec<&str> = template.split('/').collect();
                if let Some((at, word)) = change {
                    let at = at.index(path.len());
                    path[at] = word;
                }
                let turned = path
                    .join("/")
                    .chars()
                    .enumerate()
                    .map(|(at, c)| match case >> (at % 64) & 1 {
                        1 => c.to_ascii_uppercase(),
                        _ => c,
                    })
                    .collect::<String>();
                turned + &end
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_tree_finds_what_a_search_through_all_rows_finds(
            path in prop_oneof![4 => near(), 1 => "/[a-z/{}]{0,30}"],
            method in prop::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ) {
            let method: Method = method.parse().unwrap();
            let (one, other) = (endpoint(&method, &path), naive(&method, &path));
            prop_assert_eq!(one.map(ToString::to_string), other.map(ToString::to_string));
        }
    }
}

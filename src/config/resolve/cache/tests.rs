//! What a config may say of kept answers.

use std::path::Path;

use crate::config::{Config, Report, parse_in};

use super::*;

const START: &str = r#"
    state_dir = "/var/lib/omnigate"
    upstream.base_url = "https://acme.omniapp.co"
    vault.backend = "env"
    credentials.a = { kind = "organization", secret = "A" }
    credentials.b = { kind = "organization", secret = "B" }
"#;

fn read(more: &str) -> Result<Config, Report> {
    parse_in(&format!("{START}{more}"), Path::new("omnigate.toml"), &|_| None)
}

/// A route for all paths with these lines in place of its own.
fn route(said: &str) -> Result<Config, Report> {
    let path = if said.contains("path = ") { "" } else { "path = \"/{*rest}\"" };
    let key = if said.contains("credential = ") { "" } else { "credential = \"a\"" };
    read(&format!("[[routes]]\nname = \"all\"\n{path}\n{key}\n{said}"))
}

fn rule_of(said: &str) -> Option<Rule> {
    route(said).unwrap_or_else(|report| panic!("{said}\n{report}")).routes[0].cache.clone()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// That there is one problem, on this part of the file, and that it says this.
fn told_once(report: Result<Config, Report>, place: &str, told: &str) {
    let report = report.map(|_| ()).unwrap_err();
    let text = report.to_string();
    assert_eq!(report.count(), 1, "{text}");
    assert!(text.contains(told), "{told}\n{text}");
    let lines: Vec<&str> = text.lines().collect();
    let caret = lines.iter().position(|line| line.contains('^')).unwrap();
    let (from, to) = (lines[caret].find('^').unwrap(), lines[caret].rfind('^').unwrap());
    assert_eq!(&lines[caret - 1][from..=to], place, "{text}");
    assert!(text.contains("help: "), "{text}");
}

#[test]
fn nothing_is_kept_unless_a_route_says_so() {
    assert_eq!(rule_of(""), None);
    assert_eq!(rule_of("respect_upstream = false"), None);
    assert_eq!(route("").unwrap().cache, CacheSettings::default());
}

#[test]
fn a_route_says_how_long_its_answers_are_fresh() {
    let plain = Rule { lifetime: Lifetime::Ours(seconds(30)), stale: seconds(0), vary: vec![] };
    assert_eq!(rule_of("cache = { ttl = \"30s\" }"), Some(plain.clone()));
    let said = "cache = { ttl = \"30s\" }\nrespect_upstream = false\nbudget = \"none\"";
    assert_eq!(rule_of(said), Some(plain.clone()));
    let stale = Rule { stale: seconds(600), ..plain.clone() };
    assert_eq!(rule_of("cache = { ttl = \"30s\", stale = \"10m\" }"), Some(stale.clone()));
    assert_eq!(rule_of("[routes.cache]\nttl = \"30s\"\nstale = \"10m\""), Some(stale));
    let said = "forward_headers = [\"x-foo\"]\n\
                cache = { ttl = \"30s\", vary = [\"X-Foo\", \"accept-language\"] }";
    let vary = ["x-foo", "accept-language"].map(HeaderName::from_static).to_vec();
    assert_eq!(rule_of(said), Some(Rule { vary, ..plain.clone() }));
    let pool = "credential = [\"a\", \"b\"]\ncache = { ttl = \"30s\", same_data = true }";
    assert_eq!(rule_of(pool), Some(plain.clone()));
    let one = "credential = [\"a\"]\ncache = { ttl = \"30s\", same_data = false }";
    assert_eq!(rule_of(one), Some(plain));
}

#[test]
fn a_route_may_leave_it_to_upstream() {
    let rule = |stale| Rule { lifetime: Lifetime::Upstream, stale, vary: vec![] };
    let of = |cache: &str| rule_of(&format!("respect_upstream = true\ncache = {cache}"));
    assert_eq!(of("{}"), Some(rule(seconds(0))));
    assert_eq!(of("{ stale = \"5s\" }"), Some(rule(seconds(5))));
    let upstream = |cache: &str| route(&format!("respect_upstream = true\n{cache}"));
    told_once(upstream(""), "true", "does nothing without `cache`");
    told_once(upstream("cache = { ttl = \"30s\" }"), "\"30s\"", "RFC 9111 decides");
    told_once(upstream("cache = { vary = [] }"), "[]", "upstream's own Vary decides");
}

#[test]
fn a_rule_that_says_no_time_is_a_problem() {
    told_once(route("cache = {}"), "{}", "add ttl = \"30s\"");
    let stale = "{ stale = \"10m\" }";
    told_once(route(&format!("cache = {stale}")), stale, "add ttl = \"30s\"");
    told_once(route("cache = { ttl = \"0s\" }"), "\"0s\"", "more than 0");
    told_once(route("cache = { ttl = \"30\" }"), "\"30\"", "ttl");
    told_once(route("cache = { tll = \"30s\" }"), "tll", "did you mean `ttl`");
    let report = route("cache = \"30s\"").unwrap_err();
    assert!(report.lines().eq(["omnigate.toml:11:9: `cache` is a string, but must be a table"]));
}

#[test]
fn a_pool_is_kept_only_where_its_keys_see_the_same() {
    let pool = |cache: &str| route(&format!("credential = [\"a\", \"b\"]\ncache = {cache}"));
    let ours = "{ ttl = \"30s\" }";
    told_once(pool(ours), ours, "add same_data = true");
    let no = "{ ttl = \"30s\", same_data = false }";
    told_once(pool(no), no, "may see different rows");
    let upstream = "{ }\nrespect_upstream = true";
    told_once(pool(upstream), "{ }", "add same_data = true");
    let report = pool("{ ttl = \"30s\", same_data = \"true\" }").unwrap_err();
    assert!(report.count() == 1 && report.to_string().contains("true or false"), "{report}");
    let one = "cache = { ttl = \"30s\", same_data = true }";
    told_once(route(one), "true", "does nothing on a route with one key");
}

#[test]
fn a_field_by_which_no_answer_differs_is_a_problem() {
    for (name, why) in [
        ("Accept", "always told apart"),
        ("x-mcp-user-id", "always told apart"),
        ("accept-encoding", "one content coding"),
        ("If-None-Match", "met here"),
        ("if-unmodified-since", "met here"),
        ("range", "kept whole"),
        ("if-range", "kept whole"),
        ("content-length", "a GET has none"),
        ("content-type", "a GET has none"),
        ("x-request-id", "found again"),
        ("via", "found again"),
        ("mcp-session-id", "nothing is kept"),
        ("transfer-encoding", "it cannot be forwarded"),
        ("authorization", "it cannot be forwarded"),
        ("cookie", "it cannot be forwarded"),
        ("x_foo", "it cannot be forwarded"),
        ("x-omnigate-caller", "it cannot be forwarded"),
        ("x-bar", "add \"x-bar\" to `forward_headers`"),
    ] {
        let said = format!("cache = {{ ttl = \"30s\", vary = [\"{name}\"] }}");
        told_once(route(&said), &format!("\"{name}\""), why);
        // What is on the allow-list anyway may be named there as well.
        if !why.contains("forwarded") && !why.contains("forward_headers") && name != "x-mcp-user-id"
        {
            let said = format!("forward_headers = [\"{name}\"]\n{said}");
            assert!(route(&said).is_err(), "{said}");
        }
    }
    let said = "cache = { ttl = \"30s\", vary = [\"prefer\", \"Prefer\", \"a b\"] }";
    let report = route(said).unwrap_err();
    assert_eq!(report.count(), 2, "{report}");
    let lines: Vec<String> = report.lines().collect();
    assert!(lines[0].contains("`prefer` stands here twice"), "{report}");
    assert!(lines[1].contains("not a header's name"), "{report}");
}

#[test]
fn a_rule_where_nothing_could_be_kept_is_a_problem() {
    let cache = "{ ttl = \"30s\" }";
    for methods in ["[\"POST\"]", "[\"HEAD\"]", "[\"PUT\", \"DELETE\"]"] {
        let said = format!("methods = {methods}\ncache = {cache}");
        told_once(route(&said), cache, "takes no GET");
    }
    for path in [
        "/api/v1/query/{*rest}",
        "/api/v1/query/run",
        "/API/v1/Query/nobody/has/heard/of",
        "/mcp/{*rest}",
        "/mcp",
        "/api/v1/whoami",
        "/api/v1/whoami/",
        "/api/v1/jobs/{id}/status",
        "/api/v1/jobs/{*rest}",
        "/api/v1/ai/jobs/{id}/{what}",
        "/api/v1/dashboards/{id}/download",
        "/api/v1/dashboards/d-{id}/download/{*rest}",
        "/api/v1/api-keys",
        "/api/v1/api-keys/{*rest}",
    ] {
        let said = format!("path = \"{path}\"\ncache = {cache}");
        told_once(route(&said), cache, &format!("answers of `{path}` are never kept"));
        let said = format!("path = \"{path}\"\nrespect_upstream = true\ncache = {{ }}");
        told_once(route(&said), "{ }", "are never kept");
    }
    // What else is among these may be kept; what is not passes.
    for path in [
        "/{*rest}",
        "/api/v1/{*rest}",
        "/api/v1/{what}",
        "/api/v1/{what}/run",
        "/api/v1/who{x}",
        "/api/v1/ai/{*rest}",
        "/api/v1/dashboards/{*rest}",
        "/api/v1/dashboards/{id}/{*rest}",
        "/api/v1/queryx",
        "/api/v1/documents",
    ] {
        let rule = rule_of(&format!("path = \"{path}\"\ncache = {cache}"));
        assert!(rule.is_some(), "{path}");
    }
}

#[test]
fn how_much_is_kept_has_bounds() {
    let of = |said: &str| read(&format!("[cache]\n{said}\n{ROUTE}"));
    let kept = |said: &str| of(said).unwrap().cache;
    let usual = CacheSettings::default();
    assert_eq!(kept(""), usual);
    let small = CacheSettings { max_bytes: 1 << 20, max_entry: 1 << 19, ..usual.clone() };
    assert_eq!(kept("max_bytes = \"1MiB\""), small);
    let whole = CacheSettings { max_bytes: 1 << 31, max_entry: 1 << 30, ..usual.clone() };
    assert_eq!(kept("max_bytes = \"2GiB\"\nmax_entry = \"1GiB\""), whole);
    let never_wait = CacheSettings { stale_after_wait: seconds(0), ..usual };
    assert_eq!(kept("stale_after_wait = \"0s\""), never_wait);

    told_once(of("max_bytes = \"0B\""), "\"0B\"", "more than 0");
    told_once(of("max_entry = \"0B\""), "\"0B\"", "more than 0");
    told_once(of("max_entry = \"33MiB\""), "\"33MiB\"", "raise `max_bytes`");
    let both = "max_bytes = \"1KiB\"\nmax_entry = \"2KiB\"";
    told_once(of(both), "\"2KiB\"", "raise `max_bytes`");
    let huge = "max_bytes = \"4GiB\"\nmax_entry = \"2GiB\"";
    told_once(of(huge), "\"2GiB\"", "at most 1GiB");
}

const ROUTE: &str = "[[routes]]\nname = \"all\"\npath = \"/{*rest}\"\ncredential = \"a\"";

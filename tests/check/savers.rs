//! What `check` says about routes that are to save calls.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use omnigate::config::{self, Config, Report};
use omnigate::saver::Savers;

use crate::GOOD;

/// The good config with these lines in its route, and this path.
fn parse(path: &str, lines: &str) -> Result<Config, Report> {
    let text = GOOD.replace("/{*rest}", path);
    config::parse(&format!("{text}{lines}\n"), Path::new("omnigate.toml"))
}

fn savers(lines: &str) -> Savers {
    let config = parse("/{*rest}", lines).unwrap_or_else(|report| panic!("{report}"));
    assert!(config.warnings.is_none(), "{:?}", config.warnings);
    config.routes[0].savers
}

fn problem(path: &str, lines: &str) -> String {
    let report = parse(path, lines).map(|_| ()).unwrap_err();
    assert_eq!(report.count(), 1, "{report}");
    report.to_string()
}

fn warning(path: &str, lines: &str) -> String {
    let warnings = parse(path, lines).unwrap_or_else(|report| panic!("{report}")).warnings.unwrap();
    assert_eq!(warnings.count(), 1, "{warnings}");
    warnings.to_string()
}

#[test]
fn they_are_off_unless_the_file_says_so() {
    assert_eq!(savers(""), Savers::default());
    let size = NonZeroU32::new(100);
    assert_eq!(savers("page_size = 100").page_size, size);
    let interval = Some(Duration::from_secs(10));
    assert_eq!(savers("min_interval = \"10s\"").min_interval, interval);
    let both = savers("min_interval = \"10s\"\npage_size = 100\nmax_wait = \"10s\"");
    assert_eq!(both, Savers { page_size: size, min_interval: interval });
}

#[test]
fn a_page_size_that_no_list_takes_is_refused_at_its_line() {
    assert!(problem("/{*rest}", "page_size = 0").contains("`page_size` must be more than 0"));
    let report = problem("/{*rest}", "page_size = 101");
    assert!(report.contains("`page_size` must be at most 100"), "{report}");
    assert!(report.contains("14 | page_size = 101\n   |             ^^^"), "{report}");
    let report = problem("/api/v1/users/email-only", "page_size = 21");
    assert!(report.contains("at most 20: no list of the route `all` takes more"), "{report}");
    assert!(parse("/api/v1/users/email-only", "page_size = 20").unwrap().warnings.is_none());
    assert!(parse("/api/v1/users/{*rest}", "page_size = -1").is_err());
    assert!(parse("/api/v1/users/{*rest}", "page_size = \"100\"").is_err());
}

#[test]
fn a_route_that_could_save_nothing_is_warned_of() {
    for path in ["/api/scim/v2/Users", "/mcp/https", "/api/v1/labels", "/api/v1/ai/{*rest}"] {
        let said = warning(path, "page_size = 100");
        assert!(said.contains("route `all` takes no list that is known to have a page"), "{said}");
    }
    let post = "page_size = 100\nmethods = [\"POST\"]";
    assert!(warning("/api/v1/folders", post).contains("takes no list"));
    let said = warning("/api/v1/documents", "min_interval = \"5s\"");
    assert!(said.contains("route `all` takes no question about a job"), "{said}");
    for path in ["/api/v1/ai/jobs/{id}", "/api/v1/jobs/{*rest}", "/api/v1/dashboards/{*rest}"] {
        assert!(parse(path, "min_interval = \"5s\"").unwrap().warnings.is_none(), "{path}");
    }
}

#[test]
fn an_interval_that_callers_do_not_outwait_is_warned_of() {
    assert!(problem("/{*rest}", "min_interval = \"0s\"").contains("must be more than 0"));
    let said = warning("/{*rest}", "min_interval = \"10001ms\"");
    assert!(said.contains("longer than many clients wait for an answer"), "{said}");
    let said = warning("/{*rest}", "min_interval = \"5s\"\nmax_wait = \"4s\"");
    assert!(said.contains("`max_wait` is shorter than `min_interval`"), "{said}");
}

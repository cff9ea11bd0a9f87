//! Every endpoint that is known goes, in `config/gateway.toml`, with the kind of key that it asks
//! for; and `check` says where a config sends a key to an endpoint that refuses it.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::path::Path;

use http::Method;
use omnigate::config::{self, Config, Report};
use omnigate::credential::Kind;
use omnigate::omni::{self, Endpoint, Keys};
use omnigate::route::{CanonicalPath, Found, Router};
use omnigate::shape::Key;

struct Gateway {
    config: Config,
    router: Router,
}

impl Gateway {
    fn of(config: Config) -> Self {
        let routes = config.routes.iter();
        let table = routes.map(|r| (r.id.clone(), r.pattern.clone(), r.methods.clone()));
        let router = Router::new(table.collect()).unwrap();
        Self { config, router }
    }

    fn example() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/gateway.toml");
        Self::of(config::load(&path).unwrap())
    }

    /// The route that a call takes, and the kind of its keys.
    fn route(&self, method: &Method, path: &str) -> Option<(&str, Kind)> {
        let Found::Route(at) = self.router.find(method, &CanonicalPath::parse(path).unwrap())
        else {
            return None;
        };
        let route = &self.config.routes[at];
        let kind_of = |key: &Key| {
            let mut all = self.config.credentials.iter();
            all.find(|one| one.id == key.credential).unwrap().kind
        };
        let mut kinds = route.keys.iter().map(kind_of);
        let kind = kinds.next().unwrap();
        assert!(kinds.all(|other| other == kind), "{} is a mixed pool", route.id);
        Some((route.id.as_str(), kind))
    }
}

/// The kind of key that a row is to be called with.
fn asked_for(endpoint: &Endpoint) -> Kind {
    let writes = endpoint.writes();
    match endpoint.keys() {
        _ if endpoint.template() == "/mcp/https" => Kind::Mcp,
        Keys::Organization | Keys::Unknown => Kind::Organization,
        Keys::Any | Keys::OrganizationForOthers if writes || endpoint.needs_admin() => {
            Kind::Organization
        }
        // Most of what is below them takes an administrator; the example has one route for all.
        _ if endpoint.template().starts_with("/api/v1/connections/") => Kind::Organization,
        Keys::Any | Keys::OrganizationForOthers => Kind::Personal,
    }
}

/// The path in every way of writing that Omni's server takes for the same.
fn spellings(template: &str) -> Vec<String> {
    let path: Vec<String> = template
        .split('/')
        .map(|segment| match segment.strip_prefix('{') {
            Some(name) => format!("Aa1-{}", name.trim_end_matches('}')),
            None => segment.to_owned(),
        })
        .collect();
    let path = path.join("/");
    let mixed = |odd: usize| -> String {
        let turn = |(at, c): (usize, char)| match at % 2 == odd {
            true => c.to_ascii_uppercase(),
            false => c.to_ascii_lowercase(),
        };
        path.chars().enumerate().map(turn).collect()
    };
    let cases =
        [path.clone(), path.to_ascii_lowercase(), path.to_ascii_uppercase(), mixed(0), mixed(1)];
    cases.into_iter().flat_map(|path| [format!("{path}/"), path]).collect()
}

#[test]
fn every_endpoint_goes_with_the_kind_of_key_that_it_asks_for() {
    let gateway = Gateway::example();
    let mut wrong = Vec::new();
    let mut calls = 0;
    for endpoint in omni::endpoints() {
        let usual =
            gateway.route(endpoint.method(), endpoint.template().replace(['{', '}'], "").as_str());
        for path in spellings(endpoint.template()) {
            let methods = match *endpoint.method() {
                Method::GET => vec![Method::GET, Method::HEAD],
                _ => vec![endpoint.method().clone()],
            };
            for method in methods {
                let known = omni::endpoint(&method, &path);
                let route = gateway.route(&method, &path);
                calls += 1;
                if !known.is_some_and(|known| std::ptr::eq(known, endpoint))
                    || route != usual
                    || route.map(|(_, kind)| kind) != Some(asked_for(endpoint))
                {
                    wrong.push(format!("{method} {path}: {route:?} for {endpoint}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {calls}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(calls > 2_000, "{calls}");
}

#[test]
fn the_gateway_has_a_route_for_each_kind_of_key() {
    let gateway = Gateway::example();
    for (method, path, route, kind) in [
        (Method::GET, "/API/SCIM/v2/Users", "scim", Kind::Organization),
        (Method::GET, "/api/scim/v2/Schemas/", "scim", Kind::Organization),
        (Method::POST, "/api/v1/query/run/", "query", Kind::Personal),
        (Method::GET, "/api/v1/Models/m/topic", "reads", Kind::Personal),
        (Method::GET, "/api/v1/models/m/Suggestions", "suggestions", Kind::Organization),
        (Method::POST, "/api/v1/documents", "writes", Kind::Organization),
        (Method::DELETE, "/MCP/https/", "mcp", Kind::Mcp),
    ] {
        assert_eq!(gateway.route(&method, path), Some((route, kind)), "{method} {path}");
    }
    assert_eq!(gateway.route(&Method::PUT, "/mcp/https"), None);
}

#[test]
fn no_example_is_warned_of() {
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config")).unwrap() {
        let path = entry.unwrap().path();
        let warnings = config::load(&path).unwrap().warnings;
        assert!(warnings.is_none(), "{warnings:?}");
    }
}

const START: &str = r#"state_dir = "/var/lib/omnigate"
upstream.base_url = "https://acme.omniapp.co"
vault.backend = "env"
credentials.org = { kind = "organization", secret = "ORG" }
credentials.me = { kind = "personal", secret = "ME" }
credentials.you = { kind = "personal", secret = "YOU" }
credentials.agent = { kind = "mcp", secret = "AGENT" }
"#;

/// A config with these routes: name, path, methods, credential.
fn with_routes(routes: &[(&str, &str, &str, &str)]) -> String {
    let mut text = START.to_owned();
    for (name, path, methods, credential) in routes {
        let methods = if methods.is_empty() { "" } else { &format!("methods = [{methods}]\n") };
        text += &format!(
            "\n[[routes]]\nname = \"{name}\"\npath = \"{path}\"\n{methods}credential = {credential}\n"
        );
    }
    text
}

fn parse(routes: &[(&str, &str, &str, &str)]) -> Result<Config, Report> {
    config::parse(&with_routes(routes), Path::new("omnigate.toml"))
}

fn refused(routes: &[(&str, &str, &str, &str)]) -> String {
    parse(routes).map(|_| ()).unwrap_err().to_string()
}

fn warned(routes: &[(&str, &str, &str, &str)]) -> Option<String> {
    parse(routes).unwrap().warnings.map(|warnings| warnings.to_string())
}

#[test]
fn scim_with_a_personal_token_is_an_error_with_line_caret_and_endpoint() {
    let report = refused(&[("users", "/api/scim/v2/Users", "\"GET\"", "\"me\"")]);
    let expected = r#"error: route `users`: credential `me` of kind "personal" is refused by GET /api/scim/v2/Users, the only endpoint that the route serves
  --> omnigate.toml:13:14
   |
13 | credential = "me"
   |              ^^^^
   = help: name a credential of kind "organization"

1 problem in omnigate.toml"#;
    assert_eq!(report, expected);
}

#[test]
fn a_wildcard_over_scim_alone_is_an_error_and_a_pool_is_marked_at_its_key() {
    let report = refused(&[("people", "/API/Scim/{*rest}", "", "[\"me\", \"you\"]")]);
    let expected = r#"error: route `people`: credential `me` of kind "personal" is refused by all 15 endpoints that the route serves, such as GET /api/scim/v2/Users
  --> omnigate.toml:12:15
   |
12 | credential = ["me", "you"]
   |               ^^^^
   = help: name a credential of kind "organization"

1 problem in omnigate.toml"#;
    assert_eq!(report, expected);
}

#[test]
fn a_wildcard_that_takes_scim_along_is_a_warning() {
    let count = omni::endpoints().count();
    let expected = format!(
        r#"warning: route `all`: credential `agent` of kind "mcp" is refused by 15 of {count} endpoints that the route serves, such as GET /api/scim/v2/Users
  --> omnigate.toml:12:14
   |
12 | credential = "agent"
   |              ^^^^^^^
   = help: give these a route of their own, with a credential of kind "organization":
           path = "/api/scim/v2/{{*rest}}"

1 warning in omnigate.toml"#
    );
    assert_eq!(warned(&[("all", "/{*rest}", "", "\"agent\"")]), Some(expected));
}

#[test]
fn a_warning_fits_on_a_line_of_the_log() {
    let config = parse(&[("all", "/api/{*rest}", "\"PATCH\"", "\"me\"")]).unwrap();
    let lines: Vec<_> = config.warnings.unwrap().lines().collect();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("omnigate.toml:13:14: route `all`: credential `me`"), "{lines:?}");
}

#[test]
fn a_narrower_route_with_an_organization_key_ends_the_warning() {
    let all = ("all", "/{*rest}", "", "\"me\"");
    assert!(warned(&[all]).is_some());
    assert_eq!(warned(&[all, ("scim", "/api/SCIM/v2/{*rest}", "", "\"org\"")]), None);
    // The lists alone are not all of it.
    let lists = ("lists", "/api/scim/v2/{kind}", "", "\"org\"");
    let told = warned(&[all, lists]).unwrap();
    assert!(told.contains("is refused by 11 of"), "{told}");
    let reads = ("reads", "/api/scim/{*rest}", "\"GET\"", "\"org\"");
    assert!(warned(&[all, reads]).unwrap().contains("such as POST /api/scim/v2/Users"));
}

#[test]
fn a_route_that_spells_a_parameter_out_is_found_out_too() {
    for (path, methods, endpoint) in [
        ("/api/scim/v2/Users/7f3a", "\"PUT\"", "PUT /api/scim/v2/Users/{id}"),
        ("/api/{x}/v2/groups/7f3a/", "\"HEAD\"", "GET /api/scim/v2/Groups/{miniUuid}"),
        ("/api/scim/v2/U{x}", "\"POST\"", "POST /api/scim/v2/Users"),
    ] {
        let report = refused(&[("one", path, methods, "\"me\"")]);
        assert!(report.contains(&format!("is refused by {endpoint}, the only")), "{report}");
        assert_eq!(warned(&[("one", path, methods, "\"org\"")]), None);
    }
}

#[test]
fn keys_that_are_taken_are_nothing_to_speak_of() {
    for (path, credential) in [
        ("/{*rest}", "\"org\""),
        ("/api/v1/{*rest}", "\"me\""),
        ("/mcp/https", "\"agent\""),
        ("/api/v1/api-keys", "\"me\""),
        ("/api/scimitar/{*rest}", "\"me\""),
        ("/nowhere", "\"me\""),
    ] {
        assert_eq!(warned(&[("one", path, "", credential)]), None, "{path}");
    }
}

#[test]
fn check_prints_warnings_and_exits_0() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("omnigate.toml");
    std::fs::write(&file, with_routes(&[("all", "/{*rest}", "", "\"me\"")])).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_omnigate"));
    let output = command.arg("check").arg(&file).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.starts_with("warning: route `all`"), "{told}");
    assert!(told.contains("12 | credential = \"me\"\n   |              ^^^^\n"), "{told}");
    assert!(String::from_utf8(output.stdout).unwrap().contains(": ok: 1 route, 4 credentials"));
}

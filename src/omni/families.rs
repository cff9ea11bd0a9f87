//! What is known of whole branches of Omni's paths, endpoints that nobody has heard of included.

use std::borrow::Cow;

use http::Method;

/// Which calls below a path are meant.
enum Calls {
    All,
    Writes,
}

/// Calls that can do harm that no wildcard route should do by chance: they reach keys, people and
/// what they may see. `{}` is any one segment: what is sensitive in `v1` is so in `unstable`, from where
/// Omni's endpoints come, and in whatever comes after `v1`.
const SENSITIVE: &[(&str, Calls)] = &[
    ("/api/scim", Calls::All),
    ("/api/{}/scim", Calls::All),
    ("/api/{}/api-keys", Calls::All),
    ("/api/{}/embed/sso", Calls::All),
    ("/embed", Calls::All),
    ("/api/{}/users/{}/model-roles", Calls::Writes),
    ("/api/{}/user-groups/{}/model-roles", Calls::Writes),
    ("/api/{}/connections", Calls::Writes),
    ("/api/{}/connection-environments", Calls::Writes),
];

/// Answers that are true once, or decide about rights.
const NEVER_KEPT: &[&str] = &[
    "/api/v1/query",
    "/api/v1/jobs",
    "/api/v1/ai/jobs",
    "/api/v1/dashboards/{}/download",
    "/api/v1/whoami",
    "/api/v1/api-keys",
    MCP,
];

const MCP: &str = "/mcp";

/// Whether a call to this canonical path is sensitive: no wildcard route should include it by
/// chance.
pub fn is_sensitive(method: &Method, path: &str) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    SENSITIVE.iter().any(|(branch, calls)| {
        let meant = match calls {
            Calls::All => true,
            Calls::Writes => !reads,
        };
        meant && is_below(branch, path)
    })
}

/// Whether answers from this canonical path are never kept, whatever the config says.
pub fn is_never_kept(path: &str) -> bool {
    NEVER_KEPT.iter().any(|branch| is_below(branch, path))
}

pub(super) fn is_mcp(path: &str) -> bool {
    is_below(MCP, path)
}

/// Whether a canonical path is one at which MCP clients look for a way to log in. None leads to a key
/// of ours, and what Omni says there leads past us.
pub fn is_login_discovery(path: &str) -> bool {
    const DOCUMENTS: [&str; 3] =
        ["oauth-protected-resource", "oauth-authorization-server", "openid-configuration"];
    let path = laxly(path);
    let mut names = path.split('/').skip_while(|name| !name.eq_ignore_ascii_case(".well-known"));
    names.next().is_some()
        && names.next().is_some_and(|name| DOCUMENTS.iter().any(|it| it.eq_ignore_ascii_case(name)))
}

/// Whether an MCP path is called by a method that its transport does not have. No answer for others.
pub fn is_mcp_misuse(method: &Method, path: &str) -> bool {
    is_mcp(path) && !MCP_METHODS.contains(method)
}

/// What streamable HTTP has.
pub const MCP_METHODS: [Method; 3] = [Method::POST, Method::GET, Method::DELETE];

/// A canonical path as the laxest server reads it, for rules that nobody may be spelt around.
///
/// What is escaped in a canonical path are separators, blanks and all beyond ASCII. Some servers trim
/// blanks, and some change letter case after they decode: the Kelvin sign is an upper-case `k` to
/// them, and `ſ` has the capital of `s`.
pub(super) fn laxly(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let segments: Vec<Cow<'_, str>> = path.split('/').map(segment_laxly).collect();
    Cow::Owned(segments.join("/"))
}

fn segment_laxly(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((plain, escape)) = rest.split_once('%') {
        bytes.extend_from_slice(plain.as_bytes());
        let digits = escape.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(digits.unwrap_or(b'%'));
        rest = if digits.is_some() { &escape[2..] } else { escape };
    }
    bytes.extend_from_slice(rest.as_bytes());
    let text = String::from_utf8_lossy(&bytes);
    Cow::Owned(text.trim().to_uppercase().to_lowercase().replace('/', "%2F"))
}

/// Whether a path is the branch itself or below it, in any letter case and however it is escaped.
fn is_below(branch: &str, path: &str) -> bool {
    let path = laxly(path);
    let mut path = path.split('/');
    branch.split('/').all(|wanted| {
        path.next().is_some_and(|found| match wanted {
            "{}" => !found.is_empty(),
            _ => wanted.eq_ignore_ascii_case(found),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_heard_of_is_as_sensitive_as_its_neighbours() {
        for (method, path) in [
            (Method::GET, "/api/scim/v2/ServiceProviderConfig"),
            (Method::GET, "/API/SCIM/"),
            (Method::HEAD, "/api/v1/API-keys/k"),
            (Method::POST, "/api/v1/connections/c/dbt/rotate-signing-key"),
            (Method::POST, "/api/v1/users/u/model-roles/"),
            (Method::POST, "/embed/sso/generate-url"),
            (Method::GET, "/api/unstable/api-keys"),
            (Method::GET, "/api/v2/scim/Users"),
            (Method::DELETE, "/api/unstable/connections/c"),
            (Method::POST, "/api/V2/users/u/model-roles"),
        ] {
            assert!(is_sensitive(&method, path), "{method} {path}");
        }
        for (method, path) in [
            (Method::GET, "/api/v1/connections/c"),
            (Method::HEAD, "/api/v1/users/u/model-roles"),
            (Method::POST, "/api/v1/users//model-roles"),
            (Method::POST, "/api/v1/connectionsx"),
            (Method::GET, "/api/v1/documents"),
            (Method::GET, "/x/api/scim"),
        ] {
            assert!(!is_sensitive(&method, path), "{method} {path}");
        }
    }

    #[test]
    fn nobody_gets_around_a_branch_by_spelling() {
        for path in [
            "/api/v1/api-%E2%84%AAeys",
            "/api/v1/api-key%C5%BF/k",
            "/api/%20scim/v2",
            "/api/scim%20/v2",
            "/api/scim%C2%A0",
            "/API/V1/EMBED/SSO%20",
        ] {
            assert!(is_sensitive(&Method::GET, path), "{path}");
            assert!(is_sensitive(&Method::HEAD, path), "{path}");
        }
        for path in ["/api%2Fscim", "/api/sc%C3%ADm", "/api/v1/users/a%2Fb/x", "/%2"] {
            assert!(!is_sensitive(&Method::POST, path), "{path}");
        }
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert!(!is_sensitive(&method.parse().unwrap(), "/api/v1/connections/c"));
        }
        for method in ["POST", "get", "PROPFIND", "DELETE"] {
            assert!(is_sensitive(&method.parse().unwrap(), "/api/v1/connections/c"), "{method}");
        }
        assert!(is_never_kept("/api/v1/%E2%80%83whoami"));
    }

    #[test]
    fn what_is_true_once_is_never_kept() {
        for path in [
            "/api/v1/query/new",
            "/api/v1/Jobs/j/status/",
            "/api/v1/ai/jobs/j/vis",
            "/api/v1/dashboards/d/download",
            "/mcp",
            "/api/v1/whoami/",
        ] {
            assert!(is_never_kept(path), "{path}");
        }
        for path in ["/api/v1/documents", "/api/v1/ai/conversations", "/api/v1/dashboards/d", "/"] {
            assert!(!is_never_kept(path), "{path}");
        }
    }
}

//! The request target as the connection gives it: whom it is for, and the path and query to send.

use std::str::FromStr;

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Uri};

use super::path::{BadPath, CanonicalPath};

/// The longest query.
const MAX_QUERY_BYTES: usize = 32 * 1024;

/// A request target that has one reading.
#[derive(Clone, Debug)]
pub struct Target {
    authority: Authority,
    path: CanonicalPath,
    path_and_query: PathAndQuery,
}

/// Why a request target is refused. Nothing of it is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// CONNECT or TRACE: neither is for a gateway.
    #[error("CONNECT and TRACE are not for this gateway")]
    Method,
    /// Neither `/path`, nor `http://host/path`.
    #[error("the request target is neither a path nor an http URL")]
    Form,
    /// A user name or password in the target or in `Host`.
    #[error("the request names a user before its host")]
    UserInfo,
    /// No `Host` field and no `:authority`.
    #[error("the request has no Host")]
    NoHost,
    /// More than one `Host` field.
    #[error("the request has more than one Host")]
    TwoHosts,
    /// A `Host` that is no host and port.
    #[error("the request's Host is not a host and port")]
    BadHost,
    /// `Host` says one thing, and the URL or `:authority` another.
    #[error("the request's Host and its target differ")]
    HostsDiffer,
    /// The path has no canonical form.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// Longer than 32 KiB.
    #[error("the query is longer than {MAX_QUERY_BYTES} bytes")]
    QueryTooLong,
    /// A space, `#` or control character.
    #[error("the query has a space, `#` or control character")]
    BadQuery,
}

impl Target {
    /// Reads the target of a request.
    ///
    /// A `#fragment` is cut off by [`Uri`] before we see it; it is neither matched nor sent.
    ///
    /// # Errors
    /// Says why it is not one unambiguous request for a gateway.
    pub fn read(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Self, BadTarget> {
        if matches!(*method, Method::CONNECT | Method::TRACE) {
            return Err(BadTarget::Method);
        }
        if uri.scheme().is_some_and(|s| *s != Scheme::HTTP && *s != Scheme::HTTPS) {
            return Err(BadTarget::Form);
        }
        // `GET example.com` parses as an authority without a scheme. (h2 has both.)
        if uri.authority().is_some() && uri.scheme().is_none() || !uri.path().starts_with('/') {
            return Err(BadTarget::Form);
        }
        let authority = one_authority(uri.authority(), headers)?;
        let path = CanonicalPath::parse(uri.path())?;
        let path_and_query = with_query(&path, uri.query())?;
        Ok(Self { authority, path, path_and_query })
    }

    /// The host and port that the caller thinks it speaks to.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The path to match.
    pub fn path(&self) -> &CanonicalPath {
        &self.path
    }

    /// The path that was matched and the query, byte for byte as the caller wrote it: what is sent.
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.path_and_query
    }
}

/// The one host that target and `Host` field agree on.
fn one_authority(target: Option<&Authority>, headers: &HeaderMap) -> Result<Authority, BadTarget> {
    let mut fields = headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(BadTarget::TwoHosts);
    }
    let named = match field {
        Some(value) if value.is_empty() => return Err(BadTarget::NoHost),
        Some(value) => {
            let text = value.to_str().map_err(|_| BadTarget::BadHost)?;
            Some(Authority::from_str(text).map_err(|_| BadTarget::BadHost)?)
        }
        None => None,
    };
    if target.into_iter().chain(&named).any(|authority| authority.as_str().contains('@')) {
        return Err(BadTarget::UserInfo);
    }
    let one = match (target, named) {
        // Equal but for letter case; a port that only one of them gives makes them differ.
        (Some(target), Some(named)) if *target != named => return Err(BadTarget::HostsDiffer),
        (Some(one), _) => one.clone(),
        (None, Some(one)) => one,
        (None, None) => return Err(BadTarget::NoHost),
    };
    let port_is_a_number = one.port().is_none_or(|port| port.as_str().parse::<u16>().is_ok());
    let has_port = one.as_str().len() > one.host().len();
    if one.host().is_empty() || has_port && one.port().is_none() || !port_is_a_number {
        return Err(BadTarget::BadHost);
    }
    Ok(one)
}

fn with_query(path: &CanonicalPath, query: Option<&str>) -> Result<PathAndQuery, BadTarget> {
    let text = match query {
        None => path.as_str().to_owned(),
        Some(query) if query.len() > MAX_QUERY_BYTES => return Err(BadTarget::QueryTooLong),
        Some(query) if query.chars().any(|c| c.is_control() || matches!(c, ' ' | '#')) => {
            return Err(BadTarget::BadQuery);
        }
        Some(query) => format!("{path}?{query}"),
    };
    PathAndQuery::try_from(text).map_err(|_| BadTarget::BadQuery)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(hosts: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
        }
        headers
    }

    fn read(target: &str, hosts: &[&str]) -> Result<Target, BadTarget> {
        Target::read(&Method::GET, &target.parse().unwrap(), &headers(hosts))
    }

    fn refused(target: &str, hosts: &[&str]) -> BadTarget {
        read(target, hosts).err().unwrap_or_else(|| panic!("{target} for {hosts:?} was taken"))
    }

    #[test]
    fn a_path_and_its_host_are_read() {
        let target = read("/api/v1/%64ocuments?path=&cursor=a%2fb", &["omnigate:6664"]).unwrap();
        assert_eq!(target.authority(), "omnigate:6664");
        assert_eq!(target.path().as_str(), "/api/v1/documents");
        assert_eq!(target.path_and_query(), "/api/v1/documents?path=&cursor=a%2fb");
        assert!(read("/", &["[::1]:6664"]).is_ok());
    }

    #[test]
    fn queries_travel_byte_for_byte() {
        for query in ["", "a", "a=%zz", "a=b&a=c&&", "%2E%2e/../;x", "q='{}|\\^`", "u=é"] {
            let target = read(&format!("/a?{query}"), &["h"]).unwrap();
            assert_eq!(target.path_and_query().query(), Some(query));
            assert_eq!(target.path_and_query().as_str(), format!("/a?{query}"));
        }
        assert_eq!(read("/a", &["h"]).unwrap().path_and_query().query(), None);
    }

    #[test]
    fn a_url_for_this_host_is_read_and_one_for_another_is_not() {
        let target = read("http://omnigate:6664/a?b", &["OmniGate:6664"]).unwrap();
        assert_eq!(target.path_and_query(), "/a?b");
        assert!(read("https://omnigate/a", &[]).is_ok());
        assert_eq!(refused("http://elsewhere/a", &["omnigate"]), BadTarget::HostsDiffer);
        assert_eq!(refused("http://omnigate:80/a", &["omnigate"]), BadTarget::HostsDiffer);
    }

    #[test]
    fn other_forms_of_target_are_refused() {
        assert_eq!(refused("*", &["h"]), BadTarget::Form);
        assert_eq!(refused("example.com", &["h"]), BadTarget::Form);
        assert_eq!(refused("example.com:443", &["h"]), BadTarget::Form);
        assert_eq!(refused("ftp://h/a", &["h"]), BadTarget::Form);
        assert_eq!(refused("http://user@h/a", &["h"]), BadTarget::UserInfo);
        for method in [Method::CONNECT, Method::TRACE] {
            let error = Target::read(&method, &"/a".parse().unwrap(), &headers(&["h"])).err();
            assert_eq!(error, Some(BadTarget::Method));
        }
    }

    #[test]
    fn one_host_and_no_more() {
        use BadTarget::*;
        for (hosts, why) in [
            (&[][..], NoHost),
            (&[""], NoHost),
            (&["a", "a"], TwoHosts),
            (&["a", "b"], TwoHosts),
            (&["a, b"], BadHost),
            (&["a b"], BadHost),
            (&["a/b"], BadHost),
            (&["a:port"], BadHost),
            (&["a:99999"], BadHost),
            (&["a:"], BadHost),
            (&[":80"], BadHost),
            (&["é"], BadHost),
            (&["user@a"], UserInfo),
        ] {
            assert_eq!(refused("/", hosts), why, "{hosts:?}");
        }
    }

    #[test]
    fn a_fragment_is_neither_matched_nor_sent() {
        let target = read("/a?b#/../c", &["h"]).unwrap();
        assert_eq!(target.path_and_query(), "/a?b");
    }

    #[test]
    fn a_query_has_its_limit() {
        let query = "a".repeat(MAX_QUERY_BYTES);
        assert!(read(&format!("/?{query}"), &["h"]).is_ok());
        assert_eq!(refused(&format!("/?{query}a"), &["h"]), BadTarget::QueryTooLong);
        assert_eq!(
            with_query(&CanonicalPath::parse("/").unwrap(), Some("a b")),
            Err(BadTarget::BadQuery)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn what_was_matched_is_what_is_sent(text in "/[!-~]{0,30}(\\?[!-~]{0,30})?") {
            let Ok(uri) = text.parse::<Uri>() else { return Ok(()) };
            if let Ok(target) = Target::read(&Method::GET, &uri, &headers(&["h"])) {
                prop_assert_eq!(target.path_and_query().path(), target.path().as_str());
                prop_assert_eq!(target.path_and_query().query(), uri.query());
            }
        }
    }
}

//! Upstream's scheme, host and port, checked once.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use http::uri::{Authority, Scheme};

/// The scheme, host and port that requests are sent to. Plain `http` only to loopback.
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    https: bool,
    authority: Authority,
}

/// Why a `base_url` cannot be upstream's origin.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OriginError {
    /// It does not parse, or has no scheme or host.
    #[error("this is not a URL such as https://acme.omniapp.co")]
    NotAUrl,
    /// Another scheme than `http` and `https`.
    #[error("the scheme must be https")]
    Scheme,
    /// `http` to a host that is not this machine would show the token to the network.
    #[error(
        "http:// would show the token to the network; only loopback may be spoken to without TLS"
    )]
    PlainHttp,
    /// A path, query or user name, which would be lost.
    #[error("only scheme, host and port may stand here; paths are passed on as callers send them")]
    MoreThanAnOrigin,
}

impl Origin {
    /// Reads a `base_url`.
    ///
    /// # Errors
    /// Says what is wrong with it; nothing of the value is repeated.
    pub fn parse(base_url: &str) -> Result<Self, OriginError> {
        let uri: Uri = base_url.parse().map_err(|_| OriginError::NotAUrl)?;
        let (scheme, authority) = uri.scheme().zip(uri.authority()).ok_or(OriginError::NotAUrl)?;
        let https = *scheme == Scheme::HTTPS;
        if !https && *scheme != Scheme::HTTP {
            return Err(OriginError::Scheme);
        }
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !bare || authority.as_str().contains('@') {
            return Err(OriginError::MoreThanAnOrigin);
        }
        if authority.host().is_empty() {
            return Err(OriginError::NotAUrl);
        }
        let origin = Self { https, authority: authority.clone() };
        if !https && !origin.is_loopback() {
            return Err(OriginError::PlainHttp);
        }
        Ok(origin)
    }

    /// Whether TLS is spoken.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host, without the brackets of an IPv6 literal.
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, the scheme's own where none was given.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.https { 443 } else { 80 })
    }

    /// What the `Host` field says.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    fn is_loopback(&self) -> bool {
        let host = self.host();
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_anywhere_and_http_on_loopback() {
        assert_eq!(Origin::parse("https://acme.omniapp.co").unwrap().port(), 443);
        for plain in ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:9/"] {
            assert!(Origin::parse(plain).is_ok(), "{plain}");
        }
        assert_eq!(Origin::parse("http://[::1]:9").unwrap().host(), "::1");
    }

    #[test]
    fn what_would_leak_or_be_lost_is_refused() {
        let cases = [
            ("http://acme.omniapp.co", OriginError::PlainHttp),
            ("http://localhost.example.com", OriginError::PlainHttp),
            ("ftp://localhost", OriginError::Scheme),
            ("https://acme.omniapp.co/api", OriginError::MoreThanAnOrigin),
            ("https://user@acme.omniapp.co", OriginError::MoreThanAnOrigin),
            ("acme.omniapp.co", OriginError::NotAUrl),
            ("", OriginError::NotAUrl),
        ];
        for (url, error) in cases {
            assert_eq!(Origin::parse(url), Err(error), "{url}");
        }
    }
}

//! Who is an operator.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::problem;
use crate::base::{Body, Peer, Remote};
use crate::caller::{self, FromAPage, Hosts, Pages, TokenDigest};
use crate::route::Target;

/// Who may come to the operators' listener.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// By which names it may be called, besides loopback names and its own address.
    pub hosts: Hosts,
    /// The token that every request shows, but for pages that are open. Without one, only those on this
    /// machine are answered.
    pub token: Option<TokenDigest>,
}

impl Rules {
    /// Whether an operator asks, or somebody for a page that is open.
    pub(super) fn let_in(
        &self,
        target: &Target,
        headers: &HeaderMap,
        peer: &Peer,
        is_open: bool,
    ) -> Result<(), Refused> {
        caller::check(&self.hosts, target.authority(), peer, headers, Pages::Ours)?;
        match &self.token {
            Some(token) if !is_open && !token.is_shown_by(headers) => Err(Refused::Token),
            None if !is_here(&peer.remote) => Err(Refused::Elsewhere),
            Some(_) | None => Ok(()),
        }
    }
}

/// Why somebody is not taken for an operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Page(#[from] FromAPage),
    #[error("this listener is for operators; show its token as a bearer in `Authorization`")]
    Token,
    #[error("without `token_sha256` in `[admin]`, only those on the same machine are answered")]
    Elsewhere,
}

impl Refused {
    pub(super) fn answer(&self) -> Response<Body> {
        let (status, kind) = match self {
            Self::Page(_) => (StatusCode::FORBIDDEN, "browser-request"),
            Self::Token => (StatusCode::UNAUTHORIZED, "caller-unknown"),
            Self::Elsewhere => (StatusCode::FORBIDDEN, "caller-denied"),
        };
        let mut response = problem(status, kind, &self.to_string());
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"omnigate admin\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn is_here(remote: &Remote) -> bool {
    match remote {
        Remote::Tcp(address) => address.ip().to_canonical().is_loopback(),
        Remote::Unix { .. } | Remote::Pipe => true,
    }
}

//! Keeps web pages away from the operators' listener: a page on the same laptop can reach
//! loopback, and through DNS rebinding it can even read the answers.

use std::net::IpAddr;

use http::header::{HOST, HeaderName, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Request};

use crate::base::{Body, Peer};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is taken to come from a web page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FromAPage {
    #[error("the Host is not a name of this machine, as when a web page rebinds a DNS name")]
    Host,
    #[error("the Origin is another site's; web pages may not ask here")]
    Origin,
    #[error("the browser says that another site asks; web pages may not ask here")]
    FetchSite,
}

pub(super) fn check(request: &Request<Body>, peer: &Peer) -> Result<(), FromAPage> {
    let headers = request.headers();
    let field = one(headers, HOST).map_err(|()| FromAPage::Host)?;
    let host = match (request.uri().authority(), field) {
        (Some(target), Some(field)) if target.as_str() != field => return Err(FromAPage::Host),
        (Some(target), _) => target.clone(),
        (None, Some(field)) => field.parse().map_err(|_| FromAPage::Host)?,
        (None, None) => return Err(FromAPage::Host),
    };
    if !names_this_machine(&host, peer) {
        return Err(FromAPage::Host);
    }
    if let Some(origin) = one(headers, ORIGIN).map_err(|()| FromAPage::Origin)? {
        let ours =
            ["http://", "https://"].iter().any(|s| origin.strip_prefix(s) == Some(host.as_str()));
        if !ours {
            return Err(FromAPage::Origin);
        }
    }
    match one(headers, SEC_FETCH_SITE).map_err(|()| FromAPage::FetchSite)? {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err(FromAPage::FetchSite),
    }
}

/// A field's one value; an error where there are more, or it is not text.
fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.to_str()).transpose().map_err(|_| ())?;
    if values.next().is_some() { Err(()) } else { Ok(first) }
}

fn names_this_machine(authority: &Authority, peer: &Peer) -> bool {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || peer.local.is_some_and(|local| local.ip() == ip),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

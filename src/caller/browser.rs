//! Keeps web pages away. A page that somebody has open on the same machine or in the same network can
//! send requests to a gateway there, and by rebinding a DNS name it can even read the answers.
//!
//! No page gets past all of these, for any method:
//!
//! - *The host.* A page whose name was bound to our address asks for that name; ours are loopback
//!   names, the IP address that the connection came to, and those that are listed. `localhost` is
//!   one; `app.localhost` is not unless it is listed, since not every resolver keeps such names from
//!   a network's DNS server. `0.0.0.0`, `127.1` and `2130706433` are no addresses of ours either.
//!   The port of a loopback name or an address says nothing: `ssh -L` and the like change it.
//! - *`Origin`*, with which a page that posts or wants to read says whose it is.
//! - *`Sec-Fetch-Site`*, with which browsers say whose page asks; `none` is a person who typed the
//!   address.
//! - *`Referer`*, and the name that all browsers have in `User-Agent`, where there is no
//!   `Sec-Fetch-Site`: old browsers do not send it, and no browser sends it to a plain `http://` host
//!   other than loopback. An `<img>` has no `Origin` there, and can hide its `Referer`; but it can
//!   neither change `User-Agent` nor add a field. So a script that calls itself `Mozilla/…` has to add
//!   a field of ours, or a bearer.
//! - *What nobody but a browser says*: questions before a request, pings, service workers.
//!
//! Callers' port has no pages of its own ([`Pages::None`]), so there nothing counts as one: an address
//! that somebody typed (`none`) may have answered with a redirect to us, and a page that upstream once
//! answered with would be of our origin, as is the icon that browsers fetch beside any answer. The desktop
//! programs that say `none` of themselves add a bearer or a field of ours.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, ORIGIN, REFERER, USER_AGENT};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Twice, once};
use crate::base::Peer;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Fields that only browsers send, on behalf of a page. (WebSockets come with an `Origin`, and as an
/// upgrade.)
const OF_PAGES: [&str; 6] = [
    "access-control-request-method",
    "access-control-request-headers",
    "access-control-request-private-network",
    "ping-from",
    "ping-to",
    "service-worker",
];

/// Fields that no page can add without asking first, which it does with an `Origin`.
/// (`X-Requested-With` is none of them: Android's web views add it on their own.)
const OF_SCRIPTS: [&str; 3] = ["x-omnigate", "x-omnigate-caller", "x-omnigate-token"];

/// Why a request is taken to come from a web page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FromAPage {
    /// The name is not one of ours.
    #[error(
        "the Host is no name of this gateway, as when a web page rebinds a DNS name; use localhost, the \
         address, or a name in the config's `hosts`"
    )]
    Host,
    /// A page of another site, or one that hides whose it is.
    #[error("the request has the Origin of a web page; pages may not ask here")]
    Origin,
    /// The browser says so itself.
    #[error(
        "the browser says that a web page asks, or that one may have led here; pages may not ask"
    )]
    FetchSite,
    /// The page that asks, or that led here, is another site's.
    #[error("the Referer is another site's; web pages may not ask here")]
    Referer,
    /// A browser that does not say for whom it asks.
    #[error(
        "this browser does not say for which page it asks; a script that calls itself Mozilla may add \
         `X-Omnigate: 1`"
    )]
    Silent,
    /// A field that only browsers send, on behalf of a page.
    #[error("only browsers send the field `{0}`, for web pages, and those may not ask here")]
    Field(&'static str),
}

/// The names by which callers may call the gateway, besides loopback names and its own address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<Host>);

/// One name, or IP address, of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    name: Name,
    /// Without one, any.
    port: Option<u16>,
}

/// Why a text is no name of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHost {
    /// Nothing.
    #[error("the name is empty")]
    Empty,
    /// `http://…`
    #[error("a host has no scheme")]
    Scheme,
    /// `…/…`
    #[error("a host has no path, query or fragment")]
    Path,
    /// `…@…`
    #[error("a host has no user")]
    User,
    /// `*`
    #[error(
        "a host is one name; there are no wildcards, since a page could have a name of its own there"
    )]
    Wildcard,
    /// Not between 1 and 65535.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// Neither a DNS name nor an address.
    #[error("this is neither a DNS name nor an IP address; an IPv6 address stands in [ ]")]
    Name,
}

/// What browsers take for the same host is equal here.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    /// In its shortest form: an IPv4 address is not an IPv6 one.
    Address(IpAddr),
    /// In lower case, without the dot of the root.
    Dns(Box<str>),
}

impl Hosts {
    /// Besides loopback names and the address that a connection came to.
    pub fn new(listed: Vec<Host>) -> Self {
        Self(listed)
    }

    fn has(&self, host: &Host, peer: &Peer) -> bool {
        let ours = match &host.name {
            Name::Address(ip) => {
                let local = peer.local.map(|local| local.ip().to_canonical());
                ip.is_loopback() || local == Some(*ip)
            }
            Name::Dns(name) => &**name == "localhost",
        };
        let port = host.port_of(peer);
        let listed = |one: &Host| one.name == host.name && one.port.is_none_or(|it| it == port);
        ours || self.0.iter().any(listed)
    }
}

impl Host {
    /// Reads `name`, `name:port`, `10.0.0.7`, `[fd00::7]:8080`.
    ///
    /// # Errors
    /// [`BadHost`].
    pub fn parse(text: &str) -> Result<Self, BadHost> {
        if text.is_empty() {
            return Err(BadHost::Empty);
        }
        for (mark, error) in [
            ("://", BadHost::Scheme),
            ("/", BadHost::Path),
            ("\\", BadHost::Path),
            ("?", BadHost::Path),
            ("#", BadHost::Path),
            ("@", BadHost::User),
            ("*", BadHost::Wildcard),
        ] {
            if text.contains(mark) {
                return Err(error);
            }
        }
        let (name, port) = match text.rsplit_once(':') {
            // The `:` of an address in brackets is no port's.
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (text, None),
        };
        let port = match port {
            None => None,
            Some(port) => {
                let digits = port.bytes().all(|byte| byte.is_ascii_digit());
                let number = port.parse().ok().filter(|number| digits && *number > 0);
                Some(number.ok_or(BadHost::Port)?)
            }
        };
        Ok(Self { name: Name::parse(name).ok_or(BadHost::Name)?, port })
    }

    fn of(authority: &Authority) -> Option<Self> {
        let name = Name::parse(authority.host())?;
        let port = match authority.port() {
            None if authority.as_str().len() == authority.host().len() => None,
            None => return None,
            Some(port) => Some(port.as_str().parse().ok()?),
        };
        Some(Self { name, port })
    }

    /// The port, or that of the scheme.
    fn port_of(&self, peer: &Peer) -> u16 {
        self.port.unwrap_or(if peer.secure { 443 } else { 80 })
    }
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: std::net::Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(address.to_canonical()));
        }
        if let Ok(address) = text.parse::<std::net::Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let mut labels = name.split('.');
        // To a browser, what ends in a number is an IPv4 address in some spelling (WHATWG URL §3.5).
        let last = name.rsplit('.').next()?;
        let number = last.bytes().all(|byte| byte.is_ascii_digit())
            || last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
        let fits = labels.all(|label| (1..=63).contains(&label.len()) && label.chars().all(plain));
        (fits && !number && name.len() <= 253).then(|| Self::Dns(name.to_ascii_lowercase().into()))
    }
}

/// Whether there are pages of our own, which may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// On the operators' port.
    Ours,
    /// On callers' ports.
    None,
}

/// Whether a request may be answered: whether no web page can have sent it, but for one of our own.
/// `authority` is the one host that the whole request agrees on.
///
/// # Errors
/// By what it is taken for a page's.
pub fn check(
    hosts: &Hosts,
    authority: &Authority,
    peer: &Peer,
    headers: &HeaderMap,
    pages: Pages,
) -> Result<(), FromAPage> {
    let own = pages == Pages::Ours;
    let host = Host::of(authority).filter(|host| hosts.has(host, peer)).ok_or(FromAPage::Host)?;
    if let Some(field) = OF_PAGES.into_iter().find(|name| headers.contains_key(*name)) {
        return Err(FromAPage::Field(field));
    }
    let is_ours = |url: &HeaderValue, whole: bool| is_of(&host, peer, url, whole);
    match once(headers, &ORIGIN) {
        Ok(None) => {}
        Ok(Some(origin)) if own && is_ours(origin, true) => {}
        Ok(Some(_)) | Err(Twice) => return Err(FromAPage::Origin),
    }
    match once(headers, &SEC_FETCH_SITE).map(|site| site.map(HeaderValue::as_bytes)) {
        Ok(Some(b"same-origin" | b"none")) if own => return Ok(()),
        Ok(Some(b"none")) if is_script(headers) => return Ok(()),
        Ok(Some(_)) | Err(Twice) => return Err(FromAPage::FetchSite),
        Ok(None) => {}
    }
    match once(headers, &REFERER) {
        Ok(None) => {}
        Ok(Some(page)) if is_ours(page, false) => {
            if own {
                return Ok(());
            }
        }
        Ok(Some(_)) | Err(Twice) => return Err(FromAPage::Referer),
    }
    if is_browser(headers) && !is_script(headers) { Err(FromAPage::Silent) } else { Ok(()) }
}

/// Whether a page at this URL is one that we served under this host. An origin is a `whole` URL
/// without a path.
fn is_of(host: &Host, peer: &Peer, url: &HeaderValue, whole: bool) -> bool {
    let Ok(text) = url.to_str() else { return false };
    let scheme = if peer.secure { "https://" } else { "http://" };
    let Some(rest) = text.strip_prefix(scheme) else { return false };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let same = |page: Host| page.name == host.name && page.port_of(peer) == host.port_of(peer);
    Host::parse(authority).is_ok_and(same) && (!whole || path.is_empty())
}

/// All browsers call themselves so, and no page can change it.
fn is_browser(headers: &HeaderMap) -> bool {
    headers.get_all(USER_AGENT).iter().any(|agent| {
        agent.as_bytes().get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"mozilla/"))
    })
}

fn is_script(headers: &HeaderMap) -> bool {
    // A browser adds `Basic` on its own, once somebody has logged in.
    let bearer = headers.get_all(AUTHORIZATION).iter().any(|value| {
        value.as_bytes().get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"bearer "))
    });
    bearer || OF_SCRIPTS.iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests;

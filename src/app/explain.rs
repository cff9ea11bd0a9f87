//! What becomes of a call, and why: asked of a gateway that runs, or of a config alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use crate::app::{Rooms, StartError, budgets, keys, rules};
use crate::base::{Certificate, Peer, Remote};
use crate::caller::{CallerSettings, Match};
use crate::config::Config;
use crate::credential::{CredentialSettings, Credentials, OnMissing, Source, Token};
use crate::net::Dial;
use crate::proxy::{BadCall, Call, Explanation, Question};
use crate::server::{Listen, Listener};
use crate::shape::{BudgetSettings, ColdStart, Shaper, ShaperSettings};
use crate::telemetry::{Telemetry, TelemetrySettings};
use crate::upstream::{Origin, Upstream};

/// The port from which a call is said to come. None that listens has it.
const FROM_PORT: u16 = 65_535;

/// By which doors callers come in, and whom the config knows.
#[derive(Debug)]
pub(super) struct Doors {
    listeners: Vec<Listener>,
    callers: Vec<CallerSettings>,
    upstream: Origin,
    /// Whether the rooms behind them are a gateway's that runs, or may run.
    live: bool,
}

impl Doors {
    pub(super) fn of(config: &Config, live: bool) -> Self {
        Self {
            listeners: config.server.listeners.clone(),
            callers: config.callers.clone(),
            upstream: config.upstream.origin.clone(),
            live,
        }
    }
}

impl Rooms {
    /// Puts the rooms together so that they can be asked about calls, and make none: no secret is read,
    /// no program run, the state folder is not taken, and the way to upstream leads nowhere.
    ///
    /// # Errors
    /// [`StartError::Plan`].
    pub async fn unread(config: &Config) -> Result<Self, StartError> {
        let budgets = budgets(config).into_iter();
        let settings = ShaperSettings {
            budgets: budgets
                .map(|one| BudgetSettings { cold_start: ColdStart::Trust, ..one })
                .collect(),
            keys: keys(config),
            callers: config.callers.iter().map(rules).collect(),
        };
        let shaper = Arc::new(Shaper::open(settings, None)?);
        let credentials = config.credentials.iter().map(unread).collect();
        let credentials = Credentials::open(credentials).await.map_err(StartError::Credentials)?;
        let (nowhere, _) = Dial::pipe();
        let upstream = Upstream::over(nowhere, config.upstream.clone());
        let silent = TelemetrySettings { traces: None, ..config.telemetry.clone() };
        let telemetry = Telemetry::start(&silent, None)?;
        let doors = Doors::of(config, false);
        Self::tie(config, shaper, credentials, upstream, telemetry, None, doors)
    }

    /// Says what becomes of a call, and why, without making it. Nothing changes by it.
    ///
    /// # Errors
    /// Nobody could make such a call.
    pub async fn explain(&self, call: Call) -> Result<Explanation, BadCall> {
        let posed = self.doors.pose(call)?;
        let Posed { request, body, peer, note } = posed;
        let live = self.doors.live;
        let mut said = self.proxy.explain(Question { request, body, peer: &peer, live }).await;
        said.call.notes.splice(0..0, note);
        Ok(said)
    }
}

/// The credential as it is without its secret: a value that is nobody's stands for it.
fn unread(settings: &CredentialSettings) -> CredentialSettings {
    let source = match Token::parse(b"unread") {
        Ok(token) => Source::Given { token: Arc::new(token) },
        Err(_) => settings.source.clone(),
    };
    CredentialSettings { source, on_missing: OnMissing::Degrade, ..settings.clone() }
}

/// A call as it would come in.
#[derive(Debug)]
struct Posed {
    request: Request<()>,
    body: Option<Bytes>,
    peer: Peer,
    /// What of it is not as it was said.
    note: Option<String>,
}

/// Where a call is said to lead.
struct Leads {
    path_and_query: PathAndQuery,
    /// What its `Host` says, where the URL says it.
    host: Option<Authority>,
    note: Option<String>,
}

impl Doors {
    fn pose(&self, mut call: Call) -> Result<Posed, BadCall> {
        let Leads { path_and_query, host, note } = self.leads(&call.url)?;
        let mut request = Request::new(());
        let method = call.method.to_ascii_uppercase();
        *request.method_mut() =
            Method::from_bytes(method.as_bytes()).map_err(|_| BadCall::Method)?;
        *request.uri_mut() = Uri::from(path_and_query);
        if let Some(name) = call.caller.take() {
            self.as_caller(&name, &mut call)?;
        }
        let headers = request.headers_mut();
        for (at, (name, value)) in call.headers.iter().enumerate() {
            let bad = || BadCall::Header(at + 1);
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad())?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let peer = self.peer(&call, host.as_ref())?;
        if !headers.contains_key(HOST) {
            let host = host.map_or_else(|| own_host(&peer), |host| host.to_string());
            let host = HeaderValue::try_from(host).map_err(|_| BadCall::Url("its host".into()))?;
            headers.insert(HOST, host);
        }
        let body = call.body.map(Bytes::from);
        let brings = matches!(method.as_str(), "POST" | "PUT" | "PATCH");
        let framed = ["content-length", "transfer-encoding"];
        if let Some(body) = body.as_ref().filter(|body| brings || !body.is_empty())
            && !framed.iter().any(|name| headers.contains_key(*name))
        {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        // Whoever asks by GET sends none, unless it was said.
        let body = match method.as_str() {
            "GET" | "HEAD" => Some(body.unwrap_or_default()),
            _ => body,
        };
        Ok(Posed { request, body, peer, note })
    }

    /// Where a URL leads, be it one of ours, of upstream's, or a path alone.
    fn leads(&self, url: &str) -> Result<Leads, BadCall> {
        let (url, cut) = match url.split_once('#') {
            Some((url, _)) => (url, true),
            None => (url, false),
        };
        let bad = |error: &dyn std::fmt::Display| BadCall::Url(error.to_string());
        let fragment = cut.then(|| "the #fragment was cut off; it is never sent".to_owned());
        if url.starts_with('/') {
            let path_and_query = PathAndQuery::try_from(url).map_err(|error| bad(&error))?;
            return Ok(Leads { path_and_query, host: None, note: fragment });
        }
        let uri: Uri = url.parse().map_err(|error| bad(&error))?;
        let mut parts = uri.into_parts();
        let authority = parts.authority.take().filter(|_| parts.scheme.is_some());
        let authority = authority.ok_or_else(|| bad(&"it has neither a scheme nor a first `/`"))?;
        let path_and_query = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let https = parts.scheme.is_some_and(|scheme| scheme.as_str() == "https");
        let usual = if https { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(usual);
        let to = &self.upstream;
        let is_upstream = https == to.is_https()
            && port == to.port()
            && authority.host().eq_ignore_ascii_case(to.authority().host());
        if is_upstream {
            let note = format!("{to} was cut off: callers ask the gateway for the path alone");
            return Ok(Leads { path_and_query, host: None, note: Some(note) });
        }
        Ok(Leads { path_and_query, host: Some(authority), note: fragment })
    }

    /// Makes the call one of this caller's, by what tells it.
    fn as_caller(&self, name: &str, call: &mut Call) -> Result<(), BadCall> {
        let known = self.callers.iter().find(|one| one.caller.id.as_str() == name);
        let Some(known) = known else {
            let names = self.callers.iter().map(|one| one.caller.id.as_str());
            let known: Vec<&str> = names.collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(BadCall::Caller { name: name.to_owned(), known });
        };
        if known.matches.is_empty() {
            call.headers.push(("x-omnigate-caller".to_owned(), name.to_owned()));
            return Ok(());
        }
        let told = known.matches.iter().find(|rule| !matches!(rule, Match::Token(_)));
        match told {
            Some(Match::Uid(uid)) => call.from = Some(format!("uid:{uid}")),
            Some(Match::Cidr(range)) => call.from = Some(range.first().to_string()),
            Some(Match::San(san)) => call.san.push(san.clone()),
            Some(Match::Token(_)) | None => return Err(BadCall::Token(name.to_owned())),
        }
        Ok(())
    }

    /// Who is at the other end, and by which listener it came in.
    fn peer(&self, call: &Call, host: Option<&Authority>) -> Result<Peer, BadCall> {
        let from = call.from.as_deref().map(Came::parse).transpose()?;
        let listener = self.listener(call, from)?;
        let (remote, local) = match &listener.listen {
            Listen::Tcp(address) => {
                let address = reached(*address, host);
                let from = match from {
                    Some(Came::Address(ip)) => ip,
                    Some(Came::User(_)) | None => address.ip(),
                };
                (Remote::Tcp(SocketAddr::new(from, FROM_PORT)), Some(address))
            }
            Listen::Unix { .. } => {
                let own = rustix::process::geteuid().as_raw();
                let uid = match from {
                    Some(Came::User(uid)) => uid,
                    Some(Came::Address(_)) | None => own,
                };
                (Remote::Unix { uid: Some(uid) }, None)
            }
        };
        let names = || Certificate { names: call.san.clone() };
        Ok(Peer {
            remote,
            local,
            secure: listener.tls.is_some(),
            certificate: (!call.san.is_empty()).then(|| Arc::new(names())),
            entrance: listener.entrance.clone(),
        })
    }

    /// The listener that was named, or the first that takes such a connection.
    fn listener(&self, call: &Call, from: Option<Came>) -> Result<&Listener, BadCall> {
        if let Some(number) = call.listener {
            let named = number.checked_sub(1).and_then(|at| self.listeners.get(at));
            return named.ok_or_else(|| BadCall::Listener { number, known: self.known() });
        }
        let asks = |one: &Listener| one.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let is_unix = |one: &Listener| matches!(one.listen, Listen::Unix { .. });
        let fits = |one: &&Listener| {
            let kind = match from {
                Some(Came::Address(_)) => !is_unix(one),
                Some(Came::User(_)) => is_unix(one),
                None => true,
            };
            kind && (call.san.is_empty() || asks(one))
        };
        let wanted = match from {
            _ if !call.san.is_empty() => "asks for certificates (`tls` with `client_ca`)",
            Some(Came::User(_)) => "is a unix socket",
            Some(Came::Address(_)) | None => "is an address",
        };
        let none = || BadCall::NoListener { wanted, known: self.known() };
        self.listeners.iter().find(fits).ok_or_else(none)
    }

    fn known(&self) -> String {
        let all = self.listeners.iter().enumerate();
        let all: Vec<String> = all.map(|(at, one)| format!("{} {}", at + 1, one.listen)).collect();
        all.join(", ")
    }
}

/// Where a call comes from, as it was said.
#[derive(Clone, Copy, Debug)]
enum Came {
    Address(IpAddr),
    User(u32),
}

impl Came {
    fn parse(text: &str) -> Result<Self, BadCall> {
        let said = match text.strip_prefix("uid:") {
            Some(uid) => uid.parse().ok().map(Self::User),
            None => text.parse().ok().map(Self::Address),
        };
        said.ok_or(BadCall::From)
    }
}

/// Our own end of a connection to a listener: where it listens everywhere, the address that the URL
/// has, or loopback.
fn reached(listens: SocketAddr, host: Option<&Authority>) -> SocketAddr {
    if !listens.ip().is_unspecified() {
        return listens;
    }
    let named = host.and_then(|host| host.host().trim_matches(['[', ']']).parse().ok());
    let loopback = match listens {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(named.unwrap_or(loopback), listens.port())
}

/// How a caller names the gateway that says no name for it.
fn own_host(peer: &Peer) -> String {
    peer.local.map_or_else(|| "localhost".to_owned(), |address| address.to_string())
}

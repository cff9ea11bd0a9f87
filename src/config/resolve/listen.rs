//! `[server]` and `[admin]`.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::admin::{AdminSettings, Place};
use crate::caller::{Host, Hosts};
use crate::config::at::At;
use crate::config::file::{File, Server};
use crate::config::resolve::listeners::{self, socket_addr};
use crate::config::resolve::{Notes, Surroundings, period, some_time};
use crate::config::units::Size;
use crate::server::{Listen, Listener, ServerSettings};

const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 6663);
/// The least that the server works with.
const LEAST_HEADER_BYTES: u64 = 8 * 1024;
/// A larger one is no limit any more.
const MOST_HEADER_BYTES: u64 = 1024 * 1024;

/// Addresses that are spoken for.
pub(super) struct Taken(Vec<Claim>);

/// Who wants an address, and where that stands in the file unless it is a default.
pub(super) struct Claim {
    pub(super) listen: Listen,
    pub(super) who: &'static str,
    pub(super) span: Option<Range<usize>>,
}

pub(super) fn resolve(
    file: &File,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> (Option<ServerSettings>, Option<AdminSettings>) {
    let mut taken = Taken(Vec::new());
    let listeners = listeners::resolve(file, around, &mut taken, notes);
    let server = server(&file.server, listeners, notes);
    (server, admin(file, around, &mut taken, notes))
}

fn server(
    said: &Server,
    listeners: Option<Vec<Listener>>,
    notes: &mut Notes,
) -> Option<ServerSettings> {
    // The defaults are the server's own.
    let usual = ServerSettings::new(Vec::new());
    let max_connections = at_least_one("max_connections", &said.max_connections, notes);
    let max_streams = at_least_one("max_streams", &said.max_streams, notes);
    let max_header_bytes = max_header_bytes(&said.max_header_bytes, notes);
    let mut time = |name, said, usual| some_time(name, said, usual, notes);
    let header_timeout = time("header_timeout", &said.header_timeout, usual.header_timeout);
    let idle_timeout = time("idle_timeout", &said.idle_timeout, usual.idle_timeout);
    let body_timeout = time("body_timeout", &said.body_timeout, usual.body_timeout);
    let write_timeout = time("write_timeout", &said.write_timeout, usual.write_timeout);
    Some(ServerSettings {
        listeners: listeners?,
        max_connections: max_connections?.map_or(usual.max_connections, |n| n as usize),
        header_timeout: header_timeout?,
        idle_timeout: idle_timeout?,
        max_header_bytes: max_header_bytes?.unwrap_or(usual.max_header_bytes),
        max_streams: max_streams?.unwrap_or(usual.max_streams),
        drain_timeout: period(&said.drain_timeout, usual.drain_timeout),
        body_timeout: body_timeout?,
        min_body_rate: said.min_body_rate.as_ref().map_or(usual.min_body_rate, |at| at.value.0),
        write_timeout: write_timeout?,
    })
}

/// The names by which callers reach the gateway.
pub(super) fn hosts(said: &[At<String>], notes: &mut Notes) -> Option<Hosts> {
    let one = |name: &At<String>| match Host::parse(&name.value) {
        Ok(host) => Some(host),
        Err(error) => {
            notes
                .problems
                .at(&name.span, format!("`hosts`: {error}"))
                .help("such as \"omnigate.internal\", or with its port \"omnigate.internal:8080\"");
            None
        }
    };
    let all: Vec<_> = said.iter().map(one).collect();
    all.into_iter().collect::<Option<_>>().map(Hosts::new)
}

fn max_header_bytes(said: &Option<At<Size>>, notes: &mut Notes) -> Option<Option<usize>> {
    let Some(said) = said else { return Some(None) };
    let fits = (LEAST_HEADER_BYTES..=MOST_HEADER_BYTES).contains(&said.value.0);
    if !fits {
        notes.problems.at(&said.span, "`max_header_bytes` must be between 8KiB and 1MiB");
        return None;
    }
    usize::try_from(said.value.0).ok().map(Some)
}

/// The number that was said, if one was; `None` when it is zero.
fn at_least_one(name: &str, said: &Option<At<u32>>, notes: &mut Notes) -> Option<Option<u32>> {
    match said {
        Some(zero) if zero.value == 0 => {
            notes.problems.at(&zero.span, format!("`{name}` must be at least 1"));
            None
        }
        said => Some(said.as_ref().map(|number| number.value)),
    }
}

fn admin(
    file: &File,
    around: &Surroundings<'_>,
    taken: &mut Taken,
    notes: &mut Notes,
) -> Option<AdminSettings> {
    let said = &file.admin;
    let token = match &said.token_sha256 {
        None => Some(None),
        Some(said) => listeners::digest(said, notes).map(Some),
    };
    let listen = match &said.listen {
        None => {
            own_address(ADMIN, "`[admin] listen` (by default)", None, taken, notes).map(Listen::Tcp)
        }
        Some(address) => listeners::place(address, said.mode.as_ref(), around, notes)
            .filter(|listen| is_for_operators(listen, address, said.token_sha256.is_some(), notes))
            .and_then(|listen| {
                let span = Some(address.span.clone());
                taken.take(Claim { listen, who: "`[admin] listen`", span }, notes)
            }),
    };
    let probe_listen = match &said.probe_listen {
        None => Some(None),
        Some(said) => socket_addr("probe", said, notes)
            .and_then(|it| own_address(it, "`probe_listen`", Some(&said.span), taken, notes))
            .map(Some),
    };
    let listen = match listen? {
        Listen::Tcp(address) => Place::Tcp(address),
        Listen::Unix { path, mode } => Place::Unix { path, mode },
    };
    Some(AdminSettings { listen, probe_listen: probe_listen?, token: token? })
}

/// Whether nobody but operators gets anything there.
fn is_for_operators(listen: &Listen, said: &At<String>, token: bool, notes: &mut Notes) -> bool {
    let here = match listen {
        Listen::Tcp(address) => address.ip().is_loopback(),
        Listen::Unix { .. } => true,
    };
    if here {
        return true;
    }
    if token {
        notes
            .warnings
            .at(&said.span, "the admin port speaks no TLS: the token can be read on the way")
            .help("listen on 127.0.0.1 and come by ssh -L, unless the network encrypts");
        return true;
    }
    notes.problems.at(&said.span, "the admin port can be reached from other machines").help(
        "listen on 127.0.0.1; for probes and Prometheus there is `probe_listen`. Where operators \
         must come from elsewhere, give them a token: token_sha256 = \"…\"",
    );
    false
}

fn own_address(
    address: SocketAddr,
    who: &'static str,
    span: Option<&Range<usize>>,
    taken: &mut Taken,
    notes: &mut Notes,
) -> Option<SocketAddr> {
    let claim = Claim { listen: Listen::Tcp(address), who, span: span.cloned() };
    taken.take(claim, notes).map(|_| address)
}

impl Taken {
    /// Takes an address, unless somebody has it.
    pub(super) fn take(&mut self, claim: Claim, notes: &mut Notes) -> Option<Listen> {
        let first = self.0.iter().find(|first| overlap(&first.listen, &claim.listen));
        let Some(first) = first else {
            let listen = claim.listen.clone();
            self.0.push(claim);
            return Some(listen);
        };
        let message = match first.who == claim.who {
            true => "two listeners want the same address".to_owned(),
            false => format!("{} and {} want the same address", first.who, claim.who),
        };
        let problem = match claim.span.as_ref().or(first.span.as_ref()) {
            Some(span) => notes.problems.at(span, message),
            None => notes.problems.whole(message),
        };
        problem.help("give each an address or a port of its own");
        None
    }
}

/// Whether the kernel would refuse to bind both.
fn overlap(a: &Listen, b: &Listen) -> bool {
    match (a, b) {
        (Listen::Unix { path: a, .. }, Listen::Unix { path: b, .. }) => a == b,
        (Listen::Tcp(a), Listen::Tcp(b)) => {
            // Port 0 is a new port each time; `[::]` takes IPv4 in as well.
            let all = |one: &SocketAddr, other: &SocketAddr| {
                one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4())
            };
            a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || all(a, b) || all(b, a))
        }
        (Listen::Unix { .. }, Listen::Tcp(_)) | (Listen::Tcp(_), Listen::Unix { .. }) => false,
    }
}

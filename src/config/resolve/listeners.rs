//! `server.listen` and `[[listeners]]`: where callers come in, and what is asked of them there.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::base::Entrance;
use crate::caller::{Cidr, TokenDigest};
use crate::config::at::At;
use crate::config::file::{self, File};
use crate::config::resolve::listen::{Claim, Taken};
use crate::config::resolve::{Notes, Surroundings};
use crate::server::{Listen, Listener, TlsSettings};

/// OMNI on a phone.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 6664);
/// Of a unix socket: its owner alone.
const MODE: u32 = 0o600;
/// The longest path that fits into `sockaddr_un` with its final NUL.
const LONGEST_SOCKET_PATH: usize = 107;

/// By what callers are told at all; what a closed listener can go by.
struct Rules {
    users: bool,
    /// Ranges that have addresses of other machines.
    ranges: bool,
    /// Any range.
    addresses: bool,
    certificates: bool,
    tokens: bool,
}

impl Rules {
    fn of(file: &File) -> Self {
        let all = || file.callers.values().filter_map(|caller| caller.matches.as_ref());
        let ranges = || {
            let said = all().filter_map(|rule| rule.value.cidr.as_ref());
            said.flat_map(At::texts)
        };
        let is_here = |text: &str| Cidr::parse(text).is_ok_and(|range| range.is_loopback());
        Self {
            users: all().any(|rule| rule.value.uid.is_some()),
            ranges: ranges().any(|range| !is_here(&range.value)),
            addresses: ranges().next().is_some(),
            certificates: all().any(|rule| rule.value.san.is_some()),
            tokens: all().any(|rule| rule.value.token_sha256.is_some()),
        }
    }
}

/// All listeners of both forms; the default one where the file names none.
pub(super) fn resolve(
    file: &File,
    around: &Surroundings<'_>,
    taken: &mut Taken,
    notes: &mut Notes,
) -> Option<Vec<Listener>> {
    let short = file.server.listen.as_ref().map(At::texts).unwrap_or_default();
    if let (Some(said), true) = (&file.server.listen, short.is_empty()) {
        notes.problems.at(&said.span, "`listen` is empty").help("leave it out for 127.0.0.1:6664");
        return None;
    }
    let rules = Rules::of(file);
    let mut all = Vec::new();
    for address in &short {
        let plain = file::Listener { address: Some(address.clone()), ..Default::default() };
        all.push(listener(&plain, &rules, around, taken, notes));
    }
    for said in &file.listeners {
        all.push(listener(&said.value, &rules, around, taken, notes));
    }
    if all.is_empty() {
        let claim = Claim { listen: Listen::Tcp(LISTEN), who: "a listener", span: None };
        return taken.take(claim, notes).map(|listen| vec![listen.into()]);
    }
    all.into_iter().collect()
}

fn listener(
    said: &file::Listener,
    rules: &Rules,
    around: &Surroundings<'_>,
    taken: &mut Taken,
    notes: &mut Notes,
) -> Option<Listener> {
    let required = match &said.require_header {
        None => Some(None),
        Some(field) => required(field, notes).map(Some),
    };
    let tls = match &said.tls {
        None => Some(None),
        Some(tls) => certificates(tls, around, notes).map(Some),
    };
    let address = said.address.as_ref()?;
    let listen = place(address, said.mode.as_ref(), around, notes)?;
    let anonymous = admits_anybody(said, address, &listen, rules, notes);
    let span = Some(address.span.clone());
    let listen = taken.take(Claim { listen, who: "a listener", span }, notes)?;
    let entrance = Arc::new(Entrance { anonymous: anonymous?, required: required? });
    Some(Listener { listen, entrance, tls: tls? })
}

/// An address, or a unix socket with its mode.
pub(super) fn place(
    address: &At<String>,
    mode: Option<&At<String>>,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<Listen> {
    match address.value.strip_prefix("unix:") {
        Some(path) => {
            let path = socket_path(path, &address.span, around, notes);
            let mode = mode.map_or(Some(MODE), |mode| file_mode(mode, notes));
            Some(Listen::Unix { path: path?, mode: mode? })
        }
        None => {
            let socket = socket_addr("listen", address, notes)?;
            if let Some(mode) = mode {
                notes
                    .problems
                    .at(&mode.span, "`mode` is for unix sockets only")
                    .help("leave it out");
            }
            Some(Listen::Tcp(socket))
        }
    }
}

/// The SHA-256 of a token, and never the token.
pub(super) fn digest(said: &At<String>, notes: &mut Notes) -> Option<TokenDigest> {
    let digest = TokenDigest::parse(&said.value).ok();
    if digest.is_none() {
        // It may be the token itself.
        notes.hidden.hide(said);
        notes
            .problems
            .at(&said.span, "`token_sha256` is not a SHA-256, 64 hexadecimal digits")
            .help("make one with: printf %s TOKEN | sha256sum");
    }
    if digest.as_ref().is_some_and(TokenDigest::is_of_nothing) {
        notes
            .problems
            .at(&said.span, "`token_sha256` is the SHA-256 of nothing, and everybody can show that")
            .help("was the variable with the token empty? make one with: openssl rand -hex 32");
        return None;
    }
    digest
}

/// Whether somebody whom no rule identifies comes in; `None` after it was noted that nobody should,
/// or that nobody could come in at all.
fn admits_anybody(
    said: &file::Listener,
    address: &At<String>,
    listen: &Listen,
    rules: &Rules,
    notes: &mut Notes,
) -> Option<bool> {
    let asks = said.tls.as_ref().is_some_and(|tls| tls.value.client_ca.is_some());
    let by_certificate = asks && rules.certificates;
    let (here, told) = match listen {
        Listen::Unix { .. } => (true, rules.users || rules.tokens || by_certificate),
        Listen::Tcp(socket) => {
            let here = socket.ip().is_loopback();
            let by_address = if here { rules.addresses } else { rules.ranges };
            (here, by_address || rules.tokens || by_certificate)
        }
    };
    match said.allow_anonymous.as_ref().map(|allow| allow.value) {
        Some(true) => Some(true),
        None if here => Some(true),
        None | Some(false) if told => {
            if rules.tokens && !here && said.tls.is_none() {
                warn_of_readable_tokens(address, notes);
            }
            Some(false)
        }
        None => {
            refuse_strangers(address, notes);
            None
        }
        Some(false) => {
            nobody_comes_in(said, address, notes);
            None
        }
    }
}

/// Nobody is asked who they are, so whoever reaches the address spends the organization's key.
fn refuse_strangers(address: &At<String>, notes: &mut Notes) {
    let message = format!(
        "`{}` can be reached from other machines, and everybody there could make calls with your keys",
        address.value
    );
    notes.problems.at(&address.span, message).help(
        "listen on 127.0.0.1 or on unix:/path; or say who may come, such as\n\
         [callers.cluster]\nmatch = { cidr = \"10.0.0.0/8\" }\n\
         or, where something else decides who gets here, write\n\
         [[listeners]]\naddress = \"…\"\nallow_anonymous = true",
    );
}

fn nobody_comes_in(said: &file::Listener, address: &At<String>, notes: &mut Notes) {
    let span = said.allow_anonymous.as_ref().map_or(&address.span, |allow| &allow.span);
    notes
        .problems
        .at(span, "nobody could make calls here: no caller's `match` fits this listener")
        .help(
            "name a caller, such as\n[callers.cluster]\nmatch = { cidr = \"10.0.0.0/8\" }\n\
             (`uid` is for unix sockets, `san` for listeners whose `tls` has a `client_ca`)",
        );
}

fn warn_of_readable_tokens(address: &At<String>, notes: &mut Notes) {
    let message =
        format!("`{}` has no `tls`: callers' tokens can be read on the way", address.value);
    notes.warnings.at(&address.span, message).help(
        "write it as [[listeners]] with tls = { cert = \"tls.pem\", key = \"tls.key\" }, unless the \
         network encrypts",
    );
}

/// `X-Omnigate: 1`.
fn required(said: &At<String>, notes: &mut Notes) -> Option<(HeaderName, HeaderValue)> {
    let name_and_value = said.value.split_once(':').and_then(|(name, value)| {
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        let value = HeaderValue::from_str(value.trim()).ok()?;
        let text = value.to_str().is_ok_and(|text| !text.is_empty());
        (text && name.as_str().starts_with("x-")).then_some((name, value))
    });
    if name_and_value.is_none() {
        notes
            .problems
            .at(&said.span, "`require_header` is not a field of one's own, `X-Name: value`")
            .help("such as \"X-Omnigate: 1\"");
    }
    name_and_value
}

fn certificates(
    said: &At<file::Tls>,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<TlsSettings> {
    let file::Tls { cert, key, client_ca, client_optional } = &said.value;
    let optional = client_optional.as_ref().is_some_and(|optional| optional.value);
    if let (Some(at), true, None) = (client_optional, optional, client_ca) {
        notes
            .problems
            .at(&at.span, "`client_optional` without `client_ca`: no certificate is asked for")
            .help("add client_ca = \"ca.pem\", or leave it out");
    }
    let mut path = |said: &At<PathBuf>, key: &str| {
        let empty = said.value.as_os_str().is_empty();
        if empty {
            notes.problems.at(&said.span, format!("`{key}` is empty")).help("name a PEM file");
        }
        (!empty).then(|| around.path(&said.value))
    };
    // Where one is missing, the walk over the tree has said so.
    let cert = cert.as_ref().and_then(|said| path(said, "cert"));
    let key = key.as_ref().and_then(|said| path(said, "key"));
    let client_ca = match client_ca {
        None => Some(None),
        Some(said) => path(said, "client_ca").map(Some),
    };
    Some(TlsSettings { cert: cert?, key: key?, client_ca: client_ca?, client_optional: optional })
}

fn socket_path(
    path: &str,
    span: &Range<usize>,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<std::path::PathBuf> {
    if path.is_empty() {
        notes
            .problems
            .at(span, "`unix:` needs a path")
            .help("such as unix:/run/omnigate/omnigate.sock");
        return None;
    }
    let path = around.path(path);
    let length = path.as_os_str().len();
    if length > LONGEST_SOCKET_PATH {
        let message = format!(
            "a socket's path has at most {LONGEST_SOCKET_PATH} bytes; with its folder this one has {length}"
        );
        notes.problems.at(span, message);
        return None;
    }
    Some(path)
}

fn file_mode(said: &At<String>, notes: &mut Notes) -> Option<u32> {
    let octal = said.value.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(&said.value, 8).ok().filter(|mode| octal && *mode <= 0o777);
    if mode.is_none() {
        notes.problems.at(&said.span, "`mode` is not a file mode").help("octal, such as \"0660\"");
    }
    mode
}

pub(super) fn socket_addr(key: &str, said: &At<String>, notes: &mut Notes) -> Option<SocketAddr> {
    let text = said.value.as_str();
    let parsed = text.parse().ok();
    if parsed.is_none() {
        let problem = notes.problems.at(&said.span, format!("`{text}` is not an address"));
        let unix = if key == "listen" { " or unix:/run/omnigate/omnigate.sock" } else { "" };
        if text.parse::<IpAddr>().is_ok() {
            problem.help("the port is missing, as in 127.0.0.1:6664 or [::1]:6664");
        } else if let Some(port) = text.strip_prefix("localhost:") {
            problem.help(format!("write 127.0.0.1:{port}, or [::1]:{port}, or both"));
        } else {
            problem.help(format!("an IP address and a port, such as 127.0.0.1:6664{unix}"));
        }
    }
    parsed
}

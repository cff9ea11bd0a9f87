//! `[server]`, `[[listeners]]` and `[admin]`.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::admin::AdminSettings;
use crate::config::at::At;
use crate::config::file::{File, Listener, Server};
use crate::config::resolve::{Notes, Surroundings, period, some_time};
use crate::config::units::Size;
use crate::server::{Listen, ServerSettings};

/// OMNI on a phone.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 6664);
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 6663);
/// Of a unix socket: its owner alone.
const MODE: u32 = 0o600;
/// The longest path that fits into `sockaddr_un` with its final NUL.
const LONGEST_SOCKET_PATH: usize = 107;
/// The least that the server works with.
const LEAST_HEADER_BYTES: u64 = 8 * 1024;
/// A larger one is no limit any more.
const MOST_HEADER_BYTES: u64 = 1024 * 1024;

/// Addresses that are spoken for.
struct Taken(Vec<Claim>);

/// Who wants an address, and where that stands in the file unless it is a default.
struct Claim {
    listen: Listen,
    who: &'static str,
    span: Option<Range<usize>>,
}

pub(super) fn resolve(
    file: &File,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> (Option<ServerSettings>, Option<AdminSettings>) {
    let mut taken = Taken(Vec::new());
    let listeners = listeners(file, around, &mut taken, notes);
    let server = server(&file.server, listeners, notes);
    (server, admin(file, &mut taken, notes))
}

fn server(
    said: &Server,
    listeners: Option<Vec<Listen>>,
    notes: &mut Notes,
) -> Option<ServerSettings> {
    // The defaults are the server's own.
    let usual = ServerSettings::new(listeners.clone().unwrap_or_default());
    let max_connections = at_least_one("max_connections", &said.max_connections, notes);
    let max_streams = at_least_one("max_streams", &said.max_streams, notes);
    let max_header_bytes = max_header_bytes(&said.max_header_bytes, notes);
    let mut time = |name, said, usual| some_time(name, said, usual, notes);
    let header_timeout = time("header_timeout", &said.header_timeout, usual.header_timeout);
    let idle_timeout = time("idle_timeout", &said.idle_timeout, usual.idle_timeout);
    let listeners = listeners?.into_iter().map(Into::into).collect();
    Some(ServerSettings {
        listeners,
        max_connections: max_connections?.map_or(usual.max_connections, |n| n as usize),
        header_timeout: header_timeout?,
        idle_timeout: idle_timeout?,
        max_header_bytes: max_header_bytes?.unwrap_or(usual.max_header_bytes),
        max_streams: max_streams?.unwrap_or(usual.max_streams),
        drain_timeout: period(&said.drain_timeout, usual.drain_timeout),
        ..usual
    })
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

/// All listeners of both forms; the default one where the file names none.
fn listeners(
    file: &File,
    around: &Surroundings<'_>,
    taken: &mut Taken,
    notes: &mut Notes,
) -> Option<Vec<Listen>> {
    let short = file.server.listen.as_ref().map(At::texts).unwrap_or_default();
    if let (Some(said), true) = (&file.server.listen, short.is_empty()) {
        notes.problems.at(&said.span, "`listen` is empty").help("leave it out for 127.0.0.1:6664");
        return None;
    }
    let mut all = Vec::new();
    for address in &short {
        let listener =
            Listener { address: Some(address.clone()), mode: None, allow_anonymous: None };
        all.push(listen(&listener, around, taken, notes));
    }
    for listener in &file.listeners {
        all.push(listen(&listener.value, around, taken, notes));
    }
    if all.is_empty() {
        let claim = Claim { listen: Listen::Tcp(LISTEN), who: "a listener", span: None };
        return taken.take(claim, notes).map(|listen| vec![listen]);
    }
    all.into_iter().collect()
}

fn listen(
    said: &Listener,
    around: &Surroundings<'_>,
    taken: &mut Taken,
    notes: &mut Notes,
) -> Option<Listen> {
    let address = said.address.as_ref()?;
    let listen = match address.value.strip_prefix("unix:") {
        Some(path) => {
            let path = socket_path(path, &address.span, around, notes);
            let mode = said.mode.as_ref().map_or(Some(MODE), |mode| file_mode(mode, notes));
            Listen::Unix { path: path?, mode: mode? }
        }
        None => {
            let socket = socket_addr("listen", address, notes)?;
            if let Some(mode) = &said.mode {
                notes
                    .problems
                    .at(&mode.span, "`mode` is for unix sockets only")
                    .help("leave it out");
            }
            let open = said.allow_anonymous.as_ref().is_some_and(|allow| allow.value);
            if !socket.ip().is_loopback() && !open {
                refuse_strangers(address, notes);
                return None;
            }
            Listen::Tcp(socket)
        }
    };
    let span = Some(address.span.clone());
    taken.take(Claim { listen, who: "a listener", span }, notes)
}

/// Nobody is asked who they are, so whoever reaches the address spends the organization's key.
fn refuse_strangers(address: &At<String>, notes: &mut Notes) {
    let message = format!(
        "`{}` can be reached from other machines, and everybody there could make calls with your keys",
        address.value
    );
    notes.problems.at(&address.span, message).help(
        "listen on 127.0.0.1 or on unix:/path; or, where something else decides who gets here, write\n\
         [[listeners]]\naddress = \"…\"\nallow_anonymous = true",
    );
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

fn socket_addr(key: &str, said: &At<String>, notes: &mut Notes) -> Option<SocketAddr> {
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

fn admin(file: &File, taken: &mut Taken, notes: &mut Notes) -> Option<AdminSettings> {
    let said = &file.admin;
    let listen = match &said.listen {
        None => own_address(ADMIN, "`[admin] listen` (by default)", None, taken, notes),
        Some(said) => socket_addr("admin", said, notes).and_then(|address| {
            if !address.ip().is_loopback() {
                notes
                    .problems
                    .at(&said.span, "the admin port can be reached from other machines")
                    .help("listen on 127.0.0.1; for probes and Prometheus there is `probe_listen`");
                return None;
            }
            own_address(address, "`[admin] listen`", Some(&said.span), taken, notes)
        }),
    };
    let probe_listen = match &said.probe_listen {
        None => Some(None),
        Some(said) => socket_addr("probe", said, notes)
            .and_then(|it| own_address(it, "`probe_listen`", Some(&said.span), taken, notes))
            .map(Some),
    };
    Some(AdminSettings { listen: listen?.into(), probe_listen: probe_listen?, token: None })
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
    fn take(&mut self, claim: Claim, notes: &mut Notes) -> Option<Listen> {
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

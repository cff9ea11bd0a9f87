//! `[server]`, `[[listeners]]` and `[admin]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::at::{At, TextOr};
use crate::config::units::{Period, Size};

/// Where callers connect, and how long they may dawdle.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Server {
    /// An address such as `127.0.0.1:6664` or `unix:/run/omnigate/omnigate.sock`, or several.
    pub(in crate::config) listen: Option<At<TextOr<Vec<At<String>>>>>,
    /// The names by which callers reach this gateway, besides `localhost` and its addresses.
    #[serde(default)]
    pub(in crate::config) hosts: Vec<At<String>>,
    /// How many connections may be open at once, over all listeners.
    pub(in crate::config) max_connections: Option<At<u32>>,
    /// How long a request head may take, and how long the first byte of a connection.
    pub(in crate::config) header_timeout: Option<At<Period>>,
    /// How long a connection may stay open between two requests.
    pub(in crate::config) idle_timeout: Option<At<Period>>,
    /// How long the next byte of a request body may take, once it is asked for.
    pub(in crate::config) body_timeout: Option<At<Period>>,
    /// How much a request body must bring a second, once it was waited for longer than 30 s in all.
    pub(in crate::config) min_body_rate: Option<At<Size>>,
    /// How long a caller may take none of an answer that is there for it.
    pub(in crate::config) write_timeout: Option<At<Period>>,
    /// How many bytes a request head may have.
    pub(in crate::config) max_header_bytes: Option<At<Size>>,
    /// How many HTTP/2 streams one connection may have open.
    pub(in crate::config) max_streams: Option<At<u32>>,
    /// How long calls that are under way may take when the process is asked to end.
    pub(in crate::config) drain_timeout: Option<At<Period>>,
}

/// One place to listen.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Listener {
    /// An address such as `0.0.0.0:6664` or `unix:/run/omnigate/omnigate.sock`.
    #[schemars(required, extend("x-add" = "address = \"127.0.0.1:6664\""))]
    pub(in crate::config) address: Option<At<String>>,
    /// The file mode of a unix socket, in octal.
    pub(in crate::config) mode: Option<At<String>>,
    /// Whether somebody may make calls whom no caller's `match` fits.
    pub(in crate::config) allow_anonymous: Option<At<bool>>,
    /// A field that every request must have, such as `X-Omnigate: 1`.
    pub(in crate::config) require_header: Option<At<String>>,
    /// The certificate with which it speaks TLS.
    pub(in crate::config) tls: Option<At<Tls>>,
}

/// How a listener speaks TLS.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Tls {
    /// A PEM file: the certificate, and those that lead from it to a root.
    #[schemars(required, extend("x-add" = "cert = \"tls.pem\""))]
    pub(in crate::config) cert: Option<At<PathBuf>>,
    /// A PEM file: its private key.
    #[schemars(required, extend("x-add" = "key = \"tls.key\""))]
    pub(in crate::config) key: Option<At<PathBuf>>,
    /// A PEM file: the authorities that vouch for callers. With it, a caller needs a certificate.
    pub(in crate::config) client_ca: Option<At<PathBuf>>,
    /// Whether a caller may come without a certificate all the same.
    pub(in crate::config) client_optional: Option<At<bool>>,
}

/// Where operators connect.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Admin {
    /// A loopback address, or `unix:/path`; with a token any address.
    pub(in crate::config) listen: Option<At<String>>,
    /// The file mode of a unix socket, in octal.
    pub(in crate::config) mode: Option<At<String>>,
    /// The SHA-256 of the token that operators show.
    pub(in crate::config) token_sha256: Option<At<String>>,
    /// An address for probes and Prometheus: `/livez`, `/readyz` and `/metrics` alone.
    pub(in crate::config) probe_listen: Option<At<String>>,
}

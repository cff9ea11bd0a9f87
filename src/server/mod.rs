//! Accepts connections and speaks HTTP/1.1 and h2 on them, plain or over TLS.
//!
//! [`bind`] opens every listener or none; [`Server::serve`] accepts, runs one task a connection
//! and drains. [`Server::serve_connection`] is the same connection over any stream.
//!
//! A caller who closes its end, or only its sending half, is taken to have left: whatever was
//! being done for it is dropped at once (see `socket`).

mod accept;
mod activity;
mod answer;
mod begun;
mod bind;
mod connection;
mod descriptors;
#[cfg(test)]
mod floods;
mod pace;
mod seats;
mod settings;
mod socket;
mod stall;
mod talk;
#[cfg(test)]
mod testing;
mod tls;
mod upload;
mod wire;

pub use accept::Server;
pub use answer::Answer;
pub use bind::{BindError, Bound, bind};
pub use settings::{Listen, Listener, ServerSettings, TlsSettings};
pub use tls::{Certificates, Changed, TlsError};

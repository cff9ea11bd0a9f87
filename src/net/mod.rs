//! Connecting and TLS, for whoever speaks to another host.

mod client;
mod dial;
mod roots;
mod stream;

pub use client::{Client, ClientError, Limits};
pub use dial::{Dial, PipeEnd};
pub use roots::{RootsError, TlsRoots};
pub use stream::Stream;

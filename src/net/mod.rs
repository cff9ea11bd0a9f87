//! Connecting and TLS, for whoever speaks to another host.

mod dial;
mod roots;
mod stream;

pub use dial::{Dial, PipeEnd};
pub use roots::{RootsError, TlsRoots};
pub use stream::Stream;

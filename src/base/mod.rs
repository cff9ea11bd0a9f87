//! Nouns that rooms share. No decisions are taken here.

mod body;
mod chance;
mod id;
mod peer;
mod priority;
mod slow;

pub use body::{Body, BoxError};
pub use chance::{chance, chance_bits};
pub use id::{BudgetId, CallerId, CredentialId, RequestId, RouteId};
pub use peer::{Certificate, Entrance, Peer, Remote};
pub use priority::Priority;
pub use slow::TooSlow;

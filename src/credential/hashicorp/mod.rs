//! HashiCorp Vault and OpenBao: a secret is a field in an engine of KV version 2.
//!
//! A session is logged in to a server and shared by all secrets there; its token is renewed before
//! it ends. Nothing of what the server says is repeated, since it may quote a token.

mod error;
mod kv;
mod lease;
mod login;
mod server;
mod session;
mod store;
mod wire;

pub use error::HashicorpError;
pub(super) use store::Sessions;

#[cfg(test)]
mod tests;

//! The vault file: named secrets in TOML, inside an age file.
//!
//! Any age (<https://age-encryption.org/v1>) opens it with the same identity, and one that was made
//! by hand opens here. What is decrypted is kept in buffers that are wiped; the small ones inside
//! the crates `age` and `toml` are not ours to wipe.

mod disk;
mod document;
mod error;
mod export;
mod name;
mod rekey;
#[cfg(feature = "vault-age")]
mod seal;
#[cfg(not(feature = "vault-age"))]
mod seal_off;
mod stamp;
mod store;
mod vault;

#[cfg(not(feature = "vault-age"))]
use seal_off as seal;

pub use error::AgeError;
pub use export::Form;
pub use name::{BadName, SecretName};
pub use rekey::{Rekeyed, forget, rekey};
pub use seal::Recipient;
pub use stamp::Stamp;
pub(super) use store::AgeStore;
pub use vault::{Change, Created, Edit, Listed, Vault};

//! ROOM: from a credential's name to its bearer.

mod dir;
mod env;
mod file;
mod life;
mod settings;
mod store;
mod token;

pub use life::{Change, Credential, Credentials, OpenError, State, Unavailable};
pub use settings::{CredentialSettings, Kind, OnMissing, Source};
pub use store::{Place, SecretError};
pub use token::{BadToken, Token};

//! ROOM: from a credential's name to its bearer.

mod dir;
mod env;
mod file;
mod life;
mod settings;
mod store;
mod token;

pub use life::{Change, Credential, Credentials, OpenError, State, Unavailable};
pub use settings::{
    AgeSettings, CredentialSettings, ExecSettings, HashicorpSettings, Held, Kind, Login, OnMissing,
    Source,
};
pub use store::{Place, SecretError};
pub use token::{BadToken, Token};

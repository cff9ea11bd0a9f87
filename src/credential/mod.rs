//! ROOM: from a credential's name to its bearer.

pub mod age;
mod dir;
mod echo;
mod env;
mod exec;
mod file;
mod hashicorp;
mod keyring;
mod life;
mod password;
mod settings;
mod standing;
mod store;
mod token;

pub use echo::{Blot, Blotter};
pub use exec::{BadAnswer, Ending, ExecError, Stream};
pub use hashicorp::HashicorpError;
pub use keyring::Credentials;
pub use life::{Bearer, Credential, OpenError, Turn, Unavailable};
pub use password::PasswordPlace;
pub use settings::{
    AgeSettings, CredentialSettings, ExecSettings, HashicorpSettings, Held, Kind, Login, OnMissing,
    Source,
};
pub use standing::{Generation, State};
pub use store::{Place, SecretError};
pub use token::{BadToken, Token};

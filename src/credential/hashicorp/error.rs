//! What may be wrong between us and a Vault server.

use std::sync::Arc;
use std::time::Duration;

use crate::credential::SecretError;
use crate::net::{ClientError, RootsError};

/// Why a secret in a Vault server cannot be had. It says what to mend, and repeats nothing that the
/// server said: its own words may quote a token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HashicorpError {
    /// The certificates that are to be believed cannot be loaded, or the host is no name.
    #[error("{0}; see `tls_roots`")]
    Roots(Arc<RootsError>),
    /// A path, mount or namespace that no URL or field can carry.
    #[error("a path of a Vault server has letters, digits and `-`, `_`, `.`, `/` only")]
    BadPath,
    /// Nothing answers there, or the answer broke off.
    #[error("the Vault server cannot be reached: {0}; is `address` right, and is the server up?")]
    Unreachable(Arc<ClientError>),
    /// It answers, and its certificate is not believed.
    #[error(
        "the Vault server is not believed: {0}; `tls_roots` must name the CA that signed its \
         certificate"
    )]
    Untrusted(Arc<ClientError>),
    /// It did not answer in time.
    #[error("the Vault server did not answer within {} s", after.as_secs_f64())]
    Slow {
        /// The limit.
        after: Duration,
    },
    /// It is sealed.
    #[error("the Vault server is sealed; it must be unsealed")]
    Sealed,
    /// It is a standby that passes nothing on, or it counts our requests.
    #[error("the Vault server is a standby or limits its callers (status {status})")]
    Standby {
        /// What it answered.
        status: u16,
    },
    /// It points elsewhere; no token goes there.
    #[error(
        "the Vault server points to another one (status {status}), which is not followed; \
         `address` must be the active server's or the load balancer's"
    )]
    Redirected {
        /// What it answered.
        status: u16,
    },
    /// It fails, or something in front of it does.
    #[error("the Vault server fails (status {status})")]
    Failing {
        /// What it answered.
        status: u16,
    },
    /// The answer is not of the form that Vault gives it.
    #[error("the answer to {to} is not a Vault server's; is `address` right?")]
    BadAnswer {
        /// What was asked.
        to: &'static str,
    },
    /// The answer is larger than one with a key in it should be.
    #[error("{0}; keep the key in a secret of its own")]
    TooLarge(Arc<ClientError>),
    /// What we log in with cannot be read.
    #[error("to log in to the Vault server: {0}")]
    LoginSecret(Arc<SecretError>),
    /// What we log in with is empty, has blanks inside, or is no text.
    #[error("to log in to the Vault server: the {what} is empty or not one plain word")]
    BadLoginSecret {
        /// Which.
        what: &'static str,
    },
    /// It does not let us in.
    #[error(
        "the Vault server refuses the log-in by {method} (status {status}); check the role, the \
         mount, the namespace and what we log in with"
    )]
    LoginRefused {
        /// How we tried.
        method: &'static str,
        /// What it answered.
        status: u16,
    },
    /// The token that we were given is not taken.
    #[error(
        "the Vault server does not take the token: it has expired, was revoked, belongs to another \
         namespace, or may not look itself up (policy `default`)"
    )]
    TokenRefused,
    /// A wrapping token that is not good, any more or at all.
    #[error(
        "the wrapping token is not valid: it has expired or was used before, if not by us then by \
         somebody who now has the secret id; wrap a new one"
    )]
    WrappingSpent,
    /// The task that logs in is gone, as at the end of the process.
    #[error("the log-in was broken off")]
    BrokenOff,
    /// We are in, and may not read there.
    #[error("the Vault server denies access; its policy must allow `read` on {path}")]
    Denied {
        /// The path as policies have it.
        path: String,
    },
    /// There is no such secret, or no such mount.
    #[error(
        "nothing is there; check path, mount and namespace, and that the engine is KV version 2"
    )]
    NotThere,
    /// The secret's newest version was deleted or destroyed.
    #[error("its version {version} is deleted; write a new one or undelete it")]
    Deleted {
        /// Which.
        version: u64,
    },
    /// The secret has no such field.
    #[error("the secret has no such field (in version {version})")]
    NoField {
        /// The secret's version.
        version: u64,
    },
    /// The field is a number, a list or the like.
    #[error("the field is not a text (in version {version})")]
    NotText {
        /// The secret's version.
        version: u64,
    },
    /// The engine there is another one, most likely KV version 1.
    #[error("the engine there is not KV version 2; run: vault kv enable-versioning MOUNT")]
    NotKv2,
}

impl From<ClientError> for HashicorpError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Timeout { after } => Self::Slow { after },
            ClientError::Tls(_) => Self::Untrusted(Arc::new(error)),
            ClientError::HeadTooLarge { .. } | ClientError::BodyTooLarge { .. } => {
                Self::TooLarge(Arc::new(error))
            }
            ClientError::Connect(_) | ClientError::Http(_) => Self::Unreachable(Arc::new(error)),
        }
    }
}

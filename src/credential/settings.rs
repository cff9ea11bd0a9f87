//! Which credentials there are, and where each one's secret lives. Never the secret itself.

use std::path::PathBuf;

use crate::base::CredentialId;

/// One credential: its kind and the place of its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSettings {
    /// Its name.
    pub id: CredentialId,
    /// What kind of key it is.
    pub kind: Kind,
    /// Where the secret is read from.
    pub source: Source,
    /// What a start does when the secret is missing.
    pub on_missing: OnMissing,
}

/// What kind of key Omni knows it as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An organization API key: all-powerful, acts as its creator.
    Organization,
    /// A personal access token.
    Personal,
    /// A token of the MCP OAuth flow.
    Mcp,
}

/// Where a secret is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One file per secret in a folder, as Kubernetes, Docker and systemd mount them.
    Dir {
        /// The folder.
        path: PathBuf,
        /// The file's name in it.
        name: String,
    },
    /// One file that holds one secret; refused while others may read it.
    File {
        /// The file.
        path: PathBuf,
    },
    /// A variable of our environment.
    Env {
        /// Its name.
        name: String,
    },
}

/// What a start does when a secret is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissing {
    /// The start fails and names it.
    Fail,
    /// Its routes answer 503 until it appears.
    Degrade,
}

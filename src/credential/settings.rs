//! Which credentials there are, and where each one's secret lives. Never the secret itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::CredentialId;
use crate::net::TlsRoots;

use super::token::Token;

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

impl Kind {
    /// The word for it, in configs and vaults.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Personal => "personal",
            Self::Mcp => "mcp",
        }
    }

    /// The kind that a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Organization, Self::Personal, Self::Mcp].into_iter().find(|it| it.as_str() == word)
    }
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
    /// An entry of a file that age has encrypted.
    Age {
        /// The file, and the identity that opens it.
        vault: AgeSettings,
        /// The entry's name.
        name: String,
    },
    /// What a program prints.
    Exec {
        /// The program.
        command: ExecSettings,
        /// The secret's name, for the program to find it by.
        name: String,
    },
    /// A field of a secret in HashiCorp Vault or OpenBao, in an engine of KV version 2.
    Hashicorp {
        /// The server, and how to log in to it.
        vault: Arc<HashicorpSettings>,
        /// The secret's path below the mount.
        path: String,
        /// The field.
        field: String,
    },
    /// A value in memory that is about to be kept somewhere; no config leads here.
    Given {
        /// The value.
        token: Arc<Token>,
    },
}

/// An age file and the identity that opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgeSettings {
    /// The file.
    pub path: PathBuf,
    /// The file with the identity; refused while others may read it.
    pub identity: PathBuf,
}

/// A program that prints a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSettings {
    /// An absolute path.
    pub program: PathBuf,
    /// Its arguments; `{name}` in one stands for the secret's name.
    pub args: Vec<String>,
    /// Names of our variables that it gets besides the usual few.
    pub env: Vec<String>,
    /// How long it may run.
    pub timeout: Duration,
    /// How often it is asked again where it does not say how long its answer is good.
    pub refresh: Option<Duration>,
}

/// A Vault server and how to log in to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashicorpSettings {
    /// Its name or address, without the brackets of IPv6.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whom to believe that it is the server; `None` is plain HTTP, and for loopback only.
    pub tls: Option<TlsRoots>,
    /// The namespace of all requests.
    pub namespace: Option<String>,
    /// Where the KV engine is mounted.
    pub mount: String,
    /// How to log in.
    pub login: Login,
    /// How often a secret is read again.
    pub refresh: Duration,
    /// How long one request may take.
    pub timeout: Duration,
}

/// How to log in to a Vault server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// With a token that somebody else made.
    Token(Held),
    /// As an application.
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// Not a secret.
        role_id: String,
        /// The secret that goes with it.
        secret_id: Held,
        /// Whether that is a wrapping token, which is exchanged for the secret id once.
        wrapped: bool,
    },
    /// As a Kubernetes service account.
    Kubernetes {
        /// Where the method is mounted.
        mount: String,
        /// The role that the account is bound to.
        role: String,
        /// The file with the account's token; read anew at each log-in.
        jwt: PathBuf,
    },
}

/// Where a secret that is needed to log in is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A file; read anew at each log-in.
    File(PathBuf),
    /// A variable of our environment.
    Env(String),
}

/// What a start does when a secret is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissing {
    /// The start fails and names it.
    Fail,
    /// Its routes answer 503 until it appears.
    Degrade,
}

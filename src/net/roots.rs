//! Which certificates are believed.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

/// Which certificate authorities vouch for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsRoots {
    /// Those of the operating system.
    System,
    /// Those in a PEM file, and no others.
    File(PathBuf),
}

/// Why TLS cannot be spoken as configured.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The PEM file cannot be read.
    #[error("cannot read certificates from {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system or the parser said.
        source: pem::Error,
    },
    /// The PEM file has no certificate in it.
    #[error("{} holds no certificate", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The library refuses; for instance the system has no certificates.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// A host that no certificate can name.
    #[error("`{host}` cannot be a name in a certificate")]
    HostName {
        /// The host.
        host: String,
    },
}

impl TlsRoots {
    pub(crate) fn client_config(&self) -> Result<ClientConfig, RootsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = match self {
            Self::System => builder.with_platform_verifier()?,
            Self::File(path) => builder.with_root_certificates(Arc::new(read(path)?)),
        };
        Ok(builder.with_no_client_auth())
    }
}

fn read(path: &PathBuf) -> Result<RootCertStore, RootsError> {
    let unreadable = |source| RootsError::Unreadable { path: path.clone(), source };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        store.add(certificate.map_err(unreadable)?)?;
    }
    if store.is_empty() {
        return Err(RootsError::Empty { path: path.clone() });
    }
    Ok(store)
}

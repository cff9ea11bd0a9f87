//! The files of a listener that speaks TLS, and what rustls makes of them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use crate::server::TlsSettings;

/// Longer than any bundle of certificates, and no matter to hold.
const LONGEST: u64 = 4 * 1024 * 1024;

/// What we speak inside of TLS, the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why a listener cannot speak TLS. Nothing of a file's content is in it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system does not give the file.
    #[error(
        "cannot read {}: {source}; it must be there and readable for the gateway's user",
        .path.display()
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not one of PEM sections.
    #[error(
        "{} is not good PEM; each part must begin with a line `-----BEGIN …-----` and end with its \
         `-----END …-----`",
        .path.display()
    )]
    NotPem {
        /// Which.
        path: PathBuf,
    },
    /// There is nothing in it that could be shown.
    #[error(
        "{} holds no certificate; `cert` must be a PEM file of the server's certificate, followed \
         by those that lead from it to a root",
        .path.display()
    )]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// A certificate that no caller could read either.
    #[error("the first certificate in {} is broken; have it issued again", .path.display())]
    BadCertificate {
        /// Which.
        path: PathBuf,
    },
    /// There is no key in it.
    #[error(
        "{} holds no private key; `key` must be a PEM file with one (PKCS#8, SEC1 or PKCS#1)",
        .path.display()
    )]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// The key has a pass phrase, which nobody could type.
    #[error(
        "the private key in {} is encrypted; decrypt it (`openssl pkey -in … -out …`) and let its \
         owner alone read it",
        .path.display()
    )]
    EncryptedKey {
        /// Which.
        path: PathBuf,
    },
    /// A key that cannot be used.
    #[error(
        "the private key in {} cannot be used; make an ECDSA P-256 or P-384, RSA (2048 bits or \
         more) or Ed25519 key",
        .path.display()
    )]
    BadKey {
        /// Which.
        path: PathBuf,
    },
    /// The two files are of different pairs.
    #[error(
        "the private key in {} does not belong to the first certificate in {}; the server's own \
         certificate must come first, and both must be of the same pair",
        .key.display(), .cert.display()
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
    /// Nobody vouches for callers.
    #[error(
        "{} holds no certificate; `client_ca` must be a PEM file of the authorities that sign \
         callers' certificates",
        .path.display()
    )]
    NoAuthority {
        /// Which.
        path: PathBuf,
    },
    /// One of the authorities cannot be read.
    #[error("certificate {number} in {} cannot vouch for callers: {source}", .path.display())]
    BadAuthority {
        /// Which.
        path: PathBuf,
        /// Its place in the file, from 1 on.
        number: usize,
        /// What the library said.
        source: rustls::Error,
    },
    /// The library refuses.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
    /// The reading was not brought to its end; the gateway is ending, or has a bug.
    #[error("reading the certificate's files was broken off")]
    Interrupted,
}

/// What tells one state of the files from another.
pub(super) type Print = [u8; 32];

/// The files' bytes, as they are at one time.
pub(super) struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What is made of them.
pub(super) struct InUse {
    pub(super) config: Arc<ServerConfig>,
    pub(super) begins: SystemTime,
    pub(super) expires: SystemTime,
    pub(super) print: Print,
}

impl Files {
    pub(super) fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let client_ca = settings.client_ca.as_deref().map(read).transpose()?;
        Ok(Self { cert: read(&settings.cert)?, key: read(&settings.key)?, client_ca })
    }

    pub(super) fn print(&self) -> Print {
        let mut hash = Sha256::new();
        for bytes in
            [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten()
        {
            // The length first: a byte that moves from one file to the next is a change.
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        hash.finalize().into()
    }

    pub(super) fn build(&self, settings: &TlsSettings) -> Result<InUse, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates(&settings.cert, &self.cert)?;
        let Some(first) = chain.first() else {
            return Err(TlsError::NoCertificate { path: settings.cert.clone() });
        };
        let broken = || TlsError::BadCertificate { path: settings.cert.clone() };
        let (_, read) = X509Certificate::from_der(first).map_err(|_| broken())?;
        let (begins, expires) = (when(read.validity().not_before), when(read.validity().not_after));
        let key = self.key(&settings.key, &provider)?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                let (key, cert) = (settings.key.clone(), settings.cert.clone());
                return Err(TlsError::Mismatch { key, cert });
            }
            Err(_) => return Err(broken()),
        }
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = match self.verifier(settings, &provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        if self.client_ca.is_some() {
            // A session that is resumed brings the caller's certificate along without asking again
            // whether it is still valid, or its authority still believed. Elsewhere sessions are of
            // this config, and go with it.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(InUse { config: Arc::new(config), begins, expires, print: self.print() })
    }

    fn key(
        &self,
        path: &Path,
        provider: &CryptoProvider,
    ) -> Result<Arc<dyn rustls::sign::SigningKey>, TlsError> {
        let path = || path.to_owned();
        // The two ways to say so.
        let marks: [&[u8]; 2] =
            [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];
        let has = |mark: &[u8]| self.key.windows(mark.len()).any(|window| window == mark);
        if marks.into_iter().any(has) {
            return Err(TlsError::EncryptedKey { path: path() });
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoKey { path: path() },
            // What the parser says may have a line of the key in it.
            _ => TlsError::NotPem { path: path() },
        })?;
        let loaded = provider.key_provider.load_private_key(key);
        loaded.map_err(|_| TlsError::BadKey { path: path() })
    }

    fn verifier(
        &self,
        settings: &TlsSettings,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        let (Some(path), Some(bytes)) = (&settings.client_ca, &self.client_ca) else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        for (at, authority) in certificates(path, bytes)?.into_iter().enumerate() {
            roots.add(authority).map_err(|source| {
                let path = path.clone();
                TlsError::BadAuthority { path, number: at + 1, source }
            })?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = match settings.client_optional {
            true => verifier.allow_unauthenticated(),
            false => verifier,
        };
        // The one thing that it can lack is a root.
        let verifier = verifier.build();
        verifier.map(Some).map_err(|_| TlsError::NoAuthority { path: path.clone() })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    // Looked at first: to open a pipe would wait for whoever writes into it.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a file")));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.map_err(|_| TlsError::NotPem { path: path.to_owned() })
}

fn when(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let span = Duration::from_secs(seconds.unsigned_abs());
    let moved = match seconds < 0 {
        true => UNIX_EPOCH.checked_sub(span),
        false => UNIX_EPOCH.checked_add(span),
    };
    moved.unwrap_or(UNIX_EPOCH)
}

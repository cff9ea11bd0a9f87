//! Authorities, certificates and callers of these tests.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd,
};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::server::testing::on_a_free_port;
use crate::server::{ServerSettings, TlsSettings};

/// Somebody who signs.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) cert: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Another authority below this one.
    pub(super) fn appoints(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "below");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    /// With our own certificate behind it, which leads to who appointed us.
    pub(super) fn vouched(&self, pair: Pair) -> Pair {
        Pair { cert: pair.cert + &self.pem(), key: pair.key }
    }

    /// Signs what `change` makes of an ordinary certificate.
    pub(super) fn signs(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }

    /// A server's certificate.
    pub(super) fn localhost(&self) -> Pair {
        self.signs(|params| params.subject_alt_names = vec![dns("localhost")])
    }

    /// A caller's certificate.
    pub(super) fn caller(&self, names: Vec<SanType>) -> Pair {
        self.signs(|params| params.subject_alt_names = names)
    }
}

pub(super) fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

pub(super) fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

/// Ended long ago.
pub(super) fn expired(params: &mut CertificateParams) {
    params.subject_alt_names = vec![dns("localhost")];
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2001, 1, 1);
}

/// Begins in a time that nobody here sees.
pub(super) fn of_the_future(params: &mut CertificateParams) {
    params.subject_alt_names = vec![dns("localhost")];
    params.not_before = date_time_ymd(3000, 1, 1);
    params.not_after = date_time_ymd(3001, 1, 1);
}

/// The files of one listener.
pub(super) struct Folder {
    folder: tempfile::TempDir,
    /// Signs the server's certificates.
    pub(super) ours: Authority,
    /// Signs callers' certificates.
    pub(super) theirs: Authority,
}

impl Folder {
    /// With a good pair, and an authority for callers that is used only where settings name it.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = Self { folder, ours: Authority::new(), theirs: Authority::new() };
        this.put(&this.ours.localhost());
        this.write("ca.pem", &this.theirs.pem());
        this
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(super) fn put(&self, pair: &Pair) {
        self.write("cert.pem", &pair.cert);
        self.write("key.pem", &pair.key);
    }

    /// A listener that asks callers for nothing.
    pub(super) fn tls(&self) -> TlsSettings {
        TlsSettings {
            cert: self.path("cert.pem"),
            key: self.path("key.pem"),
            client_ca: None,
            client_optional: false,
        }
    }

    /// A listener that asks callers for a certificate.
    pub(super) fn mutual(&self) -> TlsSettings {
        TlsSettings { client_ca: Some(self.path("ca.pem")), ..self.tls() }
    }

    /// A caller that believes `ours`.
    pub(super) fn caller(&self) -> Caller {
        let mut roots = RootCertStore::empty();
        roots.add(self.ours.0.der().clone()).unwrap();
        Caller::new(roots)
    }
}

/// Settings of a listener on a free port.
pub(super) fn settings(tls: TlsSettings) -> ServerSettings {
    let mut settings = on_a_free_port();
    settings.listeners[0].tls = Some(tls);
    settings
}

/// A TLS client; clones share their sessions.
#[derive(Clone)]
pub(super) struct Caller(pub(super) ClientConfig);

impl Caller {
    fn new(roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(config).forgets()
    }

    /// The same, with no session from before.
    pub(super) fn forgets(mut self) -> Self {
        self.0.resumption = Resumption::in_memory_sessions(16);
        self
    }

    /// The same, with a certificate of its own.
    pub(super) fn shows(&self, pair: &Pair) -> Self {
        let chain = CertificateDer::pem_slice_iter(pair.cert.as_bytes());
        let chain: Vec<_> = chain.map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        // Whether the two belong together is for the other side to find out.
        let key = provider.key_provider.load_private_key(key).unwrap();
        let shown = rustls::sign::CertifiedKey::new(chain, key);
        let mut config = self.0.clone();
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(shown));
        Self(config).forgets()
    }

    pub(super) fn offers(mut self, protocols: &[&str]) -> Self {
        self.0.alpn_protocols = protocols.iter().map(|one| one.as_bytes().to_vec()).collect();
        self
    }

    /// Versions are part of a config's making, so it is made anew.
    pub(super) fn speaks(
        &self,
        version: &'static rustls::SupportedProtocolVersion,
        folder: &Folder,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(folder.ours.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = self.0.alpn_protocols.clone();
        config.client_auth_cert_resolver = self.0.client_auth_cert_resolver.clone();
        Self(config).forgets()
    }

    pub(super) async fn shakes<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(self.0.clone())).connect(name, stream).await
    }

    /// Everything that a whole GET brings, or why it brings nothing. In TLS 1.3 a caller learns
    /// only after its own part of the handshake whether it was let in.
    pub(super) async fn asks<S>(&self, stream: S) -> io::Result<String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = self.shakes(stream).await?;
        stream.write_all(LAST_GET).await?;
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await?;
        Ok(answer)
    }
}

pub(super) const LAST_GET: &[u8] = b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// Whether this is a process with one test alone; if not, has run it in one, and it passed.
pub(super) fn is_alone(test: &str) -> bool {
    const ALONE: &str = "OMNIGATE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let path = format!("server::tls::tests::{test}");
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &path, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(String::from_utf8_lossy(&run.stdout).contains("1 passed"), "it was not run");
    false
}

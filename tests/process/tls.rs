//! A listener that speaks TLS, and callers who are told by their certificates.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Caller, Gateway, House, Plan, get, replace, soon, until};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issued(by: &Authority, name: SanType) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![name];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap(), key)
}

fn localhost() -> SanType {
    SanType::DnsName("localhost".try_into().unwrap())
}

/// The two sides' authorities, and the house whose gateway has a TLS listener besides.
struct Town {
    house: House,
    ours: Authority,
    theirs: Authority,
}

impl Town {
    async fn build() -> Self {
        let town =
            Self { house: Plan::default().build().await, ours: authority(), theirs: authority() };
        let (cert, key) = issued(&town.ours, localhost());
        town.write("tls.pem", &cert.pem());
        town.write("tls.key", &key.serialize_pem());
        town.write("ca.pem", &town.theirs.pem());
        let mut text = fs::read_to_string(town.house.config()).unwrap();
        text.push_str(
            r#"
            [[listeners]]
            address = "127.0.0.1:0"
            allow_anonymous = false
            tls = { cert = "tls.pem", key = "tls.key", client_ca = "ca.pem" }
            [callers.reports]
            match = { san = "spiffe://corp/reports" }
            "#,
        );
        fs::write(town.house.config(), text).unwrap();
        town
    }

    fn write(&self, name: &str, text: &str) {
        replace(&self.house.folder().join(name), text.as_bytes());
    }

    /// A caller with a certificate of this name.
    async fn connects(
        &self,
        gateway: &Gateway,
        by: &Authority,
        name: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let (cert, key) = issued(by, SanType::URI(name.try_into().unwrap()));
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(self.ours.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![cert.der().clone()], key)
            .unwrap();
        let stream = TcpStream::connect(address(gateway)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }

    async fn reports(&self, gateway: &Gateway) -> TlsStream<TcpStream> {
        self.connects(gateway, &self.theirs, "spiffe://corp/reports").await.unwrap()
    }

    async fn shown(&self, gateway: &Gateway) -> CertificateDer<'static> {
        let stream = self.reports(gateway).await;
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

/// Where TLS is spoken: the second TCP listener.
fn address(gateway: &Gateway) -> SocketAddr {
    let places = gateway.events("serving").into_iter();
    let mut sockets = places.filter_map(|place| place["address"].as_str()?.parse().ok());
    sockets.nth(1).unwrap()
}

#[tokio::test]
async fn a_caller_is_told_by_its_certificate_and_a_renewal_interrupts_nobody() {
    let town = Town::build().await;
    let gateway = town.house.start().await;
    let mut old = Caller::over(town.reports(&gateway).await).await;
    assert_eq!(old.get("/api/v1/labels").await.status, 200);
    let exchange = gateway.says("exchange").await;
    assert_eq!(exchange["caller"], "reports", "{exchange}");

    // Vouched for, and nobody that the config knows.
    let stranger = town.connects(&gateway, &town.theirs, "spiffe://corp/others").await.unwrap();
    let refused = Caller::over(stranger).await.get("/api/v1/labels").await;
    assert!([401, 403].contains(&refused.status.as_u16()), "{}", refused.text());
    // Vouched for by nobody whom we believe, under the right name.
    let arrived = town.house.omni.arrived();
    if let Ok(mut forged) = town.connects(&gateway, &town.ours, "spiffe://corp/reports").await {
        let _ = forged.write_all(b"GET /api/v1/labels HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
        let mut said = Vec::new();
        soon(forged.read_to_end(&mut said)).await.unwrap_err();
        assert_eq!(said, b"");
    }
    // Plain HTTP on this port.
    let mut plain = Caller::connect(address(&gateway)).await;
    let told = plain.call(get("/api/v1/labels")).await.unwrap();
    assert_eq!((told.status.as_u16(), &told.body[..20]), (400, &b"this port speaks TLS"[..]));
    assert_eq!(town.house.omni.arrived(), arrived);

    // One file after the other, with an operator in between who is too early.
    let first = town.shown(&gateway).await;
    let (cert, key) = issued(&town.ours, localhost());
    town.write("tls.pem", &cert.pem());
    assert_eq!(gateway.tell("/-/reload").await.status, 200);
    let said = gateway.says("keeping the certificate in use").await;
    assert!(said["error"].as_str().unwrap().contains("does not belong"), "{said}");
    assert_eq!(town.shown(&gateway).await, first);
    town.write("tls.key", &key.serialize_pem());
    gateway.signal(Signal::HUP);
    gateway.says("certificate read again, and new").await;
    assert_eq!(town.shown(&gateway).await, *cert.der());
    assert_eq!(old.get("/api/v1/labels").await.status, 200);

    // Whoever was vouched for by an authority that is gone has no way in any more.
    town.write("ca.pem", &authority().pem());
    assert_eq!(gateway.tell("/-/reload").await.status, 200);
    until(async || {
        let mut stream =
            town.connects(&gateway, &town.theirs, "spiffe://corp/reports").await.ok()?;
        soon(stream.read(&mut [0; 1])).await.err()
    })
    .await;
    assert!(!gateway.said().contains(key.serialize_pem().lines().nth(1).unwrap()));
}

#[tokio::test]
async fn files_that_are_no_good_end_the_start_with_what_to_do() {
    let town = Town::build().await;
    town.write("tls.key", &KeyPair::generate().unwrap().serialize_pem());
    let ended = town.house.spawn().ends().await;
    assert!(!ended.status.success());
    assert!(ended.said.contains("cannot speak TLS on 127.0.0.1:0"), "{}", ended.said);
    assert!(ended.said.contains("tls.key does not belong to"), "{}", ended.said);
}

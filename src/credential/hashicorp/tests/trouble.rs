use http::{Method, Request};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::fake_vault::Trouble;
use crate::net::TlsRoots;

#[tokio::test(start_paused = true)]
async fn each_trouble_has_its_own_words() {
    use HashicorpError as E;
    let house = House::new(Terms::renewable(TTL));
    let in_already = house.session();
    read(&in_already).await.unwrap();
    type Is = fn(&HashicorpError) -> bool;
    let cases: [(Trouble, Is); 11] = [
        (Trouble::Down, |e| matches!(e, E::Unreachable(_))),
        (Trouble::Sealed, |e| matches!(e, E::Sealed)),
        (Trouble::Slow(SECOND * 30), |e| matches!(e, E::Slow { .. })),
        (Trouble::Status(307), |e| matches!(e, E::Redirected { status: 307 })),
        (Trouble::Status(429), |e| matches!(e, E::Standby { status: 429 })),
        (Trouble::Status(472), |e| matches!(e, E::Standby { status: 472 })),
        (Trouble::Status(473), |e| matches!(e, E::Standby { status: 473 })),
        (Trouble::Status(500), |e| matches!(e, E::Failing { status: 500 })),
        (Trouble::Status(503), |e| matches!(e, E::Failing { status: 503 })),
        (Trouble::Says("<html>"), |e| matches!(e, E::BadAnswer { .. })),
        (Trouble::Says("{}"), |e| matches!(e, E::BadAnswer { .. })),
    ];
    for (trouble, is) in cases {
        house.vault.set_trouble(Some(trouble));
        for session in [&house.session(), &in_already] {
            let started = Instant::now();
            let error = read(session).await.unwrap_err();
            assert!(is(&error), "{trouble:?}: {error}");
            assert!(started.elapsed() <= SECOND * 10, "{trouble:?}");
        }
    }
    house.vault.set_trouble(None);
    assert_eq!(read(&in_already).await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_is_left_in_peace_and_a_read_soon_finds_it_back() {
    let house = House::new(Terms::renewable(TTL));
    house.vault.set_trouble(Some(Trouble::Sealed));
    let session = house.session();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(600) {
        let reads = (0..20).map(|_| read(&session));
        for read in futures_util::future::join_all(reads).await {
            assert!(matches!(read.unwrap_err(), HashicorpError::Sealed));
        }
    }
    let asked = house.vault.asked().len();
    assert!((100..150).contains(&asked), "{asked} requests in 10 min");
    house.vault.set_trouble(None);
    let back = Instant::now();
    assert_eq!(read(&session).await.unwrap(), "first");
    assert!(back.elapsed() <= SECOND * 5);
    house.check();
}

#[tokio::test(start_paused = true)]
async fn a_read_that_may_take_little_time_still_says_what_is_wrong() {
    let mut house = House::new(Terms::renewable(TTL));
    house.settings.timeout = SECOND * 2;
    house.vault.set_trouble(Some(Trouble::Sealed));
    let session = house.session();
    for _ in 0..20 {
        assert!(matches!(read(&session).await.unwrap_err(), HashicorpError::Sealed));
    }
    house.vault.set_trouble(None);
    assert_eq!(read(&session).await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn a_path_that_is_denied_is_named_and_does_not_cost_a_log_in_each_time() {
    let house = House::new(Terms::renewable(TTL));
    house.vault.write("open", json!({ "token": "open" }));
    house.vault.deny("secret/data/omni", true);
    let kept = house.kept();
    for _ in 0..60 {
        let error = read(&kept.session).await.unwrap_err();
        assert!(error.to_string().ends_with("`read` on secret/data/omni"), "{error}");
        assert_eq!(read_at(&kept.session, "open", "token").await.unwrap(), "open");
        sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(house.log_ins(), 1);
    house.vault.deny("secret/data/omni", false);
    assert_eq!(read(&kept.session).await.unwrap(), "first");
    house.check();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_may_not_even_look_itself_up_leads_to_few_log_ins() {
    let house = House::new(Terms::renewable(TTL));
    house.vault.deny("secret/data/omni", true);
    house.vault.deny("auth/token/lookup-self", true);
    let kept = house.kept();
    for _ in 0..60 {
        let error = read(&kept.session).await.unwrap_err();
        assert!(matches!(error, HashicorpError::Denied { .. }), "{error}");
        sleep(Duration::from_secs(60)).await;
    }
    assert!((2..=8).contains(&house.log_ins()), "{} in an hour", house.log_ins());
}

/// A certificate authority, and a server's certificate by it.
struct Issued {
    ca: String,
    server: ServerConfig,
}

fn issue() -> Issued {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Issued { ca: ca.pem(), server }
}

/// In real time, since there are real sockets.
#[tokio::test]
async fn a_server_is_believed_by_the_authority_that_is_named_and_by_no_other() {
    let mut house = House::new(Terms::renewable(TTL));
    let (right, wrong) = (issue(), issue());
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    house.settings.port = listener.local_addr().unwrap().port();
    house.settings.host = "localhost".to_owned();
    let acceptor = TlsAcceptor::from(Arc::new(right.server));
    let vault = house.vault.clone();
    let server = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(socket).await {
                vault.serve_connection(stream).await;
            }
        }
    });
    let session = |ca: &str, name: &str| {
        let tls = Some(TlsRoots::File(house.keep(name, ca)));
        Session::new(Arc::new(HashicorpSettings { tls, ..house.settings.clone() }), None)
    };
    assert_eq!(read(&session(&right.ca, "right").unwrap()).await.unwrap(), "first");
    let asked = house.vault.asked().len();
    let error = read(&session(&wrong.ca, "wrong").unwrap()).await.unwrap_err();
    assert!(matches!(error, HashicorpError::Untrusted(_)), "{error:?}");
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    assert_eq!(house.vault.asked().len(), asked, "nothing was asked of it");
    let error = session("no certificate", "none").unwrap_err();
    assert!(error.to_string().contains("holds no certificate; see `tls_roots`"), "{error}");
    server.abort();
}

/// The fake must be strict enough to be worth something: a request without our fields is refused.
#[tokio::test(start_paused = true)]
async fn the_fake_would_have_complained() {
    let house = House::new(Terms::renewable(TTL));
    let client = crate::net::Client::new(house.way(), "vault".parse().unwrap(), Default::default());
    let request = Request::builder().method(Method::GET).uri("/v1/secret/data/omni");
    let answer = client.send(request.body(Default::default()).unwrap(), SECOND).await.unwrap();
    assert_eq!((answer.status().as_u16(), house.vault.complaints().len()), (412, 1));
}

//! What is wrong with the place of a secret: told at the start, and outlived while the gateway runs.

use std::fs;
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use omnigate::fake_vault::{FakeVault, Terms};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Duration;
use tokio_rustls::TlsAcceptor;

use crate::harness::safe::{Safe, Start};
use crate::harness::{Ended, Gateway, Plan, SECOND, key, replace, until};

/// Starts a gateway that must not start. Its ports are taken: were one of them opened before the
/// secrets are read, it would end in another way.
async fn refused(lines: &[String; 2], env: &[(&str, &str)]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let taken = [listen().await, listen().await];
    let [callers, admin] = taken.each_ref().map(|one| one.local_addr().unwrap());
    let [vault, org] = lines;
    let text = format!(
        r#"
        state_dir = "state"
        [server]
        listen = ["{callers}", "unix:omnigate.sock"]
        [admin]
        listen = "{admin}"
        [upstream]
        base_url = "http://127.0.0.1:9"
        [vault]
        {vault}
        [credentials.org]
        kind = "organization"
        {org}
        [[routes]]
        name = "all"
        path = "/{{*rest}}"
        credential = "org"
        "#
    );
    let config = folder.path().join("omnigate.toml");
    fs::write(&config, text).unwrap();
    let ended = Gateway::spawn(&config, env).ends().await;
    assert_eq!(ended.status.code(), Some(78), "{}", ended.said);
    assert!(!folder.path().join("omnigate.sock").exists(), "the unix socket was made");
    ended
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn a_secret_that_cannot_be_had_ends_the_start_with_its_name_and_place() {
    let all = Safe::each(key().token()).await;
    let each = all.iter().map(async |safe| {
        for harm in &safe.harms {
            safe.mend(key().token());
            (harm.does)();
            let said = refused(&safe.lines, &[]).await.said;
            let (name, place) = (&safe.name, &safe.place);
            let right = match harm.at_start {
                // It shows the line of the config, under which the place stands.
                Start::Config(words) => said.contains(words) && said.contains("omnigate.toml:"),
                Start::Credential | Start::CredentialAlone => {
                    said.contains("credential `org`: ") && said.contains(harm.says)
                }
            };
            assert!(right && said.contains(place), "{name}, {}: {said}", harm.says);
            assert!(!said.contains(key().token()), "{name}: it shows the secret");
        }
        println!("{}: {} ways in which it does not start", safe.name, safe.harms.len());
    });
    join_all(each).await;
}

#[tokio::test]
async fn a_variable_that_is_no_good_ends_the_start_with_its_name_and_place() {
    let lines = ["backend = \"env\"", "secret = \"OMNI_API_KEY\""].map(str::to_owned);
    let twice = format!("{0} {0}", key().token());
    for (env, says) in [
        (&[][..], "is not there"),
        (&[("OMNI_API_KEY", "")], "holds no token: it is empty"),
        (&[("OMNI_API_KEY", &twice)], "holds no token: it has a blank at byte"),
    ] {
        let said = refused(&lines, env).await.said;
        let place = "credential `org`: the variable OMNI_API_KEY";
        assert!(said.contains(place) && said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn a_start_that_may_degrade_serves_answers_503_and_heals_by_itself() {
    let all = Safe::each(key().token()).await;
    let each = all.iter().map(async |safe| {
        let name = &safe.name;
        let house = Plan { vault: safe.degraded(), ..Plan::default() }.build().await;
        let apply = safe.harms.iter().filter(|harm| match harm.at_start {
            // What else is wrong with the config is no secret that may be missing.
            Start::Config(words) => words == " file is missing",
            Start::Credential | Start::CredentialAlone => true,
        });
        for (nth, harm) in apply.step_by(4).enumerate() {
            let says = harm.says;
            safe.mend(key().token());
            (harm.does)();
            let gateway = house.start().await;
            let refused = gateway.get("/api/v1/labels").await;
            assert_eq!(refused.status, 503, "{name}, {says}");
            let kind = "urn:omnigate:problem:credential-unavailable";
            assert_eq!(refused.json()["type"], kind, "{name}, {says}");
            let ready = gateway.admin("/readyz").await;
            let reason = json!({ "reason": "credential-missing", "credential": "org" });
            assert_eq!((ready.status.as_u16(), &ready.json()["reasons"][0]), (503, &reason));
            assert_eq!(ready.json()["credentials"][0]["state"], "missing", "{name}, {says}");
            let series = "omnigate_credential_state{credential=\"org\",state=\"missing\"}";
            assert_eq!(gateway.figure(series).await, 1.0, "{name}, {says}");
            let arrived = house.omni.arrived();
            safe.mend(key().token());
            // The first one heals by itself, after some seconds; the others are told to look.
            if nth > 0 {
                assert_eq!(gateway.reload().await["state"], "ready", "{name}, {says}");
            }
            until(async || (gateway.admin("/readyz").await.status == 200).then_some(())).await;
            // The queue hears of a first value a moment later than the pages show it.
            assert_eq!(gateway.get("/api/v1/labels").await.status, 200);
            assert_eq!(house.omni.arrived(), arrived + 1, "{name}: the refused one cost something");
            gateway.kill().await;
        }
    });
    join_all(each).await;
}

#[tokio::test]
async fn what_happens_while_it_runs_is_shown_and_leaves_the_last_good_value() {
    let all = Safe::each(key().token()).await;
    let each = all.iter().map(async |safe| {
        let name = &safe.name;
        let house = Plan { vault: safe.lines.clone(), ..Plan::default() }.build().await;
        let gateway = house.start().await;
        for harm in safe.harms_while_it_runs() {
            let says = harm.says;
            (harm.does)();
            let stands = gateway.reload().await;
            assert_eq!(stands["state"], "stale", "{name}, {says}: {stands}");
            let trouble = stands["trouble"].as_str().unwrap();
            let told = trouble.contains(says) && trouble.contains(&safe.place);
            assert!(told, "{name}, {says}: {trouble}");
            let ready = gateway.admin("/readyz").await;
            let shown = &ready.json()["credentials"][0];
            assert_eq!((ready.status.as_u16(), &shown["state"]), (200, &json!("stale")));
            assert!(shown["age_s"].is_u64() && shown.get("trouble").is_none(), "{shown}");
            let series = "omnigate_credential_state{credential=\"org\",state=\"stale\"}";
            assert_eq!(gateway.figure(series).await, 1.0, "{name}, {says}");
            let answer = gateway.get("/api/v1/labels").await;
            assert_eq!(answer.status, 200, "{name}, {says}");
            safe.mend(key().token());
            let stands = gateway.reload().await;
            assert_eq!(stands["state"], "ready", "{name}, after {says}: {stands}");
        }
        // It is the same value all the time, and as old as the gateway.
        let age = gateway.figure("omnigate_credential_age_seconds{credential=\"org\"}").await;
        let ours = format!("Bearer {}", key().token());
        let arrivals = house.omni.arrivals();
        assert!(arrivals.iter().all(|one| one.headers[AUTHORIZATION] == ours), "{name}");
        assert_eq!(arrivals.len(), safe.harms_while_it_runs().count());
        println!("{name}: {} troubles in {age} s, and every call was served", arrivals.len());
        assert_eq!(gateway.events("credential refreshed").len(), 0, "{name}");
    });
    join_all(each).await;
}

/// A certificate authority, and a server's certificate by it.
struct Issued {
    ca: String,
    server: Arc<ServerConfig>,
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
    Issued { ca: ca.pem(), server: Arc::new(server) }
}

#[tokio::test]
async fn a_vault_server_with_another_authoritys_certificate_is_not_believed() {
    let (right, wrong) = (issue(), issue());
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, text) in
        [("right.pem", right.ca.as_str()), ("wrong.pem", &wrong.ca), ("token", "hvs.x")]
    {
        replace(&path(name), text.as_bytes());
    }
    let fake = FakeVault::default();
    fake.adopt_token("hvs.x", Terms::renewable(Duration::from_secs(3600)));
    fake.write("omni", json!({ "token": key().token() }));
    let shown = Arc::new(Mutex::new(right.server.clone()));
    let (showing, vault) = (shown.clone(), fake.clone());
    let server = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (acceptor, vault) =
                (TlsAcceptor::from(showing.lock().unwrap().clone()), vault.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(socket).await {
                    vault.serve_connection(stream).await;
                }
            });
        }
    });
    let lines = |roots: &str| {
        let vault = format!(
            "backend = \"hashicorp\"\naddress = \"https://localhost:{port}\"\ntls_roots = \"{}\"\n\
             auth = {{ method = \"token\", token_file = \"{}\" }}",
            path(roots).display(),
            path("token").display()
        );
        [vault, "secret = \"omni\"".to_owned()]
    };
    let said = refused(&lines("wrong.pem"), &[]).await.said;
    let place =
        "credential `org`: the field token of secret/data/omni in the Vault server localhost";
    assert!(said.contains(place) && said.contains("is not believed"), "{said}");
    assert!(said.contains("`tls_roots` must name the CA"), "{said}");
    assert_eq!(fake.asked().len(), 0, "it was asked something");

    let house = Plan { vault: lines("right.pem"), ..Plan::default() }.build().await;
    let gateway = house.start().await;
    *shown.lock().unwrap() = wrong.server.clone();
    let stands = gateway.reload().await;
    assert_eq!(stands["state"], "stale", "{stands}");
    assert!(stands["trouble"].as_str().unwrap().contains("is not believed"), "{stands}");
    assert_eq!(gateway.get("/api/v1/labels").await.status, 200);
    *shown.lock().unwrap() = right.server.clone();
    assert_eq!(gateway.reload().await["state"], "ready");
    tokio::time::timeout(SECOND, gateway.kill()).await.unwrap();
    server.abort();
}

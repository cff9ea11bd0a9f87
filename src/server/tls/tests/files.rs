use rcgen::{CertificateParams, KeyPair, RsaKeySize};

use super::stage::{Authority, Folder, Pair, expired, of_the_future, settings};
use crate::server::tls::{Certificates, TlsError};
use crate::server::{BindError, Listen, Listener, TlsSettings, bind};

fn open(settings: &TlsSettings) -> Result<Certificates, TlsError> {
    Certificates::open("here".to_owned(), settings)
}

/// What is said of files that are no good.
fn refused(settings: &TlsSettings) -> String {
    open(settings).unwrap_err().to_string()
}

#[tokio::test]
async fn each_broken_file_is_named_with_what_to_do() {
    let good = Folder::new();
    let cases: &[(&str, &str, &str)] = &[
        ("cert.pem", "", "holds no certificate"),
        ("cert.pem", "not a certificate\n", "holds no certificate"),
        ("key.pem", "", "holds no private key"),
        ("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n", "is not good PEM"),
        (
            "key.pem",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "cannot be used",
        ),
        (
            "key.pem",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "is encrypted",
        ),
        ("ca.pem", "", "holds no certificate; `client_ca`"),
        (
            "ca.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "cannot vouch",
        ),
        ("cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is broken"),
    ];
    for (file, text, expected) in cases {
        let folder = Folder::new();
        folder.write(file, text);
        let said = refused(&folder.mutual());
        assert!(said.contains(expected), "{file}: {said}");
        assert!(said.contains(folder.path(file).to_str().unwrap()), "{said}");
    }
    for file in ["cert.pem", "key.pem", "ca.pem"] {
        let folder = Folder::new();
        std::fs::remove_file(folder.path(file)).unwrap();
        let said = refused(&folder.mutual());
        assert!(said.contains("cannot read") && said.contains(file), "{said}");
    }
    // A folder, and a file that never ends.
    for path in [good.path(""), "/dev/zero".into()] {
        let said = refused(&TlsSettings { key: path, ..good.tls() });
        assert!(said.contains("it is not a file"), "{said}");
    }
    open(&good.mutual()).unwrap();
}

#[tokio::test]
async fn a_key_of_another_pair_is_refused() {
    let folder = Folder::new();
    folder.write("key.pem", &folder.ours.localhost().key);
    let said = refused(&folder.tls());
    assert!(said.contains("does not belong to the first certificate"), "{said}");
    assert!(said.contains("key.pem") && said.contains("cert.pem"), "{said}");
}

#[tokio::test]
async fn what_is_said_of_a_broken_key_has_nothing_of_the_key_in_it() {
    let folder = Folder::new();
    let key = folder.ours.localhost().key;
    let body = key.lines().nth(1).unwrap();
    for broken in [
        key.replace("-----END PRIVATE KEY-----", ""),
        key.replace("KEY-----\n", "KEY----- "),
        key.replace(body, &format!("{body}!")),
        key.replace(body, &format!("-----BEGIN {body}")),
    ] {
        folder.write("key.pem", &broken);
        let error = open(&folder.tls()).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(!said.contains(&body[..8]), "{said}");
    }
}

/// The key inside of a PKCS#8 one, which is the older form.
fn inside(pkcs8: &[u8]) -> Vec<u8> {
    let (_, outer) = x509_parser::der_parser::der::parse_der(pkcs8).unwrap();
    outer.as_sequence().unwrap()[2].as_slice().unwrap().to_vec()
}

fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in der.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for nth in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * nth) & 63) as usize]);
            text.push(if nth <= group.len() { digit } else { '=' });
        }
    }
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[tokio::test]
async fn every_usual_form_of_key_is_read() {
    let folder = Folder::new();
    let ec = KeyPair::generate().unwrap();
    let ed = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let (sec1, pkcs1) = (inside(ec.serialized_der()), inside(rsa.serialized_der()));
    for (key, text) in [
        (&ec, ec.serialize_pem()),
        (&ec, pem("EC PRIVATE KEY", &sec1)),
        // As `openssl ecparam -genkey` writes it.
        (&ec, pem("EC PARAMETERS", &[6, 0]) + &pem("EC PRIVATE KEY", &sec1)),
        (&ed, ed.serialize_pem()),
        (&rsa, rsa.serialize_pem()),
        (&rsa, pem("RSA PRIVATE KEY", &pkcs1)),
    ] {
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.self_signed(key).unwrap().pem();
        folder.put(&Pair { cert, key: text.clone() });
        open(&folder.tls()).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    let locked = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n";
    let text = pem("EC PRIVATE KEY", &sec1).replacen("-----\n", &format!("-----\n{locked}"), 1);
    folder.write("key.pem", &text);
    let said = refused(&folder.tls());
    assert!(said.contains("is encrypted"), "{said}");
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_taken() {
    let folder = Folder::new();
    folder.put(&folder.ours.signs(expired));
    assert!(open(&folder.tls()).unwrap().expires() < std::time::SystemTime::now());
    folder.put(&folder.ours.signs(of_the_future));
    assert!(open(&folder.tls()).unwrap().expires() > std::time::SystemTime::now());
}

#[tokio::test]
async fn files_that_are_no_good_keep_every_port_shut() {
    let folder = Folder::new();
    folder.write("key.pem", &Authority::new().localhost().key);
    let socket = folder.path("s");
    let mut settings = settings(folder.tls());
    let plain = Listener::from(Listen::Unix { path: socket.clone(), mode: 0o600 });
    settings.listeners.insert(0, plain);
    let error = bind(&settings).unwrap_err();
    assert!(matches!(error, BindError::Tls { .. }), "{error}");
    let said = error.to_string();
    assert!(said.starts_with("cannot speak TLS on 127.0.0.1:0: "), "{said}");
    assert!(!socket.exists());
}

//! What upstream sees of a caller who brings credentials and lies about connections.

use http::header::AUTHORIZATION;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Plan, key, soon};

/// Fields that a caller brings, byte for byte.
const BROUGHT: [&str; 10] = [
    "Authorization: Bearer dummy\r\n",
    "authorization:Bearer dummy\r\n",
    "AUTHORIZATION:\tBasic ZHVtbXk=\r\n",
    "Connection: authorization\r\nAuthorization: Bearer dummy\r\n",
    "Connection: close, Authorization\r\n",
    "Connection: keep-alive, host, content-length, authorization\r\n",
    "Connection:authorization\r\nConnection: x-request-id\r\nTE: trailers\r\n",
    "Cookie: session=1\r\nCookie: b=2\r\n",
    "X-Forwarded-For: 10.1.2.3\r\nForwarded: for=10.1.2.3\r\nX-Real-IP: 10.1.2.3\r\n",
    "Proxy-Authorization: Basic ZHVtbXk=\r\nX-Api-Key: dummy\r\nX-Omnigate: dummy\r\n",
];

/// None of these goes further, whoever sent it.
const GONE: [&str; 9] = [
    "cookie",
    "connection",
    "te",
    "x-forwarded-for",
    "forwarded",
    "x-real-ip",
    "proxy-authorization",
    "x-api-key",
    "x-omnigate-token",
];

#[tokio::test]
async fn upstream_sees_exactly_one_authorization_ours_byte_for_byte() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    for fields in BROUGHT {
        for method in ["GET", "POST"] {
            let mut caller = TcpStream::connect(gateway.address()).await.unwrap();
            let body = if method == "POST" { "Content-Length: 2\r\n" } else { "" };
            let closing = if fields.contains("keep-alive") { "" } else { "Connection: close\r\n" };
            let target = "/api/v1/labels/none";
            let head = format!(
                "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{body}{fields}{closing}\r\n"
            );
            caller.write_all(head.as_bytes()).await.unwrap();
            if method == "POST" {
                caller.write_all(b"{}").await.unwrap();
            }
            let mut answer = String::new();
            let mut buffer = [0; 1024];
            while !answer.contains("Label not found") && !answer.contains("Not Found") {
                let n = soon(caller.read(&mut buffer)).await.unwrap();
                assert_ne!(n, 0, "{fields:?} was answered: {answer}");
                answer.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
            }
            assert!(answer.contains("received-status=404"), "{fields:?}: {answer}");
        }
    }
    let ours = format!("Bearer {}", key().token());
    let arrivals = house.omni.arrivals();
    assert_eq!(arrivals.len(), 2 * BROUGHT.len());
    for arrival in &arrivals {
        let bearers: Vec<_> = arrival.headers.get_all(AUTHORIZATION).iter().collect();
        assert_eq!(arrival.authorizations, 1);
        assert!(bearers[0].as_bytes() == ours.as_bytes(), "it is not ours: {arrival:?}");
        for gone in GONE {
            assert!(!arrival.headers.contains_key(gone), "{gone} reached upstream: {arrival:?}");
        }
        let others = arrival.headers.iter().filter(|(name, _)| **name != AUTHORIZATION);
        for (name, value) in others {
            let text = String::from_utf8_lossy(value.as_bytes());
            let brought = ["dummy", "ZHVtbXk=", "session", "10.1.2.3"];
            assert!(!brought.iter().any(|part| text.contains(part)), "{name}: {text}");
        }
    }
    assert_eq!(house.omni.distinct_authorizations("org"), 1);
}

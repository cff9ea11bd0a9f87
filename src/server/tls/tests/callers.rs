use http::{Request, Response};
use rcgen::{
    BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    NameConstraints, SanType,
};
use rustls::HandshakeKind;
use tokio::io::AsyncWriteExt;

use super::stage::{Authority, Folder, Pair, dns, expired, of_the_future, settings, uri};
use crate::base::{Body, Peer};
use crate::server::testing::{Running, echo, get, queue, start, whole};

/// Answers with the names of whoever asks.
async fn names(_: Request<Body>, peer: Peer) -> Response<Body> {
    assert!(peer.secure);
    let said = match peer.certificate {
        Some(certificate) => format!("names {:?}", certificate.names),
        None => "nobody".to_owned(),
    };
    Response::new(Body::full(said))
}

/// What a caller with this certificate is told of itself.
async fn told(running: &Running, folder: &Folder, pair: &Pair) -> String {
    let answer = folder.caller().shows(pair).asks(running.connect().await).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn a_caller_is_known_by_the_names_of_its_certificate() {
    let folder = Folder::new();
    let running = start(settings(folder.mutual()), names);
    let cases = [
        (vec![dns("Reports.Example.COM")], r#"names ["reports.example.com"]"#),
        (vec![uri("spiffe://Example/ns/A")], r#"names ["spiffe://Example/ns/A"]"#),
        (vec![dns("a"), uri("spiffe://x/y"), dns("b")], r#"names ["a", "spiffe://x/y", "b"]"#),
        (
            vec![
                SanType::IpAddress([127, 0, 0, 1].into()),
                SanType::Rfc822Name("a@example.com".try_into().unwrap()),
                dns("c"),
            ],
            r#"names ["c"]"#,
        ),
        (vec![SanType::IpAddress([127, 0, 0, 1].into())], "names []"),
        (Vec::new(), "names []"),
    ];
    for (shown, expected) in cases {
        let pair = folder.theirs.caller(shown);
        assert_eq!(told(&running, &folder, &pair).await, expected);
    }
}

#[tokio::test]
async fn the_common_name_is_no_name() {
    let folder = Folder::new();
    let running = start(settings(folder.mutual()), names);
    let pair = folder.theirs.signs(|params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "reports");
    });
    assert_eq!(told(&running, &folder, &pair).await, "names []");
}

#[tokio::test]
async fn both_versions_and_both_protocols_tell_the_names() {
    let folder = Folder::new();
    let running = start(settings(folder.mutual()), names);
    let pair = folder.theirs.caller(vec![dns("a")]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let caller = folder.caller().shows(&pair).speaks(version, &folder);
        let answer = caller.asks(running.connect().await).await.unwrap();
        assert!(answer.ends_with(r#"names ["a"]"#), "{answer}");
        let stream = caller.offers(&["h2"]).shakes(running.connect().await).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("https://x/").body(()).unwrap();
        let body = sender.send_request(request, true).unwrap().0.await.unwrap().into_body();
        assert_eq!(whole(body).await.unwrap(), br#"names ["a"]"#);
    }
}

/// Certificates by which nobody comes in, and why.
fn wrong(folder: &Folder) -> Vec<(&'static str, Pair)> {
    let stranger = Authority::new();
    let other = folder.theirs.caller(vec![dns("a")]);
    vec![
        ("another authority", stranger.caller(vec![dns("a")])),
        ("the server's authority", folder.ours.caller(vec![dns("a")])),
        ("expired", folder.theirs.signs(expired)),
        ("not yet valid", folder.theirs.signs(of_the_future)),
        (
            "made for servers",
            folder.theirs.signs(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        (
            "an extension that must be understood",
            folder.theirs.signs(|params| {
                let mut odd = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                odd.set_criticality(true);
                params.custom_extensions = vec![odd];
            }),
        ),
        // Somebody else's certificate in front of a key of one's own.
        ("not theirs", Pair { key: folder.ours.localhost().key, ..other }),
    ]
}

#[tokio::test]
async fn no_byte_of_http_gets_through_without_the_right_certificate() {
    let folder = Folder::new();
    for is_optional in [false, true] {
        let mut tls = folder.mutual();
        tls.client_optional = is_optional;
        let (answer, mut events) = queue(0);
        let running = start(settings(tls), answer);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for (why, pair) in wrong(&folder) {
                let caller = folder.caller().shows(&pair).speaks(version, &folder);
                let asked = caller.asks(running.connect().await).await;
                assert!(asked.is_err(), "{why}: {asked:?}");
            }
            if !is_optional {
                let caller = folder.caller().speaks(version, &folder);
                caller.asks(running.connect().await).await.unwrap_err();
            }
        }
        while running.server.connections() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(events.try_recv().is_err(), "a request was begun");
    }
}

#[tokio::test]
async fn an_authority_below_ours_vouches_within_its_bounds() {
    let folder = Folder::new();
    let running = start(settings(folder.mutual()), names);
    let free = folder.theirs.appoints(|_| {});
    let pair = free.caller(vec![dns("a.example"), uri("spiffe://x/y")]);
    let told = told(&running, &folder, &free.vouched(pair)).await;
    assert_eq!(told, r#"names ["a.example", "spiffe://x/y"]"#);

    let hosts = folder.theirs.appoints(|params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("team.example".to_owned())],
            excluded_subtrees: Vec::new(),
        });
    });
    // 2.5.29.30: permitted are URIs of the host `team.example`, and no others.
    let uris = folder.theirs.appoints(|params| {
        let host = b"team.example";
        let length = host.len() as u8;
        let mut der = vec![0x30, length + 6, 0xa0, length + 4, 0x30, length + 2, 0x86, length];
        der.extend_from_slice(host);
        let mut bound = CustomExtension::from_oid_content(&[2, 5, 29, 30], der);
        bound.set_criticality(true);
        params.custom_extensions = vec![bound];
    });
    // May sign callers, not further authorities.
    let last = folder.theirs.appoints(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let below = last.appoints(|_| {});
    let good = folder.caller().shows(&hosts.vouched(hosts.caller(vec![dns("a.team.example")])));
    good.asks(running.connect().await).await.unwrap();
    let caller = folder.theirs.appoints(|params| params.is_ca = IsCa::NoCa);
    for (why, pair) in [
        ("another host", hosts.vouched(hosts.caller(vec![dns("a.other.example")]))),
        ("one of two", hosts.vouched(hosts.caller(vec![dns("team.example"), dns("other")]))),
        ("another URI", uris.vouched(uris.caller(vec![uri("spiffe://other.example/a")]))),
        ("too deep", last.vouched(below.vouched(below.caller(vec![dns("a")])))),
        ("signed by a caller", caller.vouched(caller.caller(vec![dns("b")]))),
    ] {
        let asked = folder.caller().shows(&pair).asks(running.connect().await).await;
        assert!(asked.is_err(), "{why}: {asked:?}");
    }
}

#[tokio::test]
async fn who_is_refused_is_told_why_by_an_alert() {
    let folder = Folder::new();
    let running = start(settings(folder.mutual()), names);
    let none = folder.caller().asks(running.connect().await).await.unwrap_err();
    assert!(none.to_string().contains("CertificateRequired"), "{none}");
    let pair = folder.theirs.signs(expired);
    let old = folder.caller().shows(&pair).asks(running.connect().await).await.unwrap_err();
    assert!(old.to_string().contains("CertificateExpired"), "{old}");
}

#[tokio::test]
async fn where_it_is_optional_a_caller_without_a_certificate_is_nobody() {
    let folder = Folder::new();
    let mut tls = folder.mutual();
    tls.client_optional = true;
    let running = start(settings(tls), names);
    let answer = folder.caller().asks(running.connect().await).await.unwrap();
    assert!(answer.ends_with("nobody"), "{answer}");
    let pair = folder.theirs.caller(vec![dns("a")]);
    assert_eq!(told(&running, &folder, &pair).await, r#"names ["a"]"#);
}

#[tokio::test]
async fn a_certificate_that_nobody_asked_for_is_not_believed() {
    let folder = Folder::new();
    let running = start(settings(folder.tls()), names);
    let pair = folder.theirs.caller(vec![dns("a")]);
    assert_eq!(told(&running, &folder, &pair).await, "nobody");
}

#[tokio::test]
async fn sessions_are_resumed_only_where_no_caller_shows_a_certificate() {
    let folder = Folder::new();
    let pair = folder.theirs.caller(vec![dns("a")]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (tls, again) in
            [(folder.tls(), HandshakeKind::Resumed), (folder.mutual(), HandshakeKind::Full)]
        {
            let running = start(settings(tls), echo);
            let caller = folder.caller().shows(&pair).speaks(version, &folder);
            for expected in [HandshakeKind::Full, again] {
                let mut stream = caller.shakes(running.connect().await).await.unwrap();
                get(&mut stream, "/a").await;
                assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
                stream.shutdown().await.unwrap();
            }
        }
    }
}

//! Who is told by what, and what each may do.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use omnigate::base::{CallerId, Certificate, Entrance, Peer, Priority, Remote, RouteId};
use omnigate::caller::{Caller as Who, CallerSettings, Cidr, Match, Rate, TokenDigest};
use omnigate::telemetry::Exposition;

use crate::harness::{Answer, Caller, House, Plan, SECOND, get};

const SPIFFE: &str = "spiffe://acme/ns/bi/sa/reports";

/// Told by token, certificate, user and address. Each is held to `lists`, with 2 calls a minute.
fn callers() -> Vec<CallerSettings> {
    let rules = [
        ("keyed", Match::Token(TokenDigest::of(b"t-keyed"))),
        ("mesh", Match::San(SPIFFE.to_owned())),
        ("user", Match::Uid(1001)),
        ("cluster", Match::Cidr(Cidr::parse("10.0.0.0/8").unwrap())),
    ];
    let held = |(name, rule)| CallerSettings {
        matches: vec![rule],
        caller: Who {
            id: CallerId::new(name),
            routes: Some(vec![RouteId::new("lists")]),
            priority: Priority::Batch,
            max_priority: Priority::Batch,
            rate: Some(Rate { limit: NonZeroU32::new(2).unwrap(), window: 60 * SECOND }),
            ..Who::anonymous()
        },
    };
    rules.map(held).to_vec()
}

async fn house() -> House {
    let more = "[[routes]]\nname = \"lists\"\npath = \"/api/v1/labels\"\ncredential = \"org\"";
    Plan { more: more.to_owned(), callers: callers(), ..Plan::default() }.build().await
}

fn tcp(address: &str) -> Peer {
    Peer::plain(Remote::Tcp(SocketAddr::new(address.parse().unwrap(), 50_000)), None)
}

fn certified(names: &[&str]) -> Peer {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Peer { certificate: Some(Arc::new(Certificate { names })), secure: true, ..tcp("192.168.0.1") }
}

fn strict(peer: Peer) -> Peer {
    Peer { entrance: Arc::new(Entrance { anonymous: false, required: None }), ..peer }
}

async fn call(house: &House, peer: Peer, path: &str, fields: &[(&str, &str)]) -> Answer {
    let request =
        fields.iter().fold(get(path), |request, (name, value)| request.header(*name, *value));
    let request: Request<Full<Bytes>> = request.body(Full::default()).unwrap();
    Caller::http1(house.connect_as(peer)).await.call(request).await
}

fn is(answer: &Answer, status: u16, kind: &str) {
    assert_eq!(answer.status, status, "{:?}", answer.body);
    assert_eq!(answer.json()["type"], format!("urn:omnigate:problem:{kind}"));
}

#[tokio::test(start_paused = true)]
async fn each_is_told_by_its_own_evidence_and_held_to_its_route_and_its_cap() {
    let house = house().await;
    let token: &[(&str, &str)] = &[("x-omnigate-token", "t-keyed")];
    let unix = Peer::plain(Remote::Unix { uid: Some(1001) }, None);
    let mut arrived = 0;
    for (who, peer, shows) in [
        ("keyed", tcp("192.168.0.1"), token),
        ("mesh", certified(&["x.internal", SPIFFE]), &[]),
        ("user", unix, &[]),
        ("cluster", tcp("10.1.2.3"), &[]),
    ] {
        let peer = strict(peer);
        let refused = call(&house, peer.clone(), "/api/v1/whoami", shows).await;
        is(&refused, 403, "caller-denied");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(who) && detail.contains("all"), "{detail}");
        assert_eq!(house.omni.arrived(), arrived, "{who}");
        for _ in 0..2 {
            assert_eq!(call(&house, peer.clone(), "/api/v1/labels", shows).await.status, 200);
        }
        // Nobody spends another's cap.
        is(&call(&house, peer.clone(), "/api/v1/labels", shows).await, 429, "caller-limit");
        arrived += 2;
        assert_eq!(house.omni.arrived(), arrived, "{who}");
    }
    for arrival in house.omni.arrivals() {
        assert!(!arrival.headers.keys().any(|name| name.as_str().starts_with("x-omnigate")));
    }
    let text = house.rooms.telemetry.metrics.render(&Default::default(), Exposition::Classic);
    for who in ["keyed", "mesh", "user", "cluster"] {
        let batch =
            |line: &str| line.contains(&format!("caller=\"{who}\"")) && line.contains("batch");
        assert!(text.lines().any(batch), "{who} is not at batch:\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_not_known_gets_nothing() {
    let house = house().await;
    let wrong_own = ("x-omnigate-token", "t-keye");
    let wrong_bearer = ("authorization", "Bearer t-keye");
    let right = ("x-omnigate-token", "t-keyed");
    let user = Peer::plain(Remote::Unix { uid: Some(1001) }, None);
    for (peer, shows) in [
        (strict(tcp("192.168.0.1")), &[][..]),
        (strict(tcp("127.0.0.1")), &[("x-omnigate-caller", "keyed")]),
        (strict(Peer::plain(Remote::Unix { uid: Some(1002) }, None)), &[]),
        (strict(certified(&["spiffe://acme/ns/bi/sa/other"])), &[]),
        (strict(tcp("192.168.0.1")), &[wrong_bearer]),
        (strict(tcp("192.168.0.1")), &[("authorization", "Basic dC1rZXllZA==")]),
        // A wrong token is no way to be somebody else either.
        (strict(tcp("10.1.2.3")), &[wrong_bearer]),
        (strict(tcp("10.1.2.3")), &[wrong_own]),
        (user.clone(), &[wrong_own]),
        (user, &[right, right]),
        (Peer::pipe(), &[wrong_own]),
        (Peer::pipe(), &[wrong_own, ("authorization", "Bearer t-keyed")]),
    ] {
        let answer = call(&house, peer, "/api/v1/labels", shows).await;
        is(&answer, 401, "caller-unknown");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"omnigate\"");
        let said = String::from_utf8_lossy(&answer.body);
        assert!(!said.contains("t-key"), "{said}");
    }
    assert_eq!(house.omni.arrived(), 0);
    // A client's dummy key is no wrong token where strangers are let in.
    let dummy = [("authorization", "Bearer dummy")];
    assert_eq!(call(&house, Peer::pipe(), "/api/v1/labels", &dummy).await.status, 200);
    assert_eq!(house.omni.arrived(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_asks_for_a_field_is_closed_to_who_does_not_send_it() {
    let house = house().await;
    let required = Some(("x-omnigate".parse().unwrap(), "1".parse().unwrap()));
    let entrance = Arc::new(Entrance { anonymous: true, required });
    let peer = Peer { entrance, ..Peer::pipe() };
    for shows in [
        &[][..],
        &[("x-omnigate-token", "t-keyed")],
        &[("x-omnigate", "2")],
        &[("x-omnigate", "1"), ("x-omnigate", "1")],
    ] {
        is(&call(&house, peer.clone(), "/api/v1/labels", shows).await, 403, "caller-denied");
    }
    assert_eq!(house.omni.arrived(), 0);
    let shows = [("x-omnigate", "1")];
    assert_eq!(call(&house, peer, "/api/v1/labels", &shows).await.status, 200);
    assert!(!house.omni.arrivals()[0].headers.contains_key("x-omnigate"));
}

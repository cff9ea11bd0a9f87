//! Path confusion: no target, however it is written, takes a key to another's route.
//!
//! A route for persons stands beside routes for administrators, and everything else has a key of its
//! own. Every hostile target that goes through must lead to the route of the key that went along, to
//! every server there is.

mod corpus;
mod readings;

use std::collections::{BTreeMap, BTreeSet};

use http::header::HOST;
use omnigate::fake_omni::{Key, KeyKind, Sender};
use omnigate::route::CanonicalPath;
use readings::{Owner, decoded, owners};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{House, Plan};

async fn house() -> House {
    let mut plan = Plan {
        budget: "limit = 2000\nprofile = \"burst\"".to_owned(),
        credential: "\"rest\"".to_owned(),
        more: r#"
            [credentials.pat]
            kind = "personal"
            secret = "pat"
            budget = "omni"
            [credentials.rest]
            kind = "organization"
            secret = "rest"
            budget = "omni"
            [[routes]]
            name = "documents"
            path = "/api/v1/documents/{*rest}"
            credential = "pat"
            [[routes]]
            name = "label"
            path = "/api/v1/labels/{label}"
            credential = "rest"
            [[routes]]
            name = "users"
            path = "/api/v1/users/{*rest}"
            credential = "org"
            sensitive = true
            [[routes]]
            name = "scim"
            path = "/api/scim/{*rest}"
            credential = "org"
            sensitive = true
        "#
        .to_owned(),
        ..Plan::default()
    };
    plan.fake.keys.extend([
        Key::made_up(KeyKind::Personal, "pat"),
        Key::made_up(KeyKind::Organization, "rest"),
    ]);
    plan.build().await
}

/// The status of the answer, and whether it is upstream's; 0 where none came.
async fn send(house: &House, head: &[u8]) -> (u16, bool) {
    let mut caller = house.connect();
    // It may be refused before all of it was read.
    let _ = caller.write_all(head).await;
    let mut answer = Vec::new();
    let _ = caller.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text.contains("received-status="))
}

/// The path and the query of a target as it was sent.
fn split(head: &[u8]) -> (&[u8], &[u8]) {
    let mut words = head.splitn(3, |byte| *byte == b' ');
    let mut target = words.nth(1).unwrap();
    if !target.starts_with(b"/") {
        let scheme = target.windows(3).position(|three| three == b"://").unwrap() + 3;
        let path = target[scheme..].iter().position(|byte| b"/?#".contains(byte));
        target = &target[path.map_or(target.len(), |path| scheme + path)..];
    }
    let end = target.iter().position(|byte| *byte == b'#').unwrap_or(target.len());
    match target[..end].iter().position(|byte| *byte == b'?') {
        Some(at) => (&target[..at], &target[at..end]),
        None => (&target[..end], b""),
    }
}

#[tokio::test(start_paused = true)]
async fn no_hostile_target_takes_a_key_to_another_route() {
    let house = house().await;
    let heads = corpus::all();
    assert!(heads.len() >= 5_000, "{}", heads.len());
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    let mut went = Vec::new();
    for head in &heads {
        let before = house.omni.arrived();
        let (status, is_upstreams) = send(&house, head).await;
        *statuses.entry(status).or_default() += 1;
        let shown = || String::from_utf8_lossy(&head[..head.len().min(200)]).into_owned();
        let arrived = house.omni.arrived() - before;
        assert_eq!(arrived, usize::from(is_upstreams), "{status}: {}", shown());
        if is_upstreams {
            went.push(head);
        } else {
            assert!(matches!(status, 0 | 400..=499), "{status}: {}", shown());
        }
    }
    let (arrivals, departures) = (house.omni.arrivals(), house.road.departures());
    assert_eq!((arrivals.len(), departures.len()), (went.len(), went.len()));
    let mut reached: BTreeMap<Owner, usize> = BTreeMap::new();
    for ((head, arrival), departure) in went.iter().zip(&arrivals).zip(&departures) {
        let (path, query) =
            departure.target.split_at(departure.target.find('?').unwrap_or(departure.target.len()));
        let shown = format!("{} as {path}", String::from_utf8_lossy(&head[..head.len().min(200)]));
        let owner = match &arrival.sender {
            Sender::Owner(name) if **name == *"pat" => Owner::Pat,
            Sender::Owner(name) if **name == *"org" => Owner::Org,
            Sender::Owner(_) => Owner::Rest,
            Sender::Invalid | Sender::Malformed => panic!("no key of ours: {shown}"),
        };
        assert_eq!(owners(path.as_bytes()), BTreeSet::from([owner]), "{shown}");
        // What was matched is what is sent: the canonical form, and the first decoding is the caller's.
        assert_eq!(CanonicalPath::parse(path).unwrap().as_str(), path, "{shown}");
        let (meant, asked) = split(head);
        let meant = if meant.is_empty() { b"/" } else { meant };
        assert_eq!(decoded(path.as_bytes()), decoded(meant), "{shown}");
        assert_eq!(query.as_bytes(), asked, "{shown}");
        assert_eq!(arrival.headers[HOST], "127.0.0.1:9", "{shown}");
        assert_eq!(arrival.authorizations, 1, "{shown}");
        *reached.entry(owner).or_default() += 1;
    }
    println!("{} targets, by status: {statuses:?}; with each key: {reached:?}", heads.len());
    assert!(statuses[&400] > heads.len() / 2, "{statuses:?}");
    // It is no proof that everything is refused.
    assert!([Owner::Pat, Owner::Org, Owner::Rest].iter().all(|one| reached[one] > 20));
}

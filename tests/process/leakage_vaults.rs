//! Secrets that occur nowhere else, in every kind of place, through everything that can be wrong
//! with it; and then a search in all that was said, told and written.

use std::fs;
use std::path::Path;

use futures_util::future::join_all;
use omnigate::fake_omni::{Key, KeyKind, Settings};
use rustix::process::Signal;

use crate::harness::disguise::{Search, base64, find};
use crate::harness::safe::{Safe, Start};
use crate::harness::{Caller, Gateway, House, Plan, get};

/// With characters that a URL must escape.
const FIRST: &str = "omni_osk_zqfirst+/=7Zk3mT9xW2bV8nR5cY1aD4eF6gH7iJ0kL2oP5sU8tXv4yQ";
const SECOND: &str = "omni_osk_zqsecond/=+9Lw5rB1nC6vX3zM8kJ2hG7fD4sA0pO5iU9yT1eW6qR3mK";
const PAGES: [&str; 5] = ["/livez", "/readyz", "/metrics", "/none", "/-/reload"];

fn keys() -> Vec<Key> {
    [FIRST, SECOND].map(|token| Key::new(KeyKind::Organization, "org", token)).to_vec()
}

async fn house(vault: [String; 2]) -> House {
    let usual = Plan::default();
    let fake = Settings { keys: keys(), ..usual.fake };
    Plan { vault, fake, log: "trace", ..usual }.build().await
}

/// What a caller and an operator are told now.
async fn ask(gateway: &Gateway) -> String {
    let mut told = Vec::new();
    for path in ["/api/v1/whoami", "/api/v1/none"] {
        told.push(gateway.get(path).await);
    }
    // HTTP/2 has most to say at trace level.
    let mut h2 = Caller::connect_h2(gateway.address()).await;
    told.push(h2.call(get("/api/v1/whoami")).await.unwrap());
    for page in PAGES {
        told.push(gateway.admin(page).await);
    }
    told.push(gateway.tell("/-/reload").await);
    told.push(gateway.tell("/-/credentials/org/test").await);
    told.iter().map(|one| format!("{:?}\n{}\n", one.headers, one.text())).collect()
}

/// All that is in a folder, names too.
fn written(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all += &format!("{}\n", path.display());
        if path.is_dir() {
            all += &written(&path);
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            // Most of the ledger is room for what is to come.
            for part in bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty()) {
                all += &String::from_utf8_lossy(part);
                all.push('\n');
            }
        }
    }
    all
}

/// A life with everything that can happen; gives all that came out of it.
async fn live(safe: &Safe) -> String {
    let house = house(safe.lines.clone()).await;
    let gateway = house.start().await;
    let mut all = ask(&gateway).await;
    for harm in safe.harms_while_it_runs() {
        (harm.does)();
        all += &ask(&gateway).await;
        safe.mend(FIRST);
    }
    // Another value, told by a signal; then Omni refuses it.
    safe.mend(SECOND);
    gateway.signal(Signal::HUP);
    gateway.says("credential refreshed").await;
    all += &ask(&gateway).await;
    house.omni.set_keys(Vec::new());
    all += &ask(&gateway).await;
    all += &ask(&gateway).await;
    gateway.signal(Signal::TERM);
    all += &gateway.ends().await.said;
    // And starts that fail, or that come to nothing.
    for harm in &safe.harms {
        safe.mend(FIRST);
        (harm.does)();
        all += &house.spawn().ends().await.said;
    }
    let harm = safe.harms.iter().find(|harm| harm.at_start == Start::Credential).unwrap();
    safe.mend(FIRST);
    (harm.does)();
    let degraded = self::house(safe.degraded()).await;
    let gateway = degraded.start().await;
    all += &ask(&gateway).await;
    gateway.signal(Signal::TERM);
    all += &gateway.ends().await.said;
    all + &written(&house.folder().join("state"))
}

#[tokio::test]
async fn nothing_of_a_secret_shows_through_any_failure_of_any_place() {
    let all = Safe::each(FIRST).await;
    let lives = join_all(all.iter().map(async |safe| live(safe).await)).await;
    for (safe, text) in all.iter().zip(lives) {
        let (name, planted) = (&safe.name, safe.planted());
        let traces = text.lines().filter(|line| line.contains("\"level\":\"TRACE\"")).count();
        assert!(traces > 0, "{name}: the log was not at trace level");
        for word in ["credential not readable", "credential refreshed", "\"exchange\"", "rejected"]
        {
            assert!(text.contains(word), "{name}: a search would find nothing: no {word}");
        }
        let search = Search::of(planted.iter().map(String::as_str));
        assert_eq!(search.find(&text), None, "{name}: something shows");
        // It would have been found.
        for secret in &planted {
            let page = format!("{{\"message\":\"{}\"}}", base64(secret.as_bytes()));
            assert!(search.find(&page).is_some(), "{name}");
        }
        println!(
            "{name}: {} secrets searched for in {} KiB, {traces} lines of it at trace level: 0 finds",
            planted.len(),
            text.len() / 1024
        );
    }
}

#[tokio::test]
async fn nothing_of_a_variable_shows() {
    let lines = ["backend = \"env\"", "secret = \"OMNI_API_KEY\""].map(str::to_owned);
    let house = house(lines).await;
    let mut gateway = Gateway::spawn(&house.config(), &[("OMNI_API_KEY", FIRST)]);
    gateway.serves().await;
    let mut all = ask(&gateway).await;
    house.omni.set_keys(Vec::new());
    all += &ask(&gateway).await;
    gateway.signal(Signal::TERM);
    all += &gateway.ends().await.said;
    for value in [format!("{FIRST} {FIRST}"), format!("\"{FIRST}\""), FIRST.repeat(2_000)] {
        let ended = Gateway::spawn(&house.config(), &[("OMNI_API_KEY", &value)]).ends().await;
        assert_eq!(ended.status.code(), Some(78));
        all += &ended.said;
    }
    all += &written(&house.folder().join("state"));
    assert_eq!(find(FIRST, &all), None);
}

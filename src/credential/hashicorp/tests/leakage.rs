use std::io;
use std::sync::Mutex;

use tokio::time::sleep;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::base::CredentialId;
use crate::credential::{CredentialSettings, Credentials, Kind, OnMissing, Source, State};
use crate::fake_vault::Trouble;

/// Secrets that occur nowhere else, with characters that a URL must escape.
const VALUE: &str = "omni_osk_zqvalue+/=7Zk3mT9xW2bV8nR5cY1aD4eF6gH7iJ0kL2";
const SECRET: &str = "zqsecretid+/=-1347-aa90-a4f6-aca8b7558780";
const JWT: &str = "eyJzqjwt.9xW2bV8nR5cY1aD4eF6gH7iJ0kL2.c2lnbmF0dXJl_-";
const GIVEN: &str = "hvs.zqgiven9xW2bV8nR5cY1aD4eF6gH7iJ0kL2";

#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn add(&self, text: impl AsRef<str>) {
        self.0.lock().unwrap().extend_from_slice(text.as_ref().as_bytes());
    }
}

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Said {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn base64(bytes: &[u8], digits: &[u8; 64]) -> String {
    let groups = bytes.chunks(3).flat_map(|group| {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        (0..=group.len()).map(move |nth| char::from(digits[(bits >> (18 - 6 * nth) & 63) as usize]))
    });
    groups.collect()
}

/// How a secret may show: whole or in part, escaped, as numbers, and in the middle of base64.
fn disguises(secret: &str) -> Vec<String> {
    let mut standard = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut all = vec![secret.to_owned(), secret[6..26].to_owned()];
    let escaped = |c: u8| match c {
        b'+' | b'/' | b'=' => format!("%{c:02X}"),
        c => char::from(c).to_string(),
    };
    all.push(secret.bytes().map(escaped).collect());
    all.push(secret.bytes().map(|c| format!("{c:02x}")).collect::<String>()[8..48].to_owned());
    all.push(all[3].to_uppercase());
    // As a list of numbers, which is how bytes show themselves.
    all.push(secret.bytes().map(|c| format!("{c}, ")).collect::<String>()[..60].to_owned());
    for _ in 0..2 {
        for shift in 0..3 {
            let text = base64(&[&vec![0; shift], secret.as_bytes()].concat(), &standard);
            all.push(text[4..40].to_owned());
        }
        standard[62..].copy_from_slice(b"-_");
    }
    all
}

async fn drive(house: &House, login: Login, said: &Said) {
    let settings = HashicorpSettings { login, ..house.settings.clone() };
    let vault = Arc::new(settings);
    let credentials = |path: &str| {
        let (path, field) = (path.to_owned(), "token".to_owned());
        let source = Source::Hashicorp { vault: vault.clone(), path, field };
        let (id, kind) = (CredentialId::new("org"), Kind::Organization);
        vec![CredentialSettings { id, kind, source, on_missing: OnMissing::Degrade }]
    };
    let way = house.way();
    for path in ["omni", "elsewhere", "odd"] {
        let all = Credentials::open_over(credentials(path), &|_| Some(way.clone())).await.unwrap();
        let (all, stop) = (Arc::new(all), CancellationToken::new());
        let watch = tokio::spawn(all.clone().watch(stop.clone()));
        let troubles = [
            None,
            Some(Trouble::Down),
            Some(Trouble::Sealed),
            Some(Trouble::Slow(SECOND * 20)),
            Some(Trouble::Status(400)),
            Some(Trouble::Status(403)),
            Some(Trouble::Status(404)),
            Some(Trouble::Status(500)),
            Some(Trouble::Says("{\"data\":{\"data\":{\"token\":\"zq")),
            None,
        ];
        for trouble in troubles {
            house.vault.set_trouble(trouble);
            sleep(Duration::from_secs(200)).await;
            all.refresh().await;
            for one in all.iter() {
                said.add(format!("{all:?} {one:#?} {:?} {:?}", one.state(), one.bearer()));
                if let State::Stale { why, .. } | State::Missing { why } = one.state() {
                    said.add(format!("{why}"));
                }
            }
        }
        house.vault.set_trouble(None);
        house.vault.revoke_tokens();
        house.vault.adopt_token(GIVEN, Terms::renewable(TTL));
        all.refresh().await;
        said.add(format!("{all:?}"));
        stop.cancel();
        watch.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn no_log_no_error_and_no_debug_shows_anything_of_a_secret() {
    let said = Said::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(said.clone())
        .finish();
    // With one subscriber alone, tracing asks that of whichever thread comes to an event first,
    // which may be another test's and have none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _here = tracing::subscriber::set_default(subscriber);
    let house = House::new(Terms::renewable(TTL));
    house.vault.app_role("approle", ROLE_ID, SECRET, Terms::renewable(TTL));
    house.vault.kubernetes("kubernetes", "omnigate", JWT, Terms::renewable(TTL));
    house.vault.adopt_token(GIVEN, Terms::renewable(TTL));
    house.vault.write("omni", json!({ "token": VALUE }));
    house.vault.write("odd", json!({ "token": [VALUE], VALUE: 1 }));
    let wrapping = house.vault.wrap(SECRET, TTL);
    let secret_id = house.keep("secret-id", SECRET);
    let odd = house.keep("odd", &format!("{SECRET} {GIVEN}"));
    let wrapped = house.keep("wrapped", &wrapping);
    let (jwt, given) = (house.keep("jwt", JWT), house.keep("given", GIVEN));
    let (mount, role) = ("kubernetes".to_owned(), "omnigate".to_owned());
    for login in [
        app_role(&secret_id, false),
        app_role(&wrapped, true),
        app_role(&odd, false),
        Login::Kubernetes { mount, role, jwt },
        Login::Token(Held::File(given)),
    ] {
        drive(&house, login, &said).await;
    }
    let text = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
    for word in
        ["vault secret read", "vault log-in not kept", "is sealed", "credential readable again"]
    {
        assert!(text.contains(word), "the search would find nothing: {word} is not there");
    }
    for secret in [VALUE, SECRET, JWT, GIVEN, &wrapping] {
        for disguise in disguises(secret) {
            assert!(!text.contains(&disguise), "{disguise}");
        }
    }
    assert!(!text.contains("hvs.CAES"), "a token that Vault gave");
}

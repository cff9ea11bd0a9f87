//! Everything that can be wrong between the gateway and a Vault server: at the start, and while it
//! runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http_body_util::Full;
use omnigate::base::CredentialId;
use omnigate::credential::State;
use omnigate::fake_vault::{FakeVault, Terms, TokenSeen, Trouble};
use omnigate::net::Dial;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::harness::{House, Plan, SECOND, Timed, get, key};

const UNAVAILABLE: &str = "urn:omnigate:problem:credential-unavailable";
/// How every error names the place.
const PLACE: &str = "the field token of secret/data/omni in the Vault server 127.0.0.1";
/// A refresh, the time limit of its request, and a moment.
const SEEN: Duration = Duration::from_secs(60 + 10 + 2);

/// A Vault server, and the folder with what the gateway logs in with.
struct Server {
    fake: FakeVault,
    folder: TempDir,
}

/// One thing that is wrong, and the words for it.
struct Harm {
    does: fn(&Server),
    says: &'static str,
}

const HARMS: [Harm; 20] = [
    Harm { does: |it| it.ails(Trouble::Down), says: "cannot be reached" },
    Harm { does: |it| it.ails(Trouble::Sealed), says: "is sealed; it must be unsealed" },
    Harm { does: |it| it.ails(Trouble::Slow(30 * SECOND)), says: "did not answer within 10 s" },
    Harm { does: |it| it.ails(Trouble::Status(500)), says: "fails (status 500)" },
    Harm { does: |it| it.ails(Trouble::Status(503)), says: "fails (status 503)" },
    Harm { does: |it| it.ails(Trouble::Status(429)), says: "limits its callers (status 429)" },
    Harm { does: |it| it.ails(Trouble::Status(473)), says: "is a standby" },
    Harm { does: |it| it.ails(Trouble::Status(307)), says: "points to another one (status 307)" },
    Harm { does: |it| it.ails(Trouble::Says("<html>")), says: "is not a Vault server's" },
    Harm {
        does: |it| it.fake.deny("secret/data/omni", true),
        says: "its policy must allow `read` on secret/data/omni",
    },
    Harm {
        does: |it| it.log_in_with("another"),
        says: "refuses the log-in by AppRole (status 400)",
    },
    Harm { does: Server::lose_secret_id, says: "secret-id is not there" },
    Harm { does: Server::expose_secret_id, says: "run: chmod 600" },
    Harm { does: |it| it.keep(""), says: "the secret id is empty or not one plain word" },
    Harm { does: |it| it.fake.delete("omni"), says: "is deleted; write a new one or undelete it" },
    Harm { does: |it| it.fake.destroy("omni"), says: "is deleted; write a new one or undelete it" },
    Harm { does: |it| it.holds(&json!({ "key": "x" })), says: "has no such field" },
    Harm { does: |it| it.holds(&json!({ "token": 7 })), says: "is not a text" },
    Harm { does: |it| it.holds(&json!({ "token": "" })), says: "holds no token: it is empty" },
    Harm { does: |it| it.holds(&json!({ "token": "a b" })), says: "has a blank at byte 1" },
];

impl Server {
    fn new() -> Self {
        let server = Self { fake: FakeVault::default(), folder: tempfile::tempdir().unwrap() };
        server.mend("first");
        server
    }

    fn ails(&self, trouble: Trouble) {
        self.fake.set_trouble(Some(trouble));
    }

    fn holds(&self, fields: &serde_json::Value) {
        self.fake.write("omni", fields.clone());
    }

    /// Only this secret id is good from now on, and no token.
    fn log_in_with(&self, secret_id: &str) {
        self.fake.app_role("approle", "omnigate", secret_id, Terms::renewable(30 * SECOND));
        self.fake.revoke_tokens();
    }

    /// Puts a text where the secret id is; nobody has a token any more.
    fn keep(&self, secret_id: &str) {
        let path = self.folder.path().join("secret-id");
        fs::write(&path, secret_id).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.fake.revoke_tokens();
    }

    fn lose_secret_id(&self) {
        fs::remove_file(self.folder.path().join("secret-id")).unwrap();
        self.fake.revoke_tokens();
    }

    fn expose_secret_id(&self) {
        let path = self.folder.path().join("secret-id");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        self.fake.revoke_tokens();
    }

    /// Sets everything right, with a secret id that was not refused before.
    fn mend(&self, secret_id: &str) {
        self.fake.set_trouble(None);
        self.fake.deny("secret/data/omni", false);
        self.log_in_with(secret_id);
        self.keep(secret_id);
        self.holds(&json!({ "token": key().token() }));
    }

    /// A gateway whose key is there, by AppRole; `more` are lines of its credential.
    fn plan(&self, more: &str) -> Plan {
        self.plan_by("approle", "role_id = \"omnigate\", secret_id_file", more)
    }

    fn plan_by(&self, method: &str, file: &str, more: &str) -> Plan {
        let (dial, pipes) = Dial::pipe();
        tokio::spawn(self.fake.clone().serve_pipes(pipes));
        let path = self.folder.path().join("secret-id");
        let vault = format!(
            "backend = \"hashicorp\"\naddress = \"http://127.0.0.1:8200\"\n\
             auth = {{ method = \"{method}\", {file} = \"{}\" }}",
            path.display()
        );
        let org = format!("secret = \"omni\"\n{more}");
        Plan { vault: Some([vault, org]), way: Some(dial), ..Plan::default() }
    }
}

async fn call(house: &House) -> Timed {
    house.call(get("/api/v1/labels").body(Full::default()).unwrap()).await.await.unwrap()
}

fn state(house: &House) -> State {
    house.rooms.credentials.get(&CredentialId::new("org")).unwrap().state()
}

/// What is wrong with the key's place, where the last good value is kept.
fn stale(house: &House) -> String {
    match state(house) {
        State::Stale { why, .. } => why.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_fails_and_names_the_credential_and_the_server() {
    for (nth, Harm { does, says }) in HARMS.iter().enumerate() {
        let server = Server::new();
        does(&server);
        let begun = Instant::now();
        let said = server.plan("").refused().await;
        println!("{said}");
        assert!(said.starts_with(&format!("credential `org`: {PLACE}")), "{nth}: {said}");
        assert!(said.contains(says), "{nth}: {said}");
        assert!(begun.elapsed() <= 11 * SECOND, "{nth}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_may_degrade_answers_503_and_heals_by_itself() {
    for (nth, Harm { does, says }) in HARMS.iter().enumerate() {
        let server = Server::new();
        does(&server);
        let house = server.plan("on_missing = \"degrade\"").build().await;
        house.keep_keys();
        let refused = call(&house).await;
        assert_eq!(refused.status(), 503, "{nth}");
        assert_eq!(refused.answer.unwrap().json()["type"], UNAVAILABLE, "{nth}");
        let State::Missing { why } = state(&house) else { panic!("{nth}: {:?}", state(&house)) };
        assert!(why.to_string().contains(says), "{nth}: {why}");
        assert_eq!(house.omni.arrived(), 0, "{nth}: it cost something");
        server.mend("second");
        let mended = Instant::now();
        while call(&house).await.status() != 200 {
            sleep(SECOND).await;
            assert!(mended.elapsed() <= 60 * SECOND, "{nth} ({says}): {:?}", state(&house));
        }
        assert!(matches!(state(&house), State::Ready { .. }), "{nth}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_it_runs_leaves_the_last_good_value() {
    let server = Server::new();
    let house = server.plan("").build().await;
    house.keep_keys();
    let one = house.rooms.credentials.get(&CredentialId::new("org")).unwrap();
    let begun = Instant::now();
    for (nth, Harm { does, says }) in HARMS.iter().enumerate() {
        assert!(matches!(state(&house), State::Ready { .. }), "{nth}: {:?}", state(&house));
        does(&server);
        sleep(SEEN).await;
        let why = stale(&house);
        assert!(why.starts_with(PLACE) && why.contains(says), "{nth}: {why}");
        assert_eq!(call(&house).await.status(), 200, "{nth}");
        assert!(one.age().unwrap() >= begun.elapsed() - SECOND, "{nth}: it is the same value");
        server.mend(&format!("secret-id-{nth}"));
        sleep(SEEN).await;
    }
    assert!(matches!(state(&house), State::Ready { .. }));
    let ours = format!("Bearer {}", key().token());
    assert!(house.omni.arrivals().iter().all(|one| one.headers[AUTHORIZATION] == ours));
    println!("{} troubles in {:?}, and every call was served", HARMS.len(), begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_log_in_that_was_revoked_is_made_anew_and_nobody_notices() {
    let server = Server::new();
    let house = server.plan("").build().await;
    house.keep_keys();
    for _ in 0..10 {
        sleep(61 * SECOND).await;
        server.fake.revoke_tokens();
        assert_eq!(call(&house).await.status(), 200);
        assert!(matches!(state(&house), State::Ready { .. }), "{:?}", state(&house));
    }
    println!("revoked 10 times: {} log-ins", server.fake.count("/login"));
    assert!((10..=12).contains(&server.fake.count("/login")));
    assert_eq!(server.fake.complaints(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_30_s_is_renewed_for_an_hour_without_a_gap() {
    let server = Server::new();
    let house = server.plan("").build().await;
    house.keep_keys();
    for _ in 0..60 {
        sleep(60 * SECOND).await;
        assert!(matches!(state(&house), State::Ready { .. }), "{:?}", state(&house));
    }
    let (log_ins, renewals) = (server.fake.count("/login"), server.fake.count("/renew-self"));
    let reads = server.fake.count("secret/data/omni");
    println!("one hour: {log_ins} log-in, {renewals} renewals, {reads} reads");
    assert!(log_ins == 1 && renewals >= 20 && (59..=61).contains(&reads));
    let good = |seen| matches!(seen, TokenSeen::Good | TokenSeen::Absent);
    assert!(server.fake.asked().iter().all(|asked| good(asked.token)), "a dead token was used");
    assert_eq!(server.fake.complaints(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_runs_out_stops_a_start_but_no_call_and_another_one_heals() {
    let server = Server::new();
    let brief = Terms { ttl: 30 * SECOND, max_ttl: None, renewable: false };
    server.keep("hvs.first");
    server.fake.adopt_token("hvs.first", brief);
    let house = server.plan_by("token", "token_file", "").build().await;
    house.keep_keys();
    sleep(SEEN).await;
    assert!(stale(&house).contains("does not take the token: it has expired"));
    assert_eq!(call(&house).await.status(), 200);
    let said = server.plan_by("token", "token_file", "").refused().await;
    assert!(said.starts_with(&format!("credential `org`: {PLACE}")), "{said}");
    assert!(said.contains("does not take the token: it has expired"), "{said}");
    server.keep("hvs.second");
    server.fake.adopt_token("hvs.second", Terms::renewable(60 * SECOND));
    sleep(SEEN).await;
    assert!(matches!(state(&house), State::Ready { .. }), "{:?}", state(&house));
    assert_eq!(call(&house).await.status(), 200);
}

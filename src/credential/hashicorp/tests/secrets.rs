use tokio::time::sleep;

use super::*;
use crate::base::CredentialId;
use crate::credential::{
    Credential, CredentialSettings, Credentials, Kind, OnMissing, Source, State,
};
use crate::fake_vault::{Engine, Trouble};

fn credential(house: &House, id: &str, field: &str, on_missing: OnMissing) -> CredentialSettings {
    let (path, field) = ("omni".to_owned(), field.to_owned());
    let vault = Arc::new(house.settings.clone());
    let source = Source::Hashicorp { vault, path, field };
    CredentialSettings { id: CredentialId::new(id), kind: Kind::Organization, source, on_missing }
}

struct Watched {
    all: Arc<Credentials>,
    _stop: tokio_util::sync::DropGuard,
}

impl Watched {
    async fn start(house: &House, settings: Vec<CredentialSettings>) -> Self {
        let way = house.way();
        let all = Credentials::open_over(settings, &|_| Some(way.clone())).await.unwrap();
        let (all, stop) = (Arc::new(all), CancellationToken::new());
        tokio::spawn(all.clone().watch(stop.clone()));
        Self { all, _stop: stop.drop_guard() }
    }

    fn get(&self, id: &str) -> Arc<Credential> {
        self.all.get(&CredentialId::new(id)).unwrap()
    }

    fn bearer(&self, id: &str) -> String {
        self.get(id).bearer().unwrap().field.to_str().unwrap().to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_version_is_the_new_bearer_within_the_refresh_interval() {
    let house = House::new(Terms::renewable(TTL));
    let fields = [("org", "token"), ("other", "other")];
    let settings = fields.map(|(id, field)| credential(&house, id, field, OnMissing::Fail));
    let watched = Watched::start(&house, settings.to_vec()).await;
    assert_eq!(
        (&*watched.bearer("org"), &*watched.bearer("other")),
        ("Bearer first", "Bearer value")
    );
    house.vault.write("omni", json!({ "token": "second", "other": "value" }));
    sleep(Duration::from_secs(59)).await;
    assert_eq!(watched.bearer("org"), "Bearer first");
    sleep(SECOND * 2).await;
    assert_eq!(watched.bearer("org"), "Bearer second");
    assert!(watched.get("org").age().unwrap() < SECOND * 2);
    assert!(watched.get("other").age().unwrap() > SECOND * 60, "its own value is the old one");
    sleep(Duration::from_secs(600)).await;
    assert_eq!(house.log_ins(), 1, "they share a session, and it is kept");
    house.check();
}

#[tokio::test(start_paused = true)]
async fn the_last_good_value_outlives_every_trouble_with_its_age() {
    let house = House::new(Terms::renewable(TTL));
    let watched =
        Watched::start(&house, vec![credential(&house, "org", "token", OnMissing::Fail)]).await;
    let troubles = [
        Trouble::Down,
        Trouble::Sealed,
        Trouble::Slow(SECOND * 30),
        Trouble::Status(429),
        Trouble::Status(500),
        Trouble::Says("{}"),
    ];
    for (nth, trouble) in troubles.into_iter().enumerate() {
        house.vault.set_trouble(Some(trouble));
        sleep(Duration::from_secs(180)).await;
        assert_eq!(watched.bearer("org"), "Bearer first", "{trouble:?}");
        let State::Stale { since, why } = watched.get("org").state() else { panic!("{trouble:?}") };
        assert!(since.elapsed() > SECOND * 100, "{why}");
        assert!(watched.get("org").age().unwrap() >= SECOND * 180 * (nth as u32 + 1));
        house.vault.set_trouble(None);
        sleep(Duration::from_secs(61)).await;
        assert!(matches!(watched.get("org").state(), State::Ready { .. }), "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_fails_and_names_credential_server_and_path_or_degrades_until_it_is_back() {
    let house = House::new(Terms::renewable(TTL));
    for (trouble, words) in [
        (Trouble::Down, "cannot be reached"),
        (Trouble::Sealed, "is sealed; it must be unsealed"),
        (Trouble::Slow(SECOND * 30), "did not answer within 10 s"),
    ] {
        house.vault.set_trouble(Some(trouble));
        let settings = vec![credential(&house, "org", "token", OnMissing::Fail)];
        let way = house.way();
        let errors = Credentials::open_over(settings, &|_| Some(way.clone())).await.unwrap_err();
        let said = errors[0].to_string();
        let start = "credential `org`: the field token of secret/data/omni in the Vault server \
                     vault.internal: ";
        assert!(said.starts_with(start) && said.contains(words), "{said}");
    }
    let settings = vec![credential(&house, "org", "token", OnMissing::Degrade)];
    let watched = Watched::start(&house, settings).await;
    assert!(matches!(watched.get("org").state(), State::Missing { .. }));
    house.vault.set_trouble(None);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(watched.bearer("org"), "Bearer first");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_text_in_a_living_version_is_told_apart() {
    let house = House::new(Terms::renewable(TTL));
    let session = house.session();
    let error = async |path, field| read_at(&session, path, field).await.unwrap_err();
    house.vault.write(
        "odd",
        json!({ "n": 1, "f": 1.5, "b": true, "z": null, "l": ["a"], "o": {"a": {}} }),
    );
    for field in ["n", "f", "b", "z", "l", "o"] {
        let error = error("odd", field).await;
        assert!(matches!(error, HashicorpError::NotText { version: 1 }), "{field}: {error}");
    }
    assert!(matches!(error("odd", "x").await, HashicorpError::NoField { version: 1 }));
    assert!(matches!(error("nowhere", "x").await, HashicorpError::NotThere));
    house.vault.write("large", json!({ "x": "a", "y": "b".repeat(70_000) }));
    assert!(matches!(error("large", "x").await, HashicorpError::TooLarge(_)));
    house.vault.write("omni", json!({ "token": "second" }));
    house.vault.delete("omni");
    assert!(matches!(error("omni", "token").await, HashicorpError::Deleted { version: 2 }));
    house.vault.destroy("omni");
    assert!(matches!(error("omni", "token").await, HashicorpError::Deleted { version: 2 }));
    house.vault.write("omni", json!({ "token": "a \"b\"\n\u{e9}\\" }));
    assert_eq!(read(&session).await.unwrap(), "a \"b\"\n\u{e9}\\");
    house.check();
}

#[tokio::test(start_paused = true)]
async fn an_engine_of_version_1_is_told_apart() {
    let mut house = House::new(Terms::renewable(TTL));
    house.vault = FakeVault::new(Engine::V1 { mount: "secret" }, None);
    house.vault.app_role("approle", ROLE_ID, SECRET_ID, Terms::renewable(TTL));
    house.vault.write("data/omni", json!({ "token": "first" }));
    house.vault.write("data/data", json!({ "data": "first" }));
    house.vault.write("omni", json!({ "token": "first" }));
    let session = house.session();
    for path in ["omni", "data"] {
        let error = read_at(&session, path, "token").await.unwrap_err();
        assert!(matches!(error, HashicorpError::NotKv2), "{error}");
    }
    let error = read_at(&session, "elsewhere", "token").await.unwrap_err();
    assert!(error.to_string().contains("KV version 2"), "{error}");
}

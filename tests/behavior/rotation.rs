//! A key is replaced while calls wait, wherever it is kept.
//!
//! Programs are not here: a child does not live in virtual time. `tests/process/rotation.rs` has them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http_body_util::Full;
use omnigate::base::CredentialId;
use omnigate::credential::age::{Change, Edit, SecretName, Vault};
use omnigate::credential::{AgeSettings, State, Token};
use omnigate::fake_omni::{Arrival, Key, KeyKind, Settings};
use omnigate::fake_vault::{FakeVault, Terms};
use omnigate::net::Dial;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::harness::{Plan, SECOND, fake, get, key};

/// How many calls wait.
const CALLS: usize = 200;

/// A place with a key in it, and how another one gets there.
struct Place {
    name: &'static str,
    vault: [String; 2],
    way: Option<Dial>,
    /// How often it is looked at.
    every: Duration,
    rotate: Box<dyn FnOnce(&Key)>,
}

fn another() -> Key {
    Key::made_up(KeyKind::Organization, "another")
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// As the kubelet does it: a folder for each version, and a link that is swapped.
fn mounted(folder: &Path) -> Place {
    let at = |name: &str| folder.join(name);
    fs::create_dir(at("..2026_01_01")).unwrap();
    fs::write(at("..2026_01_01").join("org"), key().token()).unwrap();
    symlink("..2026_01_01", at("..data")).unwrap();
    symlink("..data/org", at("org")).unwrap();
    let folder = folder.to_owned();
    let path = format!("backend = \"dir\"\npath = \"{}\"", folder.display());
    Place {
        name: "dir",
        vault: [path, "secret = \"org\"".to_owned()],
        way: None,
        every: 5 * SECOND,
        rotate: Box::new(move |key| {
            let at = |name: &str| folder.join(name);
            fs::create_dir(at("..2026_02_02")).unwrap();
            fs::write(at("..2026_02_02").join("org"), key.token()).unwrap();
            symlink("..2026_02_02", at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
            fs::remove_dir_all(at("..2026_01_01")).unwrap();
        }),
    }
}

fn file(folder: &Path) -> Place {
    let path = folder.join("org.token");
    write(&path, key().token());
    Place {
        name: "file",
        vault: [
            "backend = \"file\"".to_owned(),
            format!("secret = {{ path = \"{}\" }}", path.display()),
        ],
        way: None,
        every: 5 * SECOND,
        rotate: Box::new(move |key| {
            let next = path.with_extension("next");
            write(&next, key.token());
            fs::rename(next, path).unwrap();
        }),
    }
}

fn age(folder: &Path) -> Place {
    let (path, identity) = (folder.join("vault.age"), folder.join("identity.txt"));
    let settings = AgeSettings { path, identity };
    Vault::create(&settings).unwrap();
    let set = |settings: &AgeSettings, key: &Key| {
        let mut edit = Edit::begin(settings).unwrap();
        let name = SecretName::parse("org").unwrap();
        let token = Token::parse(key.token().as_bytes()).unwrap();
        let change = edit.vault.set(&name, &token, omnigate::credential::Kind::Organization);
        edit.save().unwrap();
        change
    };
    assert_eq!(set(&settings, &key()), Change::Added);
    let vault = format!(
        "backend = \"age\"\npath = \"{}\"\nidentity = \"{}\"",
        settings.path.display(),
        settings.identity.display()
    );
    Place {
        name: "age",
        vault: [vault, "secret = \"org\"".to_owned()],
        way: None,
        every: 5 * SECOND,
        rotate: Box::new(move |key| assert_eq!(set(&settings, key), Change::Replaced)),
    }
}

/// The lease is so short that it is renewed again and again meanwhile.
fn hashicorp(folder: &Path, fake: &FakeVault) -> Place {
    let secret_id = folder.join("secret-id");
    write(&secret_id, "84896a0c-1347-aa90");
    fake.app_role("approle", "omnigate", "84896a0c-1347-aa90", Terms::renewable(30 * SECOND));
    fake.write("omni/org", json!({ "token": key().token() }));
    let (dial, pipes) = Dial::pipe();
    tokio::spawn(fake.clone().serve_pipes(pipes));
    let vault = format!(
        "backend = \"hashicorp\"\naddress = \"http://127.0.0.1:8200\"\nauth = {{ method = \
         \"approle\", role_id = \"omnigate\", secret_id_file = \"{}\" }}",
        secret_id.display()
    );
    let fake = fake.clone();
    Place {
        name: "hashicorp",
        vault: [vault, "secret = \"omni/org\"".to_owned()],
        way: Some(dial),
        every: 60 * SECOND,
        rotate: Box::new(move |key| {
            assert_eq!(fake.write("omni/org", json!({ "token": key.token() })), 2);
        }),
    }
}

/// Queues the calls, puts another key in the place after a quarter of them, and looks at what each
/// one was sent with.
async fn rotate_under_load(place: Place, profile: &str) {
    let Place { name, vault, way, every, rotate } = place;
    let fake = Settings { keys: vec![key(), another()], ..fake() };
    let budget = format!("profile = \"{profile}\"\nmax_wait = \"1h\"");
    let plan = Plan { budget, fake, vault: Some(vault), way, ..Plan::default() };
    let house = plan.build().await;
    house.keep_keys();
    let mut all = Vec::new();
    for _ in 0..CALLS {
        all.push(house.call(get("/api/v1/labels").body(Full::default()).unwrap()).await);
    }
    house.omni.wait_for_arrivals(CALLS / 4).await;
    let (rotated, waiting) = (Instant::now(), house.queued());
    rotate(&another());
    for call in all {
        assert_eq!(call.await.unwrap().status(), 200, "{name}");
    }
    let is_old = |one: &Arrival| one.headers[AUTHORIZATION] == format!("Bearer {}", key().token());
    let arrivals = house.omni.arrivals();
    let first_new = arrivals.iter().position(|one| !is_old(one)).unwrap();
    assert!(arrivals[first_new..].iter().all(|one| !is_old(one)), "{name}: the old one came back");
    let last_old = arrivals[first_new - 1].at.saturating_duration_since(rotated);
    let (old, most) = (first_new, house.omni.highest_in_any_window(60 * SECOND));
    println!(
        "{name}, {profile}: {waiting} calls waited; {old} sent with the old value, the last of them \
         {last_old:?} after the change; {} with the new one; {most} at most in a minute",
        arrivals.len() - old
    );
    assert!(waiting >= 130, "{name}: {waiting} waited");
    assert!(last_old <= every, "{name}: {last_old:?}");
    assert!(old < CALLS, "{name}: the new value came too late to be seen");
    assert_eq!((arrivals.len(), house.omni.refusals()), (CALLS, 0), "{name}");
    assert!(most <= 60, "{name}: {most} in a minute");
    let one = house.rooms.credentials.get(&CredentialId::new("org")).unwrap();
    assert!(matches!(one.state(), State::Ready { .. }), "{name}: {:?}", one.state());
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test(start_paused = true)]
async fn kubernetes_swaps_a_mounted_secret_under_load_and_no_call_fails() {
    for profile in ["smooth", "burst"] {
        let folder = folder();
        rotate_under_load(mounted(folder.path()), profile).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_is_replaced_under_load_and_no_call_fails() {
    for profile in ["smooth", "burst"] {
        let folder = folder();
        rotate_under_load(file(folder.path()), profile).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_vault_file_is_changed_under_load_and_no_call_fails() {
    for profile in ["smooth", "burst"] {
        let folder = folder();
        rotate_under_load(age(folder.path()), profile).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_gets_a_new_version_in_a_vault_server_under_load_and_no_call_fails() {
    for profile in ["smooth", "burst"] {
        let (folder, fake) = (folder(), FakeVault::default());
        rotate_under_load(hashicorp(folder.path(), &fake), profile).await;
        assert_eq!(fake.complaints(), Vec::<String>::new());
        let renewals = fake.count("/renew-self");
        println!("hashicorp, {profile}: {} log-in, {renewals} renewals", fake.count("/login"));
        assert!(fake.count("/login") == 1 && renewals >= 4, "{renewals}");
    }
}

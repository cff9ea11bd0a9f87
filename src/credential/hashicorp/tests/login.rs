use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::*;
use crate::fake_vault::{Engine, Trouble};

fn root() -> Terms {
    Terms { ttl: Duration::ZERO, max_ttl: None, renewable: false }
}

#[tokio::test(start_paused = true)]
async fn an_application_logs_in_once_for_all_its_secrets() {
    let house = House::new(Terms::renewable(TTL));
    let session = house.session();
    let reads = (0..100).map(|_| read(&session));
    assert!(join_all(reads).await.into_iter().all(|read| read.unwrap() == "first"));
    assert_eq!(read_at(&session, "omni", "other").await.unwrap(), "value");
    assert_eq!(house.log_ins(), 1);
    house.check();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_given_is_looked_at_and_used() {
    let mut house = House::new(root());
    let given = house.vault.token(Terms::renewable(TTL));
    let path = house.keep("token", &given);
    house.log_in_by(Login::Token(Held::File(path)));
    assert_eq!(read(&house.session()).await.unwrap(), "first");
    // The one variable that Cargo sets for every test.
    house.vault.adopt_token("omnigate", root());
    house.log_in_by(Login::Token(Held::Env("CARGO_PKG_NAME".to_owned())));
    assert_eq!(read(&house.session()).await.unwrap(), "first");
    assert_eq!((house.vault.count("/lookup-self"), house.log_ins()), (2, 0));
    house.check();
}

#[tokio::test(start_paused = true)]
async fn a_pod_logs_in_with_the_token_of_its_account_which_is_read_anew_each_time() {
    let mut house = House::new(root());
    let terms = Terms { renewable: false, ..Terms::renewable(TTL) };
    house.vault.kubernetes("kubernetes/west", "omnigate", "eyJ.first.sig", terms);
    let jwt = house.keep("jwt", "eyJ.first.sig");
    fs::set_permissions(&jwt, fs::Permissions::from_mode(0o644)).unwrap();
    let (mount, role) = ("kubernetes/west".to_owned(), "omnigate".to_owned());
    house.log_in_by(Login::Kubernetes { mount, role, jwt });
    let session = house.session();
    assert_eq!(read(&session).await.unwrap(), "first");
    house.vault.kubernetes("kubernetes/west", "omnigate", "eyJ.second.sig", terms);
    house.keep("jwt", "eyJ.second.sig");
    sleep(TTL).await;
    assert_eq!(read(&session).await.unwrap(), "first");
    assert_eq!(house.vault.count("/v1/auth/kubernetes/west/login"), 2);
    house.check();
}

#[tokio::test(start_paused = true)]
async fn a_wrapped_secret_id_is_unwrapped_once_and_then_known() {
    let mut house = House::new(Terms { renewable: false, ..Terms::renewable(TTL) });
    let path = house.keep("wrapped", &house.vault.wrap(SECRET_ID, TTL));
    house.log_in_by(app_role(&path, true));
    let session = house.session();
    assert_eq!(read(&session).await.unwrap(), "first");
    sleep(TTL).await;
    assert_eq!(read(&session).await.unwrap(), "first");
    // Whoever wrapped it may take the spent token away.
    fs::remove_file(&path).unwrap();
    sleep(TTL).await;
    assert_eq!(read(&session).await.unwrap(), "first");
    assert_eq!((house.vault.count("/unwrap"), house.log_ins()), (1, 3));
    assert!(house.vault.asked().iter().filter(|asked| asked.status != 200).count() == 0);
    assert_eq!(house.vault.complaints(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_wrapping_token_that_somebody_else_used_is_told_and_a_new_one_heals() {
    let mut house = House::new(Terms::renewable(TTL));
    let path = house.keep("wrapped", "hvs.used-before");
    house.log_in_by(app_role(&path, true));
    let session = house.session();
    let error = read(&session).await.unwrap_err();
    assert!(matches!(error, HashicorpError::WrappingSpent), "{error}");
    house.keep("wrapped", &house.vault.wrap(SECRET_ID, TTL));
    assert_eq!(read(&session).await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_does_not_waste_the_wrapping_token() {
    let mut house = House::new(Terms::renewable(TTL));
    let path = house.keep("wrapped", &house.vault.wrap(SECRET_ID, TTL));
    house.log_in_by(app_role(&path, true));
    house.vault.set_trouble(Some(Trouble::Slow(SECOND * 3)));
    let session = house.session();
    assert!(timeout(SECOND, read(&session)).await.is_err());
    house.vault.set_trouble(None);
    assert_eq!(read(&session).await.unwrap(), "first");
    assert_eq!((house.vault.count("/unwrap"), house.log_ins()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn everything_is_asked_in_the_namespace() {
    let mut house = House::new(root());
    house.vault = FakeVault::new(Engine::V2 { mount: "secret" }, Some("teams/analytics"));
    house.vault.write("omni", json!({ "token": "first" }));
    house.vault.app_role("approle", ROLE_ID, SECRET_ID, Terms::renewable(TTL));
    let path = house.keep("wrapped", &house.vault.wrap(SECRET_ID, TTL));
    house.log_in_by(app_role(&path, true));
    house.settings.namespace = Some("teams/analytics".to_owned());
    let kept = house.kept();
    for _ in 0..60 {
        assert_eq!(read(&kept.session).await.unwrap(), "first");
        sleep(SECOND).await;
    }
    assert!(house.renewals() >= 2);
    assert_eq!(house.vault.complaints(), Vec::<String>::new());
    house.settings.namespace = None;
    house.log_in_by(app_role(&house.folder.path().join("secret-id"), false));
    let error = read(&house.session()).await.unwrap_err();
    assert!(error.to_string().contains("namespace"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_log_in_is_not_tried_until_a_role_is_locked_out_and_a_new_secret_id_is_at_once() {
    let house = House::new(Terms::renewable(TTL));
    house.keep("secret-id", "wrong");
    let session = house.session();
    let minute = Duration::from_secs(60);
    for _ in 0..10 * 60 {
        let error = read(&session).await.unwrap_err();
        assert!(matches!(error, HashicorpError::LoginRefused { status: 400, .. }), "{error}");
        sleep(minute / 60).await;
    }
    assert!(house.log_ins() < 5, "{}", house.log_ins());
    house.keep("secret-id", SECRET_ID);
    assert_eq!(read(&session).await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn what_we_log_in_with_must_be_ours_alone_and_one_word() {
    let house = House::new(Terms::renewable(TTL));
    let session = house.session();
    let path = house.keep("secret-id", SECRET_ID);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = read(&session).await.unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
    for text in ["", "two words", "é"] {
        house.keep("secret-id", text);
        let error = read(&session).await.unwrap_err();
        assert!(matches!(error, HashicorpError::BadLoginSecret { .. }), "{error}");
    }
    fs::remove_file(&path).unwrap();
    let error = read(&session).await.unwrap_err();
    assert!(error.to_string().ends_with("is not there"), "{error}");
    assert_eq!(house.vault.asked().len(), 0);
    house.keep("secret-id", SECRET_ID);
    assert_eq!(read(&session).await.unwrap(), "first");
}

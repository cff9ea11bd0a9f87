use http::{Method, Request};
use serde_json::{Value, json};

use super::*;
use crate::net::{Client, Dial, Limits};

const LIMIT: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(30);

fn serve(vault: &FakeVault) -> Client {
    let (dial, pipes) = Dial::pipe();
    tokio::spawn(vault.clone().serve_pipes(pipes));
    Client::new(dial, "vault:8200".parse().unwrap(), Limits::default())
}

async fn ask(client: &Client, method: &str, path: &str, token: &str, body: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(format!("/v1/{path}"));
    let mut request = request.header("x-vault-request", "true");
    if !token.is_empty() {
        request = request.header("x-vault-token", token);
    }
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    let request = request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap();
    let answer = client.send(request, LIMIT).await.unwrap();
    let document = serde_json::from_slice(answer.body()).unwrap_or(Value::Null);
    (answer.status().as_u16(), document)
}

#[tokio::test(start_paused = true)]
async fn a_token_lives_as_long_as_it_was_granted_and_renewed_and_no_longer_than_its_greatest_age() {
    let vault = FakeVault::default();
    let client = serve(&vault);
    let terms = Terms { max_ttl: Some(TTL * 2), ..Terms::renewable(TTL) };
    vault.app_role("approle", "r", "s", terms);
    let body = r#"{"role_id":"r","secret_id":"s"}"#;
    let (status, answer) = ask(&client, "POST", "auth/approle/login", "", body).await;
    assert_eq!((status, &answer["auth"]["lease_duration"]), (200, &json!(30)));
    let token = answer["auth"]["client_token"].as_str().unwrap().to_owned();
    let renew = async || {
        ask(&client, "POST", "auth/token/renew-self", &token, r#"{"increment":"30s"}"#).await
    };
    sleep(TTL - Duration::from_secs(1)).await;
    assert_eq!(renew().await.1["auth"]["lease_duration"], 30);
    sleep(TTL - Duration::from_secs(1)).await;
    assert_eq!(renew().await.1["auth"]["lease_duration"], 2);
    let looked = ask(&client, "GET", "auth/token/lookup-self", &token, "").await;
    assert_eq!((looked.0, &looked.1["data"]["ttl"]), (200, &json!(2)));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(renew().await.0, 403);
    let seen: Vec<TokenSeen> = vault.asked().iter().map(|asked| asked.token).collect();
    use TokenSeen::{Absent, Ended, Good};
    assert_eq!(seen, [Absent, Good, Good, Good, Ended]);
    assert_eq!(vault.complaints(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_wrapping_token_is_good_once_and_for_a_while() {
    let vault = FakeVault::default();
    let client = serve(&vault);
    let unwrap = async |token: &str| ask(&client, "POST", "sys/wrapping/unwrap", token, "").await;
    let token = vault.wrap("s", TTL);
    assert_eq!(unwrap(&token).await.1["data"]["secret_id"], "s");
    assert_eq!(unwrap(&token).await.0, 400);
    let token = vault.wrap("s", TTL);
    sleep(TTL).await;
    assert_eq!(unwrap(&token).await.0, 400);
}

#[tokio::test(start_paused = true)]
async fn a_secret_has_versions_which_can_be_deleted_and_destroyed() {
    let vault = FakeVault::default();
    let client = serve(&vault);
    let token = vault.token(Terms::renewable(TTL));
    let read = async || ask(&client, "GET", "secret/data/a/b", &token, "").await;
    assert_eq!(read().await, (404, json!({ "errors": [] })));
    vault.write("a/b", json!({ "x": "one" }));
    vault.write("a/b", json!({ "x": "two" }));
    let (status, answer) = read().await;
    assert_eq!((status, &answer["data"]["data"]), (200, &json!({ "x": "two" })));
    assert_eq!(answer["data"]["metadata"]["version"], 2);
    vault.delete("a/b");
    let (status, answer) = read().await;
    assert_eq!((status, &answer["data"]["data"]), (404, &Value::Null));
    assert_ne!(answer["data"]["metadata"]["deletion_time"], "");
    vault.destroy("a/b");
    assert_eq!(read().await.1["data"]["metadata"]["destroyed"], true);
}

#[tokio::test(start_paused = true)]
async fn what_a_right_client_would_not_send_is_refused_and_noted() {
    let vault = FakeVault::default();
    let client = serve(&vault);
    vault.app_role("approle", "r", "s", Terms::renewable(TTL));
    let token = vault.token(Terms::renewable(TTL));
    let login = "auth/approle/login";
    for (method, path, token, body, status) in [
        ("POST", login, "", r#"{"role_id":"r","secret_id":"s","more":1}"#, 400),
        ("POST", login, "", r#"{"role_id":"r"}"#, 400),
        ("POST", login, "", "no JSON", 400),
        ("POST", login, &token, r#"{"role_id":"r","secret_id":"s"}"#, 400),
        ("POST", "sys/wrapping/unwrap", "", r#"{"token":"x"}"#, 400),
        ("PUT", "secret/data/a", &token, "{}", 405),
        ("GET", "secret/data/a?version=1", &token, "", 404),
        ("GET", "secret/data/a", &token, "{}", 400),
    ] {
        let before = vault.complaints().len();
        assert_eq!(ask(&client, method, path, token, body).await.0, status, "{method} {path}");
        assert_eq!(vault.complaints().len(), before + 1, "{method} {path} {body}");
    }
    let before = vault.complaints().len();
    let bare = Request::builder().method(Method::GET).uri("/v1/secret/data/a");
    let answer = client.send(bare.body(Bytes::new()).unwrap(), LIMIT).await.unwrap();
    assert_eq!((answer.status().as_u16(), vault.complaints().len()), (412, before + 1));
}

#[tokio::test(start_paused = true)]
async fn trouble_is_everybodys() {
    let vault = FakeVault::default();
    let client = serve(&vault);
    let look = async || {
        let request = Request::get("/v1/auth/token/lookup-self").body(Bytes::new()).unwrap();
        client.send(request, LIMIT).await.map(|answer| answer.status().as_u16())
    };
    vault.set_trouble(Some(Trouble::Sealed));
    assert!(matches!(look().await, Ok(503)));
    vault.set_trouble(Some(Trouble::Status(473)));
    assert!(matches!(look().await, Ok(473)));
    vault.set_trouble(Some(Trouble::Down));
    assert!(look().await.is_err());
    vault.set_trouble(Some(Trouble::Slow(LIMIT * 2)));
    assert!(look().await.is_err());
}

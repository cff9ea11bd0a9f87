//! What operators ask the process.

use rustix::process::Signal;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::process::Command;

use crate::harness::{House, Plan, soon, until};

#[tokio::test]
async fn operators_see_whether_it_lives_whether_it_is_ready_and_what_it_counts() {
    // One call a minute: the second one waits as long as the test likes, drain or no drain.
    let budget = "limit = 1\nwindow = \"60s\"\nprofile = \"burst\"".to_owned();
    let server = "drain_timeout = \"120s\"".to_owned();
    let house = Plan { budget, server, ..Plan::default() }.build().await;
    let gateway = house.start().await;
    assert_eq!(gateway.get("/api/v1/labels").await.status, 200);
    let mut waiting = gateway.caller().await;
    let waiting = tokio::spawn(async move { waiting.get("/api/v1/labels").await });
    gateway.queued(1).await;

    assert_eq!(gateway.admin("/livez").await.status, 200);
    let ready = gateway.admin("/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["ready"], true);
    for (series, figure) in [
        ("omnigate_budget_limit{budget=\"omni\"}", 1.0),
        ("omnigate_budget_used{budget=\"omni\"}", 1.0),
        ("omnigate_queue_depth{budget=\"omni\"}", 1.0),
        ("omnigate_credential_state{credential=\"org\",state=\"ready\"}", 1.0),
    ] {
        assert_eq!(gateway.figure(series).await, figure, "{series}");
    }
    let page = gateway.admin("/metrics").await;
    assert!(page.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert_eq!(gateway.admin("/status").await.status, 404);
    // The callers' port shows none of it: these are paths like any other.
    assert_eq!(house.omni.arrived(), 1);

    gateway.signal(Signal::TERM);
    let draining = until(async || {
        let ready = gateway.admin("/readyz").await;
        (ready.status == 503).then_some(ready)
    })
    .await;
    assert_eq!(draining.json()["reasons"][0]["reason"], "draining");
    assert_eq!(gateway.admin("/livez").await.status, 200);
    drop(waiting);
}

#[tokio::test]
async fn what_is_kept_is_forgotten_at_an_operators_word() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    for (path, route) in [("/-/cache/purge", None), ("/-/cache/purge?route=all", Some("all"))] {
        let answer = gateway.tell(path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["route"].as_str(), route);
    }
    assert_eq!(gateway.admin("/-/cache/purge").await.status, 405);
    let slip = gateway.tell("/-/cache/purge?rout=all").await;
    assert_eq!(
        (slip.status.as_u16(), slip.header("content-type")),
        (400, "application/problem+json")
    );
    assert_eq!(house.omni.arrived(), 0);
    // To callers it is a path like any other.
    gateway.get("/-/cache/purge").await;
    assert_eq!(house.omni.arrived(), 1);
}

#[tokio::test]
async fn an_operator_is_told_which_routes_there_are() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    let answer = gateway.tell("/-/cache/purge?route=labels").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["routes"], serde_json::json!(["all"]));

    let admin = gateway.says("admin").await["address"].as_str().unwrap().to_owned();
    let said = purge(&house, &admin, &["--route", "labels"]).await;
    assert_eq!(
        said,
        (Some(1), String::new(), "error: there is no such route; there are: all\n".into())
    );
}

#[tokio::test]
async fn the_command_asks_the_gateway_that_runs() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    let admin = gateway.says("admin").await["address"].as_str().unwrap().to_owned();
    for (args, told) in [
        (&[][..], "nothing is kept any more"),
        (&["--route", "all"], "nothing of route `all` is kept any more"),
    ] {
        let (code, out, err) = purge(&house, &admin, args).await;
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.starts_with(told), "{out}");
    }
    let (code, _, err) = purge(&house, &admin, &["--route", "a b"]).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(!err.contains("a b"), "{err}");
    gateway.kill().await;

    let (code, out, err) = purge(&house, &admin, &[]).await;
    assert_eq!((code, out.as_str()), (Some(69), ""));
    let told = format!("error: no gateway answers on the admin address, {admin}: cannot connect");
    assert!(err.starts_with(&told), "{err}");
    let (code, _, err) = purge(&house, "10.0.0.1:1", &[]).await;
    assert_eq!(code, Some(78), "{err}");
}

#[tokio::test]
async fn the_command_believes_nobody_else_who_answers_there() {
    let house = Plan::default().build().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = listener.local_addr().unwrap().to_string();
    let stranger = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut asked = [0; 1024];
        let length = socket.read(&mut asked).await.unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        String::from_utf8(asked[..length].to_vec()).unwrap()
    });
    let (code, out, err) = purge(&house, &admin, &[]).await;
    assert_eq!((code, out.as_str()), (Some(69), ""));
    assert!(err.contains("cannot do this (status 200 OK)"), "{err}");
    assert!(stranger.await.unwrap().starts_with("POST /-/cache/purge HTTP/1.1"));
}

#[tokio::test]
async fn operators_may_come_by_a_unix_socket_and_show_a_token() {
    let house = Plan::default().build().await;
    let token = "a-token-of-the-operators";
    let digest = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let config = std::fs::read_to_string(house.config()).unwrap();
    let admin = format!("[admin]\nlisten = \"unix:admin.sock\"\ntoken_sha256 = \"{digest}\"\n");
    let (before, after) = config.split_once("[admin]").unwrap();
    let after = after.split_once("listen = \"127.0.0.1:0\"").unwrap().1;
    std::fs::write(house.config(), format!("{before}{admin}{after}")).unwrap();
    let gateway = house.spawn();
    let place = gateway.says("admin").await["address"].as_str().unwrap().to_owned();
    assert!(place.starts_with("unix:/") && place.ends_with("/admin.sock"), "{place}");

    let purge = async |shows: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omnigate"));
        command.args(["cache", "purge", "-c"]).arg(house.config()).env_clear();
        command.envs(shows.map(|token| ("OMNIGATE_ADMIN_TOKEN", token)));
        let output = soon(command.output()).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = purge(Some(token)).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("nothing is kept any more"), "{said}");
    for wrong in [None, Some("a-token-of-nobody")] {
        let (code, said) = purge(wrong).await;
        assert_ne!(code, Some(0), "{said}");
        assert!(said.contains("OMNIGATE_ADMIN_TOKEN") && !said.contains("nobody"), "{said}");
    }
    let mut socket = UnixStream::connect(place.strip_prefix("unix:").unwrap()).await.unwrap();
    let asks = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket.write_all(asks).await.unwrap();
    let mut answer = String::new();
    soon(socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

/// Runs `omnigate cache purge` with the house's config and this admin address.
async fn purge(house: &House, admin: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let config = std::fs::read_to_string(house.config()).unwrap();
    let (before, after) = config.split_once("listen = \"127.0.0.1:0\"").unwrap();
    let file = house.folder().join("purge.toml");
    std::fs::write(&file, format!("{before}listen = \"{admin}\"{after}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_omnigate"));
    command.args(["cache", "purge", "-c"]).arg(file).args(args).env_clear();
    let output = soon(command.output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

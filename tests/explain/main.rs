//! `omnigate explain` and `omnigate routes` as a person starts them.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_omnigate");

const CONFIG: &str = r#"
state_dir = "state"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "unix:admin.sock"
[upstream]
base_url = "http://127.0.0.1:9"
[vault]
backend = "dir"
path = "."
[credentials.org]
kind = "organization"
secret = "org"
[budgets.omni]
limit = 60
cold_start = "trust"
[callers.nightly]
routes = ["lists"]
[[routes]]
name = "rest"
path = "/{*rest}"
credential = "org"
[[routes]]
name = "lists"
path = "/api/v1/documents"
methods = ["GET"]
credential = "org"
cache = { ttl = "30s", stale = "10m" }
"#;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("omnigate.toml"), CONFIG).unwrap();
    // Whoever reads it finds that it holds no token.
    std::fs::write(folder.path().join("org"), "").unwrap();
    folder
}

fn omnigate(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(args).current_dir(folder).env_clear().stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn blamed(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_plain_call_is_explained_on_a_screen_from_the_config_alone() {
    let folder = folder();
    let output = omnigate(folder.path(), &["explain", "GET", "/api/v1/documents?pageSize=20"]);
    let (text, lines) = (said(&output), said(&output).lines().count());
    assert_eq!(output.status.code(), Some(0), "{text}{}", blamed(&output));
    assert!(text.starts_with("becomes    sent to Omni with `org`"), "{text}");
    for words in ["lists (/api/v1/documents; GET)", "fresh for 30 s", "60 per 60 s", "\x1b["] {
        assert_eq!(text.contains(words), words != "\x1b[", "{words}: {text}");
    }
    assert!((12..=25).contains(&lines), "{lines} lines:\n{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(!folder.path().join("state").exists());
}

#[test]
fn the_exit_tells_what_becomes_of_the_call() {
    let folder = folder();
    let exit = |args: &[&str]| omnigate(folder.path(), args).status.code().unwrap();
    assert_eq!(exit(&["explain", "GET", "/api/v1/documents"]), 0);
    assert_eq!(exit(&["explain", "GET", "/api/v1/folders", "--caller", "nightly"]), 1);
    assert_eq!(exit(&["explain", "GET", "/api/v1/../x"]), 1);
    assert_eq!(exit(&["explain", "GET", "/a b"]), 2);
    assert_eq!(exit(&["explain", "GET", "/", "--caller", "nobody"]), 2);
    assert_eq!(exit(&["explain", "GET", "/", "--from", "uid:7"]), 2);
    assert_eq!(exit(&["explain", "GET", "/", "--body", "/nonexistent"]), 2);
    assert_eq!(exit(&["explain", "GET", "/", "--online"]), 69);
    assert_eq!(exit(&["explain", "GET", "/", "-c", "/nonexistent"]), 78);
}

#[test]
fn no_value_of_a_field_is_ever_shown() {
    let folder = folder();
    for field in [
        "Authorization: Bearer zqsecretzq",
        "zqsecretzq",
        "Bad Name: zqsecretzq",
        "A: zq\nsecretzq",
    ] {
        for more in [&[][..], &["--json"], &["--online"]] {
            let args = [&["explain", "GET", "/api/v1/documents", "-H", field], more].concat();
            let output = omnigate(folder.path(), &args);
            let all = said(&output) + &blamed(&output);
            assert!(!all.contains("zqsecret") && !all.contains("secretzq"), "{field}: {all}");
        }
    }
}

#[test]
fn routes_stand_in_the_order_in_which_a_call_looks_for_its_own() {
    let folder = folder();
    let text = said(&omnigate(folder.path(), &["routes"]));
    assert!(text.find("lists").unwrap() < text.find("rest").unwrap(), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let json: Value =
        serde_json::from_str(&said(&omnigate(folder.path(), &["routes", "--json"]))).unwrap();
    assert_eq!((&json[0]["name"], &json[1]["name"]), (&"lists".into(), &"rest".into()));
    assert_eq!(json[0]["cache"]["ttl_s"], 30.0);
}

/// A gateway, killed when this is dropped.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_gateway_knows_how_its_keys_stand_and_who_waits() {
    let folder = folder();
    std::fs::write(folder.path().join("org"), "zqsecretzq").unwrap();
    let mut serve = Command::new(PROGRAM);
    serve.arg("serve").current_dir(folder.path()).env_clear();
    serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _gateway = Gateway(serve.spawn().unwrap());
    let ask = || {
        let args =
            ["explain", "GET", "/api/v1/documents", "-H", "Accept: */*", "--online", "--json"];
        omnigate(folder.path(), &args)
    };
    let mut output = ask();
    for _ in 0..600 {
        if output.status.code() == Some(0) {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(50));
        output = ask();
    }
    assert_eq!(output.status.code(), Some(0), "{}", blamed(&output));
    let json: Value = serde_json::from_str(&said(&output)).unwrap();
    assert_eq!(json["verdict"]["outcome"], "sent-or-kept");
    assert_eq!(json["credentials"][0]["state"], "ready");
    assert_eq!(json["cache"]["now"], "nothing");
    assert_eq!((&json["now"]["position"], &json["now"]["wait_s"]), (&0.into(), &0.0.into()));
    assert!(!said(&output).contains("zqsecret"));
    let bad = omnigate(folder.path(), &["explain", "GET", "no url", "--online"]);
    assert_eq!(bad.status.code(), Some(2), "{}", blamed(&bad));
}

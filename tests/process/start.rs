//! A start that must not be: what is said of it, and that no port was ever open.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Ended, Gateway, soon};

/// As long as a token of Omni's. No 20 characters of it may ever be shown.
const TOKEN: &str = "omni_osk_PLANTED0q7Zk3mT9xW2bV8nR5cY1aD4eF6gH7iJ0kL2oP5sU8tX";

/// A config that would be good if the secret were.
const GOOD: &str = r#"
[upstream]
base_url = "http://127.0.0.1:9"
[vault]
backend = "env"
[credentials.org]
kind = "organization"
secret = "OMNI_API_KEY"
[[routes]]
name = "all"
path = "/{*rest}"
credential = "org"
"#;

/// Each problem of [`BAD`]: what is wrong, the text that the caret stands under, the way out.
const PROBLEMS: [(&str, &str, &str); 6] = [
    ("unknown key `conect_timeout`", "conect_timeout", "did you mean `connect_timeout`?"),
    ("`response_timeout` is not a duration", "\"2 minutes\"", "\"30s\", \"2m\""),
    (
        "the secret file of credential `org` is missing: ",
        "\"org.token\"",
        "put the token into this file",
    ),
    ("a token stands here in place of its name", "\"omni_osk_", "where a secret is"),
    ("there is no credential `orgg`", "\"orgg\"", "did you mean `org`?"),
    ("", "\"/api/v1/documents/{id}\"", ""),
];

const BAD: &str = r#"
[upstream]
base_url = "http://127.0.0.1:9"
conect_timeout = "5s"
response_timeout = "2 minutes"
[vault]
backend = "file"
path = "."
[credentials.org]
kind = "organization"
secret = "org.token"
[credentials.leaked]
kind = "organization"
secret = "omni_osk_PLANTED0q7Zk3mT9xW2bV8nR5cY1aD4eF6gH7iJ0kL2oP5sU8tX"
[[routes]]
name = "lists"
path = "/api/v1/documents/{identifier}"
credential = "orgg"
[[routes]]
name = "one"
path = "/api/v1/documents/{id}"
credential = "org"
"#;

/// A port that was free a moment ago.
/// Two ports that nobody uses; held together, so that they are two.
async fn free_ports() -> [u16; 2] {
    let free = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    [free().await, free().await].map(|one| one.local_addr().unwrap().port())
}

/// Runs `serve` on a config that must be refused, and knocks at its doors until it has ended.
async fn refused(folder: &Path, text: &str, env: &[(&str, &str)]) -> Ended {
    let ports = free_ports().await;
    let places = format!(
        "state_dir = \"state\"\n[server]\nlisten = [\"127.0.0.1:{}\", \"unix:omnigate.sock\"]\n\
         [admin]\nlisten = \"127.0.0.1:{}\"",
        ports[0], ports[1]
    );
    let config = folder.join("omnigate.toml");
    std::fs::write(&config, places + text).unwrap();
    let gateway = Gateway::spawn(&config, env);
    let knocks = async {
        loop {
            for port in ports {
                let opened = TcpStream::connect(("127.0.0.1", port)).await;
                assert!(opened.is_err(), "somebody listens on {port}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let ended = tokio::select! {
        ended = gateway.ends() => ended,
        () = knocks => unreachable!(),
    };
    assert_eq!(ended.status.code(), Some(78), "{}", ended.said);
    assert!(!folder.join("omnigate.sock").exists(), "the unix socket was made");
    for part in TOKEN.as_bytes().windows(20).map(|part| std::str::from_utf8(part).unwrap()) {
        assert!(!ended.said.contains(part), "a part of the token is shown:\n{}", ended.said);
    }
    ended
}

#[tokio::test]
async fn a_good_config_serves_where_the_bad_ones_must_not() {
    // The control of the other tests here: the same places, and somebody listens.
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("omnigate.toml");
    let port = free_ports().await[0];
    let places = format!(
        "state_dir = \"state\"\n[server]\nlisten = \"127.0.0.1:{port}\"\n\
         [admin]\nlisten = \"127.0.0.1:0\""
    );
    std::fs::write(&config, places + GOOD).unwrap();
    let mut gateway = Gateway::spawn(&config, &[("OMNI_API_KEY", TOKEN)]);
    gateway.serves().await;
    assert_eq!(gateway.address().port(), port);
    soon(TcpStream::connect(("127.0.0.1", port))).await.unwrap();
}

#[tokio::test]
async fn a_bad_config_is_told_whole_with_line_caret_and_way_out_and_opens_no_port() {
    let folder = tempfile::tempdir().unwrap();
    let ended = refused(folder.path(), BAD, &[]).await;
    println!("{}", ended.said);
    let config = folder.path().join("omnigate.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    // One block to a problem: the message, the place, the line, the caret, the way out.
    let blocks: Vec<&str> = ended.said.split("\n\n").filter(|b| b.starts_with("error: ")).collect();
    assert_eq!(blocks.len(), PROBLEMS.len());
    for (message, under, way_out) in PROBLEMS {
        let line = text.lines().position(|line| line.contains(under)).unwrap();
        let column = text.lines().nth(line).unwrap().find(under).unwrap();
        let place = format!("--> {}:{}:{}\n", config.display(), line + 1, column + 1);
        let block = blocks.iter().find(|block| block.contains(&place));
        let block = block.unwrap_or_else(|| panic!("nothing is said of {place}"));
        assert!(block.starts_with(&format!("error: {message}")), "{block}");
        let (before, carets) = block.split_once('^').unwrap();
        let indent = before.rsplit_once("| ").unwrap().1;
        assert!(indent.len() == column && carets.starts_with('^'), "{block}");
        assert!(block.split_once("= help: ").unwrap().1.contains(way_out), "{block}");
    }
}

#[tokio::test]
async fn a_variable_that_is_missing_or_holds_no_token_ends_the_start_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = refused(folder.path(), GOOD, &[]).await.said;
    assert!(missing.contains("credential `org`") && missing.contains("OMNI_API_KEY"), "{missing}");
    println!("{missing}");

    let two = format!("{TOKEN} {TOKEN}");
    for value in ["", &two, &TOKEN.repeat(2_000), &format!("\"{TOKEN}\"")] {
        let said = refused(folder.path(), GOOD, &[("OMNI_API_KEY", value)]).await.said;
        assert!(said.contains("credential `org`") && said.contains("OMNI_API_KEY"), "{said}");
        println!("{said}");
    }
}

#[tokio::test]
async fn a_secret_file_that_is_no_good_ends_the_start_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("org.token");
    let text = GOOD
        .replace("backend = \"env\"", "backend = \"file\"")
        .replace("OMNI_API_KEY", "org.token");
    let place = file.display().to_string();
    let said = refused(folder.path(), &text, &[]).await.said;
    assert!(said.contains(&place) && said.contains("secret = \"org.token\""), "{said}");
    for (contents, mode) in [(TOKEN, 0o644), (TOKEN, 0o660), ("", 0o600), ("a\nb\n", 0o600)] {
        std::fs::write(&file, contents).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let said = refused(folder.path(), &text, &[]).await.said;
        assert!(said.contains(&place) && said.contains("org"), "{said}");
        println!("{said}");
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let said = refused(folder.path(), &text, &[]).await.said;
    assert!(said.contains(&place), "{said}");
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start_with_its_name() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("omnigate.toml");
    let places = format!("state_dir = \"state\"\n[server]\nlisten = \"{address}\"");
    std::fs::write(&config, places + GOOD).unwrap();
    let ended = Gateway::spawn(&config, &[("OMNI_API_KEY", TOKEN)]).ends().await;
    assert_eq!(ended.status.code(), Some(69), "{}", ended.said);
    println!("{}", ended.said);
    assert!(ended.said.contains(&address.to_string()), "{}", ended.said);
    assert!(ended.said.contains("in use"), "{}", ended.said);
}

//! Gateways and commands whose config shares its budgets.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::SECRET;
use crate::server::Server;

const PROGRAM: &str = env!("CARGO_BIN_EXE_omnigate");

/// A folder with a config that shares its budgets as `shared` says.
struct Home(TempDir);

impl Home {
    fn new(shared: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let text = format!(
            r#"
            state_dir = "state"
            server.listen = "127.0.0.1:0"
            admin.listen = "127.0.0.1:0"
            upstream.base_url = "http://127.0.0.1:1"
            vault = {{ backend = "file", path = "." }}
            credentials.org = {{ kind = "organization", secret = "org" }}
            routes = [{{ name = "all", path = "/{{*rest}}", credential = "org" }}]
            telemetry = {{ log = "trace", format = "json" }}
            [shared]
            backend = "redis"
            {shared}
            "#
        );
        std::fs::write(home.config(), text).unwrap();
        home.secret("org", "omni_osk_1234567890");
        home
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("omnigate.toml")
    }

    fn secret(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(words).arg("-c").arg(self.config()).env_clear().stdin(Stdio::null());
        command
    }

    fn output(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What a gateway says until it serves.
    fn served(&self) -> String {
        let mut command = self.command(&["serve"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            said.push_str(&line);
            said.push('\n');
            if line.contains("\"admin\"") {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        said
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_gateway_starts_without_its_store() {
    let said = Home::new("url = \"unix:///nonexistent/redis.sock\"").served();
    assert!(said.contains("\"budgets are shared\""), "{said}");
    assert!(said.contains("\"admin\""), "{said}");
}

#[test]
fn a_gateway_does_not_start_without_the_password_of_its_store() {
    let home = Home::new("url = \"rediss://omnigate@redis.internal\"\npassword = \"redis\"");
    home.secret("redis", "zqsecretzq\nzqsecretzq");
    let output = home.output(&["serve"]);
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(said.contains("[shared] password: ") && said.contains("holds no password"), "{said}");
    assert!(!said.contains("zqsecret"), "{said}");
    // Before it can be missed.
    std::fs::remove_file(home.0.path().join("redis")).unwrap();
    let output = home.output(&["check"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("the secret file of [shared] is missing"));
}

#[test]
fn nothing_that_a_gateway_says_shows_the_password_of_its_store() {
    let server = Server::start(&["--requirepass", SECRET]);
    let home = Home::new(&format!("url = \"{}\"\npassword = \"redis\"", server.url()));
    home.secret("redis", SECRET);
    let said = home.served();
    assert!(said.contains("\"admin\"") && !said.contains("zqsecret"), "{said}");
}

#[test]
fn a_question_is_not_asked_without_the_yes_of_the_store() {
    let home = Home::new("url = \"unix:///nonexistent/redis.sock\"\non_lost = \"local\"");
    let output = home.output(&["check", "--online"]);
    assert_eq!(output.status.code(), Some(69));
    let said = text(&output.stdout);
    assert!(
        said.contains(
            "nothing is sent without the yes of the store unix:///nonexistent/redis.sock"
        ),
        "{said}"
    );
    assert!(said.contains("cannot be reached") && said.contains("0 requests were sent"), "{said}");
}

#[test]
fn a_question_is_asked_with_the_password_of_the_store() {
    let server = Server::start(&["--requirepass", SECRET]);
    let home = Home::new(&format!("url = \"{}\"\npassword = \"redis\"", server.url()));
    home.secret("redis", "zqsecretzq-2");
    let said = text(&home.output(&["check", "--online"]).stdout);
    assert!(said.contains("does not let us in") && !said.contains("zqsecret"), "{said}");
    assert!(said.contains("0 requests were sent"), "{said}");
    // Then it is Omni that cannot be reached.
    home.secret("redis", SECRET);
    let said = text(&home.output(&["check", "--online"]).stdout);
    assert!(said.contains("org: could not be asked about") && !said.contains("store"), "{said}");
}

#[test]
fn a_gateway_joins_the_others_at_its_store() {
    let server = Server::start(&["--requirepass", SECRET]);
    let home = Home::new(&format!("url = \"{}\"\npassword = \"redis\"", server.url()));
    home.secret("redis", SECRET);
    let mut command = home.command(&["serve"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let operator = redis::Client::open(format!("{}?pass={SECRET}", server.url())).unwrap();
    let mut operator = operator.get_connection().unwrap();
    let mut seen = 0;
    // Half a minute at most.
    for _ in 0..3_000 {
        let keys: Vec<String> =
            redis::cmd("KEYS").arg("omnigate:1:*:instances").query(&mut operator).unwrap();
        for key in &keys {
            seen = redis::cmd("HLEN").arg(key).query(&mut operator).unwrap();
        }
        if seen > 0 || child.try_wait().unwrap().is_some() {
            break;
        }
        #[expect(clippy::disallowed_methods, reason = "a look at another process, not a wait")]
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen, 1);
}

//! From an empty folder to a call with the key.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Folder, SECOND, TOKEN, shows_a_secret};

const PATIENCE: Duration = Duration::from_secs(30);

struct Gateway {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Gateway {
    fn start(folder: &Folder) -> Self {
        let mut child = folder
            .omnigate()
            .arg("serve")
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            said.lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        Self { child, lines }
    }

    /// Waits for a log line with this message.
    fn says(&self, message: &str) -> serde_json::Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap();
            assert!(!shows_a_secret(line.as_bytes()), "{line}");
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            if event["message"] == message {
                return event;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An Omni that answers each call with 200 and tells which bearer came.
fn upstream() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, bearers) = mpsc::channel();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.unwrap();
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            let tell = tell.clone();
            thread::spawn(move || {
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
                    if line.to_ascii_lowercase().starts_with("authorization: ") {
                        let _ = tell.send(line["authorization: ".len()..].trim().to_owned());
                    }
                    if line == "\r\n" {
                        let _ =
                            (&socket).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
                    }
                    line.clear();
                }
            });
        }
    });
    (url, bearers)
}

fn call(address: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let request =
        format!("GET /api/v1/whoami HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn an_empty_folder_serves_after_two_commands_and_takes_a_rotated_key() {
    let folder = Folder::new();
    let (url, bearers) = upstream();
    folder.ok(&["init", "--base-url", &url], "");
    let name_and_mode = |name: &str| (name.to_owned(), folder.mode(name));
    let made: Vec<_> = folder.names().iter().map(|name| name_and_mode(name)).collect();
    let identity = ("identity.txt".to_owned(), 0o600);
    assert_eq!(made[0], identity);
    assert_eq!(folder.names(), ["identity.txt", "omnigate.toml", "vault.age"]);
    assert_eq!(folder.mode("vault.age"), 0o600);
    folder.ok(&["set", "org", "--stdin"], format!("{TOKEN}\n"));

    // Only so that tests which run at the same time do not want one port.
    let ports = "\n[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    folder.write("omnigate.toml", format!("{}{ports}", folder.read("omnigate.toml")));
    let gateway = Gateway::start(&folder);
    let address = gateway.says("serving")["address"].as_str().unwrap().to_owned();
    assert!(call(&address).starts_with("HTTP/1.1 200 "));
    assert_eq!(bearers.recv_timeout(PATIENCE).unwrap(), format!("Bearer {TOKEN}"));

    folder.ok(&["rotate", "org", "--stdin", "--untried"], SECOND);
    gateway.signal(Signal::HUP);
    gateway.says("credential refreshed");
    assert!(call(&address).starts_with("HTTP/1.1 200 "));
    assert_eq!(bearers.recv_timeout(PATIENCE).unwrap(), format!("Bearer {SECOND}"));
}

#[test]
fn a_start_without_the_secret_names_it_and_those_that_there_are() {
    let folder = Folder::with_vault();
    folder.ok(&["set", "ogr", "--stdin"], TOKEN);
    let output = folder.omnigate().arg("serve").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("has no secret `org`; it has ogr"), "{said}");
}

#[test]
fn nothing_is_made_twice() {
    let folder = Folder::with_vault();
    let before = ["identity.txt", "vault.age", "omnigate.toml"].map(|name| folder.read(name));
    let said = folder.fails(&["init"], "", 1);
    assert!(said.contains("vault.age is there already"), "{said}");
    assert_eq!(
        ["identity.txt", "vault.age", "omnigate.toml"].map(|name| folder.read(name)),
        before
    );
}

#[test]
fn the_config_that_is_made_is_right_and_says_where_it_goes() {
    for (args, variable, expected) in [
        (&["init"][..], None, "https://acme.omniapp.co"),
        (&["init"], Some("https://blob.omniapp.co/"), "https://blob.omniapp.co"),
        (&["init", "--base-url", "https://x.test"], Some("https://y.test"), "https://x.test"),
    ] {
        let folder = Folder::new();
        let mut command = folder.omnigate();
        command.arg("vault").args(args).envs(variable.map(|url| ("OMNI_BASE_URL", url)));
        assert!(command.output().unwrap().status.success());
        let checked = folder.omnigate().args(["check", "omnigate.toml"]).output().unwrap();
        let said = String::from_utf8(checked.stdout).unwrap();
        assert!(said.ends_with(&format!("upstream {expected}\n")), "{said}");
    }
    let said = Folder::new().fails(&["init", "--base-url", "http://acme.omniapp.co"], "", 2);
    assert!(said.contains("http:// would show the token"), "{said}");
}

#[test]
fn a_config_that_is_there_tells_where_the_vault_is_and_stays_as_it_is() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("keys")).unwrap();
    // Much of it is still missing.
    let config = "[vault]\nbackend = \"age\"\npath = \"keys/v.age\"\nidentity = \"keys/i.txt\"\n\
                  [credentials.me]\nkind = \"personal\"\nsecret = \"pat\"\n";
    folder.write("omnigate.toml", config);
    folder.ok(&["init"], "");
    let said = folder.ok(&["set", "pat", "--stdin"], TOKEN);
    assert!(said.out.contains("(personal, sha256 "), "{}", said.out);
    assert_eq!(folder.read("omnigate.toml"), config);
    assert_eq!(folder.names(), ["keys", "omnigate.toml"]);
}

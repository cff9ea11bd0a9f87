//! Asking Omni about a key: who asks, what it costs, what it decides.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};

use omnigate::fake_omni::{FakeOmni, Key, KeyKind, Settings};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::harness::{Folder, SECOND, Said, TOKEN, run};

/// A pretended Omni on a port, which knows these keys.
struct Omni {
    fake: FakeOmni,
    url: String,
    _runtime: Runtime,
}

fn omni(keys: &[(KeyKind, &str)]) -> Omni {
    let keys = keys.iter().map(|(kind, token)| Key::new(*kind, "ada", token)).collect();
    let fake = FakeOmni::new(Settings { keys, ..Settings::default() });
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(fake.clone().serve(listener, CancellationToken::new()));
    Omni { fake, url, _runtime: runtime }
}

/// A folder whose vault holds `TOKEN` as `org`, for this Omni.
fn folder(omni: &Omni) -> Folder {
    let folder = Folder::new();
    folder.ok(&["init", "--base-url", &omni.url], "");
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    let [calls, admin] = [(); 2].map(|()| {
        // Free a moment ago; a gateway that cannot have it does not start.
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    });
    let more = format!(
        "\nstate_dir = \"state\"\n[server]\nlisten = \"{calls}\"\n[admin]\nlisten = \"{admin}\"\n\
         [budgets.omni]\ncold_start = \"trust\"\n"
    );
    // Keys of the top come before the first table.
    let config = folder.read("omnigate.toml");
    let (top, tables) = more.split_once("[server]").unwrap();
    folder.write("omnigate.toml", format!("{top}{config}\n[server]{tables}"));
    folder
}

fn check(folder: &Folder) -> Said {
    let said = Said::of(&run(folder.omnigate().args(["check", "--online"]), b""));
    assert!(!crate::harness::shows_a_secret(said.out.as_bytes()), "{}", said.out);
    said
}

struct Gateway(Child);

impl Gateway {
    fn start(folder: &Folder) -> Self {
        let mut serve = folder.omnigate();
        serve.arg("serve").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = serve.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let gateway = Self(child);
        // The last that is said before calls are served.
        let said = lines.by_ref().find(|line| line.as_ref().unwrap().contains("\"admin\""));
        assert!(said.is_some(), "the gateway did not start");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        gateway
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn check_online_says_what_each_key_is_and_what_that_cost() {
    let omni = omni(&[(KeyKind::Organization, TOKEN), (KeyKind::Personal, SECOND)]);
    let folder = folder(&omni);
    let said = check(&folder);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let end = "org: good\n1 request was sent by this command and charged to the budget\n";
    assert!(said.out.ends_with(end), "{}", said.out);

    folder.ok(&["set", "org", "--stdin"], SECOND);
    let said = check(&folder);
    assert_eq!(said.code, Some(1), "{}", said.err);
    let wrong = "org: Omni says that this is a personal or MCP token; the config says kind = \
                 \"organization\"\n";
    assert!(said.out.contains(wrong), "{}", said.out);

    omni.fake.set_keys(Vec::new());
    let said = check(&folder);
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("org: Omni does not take this key (status 403)"), "{}", said.out);
    assert_eq!(omni.fake.arrived(), 3);
}

#[test]
fn a_question_is_charged_also_from_one_command_to_the_next() {
    let omni = omni(&[(KeyKind::Organization, TOKEN)]);
    let folder = folder(&omni);
    let config = folder.read("omnigate.toml");
    let tight = "limit = 2\nprofile = \"burst\"\nwindow = \"600s\"\n";
    folder.write("omnigate.toml", format!("{config}{tight}"));
    for code in [0, 0, 69] {
        let said = check(&folder);
        assert_eq!(said.code, Some(code), "{}{}", said.out, said.err);
    }
    assert_eq!(omni.fake.arrived(), 2, "the third would have been one too many");
}

#[test]
fn while_a_gateway_runs_it_asks() {
    let omni = omni(&[(KeyKind::Organization, TOKEN)]);
    let folder = folder(&omni);
    let _gateway = Gateway::start(&folder);
    let said = check(&folder);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(said.out.contains("1 request was sent by the gateway that runs"), "{}", said.out);
    let said = folder.ok(&["test", "org"], "");
    assert!(said.out.contains("`org` is good"), "{}", said.out);
    assert_eq!(omni.fake.arrived(), 2);
}

#[test]
fn a_new_value_that_omni_does_not_take_does_not_replace_the_old_one() {
    let omni = omni(&[(KeyKind::Organization, TOKEN)]);
    let folder = folder(&omni);
    let before = folder.fingerprints(&[]);
    let said = folder.fails(&["rotate", "org", "--stdin"], SECOND, 1);
    assert!(said.contains("`org` keeps its old value"), "{said}");
    assert_eq!(folder.fingerprints(&[]), before);
    // The same where a gateway has the budget: it tries the value for a moment.
    let gateway = Gateway::start(&folder);
    let said = folder.fails(&["rotate", "org", "--stdin"], SECOND, 1);
    assert!(said.contains("`org` has its old value again"), "{said}");
    assert_eq!(folder.fingerprints(&[]), before);
    assert!(folder.ok(&["test", "org"], "").out.contains("`org` is good"));

    let both = [(KeyKind::Organization, TOKEN), (KeyKind::Organization, SECOND)];
    omni.fake.set_keys(both.iter().map(|(kind, token)| Key::new(*kind, "ada", token)).collect());
    let said = folder.ok(&["rotate", "org", "--stdin"], SECOND);
    assert!(said.out.contains("Omni takes the new value, and the gateway has it"), "{}", said.out);
    drop(gateway);
    let said = folder.ok(&["rotate", "org", "--stdin"], TOKEN);
    assert!(said.out.contains("Omni takes the new value\n"), "{}", said.out);
    assert_eq!(folder.fingerprints(&[]), before);
}

#[test]
fn what_cannot_be_asked_is_said_with_its_reason_and_nothing_is_replaced() {
    let omni = omni(&[(KeyKind::Organization, TOKEN)]);
    let folder = folder(&omni);
    folder.ok(&["set", "spare", "--stdin"], SECOND);
    let said = folder.fails(&["test", "spare"], "", 1);
    assert!(said.contains("no credential in") && said.contains("uses `spare`"), "{said}");
    folder.fails(&["test", "none"], "", 1);
    let url = omni.url.clone();
    drop(omni);
    let before = folder.fingerprints(&[]);
    let said = folder.fails(&["rotate", "org", "--stdin"], SECOND, 69);
    assert!(said.contains("--untried"), "{url}: {said}");
    assert_eq!(folder.fingerprints(&[]), before);
    folder.ok(&["rm", "org", "--yes"], "");
    let said = check(&folder);
    assert_eq!(said.code, Some(69));
    assert!(said.out.contains("org: could not be asked about: "), "{}", said.out);
    assert!(said.out.contains("has no secret `org`; it has spare"), "{}", said.out);
    assert!(said.out.contains("0 requests were sent"), "{}", said.out);
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    folder.ok(&["rotate", "org", "--stdin", "--untried"], SECOND);
    assert_ne!(folder.fingerprints(&[]), before);
}

#[test]
fn a_gateway_that_has_another_vault_proves_nothing() {
    let omni = omni(&[(KeyKind::Organization, TOKEN)]);
    let folder = folder(&omni);
    let _gateway = Gateway::start(&folder);
    // Since then the config names another file; the gateway still has, and asks about, the old one.
    std::fs::copy(folder.path("vault.age"), folder.path("other.age")).unwrap();
    let config = folder.read("omnigate.toml").replace("vault.age", "other.age");
    folder.write("omnigate.toml", config);
    let before = folder.fingerprints(&[]);
    let said = folder.fails(&["rotate", "org", "--stdin"], SECOND, 1);
    assert!(said.contains("another value than `org`"), "{said}");
    assert!(said.contains("`org` has its old value again"), "{said}");
    assert_eq!(folder.fingerprints(&[]), before);
    folder.ok(&["rotate", "org", "--stdin", "--untried"], SECOND);
    let said = folder.fails(&["test", "org"], "", 1);
    assert!(said.contains("another value than `org`"), "{said}");
}

#[test]
fn a_config_that_is_not_right_does_not_let_a_value_in_untried() {
    let omni = omni(&[(KeyKind::Organization, TOKEN)]);
    let folder = folder(&omni);
    let before = folder.fingerprints(&[]);
    folder.write("omnigate.toml", format!("{}nonsense = 1\n", folder.read("omnigate.toml")));
    let said = folder.fails(&["rotate", "org", "--stdin"], SECOND, 1);
    assert!(said.contains("omnigate check") && said.contains("--untried"), "{said}");
    assert_eq!((folder.fingerprints(&[]), omni.fake.arrived()), (before, 0));
}

#[test]
fn an_omni_that_does_not_say_is_no_bad_key() {
    use omnigate::fake_omni::{Fault, Rule};
    let omni = omni(&[(KeyKind::Organization, TOKEN)]);
    let folder = folder(&omni);
    omni.fake.fail(Rule::new(Fault::Status(http::StatusCode::BAD_GATEWAY)));
    let said = check(&folder);
    assert_eq!(said.code, Some(69), "{}", said.err);
    assert!(said.out.contains("Omni did not say whose key it is (status 502)"), "{}", said.out);
    assert!(said.out.contains("1 request was sent"), "{}", said.out);
}

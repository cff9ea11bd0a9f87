//! `omnigate init`, by somebody at a terminal and by a script.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it cannot go on")]

mod terminal;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use omnigate::fake_omni::{FakeOmni, Key, KeyKind, Settings};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::terminal::{Terminal, at_home};

/// An Omni that knows one key.
fn omni() -> (SocketAddr, String) {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            // Until the tests are over.
            FakeOmni::new(Settings::default()).serve(listener, CancellationToken::new()).await;
        });
    });
    (told.recv().unwrap(), Key::made_up(KeyKind::Organization, "org").token().to_owned())
}

fn sh(folder: &Path, line: &str) -> Output {
    let mut sh = Command::new("sh");
    sh.args(["-c", line]);
    let mut sh = at_home(folder, sh);
    sh.stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The command that a text ends with, or the only one on a screen that goes on.
fn next(said: &str) -> String {
    let commands: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| line.starts_with("omnigate ") || line.starts_with("curl "))
        .collect();
    assert_eq!(commands.len(), 1, "{said}");
    commands[0].to_owned()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Only so that tests which run at the same time do not want one port.
fn on_ports_of_its_own(folder: &Path) {
    let path = folder.join("omnigate.toml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text
        .replace("#[server]\n#listen = \"127.0.0.1:6664\"", "[server]\nlisten = \"127.0.0.1:0\"")
        .replace("#[admin]\n#listen = \"127.0.0.1:6663\"", "[admin]\nlisten = \"127.0.0.1:0\"");
    assert_eq!(text.matches("127.0.0.1:0\"").count(), 2);
    fs::write(&path, text).unwrap();
}

#[test]
fn four_commands_lead_from_an_empty_folder_to_an_answer_each_printed_by_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let (omni, key) = omni();

    let mut terminal = Terminal::run(folder.path(), "omnigate init");
    terminal.answer("Omni's address", &format!("{omni}/login"));
    terminal.answer("1 to 4 [1]: ", "");
    terminal.answer("[organization]: ", "");
    terminal.answer("Put the key in now?", "n");
    let (code, said) = terminal.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("taken as http://{omni}\n")), "{said}");

    let second = next(&said);
    assert_eq!(second, "omnigate vault set org");
    let mut terminal = Terminal::run(folder.path(), &second);
    terminal.answer("(not shown): ", &key);
    let (code, said) = terminal.end();
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains(&key));

    on_ports_of_its_own(folder.path());
    let third = next(&said);
    assert_eq!(third, "omnigate serve");
    let mut gateway = Terminal::run(folder.path(), &third);
    let said = gateway.until("/api/v1/whoami\n");

    let fourth = next(&said);
    assert!(fourth.starts_with("curl http://127.0.0.1:"), "{fourth}");
    let answer = sh(folder.path(), &fourth);
    let told: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(told["keyScope"], "organization", "{told}");
    gateway.types("\u{3}");
    let (_, said) = gateway.end();
    assert!(said.contains("shutting down"), "{said}");
}

#[test]
fn a_key_that_is_taken_at_once_saves_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let (omni, key) = omni();
    let mut terminal = Terminal::run(folder.path(), "omnigate init --vault age --kind personal");
    terminal.answer("Omni's address", &format!("http://{omni}"));
    terminal.answer("Put the key in now?", "");
    terminal.answer("Value of `me` (not shown): ", &key);
    let (code, said) = terminal.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("(personal, sha256 ") && !said.contains(&key), "{said}");
    assert_eq!(next(&said), "omnigate serve");
    assert!(sh(folder.path(), "omnigate check").status.success());
}

/// Somebody at a terminal who does not wait for the question; see the script.
fn early(folder: &Path, args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/init/early.py");
    let mut python = Command::new("python3");
    python.arg(script).args(args);
    at_home(folder, python).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_key_that_is_pasted_before_it_is_asked_for_is_never_on_the_screen() {
    let folder = tempfile::tempdir().unwrap();
    let (_, key) = omni();
    assert_eq!(init(&folder, "--yes --base-url acme.omniapp.co").0, Some(0));
    let done = early(folder.path(), &["paste", &key, "omnigate", "vault", "set", "org"]);
    let (screen, why) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(done.status.code(), Some(0), "{why}");
    assert!(screen.contains("`org` is in vault.age"), "{screen}");
    assert!(!screen.contains(&key) && !screen.contains("omni_osk_"), "{screen}");
    // It has arrived whole.
    let again = sh(folder.path(), &format!("echo {key} | omnigate vault set org --stdin"));
    assert!(text(&again.stdout).contains("has this value already"), "{}", text(&again.stdout));
}

#[test]
fn a_signal_at_the_question_leaves_a_terminal_that_shows_what_is_typed() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(init(&folder, "--yes --base-url acme.omniapp.co").0, Some(0));
    for signal in ["SIGTERM", "SIGHUP", "SIGQUIT"] {
        let done = early(folder.path(), &[signal, "omnigate", "vault", "set", "org"]);
        assert!(done.status.success(), "{signal}: {}", text(&done.stderr));
    }
}

#[test]
fn who_types_what_cannot_be_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::run(folder.path(), "omnigate init");
    terminal.answer("Omni's address, as your browser shows it: ", "");
    terminal.answer("a whole host name is needed", "http://acme.omniapp.co");
    terminal.answer("write https://", "omni_osk_PLANTED");
    terminal.answer("this looks like a key", "acme.omniapp.co");
    terminal.answer("1 to 4 [1]: ", "4");
    terminal.answer("config/vault.toml", "7");
    terminal.answer("1, 2, 3 or 4", "2");
    terminal.answer("[organization]: ", "admin");
    terminal.answer("organization, personal or mcp; ", "p");
    let (code, said) = terminal.end();
    assert_eq!(code, 0, "{said}");
    let config = fs::read_to_string(folder.path().join("omnigate.toml")).unwrap();
    for line in
        ["base_url = \"https://acme.omniapp.co\"", "backend = \"env\"", "kind = \"personal\""]
    {
        assert!(config.contains(line), "{config}");
    }
    assert!(said.ends_with("&& omnigate serve\n"), "{said}");
    assert_eq!(names(folder.path()), ["omnigate.toml"]);
}

#[test]
fn whoever_goes_away_in_the_middle_leaves_nothing() {
    let answers = ["acme.omniapp.co", "1", "mcp", ""];
    let questions = ["Omni's address", "1 to 4 [1]: ", "[organization]: ", "to .gitignore? [Y/n]"];
    for (key, code, word) in [
        ("\u{3}", 130, "error: nothing was made"),
        ("\u{4}", 1, "error: the answers ended too soon; nothing was made"),
    ] {
        for given in 0..questions.len() {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join(".git")).unwrap();
            let mut terminal = Terminal::run(folder.path(), "omnigate init");
            for (question, answer) in questions.iter().zip(answers).take(given) {
                terminal.answer(question, answer);
            }
            terminal.until(questions[given]);
            terminal.types(key);
            let (ended, said) = terminal.end();
            assert_eq!(ended, code, "{said}");
            assert!(said.contains(word), "{said}");
            assert_eq!(names(folder.path()), [".git"], "{said}");
        }
    }
}

#[test]
fn whoever_goes_away_at_the_key_is_told_how_to_go_on() {
    for (keys, code) in [("\u{3}", 130), ("\u{4}", 0), ("y\n\u{3}", 130), ("y\n\n", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let line = "omnigate init --base-url acme.omniapp.co --vault age --kind organization";
        let mut terminal = Terminal::run(folder.path(), line);
        terminal.until("Put the key in now?");
        match keys.strip_prefix("y\n") {
            None => terminal.types(keys),
            Some(then) => {
                terminal.types("y\n");
                terminal.until("(not shown): ");
                terminal.types(then);
            }
        }
        let (ended, said) = terminal.end();
        assert_eq!(ended, code, "{said}");
        assert_eq!(next(&said), "omnigate vault set org");
        assert_eq!(names(folder.path()), ["identity.txt", "omnigate.toml", "vault.age"]);
    }
}

fn init(folder: &TempDir, args: &str) -> (Option<i32>, String, String) {
    let output = sh(folder.path(), &format!("umask 0; omnigate init {args}"));
    let said = (text(&output.stdout).to_owned(), text(&output.stderr).to_owned());
    (output.status.code(), said.0, said.1)
}

#[test]
fn a_script_takes_what_is_usual_and_gets_files_that_nobody_else_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = init(&folder, "--yes --base-url acme.omniapp.co/api");
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.ends_with("\n  omnigate vault set org\n"), "{out}");
    let modes = ["identity.txt", "omnigate.toml", "vault.age"].map(|name| {
        let file = fs::metadata(folder.path().join(name)).unwrap();
        file.permissions().mode() & 0o777
    });
    assert_eq!(modes, [0o600, 0o644, 0o600]);
    let checked = sh(folder.path(), "omnigate check");
    assert!(text(&checked.stdout).ends_with("upstream https://acme.omniapp.co\n"));
}

#[test]
fn what_is_printed_next_is_right_wherever_the_config_is() {
    let folder = tempfile::tempdir().unwrap();
    let (omni, key) = omni();
    fs::create_dir(folder.path().join("a b")).unwrap();
    let config = "-c 'a b/gate.toml'";
    let (code, out, err) = init(&folder, &format!("--yes --base-url {omni} {config}"));
    assert_eq!(code, Some(0), "{err}");
    let set = next(&out);
    assert_eq!(set, format!("omnigate vault set org {config}"));
    assert_eq!(names(&folder.path().join("a b")), ["gate.toml", "identity.txt", "vault.age"]);
    let done = sh(folder.path(), &format!("echo {key} | {set} --stdin"));
    assert_eq!(next(text(&done.stdout)), format!("omnigate serve {config}"));

    // What the environment says goes for all of them.
    let named = "export OMNIGATE_CONFIG=\"$HOME/x.toml\" OMNI_BASE_URL=https://acme.omniapp.co/";
    let done = sh(folder.path(), &format!("{named}; omnigate init --yes && omnigate check"));
    let said = text(&done.stdout);
    assert!(done.status.success() && said.contains("\n  omnigate vault set org\n"), "{said}");
    assert!(folder.path().join("x.toml").exists());
}

#[test]
fn the_lines_for_a_variable_and_a_folder_work_in_bash() {
    let (omni, key) = omni();
    for vault in ["env", "dir", "dir --folder 'k s'"] {
        let folder = tempfile::tempdir().unwrap();
        let (_, out, err) = init(&folder, &format!("--yes --base-url {omni} --vault {vault}"));
        let line = out.lines().last().unwrap().trim();
        assert!(line.ends_with(" && omnigate serve"), "{out}{err}");
        // The same, but that the key comes from a pipe, and that nothing stays up.
        let line = line.replace("omnigate serve", "omnigate check");
        let checked =
            sh(folder.path(), &format!("echo {key} | bash -c '{}'", line.replace('\'', "'\\''")));
        assert!(checked.status.success(), "{line}: {}", text(&checked.stderr));
        if vault.starts_with("dir") {
            let name = if vault == "dir" { "secrets" } else { "k s" };
            let file = folder.path().join(name).join("org");
            assert_eq!(fs::read_to_string(&file).unwrap(), key);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_half_is_left() {
    let good = "--yes --base-url acme.omniapp.co";
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("omnigate.toml"), "mine").unwrap();
    let (code, _, err) = init(&folder, good);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("omnigate.toml is there already") && err.contains("-c FILE"), "{err}");
    assert_eq!(names(folder.path()), ["omnigate.toml"]);
    assert_eq!(fs::read_to_string(folder.path().join("omnigate.toml")).unwrap(), "mine");
    // A link to nowhere is something.
    fs::remove_file(folder.path().join("omnigate.toml")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("omnigate.toml")).unwrap();
    assert_eq!(init(&folder, good).0, Some(1));

    // A vault that is there is used, if it opens.
    let folder = tempfile::tempdir().unwrap();
    init(&folder, good);
    let vault = fs::read(folder.path().join("vault.age")).unwrap();
    fs::remove_file(folder.path().join("omnigate.toml")).unwrap();
    let (code, out, _) = init(&folder, good);
    assert_eq!(code, Some(0));
    assert!(out.contains("vault.age: was there, and is used"), "{out}");
    assert_eq!(fs::read(folder.path().join("vault.age")).unwrap(), vault);
    fs::remove_file(folder.path().join("omnigate.toml")).unwrap();
    fs::write(folder.path().join("vault.age"), "not age").unwrap();
    let (code, _, err) = init(&folder, good);
    assert_eq!(code, Some(78), "{err}");
    assert_eq!(names(folder.path()), ["identity.txt", "vault.age"]);

    // Where the config cannot be written, the vault goes again: a name that is too long for the system.
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = init(&folder, &format!("{good} -c {}.toml", "x".repeat(300)));
    assert_eq!(code, Some(69), "{err}");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn what_cannot_be_is_told_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    for (args, code, words) in [
        ("", 2, "there is no terminal to ask on; say --yes"),
        ("--base-url acme.omniapp.co", 2, "there is no terminal to ask on; say --yes"),
        ("--yes", 2, "--base-url https://YOURS.omniapp.co"),
        ("--yes --base-url http://acme.omniapp.co", 2, "http:// would show the token"),
        ("--yes --base-url omni_osk_PLANTED", 2, "this looks like a key"),
        ("--yes --base-url acme.omniapp.co -c omni_osk_PLANTED", 2, "never given as an argument"),
        ("--yes --base-url acme.omniapp.co --folder x --vault age", 2, "goes with --vault dir"),
        ("--yes --base-url acme.omniapp.co -c nowhere/x.toml", 1, "there is no folder nowhere"),
    ] {
        let (ended, out, err) = init(&folder, args);
        assert_eq!(ended, Some(code), "{args}: {err}");
        assert!(err.contains(words) && !err.contains("PLANTED") && out.is_empty(), "{args}: {err}");
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }
}

#[test]
fn git_never_sees_the_identity() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(".git")).unwrap();
    let (code, out, _) = init(&folder, "--yes --base-url acme.omniapp.co");
    assert_eq!(code, Some(0));
    assert!(out.contains(".gitignore: git leaves identity.txt out"), "{out}");
    let list = fs::read_to_string(folder.path().join(".gitignore")).unwrap();
    assert_eq!(list, "/identity.txt\n");
}

//! What `omnigate check` says about configs that are not right.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod providers;
mod savers;
mod shared;

use std::path::Path;

use omnigate::config::{self, Config, Report};
use omnigate::server::Listen;
use proptest::prelude::*;

/// Begins as a token of Omni's does, and every 12 characters of the rest look like a part of one.
const TOKEN: &str = "omni_osk_PLANTED0q7Zk3mT9xW2bV8nR5cY1aD4eF6gH7iJ0kL2oP5sU8tX";

const GOOD: &str = r#"
state_dir = "/var/lib/omnigate"
[upstream]
base_url = "https://acme.omniapp.co"
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

fn parse(text: &str) -> Result<Config, Report> {
    config::parse(text, Path::new("omnigate.toml"))
}

/// The report on the good config with one text in it replaced by another.
fn report_with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    parse(&GOOD.replacen(old, new, 1)).map(|_| ()).unwrap_err().to_string()
}

fn shows_a_part_of_the_token(text: &str) -> bool {
    let rest = TOKEN.strip_prefix("omni_osk_").unwrap().as_bytes();
    rest.windows(12).any(|part| text.contains(std::str::from_utf8(part).unwrap()))
}

#[test]
fn the_good_config_is_good() {
    parse(GOOD).unwrap();
}

#[test]
fn every_problem_of_a_file_is_told_at_once() {
    let report = parse(include_str!("bad.toml")).unwrap_err().to_string();
    let expected = include_str!("bad.txt");
    if report.trim_end() != expected.trim_end() {
        // Kept for a look at the difference: diff tests/check/bad.txt $TMPDIR/bad.txt
        std::fs::write(std::env::temp_dir().join("bad.txt"), format!("{report}\n")).unwrap();
        panic!("the report differs from tests/check/bad.txt:\n{report}");
    }
    assert!(!shows_a_part_of_the_token(&report) && !report.contains("hunter2"));
}

#[test]
fn neither_check_nor_serve_goes_on_with_a_bad_config() {
    let bad = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check/bad.toml");
    for arguments in [&["check"][..], &["check", "-c"], &["serve", "-c"]] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_omnigate"));
        let output = command.args(arguments).arg(&bad).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("80 problems in "), "{told}");
    }
}

#[test]
fn a_syntax_error_has_a_line_and_a_caret_too() {
    let report = report_with("name = \"all\"", "name = all\"");
    assert!(report.contains(" --> omnigate.toml:11:"), "{report}");
    assert!(report.contains('^'), "{report}");
}

#[test]
fn a_missing_secret_file_is_told_at_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omnigate.toml");
    let text = GOOD.replace("backend = \"env\"", "backend = \"dir\"\npath = \"secrets\"");
    let report = config::parse(&text, &path).unwrap_err().to_string();
    let file = folder.path().join("secrets/OMNI_API_KEY");
    assert!(
        report.contains(&format!(
            "the secret file of credential `org` is missing: {}",
            file.display()
        ))
    );
    assert!(
        report.contains("10 | secret = \"OMNI_API_KEY\"\n   |          ^^^^^^^^^^^^^^"),
        "{report}"
    );

    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    std::fs::write(&file, "x").unwrap();
    config::parse(&text, &path).unwrap();
}

#[test]
fn a_route_may_live_without_its_secret_when_told_so() {
    let text = GOOD
        .replace("backend = \"env\"", "backend = \"file\"")
        .replace("kind = ", "on_missing = \"degrade\"\nkind = ");
    parse(&text).unwrap();
}

#[test]
fn a_secret_file_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("OMNI_API_KEY");
    std::fs::write(&file, "x").unwrap();
    let text = GOOD.replace("backend = \"env\"", "backend = \"file\"");
    let check = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        config::parse(&text, &folder.path().join("omnigate.toml")).map(|_| ())
    };
    check(0o600).unwrap();
    check(0o400).unwrap();
    for mode in [0o640, 0o604] {
        let report = check(mode).unwrap_err().to_string();
        assert!(report.contains("can be read by others"), "{report}");
        assert!(report.contains(&format!("chmod 600 {}", file.display())), "{report}");
    }
}

#[test]
fn a_token_in_place_of_a_name_explains_itself_and_stays_hidden() {
    let places = [
        format!("secret = \"{TOKEN}\""),
        format!("secret = \"Bearer {TOKEN}\""),
        format!("secret = {{ name = \"{TOKEN}\" }}"),
        format!("secret = \"{}\"", TOKEN.strip_prefix("omni_osk_").unwrap()),
        "secret = \"correct horse battery staple\"".to_owned(),
    ];
    for place in places {
        let report = report_with("secret = \"OMNI_API_KEY\"", &place);
        assert!(report.ends_with("1 problem in omnigate.toml"), "{report}");
        assert!(report.contains("omnigate.toml:9:"), "{report}");
        assert!(!shows_a_part_of_the_token(&report) && !report.contains("horse"), "{report}");
    }
}

#[test]
fn a_token_is_hidden_wherever_else_it_stands() {
    let places = [
        format!("token = \"{TOKEN}\""),
        format!("secret = {TOKEN}"),
        format!("secret = [\"{TOKEN}\"]"),
        format!("kind = \"{TOKEN}\""),
        format!("\"{TOKEN}\" = 1"),
        format!("secret = \"x\" \"{TOKEN}\""),
        format!("budget = \"{TOKEN}\""),
        "secret = hunter2 omni_osk_".to_owned(),
        "secret = \"\"\"\nhunter2".to_owned(),
        "password = hunter2 \"".to_owned(),
        format!("[credentials.{TOKEN}]"),
        format!("[vault.providers.{TOKEN}]\nbackend = 1 # {TOKEN}"),
    ];
    for place in places {
        let report = report_with("secret = \"OMNI_API_KEY\"", &place);
        assert!(!shows_a_part_of_the_token(&report) && !report.contains("hunter2"), "{report}");
    }
}

#[test]
fn one_slip_is_told_once() {
    let slips = [
        ("name = \"all\"", "nmae = \"all\""),
        ("[vault]", "[valt]"),
        ("name = \"all\"", ""),
        ("[vault]", "tls_roots = \"nowhere.pem\"\n[vault]"),
        ("base_url = \"https", "base_url = \"http"),
        ("credential = \"org\"", "credential = \"ogr\""),
        ("credential = \"org\"", "credential = 7"),
        ("[credentials.org]", "credentials.org = 3\n[budgets.x]"),
        ("path = \"/{*rest}\"", "path = \"api\""),
        ("path = \"/{*rest}\"", "path = \"/{*rest}/x\""),
        ("credential = \"org\"", "credential = \"org\"\nbudget = \"omnii\""),
        ("[vault]", "[server]\nlisten = \"127.0.0.1:6663\"\n[vault]"),
        ("[vault]", "[server]\nlisten = \"127.0.0.1\"\n[vault]"),
        ("[vault]", "[admin]\nprobe_listen = \"0.0.0.0:6664\"\n[vault]"),
        ("[vault]", "[budgets.a]\n[budgets.b]\n[vault]"),
        ("[vault]", "[budgets.none]\n[vault]"),
        ("[vault]", "[budgets.a]\nlimit = 1\nprofile = \"strict\"\n[vault]"),
        ("[vault]", "[budgets.a]\nlimit = -1\n[vault]"),
        ("\"env\"", "\"env\"\npath = \"/run/secrets\""),
        ("\"env\"", "\"dir\""),
        ("\"OMNI_API_KEY\"", "{ provider = \"corp\", name = \"A\" }"),
        ("\"OMNI_API_KEY\"", "{ path = \"A\" }"),
    ];
    for (old, new) in slips {
        let report = report_with(old, new);
        let one = report.ends_with("1 problem in omnigate.toml");
        // A table of another name takes the keys below it along.
        assert!(one || new.starts_with("credentials.org = 3"), "{old} -> {new}\n{report}");
    }
}

#[test]
fn one_slip_about_callers_budgets_and_pools_is_told_once() {
    let caller = |said: &str| format!("[callers.a]\n{said}\n");
    let listener = |said: &str| format!("[[listeners]]\naddress = \"127.0.0.1:1\"\n{said}\n");
    let budget = |said: &str| format!("[budgets.a]\n{said}\n");
    let upstream = |said: &str| format!("{said}\n");
    let pool = |credentials: &str| {
        let route = "[[routes]]\nname = \"pool\"\npath = \"/pool\"\ncredential = [\"org\", \"b\"]";
        format!("{credentials}{route}\n")
    };
    let b = "[credentials.b]\nkind = \"organization\"\nsecret = \"B\"\n";
    let before_vault = [
        caller("match = { uid = 7 }"),
        caller("match = {}"),
        caller("match = { cidr = [] }"),
        caller("match = { cidr = [\"10.0.0.0/8\", \"10.0.0.0/8\"] }"),
        caller("match = { cidr = [\"10.0.0.0/8\", \"::ffff:10.0.0.0/104\"] }"),
        caller("match = { cidr = \"10.1.0.0/8\" }"),
        caller("match = { cidr = 10 }"),
        caller("match = { uid = 7, cidr = \"10.0.0.0/8\" }"),
        caller(
            "[server]\nlisten = \"unix:/run/a\"\n[callers.b]\nmatch = { cidr = \"10.0.0.0/8\" }",
        ),
        caller(
            "[server]\nlisten = \"unix:/run/a\"\n[callers.b]\nmatch = { uid = 7 }\n[callers.c]\nmatch = { uid = 7 }",
        ),
        caller("priority = \"normal\"\nmax_priority = \"batch\""),
        caller("priority = \"urgent\""),
        caller("rate = { window = \"60s\" }"),
        caller("rate = { limit = 0 }"),
        caller("routes = [\"al\"]"),
        caller("routes = []"),
        caller("match = { san = \"spiffe://corp/a\" }"),
        caller("match = { san = \"a b\" }"),
        caller("match = { token_sha256 = \"abc\" }"),
        caller("match = { token_sha256 = [] }"),
        // printf %s "$UNSET" | sha256sum
        caller(
            "match = { token_sha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852B855\" }",
        ),
        listener("tls = { cert = \"a.pem\" }"),
        listener("tls = { cert = \"\", key = \"a.key\" }"),
        listener("tls = { cert = \"a.pem\", key = \"a.key\", client_optional = true }"),
        listener("require_header = \"X-Omnigate\""),
        listener("require_header = \"Host: a\""),
        listener("allow_anonymous = false"),
        "[callers.anonymous]\n".to_owned(),
        "[callers.omnigate]\n".to_owned(),
        "[callers.\"a b\"]\n".to_owned(),
        budget("reserve = 11"),
        budget("reserve = 3\nlimit = 3"),
        budget("reserve = 60\nprofile = \"burst\""),
        budget("reserve = 2\nlimit = 3\nprofile = \"strict\""),
        budget("scope = \"key\""),
        upstream("replay_limit = \"65MiB\""),
        upstream("replay_total = \"1KiB\""),
        upstream("replay_limit = \"2GiB\"\nreplay_total = \"4GiB\""),
        pool(&b.replace("organization", "personal")),
        pool("[credentials.c]\nkind = \"organization\"\nsecret = \"C\"\n"),
        pool(&format!(
            "[budgets.a]\nscope = \"credential\"\n{}",
            b.replace("\"B\"", "\"OMNI_API_KEY\"")
        )),
    ];
    let two_budgets = format!(
        "[budgets.x]\n[budgets.y]\n{b}budget = \"y\"\n{}[credentials.org]\nbudget = \"x\"",
        pool("")
    );
    let mut slips: Vec<(&str, String)> = vec![("[credentials.org]", two_budgets)];
    slips.extend(before_vault.map(|new| ("[vault]", format!("{new}[vault]"))));
    for said in ["[]", "[7]", "[\"org\", \"org\"]", "[\"org\", \"ogr\"]"] {
        slips.push(("credential = \"org\"", format!("credential = {said}")));
    }
    for said in ["[]", "[7]", "[\"omni\", \"omni\"]", "[\"none\", \"omni\"]"] {
        slips.push(("credential = \"org\"", format!("credential = \"org\"\nbudget = {said}")));
    }
    for (old, new) in slips {
        let report = report_with(old, &new);
        assert!(report.ends_with("1 problem in omnigate.toml"), "{old} -> {new}\n{report}");
    }
}

#[test]
fn what_is_just_within_its_bounds_is_good() {
    for said in [
        "[budgets.a]\nreserve = 10\n",
        "[budgets.a]\nreserve = 59\nprofile = \"burst\"\n",
        "[budgets.a]\nlimit = 1\nreserve = 0\n",
        "replay_limit = \"64MiB\"\n",
        "replay_limit = \"0B\"\nreplay_total = \"0B\"\n",
        "[callers.a]\nmatch = { cidr = [\"10.0.0.0/8\", \"10.1.0.0/16\", \"0.0.0.0/0\", \"::/0\"] }\n",
        "[callers.a]\nmax_priority = \"batch\"\n",
    ] {
        parse(&GOOD.replace("[vault]", &format!("{said}[vault]"))).unwrap();
    }
    // One key under two names is one to Omni, and one limit counts it as one.
    let two = "[credentials.b]\nkind = \"organization\"\nsecret = \"OMNI_API_KEY\"\n[[routes]]";
    let text = GOOD.replace("[[routes]]", two);
    parse(&text.replace("credential = \"org\"", "credential = [\"org\", \"b\"]")).unwrap();
}

#[test]
fn it_is_said_where_a_caller_can_step_out_of_what_holds_it() {
    let digest = "0".repeat(64);
    let open = "[server]\nlisten = [\"127.0.0.1:1\", \"unix:a\"]\n".to_owned();
    let told = |listeners: &str, rule: &str| {
        let caller = format!("[callers.a]\nroutes = [\"all\"]\n{rule}\n[vault]");
        let text = GOOD.replace("[vault]", &format!("{listeners}{caller}"));
        let warnings = parse(&text).unwrap_or_else(|report| panic!("{report}")).warnings;
        warnings.is_some_and(|said| said.to_string().contains("who may take all routes"))
    };
    let token = format!("match = {{ token_sha256 = \"{digest}\" }}");
    let (user, range) = ("match = { uid = 7 }", "match = { cidr = \"127.0.0.0/8\" }");
    assert!(told(&open, &token));
    // By the other door, where nobody asks for users.
    assert!(told(&open, user));
    assert!(!told(&open, range));
    assert!(!told("[server]\nlisten = \"unix:a\"\n", user));
    let shut = "[[listeners]]\naddress = \"127.0.0.1:1\"\nallow_anonymous = false\n";
    assert!(!told(shut, &token));
    let tls = "tls = { cert = \"a.pem\", key = \"a.key\", client_ca = \"ca.pem\"";
    let name = "match = { san = \"spiffe://corp/a\" }";
    for (optional, says) in [("false", false), ("true", true)] {
        let door = format!(
            "[[listeners]]\naddress = \"127.0.0.1:1\"\n{tls}, client_optional = {optional} }}\n"
        );
        assert_eq!(told(&door, name), says, "{optional}");
    }
}

#[test]
fn strangers_may_only_come_in_when_told_so() {
    let report = report_with("[vault]", "[[listeners]]\naddress = \"0.0.0.0:6664\"\n[vault]");
    assert!(report.contains("everybody there could make calls with your keys"), "{report}");
    assert!(report.contains("allow_anonymous = true"), "{report}");
    let short = report_with("[vault]", "[server]\nlisten = [\"0.0.0.0:6664\"]\n[vault]");
    assert!(short.contains("everybody there could make calls with your keys"), "{short}");
    let open = "allow_anonymous = true".to_owned();
    assert!(admits(&open).is_ok_and(|anybody| anybody));
    // Or when it is asked who they are; then who is nobody stays out.
    let digest = "0".repeat(64);
    let token = format!("[callers.a]\nmatch = {{ token_sha256 = \"{digest}\" }}");
    let range = "[callers.a]\nmatch = { cidr = \"10.0.0.0/8\" }".to_owned();
    let tls = "tls = { cert = \"a.pem\", key = \"a.key\", client_ca = \"ca.pem\" }";
    let name = format!("{tls}\n[callers.a]\nmatch = {{ san = \"spiffe://corp/a\" }}");
    for rule in [token, range, name] {
        assert!(admits(&rule).is_ok_and(|anybody| !anybody), "{rule}");
    }
    // None of these tells anybody who comes from elsewhere.
    let user = "[server]\nlisten = \"unix:a\"\n[callers.a]\nmatch = { uid = 7 }";
    let here = "[callers.a]\nmatch = { cidr = [\"127.0.0.1\", \"::1\"] }";
    let word = "[callers.a]\npriority = \"batch\"";
    for rule in [user, here, word, tls, "require_header = \"X-Omnigate: 1\""] {
        let report = admits(rule).unwrap_err().to_string();
        assert!(report.contains("everybody there could make calls"), "{rule}: {report}");
    }
}

/// Whether the good config with a listener for everybody admits those who are nobody there.
fn admits(rule: &str) -> Result<bool, Report> {
    let text = format!("[[listeners]]\naddress = \"0.0.0.0:6664\"\n{rule}\n[vault]");
    let config = parse(&GOOD.replace("[vault]", &text))?;
    let exposed = config.server.listeners.iter().find(|one| match &one.listen {
        Listen::Tcp(address) => address.ip().is_unspecified(),
        Listen::Unix { .. } => false,
    });
    Ok(exposed.unwrap().entrance.anonymous)
}

/// A change that somebody's editor, or somebody's cat, could make.
#[derive(Clone, Debug)]
enum Change {
    Delete(prop::sample::Index, usize),
    Insert(prop::sample::Index, &'static str),
    Double(prop::sample::Index, usize),
    Cut(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let bits = prop::sample::select(vec![
        "\"",
        "'",
        "\"\"\"",
        "=",
        "[",
        "]",
        "[[",
        "{",
        "}",
        ".",
        ",",
        "#",
        "\n",
        "\r",
        "\t",
        "\\",
        "\\u",
        " ",
        "-",
        "é",
        "漢",
        "\u{1b}[2J",
        "\u{202e}",
        "0",
        "s",
        "true",
        "1e9",
        "inf",
    ]);
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), 1..30usize).prop_map(|(at, length)| Change::Delete(at, length)),
        (at(), bits).prop_map(|(at, bit)| Change::Insert(at, bit)),
        (at(), 1..60usize).prop_map(|(at, length)| Change::Double(at, length)),
        at().prop_map(Change::Cut),
    ]
}

fn changed(text: &str, changes: &[Change]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for change in changes {
        let place = |at: &prop::sample::Index| at.index(chars.len() + 1);
        match change {
            Change::Delete(at, length) => {
                let at = place(at);
                chars.drain(at..(at + length).min(chars.len()));
            }
            Change::Insert(at, bit) => {
                let at = place(at);
                chars.splice(at..at, bit.chars());
            }
            Change::Double(at, length) => {
                let at = place(at);
                let piece = chars[at..(at + length).min(chars.len())].to_vec();
                chars.splice(at..at, piece);
            }
            Change::Cut(at) => chars.truncate(place(at)),
        }
    }
    chars.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_to_a_file_no_report_panics_or_shows_a_token(
        changes in prop::collection::vec(change(), 1..6),
        whose in 0..3usize,
    ) {
        let secret = format!("secret = \"{TOKEN}\"");
        let text = match whose {
            0 => GOOD.replace("secret = \"OMNI_API_KEY\"", &secret),
            1 => format!("{GOOD}# {TOKEN}\ntoken = \"{TOKEN}\"\n"),
            _ => include_str!("bad.toml").to_owned(),
        };
        if let Err(report) = parse(&changed(&text, &changes)) {
            let shown = format!("{report}{}{report:?}", report.colored());
            prop_assert!(!shows_a_part_of_the_token(&shown), "{}", shown);
            prop_assert!(report.count() > 0);
            let tricks = report.to_string().contains(['\u{1b}', '\u{202e}', '\t', '\r']);
            prop_assert!(!tricks, "{:?}", report);
        }
    }
}

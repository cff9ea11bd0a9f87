//! What `check` says about budgets that are shared, and about those that are not and perhaps should be.

use std::num::NonZeroU32;
use std::path::Path;
use std::process::Command;

use omnigate::config::{self, Config, Report, SharedSettings};
use omnigate::credential::Source;
use omnigate::net::{RedisPlace, RedisWay, TlsRoots};
use omnigate::shape::OnLost;

use crate::GOOD;

fn parse(more: &str) -> Result<Config, Report> {
    config::parse(&format!("{GOOD}\n{more}\n"), Path::new("/etc/omnigate/omnigate.toml"))
}

fn shared(said: &str) -> Option<SharedSettings> {
    parse(&format!("[shared]\n{said}")).unwrap_or_else(|report| panic!("{report}")).shared
}

/// The only problem of a `[shared]`.
fn problem(said: &str) -> String {
    let report = parse(&format!("[shared]\n{said}")).map(|_| ()).unwrap_err();
    assert_eq!(report.count(), 1, "{report}");
    report.to_string()
}

fn warnings(text: &str) -> String {
    parse(text).unwrap().warnings.map_or(String::new(), |report| report.to_string())
}

#[test]
fn budgets_are_shared_as_the_file_says() {
    for own in ["", "backend = \"none\"\nurl = \"redis://a\"\non_lost = \"local\"", "instances = 1"]
    {
        assert_eq!(shared(own), None, "{own}");
    }
    let way = RedisWay::Tcp {
        host: "redis.internal".to_owned(),
        port: 7000,
        tls: Some(TlsRoots::System),
    };
    let place = RedisPlace { way, username: Some("ada".to_owned()), database: 2 };
    let password = Some(Source::Env { name: "REDIS_PASSWORD".to_owned() });
    let said = "backend = \"redis\"\nurl = \"rediss://ada@redis.internal:7000/2\"\n\
        password = \"REDIS_PASSWORD\"";
    let expected = SharedSettings {
        place: place.clone(),
        password: password.clone(),
        on_lost: OnLost::Hold,
        trust_empty: false,
    };
    assert_eq!(shared(said), Some(expected));
    let said = "backend = \"redis\"\nurl = \"unix:///run/redis.sock\"\nusername = \"ada\"\n\
        password = { name = \"REDIS_PASSWORD\" }\non_lost = \"share\"\ninstances = 60\n\
        cold_start = \"trust\"";
    let expected = SharedSettings {
        place: RedisPlace { way: RedisWay::Unix("/run/redis.sock".into()), database: 0, ..place },
        password,
        on_lost: OnLost::Share { instances: NonZeroU32::new(60).unwrap() },
        trust_empty: true,
    };
    assert_eq!(shared(said), Some(expected));
}

#[test]
fn a_password_in_the_url_is_refused_and_shown_nowhere() {
    for url in [
        "redis://:hunter2@redis.internal/0",
        "rediss://ada:hunter2@redis.internal/0",
        "redis://ada:hun%74er2@redis.internal/0",
        "redis://ada:hunter2@x@redis.internal/0",
        "unix:///run/redis.sock?password=hunter2",
        "http://ada:hunter2@redis.internal",
    ] {
        // Also where nothing is shared, and beside another problem of the same line.
        for backend in ["redis", "none"] {
            let said = problem(&format!("backend = \"{backend}\"\nurl = \"{url}\""));
            assert!(said.contains("`url`: a password stands in it"), "{said}");
            assert!(said.contains("password = \"NAME\""), "{said}");
            assert!(!said.contains("hunter2") && !said.contains("hun%74er2"), "{said}");
        }
    }
    let token = "omni_osk_PLANTED0q7Zk3mT9xW2bV8nR5cY1aD4eF6gH7iJ0kL2oP5sU8tX";
    for said in [
        format!("password = \"{token}\""),
        format!("password = {{ name = \"{token}\" }}"),
        format!("username = \"{token}\"\npassword = \"A\""),
        "password = \"my hunter2!\"".to_owned(),
    ] {
        let said = problem(&format!("backend = \"redis\"\nurl = \"redis://localhost\"\n{said}"));
        assert!(!said.contains("PLANTED") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn what_does_not_fit_together_is_told() {
    let redis = "backend = \"redis\"\nurl = \"redis://localhost\"\n";
    let tls = "backend = \"redis\"\nurl = \"rediss://redis.internal\"\n";
    for (said, told) in [
        ("backend = \"redis\"".to_owned(), "needs a `url`"),
        ("url = \"redis://a\"".to_owned(), "a `url`, but no `backend`"),
        ("backend = \"redis\"\nurl = \"localhost:6379\"".to_owned(), "rediss://redis.internal:6379/0"),
        ("backend = \"redis\"\nurl = \"unix://redis.sock\"".to_owned(), "an absolute path"),
        (format!("{redis}username = \"ada\""), "there is no `password`"),
        (
            "backend = \"redis\"\nurl = \"redis://ada@localhost\"".to_owned(),
            "there is no `password`",
        ),
        (
            "backend = \"redis\"\nurl = \"redis://ada@localhost\"\nusername = \"ada\"\npassword = \"A\""
                .to_owned(),
            "names a user too",
        ),
        (format!("{redis}on_lost = \"share\""), "needs `instances`"),
        (format!("{redis}on_lost = \"share\"\ninstances = 61"), "at most 60"),
        ("backend = \"redys\"\nurl = \"redis://localhost\"".to_owned(), "did you mean `redis`?"),
        (format!("{redis}instances = 0"), "must be at least 1"),
        (format!("{tls}tls_roots = \"missing.pem\""), "`tls_roots`: cannot read certificates"),
        (format!("{redis}password = {{ provider = \"b\", name = \"A\" }}"), "no provider `b`"),
        (format!("{redis}pasword = \"A\""), "did you mean `password`?"),
        (format!("{redis}on_lost = \"wait\""), "`on_lost` cannot be"),
    ] {
        let report = problem(&said);
        assert!(report.contains(told), "{said}\n{report}");
    }
    // The smallest of all limits counts.
    let said = "[budgets.omni]\nlimit = 60\n[budgets.small]\nlimit = 2\n[shared]\nbackend = \"redis\"\n\
        url = \"redis://localhost\"\non_lost = \"share\"\ninstances = 3";
    let text = format!("{GOOD}\n{said}").replace("kind =", "budget = \"omni\"\nkind =");
    let report = config::parse(&text, Path::new("omnigate.toml")).map(|_| ()).unwrap_err();
    assert!(report.to_string().contains("a limit of 2 cannot be shared out to 3"), "{report}");
}

#[test]
fn roots_that_nothing_uses_are_no_roots() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, params.self_signed(&key).unwrap().pem()).unwrap();
    let with = |url: &str| {
        format!("backend = \"redis\"\nurl = \"{url}\"\ntls_roots = \"{}\"", pem.display())
    };
    for url in ["redis://localhost", "unix:///run/redis.sock"] {
        let said = problem(&with(url));
        assert!(said.contains("does not speak TLS"), "{said}");
    }
    let RedisWay::Tcp { tls, .. } = shared(&with("rediss://redis.internal")).unwrap().place.way
    else {
        panic!()
    };
    assert_eq!(tls, Some(TlsRoots::File(pem)));
}

#[test]
fn a_password_that_can_be_read_on_the_way_is_warned_of() {
    for (url, warned) in [
        ("redis://redis.internal", true),
        ("redis://10.0.0.7", true),
        ("redis://localhost", false),
        ("redis://127.0.0.9", false),
        ("redis://[::1]", false),
        ("rediss://redis.internal", false),
        ("unix:///run/redis.sock", false),
    ] {
        let said = format!("[shared]\nbackend = \"redis\"\nurl = \"{url}\"\n");
        assert_eq!(warnings(&said), "", "{url}");
        let said = warnings(&format!("{said}password = \"A\""));
        assert_eq!(said.contains("can be read on the way"), warned, "{said}");
    }
}

#[test]
fn budgets_that_are_not_shared_are_warned_of_where_several_are_likely() {
    let exposed = "[[listeners]]\naddress = \"0.0.0.0:6664\"\nallow_anonymous = true\n";
    let own = "spends a whole budget of its own";
    for (said, told) in [
        (exposed.to_owned(), own),
        (format!("{exposed}[shared]\nbackend = \"none\""), own),
        ("[shared]\ninstances = 3".to_owned(), "3 instances may send 3 times as much"),
        (format!("{exposed}[shared]\ninstances = 3"), "3 instances may send 3 times as much"),
        // Somebody has looked at it.
        (format!("{exposed}[shared]\ninstances = 1"), ""),
        (format!("{exposed}[shared]\nbackend = \"redis\"\nurl = \"redis://localhost\""), ""),
        ("[[listeners]]\naddress = \"127.0.0.1:1\"".to_owned(), ""),
        ("[[listeners]]\naddress = \"unix:/run/a.sock\"".to_owned(), ""),
    ] {
        let warnings = warnings(&said);
        assert!(warnings.contains(told), "{said}\n{warnings}");
        let count = usize::from(!told.is_empty());
        assert_eq!(warnings.matches("the budgets are not shared").count(), count, "{warnings}");
        assert!(count == 0 || warnings.contains("backend = \"redis\""), "{warnings}");
    }
}

#[test]
fn a_process_in_kubernetes_is_warned_and_check_exits_0() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("omnigate.toml");
    std::fs::write(&file, GOOD).unwrap();
    for (inside, times) in [(false, 0), (true, 1)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omnigate"));
        command.arg("check").arg(&file).env_remove("KUBERNETES_SERVICE_HOST");
        if inside {
            command.env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
        }
        let output = command.output().unwrap();
        assert!(output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.matches("this runs in Kubernetes").count(), times, "{said}");
        assert_eq!(said.matches("1 warning in").count(), times, "{said}");
    }
}

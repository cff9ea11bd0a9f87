//! What `check` says about the places where secrets are kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use omnigate::config::{self, Config, Report};
use omnigate::credential::{AgeSettings, ExecSettings, HashicorpSettings, Held, Login, Source};
use omnigate::net::TlsRoots;

const START: &str = r#"
state_dir = "/var/lib/omnigate"
[upstream]
base_url = "https://acme.omniapp.co"
[[routes]]
name = "all"
path = "/{*rest}"
credential = "org"
[credentials.org]
kind = "organization"
on_missing = "degrade"
"#;

/// The start, its credential's secret, and where that is.
fn parse(secret: &str, vault: &str) -> Result<Config, Report> {
    let text = format!("{START}\nsecret = {secret}\n{vault}\n");
    config::parse(&text, Path::new("/etc/omnigate/omnigate.toml"))
}

fn source(secret: &str, vault: &str) -> Source {
    let config = parse(secret, vault).unwrap_or_else(|report| panic!("{report}"));
    config.credentials[0].source.clone()
}

const EXEC: &str = r#"
[vault]
allow_exec = ["/usr/bin/env"]
backend = "exec"
command = ["/usr/bin/env", "echo", "op://omni/{name}/token"]
"#;

const CORP: &str = r#"
[vault.providers.corp]
backend = "hashicorp"
address = "https://vault.internal:8200"
auth = { method = "token", token_env = "VAULT_TOKEN" }
"#;

#[test]
fn each_provider_is_what_the_file_says() {
    let age = AgeSettings {
        path: "/etc/omnigate/vault.age".into(),
        identity: "/etc/omnigate/keys/identity.txt".into(),
    };
    let said = "[vault]\nbackend = \"age\"\npath = \"vault.age\"\nidentity = \"keys/identity.txt\"";
    assert_eq!(source("\"org\"", said), Source::Age { vault: age, name: "org".into() });

    let command = ExecSettings {
        program: "/usr/bin/env".into(),
        args: vec!["echo".into(), "op://omni/{name}/token".into()],
        env: Vec::new(),
        timeout: Duration::from_secs(10),
        refresh: None,
    };
    assert_eq!(source("\"org\"", EXEC), Source::Exec { command, name: "org".into() });

    let vault = HashicorpSettings {
        host: "vault.internal".into(),
        port: 8200,
        tls: Some(TlsRoots::System),
        namespace: None,
        mount: "secret".into(),
        login: Login::Token(Held::Env("VAULT_TOKEN".into())),
        refresh: Duration::from_secs(60),
        timeout: Duration::from_secs(10),
    };
    let vault = Arc::new(vault);
    let place = "{ provider = \"corp\", path = \"omni/org\", field = \"key\" }";
    let (path, field) = ("omni/org".into(), "key".into());
    assert_eq!(source(place, CORP), Source::Hashicorp { vault: vault.clone(), path, field });
    let (path, field) = ("omni/org".into(), "token".into());
    let place = "{ provider = \"corp\", path = \"omni/org\" }";
    assert_eq!(source(place, CORP), Source::Hashicorp { vault, path, field });
}

#[test]
fn each_way_to_log_in_is_what_the_file_says() {
    let login = |auth: &str| {
        let auth = format!("auth = {{ {auth} }}");
        let corp = CORP.replace(CORP.lines().nth(4).unwrap(), &auth);
        match source("{ provider = \"corp\", path = \"a\" }", &corp) {
            Source::Hashicorp { vault, .. } => vault.login.clone(),
            other => panic!("{other:?}"),
        }
    };
    let file = |path: &str| Held::File(PathBuf::from(path));
    assert_eq!(
        login("method = \"token\", token_file = \"token\""),
        Login::Token(file("/etc/omnigate/token"))
    );
    let said = "method = \"approle\", role_id = \"r\", secret_id_file = \"/run/s\", wrapped = true";
    let expected = Login::AppRole {
        mount: "approle".into(),
        role_id: "r".into(),
        secret_id: file("/run/s"),
        wrapped: true,
    };
    assert_eq!(login(said), expected);
    let jwt = "/var/run/secrets/kubernetes.io/serviceaccount/token".into();
    let expected = Login::Kubernetes { mount: "k8s/eu".into(), role: "omnigate".into(), jwt };
    assert_eq!(
        login("method = \"kubernetes\", role = \"omnigate\", mount = \"k8s/eu/\""),
        expected
    );
}

#[test]
fn one_slip_about_a_provider_is_told_once() {
    let exec = |old: &str, new: &str| ("\"org\"", EXEC.replacen(old, new, 1));
    let corp = |old: &str, new: &str| {
        assert!(CORP.contains(old));
        ("{ provider = \"corp\", path = \"omni/org\" }", CORP.replacen(old, new, 1))
    };
    let auth = "method = \"token\", token_env = \"VAULT_TOKEN\"";
    let cases = [
        (("\"org\"", "[vault]\nbackend = \"age\"\npath = \"a\"".to_owned()), "needs an `identity`"),
        (("\"org\"", "[vault]\nidentity = \"a\"".to_owned()), "has a `identity`, but no `backend`"),
        (("\"org\"", "[vault]\nbackend = \"env\"\nmount = \"a\"".to_owned()), "has no `mount`"),
        (
            ("\"a/b\"", "[vault]\nbackend = \"age\"\npath = \"a\"\nidentity = \"b\"".to_owned()),
            "is an entry's name",
        ),
        (exec("allow_exec = [\"/usr/bin/env\"]", ""), "not on the list of programs"),
        (exec("[\"/usr/bin/env\"]", "[\"/usr/bin/en\"]"), "not on the list of programs"),
        (exec("[\"/usr/bin/env\", \"echo\"", "[\"env\", \"echo\""), "must be an absolute path"),
        (exec("command =", "#"), "needs a `command`"),
        (exec("command =", "command = []\n#"), "`command` is empty"),
        (exec("backend =", "env = [\"A=B\"]\nbackend ="), "not the name of a variable"),
        (exec("backend =", "timeout = \"0s\"\nbackend ="), "`timeout` must be more than 0"),
        (exec("backend =", "refresh = \"100ms\"\nbackend ="), "`refresh` must be at least 1s"),
        (corp("auth =", "refresh = \"0s\"\nauth ="), "`refresh` must be at least 1s"),
        (corp("address =", "#"), "needs an `address`"),
        (corp("https://vault.internal:8200", "http://vault.internal:8200"), "`address`: http://"),
        (
            corp("https://vault.internal:8200", "https://vault.internal/v1"),
            "`address`: only scheme",
        ),
        (corp("auth =", "#"), "needs an `auth`"),
        (corp(auth, "token_env = \"T\""), "`method` is missing"),
        (corp(auth, "method = \"token\""), "`token_file` or `token_env` is missing"),
        (
            corp(auth, "method = \"token\", token_env = \"T\", token_file = \"t\""),
            "exclude each other",
        ),
        (corp(auth, "method = \"token\", token_env = \"T\", role = \"r\""), "has no `role`"),
        (corp(auth, "method = \"approle\", secret_id_env = \"S\""), "AppRole needs a `role_id`"),
        (corp(auth, "method = \"kubernetes\""), "Kubernetes needs a `role`"),
        (corp("auth =", "mount = \"a/../b\"\nauth ="), "no path of a Vault server"),
        (corp("auth =", "tls_roots = \"/nonexistent/ca.pem\"\nauth ="), "`tls_roots`"),
        (("{ provider = \"corp\", path = \"a/../b\" }", CORP.to_owned()), "no path of a secret"),
        (("{ provider = \"corp\", name = \"a\" }", CORP.to_owned()), "told by `path`"),
        (("{ provider = \"corp\" }", CORP.to_owned()), "`path` is missing in `secret`"),
        (("{ name = \"a\", field = \"b\" }", EXEC.to_owned()), "told by `name`"),
        (("\"-x\"", EXEC.to_owned()), "read as an option"),
    ];
    for ((secret, vault), told) in cases {
        let report = parse(secret, &vault).map(|_| ()).unwrap_err().to_string();
        assert!(
            report.ends_with("\n1 problem in /etc/omnigate/omnigate.toml"),
            "{told}:\n{report}"
        );
        assert!(report.contains(told) && report.contains('^'), "{told}:\n{report}");
    }
}

#[test]
fn a_secret_in_place_of_its_place_is_never_shown() {
    let vaults =
        ["hvs.CAESIJx1PLANTED", "AGE-SECRET-KEY-1PLANTEDQQ", "omni_osk_PLANTED0q7Zk3mT9xW2bV8"];
    for planted in vaults {
        let places = [
            CORP.replace("token_env = \"VAULT_TOKEN\"", &format!("token_file = \"{planted}\"")),
            CORP.replace("VAULT_TOKEN", planted),
            format!("{CORP}\npath = \"{planted}\""),
            format!("[vault]\nbackend = \"age\"\npath = \"a\"\nidentity = \"{planted}\"\n{CORP}"),
            format!("{EXEC}{CORP}").replace("op://omni/{name}/token", planted),
        ];
        for place in places {
            let secret = "{ provider = \"corp\", path = \"a\" }";
            let report = parse(secret, &place).map(|_| ()).unwrap_err().to_string();
            assert!(!report.contains("PLANTED"), "{report}");
        }
    }
}

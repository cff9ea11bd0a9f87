//! The program's environment: where the gateway is, a dummy for a key, and no real one.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

use crate::config::Config;
use crate::credential::{Held, Login, Source};
use crate::omni;

/// What stands where a client looks for its key. No secret, and says so wherever it is logged.
const DUMMY: &str = "omnigate-adds-the-key";

/// Where Omni's clients look for the base URL.
const BASE_URL: &str = "OMNI_BASE_URL";
/// Where they look for a key: the Python SDK and the CLI.
const KEYS: [&str; 2] = ["OMNI_API_KEY", "OMNI_API_TOKEN"];
/// Omni's CLI sends nothing over http:// without it, and nothing to hosts that are not Omni's.
const ALLOW_HTTP: &str = "OMNI_CLI_DANGEROUSLY_ALLOW_INSECURE_REQUESTS";

/// Names under which tools keep real keys, or tokens of the gateway's, besides [`KEYS`].
const SECRETS: [&str; 12] = [
    "OMNI_ACCESS_TOKEN",
    "OMNI_API_SECRET",
    "OMNI_BEARER_TOKEN",
    "OMNI_KEY",
    "OMNI_ORG_API_KEY",
    "OMNI_PAT",
    "OMNI_REFRESH_TOKEN",
    "OMNI_SESSION",
    "OMNI_SESSION_TOKEN",
    "OMNI_TOKEN",
    "OMNIGATE_ADMIN_TOKEN",
    "OMNIGATE_TOKEN",
];

/// By these, clients are sent to a proxy, with calls to http://127.0.0.1 too.
const PROXIES: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
/// And by these they are not.
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// What is different from ours.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) set: Vec<(&'static str, OsString)>,
    /// Those that held something, or may have; for people too.
    pub(super) removed: BTreeSet<OsString>,
}

impl Environment {
    /// The environment of a program that finds the gateway at `relay`, out of `ours`.
    pub(super) fn new(
        relay: SocketAddr,
        config: Option<&Config>,
        ours: impl Iterator<Item = (OsString, OsString)>,
    ) -> Self {
        let named: BTreeSet<OsString> = config.map(named).unwrap_or_default();
        let ours: Vec<(OsString, OsString)> = ours.collect();
        let is_secret = |name: &OsStr, value: &OsStr| {
            let known = |it: &&str| name == *it && value != DUMMY;
            named.contains(name)
                || KEYS.iter().chain(&SECRETS).any(known)
                || holds_key(value.as_bytes())
        };
        let secret = ours.iter().filter(|(name, value)| is_secret(name, value));
        let removed = secret.map(|(name, _)| name.clone()).collect();
        let mut set = vec![(BASE_URL, format!("http://{relay}").into())];
        set.extend(KEYS.map(|name| (name, DUMMY.into())));
        set.push((ALLOW_HTTP, "1".into()));
        let value = |name: &str| {
            let found = ours.iter().find(|(it, _)| it == name);
            found.map(|(_, value)| value).filter(|value| !value.is_empty())
        };
        if PROXIES.iter().any(|name| value(name).is_some()) {
            let others = NO_PROXY.iter().find_map(|name| value(name));
            let spared = |name| (name, beside(value(name).or(others)));
            set.extend(NO_PROXY.map(spared));
        }
        Self { set, removed }
    }

    /// What was taken out, for people.
    pub(super) fn note(&self) -> Option<String> {
        let names: Vec<_> = self.removed.iter().map(|name| name.to_string_lossy()).collect();
        let names = names.join(", ");
        (!names.is_empty()).then(|| format!("the program does not get to see your {names}"))
    }
}

/// The loopback beside what is spared already.
fn beside(spared: Option<&OsString>) -> OsString {
    let mut all = spared.cloned().unwrap_or_default();
    if all != "*" {
        if !all.is_empty() {
            all.push(",");
        }
        all.push("127.0.0.1,localhost");
    }
    all
}

/// Whether there is a key of Omni's anywhere in a value, as in `Bearer …` or a piece of JSON.
fn holds_key(value: &[u8]) -> bool {
    let starts = memchr::memmem::find_iter(value, omni::TOKEN_PREFIX);
    starts.into_iter().any(|start| {
        let rest = &value[start..];
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let end = rest.iter().position(|byte| !plain(byte)).unwrap_or(rest.len());
        omni::looks_like_token(&rest[..end])
    })
}

/// What of our environment is a secret of the config's.
fn named(config: &Config) -> BTreeSet<OsString> {
    let password = config.shared.as_ref().and_then(|shared| shared.password.as_ref());
    let password = password.into_iter().flat_map(variables);
    secrets_of(config).chain(password).map(OsString::from).collect()
}

/// The variables that a config reads its keys from, or by which it comes to them; in its order.
pub(super) fn secrets_of(config: &Config) -> impl Iterator<Item = &str> {
    config.credentials.iter().flat_map(|credential| variables(&credential.source))
}

fn variables(source: &Source) -> Vec<&str> {
    match source {
        Source::Env { name } => vec![name],
        Source::Hashicorp { vault, .. } => match &vault.login {
            Login::Token(Held::Env(name)) => vec![name],
            Login::AppRole { secret_id: Held::Env(name), .. } => vec![name],
            Login::Token(Held::File(_))
            | Login::AppRole { secret_id: Held::File(_), .. }
            | Login::Kubernetes { .. } => Vec::new(),
        },
        // What its program opens the store with opens it for whoever has it.
        Source::Exec { command, .. } => {
            let names = command.env.iter().map(String::as_str);
            names.filter(|name| sounds_secret(name)).collect()
        }
        Source::Dir { .. } | Source::File { .. } | Source::Age { .. } | Source::Given { .. } => {
            Vec::new()
        }
    }
}

/// Whether a variable that a secret's program is given is presumably a secret, and no path or setting.
fn sounds_secret(name: &str) -> bool {
    const WORDS: [&str; 6] = ["TOKEN", "SECRET", "PASSWORD", "PASSPHRASE", "KEY", "PAT"];
    let name = name.to_ascii_uppercase();
    let is_session = name == "BW_SESSION" || name.starts_with("OP_SESSION_");
    is_session || name.split('_').any(|word| WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn of(ours: &[(&str, &str)], config: Option<&Config>) -> Environment {
        let ours = ours.iter().map(|(name, value)| (name.into(), value.into()));
        Environment::new("127.0.0.1:9".parse().unwrap(), config, ours)
    }

    fn value(environment: &Environment, name: &str) -> Option<String> {
        let found = environment.set.iter().find(|(it, _)| *it == name);
        found.map(|(_, value)| value.to_str().unwrap().to_owned())
    }

    fn key() -> String {
        format!("{}{}", omni::TOKEN_PREFIX, "a".repeat(56))
    }

    #[test]
    fn clients_find_the_relay_and_a_dummy() {
        let environment = of(&[("HOME", "/root")], None);
        assert_eq!(value(&environment, "OMNI_BASE_URL").as_deref(), Some("http://127.0.0.1:9"));
        assert_eq!(value(&environment, "OMNI_API_KEY").as_deref(), Some(DUMMY));
        assert_eq!(value(&environment, "OMNI_API_TOKEN").as_deref(), Some(DUMMY));
        assert_eq!(
            value(&environment, "OMNI_CLI_DANGEROUSLY_ALLOW_INSECURE_REQUESTS").as_deref(),
            Some("1")
        );
        assert_eq!((environment.set.len(), environment.note()), (4, None));
    }

    #[test]
    fn no_real_key_stays_under_whatever_name() {
        let (plain, bearer, json) =
            (key(), format!("Bearer {}", key()), format!("{{\"key\":\"{}\"}}", key()));
        let environment = of(
            &[
                ("OMNI_API_KEY", "something"),
                ("OMNI_TOKEN", ""),
                ("MINE", &plain),
                ("HEADER", &bearer),
                ("JSON", &json),
                ("OMNIGATE_TOKEN", "word"),
                ("SHORT", "omni_osk_abc"),
                ("OMNI_MODEL_ID", "1"),
            ],
            None,
        );
        let note = environment.note().unwrap();
        assert!(
            note.ends_with("your HEADER, JSON, MINE, OMNIGATE_TOKEN, OMNI_API_KEY, OMNI_TOKEN"),
            "{note}"
        );
    }

    #[test]
    fn an_exec_within_an_exec_takes_no_dummy_for_a_key() {
        assert_eq!(of(&[("OMNI_API_KEY", DUMMY)], None).note(), None);
    }

    #[test]
    fn what_the_config_reads_its_keys_from_is_not_handed_on() {
        let text = r#"
            [upstream]
            base_url = "https://acme.omniapp.co"
            [vault]
            backend = "env"
            [credentials.org]
            kind = "organization"
            secret = "CORP_BI_SECRET"
            [[routes]]
            name = "all"
            path = "/{*rest}"
            credential = "org"
        "#;
        let config = config::parse(text, Path::new("/x/omnigate.toml")).unwrap();
        let environment = of(&[("CORP_BI_SECRET", "older form"), ("CORP", "x")], Some(&config));
        let removed: Vec<_> = environment.removed.iter().collect();
        assert_eq!(removed, ["CORP_BI_SECRET"]);
    }

    #[test]
    fn what_opens_the_store_of_the_keys_is_not_handed_on_and_other_settings_are() {
        let text = r#"
            [upstream]
            base_url = "https://acme.omniapp.co"
            [vault]
            backend = "exec"
            command = ["/usr/bin/env", "{name}"]
            env = ["OP_SERVICE_ACCOUNT_TOKEN", "OP_SESSION_acme", "XDG_SESSION_ID", "OP_CONFIG_DIR"]
            allow_exec = ["/usr/bin/env"]
            [credentials.org]
            kind = "organization"
            secret = "org"
            [[routes]]
            name = "all"
            path = "/{*rest}"
            credential = "org"
        "#;
        let config = config::parse(text, Path::new("/x/omnigate.toml"));
        let config = config.unwrap_or_else(|report| panic!("{report}"));
        let names =
            ["OP_SERVICE_ACCOUNT_TOKEN", "OP_SESSION_acme", "XDG_SESSION_ID", "OP_CONFIG_DIR"];
        let environment = of(&names.map(|name| (name, "x")), Some(&config));
        let removed: Vec<_> = environment.removed.iter().collect();
        assert_eq!(removed, ["OP_SERVICE_ACCOUNT_TOKEN", "OP_SESSION_acme"]);
    }

    #[test]
    fn a_proxy_is_not_asked_for_the_loopback() {
        let both = |environment: &Environment| {
            ["no_proxy", "NO_PROXY"].map(|name| value(environment, name).unwrap())
        };
        let here = "127.0.0.1,localhost";
        assert_eq!(both(&of(&[("http_proxy", "http://p:3128")], None)), [here, here]);
        let corp = format!(".corp,{here}");
        assert_eq!(both(&of(&[("ALL_PROXY", "x"), ("NO_PROXY", ".corp")], None)), [&*corp, &*corp]);
        assert_eq!(both(&of(&[("HTTP_PROXY", "x"), ("no_proxy", "*")], None)), ["*", "*"]);
        assert_eq!(value(&of(&[("https_proxy", "x")], None), "no_proxy"), None);
    }
}

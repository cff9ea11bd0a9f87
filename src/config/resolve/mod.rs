//! What the file says, to the settings that each room takes.
//!
//! A section gives `None` for what it could not make, and only after the reason was noted, here
//! or by the walk over the tree. So nothing is reported twice, and every problem is found at once.

mod budgets;
mod cache;
mod callers;
mod catalogue;
mod credentials;
mod impersonation;
mod keys;
mod listen;
mod listeners;
mod login;
mod otlp;
mod providers;
mod routes;
mod savers;
mod secrets;
mod shared;
mod store_url;
mod telemetry;
mod upstream;

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Config;
use crate::config::at::At;
use crate::config::blot::{self, Hidden};
use crate::config::file::File;
use crate::config::report::Problems;
use crate::config::resolve::shared::Sharing;
use crate::config::units::Period;

/// What is wrong, what looks wrong, and what must not be shown.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) problems: Problems,
    pub(super) warnings: Problems,
    pub(super) hidden: Hidden,
}

/// What the meaning of a file depends on besides its text.
pub(super) struct Surroundings<'a> {
    /// The folder that relative paths start from.
    pub(super) folder: &'a Path,
    /// The environment.
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Surroundings<'_> {
    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.join(path)
    }
}

/// Resolves a whole file; `None` exactly when there is at least one problem. Warnings stay in the
/// notes.
pub(super) fn resolve(file: &File, around: &Surroundings<'_>, notes: &mut Notes) -> Option<Config> {
    let state_dir = state_dir(file, around, notes);
    let (server, admin) = listen::resolve(file, around, notes);
    let hosts = listen::hosts(&file.server.hosts, notes);
    let upstream = file.upstream.as_ref().and_then(|u| upstream::resolve(u, around, notes));
    let replay = file.upstream.as_ref().and_then(|u| upstream::replay(u, notes));
    let listeners = server.as_ref().map(|server| server.listeners.as_slice());
    let callers = callers::resolve(file, listeners, notes);
    let budgets = budgets::resolve(&file.budgets, notes);
    let credentials = credentials::resolve(file, &budgets, around, notes);
    let of_budgets = budgets.settings.as_deref();
    let shared = shared::resolve(file, &credentials.stores, of_budgets, around, notes);
    let cache = cache::settings(&file.cache, notes);
    let routes = routes::resolve(file, &budgets, &credentials, notes);
    let telemetry = telemetry::resolve(&file.telemetry, around, notes);
    let shared = match shared? {
        Sharing::With(settings) => Some(*settings),
        Sharing::Own => {
            shared::warn_of_own_budgets(file, &server.as_ref()?.listeners, around, notes);
            None
        }
    };
    let config = Config {
        state_dir: state_dir?,
        server: server?,
        admin: admin?,
        upstream: upstream?,
        replay: replay?,
        hosts: hosts?,
        callers: callers?,
        probes: credentials.probes(routes.as_deref()?),
        credentials: credentials.settings?,
        budgets: budgets.settings?,
        shared,
        cache: cache?,
        routes: routes?,
        telemetry: telemetry?,
        warnings: None,
    };
    notes.problems.is_empty().then_some(config)
}

/// Where the ledger is kept: as said, or where systemd or the user's desktop keep such things.
fn state_dir(file: &File, around: &Surroundings<'_>, notes: &mut Notes) -> Option<PathBuf> {
    if let Some(said) = &file.state_dir {
        if said.value.as_os_str().is_empty() {
            notes
                .problems
                .at(&said.span, "`state_dir` is empty")
                .help("leave it out, or name a folder");
            return None;
        }
        return Some(around.path(&said.value));
    }
    let variable = |name| (around.variable)(name).filter(|value| !value.is_empty());
    // systemd may list several folders; ours is the first.
    let systemd = variable("STATE_DIRECTORY")
        .and_then(|list| Some(PathBuf::from(list.to_str()?.split(':').next()?)));
    let user = || {
        let state = variable("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || variable("HOME").map(|home| Path::new(&home).join(".local/state"));
        Some(state.or_else(home)?.join("omnigate"))
    };
    let found = systemd.or_else(user);
    if found.is_none() {
        notes
            .problems
            .whole("`state_dir` is missing, and without HOME there is no default for it")
            .help("add state_dir = \"/var/lib/omnigate\"");
    }
    found
}

/// The duration that was said, or the default.
fn period(said: &Option<At<Period>>, default: Duration) -> Duration {
    said.as_ref().map_or(default, |at| at.value.0)
}

/// The duration that was said, or the default; not zero.
fn some_time(
    name: &str,
    said: &Option<At<Period>>,
    default: Duration,
    notes: &mut Notes,
) -> Option<Duration> {
    let time = period(said, default);
    match said {
        Some(at) if time.is_zero() => {
            notes.problems.at(&at.span, format!("`{name}` must be more than 0"));
            None
        }
        _ => Some(time),
    }
}

/// Whether a name is fit for log lines, metrics and problem documents.
fn name_is_plain(name: &str, span: &Range<usize>, what: &str, notes: &mut Notes) -> bool {
    if blot::is_token(name) {
        notes.hidden.0.push(span.clone());
        notes.problems.at(span, format!("the name of a {what} looks like a token")).help(
            "names are shown; take another, and revoke the token if others may have seen this file",
        );
        return false;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (1..=64).contains(&name.len()) && name.chars().all(plain);
    if !fits {
        notes.problems.at(
            span,
            format!("the name of a {what} has 1 to 64 letters, digits and `-`, `_`, `.`"),
        );
    }
    fits
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use crate::base::{BudgetId, CallerId, CredentialId, Priority};
    use crate::caller::{Caller, CallerSettings, Cidr, Match, Rate};
    use crate::config::{Config, Report, parse_in};
    use crate::credential::Source;
    use crate::policy::{Impersonation, Membership};
    use crate::proxy::ReplaySettings;
    use crate::server::Listen;
    use crate::shape::{Key, Profile, Scope};

    use super::*;

    const START: &str = r#"
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

    fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, Report> {
        let variable = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        };
        parse_in(text, Path::new("/etc/omnigate/omnigate.toml"), &variable)
    }

    fn home(text: &str) -> Config {
        read(text, &[("HOME", "/home/ada")]).unwrap()
    }

    fn key(credential: &str, budgets: &[&str]) -> Key {
        let budgets = budgets.iter().map(|budget| BudgetId::new(*budget)).collect();
        Key { credential: CredentialId::new(credential), budgets }
    }

    #[test]
    fn a_start_needs_no_more_than_a_key_and_a_route() {
        let config = home(START);
        assert_eq!(
            config.server.listeners,
            [Listen::Tcp("127.0.0.1:6664".parse().unwrap()).into()]
        );
        assert_eq!(config.admin.listen.to_string(), "127.0.0.1:6663");
        assert_eq!(config.admin.probe_listen, None);
        let budget = &config.budgets[0];
        assert_eq!((budget.id.as_str(), budget.limit.get()), ("omni", 60));
        assert_eq!(budget.window, Duration::from_secs(60));
        assert_eq!(budget.profile, Profile::Smooth { burst: NonZeroU32::new(10).unwrap() });
        assert_eq!((budget.reserve, budget.scope), (0, Scope::Organization));
        assert_eq!(config.routes[0].keys, [key("org", &["omni"])]);
        assert_eq!(config.routes[0].priority, None);
        assert_eq!(config.replay, ReplaySettings { limit: 1 << 20, total: 64 << 20 });
        assert_eq!(config.callers, []);
    }

    #[test]
    fn the_state_folder_is_systemds_or_the_users() {
        let folder = |environment: &[_]| read(START, environment).unwrap().state_dir;
        let (home, xdg) = (("HOME", "/home/ada"), ("XDG_STATE_HOME", "/state"));
        let systemd = ("STATE_DIRECTORY", "/var/lib/omnigate:/var/lib/more");
        assert_eq!(folder(&[home, xdg, systemd]), Path::new("/var/lib/omnigate"));
        assert_eq!(folder(&[home, xdg]), Path::new("/state/omnigate"));
        assert_eq!(folder(&[home]), Path::new("/home/ada/.local/state/omnigate"));
        assert!(read(START, &[]).unwrap_err().to_string().contains("`state_dir` is missing"));
    }

    #[test]
    fn paths_start_from_the_folder_of_the_file() {
        let text = format!("state_dir = \"state\"\nserver.listen = \"unix:run/it.sock\"\n{START}")
            .replace("kind", "on_missing = \"degrade\"\nkind")
            .replace("\"env\"", "\"dir\"\npath = \"../secrets\"");
        let config = home(&text);
        assert_eq!(config.state_dir, Path::new("/etc/omnigate/state"));
        let path = PathBuf::from("/etc/omnigate/run/it.sock");
        assert_eq!(config.server.listeners, [Listen::Unix { path, mode: 0o600 }.into()]);
        let path = PathBuf::from("/etc/omnigate/../secrets");
        let source = Source::Dir { path, name: "OMNI_API_KEY".into() };
        assert_eq!(config.credentials[0].source, source);
    }

    #[test]
    fn a_small_limit_is_no_mistake_of_the_default_burst() {
        let burst = |budget: &str| {
            let text = START.replace("[vault]", &format!("[budgets.omni]\n{budget}\n[vault]"));
            home(&text).budgets[0].profile
        };
        let of = |burst| NonZeroU32::new(burst).unwrap();
        assert_eq!(burst("limit = 3"), Profile::Smooth { burst: of(3) });
        assert_eq!(burst("profile = \"strict\""), Profile::Strict { burst: of(2) });
        assert_eq!(burst("profile = \"burst\""), Profile::Burst);
    }

    #[test]
    fn a_route_is_charged_as_it_says_or_as_its_credential_says() {
        let text = START.replace("[vault]", "[budgets.a]\n[budgets.b]\n[vault]");
        let text = text.replace("kind", "budget = \"a\"\nkind");
        let keys = |said: &str| home(&format!("{text}\n{said}")).routes[0].keys.clone();
        assert_eq!(keys(""), [key("org", &["a"])]);
        assert_eq!(keys("budget = \"b\""), [key("org", &["b"])]);
        assert_eq!(keys("budget = [\"b\", \"a\"]"), [key("org", &["b", "a"])]);
        assert_eq!(keys("budget = \"none\""), [key("org", &[])]);
    }

    #[test]
    fn a_probe_is_charged_to_what_every_call_of_its_key_is_charged_to() {
        let text = START.replace("[vault]", "[budgets.a]\n[budgets.b]\n[budgets.c]\n[vault]");
        let text = text.replace("kind", "budget = \"a\"\nkind");
        let probes = |first: &str, second: &str| {
            let route = "[[routes]]\nname = \"two\"\npath = \"/two\"\ncredential = \"org\"";
            home(&format!("{text}\n{first}\n{route}\n{second}")).probes
        };
        let (ab, bc) = ("budget = [\"a\", \"b\"]", "budget = [\"c\", \"b\"]");
        assert_eq!(probes("", ""), [key("org", &["a"])]);
        assert_eq!(probes(ab, bc), [key("org", &["a", "b"])]);
        assert_eq!(probes(ab, "budget = \"none\""), [key("org", &["a"])]);
    }

    #[test]
    fn a_pool_is_several_keys_on_the_same_budgets() {
        let text = START
            .replace("[vault]", "[budgets.key]\nscope = \"credential\"\n[budgets.org]\n[vault]")
            .replace("kind", "budget = [\"key\", \"org\"]\nkind")
            .replace(
                "[[routes]]",
                "[credentials.two]\nkind = \"organization\"\nsecret = \"TWO\"\n\
                 budget = [\"org\", \"key\"]\n[[routes]]\npriority = \"batch\"",
            )
            .replace("= \"org\"\n", "= [\"org\", \"two\"]\n");
        let config = home(&text);
        let both = ["key", "org"];
        assert_eq!(config.routes[0].keys, [key("org", &both), key("two", &both)]);
        assert_eq!(config.routes[0].priority, Some(Priority::Batch));
        let scopes: Vec<_> = config.budgets.iter().map(|b| (b.id.as_str(), b.scope)).collect();
        assert_eq!(scopes, [("key", Scope::Credential), ("org", Scope::Organization)]);
    }

    #[test]
    fn a_route_says_for_whom_its_calls_act() {
        let rule = |said: &str| read(&format!("{START}{said}"), &[("HOME", "/home/ada")]);
        let of = |said: &str| rule(said).unwrap().routes[0].policy.impersonation.clone();
        assert_eq!(of(""), Impersonation::Deny);
        assert_eq!(of("impersonation = \"deny\""), Impersonation::Deny);
        assert_eq!(of("impersonation = \"allow\""), Impersonation::Allow);
        let pin = Impersonation::Pin(Membership::parse("9f1c2d3e-0a1b").unwrap());
        assert_eq!(of("impersonation = { pin = \"9f1c2d3e-0a1b\" }"), pin);
        let token = "omni_osk_PLANTED0q7Zk3mT9xW2bV8nR5cY1aD4eF6gH7iJ0kL2oP5sU8tX";
        for (said, told) in [
            ("\"Allow\"", "neither \"deny\" nor \"allow\""),
            ("\"9f1c2d3e-0a1b\"", "write impersonation = { pin = \"MEMBERSHIP_ID\" }"),
            ("true", "must be a string or a table"),
            ("{}", "`pin` is missing"),
            ("{ pin = \"\" }", "1 to 128 letters"),
            ("{ pin = \"a b\" }", "1 to 128 letters"),
            ("{ pin = 7 }", "must be a string"),
            ("{ pin = \"a\", user = \"b\" }", "unknown key `user`"),
            (&format!("\"{token}\""), "neither"),
            (&format!("{{ pin = \"{token}\" }}"), "looks like a token"),
        ] {
            let report = rule(&format!("impersonation = {said}")).unwrap_err();
            assert_eq!(report.count(), 1, "{report}");
            let report = report.to_string();
            assert!(report.contains(told) && !report.contains("PLANTED"), "{report}");
        }
    }

    #[test]
    fn batch_calls_wait_longer_unless_the_file_says_how_long_calls_wait() {
        let waits = |budget: &str| {
            let text = START.replace("[vault]", &format!("[budgets.omni]\n{budget}\n[vault]"));
            let budget = &home(&text).budgets[0];
            (budget.max_wait.as_secs(), budget.batch_max_wait.as_secs())
        };
        assert_eq!(waits(""), (120, 3600));
        assert_eq!(waits("max_wait = \"30s\""), (30, 30));
    }

    #[test]
    fn a_caller_is_what_the_file_says_of_it() {
        let said = r#"
            server.listen = ["127.0.0.1:0", "unix:/run/a.sock"]
            [callers.script]
            [callers.nightly]
            match = { uid = 1001 }
            max_priority = "batch"
            max_queued = 500
            max_wait = "2h"
            rate = { limit = 30, window = "10s" }
            [callers.cluster]
            match = { cidr = ["10.0.0.0/8", "::ffff:192.168.0.0/112"] }
            priority = "batch"
            rate = { limit = 1 }
        "#;
        let callers = home(&format!("{said}{START}")).callers;
        let range = |text| Match::Cidr(Cidr::parse(text).unwrap());
        let rate = |limit, seconds| Rate {
            limit: NonZeroU32::new(limit).unwrap(),
            window: Duration::from_secs(seconds),
        };
        let cluster = CallerSettings {
            matches: vec![range("10.0.0.0/8"), range("192.168.0.0/16")],
            caller: Caller {
                id: CallerId::new("cluster"),
                priority: Priority::Batch,
                rate: Some(rate(1, 60)),
                ..Caller::anonymous()
            },
        };
        let nightly = CallerSettings {
            matches: vec![Match::Uid(1001)],
            caller: Caller {
                id: CallerId::new("nightly"),
                priority: Priority::Batch,
                max_priority: Priority::Batch,
                max_queued: Some(500),
                max_wait: Some(Duration::from_secs(7200)),
                rate: Some(rate(30, 10)),
                routes: None,
            },
        };
        let script = CallerSettings {
            matches: vec![],
            caller: Caller { id: CallerId::new("script"), ..Caller::anonymous() },
        };
        assert_eq!(callers, [cluster, nightly, script]);
    }

    #[test]
    fn listeners_of_both_forms_come_together() {
        let text = START.replace(
            "[vault]",
            "[[listeners]]\naddress = \"unix:/run/a.sock\"\nmode = \"0660\"\n[server]\nlisten = [\"[::1]:0\", \"[::1]:0\"]\n[vault]",
        );
        let any_port = Listen::Tcp("[::1]:0".parse().unwrap());
        let unix = Listen::Unix { path: "/run/a.sock".into(), mode: 0o660 };
        assert_eq!(
            home(&text).server.listeners,
            [any_port.clone(), any_port, unix].map(Into::into)
        );
    }
}

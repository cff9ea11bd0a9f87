//! `omnigate serve`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use http::Method;
use tracing::{info, warn};

use crate::app::{Gateway, Signals, StartError};
use crate::cli::{CONFIG, OK, UNAVAILABLE, block_on, check, in_shell};
use crate::config::{self, Config, Report};
use crate::server::Listener;
use crate::telemetry;

/// Where the config is.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The config file [default: $OMNIGATE_CONFIG, ./omnigate.toml, your config folder, /etc/omnigate]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: ServeArgs) -> ExitCode {
    let path = match config::find(args.config) {
        Ok(path) => path,
        Err(error) => return fail(&error, CONFIG),
    };
    let config = match config::load(&path) {
        Ok(config) => config,
        Err(report) => {
            check::show(&report);
            return ExitCode::from(CONFIG);
        }
    };
    telemetry::start_log(&config.telemetry);
    let people = telemetry::is_for_people(&config.telemetry);
    for warning in config.warnings.iter().flat_map(Report::lines) {
        warn!(warning, "config");
    }
    block_on(async {
        match serve(config, &path, people).await {
            Ok(()) => ExitCode::from(OK),
            Err(error) => fail(&error, exit_code(&error)),
        }
    })
}

async fn serve(config: Config, path: &Path, people: bool) -> Result<(), StartError> {
    let signals = Signals::listen()?;
    let upstream = config.upstream.origin.to_string();
    let trial = Trial::of(&config).filter(|_| people && tracing::enabled!(tracing::Level::INFO));
    let gateway = Gateway::open(config).await?;
    for address in gateway.places() {
        info!(%address, upstream, config = %path.display(), "serving");
    }
    if let Some(address) = gateway.admin_place() {
        info!(%address, "admin");
    }
    let place = |trial: &Trial| gateway.places().nth(trial.nth).map(ToString::to_string);
    if let Some(command) = trial.and_then(|trial| trial.command(&place(&trial)?)) {
        eprintln!("\nTry it, from another terminal:\n\n  {command}\n");
    }
    gateway.serve_until(signals).await;
    Ok(())
}

/// A call that shows that it works.
#[derive(Debug)]
struct Trial {
    /// Which of the listeners it goes to.
    nth: usize,
    listener: Listener,
}

impl Trial {
    /// Where a call of a stranger is answered by Omni; `None` where none is.
    fn of(config: &Config) -> Option<Self> {
        let is_taken = config.routes.iter().any(|route| {
            let takes = match route.pattern.as_str().split_once("{*") {
                Some((before, _)) => WHOAMI.starts_with(before),
                None => route.pattern.as_str() == WHOAMI,
            };
            takes && route.methods.takes(&Method::GET)
        });
        let open = |(_, listener): &(usize, &Listener)| {
            listener.tls.is_none() && listener.entrance.anonymous
        };
        let (nth, listener) = config.server.listeners.iter().enumerate().find(open)?;
        is_taken.then(|| Self { nth, listener: listener.clone() })
    }

    /// The command for a shell, given where the listener came to be.
    fn command(&self, bound: &str) -> Option<String> {
        let field = self.listener.entrance.required.as_ref().and_then(|(name, value)| {
            let field = format!("{name}: {}", value.to_str().ok()?);
            Some(format!("-H {} ", in_shell(field.as_ref())))
        });
        let field = field.unwrap_or_default();
        if let Some(path) = bound.strip_prefix("unix:") {
            let path = in_shell(path.as_ref());
            return Some(format!("curl {field}--unix-socket {path} http://localhost{WHOAMI}"));
        }
        let mut address: SocketAddr = bound.parse().ok()?;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let quote = if address.is_ipv6() { "'" } else { "" };
        Some(format!("curl {field}{quote}http://{address}{WHOAMI}{quote}"))
    }
}

/// Says whose key it is, changes nothing, and every key may ask it.
const WHOAMI: &str = "/api/v1/whoami";

/// What the process ends with where a gateway does not start.
pub(super) fn exit_code(error: &StartError) -> u8 {
    match error {
        StartError::Credentials(_)
        | StartError::Plan(_)
        | StartError::Password(_)
        | StartError::Roots(_)
        | StartError::StoreRoots(_)
        | StartError::Traces(_) => CONFIG,
        StartError::State(_)
        | StartError::Unkept { .. }
        | StartError::Store { .. }
        | StartError::Bind(_)
        | StartError::Signals(_) => UNAVAILABLE,
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("omnigate: {error}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = r#"
        state_dir = "/var/lib/omnigate"
        upstream.base_url = "https://acme.omniapp.co"
        vault.backend = "env"
        credentials.org = { kind = "organization", secret = "OMNI_API_KEY" }
    "#;
    const ALL: &str = "routes = [{ name = \"all\", path = \"/{*rest}\", credential = \"org\" }]";

    fn trial(said: &str, routes: &str) -> Option<Trial> {
        let text = format!("{REST}{said}\n{routes}");
        let config = config::parse(&text, "/etc/omnigate.toml".as_ref());
        Trial::of(&config.unwrap_or_else(|report| panic!("{report}")))
    }

    #[test]
    fn the_call_goes_to_the_first_listener_that_answers_strangers() {
        let command = |said: &str, bound: &str| trial(said, ALL).unwrap().command(bound);
        let plain = "server.listen = \"127.0.0.1:0\"";
        let expected = "curl http://127.0.0.1:4711/api/v1/whoami";
        assert_eq!(command(plain, "127.0.0.1:4711").as_deref(), Some(expected));
        assert_eq!(command(plain, "0.0.0.0:4711").as_deref(), Some(expected));
        let expected = "curl 'http://[::1]:4711/api/v1/whoami'";
        assert_eq!(command(plain, "[::]:4711").as_deref(), Some(expected));
        let unix = "curl --unix-socket '/run/a b.sock' http://localhost/api/v1/whoami";
        assert_eq!(command(plain, "unix:/run/a b.sock").as_deref(), Some(unix));

        let two = r#"listeners = [
            { address = "127.0.0.1:1", tls = { cert = "a.pem", key = "a.key" } },
            { address = "127.0.0.1:2", require_header = "X-Omnigate: it's me" },
        ]"#;
        assert_eq!(trial(two, ALL).unwrap().nth, 1);
        let expected = "curl -H 'x-omnigate: it'\\''s me' http://127.0.0.1:2/api/v1/whoami";
        assert_eq!(command(two, "127.0.0.1:2").as_deref(), Some(expected));
    }

    #[test]
    fn no_call_is_named_where_none_would_be_answered() {
        let tls =
            "listeners = [{ address = \"127.0.0.1:1\", tls = { cert = \"a\", key = \"b\" } }]";
        assert!(trial(tls, ALL).is_none());
        for (path, methods, named) in [
            ("/api/v1/{*rest}", "GET", true),
            ("/api/v1/whoami", "GET", true),
            ("/api/v1/whoami", "POST", false),
            ("/api/v1/documents", "GET", false),
            ("/mcp/{*rest}", "GET", false),
        ] {
            let route = format!(
                "routes = [{{ name = \"a\", path = \"{path}\", methods = [\"{methods}\"], credential = \"org\" }}]"
            );
            assert_eq!(trial("", &route).is_some(), named, "{path}");
        }
    }
}

//! `omnigate cache …`: what the running gateway keeps.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use http::StatusCode;
use serde_json::Value;

use crate::cli::{OK, START, UNAVAILABLE, block_on, check, online};
use crate::config::Config;

/// There is no such route.
const UNKNOWN: u8 = 1;

/// Forgetting is a matter of memory alone.
const WITHIN: Duration = Duration::from_secs(10);

/// Have the running gateway forget answers that it keeps.
#[derive(Debug, clap::Args)]
pub(crate) struct CacheArgs {
    /// The config file [default: $OMNIGATE_CONFIG, ./omnigate.toml, your config folder,
    /// /etc/omnigate]
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Forget all of them, or those of one route. Exits 1 if there is no such route, 69 if no
    /// gateway answers on the config's admin address.
    Purge(PurgeArgs),
}

#[derive(Debug, clap::Args)]
struct PurgeArgs {
    /// The route's name [default: all routes]
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
}

pub(crate) fn run(args: CacheArgs) -> ExitCode {
    let config = match check::load(args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let What::Purge(PurgeArgs { route }) = args.what;
    block_on(async {
        match purge(&config, route.as_deref()).await {
            Ok(said) => {
                println!("{said}");
                ExitCode::from(OK)
            }
            Err((code, why)) => fail(code, &why),
        }
    })
}

fn fail(code: u8, why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(code)
}

/// Asks the gateway that runs; gives what came of it, for people.
async fn purge(config: &Config, route: Option<&str>) -> Result<String, (u8, String)> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    // It is not repeated: nobody knows what it is.
    if route.is_some_and(|name| name.is_empty() || !name.chars().all(plain)) {
        let why = "the name of a route has only letters, digits, -, _ and .; `omnigate routes` shows them";
        return Err((UNKNOWN, why.into()));
    }
    let path = match route {
        None => "/-/cache/purge".to_owned(),
        Some(name) => format!("/-/cache/purge?route={name}"),
    };
    let gateway = online::gateway(config).map_err(|why| (UNAVAILABLE, why))?;
    let answer = online::post(&gateway, &path, WITHIN).await.map_err(|why| {
        let address = &config.admin.listen;
        (UNAVAILABLE, format!("no gateway answers on the admin address, {address}: {why}; {START}"))
    });
    let (status, body) = answer?;
    said(route, status, &body)
}

/// What the gateway's answer means.
fn said(route: Option<&str>, status: StatusCode, body: &Value) -> Result<String, (u8, String)> {
    let done = body.get("route").is_some_and(|done| done.as_str() == route);
    if status == StatusCode::OK && done {
        let what = route.map_or_else(String::new, |name| format!(" of route `{name}`"));
        let gone = match body["entries"].as_u64() {
            None => String::new(),
            Some(1) => ": 1 entry is gone".to_owned(),
            Some(entries) => format!(": {entries} entries are gone"),
        };
        return Ok(format!("nothing{what} is kept any more{gone}"));
    }
    let no_such_route = body["type"] == "urn:omnigate:problem:no-such-route";
    if status == StatusCode::NOT_FOUND && no_such_route {
        let known = body["routes"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let known = known.collect::<Vec<_>>().join(", ");
        return Err((UNKNOWN, shown(&format!("there is no such route; there are: {known}"))));
    }
    let why = match (status, body["detail"].as_str()) {
        // Whatever answers there knows nothing of it.
        (StatusCode::OK | StatusCode::NOT_FOUND, _) | (_, None) => {
            format!("what answers on the admin address cannot do this (status {status})")
        }
        (status, Some(detail)) => format!("the gateway did not do it ({status}): {detail}"),
    };
    Err((UNAVAILABLE, shown(&why)))
}

/// Fit for a terminal, whoever it was that answered.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said_of(status: u16, body: &Value) -> Result<String, (u8, String)> {
        said(Some("lists"), StatusCode::from_u16(status).unwrap(), body)
    }

    #[test]
    fn what_the_gateway_did_is_said_in_plain_words() {
        let gone = |entries: Value| said_of(200, &json!({ "route": "lists", "entries": entries }));
        let kept = "nothing of route `lists` is kept any more";
        assert_eq!(gone(json!(12)), Ok(format!("{kept}: 12 entries are gone")));
        assert_eq!(gone(json!(1)), Ok(format!("{kept}: 1 entry is gone")));
        assert_eq!(gone(Value::Null), Ok(kept.to_owned()));
        let all = json!({ "route": null, "entries": 0 });
        let all = said(None, StatusCode::OK, &all);
        assert_eq!(all, Ok("nothing is kept any more: 0 entries are gone".to_owned()));
    }

    #[test]
    fn only_a_route_that_is_not_there_exits_1() {
        let problem = |kind: &str| {
            let kind = format!("urn:omnigate:problem:{kind}");
            json!({ "type": kind, "detail": "D\u{1b}[2J", "routes": ["a", "b\u{1b}"] })
        };
        let unknown = "there is no such route; there are: a, b".to_owned();
        assert_eq!(said_of(404, &problem("no-such-route")), Err((1, unknown)));
        let browser = "the gateway did not do it (403 Forbidden): D[2J".to_owned();
        assert_eq!(said_of(403, &problem("browser-request")), Err((69, browser)));
        // An older gateway, or something else altogether.
        for (status, body) in [
            (404, problem("no-route")),
            (404, Value::Null),
            (200, Value::Null),
            (200, json!({ "route": "other", "entries": 3 })),
            (500, Value::Null),
        ] {
            let (code, why) = said_of(status, &body).unwrap_err();
            assert_eq!(code, 69, "{status} {body}");
            assert!(why.contains("cannot do this"), "{why}");
        }
        for body in [Value::Null, json!({}), json!([]), json!({ "route": "lists" })] {
            assert_eq!(said(None, StatusCode::OK, &body).unwrap_err().0, 69, "{body}");
        }
    }
}

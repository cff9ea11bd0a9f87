//! `omnigate explain`: what becomes of a call, and why.

mod draw;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use http::StatusCode;
use secrecy::zeroize::Zeroizing;
use serde_json::Value;

use crate::app::Rooms;
use crate::cli::lines::Paper;
use crate::cli::status::clean;
use crate::cli::{CONFIG, OK, UNAVAILABLE, block_on, check, online};
use crate::config::Config;
use crate::net::Limits;
use crate::proxy::explained::Outcome;
use crate::proxy::{Call, Explanation};

/// The call would be refused.
const REFUSED: u8 = 1;
/// Nobody could make such a call.
const USAGE: u8 = 2;
/// Nothing is waited for, there.
const WITHIN: Duration = Duration::from_secs(15);
/// The longest body that is looked into here.
const LONGEST_BODY: u64 = 64 << 20;
/// And by a gateway.
const LONGEST_SENT: usize = 1 << 20;

/// The call, and who is to be asked about it.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// Such as GET
    method: String,
    /// A path with its query, or a URL of the gateway or of your Omni
    url: String,
    /// The config file [default: $OMNIGATE_CONFIG, ./omnigate.toml, your config folder,
    /// /etc/omnigate]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A field of the call; as often as it takes. Values that could be secrets are never shown
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// A file with the call's body, - for standard input
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// As if this caller of the config asked
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    /// Where it comes from: an IP address, or uid:1001 for a user at a unix socket [default: this
    /// machine]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "caller")]
    from: Option<String>,
    /// A name in the certificate that it shows; as often as it takes
    #[arg(long, value_name = "NAME", conflicts_with = "caller")]
    san: Vec<String>,
    /// By which listener it comes in, counted from 1 [default: the first that fits]
    #[arg(long, value_name = "N")]
    listener: Option<usize>,
    /// Ask the running gateway, by the config's admin address
    #[arg(long)]
    online: bool,
    /// Print the document
    #[arg(long)]
    json: bool,
}

/// Why there is no explanation, and what the command exits with.
type Unexplained = (u8, String);

pub(crate) fn run(args: ExplainArgs) -> ExitCode {
    let config = match check::load(args.config.clone()) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let (online, json) = (args.online, args.json);
    let call = match call(args) {
        Ok(call) => call,
        Err(why) => return fail(USAGE, &why),
    };
    block_on(async {
        let said = match online {
            true => ask(&config, call).await,
            false => alone(&config, call).await,
        };
        match said {
            Ok(said) => show(&said, json),
            Err((code, why)) => fail(code, &why),
        }
    })
}

fn fail(code: u8, why: &str) -> ExitCode {
    eprintln!("error: {}", clean(why));
    ExitCode::from(code)
}

fn show(said: &Explanation, json: bool) -> ExitCode {
    match json {
        true => println!("{}", serde_json::to_string_pretty(said).unwrap_or_default()),
        false => println!("{}", draw::draw(said, Paper::of_stdout()).join("\n")),
    }
    ExitCode::from(match said.verdict.outcome {
        Outcome::Sent | Outcome::SentOrKept | Outcome::Kept => OK,
        Outcome::Refused => REFUSED,
    })
}

/// The call, as the arguments have it.
fn call(args: ExplainArgs) -> Result<Call, String> {
    let pair = |(at, text): (usize, &String)| {
        let pair = text.split_once(':').filter(|(name, _)| !name.is_empty());
        let pair = pair.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        // It may be a secret, and is not repeated.
        pair.ok_or_else(|| {
            format!("header {} is no `Name: value`; write it like -H 'Accept: text/html'", at + 1)
        })
    };
    let headers = args.headers.iter().enumerate().map(pair).collect::<Result<_, _>>()?;
    let ExplainArgs { method, url, caller, from, san, listener, .. } = args;
    let body = args.body.as_deref().map(read).transpose()?;
    Ok(Call { method, url, headers, body, caller, from, san, listener })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin().take(LONGEST_BODY + 1).read_to_end(&mut body),
        false => std::fs::File::open(path)
            .and_then(|file| file.take(LONGEST_BODY + 1).read_to_end(&mut body)),
    };
    read.map_err(|error| {
        format!("--body {}: {error}; name a file, or - for standard input", path.display())
    })?;
    if body.len() as u64 > LONGEST_BODY {
        return Err(format!(
            "--body {}: it has more than {} MiB, and is not looked into; leave it out",
            path.display(),
            LONGEST_BODY >> 20
        ));
    }
    Ok(body)
}

/// By the config alone.
async fn alone(config: &Config, call: Call) -> Result<Explanation, Unexplained> {
    let rooms = Rooms::unread(config).await.map_err(|error| (CONFIG, error.to_string()))?;
    rooms.explain(call).await.map_err(|bad| (USAGE, bad.to_string()))
}

/// By the gateway that runs.
async fn ask(config: &Config, call: Call) -> Result<Explanation, Unexplained> {
    if call.body.as_ref().is_some_and(|body| body.len() > LONGEST_SENT) {
        let most = LONGEST_SENT >> 20;
        return Err((
            USAGE,
            format!(
                "--body: a gateway looks into {most} MiB at most; leave --online or --body out"
            ),
        ));
    }
    let limits = Limits { body: 1 << 20, ..Limits::default() };
    let gateway = online::gateway_within(config, limits).map_err(|why| (UNAVAILABLE, why))?;
    let question = serde_json::to_vec(&call).map_err(|error| (USAGE, error.to_string()))?;
    let question = Zeroizing::new(question);
    let answer = online::post_json(&gateway, "/-/explain", question, WITHIN).await;
    let (status, body) = answer.map_err(|why| {
        let address = &config.admin.listen;
        let help = "start it with `omnigate serve`, or leave --online out to ask the config alone";
        (UNAVAILABLE, format!("no gateway answers on the admin address, {address}: {why}; {help}"))
    })?;
    understood(status, body)
}

/// What a gateway's answer means.
fn understood(status: StatusCode, body: Value) -> Result<Explanation, Unexplained> {
    let detail = body["detail"].as_str().map(|detail| detail.trim_end_matches('.').to_owned());
    let ours = |word| body["type"] == format!("urn:omnigate:problem:{word}");
    match (status, detail) {
        (StatusCode::UNPROCESSABLE_ENTITY, Some(detail)) if ours("bad-question") => {
            Err((USAGE, detail))
        }
        (StatusCode::UNAUTHORIZED, Some(_)) => {
            let why = "the gateway that runs asks operators for a token, and the config does not; name its config \
                       with -c, and put the token into OMNIGATE_ADMIN_TOKEN";
            Err((UNAVAILABLE, why.to_owned()))
        }
        (StatusCode::FORBIDDEN, Some(detail)) => {
            Err((UNAVAILABLE, format!("the gateway did not say ({status}): {detail}")))
        }
        (StatusCode::OK, _) => serde_json::from_value(body).map_err(|_| {
            let why = "the gateway that runs is of another version; see `omnigate --version`";
            (UNAVAILABLE, why.to_owned())
        }),
        _ => {
            let why = format!(
                "what answers on the admin address cannot explain calls (status {status}); see whether the config \
                 is the running gateway's, and whether that is of this version"
            );
            Err((UNAVAILABLE, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_gateway_says_is_told_from_what_something_else_says() {
        let whole = serde_json::to_value(Explanation::default()).unwrap();
        assert_eq!(understood(StatusCode::OK, whole), Ok(Explanation::default()));
        let bad = json!({ "type": "urn:omnigate:problem:bad-question", "detail": "No." });
        let (code, why) = understood(StatusCode::UNPROCESSABLE_ENTITY, bad).unwrap_err();
        assert_eq!((code, why.as_str()), (2, "No"));
        for (status, body) in [(200, json!({})), (404, Value::Null), (401, json!({"detail": "x"}))]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(understood(status, body).unwrap_err().0, 69, "{status}");
        }
    }
}

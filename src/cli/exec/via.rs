//! `--via URL`: a gateway that runs already.

use std::ffi::OsString;
use std::net::IpAddr;
use std::time::Duration;

use http::header::{HOST, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use tokio::time::timeout;

use crate::base::Body;
use crate::caller;
use crate::cli::exec::road::Road;
use crate::net::{Dial, RootsError, TlsRoots};

/// A path that every gateway answers itself, whatever its routes are, and that leads to no key.
const QUESTION: &str = "/.well-known/oauth-protected-resource";
/// How long its answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any problem has.
const MOST_BYTES: usize = 64 * 1024;
/// As much of its words is shown.
const MOST_SHOWN: usize = 500;
/// Where Omni itself lives.
const OMNI: [&str; 6] = [
    "omniapp.co",
    "exploreomni.dev",
    "thundersalmon.com",
    "embed-omniapp.co",
    "embed-exploreomni.dev",
    "embed-thundersalmon.com",
];

/// Where a gateway is said to be.
#[derive(Debug)]
pub(super) struct Via {
    pub(super) dial: Dial,
    pub(super) authority: Authority,
    /// Whether what is said on the way there can be read by others.
    pub(super) is_open: bool,
}

/// What is wrong with what was said.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadVia {
    #[error(
        "--via {said}: this is no address of a gateway; write http://HOST:PORT, such as http://127.0.0.1:6664"
    )]
    Url { said: String },
    #[error(
        "--via {host}: this is Omni itself, not a gateway; leave --via out, and the gateway is started for \
         the program"
    )]
    Omni { host: String },
    #[error("--via {host}: {source}")]
    Tls { host: String, source: RootsError },
    #[error(
        "OMNIGATE_TOKEN cannot be a token: it has characters that no field may have; copy it again, without line breaks"
    )]
    Token,
}

/// Why calls cannot go there.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoGateway {
    #[error(
        "no gateway answers at {at}: {why}\nStart one there with `omnigate serve`, or leave --via out, and one \
         is started for the program"
    )]
    Silent { at: Authority, why: String },
    #[error(
        "what answers at {at} is no omnigate (status {status}), and is not sent the program's calls; see \
         whether host and port are right"
    )]
    Stranger { at: Authority, status: StatusCode },
    #[error(
        "the gateway at {at} wants to know who asks: {detail}\nPut a caller's token into OMNIGATE_TOKEN; \
         the program does not get to see it"
    )]
    Unknown { at: Authority, detail: String },
    #[error(
        "the gateway at {at} would refuse the program's calls: {detail}\nCall it by a name of its own, or add \
         this one to `hosts` in the [server] part of its config"
    )]
    Refused { at: Authority, detail: String },
    #[error("the gateway at {at} takes no calls now: {detail}\nTry again when it does")]
    NotNow { at: Authority, detail: String },
}

impl Via {
    pub(super) fn parse(said: &str) -> Result<Self, BadVia> {
        let bad = || BadVia::Url { said: without_password(said) };
        let uri: Uri = said.parse().map_err(|_| bad())?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(_) | None => return Err(bad()),
        };
        let authority = uri.authority().filter(|it| !it.as_str().contains('@')).ok_or_else(bad)?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = match authority.port() {
            Some(port) => port.as_str().parse().ok().filter(|port| *port > 0),
            // One that is no port reads like none.
            None if authority.as_str().len() > authority.host().len() => None,
            None => Some(if secure { 443 } else { 80 }),
        };
        let port: u16 = port.filter(|_| is_bare && !host.is_empty()).ok_or_else(bad)?;
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let below = |domain: &&str| {
            name.strip_suffix(*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if OMNI.iter().any(below) {
            return Err(BadVia::Omni { host });
        }
        let near = name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let dial = match secure {
            false => Dial::tcp(&host, port),
            true => Dial::tls(&host, port, &TlsRoots::System)
                .map_err(|source| BadVia::Tls { host, source })?,
        };
        Ok(Self { dial, authority: authority.clone(), is_open: !secure && !near })
    }
}

/// A URL that may have a password in it, to be repeated.
fn without_password(said: &str) -> String {
    match said.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => said.to_owned(),
    }
}

/// What a caller's token is sent as.
pub(super) fn token(value: Option<OsString>) -> Result<Option<HeaderValue>, BadVia> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    let text = value.into_string().map_err(|_| BadVia::Token)?;
    let mut value = HeaderValue::try_from(text.trim()).map_err(|_| BadVia::Token)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Asks what is there, without a call to Omni.
pub(super) async fn ask(
    road: &Road,
    at: &Authority,
    token: Option<&HeaderValue>,
) -> Result<(), NoGateway> {
    let silent = |why: String| NoGateway::Silent { at: at.clone(), why };
    let mut question = Request::get(QUESTION)
        .header(HOST, at.as_str())
        .header(USER_AGENT, concat!("omnigate/", env!("CARGO_PKG_VERSION")));
    if let Some(token) = token {
        question = question.header(caller::TOKEN, token);
    }
    let question = question.body(Body::empty()).map_err(|error| silent(error.to_string()))?;
    let asked = async {
        let (response, line) = road.send(question).await.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MOST_BYTES).collect().await;
        // The connection goes with it.
        drop(line);
        Ok((head.status, body.map(|body| body.to_bytes()).unwrap_or_default()))
    };
    let (status, body) = match timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(silent)?,
        Err(_) => return Err(silent(format!("no answer within {} s", PATIENCE.as_secs()))),
    };
    judge(at, status, &body)
}

fn judge(at: &Authority, status: StatusCode, body: &[u8]) -> Result<(), NoGateway> {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let kind = problem["type"].as_str().and_then(|kind| kind.strip_prefix("urn:omnigate:problem:"));
    // It may be anybody's, and is shown on a terminal.
    let detail = || {
        let said = problem["detail"].as_str().unwrap_or_default();
        said.chars().filter(|c| !c.is_control()).take(MOST_SHOWN).collect::<String>()
    };
    match kind {
        Some("no-route") => Ok(()),
        Some("caller-unknown" | "caller-denied") => {
            Err(NoGateway::Unknown { at: at.clone(), detail: detail() })
        }
        Some("browser-request") => Err(NoGateway::Refused { at: at.clone(), detail: detail() }),
        Some(_) => Err(NoGateway::NotNow { at: at.clone(), detail: detail() }),
        None => Err(NoGateway::Stranger { at: at.clone(), status }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_perhaps_a_port() {
        let authority = |said: &str| Via::parse(said).unwrap().authority.to_string();
        assert_eq!(authority("http://127.0.0.1:6664"), "127.0.0.1:6664");
        assert_eq!(authority("http://[::1]:6664/"), "[::1]:6664");
        assert!(!Via::parse("http://localhost:6664").unwrap().is_open);
        assert!(Via::parse("http://gate.corp:6664").unwrap().is_open);
        for bad in [
            "",
            "127.0.0.1:6664",
            "ftp://x",
            "http://",
            "http://x:0",
            "http://x:99999",
            "http://x/api",
            "http://x?q",
            "http://me:pass@x",
            "unix:/x",
        ] {
            let error = Via::parse(bad).map(|_| ()).unwrap_err();
            assert!(matches!(error, BadVia::Url { .. }), "{bad}: {error}");
            assert!(!error.to_string().contains("pass"), "{error}");
        }
    }

    #[test]
    fn omni_itself_is_no_gateway() {
        for omni in [
            "https://acme.omniapp.co",
            "https://ACME.omniapp.co.",
            "https://a.playground.exploreomni.dev",
        ] {
            assert!(matches!(Via::parse(omni), Err(BadVia::Omni { .. })), "{omni}");
        }
        assert!(Via::parse("http://notomniapp.co").is_ok());
    }

    #[test]
    fn what_is_shown_of_a_gateways_words_moves_no_cursor() {
        let body = br#"{"type":"urn:omnigate:problem:draining","detail":"a\u001b[2J\u009b\nb"}"#;
        let error = judge(&Authority::from_static("x:1"), StatusCode::OK, body).unwrap_err();
        let NoGateway::NotNow { detail, .. } = error else { panic!("{error}") };
        assert_eq!(detail, "a[2Jb");
    }

    #[test]
    fn a_gateway_is_known_by_its_own_words() {
        let at = Authority::from_static("x:1");
        let say =
            |kind: &str| format!(r#"{{"type":"urn:omnigate:problem:{kind}","detail":"So."}}"#);
        let judge = |body: &str| judge(&at, StatusCode::NOT_FOUND, body.as_bytes());
        assert!(judge(&say("no-route")).is_ok());
        assert!(matches!(judge(&say("caller-unknown")), Err(NoGateway::Unknown { .. })));
        assert!(matches!(judge(&say("caller-denied")), Err(NoGateway::Unknown { .. })));
        assert!(matches!(judge(&say("browser-request")), Err(NoGateway::Refused { .. })));
        assert!(matches!(judge(&say("draining")), Err(NoGateway::NotNow { .. })));
        for other in ["", "{}", r#"{"message":"Not found"}"#, "<html>", r#"{"type":7}"#] {
            assert!(matches!(judge(other), Err(NoGateway::Stranger { .. })), "{other}");
        }
    }
}

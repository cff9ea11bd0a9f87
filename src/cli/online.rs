//! Asking Omni about keys, from the command line. Every question is charged to the budget: through the
//! gateway that runs on the config's state folder, or else with the ledger in that folder.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use secrecy::zeroize::Zeroizing;
use serde_json::Value;

use crate::admin::Place;
use crate::app::{self, Inquiry, StartError};
use crate::caller::TokenDigest;
use crate::config::Config;
use crate::credential::{CredentialSettings, Kind, Login, Source, State};
use crate::net::{Client, Dial, Limits};
use crate::proxy::{Whoami, WhoamiError};
use crate::shape::{Shaper, StateError};

/// A question waits its turn for 2 m, and 5 s for its answer.
const GATEWAY_WITHIN: Duration = Duration::from_secs(130);

/// The variable that has the token of the gateway's admin address.
const TOKEN: &str = "OMNIGATE_ADMIN_TOKEN";

/// Who can ask.
pub(crate) enum Asker<'a> {
    /// We hold the ledger.
    Here(&'a Config, Arc<Shaper>),
    /// A gateway runs and holds it.
    Gateway(Gateway),
}

/// A gateway's admin address.
pub(crate) struct Gateway {
    client: Client,
    /// What it wants to be shown, where it does.
    bearer: Option<HeaderValue>,
}

/// What Omni said of one key.
#[derive(Debug)]
pub(crate) struct Told {
    accepted: bool,
    refused: bool,
    status: u16,
    /// `organization` or `user`.
    key_scope: Option<String>,
    /// The first eight digits of the SHA-256 of the value that it was asked about.
    pub(crate) sha256: Option<String>,
}

/// What that means.
#[derive(Debug)]
pub(crate) enum Verdict {
    Good,
    /// It is not as it should be.
    Wrong(String),
    /// Omni did not say.
    Unclear(String),
}

/// Why a key could not be asked about.
#[derive(Debug)]
pub(crate) struct Untold {
    pub(crate) why: String,
    /// Whether a request was sent all the same.
    pub(crate) spent: bool,
}

impl<'a> Asker<'a> {
    /// Takes the ledger, or finds the gateway that has it. No secret is read for that.
    ///
    /// # Errors
    /// Says why nobody may send: a question that is not written down could be the 61st.
    pub(crate) fn open(config: &'a Config) -> Result<Self, String> {
        mine(config)?;
        match app::ledger(config) {
            Ok(shaper) if shaper.is_kept() => Ok(Self::Here(config, shaper)),
            Ok(_) => Err(format!(
                "the ledger in {} cannot be written, so nothing is sent; run this as the user who runs \
                 the gateway",
                config.state_dir.display()
            )),
            Err(StartError::State(StateError::InUse { .. })) => Ok(Self::Gateway(gateway(config)?)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Who asks, for people.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Here(..) => "this command",
            Self::Gateway(_) => "the gateway that runs",
        }
    }

    pub(crate) fn is_gateway(&self) -> bool {
        matches!(self, Self::Gateway(_))
    }

    /// Asks about one key; no other secret is read.
    pub(crate) async fn ask(&self, credential: &CredentialSettings) -> Result<Told, Untold> {
        match self {
            Self::Here(config, shaper) => ask_here(config, shaper, credential).await,
            Self::Gateway(gateway) => {
                let path = format!("/-/credentials/{}/test", credential.id);
                let (status, body) = tell(gateway, &path).await.map_err(unasked)?;
                read(status, &body)
            }
        }
    }

    /// Has the running gateway look at all secrets again; nothing where none runs.
    pub(crate) async fn reload(&self) -> Result<(), String> {
        let Self::Gateway(gateway) = self else { return Ok(()) };
        match tell(gateway, "/-/reload").await? {
            (StatusCode::OK, _) => Ok(()),
            (status, _) => {
                Err(format!("the gateway that runs did not look at its secrets again ({status})"))
            }
        }
    }

    /// Writes the ledger down in order.
    pub(crate) fn close(self) {
        if let Self::Here(_, shaper) = self {
            shaper.close();
        }
    }
}

impl Told {
    /// What it means for a key of this kind.
    pub(crate) fn verdict(&self, kind: Kind) -> Verdict {
        let status = self.status;
        if self.refused {
            return Verdict::Wrong(format!("Omni does not take this key (status {status})"));
        }
        if !self.accepted {
            return Verdict::Unclear(format!("Omni did not say whose key it is (status {status})"));
        }
        let (is, fits) = match self.key_scope.as_deref() {
            Some("organization") => ("an organization key", kind == Kind::Organization),
            Some("user") => ("a personal or MCP token", kind != Kind::Organization),
            Some(_) | None => return Verdict::Good,
        };
        if fits {
            return Verdict::Good;
        }
        let kind = kind.as_str();
        Verdict::Wrong(format!("Omni says that this is {is}; the config says kind = \"{kind}\""))
    }
}

async fn ask_here(
    config: &Config,
    shaper: &Arc<Shaper>,
    credential: &CredentialSettings,
) -> Result<Told, Untold> {
    let password = config.shared.as_ref().and_then(|shared| shared.password.as_ref());
    if [Some(&credential.source), password].into_iter().flatten().any(is_read_once) {
        let why = "its log-in to Vault can be made only once; ask while the gateway runs";
        return Err(unasked(why.to_owned()));
    }
    let opened = Inquiry::open(config, credential.clone(), shaper.clone()).await;
    let inquiry = opened.map_err(|error| unasked(error.to_string()))?;
    if let State::Missing { why } = inquiry.credential.state() {
        return Err(unasked(why.to_string()));
    }
    inquiry.custody.whoami(&credential.id).await.map(told).map_err(untold)
}

/// Whether a secret can be had but once, and is the gateway's then.
fn is_read_once(source: &Source) -> bool {
    matches!(source, Source::Hashicorp { vault, .. }
        if matches!(vault.login, Login::AppRole { wrapped: true, .. }))
}

/// A state folder of another user is not ours to write into: root could, and would leave files that
/// the gateway cannot open.
pub(crate) fn mine(config: &Config) -> Result<(), String> {
    let folder = &config.state_dir;
    let Ok(owner) = folder.metadata().map(|meta| meta.uid()) else { return Ok(()) };
    if rustix::process::geteuid().is_root() && owner != 0 {
        return Err(format!(
            "{} belongs to the user {owner}; run this as that user: sudo -u '#{owner}' omnigate …",
            folder.display()
        ));
    }
    Ok(())
}

fn told(answer: Whoami) -> Told {
    Told {
        accepted: answer.status.is_success(),
        refused: answer.refused,
        status: answer.status.as_u16(),
        key_scope: answer.scope.map(|scope| scope.as_str().to_owned()),
        sha256: answer.fingerprint,
    }
}

fn untold(error: WhoamiError) -> Untold {
    Untold { why: error.to_string(), spent: error.was_sent() }
}

fn unasked(why: String) -> Untold {
    Untold { why, spent: false }
}

/// The gateway that a config's admin address leads to, whether it runs or not.
///
/// # Errors
/// The address is none, or the token that it wants is not at hand.
pub(crate) fn gateway(config: &Config) -> Result<Gateway, String> {
    gateway_within(config, Limits::default())
}

/// The same, for answers of another size.
///
/// # Errors
/// Those of [`gateway`].
pub(crate) fn gateway_within(config: &Config, limits: Limits) -> Result<Gateway, String> {
    let (dial, host) = match &config.admin.listen {
        Place::Tcp(address) => {
            let mut address = *address;
            // Nobody is reached at `0.0.0.0`, though some systems take it for this machine.
            match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
                IpAddr::V4(_) | IpAddr::V6(_) => {}
            }
            (Dial::tcp(&address.ip().to_string(), address.port()), address.to_string())
        }
        Place::Unix { path, .. } => (Dial::unix(path), "localhost".to_owned()),
    };
    let host = host.parse().map_err(|_| format!("{host} is no address"))?;
    let said = std::env::var_os(TOKEN).map(|token| Zeroizing::new(token.into_vec()));
    let bearer = bearer(config.admin.token.as_ref(), said.as_ref().map(|token| token.as_slice()))?;
    Ok(Gateway { client: Client::new(dial, host, limits), bearer })
}

/// What to show, where the gateway wants a token. A wrong one is not sent, whoever it was meant for.
fn bearer(
    wanted: Option<&TokenDigest>,
    said: Option<&[u8]>,
) -> Result<Option<HeaderValue>, String> {
    let Some(wanted) = wanted else { return Ok(None) };
    let token = said.filter(|token| !token.is_empty()).ok_or_else(|| {
        format!("the gateway's admin address wants a token; put it into the variable {TOKEN}")
    })?;
    if TokenDigest::of(token) != *wanted {
        return Err(format!("the variable {TOKEN} has another token than the config's"));
    }
    let text = Zeroizing::new([b"Bearer ", token].concat());
    let mut bearer = HeaderValue::from_bytes(&text)
        .map_err(|_| format!("the token in {TOKEN} has characters that no field can have"))?;
    bearer.set_sensitive(true);
    Ok(Some(bearer))
}

/// Tells a gateway's admin address to do something; what it says that is not JSON is null.
///
/// # Errors
/// It does not answer within that time.
pub(crate) async fn post(
    gateway: &Gateway,
    path: &str,
    within: Duration,
) -> Result<(StatusCode, Value), String> {
    call(gateway, Method::POST, path, None, within).await
}

/// Asks a gateway's admin address what takes a JSON document to ask; what it says that is not JSON is
/// null. The document is wiped from memory.
///
/// # Errors
/// It does not answer within that time.
pub(crate) async fn post_json(
    gateway: &Gateway,
    path: &str,
    document: Zeroizing<Vec<u8>>,
    within: Duration,
) -> Result<(StatusCode, Value), String> {
    call(gateway, Method::POST, path, Some(Bytes::from_owner(document)), within).await
}

/// Asks a gateway's admin address for a document; what it says that is not JSON is null.
///
/// # Errors
/// It does not answer within that time.
pub(crate) async fn get(
    gateway: &Gateway,
    path: &str,
    within: Duration,
) -> Result<(StatusCode, Value), String> {
    call(gateway, Method::GET, path, None, within).await
}

async fn call(
    gateway: &Gateway,
    method: Method,
    path: &str,
    document: Option<Bytes>,
    within: Duration,
) -> Result<(StatusCode, Value), String> {
    let is_json = document.is_some();
    let mut request = Request::new(document.unwrap_or_default());
    if is_json {
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
    }
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|_| format!("{path} is no path"))?;
    if let Some(bearer) = &gateway.bearer {
        request.headers_mut().insert(AUTHORIZATION, bearer.clone());
    }
    let answer = gateway.client.send(request, within).await.map_err(|error| error.to_string())?;
    let body = serde_json::from_slice(answer.body()).unwrap_or_default();
    Ok((answer.status(), body))
}

/// The same for a gateway that is known to run.
async fn tell(gateway: &Gateway, path: &str) -> Result<(StatusCode, Value), String> {
    post(gateway, path, GATEWAY_WITHIN).await.map_err(|error| {
        format!(
            "a gateway uses the state folder, and does not answer on its admin address: {error}"
        )
    })
}

fn read(status: StatusCode, body: &Value) -> Result<Told, Untold> {
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    match (status, body["accepted"].as_bool(), body["status"].as_u64()) {
        (StatusCode::OK, Some(accepted), Some(status)) => Ok(Told {
            accepted,
            refused: body["refused"] == true,
            status: u16::try_from(status).unwrap_or_default(),
            key_scope: text("key_scope"),
            sha256: text("sha256"),
        }),
        (StatusCode::NOT_FOUND, ..) => {
            Err(unasked("the gateway that runs does not know it; restart it".to_owned()))
        }
        _ => {
            let why = text("detail").unwrap_or_else(|| format!("the gateway said {status}"));
            let why = why.trim_start_matches("Omni could not be asked: ").trim_end_matches('.');
            Err(Untold { why: why.to_owned(), spent: body["sent"] == true })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_where_it_is_wanted_and_right() {
        let wanted = TokenDigest::of(b"of-operators");
        assert_eq!(bearer(None, Some(b"of-operators")), Ok(None));
        let shown = bearer(Some(&wanted), Some(b"of-operators")).unwrap().unwrap();
        assert!(shown.is_sensitive() && shown == "Bearer of-operators");
        for wrong in [None, Some(&b""[..]), Some(b"of-operator"), Some(b"of-operators\n")] {
            let said = bearer(Some(&wanted), wrong).unwrap_err();
            assert!(said.contains(TOKEN) && !said.contains("of-operator"), "{said}");
        }
        let odd = TokenDigest::of(b"a\nb");
        assert!(bearer(Some(&odd), Some(b"a\nb")).is_err());
    }
}

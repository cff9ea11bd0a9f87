//! Asking Omni about keys, from the command line. Every question is charged to the budget: through the
//! gateway that runs on the config's state folder, or else with the ledger in that folder.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::Value;

use crate::app::{self, Inquiry, StartError};
use crate::config::Config;
use crate::credential::{CredentialSettings, Kind, Login, Source, State};
use crate::net::{Client, Dial, Limits};
use crate::proxy::{Whoami, WhoamiError};
use crate::shape::{Shaper, StateError};

/// A question waits its turn for 2 m, and 5 s for its answer.
const GATEWAY_WITHIN: Duration = Duration::from_secs(130);

/// Who can ask.
pub(crate) enum Asker<'a> {
    /// We hold the ledger.
    Here(&'a Config, Arc<Shaper>),
    /// A gateway runs and holds it.
    Gateway(Client),
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
            Self::Gateway(client) => {
                let path = format!("/-/credentials/{}/test", credential.id);
                let (status, body) = tell(client, &path).await.map_err(unasked)?;
                read(status, &body)
            }
        }
    }

    /// Has the running gateway look at all secrets again; nothing where none runs.
    pub(crate) async fn reload(&self) -> Result<(), String> {
        let Self::Gateway(client) = self else { return Ok(()) };
        match tell(client, "/-/reload").await? {
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
    if let Source::Hashicorp { vault, .. } = &credential.source
        && matches!(vault.login, Login::AppRole { wrapped: true, .. })
    {
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

/// A state folder of another user is not ours to write into: root could, and would leave files that
/// the gateway cannot open.
fn mine(config: &Config) -> Result<(), String> {
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
/// The address is none.
pub(crate) fn gateway(config: &Config) -> Result<Client, String> {
    let address = config.admin.listen;
    let host = address.to_string();
    let host = host.parse().map_err(|_| format!("{host} is no address"))?;
    let dial = Dial::tcp(&address.ip().to_string(), address.port());
    Ok(Client::new(dial, host, Limits::default()))
}

/// Tells a gateway's admin address to do something; what it says that is not JSON is null.
///
/// # Errors
/// It does not answer within that time.
pub(crate) async fn post(
    client: &Client,
    path: &str,
    within: Duration,
) -> Result<(StatusCode, Value), String> {
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(|_| format!("{path} is no path"))?;
    let answer = client.send(request, within).await.map_err(|error| error.to_string())?;
    let body = serde_json::from_slice(answer.body()).unwrap_or_default();
    Ok((answer.status(), body))
}

/// The same for a gateway that is known to run.
async fn tell(client: &Client, path: &str) -> Result<(StatusCode, Value), String> {
    post(client, path, GATEWAY_WITHIN).await.map_err(|error| {
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

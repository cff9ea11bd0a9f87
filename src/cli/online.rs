//! Asking Omni about keys, from the command line. Every question is charged to the budget: through the
//! gateway that runs on the config's state folder, or else with the ledger in that folder.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::Value;

use crate::app::{Rooms, StartError, Ways};
use crate::base::CredentialId;
use crate::config::Config;
use crate::credential::{OnMissing, State};
use crate::net::{Client, Dial, Limits};
use crate::proxy::{Whoami, WhoamiError};
use crate::shape::StateError;

/// A question waits its turn for 2 m, and 5 s for its answer.
const GATEWAY_WITHIN: Duration = Duration::from_secs(130);

/// Who can ask.
pub(crate) enum Asker {
    /// We hold the ledger.
    Rooms(Rooms),
    /// A gateway runs and holds it.
    Gateway(Client),
}

/// What Omni said of one key.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) accepted: bool,
    pub(crate) status: u16,
    /// `organization` or `user`.
    pub(crate) key_scope: Option<String>,
}

/// Why a key could not be asked about.
#[derive(Debug)]
pub(crate) struct Untold {
    pub(crate) why: String,
    /// Whether a request was sent all the same.
    pub(crate) spent: bool,
}

impl Asker {
    /// Takes the ledger, or finds the gateway that has it.
    ///
    /// # Errors
    /// Says why nobody may send: a question that is not written down could be the 61st.
    pub(crate) async fn open(config: &Config) -> Result<Self, String> {
        let mut config = config.clone();
        for credential in &mut config.credentials {
            // One that cannot be read is told as such, and the others are asked about.
            credential.on_missing = OnMissing::Degrade;
        }
        mine(&config)?;
        match Rooms::open(&config, Ways::default()).await {
            Ok(rooms) if rooms.shaper.is_kept() => Ok(Self::Rooms(rooms)),
            Ok(_) => Err(format!(
                "the ledger in {} cannot be written, so nothing is sent; run this as the user who runs \
                 the gateway",
                config.state_dir.display()
            )),
            Err(StartError::State(StateError::InUse { .. })) => {
                let address = config.admin.listen;
                let host = address.to_string();
                let host = host.parse().map_err(|_| format!("{host} is no address"))?;
                let dial = Dial::tcp(&address.ip().to_string(), address.port());
                Ok(Self::Gateway(Client::new(dial, host, Limits::default())))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Who asks, for people.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Rooms(_) => "this command",
            Self::Gateway(_) => "the gateway that runs",
        }
    }

    pub(crate) fn is_gateway(&self) -> bool {
        matches!(self, Self::Gateway(_))
    }

    /// Asks about one key.
    pub(crate) async fn ask(&self, id: &CredentialId) -> Result<Told, Untold> {
        match self {
            Self::Rooms(rooms) => {
                let credential = rooms.credentials.get(id);
                if let Some(State::Missing { why }) = credential.map(|one| one.state()) {
                    return Err(unasked(why.to_string()));
                }
                rooms.custody.whoami(id).await.map(told).map_err(untold)
            }
            Self::Gateway(client) => {
                let path = format!("/-/credentials/{id}/test");
                let (status, body) = post(client, &path).await.map_err(unasked)?;
                read(status, &body)
            }
        }
    }

    /// Has the running gateway look at all secrets again; nothing where none runs.
    pub(crate) async fn reload(&self) -> Result<(), String> {
        match self {
            Self::Rooms(_) => Ok(()),
            Self::Gateway(client) => match post(client, "/-/reload").await?.0 {
                status if status.is_success() => Ok(()),
                status => Err(format!(
                    "the gateway that runs was told to look at its secrets again, and said {status}"
                )),
            },
        }
    }

    /// Writes the ledger down in order.
    pub(crate) fn close(self) {
        if let Self::Rooms(rooms) = self {
            rooms.shaper.close();
        }
    }
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
        status: answer.status.as_u16(),
        key_scope: answer.scope.map(|scope| scope.as_str().to_owned()),
    }
}

fn untold(error: WhoamiError) -> Untold {
    let spent = matches!(error, WhoamiError::Send(_) | WhoamiError::Limited);
    Untold { why: error.to_string(), spent }
}

fn unasked(why: String) -> Untold {
    Untold { why, spent: false }
}

async fn post(client: &Client, path: &str) -> Result<(StatusCode, Value), String> {
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(|_| format!("{path} is no path"))?;
    let answer = client.send(request, GATEWAY_WITHIN).await;
    let answer = answer.map_err(|error| {
        format!(
            "a gateway uses the state folder, and does not answer on its admin address: {error}"
        )
    })?;
    let body = serde_json::from_slice(answer.body()).unwrap_or_default();
    Ok((answer.status(), body))
}

fn read(status: StatusCode, body: &Value) -> Result<Told, Untold> {
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    match (status, body["accepted"].as_bool(), body["status"].as_u64()) {
        (StatusCode::OK, Some(accepted), Some(status)) => Ok(Told {
            accepted,
            status: u16::try_from(status).unwrap_or_default(),
            key_scope: text("key_scope"),
        }),
        (StatusCode::NOT_FOUND, ..) => {
            Err(unasked("the gateway that runs does not know it; restart it".to_owned()))
        }
        _ => {
            let why = text("detail").unwrap_or_else(|| format!("its gateway said {status}"));
            let why = why.trim_start_matches("Omni could not be asked: ").trim_end_matches('.');
            Err(unasked(why.to_owned()))
        }
    }
}

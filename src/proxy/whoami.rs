//! `whoami`: the question whether a key is good, on its way up like any call.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};

use crate::base::{Body, CallerId, CredentialId, Priority};
use crate::caller::Caller;
use crate::credential::{Credential, Generation, Unavailable};
use crate::omni::{self, KeyScope};
use crate::proxy::headers;
use crate::proxy::peek::peek;
use crate::shape::{Ask, LaneId, Refused, Shaper};
use crate::upstream::{ConnectError, Leave, SendError, Upstream};

/// How long it waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(120);
/// How long its answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often it may find its connection gone before anything was sent.
const ROUNDS: u32 = 3;

/// What it takes to ask.
#[derive(Debug)]
pub(super) struct Question {
    shaper: Arc<Shaper>,
    upstream: Arc<Upstream>,
    /// Whose calls these are.
    caller: CallerId,
}

/// What Omni said when it was asked who a key is.
#[derive(Clone, Debug)]
pub struct Whoami {
    /// The status of its answer.
    pub status: StatusCode,
    /// What the key may act as, where Omni took it and said so.
    pub scope: Option<KeyScope>,
    /// Whether it refused the key.
    pub refused: bool,
    /// The first eight digits of the SHA-256 of the value that was asked about, where it is still
    /// the key's.
    pub fingerprint: Option<String>,
    pub(super) generation: Generation,
}

/// Why Omni could not be asked. Nothing was sent, or no answer came.
#[derive(Debug, thiserror::Error)]
pub enum WhoamiError {
    /// No such credential, or no budget pays for its probes.
    #[error("there is no credential `{0}` that Omni could be asked about")]
    Unknown(CredentialId),
    /// It has no value.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Its turn did not come.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Omni cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It did not answer.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Its limit refused the question.
    #[error("Omni's limit refused the question")]
    Limited,
    /// Connections closed before anything was sent.
    #[error("Omni closes its connections before anything is sent")]
    Unsteady,
}

impl WhoamiError {
    /// Whether the question may have been sent, and was charged.
    pub fn was_sent(&self) -> bool {
        match self {
            Self::Send(_) | Self::Limited => true,
            Self::Unknown(_)
            | Self::Unavailable(_)
            | Self::Refused(_)
            | Self::Connect(_)
            | Self::Unsteady => false,
        }
    }
}

impl Question {
    pub(super) fn new(shaper: Arc<Shaper>, upstream: Arc<Upstream>) -> Self {
        Self { shaper, upstream, caller: CallerId::new(Caller::OURSELVES) }
    }

    /// Waits for its turn, is charged, and says what Omni answered.
    ///
    /// Cancel-safe: dropping the future gives its place back.
    ///
    /// # Errors
    /// [`WhoamiError`], when there is no answer.
    pub(super) async fn ask(
        &self,
        credential: &Credential,
        lane: LaneId,
    ) -> Result<Whoami, WhoamiError> {
        let ask = Ask {
            lane,
            caller: &self.caller,
            priority: Priority::Interactive,
            max_wait: Some(MAX_WAIT),
        };
        // Without a value there is nothing to ask about.
        credential.bearer()?;
        let mut place = self.shaper.join(&ask)?;
        for _ in 0..ROUNDS {
            place.near().await?;
            let connection = self.upstream.check_out().await?;
            let permit = place.turn().await?;
            // As late as any call's: it may have been replaced while the question waited.
            let bearer = credential.bearer()?;
            let mut request = self.request();
            headers::set_bearer(request.headers_mut(), bearer.field);
            let outcome = permit.outcome();
            let leave = Leave::new(Some(permit.expires()), move || permit.begin());
            let sent = self.upstream.send(connection, request, leave, Some(ANSWER_WITHIN)).await;
            let answer = match sent {
                Err(SendError::NotBegun) => {
                    place.again();
                    continue;
                }
                sent => sent?,
            };
            let (answer, body) = read(answer).await;
            if answer.status() == StatusCode::TOO_MANY_REQUESTS
                && !omni::is_application_429(answer.headers(), &body)
            {
                let now = SystemTime::now();
                outcome.limited(omni::retry_after(answer.headers(), now));
                return Err(WhoamiError::Limited);
            }
            outcome.taken();
            let status = answer.status();
            let scope = status.is_success().then(|| KeyScope::of_answer(&body)).flatten();
            let refused = omni::is_rejection(status, &body);
            let generation = bearer.generation;
            let fingerprint = credential.fingerprint(generation);
            return Ok(Whoami { status, scope, refused, fingerprint, generation });
        }
        Err(WhoamiError::Unsteady)
    }

    fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = http::Uri::from_static(omni::WHOAMI);
        let fields = request.headers_mut();
        if let Ok(host) = HeaderValue::try_from(self.upstream.origin().authority().as_str()) {
            fields.insert(HOST, host);
        }
        fields.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let agent = concat!("omnigate/", env!("CARGO_PKG_VERSION"));
        fields.insert(USER_AGENT, HeaderValue::from_static(agent));
        request
    }
}

async fn read(answer: Response<Body>) -> (Response<()>, Bytes) {
    let peeked = peek(answer, omni::LOOKED_AT, ANSWER_WITHIN).await;
    let body = peeked.whole().unwrap_or_default();
    let (head, _) = peeked.into_response().into_parts();
    (Response::from_parts(head, ()), body)
}

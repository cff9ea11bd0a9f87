//! Whether a key is still good. Upstream's word alone does not take one out of service: a caller
//! could provoke an answer that looks so, and the key is everybody's.
//!
//! So a key that was refused is put on *trial*, one trial at a time however many calls were refused:
//! its place is looked at, and if its value is the same, Omni is asked who it is, while the key's other
//! calls wait. That question is charged like any call. A refused key's calls fail at once; it is asked for again once a minute, and when
//! its value changes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::base::{Body, CallerId, CredentialId, Priority};
use crate::credential::{Credential, Credentials, Generation, Kind, Turn, Unavailable};
use crate::omni::{self, KeyScope};
use crate::proxy::headers;
use crate::proxy::peek::peek;
use crate::shape::{Ask, Key, LaneId, Refused, Service, Shaper};
use crate::telemetry::{Metrics, Probe};
use crate::upstream::{ConnectError, Leave, SendError, Upstream};

/// How often a refused key is asked for again.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// How long a key that stood its trial is not tried again.
const SOUND_FOR: Duration = Duration::from_secs(60);
/// The same where Omni did not say.
const UNCLEAR_FOR: Duration = Duration::from_secs(10);
/// How long a probe waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(120);
/// How long its answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often a probe may find its connection gone before anything was sent.
const ROUNDS: u32 = 3;

/// Watches over the keys.
#[derive(Debug)]
pub struct Custody {
    members: BTreeMap<CredentialId, Member>,
    shaper: Arc<Shaper>,
    upstream: Arc<Upstream>,
    metrics: Arc<Metrics>,
    /// Whose calls probes are.
    caller: CallerId,
}

#[derive(Debug)]
struct Member {
    credential: Arc<Credential>,
    lane: LaneId,
    trial: Mutex<Option<Trial>>,
    on_trial: AtomicBool,
    /// What the queue was told.
    told: Mutex<Service>,
}

/// A trial that runs or has ended.
#[derive(Debug)]
struct Trial {
    of: Generation,
    verdict: watch::Receiver<Option<(Verdict, Instant)>>,
}

/// What came of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The key has another value by now.
    Renewed,
    /// Omni refuses it.
    Rejected,
    /// Omni takes it: the refusal was about something else.
    Sound,
    /// Omni did not say.
    Unclear,
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
    generation: Generation,
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

impl Custody {
    /// Watches over `credentials`; `keys` says who pays for the probes of each.
    pub fn new(
        credentials: &Credentials,
        keys: &[Key],
        shaper: Arc<Shaper>,
        upstream: Arc<Upstream>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let member = |key: &Key| {
            let member = Member {
                credential: credentials.get(&key.credential)?,
                lane: shaper.probe_lane(key)?,
                trial: Mutex::default(),
                on_trial: AtomicBool::new(false),
                told: Mutex::new(Service::In),
            };
            Some((key.credential.clone(), member))
        };
        let members = keys.iter().filter_map(member).collect();
        Self { members, shaper, upstream, metrics, caller: CallerId::new("omnigate") }
    }

    /// Says what a refusal of this value of a key means.
    ///
    /// Cancel-safe: the trial goes on in a task of its own, for the others who wait for it.
    pub(super) async fn judge(self: &Arc<Self>, id: &CredentialId, seen: Generation) -> Verdict {
        let Some(member) = self.members.get(id) else { return Verdict::Unclear };
        let Turn { generation, rejected } = *member.credential.turns().borrow();
        if generation != seen {
            return Verdict::Renewed;
        }
        if rejected {
            return Verdict::Rejected;
        }
        let mut verdict = self.trial(id, member, seen);
        match verdict.wait_for(Option::is_some).await.as_deref() {
            Ok(Some((verdict, _))) => *verdict,
            // The runtime is going away.
            Ok(None) | Err(_) => Verdict::Unclear,
        }
    }

    /// The trial of this value that runs, or whose verdict still counts, or a new one.
    fn trial(
        self: &Arc<Self>,
        id: &CredentialId,
        member: &Member,
        seen: Generation,
    ) -> watch::Receiver<Option<(Verdict, Instant)>> {
        let mut latest = member.trial.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trial) = latest.as_ref().filter(|trial| trial.of == seen && !trial.is_over()) {
            return trial.verdict.clone();
        }
        let (tell, verdict) = watch::channel(None);
        *latest = Some(Trial { of: seen, verdict: verdict.clone() });
        let (custody, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let Some(member) = custody.members.get(&id) else { return };
            let verdict = custody.hold(member, seen).await;
            tell.send_replace(Some((verdict, Instant::now())));
        });
        verdict
    }

    async fn hold(&self, member: &Member, seen: Generation) -> Verdict {
        if member.credential.refresh_since(seen).await != seen {
            return Verdict::Renewed;
        }
        let _held = OnTrial::begin(self, member);
        let answer = self.ask(member).await;
        self.weigh(member, seen, answer)
    }

    fn weigh(
        &self,
        member: &Member,
        seen: Generation,
        answer: Result<Whoami, WhoamiError>,
    ) -> Verdict {
        let credential = &member.credential;
        match answer {
            Ok(answer) if answer.generation != seen => Verdict::Renewed,
            Ok(answer) if answer.refused => {
                credential.judge(seen, true);
                error!(credential = %credential.id(), status = answer.status.as_u16(),
                    "Omni refuses this key; its calls fail until it has another value, or Omni takes it again");
                Verdict::Rejected
            }
            Ok(answer) if answer.status.is_success() => Verdict::Sound,
            Ok(_) | Err(_) => Verdict::Unclear,
        }
    }

    /// Takes refused keys out of service and puts others back, asks for refused ones again, until
    /// `stop`; meant to be spawned.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let members = join_all(self.members.values().map(|member| self.keep_one(member)));
        stop.run_until_cancelled(members).await;
    }

    async fn keep_one(&self, member: &Member) {
        let mut turns = member.credential.turns();
        let mut before: Option<Turn> = None;
        loop {
            let turn = *turns.borrow_and_update();
            self.settle(member);
            let renewed = before.is_some_and(|it| it.rejected && it.generation != turn.generation);
            if renewed {
                self.probe(member).await;
            }
            before = Some(turn);
            tokio::select! {
                changed = turns.changed() => if changed.is_err() { return },
                () = sleep(PROBE_EVERY), if turn.rejected => self.probe(member).await,
            }
        }
    }

    /// Asks for a key that was refused.
    async fn probe(&self, member: &Member) {
        let credential = member.credential.id();
        match self.ask(member).await {
            Ok(answer) if answer.refused || answer.status.is_success() => {
                let before = member.credential.is_rejected();
                member.credential.judge(answer.generation, answer.refused);
                self.settle(member);
                match (before, member.credential.is_rejected()) {
                    (true, false) => info!(%credential, "Omni takes this key again"),
                    (false, true) => error!(%credential, "Omni refuses this key's new value too"),
                    (true, true) => debug!(%credential, "Omni still refuses this key"),
                    (false, false) => info!(%credential, "Omni takes this key's new value"),
                }
            }
            Ok(answer) => {
                debug!(%credential, status = answer.status.as_u16(), "Omni did not say who a key is");
            }
            Err(error) => debug!(%credential, %error, "Omni could not be asked who a key is"),
        }
    }

    /// Tells the queue how the key stands. Whoever calls it last has looked last.
    fn settle(&self, member: &Member) {
        let mut told = member.told.lock().unwrap_or_else(PoisonError::into_inner);
        let service = match member.on_trial.load(Ordering::Relaxed) {
            _ if member.credential.is_rejected() => Service::Out,
            true => Service::OnTrial,
            false => Service::In,
        };
        if *told != service {
            *told = service;
            self.shaper.set_service(member.credential.id(), service);
        }
    }

    /// Asks Omni who a key is. The question waits for its turn like any call, and is charged.
    ///
    /// Cancel-safe: dropping the future gives its place back.
    ///
    /// # Errors
    /// [`WhoamiError`], when there is no answer.
    pub async fn whoami(&self, id: &CredentialId) -> Result<Whoami, WhoamiError> {
        let member = self.members.get(id).ok_or_else(|| WhoamiError::Unknown(id.clone()))?;
        self.ask(member).await
    }

    async fn ask(&self, member: &Member) -> Result<Whoami, WhoamiError> {
        let result = self.ask_once(member).await;
        let outcome = match &result {
            Ok(answer) if answer.refused => Probe::Refused,
            Ok(answer) if answer.status.is_success() => Probe::Accepted,
            Ok(_) | Err(_) => Probe::Unclear,
        };
        self.metrics.probed(member.credential.id(), outcome);
        if let Ok(answer) = &result {
            warn_of_another_kind(&member.credential, answer.scope);
        }
        result
    }

    async fn ask_once(&self, member: &Member) -> Result<Whoami, WhoamiError> {
        let ask = Ask {
            lane: member.lane,
            caller: &self.caller,
            priority: Priority::Interactive,
            max_wait: Some(MAX_WAIT),
        };
        let mut place = self.shaper.join(&ask)?;
        for _ in 0..ROUNDS {
            place.near().await?;
            let connection = self.upstream.check_out().await?;
            let permit = place.turn().await?;
            // As late as any call's: it may have been replaced while the question waited.
            let bearer = member.credential.bearer()?;
            let mut request = self.question();
            headers::set_bearer(request.headers_mut(), bearer.field);
            let outcome = permit.outcome();
            let leave = Leave::new(Some(permit.expires()), move || permit.begin());
            let sent = self.upstream.send(connection, request, leave, Some(ANSWER_WITHIN)).await;
            let answer = match sent {
                Err(SendError::NotBegun { .. }) => {
                    place.again();
                    continue;
                }
                sent => sent?,
            };
            let (answer, body) = read(answer).await;
            if answer.status() == StatusCode::TOO_MANY_REQUESTS
                && !omni::is_application_429(answer.headers(), &body)
            {
                let now = std::time::SystemTime::now();
                outcome.limited(omni::retry_after(answer.headers(), now));
                return Err(WhoamiError::Limited);
            }
            outcome.taken();
            let status = answer.status();
            let scope = status.is_success().then(|| KeyScope::of_answer(&body)).flatten();
            let refused = omni::is_rejection(status, &body);
            return Ok(Whoami { status, scope, refused, generation: bearer.generation });
        }
        Err(WhoamiError::Unsteady)
    }

    fn question(&self) -> Request<Body> {
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

/// While it lives, the calls of a key wait.
struct OnTrial<'a>(&'a Custody, &'a Member);

impl<'a> OnTrial<'a> {
    fn begin(custody: &'a Custody, member: &'a Member) -> Self {
        member.on_trial.store(true, Ordering::Relaxed);
        custody.settle(member);
        Self(custody, member)
    }
}

impl Drop for OnTrial<'_> {
    fn drop(&mut self) {
        let Self(custody, member) = self;
        member.on_trial.store(false, Ordering::Relaxed);
        custody.settle(member);
    }
}

impl Trial {
    /// Whether its verdict counts no more. What the key's own standing says is not remembered here.
    fn is_over(&self) -> bool {
        match *self.verdict.borrow() {
            None => self.verdict.has_changed().is_err(),
            Some((Verdict::Sound, at)) => at.elapsed() >= SOUND_FOR,
            Some((Verdict::Unclear, at)) => at.elapsed() >= UNCLEAR_FOR,
            Some((Verdict::Renewed | Verdict::Rejected, _)) => true,
        }
    }
}

async fn read(answer: Response<Body>) -> (Response<()>, Bytes) {
    let peeked = peek(answer, omni::LOOKED_AT, ANSWER_WITHIN).await;
    let body = peeked.whole().unwrap_or_default();
    let (head, _) = peeked.into_response().into_parts();
    (Response::from_parts(head, ()), body)
}

fn warn_of_another_kind(credential: &Credential, scope: Option<KeyScope>) {
    let said = credential.kind();
    let fits = match (said, scope) {
        (_, None) => true,
        (Kind::Organization, Some(scope)) => scope == KeyScope::Organization,
        (Kind::Personal | Kind::Mcp, Some(scope)) => scope == KeyScope::User,
    };
    if !fits {
        warn!(credential = %credential.id(), kind = ?said, key_scope = ?scope,
            "the config says another kind of key than Omni does; see its `kind`");
    }
}

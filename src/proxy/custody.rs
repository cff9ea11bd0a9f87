//! Whether a key is still good. Upstream's word alone does not take one out of service: a caller
//! could provoke an answer that looks so, and the key is everybody's.
//!
//! So a key that was refused is put on *trial*, one trial at a time however many calls were
//! refused: its place is looked at, and if its value is the same, Omni is asked who it is, while
//! the key's other calls wait. That question is charged like any call. A refused key's calls fail
//! at once; it is asked for again once a minute, and when its value changes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::base::CredentialId;
use crate::credential::{Credential, Credentials, Generation, Kind, Turn};
use crate::omni::KeyScope;
use crate::proxy::whoami::{Question, Whoami, WhoamiError};
use crate::shape::{Key, LaneId, Service, Shaper};
use crate::telemetry::{Metrics, Probe};
use crate::upstream::Upstream;

/// How often a refused key is asked for again.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// How long a key that stood its trial is not tried again.
const SOUND_FOR: Duration = Duration::from_secs(60);
/// The same where Omni did not say; then twice that, and so on up to a minute.
const UNCLEAR_FOR: Duration = Duration::from_secs(10);
/// Watches over the keys.
#[derive(Debug)]
pub struct Custody {
    members: BTreeMap<CredentialId, Member>,
    question: Question,
    shaper: Arc<Shaper>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Member {
    credential: Arc<Credential>,
    lane: LaneId,
    trial: Mutex<Option<Trial>>,
    /// Two of its values may be on trial at a time.
    on_trial: AtomicUsize,
    /// What the queue was told.
    told: Mutex<Service>,
}

/// A trial that runs or has ended.
#[derive(Debug)]
struct Trial {
    of: Generation,
    /// How many trials of this value before it did not come to a verdict.
    unclear: u32,
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
                on_trial: AtomicUsize::new(0),
                told: Mutex::new(Service::In),
            };
            Some((key.credential.clone(), member))
        };
        let members = keys.iter().filter_map(member).collect();
        let question = Question::new(shaper.clone(), upstream);
        Self { members, question, shaper, metrics }
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
        let unclear = latest.as_ref().map_or(0, |before| before.unclear_after(seen));
        let (tell, verdict) = watch::channel(None);
        *latest = Some(Trial { of: seen, unclear, verdict: verdict.clone() });
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
        let refused = answer.as_ref().ok().filter(|answer| answer.refused);
        if let Some(answer) = refused {
            credential.judge(answer.generation, true);
        }
        let Turn { generation, rejected } = *credential.turns().borrow();
        if let (true, Some(answer)) = (rejected, refused) {
            error!(credential = %credential.id(), status = answer.status.as_u16(),
                "Omni refuses this key; its calls fail until it has another value, or Omni takes it again");
        }
        match answer {
            // Also where it was replaced while Omni was asked: the calls go with the new value
            // then.
            _ if generation != seen => Verdict::Renewed,
            Ok(answer) if answer.refused => Verdict::Rejected,
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
        // Beside the probes, which may wait for minutes: a new value must not wait for them.
        let settle = async {
            let mut turns = member.credential.turns();
            loop {
                turns.mark_unchanged();
                self.settle(member);
                if turns.changed().await.is_err() {
                    return;
                }
            }
        };
        join(settle, self.ask_again(member)).await;
    }

    /// Asks for a refused key once a minute, and when it has another value.
    async fn ask_again(&self, member: &Member) {
        let mut turns = member.credential.turns();
        let mut before: Option<Turn> = None;
        loop {
            let turn = *turns.borrow_and_update();
            let renewed = before.is_some_and(|it| it.rejected && it.generation != turn.generation);
            if renewed {
                // Its calls wait, and do not go in vain if this value is no good either.
                let _held = OnTrial::begin(self, member);
                let _ = self.probe(member).await;
            }
            before = Some(turn);
            tokio::select! {
                changed = turns.changed() => if changed.is_err() { return },
                () = sleep(PROBE_EVERY), if turn.rejected => {
                    let _ = self.probe(member).await;
                }
            }
        }
    }

    /// Asks who a key is, and takes Omni at its word.
    async fn probe(&self, member: &Member) -> Result<Whoami, WhoamiError> {
        let credential = member.credential.id();
        let answer = self.ask(member).await;
        match &answer {
            Ok(answer) if answer.refused || answer.status.is_success() => {
                let before = member.credential.is_rejected();
                member.credential.judge(answer.generation, answer.refused);
                self.settle(member);
                match (before, member.credential.is_rejected()) {
                    (true, false) => info!(%credential, "Omni takes this key again"),
                    (false, true) => error!(%credential, "Omni refuses this key"),
                    (true, true) => debug!(%credential, "Omni still refuses this key"),
                    (false, false) => info!(%credential, "Omni takes this key"),
                }
            }
            Ok(answer) => {
                debug!(%credential, status = answer.status.as_u16(), "Omni did not say who a key is");
            }
            Err(error) => debug!(%credential, %error, "Omni could not be asked who a key is"),
        }
        answer
    }

    /// Tells the queue how these keys stand, where it does not know yet.
    pub(super) fn settle_all(&self, credentials: &[Arc<Credential>]) {
        for credential in credentials {
            if let Some(member) = self.members.get(credential.id()) {
                self.settle(member);
            }
        }
    }

    /// Tells the queue how the key stands. Whoever calls it last has looked last.
    fn settle(&self, member: &Member) {
        let mut told = member.told.lock().unwrap_or_else(PoisonError::into_inner);
        let credential = &member.credential;
        // A key without a value is no key of a pool's.
        let service = match member.on_trial.load(Ordering::Relaxed) {
            _ if !credential.is_usable() => Service::Out,
            0 => Service::In,
            1.. => Service::OnTrial,
        };
        if *told != service {
            *told = service;
            self.shaper.set_service(credential.id(), service);
        }
    }

    /// Asks Omni who a key is, and takes it at its word. The question waits for its turn like any
    /// call, and is charged.
    ///
    /// Cancel-safe: dropping the future gives its place back.
    ///
    /// # Errors
    /// [`WhoamiError`], when there is no answer.
    pub async fn whoami(&self, id: &CredentialId) -> Result<Whoami, WhoamiError> {
        let member = self.members.get(id).ok_or_else(|| WhoamiError::Unknown(id.clone()))?;
        self.probe(member).await
    }

    async fn ask(&self, member: &Member) -> Result<Whoami, WhoamiError> {
        let result = self.question.ask(&member.credential, member.lane).await;
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
}

/// While it lives, the calls of a key wait.
struct OnTrial<'a>(&'a Custody, &'a Member);

impl<'a> OnTrial<'a> {
    fn begin(custody: &'a Custody, member: &'a Member) -> Self {
        member.on_trial.fetch_add(1, Ordering::Relaxed);
        custody.settle(member);
        Self(custody, member)
    }
}

impl Drop for OnTrial<'_> {
    fn drop(&mut self) {
        let Self(custody, member) = self;
        member.on_trial.fetch_sub(1, Ordering::Relaxed);
        custody.settle(member);
    }
}

impl Trial {
    /// How many trials in a row, this one the last, did not come to a verdict on a value.
    fn unclear_after(&self, of: Generation) -> u32 {
        match *self.verdict.borrow() {
            Some((Verdict::Unclear, _)) if self.of == of => self.unclear + 1,
            Some(_) | None => 0,
        }
    }

    /// Whether its verdict counts no more. What the key's own standing says is not remembered here.
    fn is_over(&self) -> bool {
        match *self.verdict.borrow() {
            None => self.verdict.has_changed().is_err(),
            Some((Verdict::Sound, at)) => at.elapsed() >= SOUND_FOR,
            Some((Verdict::Unclear, at)) => {
                at.elapsed() >= (UNCLEAR_FOR * (1 << self.unclear.min(3))).min(SOUND_FOR)
            }
            Some((Verdict::Renewed | Verdict::Rejected, _)) => true,
        }
    }
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

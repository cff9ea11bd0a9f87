//! The life of one credential: read before the ports open, looked at again, kept through trouble.

use std::fmt;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use secrecy::ExposeSecret;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use crate::base::CredentialId;

use super::echo::Blot;
use super::settings::{CredentialSettings, Kind, OnMissing};
use super::standing::{Generation, News, Standing, State};
use super::store::{SecretError, SecretStore};
use super::token::Token;

/// How soon a place is looked at again that could not be read; then twice that, and so on.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How often at least, while it cannot be read or upstream refuses what it says.
const AGAIN_AT_LEAST: Duration = Duration::from_secs(60);

/// One credential: a name, and the bearer that it stands for now.
pub struct Credential {
    id: CredentialId,
    kind: Kind,
    store: Arc<dyn SecretStore>,
    now: ArcSwap<Standing>,
    /// Held while `now` is replaced: a look and a verdict must not undo each other.
    replacing: std::sync::Mutex<()>,
    /// Tells of another value, and of verdicts.
    turns: watch::Sender<Turn>,
    /// Tells the watcher that somebody else has looked.
    looked: Notify,
    /// One read at a time, so that an older one never overwrites a newer one.
    pub(super) looks: Mutex<Looks>,
}

/// What those who wait for a credential look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Which value it has.
    pub generation: Generation,
    /// Whether upstream refuses it.
    pub rejected: bool,
}

/// The value of an `Authorization` field, and which of its credential's values it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Byte-identical until the secret changes, and marked sensitive.
    pub field: HeaderValue,
    /// Which value.
    pub generation: Generation,
    /// Overwrites it in what upstream answers.
    pub blot: Arc<Blot>,
}

/// When a secret was looked at, and how that went.
#[derive(Debug)]
pub(super) struct Looks {
    pub(super) last: Instant,
    /// How many in a row found trouble.
    failed: u32,
    valid_for: Option<Duration>,
}

/// A credential that a start cannot do without.
#[derive(Debug, thiserror::Error)]
#[error("credential `{credential}`: {source}{}", source.way_out())]
pub struct OpenError {
    /// Which.
    pub credential: CredentialId,
    /// Why it cannot be had.
    pub source: SecretError,
}

/// A credential has no bearer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("credential `{credential}` has no value")]
pub struct Unavailable {
    /// Which.
    pub credential: CredentialId,
}

impl Credential {
    pub(super) async fn open(
        settings: CredentialSettings,
        store: Arc<dyn SecretStore>,
    ) -> Result<Self, OpenError> {
        let CredentialSettings { id, kind, on_missing, .. } = settings;
        let read = read(&*store).await;
        let last = Instant::now();
        let (read, valid_for) = match (read, on_missing) {
            (Ok(read), _) => (Ok(read.token), read.valid_for),
            (Err(why), OnMissing::Degrade) => (Err(why), None),
            (Err(source), OnMissing::Fail) => return Err(OpenError { credential: id, source }),
        };
        let looks = Looks { last, failed: u32::from(read.is_err()), valid_for };
        let now = Standing::first(read, last);
        let turns = watch::Sender::new(Turn { generation: now.generation(), rejected: false });
        let (now, looks) = (ArcSwap::from_pointee(now), Mutex::new(looks));
        let credential = Self {
            id,
            kind,
            store,
            now,
            replacing: std::sync::Mutex::default(),
            turns,
            looked: Notify::new(),
            looks,
        };
        if let State::Missing { why } = credential.state() {
            warn!(credential = %credential.id, error = %why, "credential missing; its calls are refused");
        }
        credential.warn_of_another_form();
        Ok(credential)
    }

    /// Its name.
    pub fn id(&self) -> &CredentialId {
        &self.id
    }

    /// What kind of key it is, as the config says.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The value of the `Authorization` field, from memory: byte-identical until the secret changes.
    ///
    /// # Errors
    /// There is no value yet.
    pub fn bearer(&self) -> Result<Bearer, Unavailable> {
        match self.now.load().kept() {
            Some(kept) => Ok(Bearer {
                field: kept.token.bearer(),
                generation: kept.generation,
                blot: kept.token.blot(),
            }),
            None => Err(Unavailable { credential: self.id.clone() }),
        }
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.now.load().state()
    }

    /// Which value it has now.
    pub fn generation(&self) -> Generation {
        self.now.load().generation()
    }

    /// Whether it has a value, and upstream does not refuse it.
    pub fn is_usable(&self) -> bool {
        let now = self.now.load();
        now.kept().is_some() && !now.is_rejected()
    }

    /// Whether upstream refuses the value that it has now.
    pub fn is_rejected(&self) -> bool {
        self.now.load().is_rejected()
    }

    /// How long ago its value was first read; `None` when it has none.
    pub fn age(&self) -> Option<Duration> {
        self.now.load().kept().map(|kept| kept.since.elapsed())
    }

    /// The first eight digits of the SHA-256 of that value; `None` where it has another by now.
    pub fn fingerprint(&self, generation: Generation) -> Option<String> {
        let now = self.now.load();
        let kept = now.kept().filter(|kept| kept.generation == generation);
        kept.map(|kept| kept.token.fingerprint())
    }

    /// Whether its value has the form of an Omni key; `None` when it has none.
    pub fn looks_like_omni(&self) -> Option<bool> {
        self.now.load().kept().map(|kept| kept.token.looks_like_omni())
    }

    /// Tells of another value, and of verdicts.
    pub fn turns(&self) -> watch::Receiver<Turn> {
        self.turns.subscribe()
    }

    /// Upstream refuses this value (`true`), or takes it again. A verdict on another value than the
    /// one that it has now counts for nothing.
    pub fn judge(&self, generation: Generation, refused: bool) {
        let replacing = self.replacing();
        if let Some(judged) = self.now.load().judged(generation, refused, Instant::now()) {
            self.now.store(Arc::new(judged));
        }
        self.announce(&replacing);
    }

    /// Looks at the secret's place now, unless its value is already another than `seen`. Says which
    /// value it has then. Takes 10 s at most, or what a provider's own time limits come to.
    ///
    /// Cancel-safe: what was not read stays as it was.
    pub async fn refresh_since(&self, seen: Generation) -> Generation {
        let mut looks = self.looks.lock().await;
        // Somebody else has looked while we waited for our turn.
        if self.now.load().generation() == seen {
            self.look(&mut looks).await;
        }
        self.now.load().generation()
    }

    /// Looks at the secret's place now. Takes 10 s at most, or what a provider's own time limits come
    /// to.
    ///
    /// Cancel-safe: what was not read stays as it was.
    pub async fn refresh(&self) {
        let mut looks = self.looks.lock().await;
        self.look(&mut looks).await;
    }

    /// Looks at the place as often as that is worth it, for ever; meant to be cancelled.
    pub(super) async fn watch(&self) {
        let mut turns = self.turns();
        loop {
            turns.mark_unchanged();
            let due = self.next_look(&*self.looks.lock().await);
            let due_or_never = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due_or_never => {
                    let mut looks = self.looks.lock().await;
                    // It may have been looked at meanwhile, because somebody asked.
                    if self.next_look(&looks).is_some_and(|due| due <= Instant::now()) {
                        self.look(&mut looks).await;
                    }
                }
                _ = turns.changed() => {}
                () = self.looked.notified() => {}
            }
        }
    }

    /// What drives the store's own work, where it has any.
    pub(super) async fn keep(&self) {
        self.store.keep().await;
    }

    fn next_look(&self, looks: &Looks) -> Option<Instant> {
        let usual = self.store.refresh_every();
        let after = if looks.failed > 0 {
            let doubled = AGAIN_AFTER.saturating_mul(1 << (looks.failed - 1).min(8));
            Some(doubled.min(usual.unwrap_or(AGAIN_AT_LEAST).min(AGAIN_AT_LEAST)))
        } else if self.is_rejected() {
            Some(usual.unwrap_or(AGAIN_AT_LEAST).min(AGAIN_AT_LEAST))
        } else {
            // Before it runs out, with time left for a second try.
            let runs_out = looks.valid_for.map(|valid| (valid * 9 / 10).max(AGAIN_AFTER / 5));
            usual.into_iter().chain(runs_out).min()
        };
        after.map(|after| looks.last + after)
    }

    async fn look(&self, looks: &mut Looks) {
        let read = read(&*self.store).await;
        looks.last = Instant::now();
        looks.failed = if read.is_ok() { 0 } else { looks.failed.saturating_add(1) };
        looks.valid_for = read.as_ref().ok().and_then(|read| read.valid_for);
        let replacing = self.replacing();
        let (now, news) = self.now.load().take(read.map(|read| read.token), looks.last);
        self.now.store(Arc::new(now));
        self.announce(&replacing);
        drop(replacing);
        // When it is worth another look has changed.
        self.looked.notify_one();
        self.tell(news);
    }

    fn replacing(&self) -> MutexGuard<'_, ()> {
        self.replacing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, _replacing: &MutexGuard<'_, ()>) {
        let now = self.now.load();
        let turn = Turn { generation: now.generation(), rejected: now.is_rejected() };
        self.turns.send_if_modified(|told| {
            let news = *told != turn;
            *told = turn;
            news
        });
    }

    fn tell(&self, news: Option<News>) {
        match news {
            None => {}
            Some(News::Refreshed) => {
                info!(credential = %self.id, "credential refreshed");
                self.warn_of_another_form();
            }
            Some(News::Recovered) => info!(credential = %self.id, "credential readable again"),
            Some(News::Failed(why)) => {
                warn!(credential = %self.id, error = %why, "credential not readable");
            }
        }
    }

    fn warn_of_another_form(&self) {
        if self.looks_like_omni() == Some(false) && self.kind != Kind::Mcp {
            warn!(credential = %self.id, "the secret lacks the form of an Omni key; is it one?");
        }
    }
}

/// What a look found.
struct Read {
    token: Token,
    valid_for: Option<Duration>,
}

async fn read(store: &dyn SecretStore) -> Result<Read, SecretError> {
    let after = store.patience();
    let timed_out = |_| Err(SecretError::TimedOut { place: store.place(), after });
    let found = timeout(after, store.read()).await.unwrap_or_else(timed_out)?;
    let token = Token::parse(found.secret.expose_secret())
        .map_err(|source| SecretError::BadToken { place: store.place(), source })?;
    Ok(Read { token, valid_for: found.valid_for })
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("store", &self.store)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

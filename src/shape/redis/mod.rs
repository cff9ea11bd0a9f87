//! The store in Redis or Valkey: one script over a few keys, and two channels.
//!
//! The keys are `omnigate:1:{T}:state`, `…:instances`, `…:news` and `…:ledger:NAME`, the channels
//! `…:all` and `…:to:INSTANCE`. `T` stands for the Omni that is spoken to, so that several may share a
//! server, and keeps all keys on one node of a cluster.

mod identity;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};

use crate::net::{Password, Redis, RedisCommands, RedisFault, RedisPlace, RedisScript, RootsError};
use crate::shape::fleet::{BudgetStore, Connection, Running, Script, StoreError};

/// THE script.
const SCRIPT: &str = include_str!("budget.lua");
/// Name look-up, TCP, TLS, the log-in, and the first answers, of both connections.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// One run of the script.
const RUN_WITHIN: Duration = Duration::from_secs(1);
/// A password that was refused is looked for again no sooner than this: its place may be far away.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// What the store tells, and nobody has taken yet.
const MOST_PUSHES: usize = 1024;

/// Reads the password from where it is kept; an error names that place.
pub type ReadPassword = Arc<dyn Fn() -> BoxFuture<'static, Result<Password, String>> + Send + Sync>;

/// The password, and where it is read again once the server refuses it.
pub struct Passwords {
    now: Mutex<Held>,
    read: ReadPassword,
}

struct Held {
    password: Password,
    looked: Option<Instant>,
}

/// Budgets that are shared in Redis or Valkey.
#[derive(Debug)]
pub struct RedisStore {
    redis: Redis,
    /// Of all keys and channels.
    prefix: Arc<str>,
    script: Arc<RedisScript>,
    passwords: Option<Passwords>,
}

impl RedisStore {
    /// A store at that place, for the budgets of that Omni. Nothing is opened yet.
    ///
    /// # Errors
    /// [`RootsError`], when TLS cannot be spoken as the place says.
    pub fn new(
        place: &RedisPlace,
        upstream: &str,
        passwords: Option<Passwords>,
    ) -> Result<Self, RootsError> {
        Self::with_script(place, upstream, passwords, SCRIPT)
    }

    /// The same with another script, for tests of the way there.
    ///
    /// # Errors
    /// As [`RedisStore::new`].
    #[doc(hidden)]
    pub fn with_script(
        place: &RedisPlace,
        upstream: &str,
        passwords: Option<Passwords>,
        script: &'static str,
    ) -> Result<Self, RootsError> {
        let digest = Sha256::digest(upstream.as_bytes());
        let tag: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            redis: Redis::new(place)?,
            prefix: format!("omnigate:1:{{{tag}}}:").into(),
            script: Arc::new(RedisScript::new(script)),
            passwords,
        })
    }

    /// Both connections, with the password that there is now, and with another one where that is
    /// refused and there is another by now.
    async fn let_in(&self, instance: &str) -> Result<Connection, StoreError> {
        let Some(passwords) = &self.passwords else { return self.open(instance, None).await };
        let password = passwords.now();
        let why = match self.open(instance, Some(&password)).await {
            Err(StoreError::Refused(why)) => why,
            other => return other,
        };
        match passwords.after(&password).await {
            Ok(Some(another)) => self.open(instance, Some(&another)).await,
            Ok(None) => Err(StoreError::Refused(why)),
            Err(unread) => Err(StoreError::Refused(format!("{why}; {unread}"))),
        }
    }

    async fn open(
        &self,
        instance: &str,
        password: Option<&Password>,
    ) -> Result<Connection, StoreError> {
        let opened = async {
            let mut commands = self.redis.commands(password).await?;
            let identity = identity::of(&commands.ask(&["INFO"]).await?)?;
            let channels = ["all".to_owned(), format!("to:{instance}")];
            let channels = channels.map(|channel| format!("{}{channel}", self.prefix));
            let pushes = self.redis.subscribe(password, &channels, MOST_PUSHES).await?;
            let (prefix, script) = (self.prefix.clone(), self.script.clone());
            let script = Box::new(Runs { commands, prefix, script });
            Ok(Connection { identity, script, pushes })
        };
        timeout(CONNECT_WITHIN, opened).await.unwrap_or(Err(StoreError::Slow))
    }
}

impl BudgetStore for RedisStore {
    fn connect<'a>(&'a self, instance: &'a str) -> Running<'a, Connection> {
        Box::pin(self.let_in(instance))
    }
}

/// Where the script runs.
#[derive(Debug)]
struct Runs {
    commands: RedisCommands,
    prefix: Arc<str>,
    script: Arc<RedisScript>,
}

impl Script for Runs {
    fn run<'a>(&'a mut self, meters: &'a [String], request: &'a str) -> Running<'a, String> {
        Box::pin(async move {
            let names = ["state", "instances", "news"].map(str::to_owned);
            let ledgers = meters.iter().map(|meter| format!("ledger:{meter}"));
            let keys: Vec<String> = names
                .into_iter()
                .chain(ledgers)
                .map(|name| format!("{}{name}", self.prefix))
                .collect();
            let arguments = [request, &self.prefix];
            let run = self.commands.run(&self.script, &keys, &arguments);
            Ok(timeout(RUN_WITHIN, run).await.map_err(|_| StoreError::Slow)??)
        })
    }
}

impl Passwords {
    /// The password that was just read, and how that is done again.
    pub fn new(password: Password, read: ReadPassword) -> Self {
        Self { now: Mutex::new(Held { password, looked: None }), read }
    }

    fn now(&self) -> Password {
        self.held().password.clone()
    }

    /// Another password than the one that was refused, if there is one by now. Looks at its place, unless
    /// that was just done.
    async fn after(&self, refused: &Password) -> Result<Option<Password>, String> {
        {
            let mut held = self.held();
            if held.password != *refused {
                return Ok(Some(held.password.clone()));
            }
            if held.looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN_AFTER) {
                return Ok(None);
            }
            held.looked = Some(Instant::now());
        }
        let another = (self.read)().await?;
        if another == *refused {
            return Ok(None);
        }
        self.held().password = another.clone();
        Ok(Some(another))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

impl From<RedisFault> for StoreError {
    fn from(fault: RedisFault) -> Self {
        match fault {
            RedisFault::Unreachable(why) => Self::Unreachable(why),
            RedisFault::Refused(why) => Self::Refused(why),
            // Of a server that forgets scripts while it learns them.
            RedisFault::NoScript => Self::Unusable(fault.to_string()),
            RedisFault::Unusable(why) => Self::Unusable(why),
        }
    }
}

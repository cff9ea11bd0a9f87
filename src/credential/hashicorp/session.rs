//! Being logged in to a Vault server: one token for all secrets that are read there.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use secrecy::SecretSlice;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::base::chance;
use crate::credential::HashicorpSettings;
use crate::net::Dial;

use super::error::HashicorpError;
use super::kv::{self, Spot};
use super::lease::{Lease, Next};
use super::login::{self, Entrance};
use super::server::Server;

/// The longest between two tries to keep a lease.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How old a lease must be before a denied read casts doubt on it; doubled for each log-in that did
/// not help, so that a path which is denied does not cost a log-in each time.
const DOUBT: Duration = Duration::from_secs(30);

/// A log-in under way, for all who wait for it.
type Flight = Shared<BoxFuture<'static, Result<Arc<Lease>, HashicorpError>>>;

/// A Vault server, the way in, and the token that it gave.
pub(super) struct Session {
    server: Server,
    now: Mutex<Now>,
    /// Held only by the log-in under way.
    entrance: tokio::sync::Mutex<Entrance>,
    changed: Notify,
    /// Held by whoever keeps the lease.
    keeping: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Now {
    lease: Option<Held>,
    flight: Option<Flight>,
    log_ins: u64,
    /// Log-ins in a row that a denied read led to and that changed nothing.
    futile: u32,
}

struct Held {
    lease: Arc<Lease>,
    since: Instant,
}

impl Session {
    /// Asks nothing yet. `dial` is for a server inside this process.
    pub(super) fn new(
        settings: Arc<HashicorpSettings>,
        dial: Option<Dial>,
    ) -> Result<Arc<Self>, HashicorpError> {
        Ok(Arc::new(Self {
            server: Server::new(settings, dial)?,
            now: Mutex::default(),
            entrance: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            keeping: tokio::sync::Mutex::default(),
        }))
    }

    /// How to reach it and log in.
    pub(super) fn settings(&self) -> &Arc<HashicorpSettings> {
        &self.server.settings
    }

    /// Reads a field of a secret, within the settings' `timeout` for all that it takes; logs in
    /// first where nobody has, or where the token has ended.
    ///
    /// Cancel-safe: a log-in under way goes on without the caller.
    pub(super) async fn read(
        self: &Arc<Self>,
        spot: &Spot,
    ) -> Result<SecretSlice<u8>, HashicorpError> {
        let after = self.server.settings.timeout;
        let ended = timeout(after, self.read_now(spot)).await;
        ended.unwrap_or(Err(HashicorpError::Slow { after }))
    }

    async fn read_now(self: &Arc<Self>, spot: &Spot) -> Result<SecretSlice<u8>, HashicorpError> {
        let lease = match self.good_lease() {
            Some(lease) => lease,
            None => self.log_in(0).await?,
        };
        let read = kv::read(&self.server, &lease.token, spot).await;
        let Err(denied @ HashicorpError::Denied { .. }) = read else {
            if read.is_ok() {
                self.lock().futile = 0;
            }
            return read;
        };
        // Vault answers the same to a token that is dead and to one that may not.
        if !self.is_doubtful(&lease) || login::about(&self.server, &lease.token).await?.is_some() {
            return Err(denied);
        }
        let fresh = self.log_in(lease.number).await?;
        let read = kv::read(&self.server, &fresh.token, spot).await;
        let mut now = self.lock();
        now.futile = if read.is_ok() { 0 } else { now.futile.saturating_add(1) };
        read
    }

    /// Sees to it that the token does not end while we run: renews it at two thirds of its life,
    /// logs in anew where it cannot be renewed, and tries again while it cannot be reached. Runs for
    /// ever; meant to be cancelled. Any number may call it: one does it, and the others stand by.
    /// Without it, a read logs in when it must.
    pub(super) async fn keep(self: &Arc<Self>) {
        let _alone = self.keeping.lock().await;
        let mut failures: u32 = 0;
        loop {
            let changed = self.changed.notified();
            let lease = self.lock().lease.as_ref().map(|held| held.lease.clone());
            let next = lease.as_ref().map_or(Next::Nothing, |lease| lease.next());
            let (lease, at) = match (lease, next) {
                (Some(lease), Next::Renew(at) | Next::LogIn(at)) => (lease, at),
                (_, Next::Nothing) | (None, _) => {
                    changed.await;
                    continue;
                }
            };
            tokio::select! {
                // Somebody has logged in meanwhile.
                () = changed => continue,
                () = sleep_until(at) => {}
            }
            match self.prolong(&lease).await {
                Ok(()) => {
                    if std::mem::take(&mut failures) > 0 {
                        info!(vault = %self.server.settings.host, "vault log-in kept again");
                    }
                }
                Err(error) => {
                    if failures == 0 {
                        let vault = &self.server.settings.host;
                        warn!(%vault, %error, "vault log-in not kept; trying on");
                    }
                    let pause = Duration::from_secs(1) * 2u32.pow(failures.min(8));
                    failures = failures.saturating_add(1);
                    sleep(pause.min(LONGEST_PAUSE).mul_f64(0.9 + 0.2 * chance())).await;
                }
            }
        }
    }

    /// Renews the lease, or logs in anew where that is no use.
    async fn prolong(self: &Arc<Self>, lease: &Arc<Lease>) -> Result<(), HashicorpError> {
        let is_worth_it = matches!(lease.next(), Next::Renew(_)) && lease.is_good(Instant::now());
        if is_worth_it && let Some(renewed) = login::renew(&self.server, lease).await? {
            let mut now = self.lock();
            if let Some(held) = &mut now.lease
                && held.lease.number == renewed.number
            {
                held.lease = Arc::new(renewed);
            }
            return Ok(());
        }
        self.log_in(lease.number).await.map(drop)
    }

    fn good_lease(&self) -> Option<Arc<Lease>> {
        let now = self.lock();
        let lease = now.lease.as_ref().map(|held| &held.lease);
        lease.filter(|lease| lease.is_good(Instant::now())).cloned()
    }

    /// Whether a denied read may be the fault of the lease.
    fn is_doubtful(&self, lease: &Lease) -> bool {
        let now = self.lock();
        let old = DOUBT * 2u32.pow(now.futile.min(7));
        now.lease
            .as_ref()
            .is_none_or(|held| held.lease.number != lease.number || held.since.elapsed() >= old)
    }

    /// Logs in, unless that was done since the log-in with the number `last`. One log-in at a time,
    /// whoever asks; it is spawned, so that it outlives a caller who leaves: a wrapping token is
    /// spent only once.
    async fn log_in(self: &Arc<Self>, last: u64) -> Result<Arc<Lease>, HashicorpError> {
        let flight = {
            let mut now = self.lock();
            if let Some(held) = &now.lease
                && held.lease.number > last
                && held.lease.is_good(Instant::now())
            {
                return Ok(held.lease.clone());
            }
            match &now.flight {
                Some(flight) => flight.clone(),
                None => {
                    let task = tokio::spawn(self.clone().enter());
                    let ended = task.map(|done| done.unwrap_or(Err(HashicorpError::BrokenOff)));
                    now.flight.insert(ended.boxed().shared()).clone()
                }
            }
        };
        flight.await
    }

    async fn enter(self: Arc<Self>) -> Result<Arc<Lease>, HashicorpError> {
        let landing = Landing(&self);
        let number = self.lock().log_ins + 1;
        let lease = Arc::new(self.entrance.lock().await.log_in(&self.server, number).await?);
        let mut now = self.lock();
        debug!(vault = %self.server.settings.host, number, "logged in to vault");
        now.log_ins = number;
        now.lease = Some(Held { lease: lease.clone(), since: Instant::now() });
        drop(now);
        drop(landing);
        self.changed.notify_waiters();
        Ok(lease)
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a flight, however it ends, before its result is known: who comes after it gets another.
struct Landing<'a>(&'a Session);

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.0.lock().flight = None;
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lease = self.lock().lease.as_ref().map(|held| held.lease.clone());
        f.debug_struct("Session")
            .field("server", &self.server)
            .field("lease", &lease)
            .finish_non_exhaustive()
    }
}

//! The task that talks to the store: one call at a time, each with all there is to say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::shape::fleet::call::{Generation, Said};
use crate::shape::fleet::handle::{News, OnLost};
use crate::shape::fleet::news::{Inner, Telling};
use crate::shape::fleet::store::{BudgetStore, Connection, StoreError};
use crate::shape::fleet::timing::Timing;
use crate::shape::fleet::wire::{self, Envelope, Reply, Status};
use crate::shape::place::Shared;

/// An instance that has nothing to say is heard of so often.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The same where the store cannot tell it anything by itself, or somebody looks at the instances.
const OFTEN: Duration = Duration::from_secs(1);

/// The same while what others tell is asked for: kept answers are served.
const QUICK: Duration = Duration::from_millis(400);

/// One that was not heard of for so long is taken to be gone.
const LIVE: Duration = Duration::from_secs(25);

/// For so long what the store said of what others told may be relied upon.
pub(super) const CURRENT: Duration = Duration::from_secs(1);

/// A call that takes longer has failed. What it granted would be too old.
const CALL: Duration = Duration::from_secs(1);

/// For so long an instance gets to know the store's clock. The script has some of the others call
/// meanwhile, so that one of them finds out if it was set.
pub(super) const NEWCOMER: Duration = Duration::from_millis(500);

/// Between two attempts to reach the store.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The suspension of a machine is no step of a clock, if it is longer than this.
pub(super) const SUSPENDED: Duration = Duration::from_millis(20);

/// What others tell is handed to this.
pub(crate) type Hear = Box<dyn Fn(News) + Send + Sync>;

/// What does not change from call to call.
#[derive(Debug)]
pub(crate) struct Constants {
    /// The meters' names, in the queue's order.
    pub(crate) names: Vec<String>,
    pub(crate) meters: Vec<Value>,
    /// The shortest guard of all budgets.
    pub(crate) guard: Duration,
    pub(crate) trust: bool,
    pub(crate) on_lost: OnLost,
    pub(crate) name: String,
}

/// Talks to the store for as long as it lives.
pub(crate) struct Speaker {
    pub(super) inner: Arc<Inner>,
    pub(super) queue: Arc<Shared>,
    pub(super) store: Arc<dyn BudgetStore>,
    pub(super) hear: Hear,
    pub(super) constants: Arc<Constants>,
    pub(super) began: Instant,
    /// The number of the latest call.
    pub(super) number: u64,
    pub(super) applied: Generation,
    pub(super) timing: Timing,
    /// Since when the store's clock is known.
    pub(super) known_since: Option<Instant>,
    /// The store has to be told that its clock was set.
    pub(super) stepped: bool,
    /// The store may not know what was sent lately.
    pub(super) upload: bool,
    pub(super) identity: String,
    /// For how long this machine was ever suspended.
    pub(super) suspended: Duration,
    /// The first failure since the last answer.
    pub(super) failing: Option<Instant>,
    /// When it called last.
    pub(super) called: Instant,
    /// A call is due then, whatever the queue says.
    pub(super) again: Option<Instant>,
    /// How long the latest calls took.
    pub(super) rounds: [Duration; 3],
}

impl Speaker {
    pub(crate) fn new(
        inner: Arc<Inner>,
        queue: Arc<Shared>,
        store: Arc<dyn BudgetStore>,
        hear: Hear,
        constants: Constants,
    ) -> Self {
        let now = Instant::now();
        Self {
            inner,
            queue,
            store,
            hear,
            constants: Arc::new(constants),
            began: now,
            number: 0,
            applied: 0,
            timing: Timing::default(),
            known_since: None,
            stepped: false,
            upload: true,
            identity: String::new(),
            suspended: suspended(),
            failing: None,
            called: now,
            again: None,
            rounds: [Duration::ZERO; 3],
        }
    }

    /// Never ends; dropped with the shaper.
    pub(crate) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let store = self.store.clone();
            let instance = self.inner.instance.clone();
            let (error, answered) = match store.connect(&instance).await {
                Ok(connection) => self.talk(connection).await,
                Err(error) => (error, false),
            };
            let now = Instant::now();
            let since = *self.failing.get_or_insert(now);
            if answered && now.saturating_duration_since(since) < CURRENT {
                // One connection was cut: that is no loss yet, and nothing is sent meanwhile.
                tracing::debug!(%error, "the connection to the shared budget ended");
                if now.saturating_duration_since(began) >= CURRENT {
                    pause = FIRST_PAUSE;
                    continue;
                }
                // One after the other is cut: that is no reason to storm the store.
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            self.inner.lost(&error, self.constants.on_lost);
            let sends_alone = self.queue.with(|queue| {
                queue.lose(since, now);
                queue.sends_alone()
            });
            if sends_alone {
                // When it is back nothing is sent without it for a moment, so that the first call that
                // counts can tell of all that was, of permits in hand too.
                self.known_since = None;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Talks over one connection until it fails. Says whether it was ever answered.
    async fn talk(&mut self, connection: Connection) -> (StoreError, bool) {
        let Connection { identity, mut script, mut pushes } = connection;
        if identity != self.identity {
            // Another server has another clock.
            self.identity = identity;
            self.timing.forget();
            self.known_since = None;
        }
        self.upload = true;
        let constants = self.constants.clone();
        let mut hears = true;
        let mut answered = false;
        loop {
            if answered {
                self.wait(&mut pushes, &mut hears).await;
            }
            let call = self.prepare(!hears);
            let sent = Instant::now();
            self.called = sent;
            let result = {
                let run = timeout(CALL, script.run(&constants.names, &call.request));
                tokio::pin!(run);
                loop {
                    tokio::select! {
                        biased;
                        result = &mut run => break result.unwrap_or(Err(StoreError::Slow)),
                        pushed = pushes.recv(), if hears => match pushed {
                            Some(text) => self.pushed(&text),
                            None => hears = false,
                        },
                    }
                }
            };
            let reply = result.and_then(|text| wire::reply(&text, &self.inner.instance));
            match reply {
                Ok(Reply { status: Status::Old, .. }) => {
                    // It has done nothing of it.
                    self.queue.with(|queue| queue.unsaid(call.said));
                    self.inner.untold(call.news);
                    return (StoreError::Unusable("it has heard a later call".to_owned()), false);
                }
                Ok(reply) => self.answered(&call, sent, reply),
                Err(error) => {
                    self.queue.with(|queue| queue.unsaid(call.said));
                    self.inner.untold(call.news);
                    return (error, answered);
                }
            }
            answered = true;
        }
    }

    /// Until the next call is due.
    async fn wait(&mut self, pushes: &mut mpsc::Receiver<String>, hears: &mut bool) {
        loop {
            let look = self.queue.with(|queue| queue.fleet.as_ref().and_then(|fleet| fleet.look()));
            let told = self.inner.tells_end();
            let watched = self.inner.wants_table(Instant::now());
            let beat = match () {
                () if self.inner.is_asked() => QUICK,
                () if watched || !*hears => OFTEN,
                () => HEARTBEAT,
            };
            let beat = self.called + beat;
            let call_at = look.into_iter().chain(self.again).fold(beat, Instant::min);
            let wake = told.map_or(call_at, |told| told.min(call_at));
            tokio::select! {
                biased;
                () = self.inner.bell.notified() => return,
                pushed = pushes.recv(), if *hears => match pushed {
                    Some(text) => self.pushed(&text),
                    None => *hears = false,
                },
                () = sleep_until(wake) => {
                    self.inner.end_tells(Instant::now());
                    if call_at <= Instant::now() {
                        return;
                    }
                }
            }
        }
    }

    fn prepare(&mut self, deaf: bool) -> Call {
        let now = Instant::now();
        let suspended = suspended();
        if suspended.abs_diff(self.suspended) > SUSPENDED {
            // This machine slept: its clock says nothing of the store's any more.
            (self.suspended, self.known_since) = (suspended, None);
            self.timing.forget();
        }
        if !self.timing.is_known(now) {
            self.known_since = None;
        }
        self.again = None;
        self.number += 1;
        // A way that has become slow is slow both ways, and no clock that was set.
        let there = now + self.rounds.iter().min().copied().unwrap_or_default() / 2;
        let expect = self.timing.store_at(there).filter(|_| !self.is_newcomer(now));
        let said = match expect {
            Some(_) => self.queue.with(|queue| queue.say(now)),
            None => Said::default(),
        };
        let (news, applied) = (self.inner.to_tell(), self.applied);
        let texts: Vec<&str> = news.iter().map(|one| one.text.as_str()).collect();
        let uploads = match self.upload && expect.is_some() {
            true => self.queue.with(|queue| {
                let fleet = queue.fleet.as_ref();
                fleet.map(|fleet| fleet.sends().cloned().collect()).unwrap_or_default()
            }),
            false => Vec::new(),
        };
        let envelope = Envelope {
            instance: &self.inner.instance,
            number: self.number,
            identity: &self.identity,
            expect,
            tolerance: self.tolerance(),
            turn: self.constants.guard.max(Duration::from_millis(100)),
            live: LIVE,
            stepped: self.stepped,
            trust: self.constants.trust,
            deaf,
            info: self.info(now),
            meters: &self.constants.meters,
            uploads,
            news: &texts,
            applied,
            table: self.inner.wants_table(now),
        };
        let request = wire::request(&envelope, &said, &self.timing, now);
        Call { said, news, applied, request, known: expect.is_some(), stepped: self.stepped }
    }

    pub(super) fn is_newcomer(&self, now: Instant) -> bool {
        self.known_since.is_none_or(|since| now < since + NEWCOMER)
    }

    pub(super) fn tolerance(&self) -> Duration {
        (self.constants.guard / 4).max(Duration::from_millis(50))
    }

    fn info(&self, now: Instant) -> String {
        let up = now.saturating_duration_since(self.began).as_secs();
        json!({ "name": self.constants.name, "version": env!("CARGO_PKG_VERSION"), "up": up })
            .to_string()
    }
}

/// One call, so that it can be said again.
pub(super) struct Call {
    pub(super) said: Said,
    pub(super) news: Vec<Telling>,
    /// The news that had been heard.
    pub(super) applied: Generation,
    pub(super) request: String,
    /// Whether the store's clock was known.
    pub(super) known: bool,
    pub(super) stepped: bool,
}

impl fmt::Debug for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speaker").field("store", &self.store).finish_non_exhaustive()
    }
}

#[cfg(test)]
thread_local! {
    /// For how long a test says that the machine slept.
    pub(super) static SLEPT: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

/// For how long this machine was suspended since it was started.
pub(super) fn suspended() -> Duration {
    let read = |id| Duration::try_from(rustix::time::clock_gettime(id)).unwrap_or_default();
    let monotonic = read(rustix::time::ClockId::Monotonic);
    #[cfg(test)]
    let monotonic = monotonic.saturating_sub(SLEPT.get());
    read(rustix::time::ClockId::Boottime).saturating_sub(monotonic)
}

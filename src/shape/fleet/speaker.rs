//! The task that talks to the store: one call at a time, each with all there is to say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::shape::fleet::call::{Generation, Said};
use crate::shape::fleet::handle::{InstanceView, News, OnLost};
use crate::shape::fleet::news::{Inner, Telling};
use crate::shape::fleet::store::{BudgetStore, Connection, StoreError};
use crate::shape::fleet::timing::{Agrees, Sample, StoreTime, Timing};
use crate::shape::fleet::wire::{self, Envelope, Push, Reply, Status};
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
const NEWCOMER: Duration = Duration::from_millis(500);

/// Between two attempts to reach the store.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// After a call that was much slower or quicker than thought.
const ANOTHER_TRY: Duration = Duration::from_millis(20);

/// The suspension of a machine is no step of a clock, if it is longer than this.
const SUSPENDED: Duration = Duration::from_millis(20);

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
    inner: Arc<Inner>,
    queue: Arc<Shared>,
    store: Arc<dyn BudgetStore>,
    hear: Hear,
    constants: Arc<Constants>,
    began: Instant,
    /// The number of the latest call.
    number: u64,
    applied: Generation,
    timing: Timing,
    /// Since when the store's clock is known.
    known_since: Option<Instant>,
    /// The store has to be told that its clock was set.
    stepped: bool,
    /// The store may not know what was sent lately.
    upload: bool,
    identity: String,
    /// For how long this machine was ever suspended.
    suspended: Duration,
    /// The first failure since the last answer.
    failing: Option<Instant>,
    /// When it called last.
    called: Instant,
    /// A call is due then, whatever the queue says.
    again: Option<Instant>,
    /// How long the latest calls took.
    rounds: [Duration; 3],
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

    fn is_newcomer(&self, now: Instant) -> bool {
        self.known_since.is_none_or(|since| now < since + NEWCOMER)
    }

    fn tolerance(&self) -> Duration {
        (self.constants.guard / 4).max(Duration::from_millis(50))
    }

    fn info(&self, now: Instant) -> String {
        let up = now.saturating_duration_since(self.began).as_secs();
        json!({ "name": self.constants.name, "version": env!("CARGO_PKG_VERSION"), "up": up })
            .to_string()
    }

    fn answered(&mut self, call: &Call, sent: Instant, mut reply: Reply) {
        let received = Instant::now();
        let slept = suspended().abs_diff(self.suspended) > SUSPENDED;
        if slept {
            // Since when it was granted nobody here can tell; the next call makes a new beginning.
            tracing::info!("this machine was suspended; what was granted goes back");
            self.timing.forget();
            let unused: Vec<_> = reply.answer.grants.drain(..).map(|grant| grant.id).collect();
            self.queue.with(|queue| queue.return_unused(unused));
        }
        let sample = Sample { sent, received, store: reply.now };
        self.rounds.rotate_right(1);
        self.rounds[0] = received - sent;
        if !slept && self.timing.learn(sample, self.tolerance()) == Agrees::No {
            tracing::warn!(
                "the clock of the shared budget was set; nothing is sent for a whole window"
            );
            self.stepped = true;
            self.again = Some(received);
        } else if call.stepped {
            self.stepped = false;
        }
        self.known_since.get_or_insert(received);
        if call.known {
            self.upload = false;
        }
        self.learn_news(call, sent, received, &reply);
        if let Some(table) = &reply.table {
            let instance = &self.inner.instance;
            self.inner.tabled(table.iter().filter_map(|seat| view(seat, instance)).collect());
        }
        match reply.status {
            Status::Taken => {}
            // A slow call; the next one is quicker, or finds out that it is the clock.
            Status::Mismatch => self.again = Some(received + ANOTHER_TRY),
            Status::Newcomer => {
                // Where that time is over, there is no room for it.
                let at = self.known_since.map(|since| since + NEWCOMER);
                self.again = at.filter(|at| *at > received).or(Some(received + NEWCOMER));
                self.queue.with(|queue| queue.settle(received));
                return;
            }
            Status::Old => return,
        }
        self.failing = None;
        let mut answer = reply.answer;
        if reply.status == Status::Mismatch {
            // It may want to be asked at once, again and again.
            answer.look = None;
        }
        if self.stepped {
            // They were granted by a clock that nobody knows.
            let unused: Vec<_> = answer.grants.drain(..).map(|grant| grant.id).collect();
            self.queue.with(|queue| queue.return_unused(unused));
        }
        let base = self.timing.surely(reply.now, received).map_or(received, |at| at.min(received));
        // The store counts a send from its grant; it may begin later by less than the guard.
        // With the step of a clock that nobody notices it is less than the guard still.
        let life = (self.constants.guard * 7 / 10).max(Duration::from_millis(50));
        let granted = self.timing.not_before(reply.now, received).map_or(sent, |at| at.max(sent));
        self.queue.with(|queue| queue.hear(received, base, &answer, granted.min(received) + life));
        self.inner.joined();
    }

    /// What others have told meanwhile, and who has heard what was told here.
    fn learn_news(&mut self, call: &Call, sent: Instant, received: Instant, reply: &Reply) {
        // News that came by themselves meanwhile may be newer than this answer.
        if reply.missed || reply.generation < call.applied {
            (self.hear)(News::Missed);
            self.applied = reply.generation;
        }
        // What this call told are the latest.
        let own = reply.generation.saturating_sub(call.news.len() as u64);
        for (generation, text) in &reply.news {
            if *generation > self.applied {
                self.applied = *generation;
                if *generation <= own {
                    (self.hear)(News::Told(text.clone()));
                }
            }
        }
        if self.applied < reply.generation {
            // More than one answer holds.
            self.again = Some(received);
        } else {
            self.inner.current(sent + CURRENT);
        }
        self.inner.told(&call.news, reply.generation, received + CURRENT);
        self.inner.acked(reply.acked);
        if !call.news.is_empty() || !reply.news.is_empty() || self.inner.has_more() {
            // That it was heard has to be known, so that who told it need not wait.
            self.again.get_or_insert(received);
        }
    }

    fn pushed(&mut self, text: &str) {
        let now = Instant::now();
        match wire::push(text) {
            Some(Push::Look(at, after)) => self.look_at(at, after, now),
            Some(Push::News { from, .. }) if from == self.inner.instance => {}
            Some(Push::News { generation, text, .. }) => {
                if generation == self.applied + 1 && self.known_since.is_some() {
                    self.applied = generation;
                    (self.hear)(News::Told(text));
                }
                self.again = Some(now);
            }
            Some(Push::Acked(generation)) => self.inner.acked(generation),
            Some(Push::Pause { meters, left, from }) if from != self.inner.instance => {
                let named = |name: &String| self.constants.names.iter().position(|one| one == name);
                let meters: Vec<usize> = meters.iter().filter_map(named).collect();
                self.queue.with(|queue| queue.hear_pause(now, &meters, left));
            }
            // Who does not know the clock itself cannot tell whether it was set.
            Some(Push::Call) if self.is_newcomer(now) => {}
            Some(Push::Call) => self.again = Some(now),
            Some(Push::Pause { .. }) | None => {}
        }
    }

    fn look_at(&self, at: StoreTime, after: Duration, now: Instant) {
        // Where the store's clock was set, and nobody here knows it yet, the second is the truth.
        let known = self.timing.surely(at, now);
        let told = now.checked_add(after);
        if let Some(at) = known.into_iter().chain(told).min() {
            self.queue.with(|queue| queue.look_at(at));
        }
    }
}

/// One call, so that it can be said again.
struct Call {
    said: Said,
    news: Vec<Telling>,
    /// The news that had been heard.
    applied: Generation,
    request: String,
    /// Whether the store's clock was known.
    known: bool,
    stepped: bool,
}

impl fmt::Debug for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speaker").field("store", &self.store).finish_non_exhaustive()
    }
}

fn view(seat: &wire::Seat, instance: &str) -> Option<InstanceView> {
    let info: Value = serde_json::from_str(&seat.info).ok()?;
    let text = |key: &str| info.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
    Some(InstanceView {
        id: seat.id.clone(),
        name: text("name"),
        version: text("version"),
        up: Duration::from_secs(info.get("up").and_then(Value::as_u64).unwrap_or(0)),
        heard: seat.ago,
        is_this: seat.id == instance,
    })
}

#[cfg(test)]
thread_local! {
    /// For how long a test says that the machine slept.
    pub(super) static SLEPT: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

/// For how long this machine was suspended since it was started.
fn suspended() -> Duration {
    let read = |id| Duration::try_from(rustix::time::clock_gettime(id)).unwrap_or_default();
    let monotonic = read(rustix::time::ClockId::Monotonic);
    #[cfg(test)]
    let monotonic = monotonic.saturating_sub(SLEPT.get());
    read(rustix::time::ClockId::Boottime).saturating_sub(monotonic)
}

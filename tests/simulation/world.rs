//! The store and the network, with their faults.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use omnigate::shape::{BudgetStore, Connection, Running, Script, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use crate::chance::Chance;
use crate::engine::{Engine, Keys};

const PREFIX: &str = "omnigate:1:{simulated}:";
const BEGAN: u64 = 1_750_000_000_000_000;

/// One server, and the way of each instance to it.
pub(crate) struct World {
    engine: Engine,
    began: Instant,
    pub(crate) runs: AtomicU64,
    state: Mutex<State>,
}

struct State {
    chance: Chance,
    /// How far the server's clock was set, in µs.
    set: i64,
    identity: u64,
    /// Connections of an older epoch are dead.
    epoch: u64,
    frozen_until: Instant,
    down_until: Instant,
    /// A call takes up to so long each way.
    transit: Duration,
    cut_until: HashMap<usize, Instant>,
    deaf_until: HashMap<usize, Instant>,
    listeners: Vec<Listener>,
    replica: Keys,
    /// The answer to the next so many calls is lost.
    lose_answers: u32,
}

struct Listener {
    instance: String,
    of: usize,
    epoch: u64,
    pushes: mpsc::Sender<String>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            chance: Chance::new(seed ^ 0xABCD),
            set: 0,
            identity: 1,
            epoch: 0,
            frozen_until: now,
            down_until: now,
            transit: Duration::from_millis(2),
            cut_until: HashMap::new(),
            deaf_until: HashMap::new(),
            listeners: Vec::new(),
            replica: Keys::default(),
            lose_answers: 0,
        };
        let (engine, runs) = (Engine::new(), AtomicU64::new(0));
        let world = Arc::new(Self { engine, began: now, runs, state: Mutex::new(state) });
        let weak = Arc::downgrade(&world);
        let counted = weak.clone();
        world
            .engine
            .heard_by(move |channel| counted.upgrade().map_or(0, |world| world.listeners(channel)));
        world.engine.on_publish(move |channel, message| {
            if let Some(world) = weak.upgrade() {
                world.push(channel, message);
            }
        });
        world
    }

    /// How many are subscribed to a channel.
    fn listeners(&self, channel: &str) -> usize {
        let to = channel.strip_prefix(PREFIX).unwrap_or_default();
        let hears = |one: &&Listener| to == "all" || to.strip_prefix("to:") == Some(&one.instance);
        self.with(|state| {
            let epoch = state.epoch;
            let there = state.listeners.iter().filter(|one| one.epoch == epoch);
            there.filter(|one| !one.pushes.is_closed()).filter(hears).count()
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// What the server's clock shows.
    fn clock(&self) -> u64 {
        let passed = u64::try_from(self.began.elapsed().as_micros()).unwrap();
        (BEGAN + passed).saturating_add_signed(self.with(|state| state.set))
    }

    fn push(&self, channel: &str, message: &str) {
        let to = channel.strip_prefix(PREFIX).unwrap_or_default();
        let now = Instant::now();
        self.with(|state| {
            for one in &state.listeners {
                let deaf = state.deaf_until.get(&one.of).is_some_and(|until| *until > now);
                let mine = to == "all" || to.strip_prefix("to:") == Some(&one.instance);
                if mine && !deaf && one.epoch == state.epoch {
                    let late = state.chance.between(Duration::ZERO, state.transit);
                    let (pushes, message) = (one.pushes.clone(), message.to_owned());
                    tokio::spawn(async move {
                        sleep(late).await;
                        let _ = pushes.try_send(message);
                    });
                }
            }
            state.listeners.retain(|one| !one.pushes.is_closed());
        });
    }

    // The faults.

    pub(crate) fn restart_empty(&self, down: Duration) {
        self.engine.wipe();
        self.new_server(down);
    }

    /// A replica takes over that has what `note_replica` saw.
    pub(crate) fn fail_over(&self, down: Duration) {
        let replica = self.with(|state| state.replica.clone());
        self.engine.restore(replica);
        self.new_server(down);
    }

    pub(crate) fn note_replica(&self) {
        let keys = self.engine.snapshot();
        self.with(|state| state.replica = keys);
    }

    fn new_server(&self, down: Duration) {
        self.with(|state| {
            state.identity += 1;
            state.epoch += 1;
            state.down_until = Instant::now() + down;
            state.listeners.clear();
        });
    }

    pub(crate) fn cut_connections(&self) {
        self.with(|state| {
            state.epoch += 1;
            state.listeners.clear();
        });
    }

    pub(crate) fn freeze(&self, time: Duration) {
        self.with(|state| state.frozen_until = Instant::now() + time);
    }

    pub(crate) fn set_clock(&self, by: i64) {
        self.with(|state| state.set += by);
    }

    pub(crate) fn slow(&self, transit: Duration) {
        self.with(|state| state.transit = transit);
    }

    pub(crate) fn lose_answers(&self, calls: u32) {
        self.with(|state| state.lose_answers = calls);
    }

    pub(crate) fn cut(&self, instance: usize, time: Duration) {
        self.with(|state| state.cut_until.insert(instance, Instant::now() + time));
    }

    pub(crate) fn deafen(&self, instance: usize, time: Duration) {
        self.with(|state| state.deaf_until.insert(instance, Instant::now() + time));
    }

    /// Whether this connection still leads to the server.
    fn leads(&self, of: usize, epoch: u64) -> bool {
        let now = Instant::now();
        self.with(|state| {
            let cut = state.cut_until.get(&of).is_some_and(|until| *until > now);
            !cut && epoch == state.epoch && state.down_until <= now
        })
    }

    fn transit(&self) -> Duration {
        self.with(|state| state.chance.between(Duration::from_micros(50), state.transit))
    }

    /// On its way to the server, whoever waits for it: a call that was cut off may run later.
    async fn run(
        self: Arc<Self>,
        of: usize,
        epoch: u64,
        meters: Vec<String>,
        request: String,
    ) -> Ran {
        sleep(self.transit()).await;
        let frozen = self.with(|state| state.frozen_until);
        sleep_until(frozen).await;
        if !self.leads(of, epoch) {
            return Err(StoreError::Unreachable("cut".to_owned()));
        }
        let mut keys: Vec<String> =
            ["state", "instances", "news"].iter().map(|key| format!("{PREFIX}{key}")).collect();
        keys.extend(meters.iter().map(|name| format!("{PREFIX}ledger:{name}")));
        self.runs.fetch_add(1, Ordering::Relaxed);
        let reply = self.engine.run(self.clock(), &keys, &[&request, PREFIX]);
        let reply = reply.unwrap_or_else(|error| panic!("{error}\n{request}"));
        sleep(self.transit()).await;
        let lost = self.with(|state| {
            let lost = state.lose_answers > 0;
            state.lose_answers = state.lose_answers.saturating_sub(1);
            lost
        });
        if lost || !self.leads(of, epoch) {
            return Err(StoreError::Unreachable("cut".to_owned()));
        }
        Ok(reply)
    }
}

type Ran = Result<String, StoreError>;

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// The way of one instance to the store.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) world: Arc<World>,
    pub(crate) of: usize,
}

impl BudgetStore for Way {
    fn connect<'a>(&'a self, instance: &'a str) -> Running<'a, Connection> {
        Box::pin(async move {
            let (world, of) = (self.world.clone(), self.of);
            sleep(world.transit()).await;
            let epoch = world.with(|state| state.epoch);
            let frozen = world.with(|state| state.frozen_until);
            if frozen > Instant::now() + Duration::from_secs(1) {
                sleep(Duration::from_secs(1)).await;
                return Err(StoreError::Slow);
            }
            sleep_until(frozen).await;
            if !world.leads(of, epoch) {
                return Err(StoreError::Unreachable("refused".to_owned()));
            }
            let (pushes, heard) = mpsc::channel(64);
            let identity = world.with(|state| {
                let instance = instance.to_owned();
                state.listeners.push(Listener { instance, of, epoch, pushes });
                format!("run-{}/replica-{}", state.identity, state.identity)
            });
            let script = Box::new(Wire { world, of, epoch });
            Ok(Connection { identity, script, pushes: heard })
        })
    }
}

#[derive(Debug)]
struct Wire {
    world: Arc<World>,
    of: usize,
    epoch: u64,
}

impl Script for Wire {
    fn run<'a>(&'a mut self, meters: &'a [String], request: &'a str) -> Running<'a, String> {
        let ran = self.world.clone().run(self.of, self.epoch, meters.to_vec(), request.to_owned());
        let (done, waits) = oneshot::channel();
        tokio::spawn(async move {
            let _ = done.send(ran.await);
        });
        Box::pin(async move { waits.await.unwrap_or(Err(StoreError::Slow)) })
    }
}

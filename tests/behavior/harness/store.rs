//! A store that instances share: it runs the shipped script, by a clock that is the test's.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use omnigate::shape::{
    BudgetStore, Connection, FleetSettings, OnLost, Running, Script, StoreError,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::engine::Engine;
use crate::harness::House;

const PREFIX: &str = "omnigate:1:{house}:";
const BEGAN: u64 = 1_750_000_000_000_000;

/// A new store, and nobody in it.
pub(crate) struct Store {
    engine: Engine,
    began: Instant,
    listeners: Mutex<Vec<Listener>>,
}

/// One that hears what the store tells, where its way lets it.
type Listener = (String, Arc<Way>, mpsc::Sender<String>);

/// How it stands between one instance and the store.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// What the store tells by itself is lost, and nobody knows.
    pub(crate) deaf: AtomicBool,
    /// For so long each call is on its way, there and back.
    pub(crate) takes: Mutex<Duration>,
    /// The next call that tells something breaks off before it is there.
    pub(crate) breaks: AtomicBool,
}

impl Store {
    pub(crate) fn new() -> Arc<Self> {
        let (engine, began) = (Engine::new(), Instant::now());
        let store = Arc::new(Self { engine, began, listeners: Mutex::default() });
        let weak = Arc::downgrade(&store);
        store.engine.on_publish(move |channel, message| {
            let Some(store) = weak.upgrade() else { return };
            let to = channel.strip_prefix(PREFIX).unwrap();
            for (instance, way, pushes) in &*store.listeners.lock().unwrap() {
                let mine = to == "all" || to.strip_prefix("to:") == Some(instance);
                if mine && !way.deaf.load(Ordering::Relaxed) {
                    let _ = pushes.try_send(message.to_owned());
                }
            }
        });
        store
    }

    /// Has a gateway share its budgets with all who are here, and waits until it does.
    pub(crate) async fn takes_in(self: &Arc<Self>, house: &House, name: &str) -> Arc<Way> {
        let way = Arc::<Way>::default();
        let settings =
            FleetSettings { on_lost: OnLost::Hold, trust_empty: true, name: name.to_owned() };
        let member = Member { store: self.clone(), way: way.clone() };
        house.rooms.shaper.join_fleet(&settings, Arc::new(member), house.rooms.hear());
        // It has to know the clock first.
        sleep(Duration::from_secs(3)).await;
        way
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
struct Member {
    store: Arc<Store>,
    way: Arc<Way>,
}

impl BudgetStore for Member {
    fn connect<'a>(&'a self, instance: &'a str) -> Running<'a, Connection> {
        let (sender, pushes) = mpsc::channel(64);
        let listener = (instance.to_owned(), self.way.clone(), sender);
        self.store.listeners.lock().unwrap().push(listener);
        let connection =
            Connection { identity: "run/repl".to_owned(), script: Box::new(self.clone()), pushes };
        Box::pin(std::future::ready(Ok(connection)))
    }
}

impl Script for Member {
    fn run<'a>(&'a mut self, meters: &'a [String], request: &'a str) -> Running<'a, String> {
        Box::pin(async move {
            let takes = *self.way.takes.lock().unwrap();
            sleep(takes).await;
            let tells = !request.contains("\"news\":[]");
            if tells && self.way.breaks.swap(false, Ordering::Relaxed) {
                return Err(StoreError::Unreachable("cut".to_owned()));
            }
            let ledgers = meters.iter().map(|name| format!("ledger:{name}"));
            let keys = ["state", "instances", "news"].map(str::to_owned).into_iter().chain(ledgers);
            let keys: Vec<String> = keys.map(|key| format!("{PREFIX}{key}")).collect();
            let passed = u64::try_from(self.store.began.elapsed().as_micros()).unwrap();
            let reply = self.store.engine.run(BEGAN + passed, &keys, &[request, PREFIX]);
            sleep(takes).await;
            reply.map_err(StoreError::Unusable)
        })
    }
}

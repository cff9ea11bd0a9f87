//! An instance before a stand-in for the store, which answers as a test tells it to, in virtual time.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::base::{BudgetId, CallerId, CredentialId, Priority};
use crate::shape::fleet::speaker::SLEPT;
use crate::shape::fleet::{
    BudgetStore, Connection, FleetSettings, News, OnLost, Running, Script, StoreError,
};
use crate::shape::place::{Permit, Place};
use crate::shape::settings::{BudgetSettings, ColdStart, Key, Profile, Scope};
use crate::shape::shaper::{Ask, LaneId, Shaper, ShaperSettings};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
/// What the store's clock shows at its start.
const BEGAN: u64 = 1_750_000_000_000_000;

/// What the store answers to a request, by what it would usually.
type Answers = Box<dyn FnMut(&Value, Value) -> Value + Send>;

/// A store that is always of the same mind.
#[derive(Clone)]
struct Stand(Arc<Mutex<Inside>>);

struct Inside {
    began: Instant,
    down: bool,
    transit: Duration,
    requests: Vec<(Instant, Value)>,
    answers: Answers,
    pushes: Option<mpsc::Sender<String>>,
    /// Told by itself as soon as the next call was answered, and faster than the answer.
    push: Option<Value>,
    /// Every other call is cut off.
    cuts: bool,
    connections: usize,
    calls: usize,
}

impl fmt::Debug for Stand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stand").finish_non_exhaustive()
    }
}

impl Stand {
    fn new(answers: impl FnMut(&Value, Value) -> Value + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            began: Instant::now(),
            down: false,
            transit: MS,
            requests: Vec::new(),
            answers: Box::new(answers),
            pushes: None,
            push: None,
            cuts: false,
            connections: 0,
            calls: 0,
        })))
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inside) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn calls(&self) -> usize {
        self.with(|inside| inside.requests.len())
    }

    /// All that it was told from the `nth` call on.
    fn heard_from(&self, nth: usize) -> Vec<(Instant, Value)> {
        self.with(|inside| inside.requests[nth..].to_vec())
    }
}

/// Grants each head its first way.
fn all_granted(request: &Value, mut reply: Value) -> Value {
    let (instance, call) = (request["i"].as_str().unwrap(), &request["n"]);
    let heads = request["heads"].as_array().unwrap();
    let grant = |(nth, head): (usize, &Value)| json!({ "t": head["t"], "id": format!("{instance}:{call}:{nth}"), "g": nth, "w": 0 });
    reply["grants"] = heads.iter().enumerate().map(grant).collect();
    reply
}

impl BudgetStore for Stand {
    fn connect<'a>(&'a self, _: &'a str) -> Running<'a, Connection> {
        Box::pin(async move {
            sleep(MS).await;
            if self.with(|inside| inside.down) {
                return Err(StoreError::Unreachable("down".to_owned()));
            }
            let (sender, pushes) = mpsc::channel(64);
            self.with(|inside| {
                inside.pushes = Some(sender);
                inside.connections += 1;
            });
            let identity = "run/replica".to_owned();
            Ok(Connection { identity, script: Box::new(self.clone()), pushes })
        })
    }
}

impl Script for Stand {
    fn run<'a>(&'a mut self, meters: &'a [String], request: &'a str) -> Running<'a, String> {
        Box::pin(async move {
            let transit = self.with(|inside| inside.transit);
            sleep(transit).await;
            let is_cut = self.with(|inside| {
                inside.calls += 1;
                inside.down || inside.cuts && inside.calls.is_multiple_of(2)
            });
            if is_cut {
                return Err(StoreError::Unreachable("cut".to_owned()));
            }
            let request: Value = serde_json::from_str(request).unwrap();
            let reply = self.with(|inside| {
                inside.requests.push((Instant::now(), request.clone()));
                let passed = u64::try_from(inside.began.elapsed().as_micros()).unwrap();
                let now = BEGAN + passed;
                let known = !request["expect"].is_null();
                let meter = json!({ "used": 0, "waiting": [0, 0, 0], "pause": "open", "left": 0,
                    "strict": 0 });
                let reply = json!({
                    "now": [now / 1_000_000, now % 1_000_000],
                    "status": if known { "ok" } else { "newcomer" },
                    "grants": [], "look": -1, "blocked": 0, "why": "",
                    "meters": vec![meter; meters.len()], "stops": {}, "gen": 0, "news": [],
                    "missed": false, "acked": 0, "alive": 1,
                });
                let reply = (inside.answers)(&request, reply);
                if let (Some(push), Some(pushes)) = (inside.push.take(), &inside.pushes) {
                    pushes.try_send(push.to_string()).unwrap();
                }
                reply
            });
            sleep(transit).await;
            Ok(reply.to_string())
        })
    }
}

/// One instance.
struct House {
    shaper: Arc<Shaper>,
    lane: LaneId,
    heard: Arc<Mutex<Vec<News>>>,
}

impl House {
    fn new(store: &Stand, on_lost: OnLost) -> Self {
        let budget = BudgetSettings {
            id: BudgetId::new("omni"),
            limit: NonZeroU32::new(60).unwrap(),
            window: 60 * SECOND,
            guard: SECOND,
            profile: Profile::Smooth { burst: NonZeroU32::new(10).unwrap() },
            reserve: 0,
            scope: Scope::Organization,
            max_queued: 1_000,
            max_wait: 600 * SECOND,
            batch_max_wait: 3_600 * SECOND,
            cold_start: ColdStart::Trust,
        };
        let key = Key { credential: CredentialId::new("org"), budgets: vec![budget.id.clone()] };
        let settings =
            ShaperSettings { budgets: vec![budget], keys: vec![key.clone()], callers: Vec::new() };
        let shaper = Arc::new(Shaper::open(settings, None).unwrap());
        let lane = shaper.lane(&[key]).unwrap();
        let fleet = FleetSettings { on_lost, trust_empty: false, name: "here".to_owned() };
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = heard.clone();
        let hear = move |news| hears.lock().unwrap().push(news);
        shaper.join_fleet(&fleet, Arc::new(store.clone()), hear);
        Self { shaper, lane, heard }
    }

    fn join(&self, caller: &str, priority: Priority) -> Place {
        let caller = CallerId::new(caller);
        self.shaper
            .join(&Ask { lane: self.lane, caller: &caller, priority, max_wait: None })
            .unwrap()
    }

    async fn permit(&self) -> Permit {
        let mut place = self.join("somebody", Priority::Normal);
        place.near().await.unwrap();
        place.turn().await.unwrap()
    }
}

/// Waits until its turn, which the test does not expect to come.
fn stands(mut place: Place) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        place.near().await.unwrap();
        if let Ok(permit) = place.turn().await {
            permit.begin();
        }
    })
}

#[tokio::test(start_paused = true)]
async fn more_callers_than_the_store_is_told_of_are_no_reason_to_ask_again_and_again() {
    let store = Stand::new(|_, reply| reply);
    let house = House::new(&store, OnLost::Hold);
    sleep(SECOND).await;
    for nth in 0..60 {
        stands(house.join(&format!("caller-{nth}"), Priority::Interactive));
    }
    sleep(SECOND).await;
    let before = store.calls();
    sleep(60 * SECOND).await;
    let calls = store.calls() - before;
    assert!(calls <= 15, "{calls} calls in a minute in which nothing happened");
}

#[tokio::test(start_paused = true)]
async fn the_store_knows_of_each_class_however_many_rows_another_has() {
    let store = Stand::new(|_, reply| reply);
    let house = House::new(&store, OnLost::Hold);
    sleep(SECOND).await;
    for nth in 0..60 {
        stands(house.join(&format!("caller-{nth}"), Priority::Interactive));
    }
    sleep(SECOND).await;
    stands(house.join("crawl", Priority::Batch));
    sleep(SECOND).await;
    let last = store.heard_from(store.calls() - 1).remove(0).1;
    let heads = last["heads"].as_array().unwrap();
    assert_eq!(heads.len(), 32);
    assert!(heads.iter().any(|head| head["c"] == 2), "{heads:?}");
}

#[tokio::test(start_paused = true)]
async fn callers_come_by_turns_also_where_the_store_cannot_be_told_of_all() {
    let store = Stand::new(|request, reply| {
        // One a call, of the first in line.
        let mut reply = all_granted(request, reply);
        reply["grants"].as_array_mut().unwrap().truncate(1);
        reply
    });
    let house = House::new(&store, OnLost::Hold);
    // Forty who have many waiting each, and then one who has one.
    store.with(|inside| inside.down = true);
    for nth in 0..40 {
        for _ in 0..3 {
            stands(house.join(&format!("caller-{nth}"), Priority::Normal));
        }
    }
    let modest = stands(house.join("modest", Priority::Normal));
    sleep(SECOND).await;
    store.with(|inside| inside.down = false);
    sleep(SECOND * 50).await;
    assert!(modest.is_finished(), "it waits behind the second calls of others");
}

/// The own sends that the store was told of, once each.
fn uploaded(store: &Stand) -> usize {
    let requests = store.heard_from(0);
    let sent = requests.iter().filter_map(|(_, request)| request["sent"].as_array()).flatten();
    sent.map(|one| one[0].as_str().unwrap()).collect::<BTreeSet<_>>().len()
}

#[tokio::test(start_paused = true)]
async fn all_that_was_sent_alone_is_told_to_the_store_also_what_left_while_it_came_back() {
    for after in (0..1_000).step_by(90) {
        let store = Stand::new(|_, reply| reply);
        let house = House::new(&store, OnLost::Local);
        sleep(2 * SECOND).await;
        store.with(|inside| (inside.down, inside.transit) = (true, 200 * MS));
        sleep(20 * SECOND + after * MS).await;
        let sent = Arc::new(Mutex::new(0));
        store.with(|inside| inside.down = false);
        for _ in 0..20 {
            let (mut place, sent) = (house.join("somebody", Priority::Normal), sent.clone());
            tokio::spawn(async move {
                place.near().await.unwrap();
                let permit = place.turn().await.unwrap();
                // As late as it may.
                sleep(99 * MS).await;
                permit.begin();
                *sent.lock().unwrap() += 1;
            });
            sleep(150 * MS).await;
        }
        sleep(20 * SECOND).await;
        let sent = *sent.lock().unwrap();
        assert!(sent > 0, "nothing was sent alone");
        assert_eq!(uploaded(&store), sent, "told, of those sent; {after} ms later");
    }
}

#[tokio::test(start_paused = true)]
async fn who_pauses_everything_pauses_also_what_the_store_grants_in_that_moment() {
    let store = Stand::new(all_granted);
    let house = House::new(&store, OnLost::Hold);
    sleep(SECOND).await;
    store.with(|inside| inside.transit = 200 * MS);
    let waits = stands(house.join("somebody", Priority::Normal));
    let before = store.calls();
    while store.calls() == before {
        sleep(MS).await;
    }
    // It is granted, and the answer is on its way.
    house.shaper.pause(None, None);
    sleep(150 * MS).await;
    assert!(!waits.is_finished());
    sleep(400 * MS).await;
    assert!(!waits.is_finished(), "it was sent although everything is paused");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_has_no_room_is_not_stormed() {
    let store = Stand::new(|_, mut reply| {
        reply["status"] = json!("newcomer");
        reply
    });
    let house = House::new(&store, OnLost::Hold);
    stands(house.join("somebody", Priority::Normal));
    sleep(60 * SECOND).await;
    assert!(store.calls() <= 130, "{} calls in a minute", store.calls());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cuts_every_connection_is_not_stormed() {
    let store = Stand::new(|_, reply| reply);
    let house = House::new(&store, OnLost::Hold);
    sleep(SECOND).await;
    store.with(|inside| inside.cuts = true);
    // Somebody comes all the time.
    for _ in 0..300 {
        stands(house.join("somebody", Priority::Normal));
        sleep(100 * MS).await;
    }
    let connections = store.with(|inside| inside.connections);
    assert!(connections <= 100, "{connections} connections in half a minute");
}

#[tokio::test(start_paused = true)]
async fn news_that_are_faster_than_an_answer_are_not_taken_for_missed() {
    let generation = Arc::new(AtomicU64::new(5));
    let shown = generation.clone();
    let store = Stand::new(move |request, mut reply| {
        let generation = shown.load(Relaxed);
        reply["gen"] = json!(generation);
        reply["missed"] = json!(request["applied"] == 0);
        if generation == 6 && request["applied"] == 5 {
            reply["news"] = json!([[6, "x"]]);
        }
        reply
    });
    let house = House::new(&store, OnLost::Hold);
    sleep(2 * SECOND).await;
    assert_eq!(std::mem::take(&mut *house.heard.lock().unwrap()), [News::Missed]);
    store.with(|inside| {
        inside.transit = 50 * MS;
        inside.push = Some(json!({ "k": "news", "gen": 6, "text": "x", "from": "another" }));
    });
    while store.with(|inside| inside.push.is_some()) {
        sleep(MS).await;
    }
    generation.store(6, Relaxed);
    sleep(2 * SECOND).await;
    assert_eq!(*house.heard.lock().unwrap(), [News::Told("x".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn what_is_told_in_the_first_moments_is_waited_for_too() {
    let store = Stand::new(|_, mut reply| {
        (reply["gen"], reply["acked"]) = (json!(5), json!(4));
        reply
    });
    let house = House::new(&store, OnLost::Hold);
    let start = Instant::now();
    // Nobody says that it was heard.
    house.shaper.fleet().unwrap().tell("x".to_owned()).await;
    assert!(start.elapsed() >= SECOND, "{:?}", start.elapsed());
    let store = Stand::new(|_, reply| reply);
    store.with(|inside| inside.down = true);
    let house = House::new(&store, OnLost::Hold);
    sleep(SECOND).await;
    let start = Instant::now();
    house.shaper.fleet().unwrap().tell("x".to_owned()).await;
    assert_eq!(start.elapsed(), Duration::ZERO, "there is no store");
}

#[tokio::test(start_paused = true)]
async fn whatever_numbers_a_store_tells_nothing_ends() {
    for blocked in [0, u64::MAX] {
        let store = Stand::new(move |_, mut reply| {
            let meter = &mut reply["meters"][0];
            meter["used"] = json!(u64::MAX);
            meter["waiting"] = json!([u64::MAX, u64::MAX, u64::MAX]);
            meter["strict"] = json!(u64::MAX);
            reply["look"] = json!(u64::MAX);
            (reply["blocked"], reply["why"]) = (json!(blocked), json!("clock"));
            if blocked > 0 {
                reply["stops"] = json!({ "*": u64::MAX, "omni": u64::MAX });
            }
            reply
        });
        let house = House::new(&store, OnLost::Hold);
        let waits = stands(house.join("somebody", Priority::Batch));
        sleep(3 * SECOND).await;
        let (lane, caller) = (house.lane, CallerId::new("somebody"));
        let priority = Priority::Batch;
        house.shaper.outlook(&Ask { lane, caller: &caller, priority, max_wait: None });
        house.shaper.snapshots();
        house.shaper.view();
        house.shaper.drain(SECOND);
        house.shaper.fleet().unwrap().view();
        sleep(3 * SECOND).await;
        drop(waits);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_granted_before_the_machine_slept_goes_back() {
    let store = Stand::new(all_granted);
    let house = House::new(&store, OnLost::Hold);
    sleep(SECOND).await;
    store.with(|inside| inside.transit = 100 * MS);
    let waits = stands(house.join("somebody", Priority::Normal));
    let before = store.calls();
    while store.calls() == before {
        sleep(MS).await;
    }
    SLEPT.set(3_600 * SECOND);
    sleep(150 * MS).await;
    assert!(!waits.is_finished(), "it was sent an hour late");
    sleep(2 * SECOND).await;
    assert!(waits.is_finished());
    SLEPT.set(Duration::ZERO);
    let returned = store.heard_from(before);
    assert!(returned.iter().any(|(_, request)| request["returns"][0].is_string()));
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_a_share_goes_at_pace_too() {
    let store = Stand::new(|_, reply| reply);
    store.with(|inside| inside.down = true);
    let house = House::new(&store, OnLost::Share { instances: NonZeroU32::new(2).unwrap() });
    sleep(100 * SECOND).await;
    let first = house.permit().await;
    let outcome = first.outcome();
    first.begin();
    outcome.limited(Some(10 * SECOND));
    let probe = house.permit().await;
    let outcome = probe.outcome();
    probe.begin();
    outcome.taken();
    let start = Instant::now();
    house.permit().await.begin();
    house.permit().await.begin();
    // As `strict` does, 29 in a window of 61 s.
    assert!(start.elapsed() >= 4 * SECOND, "{:?}", start.elapsed());
}

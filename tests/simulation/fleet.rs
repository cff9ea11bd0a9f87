//! The instances, their callers, and the arrivals at Omni.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use omnigate::base::{BudgetId, CallerId, CredentialId, Priority};
use omnigate::shape::{
    Ask, BudgetSettings, ColdStart, FleetSettings, Key, OnLost, Profile, Scope, Shaper,
    ShaperSettings,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::chance::Chance;
use crate::world::{Way, World};

pub(crate) const LIMIT: u32 = 60;
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
const GUARD: Duration = Duration::from_secs(1);
const INSTANCES: usize = 16;
const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// How an instance is set up, and used.
#[derive(Clone, Copy)]
struct Mode {
    on_lost: OnLost,
    busy: bool,
}

const HOLD: Mode = Mode { on_lost: OnLost::Hold, busy: false };

/// What came of one run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) arrivals: usize,
    pub(crate) worst: usize,
    pub(crate) runs: u64,
    pub(crate) time: Duration,
    pub(crate) faults: Vec<&'static str>,
}

impl Outcome {
    /// How much of the budget was used.
    pub(crate) fn share(&self) -> f64 {
        let most = self.time.as_secs_f64() / (WINDOW + GUARD).as_secs_f64() * f64::from(LIMIT);
        self.arrivals as f64 / most
    }

    pub(crate) fn kinds(&self) -> String {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        self.faults.iter().for_each(|fault| *kinds.entry(fault).or_default() += 1);
        let kinds: Vec<String> =
            kinds.iter().map(|(kind, times)| format!("{kind} {times}")).collect();
        kinds.join(", ")
    }
}

/// Where requests arrive. It refuses now and then.
#[derive(Debug)]
struct Omni {
    arrivals: Mutex<Vec<Instant>>,
    refuse: Mutex<u32>,
}

pub(crate) fn run(seed: u64, time: Duration) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(simulate(seed, time))
}

async fn simulate(seed: u64, time: Duration) -> Outcome {
    let mut chance = Chance::new(seed);
    let world = World::new(seed);
    let omni = Arc::new(Omni { arrivals: Mutex::default(), refuse: Mutex::new(0) });
    let mut instances: Vec<JoinSet<()>> =
        (0..INSTANCES).map(|of| instance(&world, &omni, of, chance.next(), HOLD)).collect();
    let began = Instant::now();
    let mut faults = Vec::new();
    while began.elapsed() < time {
        sleep(chance.between(SECOND, 240 * SECOND)).await;
        let fault = fault(&mut chance, &world, &omni, &mut instances).await;
        if std::env::var_os("TELL").is_some() {
            println!("{:.3} {fault}", began.elapsed().as_secs_f64());
        }
        faults.push(fault);
    }
    drop(instances);
    let mut arrivals = omni.arrivals.lock().unwrap().clone();
    arrivals.sort();
    let worst = worst(&arrivals, began);
    let runs = world.runs.load(Ordering::Relaxed);
    Outcome { arrivals: arrivals.len(), worst, runs, time: began.elapsed(), faults }
}

/// A few busy instances lose the store all at once, again and again, and share meanwhile.
pub(crate) fn run_lost_to_all(seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(lose_to_all(seed))
}

async fn lose_to_all(seed: u64) -> Outcome {
    const FEW: usize = 4;
    let mut chance = Chance::new(seed);
    let world = World::new(seed);
    let omni = Arc::new(Omni { arrivals: Mutex::default(), refuse: Mutex::new(0) });
    let instances = NonZeroU32::new(FEW as u32).unwrap();
    let mode = Mode { on_lost: OnLost::Share { instances }, busy: true };
    let houses: Vec<JoinSet<()>> =
        (0..FEW).map(|of| instance(&world, &omni, of, chance.next(), mode)).collect();
    let began = Instant::now();
    let mut faults = Vec::new();
    for _ in 0..6 {
        sleep(chance.between(70 * SECOND, 200 * SECOND)).await;
        let time = chance.between(5 * SECOND, 400 * SECOND);
        (0..FEW).for_each(|of| world.cut(of, time));
        faults.push("lost to all");
        sleep(time).await;
    }
    sleep(100 * SECOND).await;
    drop(houses);
    let mut arrivals = omni.arrivals.lock().unwrap().clone();
    arrivals.sort();
    let worst = worst(&arrivals, began);
    let runs = world.runs.load(Ordering::Relaxed);
    Outcome { arrivals: arrivals.len(), worst, runs, time: began.elapsed(), faults }
}

/// The most arrivals in any window.
fn worst(arrivals: &[Instant], began: Instant) -> usize {
    let (mut first, mut worst) = (0, 0);
    for (last, at) in arrivals.iter().enumerate() {
        while *at - arrivals[first] >= WINDOW {
            first += 1;
        }
        let many = last + 1 - first;
        if many > LIMIT as usize && many > worst && std::env::var_os("TELL").is_some() {
            println!("{:.3} {many} arrivals", (*at - began).as_secs_f64());
        }
        worst = worst.max(many);
    }
    worst
}

async fn fault(
    chance: &mut Chance,
    world: &Arc<World>,
    omni: &Arc<Omni>,
    instances: &mut [JoinSet<()>],
) -> &'static str {
    let of = usize::try_from(chance.below(INSTANCES as u64)).unwrap();
    match chance.below(16) {
        0 | 1 => {
            instances[of] = instance(world, omni, of, chance.next(), HOLD);
            "kill"
        }
        2 => {
            world.restart_empty(chance.between(Duration::ZERO, 10 * SECOND));
            "empty"
        }
        3 => {
            world.note_replica();
            sleep(chance.between(Duration::ZERO, 5 * SECOND)).await;
            world.fail_over(chance.between(Duration::ZERO, 5 * SECOND));
            "failover"
        }
        4 | 5 => {
            world.freeze(chance.between(50 * MS, 6 * SECOND));
            "freeze"
        }
        6 => {
            let by = i64::try_from(chance.between(300 * MS, 3_600 * SECOND).as_micros()).unwrap();
            world.set_clock(if chance.is(50) { by } else { -by });
            if chance.is(30) {
                // Somebody new comes in that moment.
                instances[of] = instance(world, omni, of, chance.next(), HOLD);
            }
            "clock"
        }
        7 => {
            world.slow(chance.between(MS, 300 * MS));
            sleep(30 * SECOND).await;
            world.slow(2 * MS);
            "slow"
        }
        8 | 9 => {
            for _ in 0..=chance.below(8) {
                let of = usize::try_from(chance.below(INSTANCES as u64)).unwrap();
                world.cut(of, chance.between(100 * MS, 90 * SECOND));
            }
            "partition"
        }
        10 => {
            world.lose_answers(1 + u32::try_from(chance.below(20)).unwrap());
            "answers lost"
        }
        11 => {
            world.cut_connections();
            "connections cut"
        }
        12 => {
            world.deafen(of, chance.between(SECOND, 120 * SECOND));
            "deaf"
        }
        13 => {
            *omni.refuse.lock().unwrap() = 1 + u32::try_from(chance.below(3)).unwrap();
            "429"
        }
        14 => {
            // All at once, as when a cluster is restarted.
            for (of, one) in instances.iter_mut().enumerate() {
                *one = instance(world, omni, of, chance.next(), HOLD);
            }
            "all killed"
        }
        _ => {
            world.freeze(chance.between(50 * MS, 3 * SECOND));
            sleep(chance.between(Duration::ZERO, SECOND)).await;
            world.restart_empty(Duration::ZERO);
            "frozen, then empty"
        }
    }
}

/// One instance with its callers. Dropped, it is killed.
fn instance(world: &Arc<World>, omni: &Arc<Omni>, of: usize, seed: u64, mode: Mode) -> JoinSet<()> {
    let budget = BudgetSettings {
        id: BudgetId::new("omni"),
        limit: NonZeroU32::new(LIMIT).unwrap(),
        window: WINDOW,
        guard: GUARD,
        profile: Profile::Smooth { burst: NonZeroU32::new(10).unwrap() },
        reserve: 0,
        scope: Scope::Organization,
        max_queued: 1_000,
        max_wait: 120 * SECOND,
        batch_max_wait: 3_600 * SECOND,
        cold_start: ColdStart::Trust,
    };
    let key = Key { credential: CredentialId::new("org"), budgets: vec![budget.id.clone()] };
    let settings =
        ShaperSettings { budgets: vec![budget], keys: vec![key.clone()], callers: Vec::new() };
    let shaper = Arc::new(Shaper::open(settings, None).unwrap());
    let store = Arc::new(Way { world: world.clone(), of });
    let fleet = FleetSettings { on_lost: mode.on_lost, trust_empty: false, name: of.to_string() };
    shaper.join_fleet(&fleet, store, |_| {});
    let mut chance = Chance::new(seed);
    let mut tasks = JoinSet::new();
    // A crawl of two calls at a time, a person, and now and then a service beside them.
    let crawls = (CallerId::new(format!("crawl-{}", of % 5)), Priority::Batch, 200 * MS);
    let person = (CallerId::new("person"), Priority::Interactive, 240 * SECOND);
    let service = (CallerId::new(format!("service-{}", of % 3)), Priority::Normal, 60 * SECOND);
    let some = usize::from(chance.is(30));
    let callers = [crawls.clone(), crawls, person].into_iter().chain(vec![service; some]);
    for (name, priority, rests) in callers {
        let rests = if mode.busy { 200 * MS } else { rests };
        let caller = Caller {
            shaper: shaper.clone(),
            omni: omni.clone(),
            key: key.clone(),
            name,
            priority,
            rests,
            chance: Chance::new(chance.next()),
        };
        tasks.spawn(caller.call());
    }
    tasks
}

struct Caller {
    shaper: Arc<Shaper>,
    omni: Arc<Omni>,
    key: Key,
    name: CallerId,
    priority: Priority,
    rests: Duration,
    chance: Chance,
}

impl Caller {
    async fn call(mut self) {
        let lane = self.shaper.lane(std::slice::from_ref(&self.key)).unwrap();
        loop {
            let rest = self.chance.between(MS, self.rests);
            sleep(rest).await;
            let max_wait = Some(self.chance.between(SECOND, 900 * SECOND));
            let ask = Ask { lane, caller: &self.name, priority: self.priority, max_wait };
            let Ok(mut place) = self.shaper.join(&ask) else { continue };
            let leaves = self.chance.is(5).then(|| self.chance.between(MS, 20 * SECOND));
            let sent = async {
                place.near().await.ok()?;
                sleep(self.chance.between(Duration::ZERO, 40 * MS)).await;
                let permit = place.turn().await.ok()?;
                // The latest moment that is allowed, now and then.
                let late = self.chance.between(Duration::ZERO, 99 * MS);
                if self.chance.is(20) {
                    sleep(late).await;
                }
                if Instant::now() >= permit.expires() || self.chance.is(2) {
                    return None;
                }
                let outcome = permit.outcome();
                permit.begin();
                // On its way to Omni, whatever becomes of who sent it.
                let (omni, transit) =
                    (self.omni.clone(), self.chance.between(Duration::ZERO, 50 * MS));
                tokio::spawn(async move {
                    sleep(transit).await;
                    omni.arrivals.lock().unwrap().push(Instant::now());
                });
                sleep(transit + self.chance.between(MS, 200 * MS)).await;
                let refuse = {
                    let mut left = self.omni.refuse.lock().unwrap();
                    let refuse = *left > 0;
                    *left = left.saturating_sub(1);
                    refuse
                };
                if refuse {
                    outcome.limited(
                        self.chance.is(50).then(|| self.chance.between(SECOND, 20 * SECOND)),
                    );
                } else if self.chance.is(98) {
                    outcome.taken();
                }
                Some(())
            };
            match leaves {
                Some(after) => {
                    let _ = tokio::time::timeout(after, sent).await;
                }
                None => {
                    let _ = sent.await;
                }
            }
        }
    }
}

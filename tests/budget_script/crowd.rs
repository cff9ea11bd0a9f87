//! Many instances with callers of their own, in the test's time: the bound, and who goes first.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::random::Random;
use crate::stage::{PREFIX, SECOND, Stage, meter, paced};

#[derive(Clone, Debug)]
struct Waiting {
    ticket: u64,
    class: u64,
    who: &'static str,
    since: u64,
    way: Vec<usize>,
}

/// A grant that counts, or did.
#[derive(Clone, Debug)]
struct Sent {
    at: u64,
    id: String,
    meters: Vec<usize>,
}

#[derive(Debug, Default)]
struct Instance {
    waiting: Vec<Waiting>,
    told: BTreeSet<u64>,
    look: Option<u64>,
    called: u64,
    /// Neither calls nor hears until then.
    asleep: u64,
    /// What Redis said the time was, and when.
    clock: Option<(u64, u64)>,
    stepped: bool,
}

/// Instances and what they did. `now` does not jump; the server's clock is `offset` ahead.
struct Crowd {
    stage: Stage,
    now: u64,
    offset: i64,
    identity: u64,
    instances: BTreeMap<String, Instance>,
    sent: Vec<Sent>,
    order: Vec<(u64, Waiting)>,
    tickets: u64,
    calls: usize,
}

impl Crowd {
    fn new(meters: Vec<Value>, count: usize, trust: bool) -> Self {
        let mut stage = Stage::new(meters);
        let now = stage.now;
        stage.call("0", json!({ "trust": trust, "expect": null, "id": "run/0" }));
        let instances = (0..count).map(|n| (format!("i{n}"), Instance::default())).collect();
        let mut crowd = Self {
            stage,
            now,
            offset: 0,
            identity: 0,
            instances,
            sent: vec![],
            order: vec![],
            tickets: 0,
            calls: 0,
        };
        for name in crowd.names() {
            crowd.call(&name);
        }
        crowd
    }

    fn names(&self) -> Vec<String> {
        self.instances.keys().cloned().collect()
    }

    fn arrive(&mut self, name: &str, class: u64, who: &'static str, way: &[usize]) {
        self.tickets += 1;
        let (ticket, since) = (self.tickets, self.now);
        let instance = self.instances.get_mut(name).unwrap();
        instance.waiting.push(Waiting { ticket, class, who, since, way: way.to_vec() });
        if self.first_of(name).iter().any(|one| one.ticket == ticket) {
            self.call(name);
        }
    }

    /// The first four of each class and caller.
    fn first_of(&self, name: &str) -> Vec<Waiting> {
        let mut rows: BTreeMap<(u64, &str, &[usize]), usize> = BTreeMap::new();
        let waiting = self.instances[name].waiting.iter();
        let first = waiting.filter(|one| {
            let before = rows.entry((one.class, one.who, &one.way)).or_default();
            *before += 1;
            *before <= 4
        });
        first.take(32).cloned().collect()
    }

    fn call(&mut self, name: &str) {
        self.call_with(name, json!({}));
    }

    fn call_with(&mut self, name: &str, mut more: Value) {
        if self.instances[name].asleep > self.now {
            return;
        }
        self.calls += 1;
        let heads = self.first_of(name);
        let server = self.now.checked_add_signed(self.offset).unwrap();
        let shift = self.offset;
        let instance = self.instances.get_mut(name).unwrap();
        let as_json = |one: &Waiting| {
            let at = one.since.checked_add_signed(shift).unwrap();
            json!({ "t": one.ticket, "c": one.class, "who": one.who, "at": at, "ways": [one.way] })
        };
        more["heads"] = heads.iter().map(as_json).collect();
        more["expect"] = instance.clock.map(|(said, at)| said + (self.now - at)).into();
        more["stepped"] = instance.stepped.into();
        more["id"] = format!("run/{}", self.identity).into();
        self.stage.now = server;
        let reply = self.stage.call(name, more);
        instance.called = self.now;
        instance.stepped = reply["status"] == "mismatch";
        let is_newcomer = reply["status"] == "newcomer";
        instance.clock = Some((server, self.now));
        instance.look =
            reply["look"].as_i64().filter(|&look| look >= 0).map(|l| self.now + l as u64);
        instance.told = heads.iter().map(|one| one.ticket).collect();
        for grant in reply["grants"].as_array().unwrap() {
            assert_eq!(reply["blocked"], 0);
            let ticket = grant["t"].as_u64().unwrap();
            let at = instance.waiting.iter().position(|one| one.ticket == ticket).unwrap();
            let one = instance.waiting.remove(at);
            instance.told.remove(&ticket);
            let id = grant["id"].as_str().unwrap().to_owned();
            self.sent.push(Sent { at: self.now, id, meters: one.way.clone() });
            self.order.push((self.now, one));
        }
        let again = is_newcomer || (instance.told.is_empty() && !instance.waiting.is_empty());
        self.hear();
        self.check_bound();
        if again {
            self.call(name);
        }
    }

    /// Instances hear at once, unless they are asleep.
    fn hear(&mut self) {
        for (channel, text) in self.stage.pushes() {
            let Some(name) = channel.strip_prefix("to:") else { continue };
            let push: Value = serde_json::from_str(&text).unwrap();
            // Without a time it is asked to call at once: somebody new is there.
            let at = push["at"].as_str().map_or(self.stage.now, |at| at.parse().unwrap());
            let Some(instance) = self.instances.get_mut(name) else { continue };
            if instance.asleep <= self.now {
                instance.look = Some(at.saturating_add_signed(-self.offset).max(self.now));
            }
        }
    }

    /// Never more grants alive in a span than the limit, whatever the store has forgotten.
    fn check_bound(&mut self) {
        for (index, meter) in self.stage.meters.iter().enumerate() {
            let span = meter["span"].as_u64().unwrap();
            let alive =
                self.sent.iter().filter(|s| s.meters.contains(&index) && s.at + span > self.now);
            let alive = alive.count() as u64;
            assert!(alive <= meter["limit"].as_u64().unwrap(), "{alive} of {meter}");
        }
        let oldest = self.now.saturating_sub(400 * SECOND);
        self.sent.retain(|sent| sent.at > oldest);
    }

    /// Lets time pass until `end`; everybody looks when it was told, and is heard of each second.
    fn run(&mut self, end: u64) {
        loop {
            let next =
                self.instances.iter().filter(|(_, one)| one.asleep <= end).map(|(name, one)| {
                    let due = one.look.unwrap_or(u64::MAX).min(one.called + SECOND);
                    (due.max(one.asleep).max(self.now), name.clone())
                });
            let Some((at, name)) = next.min().filter(|(at, _)| *at <= end) else { break };
            self.now = at;
            self.call(&name);
        }
        self.now = end;
    }

    fn left(&self) -> usize {
        self.instances.values().map(|one| one.waiting.len()).sum()
    }
}

#[test]
fn a_caller_is_served_in_the_order_of_arrival_wherever_it_waits_and_at_full_throughput() {
    let mut crowd = Crowd::new(vec![paced("omni", 60, 61 * SECOND, 10, 0)], 8, true);
    let mut random = Random(1);
    let names = crowd.names();
    for _ in 0..300 {
        let name = &names[random.below(8) as usize];
        crowd.arrive(name, 1, "x", &[0]);
        let to = crowd.now + random.below(SECOND / 2);
        crowd.run(to);
    }
    let (before, calls) = (crowd.order.len(), crowd.calls);
    let begin = crowd.now;
    while crowd.left() > 0 {
        let to = crowd.now + SECOND;
        crowd.run(to);
    }
    let grants = crowd.order.len() - before;
    let rate = grants as f64 / ((crowd.now - begin) as f64 / 61e6) / 60.0;
    assert!(rate > 0.97, "{rate}");
    let inversions =
        crowd.order.windows(2).filter(|pair| pair[0].1.ticket > pair[1].1.ticket).count();
    assert_eq!(inversions, 0);
    // Besides the heartbeats.
    let beats = (crowd.now - begin) / SECOND * 8;
    let calls = (crowd.calls - calls) as u64;
    assert!(
        calls <= beats + grants as u64 * 11 / 10,
        "{calls} calls, {beats} beats, {grants} grants"
    );
}

#[test]
fn a_trickling_caller_goes_in_turn_with_a_flood_of_another_instance() {
    let mut crowd = Crowd::new(vec![paced("omni", 60, 60 * SECOND, 1, 0)], 3, true);
    for n in 0..90 {
        crowd.arrive(&format!("i{}", n % 2), 1, "flood", &[0]);
    }
    crowd.run(crowd.now + 10 * SECOND);
    for _ in 0..10 {
        crowd.arrive("i2", 1, "trickle", &[0]);
        crowd.run(crowd.now + 5 * SECOND);
    }
    let waits = crowd.order.iter().filter(|(_, one)| one.who == "trickle");
    let longest = waits.map(|(at, one)| at - one.since).max().unwrap();
    assert!(longest <= 2 * SECOND + SECOND / 10, "{longest}");
    assert_eq!(crowd.order.iter().filter(|(_, one)| one.who == "trickle").count(), 10);
}

#[test]
fn a_lower_class_gets_one_grant_in_ten_and_no_more_over_all_instances() {
    let mut crowd = Crowd::new(vec![meter("omni", 5, 5 * SECOND)], 4, true);
    for n in 0..400 {
        crowd.arrive(&format!("i{}", n % 4), if n % 8 == 7 { 1 + n / 8 % 2 } else { 0 }, "x", &[0]);
    }
    crowd.run(crowd.now + 300 * SECOND);
    let classes: Vec<u64> = crowd.order.iter().map(|(_, one)| one.class).skip(10).collect();
    assert!(classes.len() > 250, "{}", classes.len());
    let busy = &classes[..200];
    for class in [1, 2] {
        let gap = busy.split(|&one| one == class).map(<[_]>::len).max().unwrap();
        assert!(gap <= 9, "class {class} waited for {gap} grants");
    }
    assert!(busy.iter().filter(|&&one| one > 0).count() <= 50, "{busy:?}");
}

#[test]
fn heads_that_pay_different_meters_are_each_told_their_time() {
    let meters = (0..4).map(|n| paced(&format!("omni/{n}"), 10, 10 * SECOND, 1, 0)).collect();
    let mut crowd = Crowd::new(meters, 4, true);
    for n in 0..80 {
        crowd.arrive(&format!("i{}", n / 4 % 4), 1, "x", &[n % 4]);
    }
    crowd.run(crowd.now + 20 * SECOND);
    assert!(crowd.order.len() >= 78, "{}", crowd.order.len());
}

fn random_meters(random: &mut Random) -> Vec<Value> {
    let mut one = |name: &str| {
        let limit = 1 + random.below(30);
        let span = SECOND + random.below(60 * SECOND);
        let reserve = random.below(limit).min(5);
        match random.once_in(3) {
            true => {
                let mut meter = meter(name, limit, span);
                meter["reserve"] = reserve.into();
                meter
            }
            false => {
                let burst = (1 + random.below(limit)).max(reserve);
                paced(name, limit, span, burst, reserve)
            }
        }
    };
    vec![one("omni"), one("omni/key")]
}

fn trouble(crowd: &mut Crowd, random: &mut Random, name: &str) {
    match random.below(60) {
        0 => {
            let asleep = crowd.now + random.below(100 * SECOND);
            crowd.instances.get_mut(name).unwrap().asleep = asleep;
        }
        1 => crowd.stage.engine.wipe(),
        2 => {
            let ledger = format!("{PREFIX}ledger:omni");
            crowd.stage.engine.with_keys(|keys| keys.remove_oldest(&ledger));
        }
        3 => crowd.identity += 1,
        4 => {
            crowd.offset += if random.once_in(2) { -3_600_000_000 } else { 3_600_000_000 };
            // Somebody who was there before is heard of first; a newcomer cannot tell.
            for name in crowd.names() {
                crowd.call(&name);
            }
        }
        5 => {
            let waiting = std::mem::take(&mut crowd.instances.get_mut(name).unwrap().waiting);
            crowd.instances.remove(name);
            let new = format!("n{}", crowd.tickets);
            crowd.instances.insert(new, Instance { waiting, ..Instance::default() });
        }
        6 | 7 => {
            let kind = ["limited", "taken", "lost"][random.below(3) as usize];
            let retry = random.below(3) as i64 * 2_000_000 - 1;
            let g = 1e15 as u64 * random.below(2);
            let report =
                json!({ "k": kind, "m": [random.below(2)], "g": g, "retry": retry, "jitter": 1 });
            crowd.call_with(name, json!({ "reports": [report] }));
        }
        8..12 => {
            let own = format!("{name}:");
            let mine = crowd.sent.iter().position(|s| s.id.starts_with(&own) && s.at == crowd.now);
            if let Some(at) = mine {
                let id = crowd.sent.remove(at).id;
                crowd.call_with(name, json!({ "returns": [id] }));
            }
        }
        12 => {
            let at = crowd.stage.now;
            crowd.call_with(name, json!({ "sent": [[format!("{name}:u:{at}"), at, [0]]] }));
        }
        _ => {}
    }
}

/// Grants that count never exceed the limit in any span, and in the end everybody has gone.
#[test]
fn at_random_the_bound_holds_and_nobody_waits_for_ever() {
    for seed in 0..4 {
        let mut random = Random(seed);
        let meters = random_meters(&mut random);
        let mut crowd = Crowd::new(meters, 8, false);
        for _ in 0..400 {
            let names = crowd.names();
            let name = names[random.below(names.len() as u64) as usize].clone();
            let who = ["x", "y", "z"][random.below(3) as usize];
            let way: &[usize] = [&[0][..], &[1], &[0, 1]][random.below(3) as usize];
            if crowd.left() < 60 {
                crowd.arrive(&name, random.below(3), who, way);
            }
            trouble(&mut crowd, &mut random, &name);
            let to = crowd.now + random.below(4 * SECOND);
            crowd.run(to);
        }
        assert!(crowd.order.len() > 30, "seed {seed}: {}", crowd.order.len());
        // Sends that nobody granted, and pauses and strictness of an hour, have an end too.
        let end = crowd.now + 3 * 3_600 * SECOND;
        while crowd.left() > 0 && crowd.now < end {
            let to = crowd.now + 10 * SECOND;
            crowd.run(to);
        }
        assert_eq!(crowd.left(), 0, "seed {seed}");
    }
}

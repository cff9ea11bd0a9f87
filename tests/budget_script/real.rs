//! A real Redis and the engine of the tests do the same, to the letter: replies, and what is published.

use serde_json::{Value, json};

use crate::random::Random;
use crate::stage::{PREFIX, Stage, granted, head, meter, paced};

const MS: u64 = 1_000;

fn random_heads(random: &mut Random, now: u64, ticket: &mut u64) -> Value {
    let head = |random: &mut Random, ticket: u64| {
        let ways = match random.below(5) {
            0 => json!([[0, 1]]),
            1 => json!([[1], [0]]),
            2 => json!([[2], [9]]),
            _ => json!([[0]]),
        };
        let who = ["x", "y", "z / \"quoted\" \u{7f} ü"][random.below(3) as usize];
        json!({ "t": ticket, "c": random.below(3), "who": who, "at": now - random.below(50 * MS), "ways": ways })
    };
    let count = random.below(5);
    (0..count)
        .map(|_| {
            *ticket += 1;
            head(random, *ticket)
        })
        .collect()
}

fn random_call(random: &mut Random, now: u64, ids: &[Value], ticket: &mut u64) -> Value {
    let mut more = json!({ "tol": 60_000 * MS, "turn": 5 * MS, "live": 100 * MS, "applied": 0 });
    let m = random.below(3);
    if !random.once_in(3) {
        more["heads"] = random_heads(random, now, ticket);
    }
    if random.once_in(4) && !ids.is_empty() {
        more["returns"] = json!([ids[random.below(ids.len() as u64) as usize]]);
    }
    if random.once_in(8) {
        let member = format!("s:{}", random.below(20));
        more["sent"] = json!([[member, now - random.below(70 * MS), [0, m]]]);
    }
    if random.once_in(6) {
        let kind = ["limited", "taken", "lost"][random.below(3) as usize];
        let retry = if random.once_in(2) { -1 } else { random.below(5 * MS) as i64 };
        let g = (now / 1_000_000 * 100) as i64 + random.below(500) as i64 - 200;
        let report = json!({ "k": kind, "m": [m], "g": g, "retry": retry, "jitter": 0.375 });
        more["reports"] = json!([report]);
    }
    if random.once_in(20) {
        let until = [json!(0), json!(-1), json!(now + 3 * MS)][random.below(3) as usize].clone();
        let budget = ["omni", "*", "other/\u{1}"][m as usize];
        more["stops"] = json!([{ "b": budget, "until": until }]);
    }
    if random.once_in(10) {
        more["news"] = json!(["a \"text\" with / and \n, ü and \u{0}"]);
    }
    more["table"] = random.once_in(10).into();
    more["deaf"] = random.once_in(10).into();
    more["stepped"] = random.once_in(150).into();
    if random.once_in(50) {
        more["expect"] = Value::Null;
    }
    if random.once_in(100) {
        more["id"] = format!("run/{}", random.below(5)).into();
    }
    more
}

#[test]
fn random_calls_of_several_instances_are_answered_alike_by_redis_and_by_the_engine() {
    let meters = vec![
        paced("omni", 12, 60 * MS, 4, 3),
        meter("omni/key", 5, 40 * MS),
        paced("other", 7, 30 * MS, 2, 0),
    ];
    let mut stage = Stage::on_redis(meters);
    let (mut ticket, mut ids, mut grants) = (0, Vec::new(), 0);
    stage.call("a", json!({ "trust": true }));
    for seed in 0..4 {
        let mut random = Random(seed);
        for _ in 0..400 {
            let instance = ["a", "b", "c", "d"][random.below(4) as usize];
            let now = stage.real_now();
            let more = random_call(&mut random, now, &ids, &mut ticket);
            let reply = stage.call(instance, more);
            for grant in reply["grants"].as_array().unwrap() {
                ids.push(grant["id"].clone());
                grants += 1;
            }
            ids.drain(..ids.len().saturating_sub(30));
        }
    }
    assert!(grants > 50, "{grants} grants");
}

/// A span that no test outlasts: the same decisions whenever the calls come.
#[test]
fn redis_grants_the_limit_and_no_more_and_blocks_when_it_has_lost_something() {
    let mut stage = Stage::on_redis(vec![meter("omni", 6, 3_600_000 * MS)]);
    stage.call("a", json!({ "trust": true }));
    let mut count = 0;
    for n in 0..8 {
        let now = stage.real_now();
        let heads: Vec<Value> = (0..4).map(|t| head(t, 0, "x", now)).collect();
        count += granted(&stage.call(["a", "b"][n % 2], json!({ "heads": heads }))).len();
    }
    assert_eq!(count, 6);
    let ledger = format!("{PREFIX}ledger:omni");
    let popped: Vec<String> = stage.redis().ask(&["ZPOPMIN", &ledger]);
    assert_eq!(popped.len(), 2);
    stage.engine.with_keys(|keys| keys.remove_oldest(&ledger));
    let reply = stage.call("a", json!({}));
    assert_eq!(reply["why"], "loss");
    let flushed: String = stage.redis().ask(&["FLUSHALL"]);
    assert_eq!(flushed, "OK");
    stage.engine.wipe();
    assert_eq!(stage.call("b", json!({}))["why"], "empty");
}

#[test]
fn redis_survives_what_makes_no_sense() {
    let mut stage = Stage::on_redis(vec![meter("omni", 6, 3_600_000 * MS)]);
    for request in ["5", "null", "[]", "{}", r#"{"i":"a b","n":1}"#, "{", r#"{"i":"a","n":NaN}"#] {
        assert!(stage.say(request).is_err(), "{request}");
    }
    for (n, heads) in
        ["{}", "7", "[1]", r#"[{"t":{}}]"#, r#"[{"t":1,"ways":[[]]}]"#].iter().enumerate()
    {
        let request = format!(r#"{{"i":"a","n":{n},"id":"x","expect":0,"heads":{heads}}}"#);
        assert!(stage.say(&request).is_ok(), "{request}");
    }
}

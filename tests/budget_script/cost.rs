//! What a call costs Redis. Run by hand on a quiet machine:
//! `cargo test --test budget_script -- --ignored --nocapture what_a_call`.

use serde_json::{Value, json};

use crate::stage::{Redis, SECOND, Stage, granted, head, paced};

/// The middle of what Redis says that runs took, in µs, and the mean; a loaded machine blurs the mean.
fn durations(redis: &mut Redis) -> (i64, String) {
    let log: Vec<redis::Value> = redis.ask(&["SLOWLOG", "GET", "100000"]);
    let mut times: Vec<i64> = log
        .into_iter()
        .filter_map(|entry| {
            let entry: Vec<redis::Value> = redis::from_redis_value(entry).unwrap();
            let words: Vec<Vec<u8>> = redis::from_redis_value(entry[3].clone()).unwrap();
            (words[0] == b"EVALSHA").then(|| redis::from_redis_value(entry[2].clone()).unwrap())
        })
        .collect();
    times.sort_unstable();
    let stats: String = redis.ask(&["INFO", "commandstats"]);
    let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
    (times[times.len() / 2], line.to_owned())
}

#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout, reason = "it is what the measurement is for")]
fn what_a_call_costs_redis_with_eight_instances_of_four_heads() {
    let span = 2 * SECOND;
    let stage = Stage::new(vec![paced("omni", 2_000, span, 10, 0)]);
    let keys = stage.keys();
    let twin = Stage::on_redis(stage.meters.clone());
    let mut redis = twin.into_redis();
    let (mut number, mut ticket) = (0, 0);
    let mut waiting: Vec<Vec<Value>> = vec![Vec::new(); 8];
    // Four heads all the time: who was granted is followed by another.
    let mut call = |redis: &mut Redis, instance: usize| {
        number += 1;
        let now = redis.now();
        let heads = &mut waiting[instance];
        while heads.len() < 4 {
            ticket += 1;
            heads.push(head(ticket, 1, "x", now));
        }
        let request = json!({
            "i": format!("{instance:016x}"), "n": number, "id": "run/replid", "expect": now,
            "tol": SECOND / 4, "turn": SECOND / 2, "live": 2 * SECOND, "stepped": false,
            "trust": true, "deaf": false, "info": "{\"name\":\"one\"}", "meters": stage.meters,
            "heads": heads, "returns": [], "sent": [], "reports": [], "stops": [], "news": [],
            "applied": 0, "table": false,
        });
        let reply = redis.run(&keys, &request.to_string()).unwrap();
        let reply: Value = serde_json::from_str(&reply).unwrap();
        let gone = granted(&reply);
        heads.retain(|head| !gone.contains(&head["t"].as_u64().unwrap()));
        gone.len()
    };
    let () = redis.ask(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    let () = redis.ask(&["CONFIG", "SET", "slowlog-max-len", "100000"]);
    for instance in 0..8 {
        call(&mut redis, instance);
    }
    let () = redis.ask(&["SLOWLOG", "RESET"]);
    let () = redis.ask(&["CONFIG", "RESETSTAT"]);
    let mut grants = 0;
    for round in 0..4_000 {
        grants += call(&mut redis, round % 8);
    }
    let (middle, line) = durations(&mut redis);
    assert!(grants > 100, "{grants} grants");
    println!("4000 calls, {grants} grants; in the middle {middle} µs; {line}");
}

//! Each rule, in time that the test gives.

use serde_json::{Value, json};

use crate::stage::{PREFIX, SECOND, Stage, granted, head, meter, paced};

fn heads(stage: &Stage, class: u64, who: &str, tickets: std::ops::Range<u64>) -> Value {
    tickets.map(|ticket| head(ticket, class, who, stage.now)).collect()
}

fn looks(stage: &mut Stage, instance: &str) -> Vec<u64> {
    let at = |push: &Value| {
        assert_eq!(push["k"], "look");
        push["at"].as_str().unwrap().parse().unwrap()
    };
    stage.pushes_to(&format!("to:{instance}")).iter().map(at).collect()
}

fn kinds(stage: &mut Stage) -> Vec<String> {
    let all = stage.pushes_to("all");
    all.iter().map(|push| push["k"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_empty_store_blocks_for_a_span_and_then_goes_at_pace() {
    let mut stage = Stage::new(vec![paced("omni", 60, 60 * SECOND, 10, 0)]);
    let reply = stage.call("a", json!({ "expect": null }));
    assert_eq!(reply["status"], "newcomer");
    assert_eq!((&reply["blocked"], &reply["why"]), (&json!(60 * SECOND), &json!("empty")));
    let four = heads(&stage, 0, "x", 0..4);
    let reply = stage.call("a", json!({ "heads": four }));
    assert_eq!((granted(&reply), &reply["look"]), (vec![], &json!(60 * SECOND)));
    stage.pass(60 * SECOND - 1);
    assert_eq!(granted(&stage.call("a", json!({}))), [0u64; 0]);
    stage.pass(1);
    let reply = stage.call("a", json!({}));
    assert_eq!((granted(&reply), &reply["look"]), (vec![0], &json!(SECOND)));
    assert_eq!(reply["blocked"], 0);
}

#[test]
fn an_empty_store_that_is_trusted_blocks_nobody() {
    let mut stage = Stage::begun(vec![paced("omni", 60, 60 * SECOND, 10, 0)]);
    let many = heads(&stage, 0, "x", 0..12);
    let reply = stage.call("a", json!({ "heads": many }));
    assert_eq!((granted(&reply).len(), &reply["look"]), (10, &json!(SECOND)));
}

#[test]
fn another_server_blocks_once_also_when_an_instance_still_believes_in_the_old_one() {
    let mut stage = Stage::begun(vec![meter("omni", 2, 10 * SECOND)]);
    let reply = stage.call("a", json!({ "id": "new/one" }));
    assert_eq!((&reply["blocked"], &reply["why"]), (&json!(10 * SECOND), &json!("server")));
    stage.pass(SECOND);
    assert_eq!(stage.call("b", json!({}))["blocked"], 9 * SECOND);
    assert_eq!(stage.call("a", json!({ "id": "new/one" }))["blocked"], 9 * SECOND);
}

#[test]
fn a_clock_that_has_jumped_back_or_by_word_of_an_instance_blocks() {
    for back in [true, false] {
        let mut stage = Stage::begun(vec![meter("omni", 2, 10 * SECOND)]);
        if back {
            stage.now -= 3_600 * SECOND;
        }
        let reply = stage.call("a", json!({ "stepped": !back }));
        assert_eq!((&reply["blocked"], &reply["why"]), (&json!(10 * SECOND), &json!("clock")));
    }
    let mut stage = Stage::begun(vec![meter("omni", 2, 10 * SECOND)]);
    stage.now -= SECOND / 5;
    assert_eq!(stage.call("a", json!({}))["blocked"], 0);
}

#[test]
fn a_ledger_that_has_lost_a_member_blocks() {
    let mut stage = Stage::begun(vec![meter("omni", 5, 10 * SECOND)]);
    let two = heads(&stage, 0, "x", 0..2);
    stage.call("a", json!({ "heads": two }));
    stage.engine.with_keys(|keys| keys.remove_oldest(&format!("{PREFIX}ledger:omni")));
    let reply = stage.call("b", json!({}));
    assert_eq!((&reply["blocked"], &reply["why"]), (&json!(10 * SECOND), &json!("loss")));
    assert_eq!(reply["meters"][0]["used"], 0);
}

#[test]
fn a_state_that_cannot_be_read_is_none() {
    let mut stage = Stage::begun(vec![meter("omni", 5, 10 * SECOND)]);
    stage.engine.with_keys(|keys| keys.put(&format!("{PREFIX}state"), b"\xdd\xff\xff\xff\xff"));
    assert_eq!(stage.call("a", json!({}))["why"], "empty");
}

#[test]
fn a_call_that_runs_late_changes_nothing() {
    let mut stage = Stage::begun(vec![meter("omni", 5, 10 * SECOND)]);
    stage.join("a");
    let before = stage.engine.snapshot();
    let late = heads(&stage, 0, "x", 0..1);
    let reply = stage.call("a", json!({ "n": 1, "heads": late, "news": ["x"], "stepped": true }));
    assert_eq!(reply["status"], "old");
    assert_eq!(format!("{before:?}"), format!("{:?}", stage.engine.snapshot()));
    assert_eq!(stage.pushes(), vec![]);
}

#[test]
fn a_newcomer_is_heard_and_granted_nothing_and_a_mismatch_keeps_its_heads() {
    let mut stage = Stage::begun(vec![meter("omni", 5, 10 * SECOND)]);
    let one = heads(&stage, 0, "x", 7..8);
    let reply = stage.call("a", json!({ "expect": null, "heads": one, "news": ["told"] }));
    assert_eq!((&reply["status"], granted(&reply)), (&json!("newcomer"), vec![]));
    assert_eq!(kinds(&mut stage), ["news"]);
    assert_eq!(granted(&stage.call("a", json!({}))), [0u64; 0]);
    let reply = stage.call("a", json!({ "expect": stage.now + SECOND, "heads": one }));
    assert_eq!((&reply["status"], granted(&reply)), (&json!("mismatch"), vec![]));
    assert_eq!(reply["look"], 0);
    assert_eq!(granted(&stage.call("a", json!({}))), [7]);
}

#[test]
fn what_comes_back_makes_room_and_what_was_sent_elsewhere_takes_it() {
    let mut stage = Stage::begun(vec![paced("omni", 10, 10 * SECOND, 2, 0)]);
    let many = heads(&stage, 0, "x", 0..3);
    let reply = stage.call("a", json!({ "heads": many }));
    assert_eq!(granted(&reply), [0, 1]);
    let id = reply["grants"][1]["id"].clone();
    // Nobody gives back what another was granted.
    assert_eq!(stage.call("b", json!({ "returns": [id] }))["meters"][0]["used"], 2);
    let reply = stage.call("a", json!({ "returns": [id] }));
    assert_eq!((granted(&reply), &reply["meters"][0]["used"]), (vec![2], &json!(2)));
    let sent = json!([["b:1:1", stage.now, [0]], ["b:1:2", stage.now - 10 * SECOND, [0]]]);
    for _ in 0..2 {
        assert_eq!(stage.call("b", json!({ "sent": sent }))["meters"][0]["used"], 3);
    }
}

#[test]
fn a_window_holds_its_limit_and_frees_each_slot_after_its_span() {
    let mut stage = Stage::begun(vec![meter("omni", 3, 10 * SECOND)]);
    let many = heads(&stage, 0, "x", 0..5);
    assert_eq!(granted(&stage.call("a", json!({ "heads": many }))), [0, 1, 2]);
    stage.pass(10 * SECOND - 1);
    assert_eq!(granted(&stage.call("a", json!({}))), [0u64; 0]);
    stage.pass(1);
    // The grants of one moment were numbered by the microsecond.
    assert_eq!(granted(&stage.call("a", json!({}))), [3]);
    stage.pass(2);
    assert_eq!(granted(&stage.call("a", json!({}))), [4]);
}

#[test]
fn what_is_reserved_is_for_the_highest_class() {
    let mut stage = Stage::begun(vec![paced("omni", 10, 10 * SECOND, 10, 4)]);
    let many = heads(&stage, 1, "x", 0..8);
    assert_eq!(granted(&stage.call("a", json!({ "heads": many }))).len(), 6);
    let people = heads(&stage, 0, "y", 10..16);
    assert_eq!(granted(&stage.call("b", json!({ "heads": people }))).len(), 4);
}

#[test]
fn a_way_takes_all_of_its_meters_or_none_and_a_blocked_head_holds_up_nobody() {
    let mut stage =
        Stage::begun(vec![meter("omni", 9, 10 * SECOND), meter("omni/k", 1, 10 * SECOND)]);
    let both = |t: u64, at| json!({ "t": t, "c": 0, "who": "x", "at": at, "ways": [[0, 1]] });
    let either = json!({ "t": 3, "c": 0, "who": "x", "at": stage.now, "ways": [[1], [0, 0]] });
    let all = json!([both(1, 1), both(2, 2), either, head(4, 2, "z", 4)]);
    let reply = stage.call("a", json!({ "heads": all }));
    assert_eq!(granted(&reply), [1, 3, 4]);
    assert_eq!(reply["grants"][1]["w"], 1);
    let used = |n: usize| reply["meters"][n]["used"].as_u64().unwrap();
    assert_eq!((used(0), used(1)), (3, 1));
    assert_eq!(reply["look"], 10 * SECOND);
}

#[test]
fn a_refusal_pauses_everybody_until_one_probe_was_taken() {
    let mut stage = Stage::begun(vec![paced("omni", 60, 60 * SECOND, 10, 0)]);
    let two = heads(&stage, 0, "x", 0..2);
    let sent = stage.call("a", json!({ "heads": two }));
    let g = sent["grants"][0]["g"].as_u64().unwrap();
    let limited = json!({ "k": "limited", "m": [0], "g": g, "retry": -1, "jitter": 0.5 });
    let reply = stage.call("a", json!({ "reports": [limited] }));
    assert_eq!(kinds(&mut stage), ["pause"]);
    assert_eq!(reply["meters"][0]["pause"], "closed");
    assert_eq!(reply["meters"][0]["left"], 10 * SECOND);
    assert_eq!(reply["meters"][0]["strict"], 3_600 * SECOND);
    // The other of the same storm says nothing new.
    let late = json!({ "k": "limited", "m": [0], "g": g + 1, "retry": -1, "jitter": 0.5 });
    stage.call("a", json!({ "reports": [late] }));
    assert_eq!(kinds(&mut stage), [""; 0]);
    for instance in ["a", "b"] {
        let own = heads(&stage, 0, "x", 10..12);
        assert_eq!(granted(&stage.call(instance, json!({ "heads": own }))), [0u64; 0]);
    }
    stage.pass(10 * SECOND);
    let probe = stage.call("a", json!({ "heads": heads(&stage, 0, "x", 10..12) }));
    assert_eq!((granted(&probe), &probe["meters"][0]["pause"]), (vec![10], &json!("probe")));
    let own = heads(&stage, 0, "x", 20..22);
    assert_eq!(granted(&stage.call("b", json!({ "heads": own }))), [0u64; 0]);
    let g = probe["grants"][0]["g"].as_u64().unwrap();
    let taken = json!({ "k": "taken", "m": [0], "g": g });
    let reply = stage.call("a", json!({ "reports": [taken], "heads": [] }));
    assert_eq!(reply["meters"][0]["pause"], "open");
    // At pace: the bucket is empty, and strict.
    let told = looks(&mut stage, "b");
    assert_eq!(told.last(), Some(&(stage.now + 60 * SECOND / 59 + 1)));
}

#[test]
fn a_probe_that_comes_back_or_is_lost_makes_room_for_another() {
    for returned in [true, false] {
        let mut stage = Stage::begun(vec![meter("omni", 60, 60 * SECOND)]);
        let limited =
            json!({ "k": "limited", "m": [0], "g": 2e14 as u64, "retry": SECOND, "jitter": 0 });
        stage.call("a", json!({ "reports": [limited] }));
        stage.pass(SECOND);
        let two = heads(&stage, 0, "x", 0..2);
        let reply = stage.call("a", json!({ "heads": two }));
        assert_eq!(granted(&reply), [0]);
        let grant = &reply["grants"][0];
        let more = match returned {
            true => json!({ "returns": [grant["id"]] }),
            false => json!({ "reports": [{ "k": "lost", "m": [0], "g": grant["g"] }] }),
        };
        assert_eq!(granted(&stage.call("a", more)), [1]);
        // A probe that nobody speaks of was taken after a while.
        stage.pass(5 * SECOND);
        let three = heads(&stage, 0, "x", 5..8);
        let reply = stage.call("a", json!({ "heads": three }));
        assert_eq!((granted(&reply).len(), &reply["meters"][0]["pause"]), (3, &json!("open")));
    }
}

#[test]
fn a_head_of_another_instance_keeps_its_slot_for_its_turn_and_no_longer() {
    let mut stage = Stage::begun(vec![meter("omni", 1, 10 * SECOND)]);
    let live = 100 * SECOND;
    let zero = heads(&stage, 0, "x", 0..1);
    assert_eq!(granted(&stage.call("a", json!({ "heads": zero, "live": live }))), [0]);
    let (first, second) = (heads(&stage, 0, "x", 1..2), stage.now + 1);
    assert_eq!(stage.call("a", json!({ "heads": first, "live": live }))["look"], 10 * SECOND);
    stage.pass(SECOND);
    let own = json!([head(2, 0, "x", second)]);
    let reply = stage.call("b", json!({ "heads": own, "live": live }));
    // It is told when it is the first, and looks by itself a turn after its own first slot.
    assert_eq!(reply["look"], 19 * SECOND + SECOND / 2);
    for (pass, expected) in [(9 * SECOND, vec![]), (SECOND / 2, vec![]), (1, vec![2])] {
        stage.pass(pass);
        assert_eq!(granted(&stage.call("b", json!({ "live": live }))), expected);
    }
    // It comes again with its next call, and is the first again.
    let reply = stage.call("a", json!({ "live": live }));
    assert_eq!((granted(&reply), &reply["look"]), (vec![], &json!(10 * SECOND)));
}

#[test]
fn an_instance_that_does_not_come_for_its_slots_soon_keeps_only_one_of_them() {
    let mut stage = Stage::begun(vec![meter("omni", 4, 10 * SECOND)]);
    let live = 100 * SECOND;
    let ask = |stage: &mut Stage, instance: &str, heads: Value| {
        granted(&stage.call(instance, json!({ "heads": heads, "live": live })))
    };
    let four = heads(&stage, 0, "x", 0..4);
    assert_eq!(ask(&mut stage, "z", four), [0, 1, 2, 3]);
    let four = heads(&stage, 0, "x", 10..14);
    assert_eq!(ask(&mut stage, "a", four), [0u64; 0]);
    stage.pass(SECOND);
    let two = heads(&stage, 0, "x", 20..22);
    assert_eq!(ask(&mut stage, "b", two), [0u64; 0]);
    stage.pass(10 * SECOND);
    for (pass, expected) in [(0, vec![]), (SECOND / 20, vec![]), (1, vec![20, 21])] {
        stage.pass(pass);
        assert_eq!(ask(&mut stage, "b", Value::Null), expected);
    }
    // The others still stand in line.
    let reply = stage.call("b", json!({ "live": live }));
    assert_eq!(reply["meters"][0]["waiting"], json!([4, 0, 0]));
    assert_eq!(ask(&mut stage, "a", Value::Null), [10, 11]);
}

#[test]
fn a_call_that_pays_what_its_instance_no_longer_names_is_not_granted() {
    let mut stage = Stage::begun(vec![meter("omni", 1, 10 * SECOND)]);
    let two = heads(&stage, 1, "x", 0..2);
    assert_eq!(granted(&stage.call("a", json!({ "heads": two }))), [0]);
    stage.pass(10 * SECOND);
    stage.meters = vec![meter("other", 1, 10 * SECOND)];
    let reply = stage.call("a", json!({}));
    assert_eq!((granted(&reply), &reply["look"]), (vec![], &json!(-1)));
    let one = heads(&stage, 1, "x", 2..3);
    assert_eq!(granted(&stage.call("a", json!({ "heads": one }))), [2]);
}

#[test]
fn the_first_in_line_is_told_its_time_and_told_anew_when_it_changes() {
    let mut stage = Stage::begun(vec![meter("omni", 2, 10 * SECOND)]);
    let reply = stage.call("a", json!({ "heads": heads(&stage, 0, "x", 0..2) }));
    let id = reply["grants"][1]["id"].clone();
    let slot = stage.now + 10 * SECOND;
    let reply = stage.call("b", json!({ "heads": heads(&stage, 0, "x", 2..3) }));
    assert_eq!(reply["look"], 10 * SECOND);
    let reply = stage.call("c", json!({ "heads": heads(&stage, 0, "x", 3..4) }));
    assert_eq!(reply["look"], 10 * SECOND + SECOND / 2 + 1);
    let reply = stage.call("d", json!({ "heads": heads(&stage, 0, "x", 4..5), "deaf": true }));
    assert_eq!(reply["look"], 20 * SECOND);
    assert_eq!(stage.pushes(), vec![]);
    stage.pass(SECOND);
    stage.call("a", json!({ "returns": [id] }));
    // The one that may go now, and the one after it.
    assert_eq!((looks(&mut stage, "b"), looks(&mut stage, "c")), (vec![stage.now], vec![slot]));
    assert_eq!(granted(&stage.call("b", json!({}))), [2]);
    assert_eq!(stage.pushes(), vec![]);
}

#[test]
fn a_dead_instance_is_not_waited_for_and_has_its_heads_when_it_comes_back() {
    let mut stage = Stage::begun(vec![meter("omni", 1, 10 * SECOND)]);
    assert_eq!(granted(&stage.call("a", json!({ "heads": heads(&stage, 0, "x", 0..2) }))), [0]);
    stage.pass(2 * SECOND + 1);
    let reply = stage.call("b", json!({ "heads": heads(&stage, 0, "x", 5..6), "table": true }));
    assert_eq!((&reply["look"], &reply["alive"]), (&json!(8 * SECOND - 1), &json!(1)));
    assert_eq!(reply["table"].as_array().unwrap().len(), 3);
    let reply = stage.call("a", json!({}));
    assert_eq!((&reply["look"], &reply["alive"]), (&json!(8 * SECOND - 1), &json!(2)));
    let mut late = || stage.call("a", json!({ "n": 2 }))["status"].clone();
    assert_eq!(late(), "old");
    for _ in 0..12 {
        stage.pass(60 * SECOND);
        stage.call("b", json!({}));
    }
    let shown = stage.call("b", json!({ "table": true }))["table"].clone();
    assert_eq!(shown.as_array().unwrap().len(), 1, "{shown}");
}

#[test]
fn news_reach_everybody_and_are_acked_when_all_who_live_have_heard() {
    let mut stage = Stage::begun(vec![]);
    let from = stage.call("first", json!({}))["gen"].as_u64().unwrap();
    for instance in ["first", "a", "b"] {
        stage.call(instance, json!({ "applied": from }));
    }
    stage.pushes();
    let reply = stage.call("a", json!({ "applied": from, "news": ["one", "two / \"2\""] }));
    assert_eq!(
        (&reply["gen"], &reply["acked"], &reply["news"]),
        (&json!(from + 2), &json!(from), &json!([]))
    );
    assert_eq!(kinds(&mut stage), ["news", "news"]);
    let reply = stage.call("b", json!({ "applied": from }));
    assert_eq!(reply["news"], json!([[from + 1, "one"], [from + 2, "two / \"2\""]]));
    stage.call("b", json!({ "applied": from + 2 }));
    assert_eq!(kinds(&mut stage), [""; 0]);
    let reply = stage.call("first", json!({ "applied": from + 2 }));
    assert_eq!((&reply["acked"], &reply["missed"]), (&json!(from + 2), &json!(false)));
    assert_eq!(kinds(&mut stage), ["acked"]);
    // Who is dead is not waited for.
    stage.call("a", json!({ "applied": from + 2, "news": ["three"] }));
    stage.pass(3 * SECOND);
    assert_eq!(stage.call("a", json!({ "applied": from + 3 }))["acked"], from + 3);
}

#[test]
fn the_log_of_news_ends_somewhere_and_says_so() {
    let mut stage = Stage::begun(vec![]);
    let from = stage.call("a", json!({}))["gen"].as_u64().unwrap();
    for _ in 0..11 {
        stage.call("a", json!({ "news": vec!["x"; 100], "applied": from }));
    }
    let reply = stage.call("b", json!({ "applied": from + 100 }));
    assert_eq!((reply["news"].as_array().unwrap().len(), &reply["missed"]), (100, &json!(false)));
    let reply = stage.call("b", json!({ "applied": from + 99 }));
    assert_eq!((&reply["news"], &reply["missed"]), (&json!([]), &json!(true)));
    // A number of another life.
    let reply = stage.call("b", json!({ "applied": from + 2_000 }));
    assert_eq!((&reply["news"], &reply["missed"]), (&json!([]), &json!(true)));
    let kept = stage.engine.with_keys(|keys| keys.size(&format!("{PREFIX}news")));
    assert_eq!(kept, 1_000);
}

#[test]
fn a_stop_holds_its_budget_until_it_ends_or_is_resumed() {
    let meters = vec![meter("omni/a", 9, 10 * SECOND), meter("other", 9, 10 * SECOND)];
    let mut stage = Stage::begun(meters);
    let end = stage.now + 5 * SECOND;
    let reply = stage.call("a", json!({ "stops": [{ "b": "omni", "until": end }] }));
    assert_eq!(
        (kinds(&mut stage), &reply["stops"]),
        (vec!["stops".into()], &json!({ "omni": 5 * SECOND }))
    );
    let other = json!({ "t": 2, "c": 0, "who": "x", "at": 1, "ways": [[1]] });
    let all = json!([head(1, 0, "x", 0), other]);
    let reply = stage.call("a", json!({ "heads": all }));
    assert_eq!((granted(&reply), &reply["look"]), (vec![2], &json!(5 * SECOND)));
    stage.call("a", json!({ "stops": [{ "b": "*", "until": -1 }] }));
    stage.pass(6 * SECOND);
    let reply = stage.call("a", json!({}));
    assert_eq!(
        (granted(&reply), &reply["look"], &reply["stops"]),
        (vec![], &json!(-1), &json!({ "*": -1 }))
    );
    stage.pushes();
    stage.call("b", json!({ "stops": [{ "b": "*", "until": 0 }] }));
    assert_eq!(looks(&mut stage, "a"), [stage.now]);
    assert_eq!(granted(&stage.call("a", json!({}))), [1]);
}

#[test]
fn whatever_is_sent_the_state_stays_sound_and_small() {
    let mut stage = Stage::begun(vec![meter("omni", 5, 10 * SECOND)]);
    for request in ["5", "null", "[]", "{}", r#"{"i":"a b","n":1}"#, r#"{"i":"a","n":"1"}"#, "{"] {
        assert!(stage.say(request).is_err(), "{request}");
    }
    let wrong = [
        json!("x"),
        json!(-1),
        json!(1e300),
        json!({}),
        json!([[[[]]]]),
        json!(true),
        json!([null]),
    ];
    let fields = [
        "id", "expect", "tol", "turn", "live", "stepped", "trust", "deaf", "info", "meters",
        "heads", "returns", "sent", "reports", "stops", "news", "applied", "table",
    ];
    for field in fields {
        for value in &wrong {
            let mut more = json!({ "heads": [head(1, 0, "x", 0)] });
            more[field] = value.clone();
            stage.call("a", more);
        }
    }
    let entries = [
        (
            "heads",
            json!({ "t": 1, "c": -7, "who": 5, "at": "x", "ways": [[9], [-1], [0.5], [], "x"] }),
        ),
        ("sent", json!(["m", 1e300, [0, 99]])),
        (
            "reports",
            json!({ "k": "limited", "m": [0, 77], "g": -5, "retry": 1e300, "jitter": 1e9 }),
        ),
        ("stops", json!({ "b": "x".repeat(1_000), "until": 5 })),
        (
            "meters",
            json!({ "name": "omni", "limit": 0.1, "span": -5, "reserve": 1e9, "pace": { "each": 0 } }),
        ),
    ];
    for (field, entry) in entries {
        stage.call("b", json!({ field: vec![entry; 5_000] }));
    }
    for n in 0..2_000 {
        let who = "w".repeat(10_000);
        let heads: Vec<Value> = (0..100).map(|t| head(t, 1, &format!("{t}{who}"), 0)).collect();
        stage.pass(SECOND / 100);
        let instance = format!("i{n}");
        let stops = json!([{ "b": instance, "until": -1 }]);
        if n < 300 {
            stage.call(&instance, json!({ "heads": heads, "stops": stops }));
        } else {
            stage.call(&instance, json!({ "info": "x".repeat(9_000) }));
        }
    }
    let size = |name: &str| stage.engine.with_keys(|keys| keys.size(&format!("{PREFIX}{name}")));
    assert!(size("state") < 4_000_000, "{}", size("state"));
    assert!(size("instances") <= 1_025, "{}", size("instances"));
    assert!(size("ledger:omni") <= 1_020, "{}", size("ledger:omni"));
}

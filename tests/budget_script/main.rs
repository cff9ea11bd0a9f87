//! The script of the shared budget, rule by rule.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "../engine/mod.rs"]
mod engine;

#[test]
fn a_first_call_is_answered() {
    let engine = engine::Engine::new();
    let keys: Vec<String> = ["state", "instances", "news", "ledger:omni"].map(String::from).into();
    let reply = engine.run(1_000_000_000, &keys, &[r#"{"i":"a","n":1,"trust":true}"#, "p:"]);
    assert!(reply.unwrap().contains(r#""status":"newcomer","grants":[],"look":-1"#));
}

//! A token is replaced while calls flow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::AUTHORIZATION;
use omnigate::fake_omni::{Key, KeyKind};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::harness::{House, Plan, key, until};

/// Whether the last arrival bore this key.
fn last_bears(house: &House, key: &Key) -> bool {
    let ours = format!("Bearer {}", key.token());
    let last = house.omni.arrivals().pop();
    last.is_some_and(|last| last.headers[AUTHORIZATION].as_bytes() == ours.as_bytes())
}

#[tokio::test]
async fn a_token_that_is_replaced_under_load_fails_no_call() {
    let [first, second, third] = [
        key(),
        Key::made_up(KeyKind::Organization, "two"),
        Key::made_up(KeyKind::Organization, "three"),
    ];
    let house = Plan::default().build().await;
    let gateway = Arc::new(house.start().await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (gateway, stop) = (gateway.clone(), stop.clone());
        callers.spawn(async move {
            let mut caller = gateway.caller().await;
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = caller.get("/api/v1/whoami").await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                calls += 1;
            }
            calls
        });
    }
    until(async || last_bears(&house, &first).then_some(())).await;

    // Told by a signal, it looks at once.
    house.omni.set_keys(vec![first.clone(), second.clone()]);
    house.keep(&second);
    gateway.signal(Signal::HUP);
    gateway.says("credential refreshed").await;
    until(async || last_bears(&house, &second).then_some(())).await;
    // What is under way may still bear the old one; what comes from now on does not.
    let told = house.omni.arrived();

    // Told by nobody, it looks every few seconds.
    house.omni.set_keys(vec![second.clone(), third.clone()]);
    house.keep(&third);
    until(async || last_bears(&house, &third).then_some(())).await;
    let seen = house.omni.arrived();
    assert_eq!(gateway.events("credential refreshed").len(), 2);

    stop.store(true, Ordering::Relaxed);
    let mut calls = 0;
    while let Some(made) = callers.join_next().await {
        calls += made.unwrap();
    }
    println!("{calls} calls, all 200: new token by SIGHUP at call {told}, by the watch at {seen}");
    assert_eq!(calls, house.omni.arrived());
    for key in [&first, &second, &third] {
        assert_eq!(house.omni.distinct_authorizations(key.owner()), 1);
    }
}

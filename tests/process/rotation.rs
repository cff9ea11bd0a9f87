//! A token is replaced while calls flow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::AUTHORIZATION;
use omnigate::fake_omni::{Arrival, Key, KeyKind, Settings};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::safe::quick;
use crate::harness::{House, Plan, SECOND, key, replace, until};

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

/// How many calls wait while a program's answer changes.
const CALLS: usize = 200;

/// So fast that the calls take a few seconds.
const FAST: &str = "limit = 80\nwindow = \"1s\"\nprofile = \"smooth\"\nmax_wait = \"1h\"";

/// The longest that a program may take to be run, on a machine with much else to do.
const A_MOMENT: Duration = Duration::from_millis(700);

/// Queues the calls, changes what the program prints after a quarter of them, and says how long
/// after the change the last one left that bore the old value.
async fn last_old_one(name: &str, lines: [String; 2], rotate: impl FnOnce()) -> Duration {
    let another = Key::made_up(KeyKind::Organization, "another");
    let usual = Plan::default();
    let fake = Settings { keys: vec![key(), another], ..usual.fake };
    let house = Plan { budget: FAST.to_owned(), vault: lines, fake, ..usual }.build().await;
    let gateway = Arc::new(house.start().await);
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let gateway = gateway.clone();
        calls.spawn(async move { gateway.get("/api/v1/whoami").await });
    }
    house.omni.wait_for_arrivals(CALLS / 4).await;
    let (rotated, waiting) = (Instant::now(), CALLS - house.omni.arrived());
    rotate();
    while let Some(answer) = calls.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    let arrivals = house.omni.arrivals();
    let ours = format!("Bearer {}", key().token());
    let is_old = |one: &Arrival| one.headers[AUTHORIZATION] == ours;
    let last = arrivals.iter().filter(|one| is_old(one)).map(|one| one.at).max().unwrap();
    let (old, last) = (arrivals.iter().filter(|one| is_old(one)).count(), last - rotated);
    let most = house.omni.highest_in_any_window(SECOND);
    println!(
        "{name}: {waiting} calls waited; {old} sent with the old value, the last of them {last:?} \
         after the change; {} with the new one; {most} at most in a second",
        arrivals.len() - old
    );
    assert_eq!(arrivals.len(), CALLS);
    assert!(old < CALLS && most <= 80, "{name}");
    assert_eq!(gateway.events("credential refreshed").len(), 1, "{name}");
    last
}

fn expiring(key: &Key, seconds: u64) -> String {
    let until = SystemTime::now() + Duration::from_secs(seconds);
    let until = until.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    format!("{{\"token\": \"{}\", \"expires_at\": {until}}}", key.token())
}

#[tokio::test]
async fn a_program_whose_answer_runs_out_is_asked_again_under_load_and_no_call_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answer");
    let another = Key::made_up(KeyKind::Organization, "another");
    replace(&file, expiring(&key(), 2).as_bytes());
    let begun = Instant::now();
    let last = last_old_one("exec with expires_at", quick(&file, ""), || {
        replace(&file, expiring(&another, 3600).as_bytes());
        assert!(begun.elapsed() < 2 * SECOND, "too late to see it");
    });
    let last = last.await;
    assert!(last < 2 * SECOND, "{last:?}: the old value was used after its end");
}

#[tokio::test]
async fn a_program_that_is_asked_every_second_rotates_under_load_and_no_call_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answer");
    replace(&file, key().token().as_bytes());
    let another = Key::made_up(KeyKind::Organization, "another");
    let lines = quick(&file, "refresh = \"1s\"");
    let rotate = || replace(&file, another.token().as_bytes());
    let last = last_old_one("exec with refresh", lines, rotate).await;
    assert!(last <= SECOND + A_MOMENT, "{last:?}");
}

#[tokio::test]
async fn a_program_is_asked_again_when_somebody_says_so() {
    let [first, second, third] =
        ["org", "two", "three"].map(|owner| Key::made_up(KeyKind::Organization, owner));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answer");
    replace(&file, first.token().as_bytes());
    let usual = Plan::default();
    let fake = Settings { keys: vec![first.clone(), second.clone(), third.clone()], ..usual.fake };
    let house = Plan { vault: quick(&file, ""), fake, ..usual }.build().await;
    let gateway = house.start().await;
    assert_eq!(gateway.get("/api/v1/whoami").await.status, 200);
    assert!(last_bears(&house, &first));

    replace(&file, second.token().as_bytes());
    assert_eq!(gateway.get("/api/v1/whoami").await.status, 200);
    assert!(last_bears(&house, &first), "nobody has said anything");
    gateway.signal(Signal::HUP);
    gateway.says("credential refreshed").await;
    assert_eq!(gateway.get("/api/v1/whoami").await.status, 200);
    assert!(last_bears(&house, &second));

    replace(&file, third.token().as_bytes());
    assert_eq!(gateway.reload().await["state"], "ready");
    assert_eq!(gateway.get("/api/v1/whoami").await.status, 200);
    assert!(last_bears(&house, &third));
}

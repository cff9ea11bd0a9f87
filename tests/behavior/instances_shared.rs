//! Several gateways that share a budget by the shipped script: what is written through one, no other
//! shows as it was before, however badly they hear of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use omnigate::admin::Desk;
use omnigate::base::RouteId;
use omnigate::fake_omni::write_body;
use omnigate::telemetry::Exposition;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cache_writes::{is_hit, keeping, revision};
use crate::harness::{Dice, House, Plan, SECOND, Store, Way, post};

const FOLDERS: &str = "/api/v1/folders";

/// Three gateways before one Omni, and the way of each to what they share.
async fn three() -> (Vec<House>, Vec<Arc<Way>>) {
    let store = Store::new();
    let first = keeping().build().await;
    let mut houses = vec![first];
    for _ in 1..3 {
        let omni = Some(houses[0].omni.clone());
        houses.push(Plan { omni, ..keeping() }.build().await);
    }
    let mut ways = Vec::new();
    for (nth, house) in houses.iter().enumerate() {
        ways.push(store.takes_in(house, &format!("gate-{nth}")).await);
    }
    (houses, ways)
}

/// Writes through the first, and looks through the others at once. How long the write took.
async fn write_and_look(houses: &[House], nth: u64) -> Duration {
    for house in houses {
        house.caller().await.get(FOLDERS).await;
    }
    let began = Instant::now();
    let made = post(FOLDERS, write_body(&format!("f{nth}")));
    let made = houses[0].caller().await.call(made).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let took = began.elapsed();
    for house in houses {
        let answer = house.caller().await.get(FOLDERS).await;
        assert_eq!(revision(&answer), Some(nth), "{}", answer.header("cache-status"));
    }
    took
}

#[tokio::test(start_paused = true)]
async fn after_a_write_through_one_all_show_it_and_the_write_waits_no_longer_than_it_must() {
    let (houses, _ways) = three().await;
    for nth in 1..=20 {
        let took = write_and_look(&houses, nth).await;
        assert!(took < SECOND / 2, "{took:?}");
        // And it is kept by all of them again.
        for house in &houses {
            assert!(is_hit(&house.caller().await.get(FOLDERS).await));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_shows_what_was_before_a_write_of_which_it_hears_late_or_not_at_all() {
    for (deaf, takes) in [(true, 0), (false, 300), (true, 300), (false, 200)] {
        let (houses, ways) = three().await;
        ways[1].deaf.store(deaf, Ordering::Relaxed);
        *ways[1].takes.lock().unwrap() = Duration::from_millis(takes);
        let mut longest = Duration::ZERO;
        for nth in 1..=10 {
            longest = longest.max(write_and_look(&houses, nth).await);
            sleep(SECOND / 7 * nth as u32).await;
        }
        println!("deaf: {deaf}, {takes} ms each way: a write took {longest:?} at most");
        assert!(longest < SECOND * 5 / 2, "{longest:?}");
    }
}

/// They write to the same path, so what they tell differs in nothing but who told it, and when.
#[tokio::test(start_paused = true)]
async fn many_who_write_the_same_at_once_through_all_read_what_each_has_written() {
    for seed in 0..6 {
        let (houses, ways) = three().await;
        for (nth, way) in ways.iter().enumerate() {
            *way.takes.lock().unwrap() = Duration::from_millis([1, 20, 80][(nth + seed) % 3]);
        }
        let (houses, answered) = (Arc::new(houses), Arc::new(AtomicU64::new(0)));
        let mut writers = JoinSet::new();
        for nth in 0..9 {
            let (houses, answered) = (houses.clone(), answered.clone());
            let mut dice = Dice(seed as u64 * 100 + nth as u64);
            writers.spawn(async move {
                for round in 0..12 {
                    sleep(SECOND.mul_f64(dice.share() / 4.0)).await;
                    let made = post(FOLDERS, write_body(&format!("f{nth}-{round}")));
                    let made = houses[nth % 3].caller().await.call(made).await;
                    assert_eq!(made.status, StatusCode::CREATED);
                    answered.fetch_add(1, Ordering::SeqCst);
                    for house in &*houses {
                        let before = answered.load(Ordering::SeqCst);
                        let answer = house.caller().await.get(FOLDERS).await;
                        let shown = revision(&answer).unwrap();
                        assert!(shown >= before, "seed {seed}: {shown} of {before}");
                    }
                }
            });
        }
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
    }
}

/// What was told over it may have been told, or not; it is told again.
#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_while_something_is_told_leaves_nobody_behind() {
    let (houses, ways) = three().await;
    for nth in 0..10 {
        let (breaks, writes) = (nth as usize % 3, (nth as usize + 1) % 3);
        for (house, counts) in [(&houses[breaks], 2 * nth + 1), (&houses[writes], 2 * nth + 2)] {
            if counts % 2 == 1 {
                ways[breaks].breaks.store(true, Ordering::Relaxed);
            }
            for house in &houses {
                house.caller().await.get(FOLDERS).await;
            }
            let made = post(FOLDERS, write_body(&format!("f{counts}")));
            assert_eq!(house.caller().await.call(made).await.status, StatusCode::CREATED);
            sleep(2 * SECOND).await;
            for house in &houses {
                let answer = house.caller().await.get(FOLDERS).await;
                assert_eq!(revision(&answer), Some(counts), "{nth}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_purge_through_one_reaches_all() {
    let (houses, _ways) = three().await;
    for route in [None, Some(RouteId::new("all"))] {
        for house in &houses {
            house.caller().await.get(FOLDERS).await;
            assert!(is_hit(&house.caller().await.get(FOLDERS).await));
        }
        houses[1].desk().purge(route).await.unwrap();
        for house in &houses {
            assert!(!is_hit(&house.caller().await.get(FOLDERS).await));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_who_shares_is_seen_by_operators() {
    let (houses, _ways) = three().await;
    for (nth, house) in houses.iter().enumerate() {
        let desk = house.desk();
        // From the first look on it is asked for.
        desk.status();
        sleep(2 * SECOND).await;
        assert_eq!(desk.readiness().reasons, []);
        let status = desk.status();
        assert_eq!(status.shared.unwrap().standing, "joined");
        let mut others = status.instances.iter().skip(1).map(|one| one.instance.as_str());
        let expected: Vec<String> =
            (0..3).filter(|other| *other != nth).map(|other| format!("gate-{other}")).collect();
        assert!(status.instances[0].is_this && others.by_ref().eq(expected.iter()));
        assert!(status.instances.iter().skip(1).all(|one| one.heard_s.is_some_and(|s| s < 11.0)));
        let metrics = desk.metrics(Exposition::Classic);
        assert!(metrics.contains("\nomnigate_shared_budget_up{} 1\n"));
        assert!(metrics.contains("\nomnigate_instances{} 3\n"), "{metrics}");
    }
}

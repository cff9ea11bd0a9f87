//! Who waits for whom: people beside a crawl, callers beside each other, classes under load.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::harness::{House, Plan, SECOND, ask};

/// Callers of each class; they say their names.
const CLASSES: &str = r#"
    [callers.crawler]
    priority = "batch"
    [callers.person]
    priority = "interactive"
    [callers.service]
    priority = "normal"
"#;

async fn house(budget: &str, callers: &str) -> Arc<House> {
    let budget = format!("{budget}\nmax_queued = 20000\nmax_wait = \"24h\"");
    println!("[budgets.omni] {}; {}", one_line(&budget), one_line(callers));
    Arc::new(Plan { budget, more: callers.to_owned(), ..Plan::default() }.build().await)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// When each call arrived, and who sent it, in order of arrival.
fn arrivals(house: &House) -> Vec<(Instant, String)> {
    let name = |uri: &http::Uri| uri.query().unwrap_or_default().to_owned();
    house.omni.arrivals().iter().map(|one| (one.at, name(&one.target))).collect()
}

/// A crawl of so many calls at once. Ends when all are answered.
fn crawl(house: &Arc<House>, calls: usize) -> tokio::task::JoinHandle<usize> {
    let house = house.clone();
    tokio::spawn(async move {
        let mut answers = Vec::new();
        for _ in 0..calls {
            answers.push(house.call(ask("/api/v1/labels?crawler", "crawler")).await);
        }
        let mut good = 0;
        for answer in answers {
            good += usize::from(answer.await.unwrap().status() == 200);
        }
        good
    })
}

fn makespan(house: &House, who: &str) -> f64 {
    let all = arrivals(house);
    let mut own = all.iter().filter(|(_, name)| name == who).map(|(at, _)| *at);
    let first = own.next().unwrap();
    (own.next_back().unwrap() - first).as_secs_f64()
}

/// The value that so great a share of all does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() as f64 * share).ceil() as usize).max(1) - 1]
}

async fn a_person_beside_a_crawl(backlog: usize) {
    let budget = "profile = \"smooth\"";
    let alone = house(budget, CLASSES).await;
    assert_eq!(crawl(&alone, backlog).await.unwrap(), backlog);
    let alone = makespan(&alone, "crawler");

    let house = house(budget, CLASSES).await;
    let crawl = crawl(&house, backlog);
    let mut waits = Vec::new();
    let start = Instant::now();
    for nth in 1.. {
        sleep_until(start + 7 * nth * SECOND).await;
        if crawl.is_finished() {
            break;
        }
        let call = house.call(ask("/api/v1/labels?person", "person")).await.await.unwrap();
        assert_eq!(call.status(), 200);
        waits.push(call.took.as_secs_f64());
    }
    assert_eq!(crawl.await.unwrap(), backlog);
    waits.sort_by(f64::total_cmp);
    let (p50, p99) = (quantile(&waits, 0.5), quantile(&waits, 0.99));
    let highest = quantile(&waits, 1.0);
    let (beside, calls) = (makespan(&house, "crawler"), waits.len() as f64);
    let slots = calls * 61.0 / 60.0;
    println!(
        "{backlog} batch calls queued, {calls} interactive, one each 7 s: waits p50 {p50:.3} s, \
         p99 {p99:.3} s (bar 1.2 s), highest {highest:.3} s; crawl {alone:.1} s alone, \
         {beside:.1} s beside, {:.1} s more (bar {slots:.1} s)",
        beside - alone
    );
    assert!(p99 <= 1.2, "{p99}");
    // A tenth of a slot over all: timers are whole milliseconds, and each window may lose one.
    assert!(beside - alone <= slots + 0.1, "{alone} {beside}");
    assert!(house.omni.highest_in_any_window(60 * SECOND) <= 60);
}

#[tokio::test(start_paused = true)]
async fn a_person_waits_a_second_beside_a_crawl_that_loses_no_slot_but_the_persons() {
    a_person_beside_a_crawl(900).await;
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(start_paused = true)]
#[ignore = "a long crawl; tests/run --all runs it"]
async fn a_person_waits_a_second_beside_a_crawl_of_5_000() {
    a_person_beside_a_crawl(5_000).await;
}

/// A page that makes six interactive calls at once. A send counts for the window and the guard, so
/// six slots are free again once in 61 s.
async fn a_page_beside_a_crawl(backlog: usize, pages: u32) {
    for profile in ["burst", "smooth"] {
        let house = house(&format!("profile = \"{profile}\"\nreserve = 6"), CLASSES).await;
        let crawl = crawl(&house, backlog);
        let mut longest = 0.0f64;
        let start = Instant::now();
        let mut least_queued = usize::MAX;
        for nth in 0..pages {
            // The first is no special moment of the window.
            sleep_until(start + SECOND.mul_f64(23.4) + 61 * nth * SECOND).await;
            least_queued = least_queued.min(house.queued());
            let mut page = Vec::new();
            for _ in 0..6 {
                page.push(house.call(ask("/api/v1/labels?person", "person")).await);
            }
            for call in page {
                let call = call.await.unwrap();
                assert_eq!(call.status(), 200);
                longest = longest.max(call.took.as_secs_f64());
            }
        }
        println!(
            "{profile}: {backlog} batch calls queued ({least_queued} or more at each page), {pages} \
             pages of six interactive calls each 61 s: longest wait {:.1} ms (bar 50 ms)",
            longest * 1e3
        );
        assert!(least_queued > 100, "the crawl was over");
        assert!(longest <= 0.05, "{profile}: {longest} s");
        assert!(house.omni.highest_in_any_window(60 * SECOND) <= 60);
        crawl.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_reserve_a_page_of_six_calls_never_waits() {
    a_page_beside_a_crawl(800, 12).await;
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(start_paused = true)]
#[ignore = "a long crawl; tests/run --all runs it"]
async fn with_a_reserve_a_page_of_six_calls_never_waits_beside_5_000() {
    a_page_beside_a_crawl(5_000, 80).await;
}

/// Keeps so many calls of a caller queued, for ever.
fn keep_queued(house: &Arc<House>, who: &'static str, queued: usize, workers: &mut JoinSet<()>) {
    for _ in 0..queued {
        let house = house.clone();
        workers.spawn(async move {
            let mut caller = house.caller().await;
            loop {
                let path = format!("/api/v1/labels?{who}");
                assert_eq!(caller.call(ask(&path, who)).await.status, 200);
            }
        });
    }
}

const TEN: [&str; 10] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"];

async fn ten_callers(backlog: usize, minutes: u32) {
    let names: String =
        TEN.iter().chain(&["trickle"]).map(|name| format!("[callers.{name}]\n")).collect();
    let house = house("profile = \"smooth\"", &names).await;
    let start = Instant::now();
    let mut workers = JoinSet::new();
    keep_queued(&house, "c0", backlog, &mut workers);
    for name in &TEN[1..] {
        keep_queued(&house, name, 20, &mut workers);
    }
    // Once every half a minute is a third of a fair share.
    let mut waits: Vec<f64> = Vec::new();
    sleep(70 * SECOND).await;
    while start.elapsed() < minutes * 60 * SECOND {
        let call = house.call(ask("/api/v1/labels?trickle", "trickle")).await.await.unwrap();
        waits.push(call.took.as_secs_f64());
        sleep(SECOND.mul_f64(30.7)).await;
    }
    workers.shutdown().await;
    let all: Vec<_> = arrivals(&house).into_iter().filter(|(_, name)| name != "trickle").collect();
    let count = |part: &[(Instant, String)]| {
        let mut grants: BTreeMap<&str, usize> = TEN.iter().map(|name| (*name, 0)).collect();
        for (_, name) in part {
            *grants.get_mut(name.as_str()).unwrap() += 1;
        }
        grants.into_values().collect::<Vec<_>>()
    };
    let mut widest = 0;
    // All whole windows, but for the moment in which the callers came one after the other.
    for (nth, (at, _)) in all.iter().enumerate().skip_while(|(_, (at, _))| *at == start) {
        let end = all.partition_point(|(other, _)| *other < *at + 120 * SECOND);
        if end == all.len() {
            break;
        }
        let grants = count(&all[nth..end]);
        widest = widest.max(grants.iter().max().unwrap() - grants.iter().min().unwrap());
    }
    let grants: Vec<f64> = count(&all).into_iter().map(|n| n as f64).collect();
    let sum: f64 = grants.iter().sum();
    let jain = sum * sum / (10.0 * grants.iter().map(|n| n * n).sum::<f64>());
    let longest = waits.iter().copied().fold(0.0, f64::max);
    // Ten others, and its own slot.
    let round = 11.0 * 61.0 / 60.0;
    println!(
        "{minutes} minutes, ten callers, one with {backlog} queued, nine with 20: grants {grants:?}, \
         over any 2 minutes they differ by {widest} (bar 1), Jain's index {jain:.4} (bar 0.98); \
         {} calls of one that trickles waited {longest:.2} s at most (bar {round:.2} s)",
        waits.len()
    );
    assert!(widest <= 1);
    assert!(jain >= 0.98);
    assert!(longest <= round + 0.01);
}

#[tokio::test(start_paused = true)]
async fn ten_callers_share_alike_whatever_each_has_queued() {
    ten_callers(1_000, 12).await;
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(start_paused = true)]
#[ignore = "a long queue; tests/run --all runs it"]
async fn ten_callers_share_alike_beside_5_000_queued() {
    ten_callers(5_000, 60).await;
}

#[tokio::test(start_paused = true)]
async fn endless_interactive_load_leaves_one_grant_in_ten_to_each_lower_class() {
    for profile in ["smooth", "strict", "burst"] {
        let house = house(&format!("profile = \"{profile}\""), CLASSES).await;
        let mut workers = JoinSet::new();
        for who in ["person", "service", "crawler"] {
            keep_queued(&house, who, 30, &mut workers);
        }
        sleep(600 * SECOND).await;
        workers.shutdown().await;
        // The first calls went before the others had come.
        let all: Vec<_> = arrivals(&house).into_iter().skip(60).collect();
        let longest = |who: &str| {
            all.split(|(_, name)| name == who).map(<[_]>::len).max().unwrap_or(usize::MAX)
        };
        let (batch, normal) = (longest("crawler"), longest("service"));
        let own = all.iter().filter(|(_, name)| name == "crawler").count();
        println!(
            "{profile}: of {} grants under endless interactive and normal load {own} were batch; at \
             most {batch} others in a row before one of batch, {normal} before one of normal (bar 9)",
            all.len()
        );
        assert!(batch <= 9 && normal <= 9);
    }
}

//! Never the 61st, whatever Omni counts by.

use omnigate::fake_omni::{Algorithm, Limit, Settings};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::harness::{House, Plan, SECOND, fake};

/// What one run against one upstream model showed.
struct Run {
    refusals: usize,
    highest: usize,
    in_order: bool,
    makespan: f64,
    longest_gap_after_first_window: f64,
}

async fn house(profile: &str, algorithm: Algorithm) -> House {
    let limit = Limit::new(algorithm, 60, 60 * SECOND);
    Plan {
        budget: format!("profile = \"{profile}\"\nmax_queued = 20000\nmax_wait = \"24h\""),
        fake: Settings { limit, ..fake() },
        transit: SECOND.mul_f64(0.9),
        ..Plan::default()
    }
    .build()
    .await
}

/// Calls that are all made at once, each on a connection of its own; their serial stands in the path.
async fn crowd(house: &House, calls: usize, first: usize) -> usize {
    let mut answers = JoinSet::new();
    for serial in first..first + calls {
        let mut caller = house.caller().await;
        let path = format!("/api/v1/labels?serial={serial}");
        answers.spawn(async move { caller.get(&path).await.status.as_u16() });
        // Each takes its place in the queue before the next one comes.
        tokio::task::yield_now().await;
    }
    let mut good = 0;
    while let Some(status) = answers.join_next().await {
        good += usize::from(status.unwrap() == 200);
    }
    good
}

async fn run(profile: &str, algorithm: Algorithm, backlog: usize, bursts: usize) -> Run {
    let house = house(profile, algorithm).await;
    crowd(&house, backlog, 0).await;
    let departures = house.road.departures();
    let makespan = departures.last().unwrap().at - departures[0].at;
    let first_window = departures[0].at + 61 * SECOND;
    let longest_gap = departures
        .windows(2)
        .filter(|pair| pair[0].at >= first_window)
        .map(|pair| (pair[1].at - pair[0].at).as_secs_f64())
        .fold(0.0, f64::max);
    for nth in 0..bursts {
        // Idle for a time that is no multiple of anything.
        sleep(SECOND.mul_f64(67.3 + 13.7 * nth as f64)).await;
        crowd(&house, 90, backlog + 90 * nth).await;
    }
    let serials: Vec<usize> = house
        .road
        .departures()
        .iter()
        .map(|departure| departure.target.rsplit('=').next().unwrap().parse().unwrap())
        .collect();
    Run {
        refusals: house.omni.refusals(),
        highest: house.omni.highest_in_any_window(60 * SECOND),
        in_order: serials.is_sorted(),
        makespan: makespan.as_secs_f64(),
        longest_gap_after_first_window: longest_gap,
    }
}

/// Every profile against every model; prints what it measured.
async fn all_models(backlog: usize, bursts: usize) {
    println!("backlog of {backlog} calls, {bursts} bursts of 90 after idle, transit 0-0.9 s");
    println!(
        "{:<7} {:<32} {:>4} {:>8} {:>10} {:>7} {:>9}",
        "profile", "upstream counts by", "429", "highest", "makespan", "ratio", "gap"
    );
    let n = backlog as f64;
    for (profile, bar) in [
        ("smooth", Some((n - 1.0) * 61.0 / 60.0)),
        ("strict", Some((n - 2.0) * 61.0 / 59.0)),
        ("burst", None),
    ] {
        for algorithm in Algorithm::ALL {
            let run = run(profile, algorithm, backlog, bursts).await;
            let ratio = bar.map_or(1.0, |bar| run.makespan / bar);
            println!(
                "{profile:<7} {algorithm:<32} {:>4} {:>8} {:>8.1} s {ratio:>7.4} {:>7.3} s",
                run.refusals, run.highest, run.makespan, run.longest_gap_after_first_window
            );
            assert!(run.highest <= 60, "{profile}, {algorithm}: {} arrivals", run.highest);
            // What Omni refused is sent again, later.
            assert!(run.in_order || run.refusals > 0, "{profile}, {algorithm}: out of order");
            let may_refuse = algorithm == Algorithm::WeightedTwoWindow && profile != "strict";
            assert!(run.refusals == 0 || may_refuse, "{profile}, {algorithm}: {}", run.refusals);
            if bar.is_some() {
                assert!(ratio <= 1.01, "{profile}, {algorithm}: makespan × {ratio}");
            }
            if profile == "smooth" {
                let gap = run.longest_gap_after_first_window;
                assert!(gap <= 1.1, "{algorithm}: a silence of {gap} s");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_profile_sends_the_61st_whatever_omni_counts_by() {
    all_models(300, 3).await;
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(start_paused = true)]
#[ignore = "minutes of work; tests/run --all runs it"]
async fn no_profile_sends_the_61st_in_10_000_calls() {
    all_models(10_000, 20).await;
}

#[tokio::test(start_paused = true)]
async fn an_endless_backlog_of_smooth_has_no_silence_after_its_first_window() {
    let house = house("smooth", Algorithm::Off).await;
    let start = Instant::now();
    assert_eq!(crowd(&house, 700, 0).await, 700);
    let departures = house.road.departures();
    let gap = departures
        .windows(2)
        .filter(|pair| pair[0].at >= start + 61 * SECOND)
        .map(|pair| (pair[1].at - pair[0].at).as_secs_f64())
        .fold(0.0, f64::max);
    println!("longest silence between two sends after the first window: {gap:.4} s (bar 1.1 s)");
    assert!(gap <= 1.1);
}

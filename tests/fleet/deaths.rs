//! Instances that die, stand still, and come again.

use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use crate::harness::crowd::Group;
use crate::harness::{Fleet, Plan, SECOND, SPAN, Shared, Size, WINDOW, figure, machine};

/// How full the first spans after a moment were.
fn after(fleet: &Fleet, what: &str, moment: Instant) -> f64 {
    let seen = fleet.seen();
    let spans: Vec<_> = (0..3)
        .map(|nth| seen.throughput(moment + nth * SPAN, moment + (nth + 1) * SPAN) * 100.0)
        .collect();
    let silence = seen.longest_silence(moment, moment + 3 * SPAN).as_millis();
    figure(format!("after {what}: throughput by span {spans:.0?} %, longest silence {silence} ms"));
    spans[1]
}

/// Kills one, stops one for three windows, and lets one die and come again all the time.
async fn deaths(size: Size) {
    let _machine = machine(size).await;
    let instances = size.pick(4, 8);
    let mut fleet = Plan::of(instances, Some(Shared::hold())).start().await;
    let groups: Vec<_> = (0..instances).map(|seat| Group::of(8, "anonymous", seat)).collect();
    let crowd = fleet.crowd(&groups);
    fleet.warm().await;

    let killed = Instant::now();
    fleet.seats[0].kill().await;
    sleep(size.pick(SECOND, 4 * SPAN)).await;
    let stopped = Instant::now();
    fleet.seats[1].signal(Signal::STOP);
    sleep_until(stopped + 3 * WINDOW).await;
    let continued = Instant::now();
    fleet.seats[1].signal(Signal::CONT);

    sleep(size.pick(SECOND, 3 * SPAN)).await;
    let restarting = Instant::now();
    let end = restarting + size.pick(2 * SPAN, 60 * SECOND);
    let mut restarts = 0;
    while Instant::now() < end {
        let next = Instant::now() + SECOND;
        fleet.seats[2].kill().await;
        fleet.seats[2].start().await;
        restarts += 1;
        sleep_until(next).await;
    }
    sleep_until(continued + 3 * SPAN).await;
    crowd.stop().await;
    let full = [
        after(&fleet, "a kill -9", killed),
        after(&fleet, "a SIGSTOP", stopped),
        after(&fleet, "a SIGCONT", continued),
    ];
    let seen = fleet.seen();
    let rest = seen.throughput(restarting, end) * 100.0;
    figure(format!("beside {restarts} restarts, one a second: throughput {rest:.1} %"));
    figure(format!(
        "calls whose connection was lost: {}",
        seen.ended_otherwise(&[200, 503], killed - SPAN)
    ));
    seen.within_the_limit("deaths");
    for (nth, full) in full.into_iter().enumerate() {
        size.hold(full >= 97.0, format!("{nth}: {full}"));
    }
    assert!(rest > 30.0, "the others were held up: {rest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_holds_while_instances_die_and_come_again() {
    deaths(Size::Short).await;
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; tests/run --all runs it"]
async fn the_others_send_everything_within_a_window_after_a_death() {
    deaths(Size::Full).await;
}

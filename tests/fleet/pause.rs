//! Omni's own limit strikes at one instance.

use omnigate::fake_omni::{Fault, RetryAfter, Rule};
use tokio::time::{Duration, Instant, sleep, sleep_until};

use crate::harness::crowd::Group;
use crate::harness::{Plan, SECOND, SPAN, Shared, Size, figure, machine};

const INSTANCES: usize = 4;

/// What `Retry-After` says.
const PAUSE: Duration = Duration::from_secs(3);

/// How long the probe's answer takes.
const PROBE: Duration = Duration::from_millis(700);

async fn refused(size: Size) {
    let _machine = machine(size).await;
    let fleet = Plan::of(INSTANCES, Some(Shared::hold())).start().await;
    let groups: Vec<_> = (0..INSTANCES).map(|seat| Group::of(8, "anonymous", seat)).collect();
    let crowd = fleet.crowd(&groups);
    fleet.warm().await;
    for nth in 0..size.pick(1, 5) {
        let before = fleet.omni.fake.arrived();
        let block = Fault::Block(RetryAfter::Seconds(PAUSE.as_secs()));
        fleet.omni.fake.fail(Rule::new(block).times(1));
        fleet.omni.fake.wait_for_arrivals(before + 1).await;
        let struck = Instant::now();
        // Nobody sends any more by then; the next is the probe.
        sleep(SECOND).await;
        fleet.omni.fake.fail(Rule::new(Fault::SlowHead(PROBE)).times(1));
        sleep_until(struck + PAUSE + PROBE + 2 * SPAN).await;
        let seen = fleet.seen();
        let refused = seen.arrived[before].at;
        let late = seen.arrived[before + 1..].iter().filter(|one| one.at < refused + PAUSE / 2);
        let late: Vec<_> = late.map(|one| (one.at - refused).as_millis()).collect();
        let mut after = seen.arrived.iter().filter(|one| one.at >= refused + PAUSE / 2);
        let probe = after.next().expect("a probe is sent").at;
        let next = after.next().expect("the probe is believed").at;
        let end = probe + PROBE;
        figure(format!(
            "a limit 429, {nth}: sends after it {late:?} ms; probe {} ms after it, the next {} ms \
             after the probe's answer; throughput of the span after {:.0} %",
            (probe - refused).as_millis(),
            next.saturating_duration_since(end).as_millis(),
            seen.throughput(end, end + SPAN) * 100.0,
        ));
        let last = late.last().copied().unwrap_or_default();
        size.hold(last <= 100, format!("one was sent {last} ms after the refusal"));
        assert!(last < 1_000, "the pause is not everybody's: {late:?}");
        assert!(probe >= refused + PAUSE - SECOND / 10, "a probe before its time");
        assert!(next >= end - SECOND / 10, "more than one probe");
        seen.within_the_limit("a limit 429");
        // Each is refused in a fresh span, and not within what is left of the last one's pause.
        sleep(SPAN).await;
    }
    crowd.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_at_one_instance_pauses_all_until_one_probe() {
    refused(Size::Short).await;
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute; tests/run --all runs it"]
async fn nobody_sends_a_tenth_of_a_second_after_a_refusal() {
    refused(Size::Full).await;
}

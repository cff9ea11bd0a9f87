//! Eight instances that all have more to send than may be sent.

use tokio::time::sleep;

use crate::harness::crowd::Group;
use crate::harness::{LIMIT, Plan, SECOND, SPAN, Shared, Size, figure, machine};

const INSTANCES: usize = 8;

/// All call as the same caller. One of the instances has a single one, now and then; another a flood.
fn groups() -> Vec<Group> {
    let mut groups: Vec<_> =
        (0..INSTANCES - 2).map(|seat| Group::of(4, "everybody", seat)).collect();
    groups.push(Group::of(16, "everybody", INSTANCES - 2));
    groups.push(Group::of(1, "everybody", INSTANCES - 1).pause(SECOND / 5));
    groups
}

async fn saturated(size: Size) {
    let _machine = machine(size).await;
    let mut plan = Plan::of(INSTANCES, Some(Shared::hold()));
    plan.callers = "[callers.everybody]";
    let fleet = plan.start().await;
    let crowd = fleet.crowd(&groups());
    let from = fleet.warm().await;
    let to = from + size.pick(3 * SPAN, 300 * SECOND);
    tokio::time::sleep_until(to).await;
    let seen = fleet.seen();
    crowd.stop().await;

    let throughput = seen.throughput(from, to) * 100.0;
    let inversions = seen.inversions("everybody", from);
    figure(format!(
        "{INSTANCES} saturated instances, {:.0} s: throughput {throughput:.1} % of {LIMIT} per {} ms",
        (to - from).as_secs_f64(),
        SPAN.as_millis()
    ));
    figure(format!(
        "{INSTANCES} saturated instances: inversions between instances {inversions}, {} above 50 ms",
        inversions.above(50.0)
    ));
    let waits = |seat: usize| {
        let mut own = fleet.seen();
        own.arrived.retain(|one| one.call.as_ref().is_some_and(|call| call.seat == seat));
        own.waits("everybody", from)
    };
    let (flood, trickle) = (waits(INSTANCES - 2), waits(INSTANCES - 1));
    figure(format!("waits at the instance with a flood: {flood}"));
    figure(format!("waits at the instance with a trickle: {trickle}"));
    seen.within_the_limit("eight saturated instances");
    assert!(trickle.count() > 0, "the trickle starved");
    size.hold(throughput >= 97.0, format!("throughput {throughput}"));
    size.hold(inversions.quantile(1.0) <= 50.0, inversions);
    // Who comes at any time meets the same line as who is always in it; 50 ms is a slot.
    size.hold(trickle.mean() <= flood.mean() + 50.0, format!("{trickle} / {flood}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_saturated_instances_keep_the_bound_together() {
    saturated(Size::Short).await;
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "five minutes; tests/run --all runs it"]
async fn eight_saturated_instances_keep_the_bound_and_the_order_for_five_minutes() {
    saturated(Size::Full).await;
}

/// What one call alone takes: nobody is in its way, and it is nevertheless asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_alone_is_answered_at_once() {
    let _machine = machine(Size::Short).await;
    for shared in [None, Some(Shared::hold())] {
        let what = if shared.is_some() { "shared" } else { "of its own" };
        let fleet = Plan::of(1, shared).start().await;
        let crowd = fleet.crowd(&[Group::of(1, "anonymous", 0).pause(SECOND / 10)]);
        let from = fleet.warm().await;
        sleep(3 * SECOND).await;
        crowd.stop().await;
        let waits = fleet.seen().waits("anonymous", from);
        figure(format!("a call alone, {what}: {waits}"));
        assert!(waits.count() > 5, "{waits}");
    }
}

//! Who waits for whom over three replicas, beside the same callers at one gateway.

use tokio::time::{Instant, sleep_until};

use crate::harness::crowd::Group;
use crate::harness::{Plan, SECOND, SPAN, Seen, Shared, Size, Waits, figure, machine};

const CLASSES: &str = r#"
    [callers.crawler]
    priority = "batch"
    [callers.person]
    priority = "interactive"
    [callers.trickle]
    [callers.flood]
"#;

/// How much longer somebody may wait than at one gateway.
const MORE_MS: f64 = 50.0;

/// The same groups at so many instances; those who are many are spread over all of them.
async fn beside_each_other(
    instances: usize,
    few: Group,
    many: Group,
    size: Size,
) -> (Seen, Instant) {
    let shared = (instances > 1).then(Shared::hold);
    let mut plan = Plan::of(instances, shared);
    plan.callers = CLASSES;
    let fleet = plan.start().await;
    let spread = (0..instances).map(|seat| {
        let callers = many.callers / instances;
        Group { seat, callers, ..many.clone() }
    });
    let groups: Vec<_> = spread.chain([few]).collect();
    let crowd = fleet.crowd(&groups);
    let from = fleet.warm().await;
    sleep_until(from + size.pick(2 * SPAN, 60 * SECOND)).await;
    let seen = fleet.seen();
    crowd.stop().await;
    (seen, from)
}

async fn compare(few: Group, many: Group, size: Size) -> [Waits; 2] {
    let _machine = machine(size).await;
    let at = |instances| beside_each_other(instances, few.clone(), many.clone(), size);
    let both = match size {
        Size::Short => tokio::join!(at(1), at(3)),
        Size::Full => (at(1).await, at(3).await),
    };
    [(1, both.0), (3, both.1)].map(|(instances, (seen, from))| {
        let what = format!("{} beside {} at {instances}", few.name, many.name);
        for name in [few.name, many.name] {
            figure(format!("{what}: waits of {name} {}", seen.waits(name, from)));
        }
        let throughput = seen.throughput(from, from + size.pick(2 * SPAN, 60 * SECOND)) * 100.0;
        figure(format!("{what}: throughput {throughput:.1} %"));
        seen.within_the_limit(&what);
        let waits = seen.waits(few.name, from);
        assert!(waits.count() > 0, "{what}: starved");
        waits
    })
}

async fn a_person_beside_a_crawl(size: Size) {
    let person = Group::of(1, "person", 0).urgency(1).pause(SECOND / 4);
    let [one, three] = compare(person, Group::of(30, "crawler", 0).urgency(6), size).await;
    size.hold(three.mean() <= one.mean() + MORE_MS, format!("{three} / {one}"));
    size.hold(three.quantile(0.99) <= one.quantile(0.99) + MORE_MS, format!("{three} / {one}"));
}

async fn a_trickle_beside_a_flood(size: Size) {
    let trickle = Group::of(1, "trickle", 0).pause(SECOND / 4);
    let [one, three] = compare(trickle, Group::of(30, "flood", 0), size).await;
    size.hold(three.mean() <= one.mean() + MORE_MS, format!("{three} / {one}"));
    size.hold(three.quantile(0.99) <= one.quantile(0.99) + MORE_MS, format!("{three} / {one}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute; tests/run --all runs it"]
async fn a_person_goes_before_a_crawl_over_three_replicas() {
    a_person_beside_a_crawl(Size::Short).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute; tests/run --all runs it"]
async fn a_trickle_is_not_drowned_by_a_flood_over_three_replicas() {
    a_trickle_beside_a_flood(Size::Short).await;
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; tests/run --all runs it"]
async fn a_person_waits_as_long_over_three_replicas_as_at_one() {
    a_person_beside_a_crawl(Size::Full).await;
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; tests/run --all runs it"]
async fn a_trickle_waits_as_long_over_three_replicas_as_at_one() {
    a_trickle_beside_a_flood(Size::Full).await;
}

//! What sharing costs Redis.

use tokio::time::{Duration, Instant, sleep};

use crate::harness::crowd::{Group, call};
use crate::harness::{Done, Fleet, Plan, SECOND, SPAN, Shared, Size, figure, machine};

/// What Redis did in so long, and how many calls went out meanwhile.
async fn during(fleet: &mut Fleet, time: Duration) -> (Done, f64) {
    let (before, sent) = (fleet.redis().done().await, fleet.omni.fake.arrived());
    sleep(time).await;
    let sent = fleet.omni.fake.arrived() - sent;
    let after = fleet.redis().done().await;
    let done = Done {
        scripts: after.scripts - before.scripts,
        usec: after.usec - before.usec,
        others: after.others - before.others,
    };
    (done, sent as f64)
}

fn per(done: Done, sends: f64) -> String {
    let Done { scripts, usec, others } = done;
    format!(
        "{:.2} runs of the script per grant, {:.0} us of Redis per grant, {:.0} us a run ({scripts} \
         runs, {others} other commands, {sends} sends)",
        scripts / sends,
        usec / sends,
        usec / scripts
    )
}

async fn at_saturation(instances: usize, size: Size) {
    let mut fleet = Plan::of(instances, Some(Shared::hold())).start().await;
    let groups: Vec<_> = (0..instances).map(|seat| Group::of(8, "anonymous", seat)).collect();
    let crowd = fleet.crowd(&groups);
    fleet.warm().await;
    let (done, sends) = during(&mut fleet, size.pick(2 * SPAN, 60 * SECOND)).await;
    crowd.stop().await;
    figure(format!("cost, {instances} saturated: {}", per(done, sends)));
    fleet.seen().within_the_limit("cost at saturation");
    assert!(sends > 0.0);
    size.hold(done.scripts / sends <= 1.1, "round trips per grant");
    size.hold(done.usec / sends <= 100.0, "Redis time per grant");
}

/// Idle first, and one call now and then after it.
async fn alone_and_idle(instances: usize, size: Size) {
    let mut fleet = Plan::of(instances, Some(Shared::hold())).start().await;
    let crowd = fleet.crowd(&[Group::of(1, "anonymous", 0)]);
    fleet.warm().await;
    crowd.stop().await;
    let time = size.pick(4 * SECOND, 60 * SECOND);
    sleep(SECOND).await;
    let (idle, sends) = during(&mut fleet, time).await;
    let a_minute = 60.0 / time.as_secs_f64() / instances as f64;
    figure(format!(
        "cost, idle: {:.1} runs of the script and {:.1} other commands a minute for each of \
         {instances}",
        idle.scripts * a_minute,
        idle.others * a_minute,
    ));
    assert!(sends < 1.0);
    let crowd = fleet.crowd(&[Group::of(1, "anonymous", 0).pause(SECOND / 2)]);
    let (done, sends) = during(&mut fleet, time).await;
    crowd.stop().await;
    let beats = idle.scripts;
    figure(format!(
        "cost, a lone call each half second: {:.2} runs per grant beside the {beats} of the time \
         itself ({} runs, {sends} sends)",
        (done.scripts - beats) / sends,
        done.scripts
    ));
    size.hold((done.scripts - beats) / sends <= 3.0, "round trips for a lone call");
}

/// What is kept is served without asking.
async fn hits(size: Size) {
    let mut plan = Plan::of(1, Some(Shared::hold()));
    plan.route = "cache = { ttl = \"1h\", stale = \"1h\" }";
    let mut fleet = plan.start().await;
    let get = || {
        let get = http::Request::get("/api/v1/folders").header("host", "127.0.0.1");
        get.body(http_body_util::Full::default()).unwrap()
    };
    let address = fleet.seats[0].address();
    assert_eq!(call(address, get()).await.status, 200);
    sleep(SECOND).await;
    let (before, start) = (fleet.redis().done().await, Instant::now());
    let calls = size.pick(300, 5_000);
    for _ in 0..calls {
        let answer = call(address, get()).await;
        assert!(answer.header("cache-status").starts_with("omnigate; hit"), "{answer:?}");
    }
    let scripts = fleet.redis().done().await.scripts - before.scripts;
    let took = start.elapsed().as_secs_f64();
    figure(format!("cost, {calls} hits: {scripts} runs of the script in {took:.1} s"));
    // Two a second are heartbeats at the most.
    assert!(scripts <= took * 2.0 + 2.0, "{scripts} in {took} s");
}

async fn cost(size: Size) {
    let _machine = machine(size).await;
    at_saturation(size.pick(4, 8), size).await;
    tokio::join!(alone_and_idle(2, size), hits(size));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_costs_nothing_and_a_send_little() {
    cost(Size::Short).await;
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; tests/run --all runs it"]
async fn what_a_send_costs_redis() {
    cost(Size::Full).await;
}

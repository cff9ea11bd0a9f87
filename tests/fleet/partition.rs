//! Two of four instances are cut off from Redis.

use futures_util::future::join_all;
use http::Request;
use http_body_util::Full;
use tokio::time::{Instant, sleep};

use crate::harness::crowd::{Group, call};
use crate::harness::{Fleet, LIMIT, Plan, SECOND, SPAN, Shared, Size, Way, figure, machine};

const INSTANCES: usize = 4;
const ISOLATED: usize = 2;

async fn cut_off(on_lost: &'static str, way: Way, size: Size) -> Fleet {
    let plan = Plan::of(INSTANCES, Some(Shared::mode(on_lost, INSTANCES)));
    let fleet = plan.budget("max_wait = \"3s\"\n").start().await;
    let groups: Vec<_> = (0..INSTANCES).map(|seat| Group::of(8, "anonymous", seat)).collect();
    let crowd = fleet.crowd(&groups);
    fleet.warm().await;
    let cut = Instant::now();
    for seat in &fleet.seats[..ISOLATED] {
        seat.relay().set(way);
    }
    sleep(size.pick(3 * SPAN, 30 * SECOND)).await;
    let mended = Instant::now();
    for seat in &fleet.seats[..ISOLATED] {
        seat.relay().set(Way::Open);
    }
    sleep(2 * SPAN).await;
    let to = Instant::now();
    crowd.stop().await;
    let seen = fleet.seen();
    let of = |isolated: bool, from: Instant, to: Instant| {
        let of = |seat: usize| (seat < ISOLATED) == isolated;
        let inside = seen.arrived.iter().filter(|one| (from..to).contains(&one.at));
        inside.filter(|one| one.call.as_ref().is_some_and(|call| of(call.seat))).count()
    };
    figure(format!(
        "{ISOLATED} of {INSTANCES} {way:?}, on_lost = {on_lost}: while it lasted {} sends of those and {} \
         of the others ({:.0} % of what may be sent), {} of 503; after its end {} and {}",
        of(true, cut, mended),
        of(false, cut, mended),
        seen.throughput(cut, mended) * 100.0,
        seen.ended(503, cut),
        of(true, mended, to),
        of(false, mended, to),
    ));
    fleet
}

async fn who_holds(size: Size) {
    let both = [Way::Cut, Way::Frozen].map(|way| cut_off("hold", way, size));
    for (fleet, way) in join_all(both).await.iter().zip(["cut", "frozen"]) {
        fleet.seen().within_the_limit(&format!("held, {way}"));
    }
}

async fn who_shares(size: Size) {
    let fleet = cut_off("share", Way::Cut, size).await;
    fleet.seen().at_most(LIMIT + ISOLATED * LIMIT / INSTANCES, "shared");
    for (number, seat) in fleet.seats.iter().enumerate() {
        figure(format!("instance {number} complained: {:?}", seat.complaints()));
        let metrics = Request::get("/metrics").header("host", "127.0.0.1").body(Full::default());
        let answer = call(seat.admin(), metrics.unwrap()).await;
        let page = String::from_utf8_lossy(&answer.body).into_owned();
        let shared = page.lines().filter(|line| line.contains("shared") && !line.starts_with('#'));
        figure(format!("instance {number} counts: {}", shared.collect::<Vec<_>>().join(" | ")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute; tests/run --all runs it"]
async fn who_holds_keeps_the_bound_in_a_partition_and_who_shares_exceeds_it_by_the_shares_cut_off()
{
    let _machine = machine(Size::Short).await;
    tokio::join!(who_holds(Size::Short), who_shares(Size::Short));
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; tests/run --all runs it"]
async fn a_partition_of_half_a_minute() {
    let _machine = machine(Size::Full).await;
    who_holds(Size::Full).await;
    who_shares(Size::Full).await;
}

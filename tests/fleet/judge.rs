//! Whether the judge can judge: what keeps the bound passes, what does not is found out, and the harm
//! that is done to Redis is done.

use crate::harness::crowd::Group;
use crate::harness::{LIMIT, Plan, Redis, Relay, SECOND, SPAN, Seen, Size, Way, figure, machine};
use crate::trouble::take_over;

async fn unshared(instances: usize) -> Seen {
    let fleet = Plan::of(instances, None).start().await;
    let groups: Vec<_> = (0..instances).map(|seat| Group::of(12, "anonymous", seat)).collect();
    let crowd = fleet.crowd(&groups);
    let from = fleet.warm().await;
    tokio::time::sleep(2 * SPAN).await;
    crowd.stop().await;
    let seen = fleet.seen();
    figure(format!(
        "{instances} of their own: worst window {}, throughput {:.1} %, inversions {}",
        seen.worst_window(),
        seen.throughput(from, from + 2 * SPAN) * 100.0,
        seen.inversions("anonymous", from),
    ));
    assert!(seen.throughput(from, from + 2 * SPAN) > 0.8, "it was not saturated");
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gateway_is_found_to_keep_the_bound() {
    let _machine = machine(Size::Short).await;
    unshared(1).await.within_the_limit("one of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_that_share_nothing_are_found_to_break_the_bound() {
    let _machine = machine(Size::Short).await;
    let seen = unshared(3).await;
    assert!(seen.worst_window() > 2 * LIMIT, "{}", seen.worst_window());
    // Each keeps its own order, and none that of the others, which waited as long.
    assert!(seen.calls.len() > 3 * LIMIT && seen.arrived[0].at.elapsed() < 60 * SECOND);
}

/// Seconds on the server's clock.
async fn clock(redis: &Redis) -> i64 {
    let (seconds, _): (i64, i64) =
        redis::from_redis_value(redis.ask(&["TIME"]).await.unwrap()).unwrap();
    seconds
}

#[tokio::test]
async fn the_clock_of_redis_can_be_set() {
    let redis = Redis::start_with_clock().await;
    let at_first = clock(&redis).await;
    redis.set_clock(3600);
    assert!((3600..3660).contains(&(clock(&redis).await - at_first)));
    redis.set_clock(-3600);
    assert!((-3600..-3540).contains(&(clock(&redis).await - at_first)));
}

type Line = redis::aio::MultiplexedConnection;

async fn line(relay: &Relay) -> Line {
    let client = redis::Client::open(format!("redis://{}/", relay.address)).unwrap();
    let slow = redis::AsyncConnectionConfig::new().set_response_timeout(Some(2 * SECOND));
    client.get_multiplexed_async_connection_with_config(&slow).await.unwrap()
}

async fn echo(line: &mut Line) -> redis::RedisResult<String> {
    redis::cmd("ECHO").arg("here").query_async(line).await
}

#[tokio::test]
async fn a_relay_cuts_freezes_and_slows_what_it_is_told_to() {
    let redis = Redis::start().await;
    let relay = Relay::open(&redis.socket()).await;
    let mut plain = line(&relay).await;
    assert_eq!(echo(&mut plain).await.unwrap(), "here");

    relay.set(Way::Slow(SECOND / 5));
    let start = tokio::time::Instant::now();
    echo(&mut plain).await.unwrap();
    assert!(start.elapsed() >= SECOND * 2 / 5);

    relay.set(Way::Frozen);
    assert!(echo(&mut plain).await.unwrap_err().is_timeout());
    relay.set(Way::Open);
    assert_eq!(echo(&mut plain).await.unwrap(), "here");

    // The reply is `$4`, a line's end, and so on.
    relay.cut_a_reply(2);
    assert!(echo(&mut plain).await.is_err());
    assert!(relay.has_cut());

    let mut plain = line(&relay).await;
    relay.set_pushes(Way::Cut);
    let client = redis::Client::open(format!("redis://{}/", relay.address)).unwrap();
    let mut listens = client.get_async_pubsub().await.unwrap();
    assert!(listens.subscribe("news").await.is_err());
    assert_eq!(echo(&mut plain).await.unwrap(), "here");

    relay.set(Way::Cut);
    assert!(echo(&mut plain).await.is_err());
}

#[tokio::test]
async fn a_replica_that_takes_over_has_not_heard_the_last() {
    let mut redis = Redis::start().await;
    let relay = Relay::open(&redis.socket()).await;
    redis.ask(&["SET", "early", "1"]).await.unwrap();
    let told = async |master: &Redis| drop(master.ask(&["SET", "late", "1"]).await.unwrap());
    let (replica, _line) = take_over(&mut redis, told).await;
    relay.lead_to(&replica.socket());
    let mut line = line(&relay).await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut line).await.unwrap();
    assert_eq!(keys, ["early"]);
}

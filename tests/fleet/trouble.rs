//! Everything that can happen to Redis.

use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::harness::crowd::Group;
use crate::harness::{
    Fleet, LIMIT, Plan, Redis, Relay, SECOND, SPAN, Shared, Size, Way, figure, machine, until,
};

const INSTANCES: usize = 3;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// Killed, and an empty one comes in its place.
    Emptied,
    /// Killed, and gone for five seconds.
    Gone,
    /// SIGSTOP for five seconds.
    Stopped,
    /// A reply of the script is cut, and the connection with it, ten times in a row.
    CutInTheMiddle,
    /// 200 ms either way.
    Slow,
    /// A replica that has heard nothing for a second takes over.
    FailedOver,
    /// Its clock goes forward by an hour.
    ClockForward,
    /// Its clock goes back by an hour.
    ClockBack,
    /// All keys are deleted.
    Flushed,
}

impl Harm {
    const ALL: [Self; 9] = [
        Self::Emptied,
        Self::Gone,
        Self::Stopped,
        Self::CutInTheMiddle,
        Self::Slow,
        Self::FailedOver,
        Self::ClockForward,
        Self::ClockBack,
        Self::Flushed,
    ];

    /// Does it, and ends when all is in order again, as far as that is possible. Gives what must
    /// live on.
    async fn strike(self, fleet: &mut Fleet) -> Option<(Redis, Relay)> {
        match self {
            Self::Emptied => fleet.redis().restart().await,
            Self::Gone => {
                fleet.redis().kill().await;
                sleep(5 * SECOND).await;
                fleet.redis().restart().await;
            }
            Self::Stopped => {
                fleet.redis().signal(Signal::STOP);
                sleep(5 * SECOND).await;
                fleet.redis().signal(Signal::CONT);
            }
            Self::CutInTheMiddle => {
                for nth in 0..10 {
                    let relay = fleet.seats[nth % INSTANCES].relay();
                    relay.cut_a_reply(nth * 7);
                    until(|| "no reply to cut".to_owned(), async || relay.has_cut().then_some(()))
                        .await;
                    sleep(SECOND / 5).await;
                }
            }
            Self::Slow => {
                fleet.relays().for_each(|relay| relay.set(Way::Slow(SECOND / 5)));
                sleep(5 * SECOND).await;
                fleet.relays().for_each(|relay| relay.set(Way::Open));
            }
            Self::FailedOver => return Some(fail_over(fleet).await),
            Self::ClockForward => fleet.redis().set_clock(3600),
            Self::ClockBack => fleet.redis().set_clock(-3600),
            Self::Flushed => drop(fleet.redis().ask(&["FLUSHALL"]).await.unwrap()),
        }
        None
    }
}

/// A replica that hears nothing any more becomes the master.
async fn fail_over(fleet: &mut Fleet) -> (Redis, Relay) {
    let new = take_over(fleet.redis(), async |_| sleep(SECOND).await).await;
    fleet.relays().for_each(|relay| relay.lead_to(&new.0.socket()));
    new
}

/// Gives `redis` a replica, which has heard nothing of what was done `meanwhile` when `redis` is killed
/// and it takes its place.
pub(crate) async fn take_over(
    redis: &mut Redis,
    meanwhile: impl AsyncFnOnce(&Redis),
) -> (Redis, Relay) {
    let replica = Redis::start().await;
    let line = Relay::open(&redis.socket()).await;
    let (host, port) = (line.address.ip().to_string(), line.address.port().to_string());
    replica.ask(&["REPLICAOF", &host, &port]).await.unwrap();
    until(
        || "the replica never follows".to_owned(),
        async || replica.info("replication").await.contains("master_link_status:up").then_some(()),
    )
    .await;
    line.set(Way::Frozen);
    meanwhile(redis).await;
    redis.kill().await;
    line.set(Way::Cut);
    replica.ask(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    (replica, line)
}

/// What callers saw, and what arrived.
async fn strike(harm: Harm, on_lost: &'static str, size: Size) {
    let mut plan = Plan::of(INSTANCES, Some(Shared::mode(on_lost, INSTANCES)));
    plan = plan.budget("max_wait = \"3s\"\n");
    plan.clock = matches!(harm, Harm::ClockForward | Harm::ClockBack);
    let mut fleet = plan.start().await;
    let groups: Vec<_> = (0..INSTANCES).map(|seat| Group::of(8, "anonymous", seat)).collect();
    let crowd = fleet.crowd(&groups);
    let from = fleet.warm().await;
    let struck = Instant::now();
    let kept = harm.strike(&mut fleet).await;
    let mended = Instant::now();
    sleep(size.pick(2 * SPAN, 6 * SPAN)).await;
    let to = Instant::now();
    let seen = fleet.seen();
    crowd.stop().await;
    drop(kept);

    let what = format!("Redis {harm:?}, on_lost = {on_lost}");
    let silence = seen.longest_silence(struck, to);
    let at = seen.arrived.iter().map(|one| one.at).filter(|at| *at >= mended).nth(LIMIT);
    figure(format!(
        "{what}: {} of 200, {} of 503, {} else; throughput while it lasted {:.0} %, at the end {:.0} \
         %; longest silence {} ms; {LIMIT} sends {} after its end",
        seen.ended(200, from),
        seen.ended(503, from),
        seen.ended_otherwise(&[200, 503], from),
        seen.throughput(struck, mended.max(struck + SECOND)) * 100.0,
        seen.throughput(to - SPAN, to) * 100.0,
        silence.as_millis(),
        at.map_or("never".to_owned(), |at| format!("{} ms", (at - mended).as_millis())),
    ));
    figure(format!("{what}: the first complained: {:?}", fleet.seats[0].complaints()));
    match on_lost {
        // It says so, and no more than all of them on their own.
        "local" => seen.at_most(LIMIT * (INSTANCES + 1), &what),
        _ => seen.within_the_limit(&what),
    }
    let after = seen.between(mended, to);
    assert!(after > 0 || size == Size::Short, "{what}: nothing was ever sent again");
}

/// All at once, as nothing is measured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute; tests/run --all runs it"]
async fn whatever_happens_to_redis_the_bound_holds() {
    let _machine = machine(Size::Short).await;
    let held = Harm::ALL.map(|harm| (harm, "hold"));
    let others = [(Harm::Gone, "share"), (Harm::Stopped, "share"), (Harm::Gone, "local")];
    let all = held.into_iter().chain(others);
    join_all(all.map(|(harm, on_lost)| strike(harm, on_lost, Size::Short))).await;
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; tests/run --all runs it"]
async fn what_callers_see_in_each_mode_whatever_happens_to_redis() {
    let _machine = machine(Size::Full).await;
    for on_lost in ["hold", "share", "local"] {
        for harm in Harm::ALL {
            strike(harm, on_lost, Size::Full).await;
        }
    }
}

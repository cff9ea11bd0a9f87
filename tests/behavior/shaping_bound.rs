//! Never the 61st, end to end: whatever callers, Omni and the machine do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use omnigate::fake_omni::{Fault, Reset, RetryAfter, Rule};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Dice, House, Plan, SECOND, get, post};
use http_body_util::Full;

const CALLERS: &str = r#"
    [callers.crawler]
    priority = "batch"
    [callers.page]
    priority = "interactive"
    [callers.service]
    [callers.nightly]
    max_queued = 30
    rate = { limit = 20, window = "60s" }
"#;

/// How calls ended, by status; 0 for a cut or missing answer, 1 for a caller who left.
type Ends = Arc<Mutex<BTreeMap<u16, usize>>>;

async fn one_call(house: &House, dice: &mut Dice, ends: &Ends) {
    let who = ["crawler", "page", "service", "nightly", "nobody"][dice.below(5)];
    let serial = dice.roll();
    let request = if dice.below(4) == 0 {
        let body = format!("{{\"name\":\"{serial:x}\"}}{}", " ".repeat(dice.below(40_000)));
        post("/api/v1/folders", body)
    } else {
        get("/api/v1/labels").body(Full::default()).unwrap()
    };
    let (mut head, body) = request.into_parts();
    head.headers.insert("x-omnigate-caller", who.parse().unwrap());
    if dice.below(4) == 0 {
        let urgency = format!("u={}", dice.below(8)).parse().unwrap();
        head.headers.insert("priority", urgency);
    }
    let mut caller = house.caller().await;
    let call = caller.try_call(http::Request::from_parts(head, body));
    let patience = match dice.below(6) {
        0 => SECOND.mul_f64(5.0 * dice.share()),
        _ => 4_000 * SECOND,
    };
    let end = match timeout(patience, call).await {
        Ok(answer) => answer.map_or(0, |answer| answer.status.as_u16()),
        Err(_) => 1,
    };
    *ends.lock().unwrap().entry(end).or_default() += 1;
}

/// Callers who come now and then, one after the other or many at once.
fn callers(house: &Arc<House>, ends: &Ends, seed: u64, tasks: &mut JoinSet<()>) {
    for nth in 0..20 {
        let (house, ends) = (house.clone(), ends.clone());
        let mut dice = Dice(seed ^ (nth << 32));
        tasks.spawn(async move {
            loop {
                sleep(SECOND.mul_f64(24.0 * dice.share())).await;
                one_call(&house, &mut dice, &ends).await;
            }
        });
    }
    let (house, ends, mut dice) = (house.clone(), ends.clone(), Dice(!seed));
    tasks.spawn(async move {
        loop {
            sleep(SECOND.mul_f64(400.0 * dice.share())).await;
            let mut crowd = JoinSet::new();
            for _ in 0..90 {
                let (house, ends, mut dice) = (house.clone(), ends.clone(), Dice(dice.roll()));
                crowd.spawn(async move { one_call(&house, &mut dice, &ends).await });
            }
            crowd.join_all().await;
        }
    });
}

/// What Omni does wrong, now and then. A refusal of the limit slows the budget for an hour, so that
/// not every life has one.
async fn trouble(house: &House, mut dice: Dice, with_blocks: bool) {
    let resets = [Reset::OnArrival, Reset::BeforeHead, Reset::AfterHead, Reset::MidBody];
    let statuses = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE];
    loop {
        sleep(SECOND.mul_f64(60.0 * dice.share())).await;
        let fault = match dice.below(if with_blocks { 6 } else { 4 }) {
            0 => Fault::SlowHead(SECOND.mul_f64(40.0 * dice.share())),
            1 => Fault::Status(statuses[dice.below(2)]),
            2 => Fault::Reset(resets[dice.below(4)]),
            3 => Fault::Status(StatusCode::INTERNAL_SERVER_ERROR),
            4 => Fault::Block(RetryAfter::Absent),
            _ => Fault::Block(RetryAfter::Seconds(dice.below(40) as u64)),
        };
        house.omni.fail(Rule::new(fault).times(1 + dice.below(6)));
    }
}

/// Lives of a few minutes each, until `time` has passed. After one with pauses the gateway moves to
/// another machine, else it starts again on its state folder.
async fn mix(profile: &str, time: Duration, seed: u64) {
    let budget = format!("profile = \"{profile}\"\nmax_wait = \"5m\"");
    let plan = Plan {
        budget,
        more: CALLERS.to_owned(),
        route: "timeout = \"30s\"".to_owned(),
        ..Plan::default()
    };
    let mut house = Plan { transit: SECOND.mul_f64(0.9), seed, ..plan }.build().await;
    let ends = Ends::default();
    let (mut dice, start, mut lives) = (Dice(seed), Instant::now(), 0);
    let mut busiest = 0;
    while start.elapsed() < time {
        lives += 1;
        let shared = Arc::new(house);
        let mut tasks = JoinSet::new();
        callers(&shared, &ends, dice.roll(), &mut tasks);
        let life = SECOND.mul_f64(200.0 + 1_000.0 * dice.share());
        let with_blocks = lives % 3 == 0;
        let _ = timeout(life, trouble(&shared, Dice(dice.roll()), with_blocks)).await;
        tasks.shutdown().await;
        // Tasks of tasks end when they are looked at next.
        while Arc::strong_count(&shared) > 1 {
            tokio::task::yield_now().await;
        }
        house = Arc::into_inner(shared).unwrap();
        house.omni.heal();
        let highest = house.omni.highest_in_any_window(60 * SECOND);
        busiest = busiest.max(highest);
        assert!(highest <= 60, "{profile}, seed {seed}: {highest} arrivals in a minute");
        house = match with_blocks {
            true => house.killed_and_moved(dice.roll()).await,
            false => house.killed_and_started_again(dice.roll()).await,
        };
    }
    let ends = ends.lock().unwrap().clone();
    let (hours, arrived) = (start.elapsed().as_secs_f64() / 3_600.0, house.omni.arrived());
    println!(
        "{profile}, limit 60, window 60 s, guard 1 s, max_wait 5m, timeout 30s, transit 0-0.9 s, seed {seed}: \
         {hours:.1} h, {lives} lives, {arrived} arrivals, highest in any minute {busiest} (bar 60); \
         calls by status (0: cut, 1: the caller left): {ends:?}"
    );
    // The mix was one: everything happened, and the budget was busy.
    for end in [0, 1, 200, 201, 429, 500, 503] {
        assert!(ends.contains_key(&end), "no call ended in {end}: {ends:?}");
    }
    assert!(arrived as f64 >= 1_500.0 * hours, "{arrived} arrivals");
    assert!(busiest >= 50, "{busiest}");
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn an_hour_of_everything_has_no_61st_in_smooth() {
    mix("smooth", HOUR, 11).await;
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_everything_has_no_61st_in_strict() {
    mix("strict", HOUR, 12).await;
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_everything_has_no_61st_in_burst() {
    mix("burst", HOUR, 13).await;
}

/// The full size; `tests/run --all` runs it.
#[tokio::test(start_paused = true)]
#[ignore = "minutes of work; tests/run --all runs it"]
async fn a_day_of_everything_has_no_61st_in_any_profile() {
    for (profile, seed) in [("smooth", 21), ("strict", 22), ("burst", 23)] {
        mix(profile, 24 * HOUR, seed).await;
    }
}

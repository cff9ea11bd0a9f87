//! Several keys, and several budgets for one call.

use omnigate::fake_omni::{Key, KeyKind, Sender, Settings};
use tokio::time::{Instant, sleep};

use crate::harness::{House, Plan, SECOND, fake, get};
use http_body_util::Full;

const SECOND_KEY: &str = "
    [credentials.second]
    kind = \"organization\"
    secret = \"second\"
";

fn second() -> Key {
    Key::made_up(KeyKind::Organization, "second")
}

fn plan(budget: &str) -> Plan {
    let mut keys = fake().keys;
    keys.push(second());
    let usual = Plan::default();
    let fake = Settings { keys, ..usual.fake.clone() };
    let budget = format!("{budget}\nmax_queued = 20000\nmax_wait = \"24h\"");
    Plan { budget, fake, transit: SECOND.mul_f64(0.9), ..usual }
}

/// Calls that are all made at once; the time until the last one was sent, in seconds, after the
/// first.
async fn crowd(house: &House, paths: &[&str], calls: usize) -> f64 {
    let mut all = Vec::new();
    for nth in 0..calls {
        let request = get(paths[nth % paths.len()]).body(Full::default()).unwrap();
        all.push(house.call(request).await);
    }
    for call in all {
        assert_eq!(call.await.unwrap().status(), 200);
    }
    let departures = house.road.departures();
    (departures.last().unwrap().at - departures[0].at).as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_charged_to_two_budgets_keeps_both() {
    for profile in ["smooth", "burst"] {
        let own = format!(
            "limit = 40\nprofile = \"{profile}\"\nmax_wait = \"24h\"\ncold_start = \"trust\""
        );
        let more = format!(
            "{SECOND_KEY}
            budget = \"omni\"
            [budgets.key-1]
            {own}
            [budgets.key-2]
            {own}
            [[routes]]
            name = \"folders\"
            path = \"/api/v1/folders\"
            credential = \"second\"
            budget = [\"key-2\", \"omni\"]
            "
        );
        let route = "budget = [\"key-1\", \"omni\"]".to_owned();
        let plan = plan(&format!("profile = \"{profile}\""));
        let house = Plan { route, more, ..plan }.build().await;
        let calls = 600;
        // Three in four go with the first key, which may send two thirds of the whole.
        let labels = "/api/v1/labels";
        let makespan = crowd(&house, &[labels, labels, labels, "/api/v1/folders"], calls).await;
        let minute = 60 * SECOND;
        let highest = [
            house.omni.highest_for_owner("org", minute),
            house.omni.highest_for_owner("second", minute),
            house.omni.highest_in_any_window(minute),
        ];
        // Both busy, and then the rest of the first key's alone.
        let least = (450.0 / 40.0 - 1.0) * 61.0;
        println!(
            "{profile}, budgets of 40 for each key and 60 for both, transit 0-0.9 s: {calls} calls in \
             {makespan:.1} s (450 of one key need {least:.1} s), highest in a minute {highest:?}"
        );
        assert!(highest[0] <= 40 && highest[1] <= 40 && highest[2] <= 60);
        assert!(makespan >= least - 1.0 && makespan <= 1.05 * (least + 61.0), "{makespan}");
    }
}

fn pool(profile: &str) -> Plan {
    let plan = plan(&format!("profile = \"{profile}\"\nscope = \"credential\""));
    let credential = "[\"org\", \"second\"]".to_owned();
    Plan { credential, more: SECOND_KEY.to_owned(), ..plan }
}

#[tokio::test(start_paused = true)]
async fn two_keys_with_limits_of_their_own_are_twice_as_fast() {
    let calls = 960;
    for (profile, bar) in [
        ("smooth", (calls as f64 / 2.0 - 1.0) * 61.0 / 60.0),
        ("burst", (calls as f64 / 120.0 - 1.0).ceil() * 61.0),
    ] {
        let house = pool(profile).build().await;
        let makespan = crowd(&house, &["/api/v1/labels"], calls).await;
        let minute = 60 * SECOND;
        let highest = ["org", "second"].map(|owner| house.omni.highest_for_owner(owner, minute));
        println!(
            "{profile}, scope = \"credential\", two keys, transit 0-0.9 s: {calls} calls in \
             {makespan:.1} s (bar {bar:.1} s), highest in a minute of each key {highest:?}"
        );
        assert!(highest.iter().all(|highest| *highest <= 60), "{highest:?}");
        assert!(makespan <= bar * 1.01, "{makespan}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_revoked_in_the_middle_costs_no_caller_its_answer() {
    for profile in ["smooth", "burst"] {
        let house = pool(profile).build().await;
        let mut all = Vec::new();
        for _ in 0..600 {
            all.push(house.call(get("/api/v1/labels").body(Full::default()).unwrap()).await);
        }
        house.omni.wait_for_arrivals(300).await;
        let revoked = Instant::now();
        house.omni.set_keys(fake().keys);
        for call in all {
            assert_eq!(call.await.unwrap().status(), 200);
        }
        let arrivals = house.omni.arrivals();
        let vain = arrivals.iter().filter(|one| one.sender == Sender::Invalid).count();
        let last = arrivals.iter().filter(|one| one.sender == Sender::Invalid).map(|one| one.at);
        let last = last.max().map(|at| (at - revoked).as_secs_f64());
        println!(
            "{profile}, scope = \"credential\", two keys, one revoked after 300 of 600 calls: 600 × \
             200, {vain} sent in vain, the last {last:?} s after"
        );
        assert!(vain >= 1 && last.is_some_and(|last| last < 62.0), "{last:?}");
        assert!(house.omni.highest_for_owner("org", 60 * SECOND) <= 60);
        sleep(SECOND).await;
    }
}

//! Omni refuses a key: what is sent then, who is told what, and what heals it.

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Response, StatusCode};
use http_body_util::Full;
use omnigate::base::CredentialId;
use omnigate::credential::State;
use omnigate::fake_omni::{Arrival, Fault, Key, KeyKind, RetryAfter, Rule, Sender, Settings};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::harness::{House, Plan, SECOND, Timed, fake, get, key, post};

const LABELS: &str = "/api/v1/labels";
const WHOAMI: &str = "/api/v1/whoami";
const REJECTED: &str = "urn:omnigate:problem:credential-rejected";
/// How soon a call whose key is known to be refused must fail.
const AT_ONCE: Duration = Duration::from_millis(5);

/// The key that takes the place of the house's own.
fn another() -> Key {
    Key::made_up(KeyKind::Organization, "another")
}

async fn calls(house: &House, count: usize) -> Vec<JoinHandle<Timed>> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(house.call(get(LABELS).body(Full::default()).unwrap()).await);
    }
    all
}

async fn call(house: &House) -> Timed {
    house.call(get(LABELS).body(Full::default()).unwrap()).await.await.unwrap()
}

fn is_rejected(call: &Timed) -> bool {
    let problem = call.answer.as_ref().filter(|_| call.status() == 503).map(|it| it.json());
    problem.is_some_and(|it| it["type"] == REJECTED && it["credential"] == "org")
}

fn whoamis(arrivals: &[Arrival]) -> usize {
    arrivals.iter().filter(|one| one.target.path() == WHOAMI).count()
}

fn state(house: &House) -> State {
    house.rooms.credentials.get(&CredentialId::new("org")).unwrap().state()
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_costs_one_whoami_and_then_nothing() {
    for profile in ["smooth", "burst"] {
        let budget = format!("profile = \"{profile}\"\nmax_wait = \"1h\"");
        let house = Plan { budget, ..Plan::default() }.build().await;
        let all = calls(&house, 500).await;
        house.omni.wait_for_arrivals(30).await;
        house.omni.set_keys(Vec::new());
        let mut ended = Vec::new();
        for call in all {
            ended.push((call.await.unwrap(), Instant::now()));
        }
        let arrivals = house.omni.arrivals();
        let asked = arrivals.iter().find(|one| one.target.path() == WHOAMI).unwrap();
        assert_eq!(whoamis(&arrivals), 1);
        let refused: Vec<_> = ended.iter().filter(|(call, _)| call.status() != 200).collect();
        assert!(refused.iter().all(|(call, _)| is_rejected(call)), "{:?}", refused[0]);
        let last = refused.iter().map(|(_, at)| *at).max().unwrap();
        assert!(last - asked.at <= AT_ONCE, "{:?}", last - asked.at);
        let vain = arrivals.iter().filter(|one| one.sender == Sender::Invalid).count();
        println!(
            "{profile}: revoked after 30 of 500 calls: {} × 503, {vain} requests with the bad key, \
             1 of them whoami; all refused {:?} after it was asked",
            refused.len(),
            last - asked.at
        );
        assert_eq!(refused.len() + arrivals.len() - vain, 500);
        // What was on its way when Omni first refused, and the question.
        assert!(vain <= if profile == "smooth" { 2 } else { 61 }, "{vain}");
        for _ in 0..100 {
            let late = call(&house).await;
            assert!(is_rejected(&late) && late.took <= AT_ONCE, "{late:?}");
        }
        assert_eq!(house.omni.arrived(), arrivals.len(), "they cost nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_asked_for_once_a_minute_and_heals_when_omni_takes_it_again() {
    let house = Plan::default().build().await;
    house.keep_keys();
    house.omni.set_keys(Vec::new());
    assert!(is_rejected(&call(&house).await));
    assert!(matches!(state(&house), State::Rejected { .. }));
    house.omni.forget();
    sleep(Duration::from_secs(605)).await;
    let arrivals = house.omni.arrivals();
    assert_eq!((whoamis(&arrivals), arrivals.len()), (10, 10));
    house.omni.set_keys(vec![key()]);
    sleep(60 * SECOND).await;
    assert_eq!(call(&house).await.status(), 200);
    assert!(matches!(state(&house), State::Ready { .. }));
    house.omni.forget();
    sleep(600 * SECOND).await;
    assert_eq!(house.omni.arrived(), 0, "a good key is not asked for");
}

#[tokio::test(start_paused = true)]
async fn another_value_heals_within_the_refresh_interval_and_without_a_restart() {
    let house = Plan::default().build().await;
    house.keep_keys();
    house.omni.set_keys(vec![another()]);
    assert!(is_rejected(&call(&house).await));
    house.write_secret("org", another().token());
    let written = Instant::now();
    while call(&house).await.status() != 200 {
        sleep(SECOND / 10).await;
    }
    println!("healed {:?} after the new value was written", written.elapsed());
    // The interval, and the step in which this test asks.
    assert!(written.elapsed() <= 5 * SECOND + SECOND / 10);
    sleep(SECOND).await;
    let arrivals = house.omni.arrivals();
    assert_eq!(whoamis(&arrivals), 2, "one for the old value, one for the new");
    assert!(matches!(state(&house), State::Ready { .. }));
}

#[tokio::test(start_paused = true)]
async fn another_bad_value_costs_one_whoami_too() {
    let house = Plan::default().build().await;
    house.keep_keys();
    house.omni.set_keys(Vec::new());
    assert!(is_rejected(&call(&house).await));
    house.omni.forget();
    house.write_secret("org", another().token());
    sleep(10 * SECOND).await;
    assert!(matches!(state(&house), State::Rejected { .. }));
    assert_eq!((whoamis(&house.omni.arrivals()), house.omni.arrived()), (1, 1));
    assert!(is_rejected(&call(&house).await));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_replaced_just_now_is_looked_up_and_nobody_notices() {
    let house = Plan { budget: "profile = \"burst\"".to_owned(), ..Plan::default() }.build().await;
    assert_eq!(call(&house).await.status(), 200);
    // Nobody looks at files here: only Omni's refusal brings the new value.
    house.write_secret("org", another().token());
    house.omni.set_keys(vec![another()]);
    house.omni.forget();
    let all = calls(&house, 20).await;
    let body = "{\"name\":\"new\"}";
    let write = house.call(post(LABELS, body)).await;
    for call in all {
        assert_eq!(call.await.unwrap().status(), 200);
    }
    assert!(write.await.unwrap().answer.unwrap().status.is_success());
    let arrivals = house.omni.arrivals();
    let vain = arrivals.iter().filter(|one| one.sender == Sender::Invalid).count();
    println!("21 calls on a replaced key: {vain} sent in vain, {} in all", arrivals.len());
    assert_eq!(arrivals.len(), 21 + vain);
    assert!(vain <= 21 && whoamis(&arrivals) == 0);
    assert!(house.omni.highest_in_any_window(60 * SECOND) <= 60);
}

#[tokio::test(start_paused = true)]
async fn an_operator_who_asks_about_a_key_settles_the_matter() {
    let house = Plan::default().build().await;
    let org = CredentialId::new("org");
    house.omni.set_keys(Vec::new());
    assert!(house.rooms.custody.whoami(&org).await.unwrap().refused);
    assert!(is_rejected(&call(&house).await), "and it costs nothing");
    assert_eq!(house.omni.arrived(), 1);
    house.omni.set_keys(vec![key()]);
    assert!(!house.rooms.custody.whoami(&org).await.unwrap().refused);
    assert_eq!(call(&house).await.status(), 200);
}

fn answer(status: u16, body: &'static str) -> Fault {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    Fault::Answer(answer)
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_provokes_a_refusal_cannot_take_the_key_from_the_others() {
    let house = Plan::default().build().await;
    house.keep_keys();
    let refusal = "{\"error\":{\"code\":403,\"message\":\"Invalid bearer token\"}}";
    house.omni.fail(Rule::new(answer(403, refusal)).path("/api/v1/folders"));
    let begun = Instant::now();
    for _ in 0..100 {
        let provoked = house.call(get("/api/v1/folders").body(Full::default()).unwrap()).await;
        let provoked = provoked.await.unwrap();
        assert_eq!(provoked.answer.unwrap().body, refusal, "it is Omni's own answer");
        assert_eq!(call(&house).await.status(), 200);
    }
    let minutes = begun.elapsed().as_secs() / 60 + 1;
    let whoamis = whoamis(&house.omni.arrivals());
    println!("100 provoked refusals in {:?}: {whoamis} whoami", begun.elapsed());
    assert!((1..=minutes as usize).contains(&whoamis), "{whoamis}");
    assert!(matches!(state(&house), State::Ready { .. }));
}

#[tokio::test(start_paused = true)]
async fn all_known_shapes_of_a_refusal_are_known_and_no_others() {
    let known = [
        (401, ""),
        (401, "{\"error\":\"Unauthorized\",\"message\":\"x\"}"),
        (403, "{\"error\":{\"code\":403,\"message\":\"Invalid bearer token\"}}"),
        (
            403,
            "{\"detail\":\"User no longer has the required permissions to use this API key\",\"status\":403}",
        ),
        (
            400,
            "{\"error\":{\"code\":400,\"message\":\"Bad authorization header, must be formatted as Bearer <token>\"}}",
        ),
    ];
    let others = [
        (403, "{\"detail\":\"Permission denied\",\"status\":403}"),
        (403, "{\"detail\":\"Feature not enabled\",\"status\":403}"),
        (
            403,
            "{\"detail\":\"Invalid bearer token, or caller lacks organization admin permissions\",\"status\":403}",
        ),
        (403, "User-scoped API keys are not allowed to access the SCIM API."),
        (400, "{\"detail\":\"Invalid bearer token\",\"status\":400}"),
        (404, "{\"message\":\"Not found\"}"),
    ];
    let cases =
        known.iter().map(|case| (case, true)).chain(others.iter().map(|case| (case, false)));
    for ((status, body), refused) in cases {
        let house = Plan::default().build().await;
        house.omni.fail(Rule::new(answer(*status, body)));
        let answered = call(&house).await;
        assert_eq!(is_rejected(&answered), refused, "{status} {body}");
        assert_eq!(whoamis(&house.omni.arrivals()), usize::from(refused), "{status} {body}");
        if !refused {
            assert_eq!(
                (answered.status(), &answered.answer.unwrap().body[..]),
                (*status, body.as_bytes())
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_omni_does_not_say_the_key_stays() {
    let house = Plan { budget: "profile = \"burst\"".to_owned(), ..Plan::default() }.build().await;
    let refusal = "{\"error\":{\"code\":403,\"message\":\"Invalid bearer token\"}}";
    house.omni.fail(Rule::new(answer(403, refusal)).path(LABELS));
    house.omni.fail(Rule::new(Fault::Status(StatusCode::SERVICE_UNAVAILABLE)).path(WHOAMI));
    for _ in 0..5 {
        assert_eq!(call(&house).await.status(), 403);
    }
    assert_eq!(whoamis(&house.omni.arrivals()), 1, "not once a call");
    sleep(11 * SECOND).await;
    assert_eq!(call(&house).await.status(), 403);
    assert_eq!(whoamis(&house.omni.arrivals()), 2);
    assert!(matches!(state(&house), State::Ready { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_gone_is_not_sent_with_another_key() {
    let house = Plan::default().build().await;
    house.write_secret("org", another().token());
    house.omni.set_keys(vec![another()]);
    let large = vec![b'x'; 2 << 20];
    let write = house.call(post("/api/unstable/documents/import", large)).await.await.unwrap();
    let answer = write.answer.unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["type"], "urn:omnigate:problem:credential-unavailable");
    assert_eq!(call(&house).await.status(), 200, "the next one goes with the new key");
}

#[tokio::test(start_paused = true)]
async fn rotating_under_load_loses_no_call() {
    let fake = Settings { keys: vec![key(), another()], ..fake() };
    let budget = "profile = \"smooth\"\nmax_wait = \"1h\"".to_owned();
    let house = Plan { budget, fake, ..Plan::default() }.build().await;
    house.keep_keys();
    let all = calls(&house, 200).await;
    house.omni.wait_for_arrivals(50).await;
    house.write_secret("org", another().token());
    let rotated = Instant::now();
    for call in all {
        assert_eq!(call.await.unwrap().status(), 200);
    }
    let old = |one: &&Arrival| one.headers[AUTHORIZATION] == format!("Bearer {}", key().token());
    let arrivals = house.omni.arrivals();
    let last = arrivals.iter().filter(old).map(|one| one.at).max().unwrap();
    println!("rotated under 200 calls: the last with the old value {:?} after", last - rotated);
    assert!(last <= rotated + 5 * SECOND && arrivals.len() == 200);
    assert!(arrivals.iter().filter(|one| !old(one)).count() >= 140);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_comes_while_omni_is_asked_about_the_old_one_fails_no_call() {
    let house = Plan::default().build().await;
    house.omni.set_keys(vec![another()]);
    house.omni.fail(Rule::new(Fault::SlowHead(3 * SECOND)).path(WHOAMI));
    let all = calls(&house, 5).await;
    sleep(2 * SECOND).await;
    assert_eq!(whoamis(&house.omni.arrivals()), 1, "it is on its way");
    house.write_secret("org", another().token());
    house.rooms.credentials.refresh().await;
    for call in all {
        assert_eq!(call.await.unwrap().status(), 200);
    }
    assert!(matches!(state(&house), State::Ready { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_new_value_does_not_wait_for_the_question_about_the_old_one() {
    let budget = "profile = \"smooth\"\nmax_wait = \"1h\"".to_owned();
    let house = Plan { budget, ..Plan::default() }.build().await;
    house.keep_keys();
    house.omni.set_keys(Vec::new());
    assert!(is_rejected(&call(&house).await));
    // The first question of two is told to come back later, so that the second one waits.
    house.omni.fail(Rule::new(Fault::Block(RetryAfter::Seconds(100))).times(1));
    sleep(125 * SECOND).await;
    assert_eq!(house.rooms.shaper.snapshots()[0].queued, 1, "the second question");
    house.omni.set_keys(vec![another()]);
    house.write_secret("org", another().token());
    sleep(6 * SECOND).await;
    assert_eq!(call(&house).await.status(), 200);
}

const POOL: &str = "
    [credentials.second]
    kind = \"organization\"
    secret = \"second\"
    budget = \"omni\"
    on_missing = \"degrade\"
";

fn pool(keys: Vec<Key>) -> Plan {
    let usual = Plan::default();
    let fake = Settings { keys, ..usual.fake.clone() };
    let (credential, more) = ("[\"org\", \"second\"]".to_owned(), POOL.to_owned());
    Plan { budget: "profile = \"burst\"".to_owned(), credential, more, fake, ..usual }
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_keys_are_all_replaced_at_once_loses_no_call() {
    let made_up = |owner| Key::made_up(KeyKind::Organization, owner);
    let house = pool(vec![key(), made_up("second")]).build().await;
    let next = [another(), made_up("fourth")];
    house.write_secret("org", next[0].token());
    house.write_secret("second", next[1].token());
    house.omni.set_keys(next.to_vec());
    for call in calls(&house, 10).await {
        assert_eq!(call.await.unwrap().status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_goes_on_without_a_key_that_is_missing() {
    let house = pool(vec![key()]).build().await;
    house.keep_keys();
    sleep(SECOND).await;
    for call in calls(&house, 10).await {
        assert_eq!(call.await.unwrap().status(), 200);
    }
    house.write_secret("second", another().token());
    house.omni.set_keys(vec![another()]);
    sleep(61 * SECOND).await;
    assert_eq!(call(&house).await.status(), 200, "it is there now");
}

//! Keys that come and go while everything else fails too: by dice, and by what must hold whatever they
//! say.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::Full;
use omnigate::fake_omni::{Fault, Key, KeyKind, Reset, RetryAfter, Rule, Settings};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::harness::{Dice, House, Plan, SECOND, Timed, fake, get, post};

const LABELS: &str = "/api/v1/labels";
const WHOAMI: &str = "/api/v1/whoami";
const MAX_WAIT: Duration = Duration::from_secs(20);
/// What a call may take beyond its deadline, to learn whether it is the key.
const VERDICT: Duration = Duration::from_secs(10);
const REFUSAL: &str = "{\"error\":{\"code\":403,\"message\":\"Invalid bearer token\"}}";
const LASTS: Duration = Duration::from_secs(600);
/// Within this time a key that is good again is known to be.
const HEALED: Duration = Duration::from_secs(75);

/// One credential, and which values there have been.
struct Hand {
    name: &'static str,
    /// What its file says.
    now: Key,
    /// What Omni takes, if anything.
    taken: Option<Key>,
    values: usize,
}

struct Storm {
    house: House,
    dice: Dice,
    hands: Vec<Hand>,
    calls: Vec<JoinHandle<Timed>>,
}

fn refusal() -> Fault {
    let mut answer = Response::new(REFUSAL.into());
    *answer.status_mut() = StatusCode::FORBIDDEN;
    Fault::Answer(answer)
}

impl Storm {
    async fn rise(seed: u64, names: &'static [&'static str]) -> Self {
        let mut dice = Dice(seed);
        let hands: Vec<Hand> = names
            .iter()
            .map(|&name| {
                let key = Key::made_up(KeyKind::Organization, name);
                Hand { name, now: key.clone(), taken: Some(key), values: 1 }
            })
            .collect();
        let profile = ["smooth", "strict", "burst"][dice.below(3)];
        let usual = Plan::default();
        let keys = hands.iter().map(|hand| hand.now.clone()).collect();
        let plan = Plan {
            budget: format!("profile = \"{profile}\"\nmax_wait = \"20s\""),
            credential: format!("{names:?}"),
            more: names[1..]
                .iter()
                .map(|name| {
                    format!(
                        "[credentials.{name}]\nkind = \"organization\"\nsecret = \"{name}\"\n\
                         budget = \"omni\"\n"
                    )
                })
                .collect(),
            fake: Settings { limit: usual.fake.limit, keys, ..fake() },
            transit: SECOND / 2,
            seed,
            ..usual
        };
        let house = plan.build().await;
        house.keep_keys();
        Self { house, dice, hands, calls: Vec::new() }
    }

    async fn call(&mut self) {
        let request = match self.dice.below(4) {
            0 => post(LABELS, format!("{{\"name\":\"{}\"}}", self.dice.roll())),
            _ => get(LABELS).body(Full::default()).unwrap(),
        };
        let call = self.house.call(request).await;
        self.calls.push(call);
    }

    fn tell_omni(&self) {
        self.house.omni.set_keys(self.hands.iter().filter_map(|hand| hand.taken.clone()).collect());
    }

    fn rotate(&mut self, which: usize, known_to_omni: bool) {
        let name = format!("{}-{}", self.hands[which].name, self.dice.roll());
        let hand = &mut self.hands[which];
        hand.now = Key::made_up(KeyKind::Organization, &name);
        hand.values += 1;
        if known_to_omni {
            hand.taken = Some(hand.now.clone());
        }
        let (name, secret) = (hand.name, hand.now.token().to_owned());
        self.house.write_secret(name, &secret);
        self.tell_omni();
    }

    /// Something happens.
    fn strike(&mut self) {
        let which = self.dice.below(self.hands.len());
        let hand = &mut self.hands[which];
        match self.dice.below(13) {
            0 | 1 => hand.taken = None,
            2 | 3 => hand.taken = Some(hand.now.clone()),
            4 | 5 => self.rotate(which, true),
            6 => self.rotate(which, false),
            7 => {
                self.house.write_secret(hand.name, "no token");
                // It comes back with the next value.
                hand.values += 1;
            }
            8 => {
                let credentials = self.house.rooms.credentials.clone();
                tokio::spawn(async move { credentials.refresh().await });
            }
            9 => {
                let fault = match self.dice.below(5) {
                    0 => Fault::Status(StatusCode::SERVICE_UNAVAILABLE),
                    1 => Fault::SlowHead(30 * SECOND),
                    2 => Fault::SlowBody { piece: 4, pause: SECOND },
                    3 => Fault::Reset(Reset::OnArrival),
                    _ => Fault::Block(RetryAfter::Absent),
                };
                let times = 1 + self.dice.below(10);
                self.house.omni.fail(Rule::new(fault).path(WHOAMI).times(times));
            }
            10 => {
                let times = 1 + self.dice.below(20);
                self.house.omni.fail(Rule::new(refusal()).path(LABELS).times(times));
            }
            11 => {
                let block = Fault::Block(RetryAfter::Seconds(5));
                self.house.omni.fail(Rule::new(block).times(3));
            }
            _ => self.house.omni.heal(),
        }
        self.tell_omni();
    }

    async fn rage(&mut self) {
        let end = Instant::now() + LASTS;
        let mut next = Instant::now();
        while Instant::now() < end {
            if Instant::now() >= next {
                self.strike();
                next = Instant::now() + self.dice.below(30_000) as u32 * (SECOND / 1000);
            }
            for _ in 0..self.dice.below(4) {
                self.call().await;
            }
            if self.dice.below(10) == 0 && !self.calls.is_empty() {
                let leaves = self.dice.below(self.calls.len());
                self.calls.swap_remove(leaves).abort();
            }
            sleep(self.dice.below(3_000) as u32 * (SECOND / 1000)).await;
        }
    }

    fn calm(&mut self) {
        self.house.omni.heal();
        for hand in &mut self.hands {
            hand.taken = Some(hand.now.clone());
            self.house.write_secret(hand.name, hand.now.token());
        }
        self.tell_omni();
    }
}

fn seeds() -> impl Iterator<Item = u64> {
    let said = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = said("SEED").unwrap_or(1);
    first..first + said("SEEDS").unwrap_or(4)
}

/// What a call may be told: 200, Omni's own refusal, or a problem of ours.
fn ended_as(call: &Timed) -> String {
    let Some(answer) = &call.answer else { return "no answer".to_owned() };
    match answer.status.as_u16() {
        status @ (200 | 201) => status.to_string(),
        403 if answer.body == REFUSAL => "403 of Omni's".to_owned(),
        403 if answer.json()["error"]["message"] == "Invalid bearer token" => {
            "403 of Omni's".to_owned()
        }
        503 => format!("503 {}", answer.json()["type"].as_str().unwrap()),
        other => format!("{other} {:?}", answer.body),
    }
}

async fn storm(seed: u64, names: &'static [&'static str]) {
    let mut storm = Storm::rise(seed, names).await;
    storm.rage().await;
    storm.calm();
    let mut ended: BTreeMap<String, usize> = BTreeMap::new();
    for call in std::mem::take(&mut storm.calls) {
        // Whoever is still here has MAX_WAIT left and no more.
        let call = call.await.unwrap();
        assert!(call.took <= MAX_WAIT + VERDICT + SECOND, "seed {seed}: {call:?}");
        *ended.entry(ended_as(&call)).or_default() += 1;
    }
    let known = |end: &str| {
        ["200", "201", "403 of Omni's"].contains(&end) || end.starts_with("503 urn:omnigate:")
    };
    let arrivals = storm.house.omni.arrivals();
    let whoamis = arrivals.iter().filter(|one| one.target.path() == WHOAMI).count();
    println!("seed {seed} {names:?}: {ended:?}, {} arrivals, {whoamis} whoami", arrivals.len());
    assert!(ended.keys().all(|end| known(end)), "seed {seed}: {ended:?}");

    sleep(HEALED).await;
    for nth in 0..30 {
        storm.call().await;
        let call = storm.calls.pop().unwrap().await.unwrap();
        assert!([200, 201].contains(&call.status()), "seed {seed}, call {nth} after it: {call:?}");
    }
    assert!(storm.house.omni.highest_in_any_window(60 * SECOND) <= 60, "seed {seed}");
    // Once for each value, once a minute, and where Omni did not say again after 10 s.
    let values: usize = storm.hands.iter().map(|hand| hand.values).sum();
    let (minutes, tens) = (LASTS.as_secs() as usize / 60 + 1, LASTS.as_secs() as usize / 10);
    assert!(whoamis <= values + names.len() * (minutes + tens), "seed {seed}: {whoamis}");
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_one_key_every_call_ends_and_it_heals() {
    for seed in seeds() {
        storm(seed, &["org"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_a_pools_keys_every_call_ends_and_it_heals() {
    for seed in seeds() {
        storm(seed + 1000, &["org", "second"]).await;
    }
}

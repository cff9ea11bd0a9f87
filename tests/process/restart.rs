//! What was sent survives `kill -9`, and what cannot be known never opens the gate.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Caller, Dice, Gateway, House, Plan, SECOND, get, soon};

const LIMIT: usize = 20;
/// After a send this time passes until its slot is free again.
const SPAN: Duration = Duration::from_millis(1300);

/// Half a window at once, so that a bucket that forgot would show.
const SMOOTH: &str = "profile = \"smooth\"\nburst = 10";
const STRICT: &str = "profile = \"strict\"\nburst = 10";
const BURST: &str = "profile = \"burst\"";

async fn house(profile: &str) -> House {
    let budget = format!("limit = {LIMIT}\nwindow = \"1s\"\nguard = \"300ms\"\n{profile}");
    Plan { budget, ..Plan::default() }.build().await
}

/// Callers who always want more, whatever becomes of the gateway.
struct Crowd {
    _callers: JoinSet<()>,
    tell: watch::Sender<Option<SocketAddr>>,
}

impl Crowd {
    fn come(callers: usize) -> Self {
        let (tell, told) = watch::channel(None);
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let mut told = told.clone();
            tasks.spawn(async move {
                loop {
                    let Ok(address) = told.wait_for(Option::is_some).await.map(|a| a.unwrap())
                    else {
                        return;
                    };
                    if let Ok(stream) = TcpStream::connect(address).await {
                        let mut caller = Caller::over(stream).await;
                        while caller.call(get("/api/v1/labels")).await.is_ok() {}
                    }
                    // That one is gone; perhaps there is another by now.
                    tokio::task::yield_now().await;
                }
            });
        }
        Self { _callers: tasks, tell }
    }

    fn go_to(&self, gateway: &Gateway) {
        self.tell.send_replace(Some(gateway.address()));
    }

    fn rest(&self) {
        self.tell.send_replace(None);
    }
}

/// When a life ends.
#[derive(Debug)]
enum End {
    /// So long after it was born, ready or not.
    AfterBirth(Duration),
    /// So long after it began to serve.
    AfterStart(Duration),
    /// With the send of this number.
    AtSend(usize),
}

async fn twenty_lives(profile: &str, seed: u64) {
    let house = house(profile).await;
    let crowd = Crowd::come(3 * LIMIT);
    let mut dice = Dice(seed);
    let begun = Instant::now();
    for life in 0..20 {
        let mut gateway = house.spawn();
        let end = match life % 5 {
            0 => End::AfterBirth(Duration::from_millis(dice.below(150))),
            1 | 3 => End::AfterStart(Duration::from_millis(dice.below(900))),
            _ => End::AtSend(1 + dice.below(LIMIT as u64) as usize),
        };
        match end {
            End::AfterBirth(time) => {
                if timeout(time, gateway.serves()).await.is_ok() {
                    crowd.go_to(&gateway);
                }
            }
            End::AfterStart(time) => {
                gateway.serves().await;
                crowd.go_to(&gateway);
                sleep(time).await;
            }
            End::AtSend(number) => {
                let before = house.omni.arrived();
                gateway.serves().await;
                crowd.go_to(&gateway);
                soon(house.omni.wait_for_arrivals(before + number)).await;
            }
        }
        gateway.kill().await;
        crowd.rest();
    }
    // One more life, long enough for a window that would show what the last ones forgot.
    let gateway = house.start().await;
    crowd.go_to(&gateway);
    soon(house.omni.wait_for_arrivals(house.omni.arrived() + LIMIT)).await;
    let (took, sent) = (begun.elapsed(), house.omni.arrived());
    let share = sent as f64 / (took.as_secs_f64() / SPAN.as_secs_f64() * LIMIT as f64);
    let highest = house.omni.highest_in_any_window(SECOND);
    println!(
        "{profile:?}, seed {seed}: {sent} sends in 21 lives and {took:.1?}, {:.0} % of what one \
         life could send; at most {highest} in any second, {LIMIT} allowed",
        share * 100.0
    );
    assert!(highest <= LIMIT);
    assert!(share > 0.3, "hardly anything was sent");
}

#[tokio::test]
async fn twenty_kills_never_open_the_gate_of_a_burst_budget() {
    twenty_lives(BURST, 0x5eed).await;
}

#[tokio::test]
async fn twenty_kills_never_open_the_gate_of_a_smooth_budget() {
    twenty_lives(SMOOTH, 0x5eee).await;
}

#[tokio::test]
async fn twenty_kills_never_open_the_gate_of_a_strict_budget() {
    twenty_lives(STRICT, 0x5eef).await;
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_ends_and_names_the_first() {
    let house = house(BURST).await;
    let first = house.start().await;
    let second = house.spawn().ends().await;
    assert_eq!(second.status.code(), Some(69), "{}", second.said);
    assert!(second.said.contains(&format!("(pid {})", first.pid())), "{}", second.said);
    // The first has lost nothing by it, its unix socket included.
    let mut caller = Caller::connect_unix(&house.socket()).await;
    assert_eq!(caller.get("/api/v1/labels").await.status, 200);
    first.kill().await;
    assert_eq!(house.start().await.get("/api/v1/labels").await.status, 200);
}

/// What happens to the ledger's file between two lives.
#[derive(Clone, Copy, Debug)]
enum Harm {
    None,
    Deleted,
    CutTo(usize),
    Longer,
    Garbage,
    OneBit { at: usize },
}

impl Harm {
    fn befall(self, ledger: &Path) {
        let mut bytes = std::fs::read(ledger).unwrap();
        match self {
            Self::None => return,
            Self::Deleted => return std::fs::remove_file(ledger).unwrap(),
            Self::CutTo(length) => bytes.truncate(length),
            Self::Longer => bytes.push(0),
            Self::Garbage => {
                let mut dice = Dice(1);
                bytes.fill_with(|| dice.below(256) as u8);
            }
            Self::OneBit { at } => bytes[at] ^= 1,
        }
        std::fs::write(ledger, bytes).unwrap();
    }
}

/// One send in a first life, then `harm`, then a second life: how long after its birth its first
/// send arrives.
async fn first_send_after(harm: Harm, killed: bool) -> Duration {
    let house = house(BURST).await;
    let gateway = house.start().await;
    assert_eq!(gateway.get("/api/v1/labels").await.status, 200);
    if killed {
        gateway.kill().await;
    } else {
        gateway.signal(Signal::TERM);
        assert_eq!(gateway.ends().await.status.code(), Some(0));
    }
    harm.befall(&house.ledger());
    let born = Instant::now();
    let gateway = house.start().await;
    assert_eq!(gateway.get("/api/v1/labels").await.status, 200);
    house.omni.arrivals()[1].at - born
}

#[tokio::test]
async fn a_ledger_that_was_harmed_keeps_the_gate_shut_for_a_whole_window() {
    let length = {
        let house = house(BURST).await;
        let _gateway = house.start().await;
        std::fs::read(house.ledger()).unwrap().len()
    };
    let cuts = [0, 1, 63, 64, 65, 96, length - 32, length - 1].map(Harm::CutTo);
    let bits = [0, 8, 12, 20, 32, 63, 64, length - 1].map(|at| Harm::OneBit { at });
    let harms = [Harm::Deleted, Harm::Longer, Harm::Garbage].into_iter().chain(cuts).chain(bits);
    for killed in [true, false] {
        let whole = first_send_after(Harm::None, killed).await;
        assert!(whole < SPAN, "the gate was shut without a reason, for {whole:?}");
        let harms: Vec<Harm> = harms.clone().collect();
        // A few at a time: each is a process.
        let mut shortest = Duration::MAX;
        for some in harms.chunks(5) {
            let waits = join_all(some.iter().map(|harm| first_send_after(*harm, killed))).await;
            for (harm, wait) in some.iter().zip(waits) {
                assert!(wait >= SPAN, "{harm:?}, killed: {killed}: open after {wait:?}");
                shortest = shortest.min(wait);
            }
        }
        println!(
            "killed: {killed}: first send {whole:.2?} after the start with the ledger whole; \
             with any of {} harms after {shortest:.2?} at the earliest",
            harms.len()
        );
    }
}

//! Reads and writes in any order, by dice: who has seen a write end is shown what it wrote.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use omnigate::fake_omni::{Fault, Hold, Reset, RetryAfter, Rule, write_body};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::cache_isolation::seeds;
use crate::cache_writes::{Direct, keeping};
use crate::harness::{Caller, Dice, House, SECOND, Timed};

const STEPS: usize = 60;

const LISTS: [&str; 6] = [
    "/api/v1/folders?pageSize=2",
    "/api/v1/documents",
    "/api/v1/labels",
    "/api/v1/content",
    "/api/v1/schedules",
    "/api/v1/color-palettes",
];

const WRITES: [(Method, &str); 7] = [
    (Method::POST, "/api/v1/folders"),
    (Method::POST, "/api/v1/documents"),
    (Method::PUT, "/api/v1/labels/deprecated"),
    (Method::PUT, "/api/v1/schedules/made-up/pause"),
    (Method::POST, "/api/v1/color-palettes"),
    (Method::DELETE, "/api/v1/documents/made-up/favorite"),
    (Method::DELETE, "/api/v1/user-attributes/made-up"),
];

const WISHES: [&str; 8] =
    ["", "", "", "no-cache", "max-stale=600", "no-store", "max-age=5", "min-fresh=3"];

type Revisions = [u64; LISTS.len()];

struct Read {
    call: JoinHandle<Timed>,
    list: usize,
    /// What it must show at least.
    floor: u64,
    step: usize,
}

/// A write that Omni has done and not answered yet.
struct Write {
    call: JoinHandle<Timed>,
    hold: Hold,
    wrote: Revisions,
}

/// How often something was seen.
type Seen = BTreeMap<&'static str, usize>;

struct Storm {
    seed: u64,
    house: House,
    direct: Direct,
    dice: Dice,
    crossings: Vec<Caller>,
    floors: Revisions,
    reads: Vec<Read>,
    writes: Vec<Write>,
    holds: Vec<Hold>,
    steps: Vec<String>,
    seen: Seen,
}

impl Storm {
    async fn rise(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let limit = [30, 60, 2_000][dice.below(3)];
        let mut plan = keeping();
        plan.budget = format!("profile = \"burst\"\nlimit = {limit}\nmax_wait = \"90s\"");
        let stale = ["0s", "10m"][dice.below(2)];
        let upstream_says = dice.below(4) == 0;
        let kept = match upstream_says {
            true => format!("respect_upstream = true\ncache = {{ stale = \"{stale}\" }}"),
            false => format!("cache = {{ ttl = \"8s\", stale = \"{stale}\" }}"),
        };
        plan.route = format!("timeout = \"1h\"\n{kept}");
        plan.transit = SECOND.mul_f64(0.01 * dice.share()) * u32::from(dice.below(2) == 0);
        plan.seed = seed;
        let house = plan.build().await;
        if upstream_says {
            house.omni.set_field("/", CACHE_CONTROL, HeaderValue::from_static("max-age=8"));
        }
        let direct = Direct::to(&house).await;
        let crossings = vec![house.h2_caller().await, house.h2_caller().await];
        Self {
            seed,
            house,
            direct,
            dice,
            crossings,
            floors: Revisions::default(),
            reads: Vec::new(),
            writes: Vec::new(),
            holds: Vec::new(),
            steps: Vec::new(),
            seen: Seen::default(),
        }
    }

    async fn blow(mut self) -> Seen {
        for _ in 0..STEPS {
            self.hear().await;
            match self.dice.below(20) {
                0..8 => self.read().await,
                8..11 => self.write().await,
                11..13 => self.hold_a_read(),
                13..15 => self.release().await,
                15 => self.leave().await,
                16 => self.spend().await,
                17 => self.trouble(),
                18 => self.elsewhere().await,
                _ => {
                    let time = SECOND.mul_f64(4.0 * self.dice.share());
                    self.note(format!("{time:?} pass"));
                    sleep(time).await;
                }
            }
        }
        self.settle().await
    }

    fn note(&mut self, step: String) {
        self.steps.push(format!("{}: {step}", self.steps.len()));
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// What Omni shows now.
    async fn truth(&mut self) -> Revisions {
        let mut all = Revisions::default();
        for (one, list) in all.iter_mut().zip(LISTS) {
            *one = self.direct.revision(list).await.unwrap();
        }
        all
    }

    /// What Omni shows now of the lists that have changed since, and 0 of the others: it may be that
    /// an earlier write changed those, of which nobody has heard yet.
    async fn written_since(&mut self, before: Revisions) -> Revisions {
        let mut wrote = self.truth().await;
        for (now, before) in wrote.iter_mut().zip(before) {
            *now = if *now == before { 0 } else { *now };
        }
        wrote
    }

    /// Sends a call on a connection of its own, or beside others on one that several share.
    async fn send(
        &mut self,
        method: &Method,
        path: &str,
        wish: &str,
        body: String,
    ) -> JoinHandle<Timed> {
        let shared = self.dice.below(2) == 0;
        let request = match shared {
            true => Request::builder().uri(format!("http://127.0.0.1:6664{path}")),
            false => Request::builder().uri(path).header("host", "127.0.0.1:6664"),
        };
        let request = request.method(method.clone());
        let request = if wish.is_empty() { request } else { request.header("cache-control", wish) };
        let request = match body.is_empty() {
            true => request,
            false => request.header("content-type", "application/json"),
        };
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        if !shared {
            return self.house.call(request).await;
        }
        let nth = self.dice.below(self.crossings.len());
        let mut caller = self.crossings[nth].another();
        let begun = Instant::now();
        let call = tokio::spawn(async move {
            let answer = caller.try_call(request).await;
            Timed { answer, took: begun.elapsed() }
        });
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        call
    }

    async fn read(&mut self) {
        // Some more often than others.
        let list = self.dice.below(LISTS.len()).min(self.dice.below(LISTS.len()));
        let wish = WISHES[self.dice.below(WISHES.len())];
        self.ask(list, wish).await;
    }

    async fn ask(&mut self, list: usize, wish: &str) {
        let (floor, step) = (self.floors[list], self.steps.len());
        self.note(format!("read {} {wish} (at least {floor})", LISTS[list]));
        let call = self.send(&Method::GET, LISTS[list], wish, String::new()).await;
        self.reads.push(Read { call, list, floor, step });
    }

    /// Writes, and goes on when the write has ended, or was done and is held.
    async fn write(&mut self) {
        let (method, path) = WRITES[self.dice.below(WRITES.len())].clone();
        let rule =
            |fault| Rule::new(fault).method(method.clone()).target(path).owner("org").times(1);
        let hold = Hold::new();
        let held = self.dice.below(2) == 0;
        if held {
            self.house.omni.fail(rule(Fault::Hold(hold.clone())));
        } else {
            let fault = match self.dice.below(9) {
                0 => Some(Fault::Reset(Reset::BeforeHead)),
                1 => Some(Fault::Reset(Reset::MidBody)),
                2 => Some(Fault::Status(StatusCode::BAD_GATEWAY)),
                3 => Some(Fault::SlowHead(SECOND)),
                4 => Some(Fault::SlowBody { piece: 9, pause: SECOND / 4 }),
                _ => None,
            };
            fault.into_iter().for_each(|fault| self.house.omni.fail(rule(fault)));
        }
        let name = match path.contains("labels") {
            true => "deprecated".to_owned(),
            false => format!("step {}", self.steps.len()),
        };
        self.note(format!("write {method} {path}{}", if held { ", held" } else { "" }));
        let before = self.truth().await;
        let mut call = self.send(&method, path, "", write_body(&name)).await;
        self.count("writes");
        tokio::select! {
            biased;
            _ = &mut call => {
                let wrote = self.written_since(before).await;
                self.raise(wrote);
            }
            () = hold.wait_for(1) => {
                let wrote = self.written_since(before).await;
                self.count("held writes");
                self.writes.push(Write { call, hold, wrote });
            }
        }
    }

    fn hold_a_read(&mut self) {
        let list = LISTS[self.dice.below(LISTS.len())];
        let hold = Hold::new();
        let rule = Rule::new(Fault::Hold(hold.clone())).method(Method::GET).target(list);
        self.house.omni.fail(rule.owner("org").times(1));
        self.holds.push(hold);
        self.note(format!("the next fetch of {list} is held"));
    }

    async fn release(&mut self) {
        let (reads, writes) = (self.holds.len(), self.writes.len());
        if reads + writes == 0 {
            return;
        }
        let nth = self.dice.below(reads + writes);
        if nth < reads {
            self.holds.swap_remove(nth).release();
            return self.note("a held read goes on".to_owned());
        }
        self.writes[nth - reads].hold.release();
        self.note("a held write is answered".to_owned());
        if self.dice.below(2) == 0 {
            let write = self.writes.swap_remove(nth - reads);
            let _ = write.call.await;
            self.raise(write.wrote);
        }
    }

    /// The caller of a write that was done leaves.
    async fn leave(&mut self) {
        if self.writes.is_empty() {
            return;
        }
        let nth = self.dice.below(self.writes.len());
        let write = self.writes.swap_remove(nth);
        write.call.abort();
        let _ = write.call.await;
        self.note("the caller of a held write leaves".to_owned());
        // Until it is heard of.
        sleep(SECOND / 1000).await;
        self.raise(write.wrote);
    }

    /// Other calls take the slots.
    async fn spend(&mut self) {
        let calls = self.dice.below(30);
        self.note(format!("{calls} other calls"));
        for _ in 0..calls {
            drop(self.send(&Method::POST, "/api/v1/ai/pick-topic", "", "{}".to_owned()).await);
        }
    }

    fn trouble(&mut self) {
        let fault = match self.dice.below(4) {
            0 => Fault::Status(StatusCode::SERVICE_UNAVAILABLE),
            1 => Fault::Reset(Reset::MidBody),
            2 => Fault::Block(RetryAfter::Seconds(5)),
            _ => Fault::SlowBody { piece: 500, pause: SECOND / 5 },
        };
        self.note(format!("calls meet {fault:?}"));
        let rule = match fault {
            Fault::Block(_) => Rule::new(fault),
            _ => Rule::new(fault).method(Method::GET),
        };
        let times = 1 + self.dice.below(4);
        self.house.omni.fail(rule.owner("org").times(times));
    }

    /// Somebody writes without the gateway.
    async fn elsewhere(&mut self) {
        let request = Request::post("/api/v1/color-palettes").header("host", "omni");
        self.direct.call(request.body(Full::default()).unwrap()).await;
        self.note("a write elsewhere".to_owned());
    }

    fn raise(&mut self, wrote: Revisions) {
        for (floor, wrote) in self.floors.iter_mut().zip(wrote) {
            *floor = wrote.max(*floor);
        }
    }

    /// Takes in what has ended.
    async fn hear(&mut self) {
        let ended: Vec<Write> = self.writes.extract_if(.., |one| one.call.is_finished()).collect();
        ended.into_iter().for_each(|one| self.raise(one.wrote));
        let ended: Vec<Read> = self.reads.extract_if(.., |one| one.call.is_finished()).collect();
        for read in ended {
            self.judge(read).await;
        }
    }

    async fn judge(&mut self, read: Read) {
        let Read { call, list, floor, step } = read;
        let answer = call.await.unwrap().answer.filter(|answer| answer.status == 200);
        let Some(answer) = answer else { return self.count("refused") };
        let how = answer.header("cache-status");
        let shown = answer.json()["revision"].as_u64().unwrap();
        assert!(
            shown >= floor,
            "SEED={}: step {step} was shown {shown} of {}, after {floor} had been written: {how}\n{}",
            self.seed,
            LISTS[list],
            self.steps.join("\n")
        );
        self.count(match () {
            () if how.contains("detail=") => "stale",
            () if how.contains("; hit") => "hits",
            () if how.contains("collapsed") => "collapsed",
            () => "fetched",
        });
    }

    async fn settle(mut self) -> Seen {
        self.house.omni.heal();
        for write in std::mem::take(&mut self.writes) {
            write.hold.release();
            let _ = write.call.await;
            self.raise(write.wrote);
        }
        // Each list is asked for beside the fetches that are still held.
        for nth in 0..LISTS.len() {
            self.ask(nth, "").await;
        }
        sleep(100 * SECOND).await;
        self.holds.drain(..).for_each(|hold| hold.release());
        for read in std::mem::take(&mut self.reads) {
            self.judge(read).await;
        }
        self.seen
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_seen_a_write_end_is_never_shown_less() {
    let mut all = Seen::default();
    for seed in seeds(60) {
        let seen = Storm::rise(seed).await.blow().await;
        for (what, count) in seen {
            *all.entry(what).or_default() += count;
        }
    }
    println!("seeds {:?}, {STEPS} steps each: {all:?}", seeds(60));
    if seeds(60).count() >= 60 {
        let often = ["hits", "collapsed", "held writes"].map(|what| all[what]);
        assert!(often.into_iter().all(|count| count > 100) && all["stale"] > 5, "{all:?}");
    }
}

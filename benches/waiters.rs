//! What a call costs in memory while it waits. `cargo bench --bench waiters`.
//!
//! The resident set of the process, before and after so many calls have queued. Each is a task that
//! has been polled, with its timer and its waker. All calls that were measured stay, so that no
//! later one gets memory that an earlier one gave back.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::Duration;

use http::Request;
use http::header::{ACCEPT, HOST, USER_AGENT};
use omnigate::app::{Rooms, Ways};
use omnigate::base::{Body, BudgetId, CallerId, CredentialId, Peer, Priority};
use omnigate::config;
use omnigate::fake_omni::{Key as FakeKey, KeyKind};
use omnigate::net::Dial;
use omnigate::shape::{
    Ask, BudgetSettings, ColdStart, Key, Profile, Scope, Shaper, ShaperSettings,
};
use tokio::task::JoinHandle;

/// Bytes that a place in the line may take. A whole call takes more, most of it the request's own head,
/// which a connection holds in any case while it is answered; its figure is shown and has no bar.
const BAR: usize = 2 * 1024;

fn main() -> ExitCode {
    // `cargo test --benches` only wants to know that it runs.
    let real = std::env::args().any(|arg| arg == "--bench");
    let waiters = if real { 100_000 } else { 1_000 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let most = runtime.block_on(async {
        let (shaper, places) = places(waiters).await;
        let (rooms, calls) = calls(waiters).await;
        drop((shaper, rooms, places.tasks, calls.tasks));
        println!("{waiters} waiters, bytes of each:");
        println!("  {:>6}  a place in the line, waiting", places.bytes);
        println!("  {:>6}  a whole call: that, its request, and the corridor", calls.bytes);
        places.bytes
    });
    if real && most > BAR {
        println!("a place takes more than {BAR}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Those who wait, and what each of them takes.
struct Waiters {
    tasks: Vec<JoinHandle<()>>,
    bytes: usize,
}

impl Waiters {
    async fn measure(waiters: usize, mut one: impl FnMut() -> JoinHandle<()>) -> Self {
        let mut tasks = Vec::with_capacity(waiters);
        // The first ones also pay for what is there once.
        tasks.extend((0..100).map(|_| one()));
        all_polled().await;
        let before = resident();
        tasks.extend((0..waiters).map(|_| one()));
        all_polled().await;
        let bytes = resident().saturating_sub(before) / waiters;
        Self { tasks, bytes }
    }
}

async fn places(waiters: usize) -> (std::sync::Arc<Shaper>, Waiters) {
    let id = BudgetId::new("omni");
    let key = Key { credential: CredentialId::new("org"), budgets: vec![id.clone()] };
    let budget = BudgetSettings {
        id,
        limit: NonZeroU32::MIN,
        window: Duration::from_secs(60),
        guard: Duration::ZERO,
        profile: Profile::Burst,
        reserve: 0,
        scope: Scope::Organization,
        max_queued: 1_000_000,
        max_wait: Duration::from_secs(1_000_000_000),
        batch_max_wait: Duration::from_secs(1_000_000_000),
        cold_start: ColdStart::Trust,
    };
    let keys = vec![key];
    let settings =
        ShaperSettings { budgets: vec![budget], keys: keys.clone(), callers: Vec::new() };
    let shaper = std::sync::Arc::new(Shaper::open(settings, None).unwrap());
    let lane = shaper.lane(&keys).unwrap();
    let caller = CallerId::new("anonymous");
    let measured = Waiters::measure(waiters, || {
        let ask = Ask { lane, caller: &caller, priority: Priority::Normal, max_wait: None };
        let mut place = shaper.join(&ask).unwrap();
        tokio::spawn(async move {
            place.near().await.unwrap();
            place.turn().await.unwrap().begin();
        })
    });
    let measured = measured.await;
    assert!(shaper.snapshots()[0].queued >= waiters, "not everybody waits");
    (shaper, measured)
}

async fn calls(waiters: usize) -> (Rooms, Waiters) {
    let folder = tempfile::tempdir().unwrap();
    let key = FakeKey::made_up(KeyKind::Organization, "bench");
    std::fs::write(folder.path().join("org"), key.token()).unwrap();
    let text = r#"
        state_dir = "state"
        [upstream]
        base_url = "http://127.0.0.1:9"
        [vault]
        backend = "dir"
        path = "."
        [credentials.org]
        kind = "organization"
        secret = "org"
        [budgets.omni]
        max_queued = 1000000
        max_wait = "1000h"
        cold_start = "trust"
        [[routes]]
        name = "all"
        path = "/{*rest}"
        credential = "org"
    "#;
    let path = folder.path().join("omnigate.toml");
    let config = config::parse(text, &path).unwrap_or_else(|report| panic!("{report}"));
    // Nobody answers at the far end: what is sent stays under way.
    let (dial, far_ends) = Dial::pipe();
    let rooms =
        Rooms::open(&config, Ways { upstream: Some(dial), ..Ways::default() }).await.unwrap();
    let measured = Waiters::measure(waiters, || {
        let request = Request::get("/api/v1/documents?pageSize=20")
            .header(HOST, "127.0.0.1:6664")
            .header(USER_AGENT, "bench")
            .header(ACCEPT, "application/json")
            .body(Body::empty())
            .unwrap();
        let answer = rooms.answer(request, Peer::pipe());
        tokio::spawn(async move { drop(answer.await) })
    });
    let measured = measured.await;
    let queued = rooms.shaper.snapshots()[0].queued;
    assert!(queued >= waiters, "only {queued} wait");
    drop(far_ends);
    (rooms, measured)
}

/// Waits until every task has been polled: this runtime takes them in the order of their spawning.
async fn all_polled() {
    tokio::spawn(async {}).await.unwrap();
}

/// The resident set in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

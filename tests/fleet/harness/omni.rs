//! The fake Omni, on a thread of its own, so that it sees what comes when it comes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use omnigate::fake_omni::{Algorithm, FakeOmni, Key, KeyKind, Limit, Settings};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::WINDOW;

/// How often the thread looks whether it is late.
const TICK: Duration = Duration::from_millis(5);

/// The organization key that every gateway here holds.
pub(crate) fn key() -> Key {
    Key::made_up(KeyKind::Organization, "org")
}

/// A time in which the judge was not there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall {
    pub(crate) start: Instant,
    pub(crate) end: Instant,
}

/// An Omni that refuses nothing by itself, and remembers everything.
pub(crate) struct Omni {
    pub(crate) fake: FakeOmni,
    pub(crate) address: SocketAddr,
    stalls: Arc<Mutex<Vec<Stall>>>,
    _serving: DropGuard,
}

impl Omni {
    pub(crate) async fn open() -> Self {
        let fake = FakeOmni::new(Settings {
            keys: vec![key()],
            limit: Limit::new(Algorithm::Off, 1, WINDOW),
            records: Some(3),
            ..Settings::default()
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stalls) = (CancellationToken::new(), Arc::<Mutex<Vec<Stall>>>::default());
        let (serving, seen) = (fake.clone(), stalls.clone());
        let ends = stop.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                tokio::spawn(watch(seen));
                let listener = TcpListener::from_std(listener).unwrap();
                serving.serve(listener, ends).await;
            });
        });
        Self { fake, address, stalls, _serving: stop.drop_guard() }
    }

    /// The times in which this thread did not run although it had to: what arrived then was seen too
    /// late.
    pub(crate) fn stalls(&self) -> Vec<Stall> {
        self.stalls.lock().unwrap().clone()
    }
}

async fn watch(stalls: Arc<Mutex<Vec<Stall>>>) {
    loop {
        let due = Instant::now() + TICK;
        sleep_until(due).await;
        let end = Instant::now();
        if end - due > TICK {
            stalls.lock().unwrap().push(Stall { start: due, end });
        }
    }
}

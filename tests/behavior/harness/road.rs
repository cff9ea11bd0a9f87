//! The road from the gateway to the fake Omni: it takes time, and it remembers who set out when.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use omnigate::fake_omni::FakeOmni;
use omnigate::net::PipeEnd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

/// One request head that left the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Departure {
    pub(crate) at: Instant,
    /// The request line's target.
    pub(crate) target: String,
}

#[derive(Clone)]
pub(crate) struct Road {
    departures: Arc<Mutex<Vec<Departure>>>,
    /// So many of the next connections end before a byte has gone over them.
    dead_ends: Arc<AtomicUsize>,
}

impl Road {
    /// Joins each pipe to the fake. What the gateway writes arrives after a random part of
    /// `transit`; what Omni answers arrives at once.
    pub(crate) fn open(
        mut far_ends: UnboundedReceiver<PipeEnd>,
        omni: FakeOmni,
        transit: Duration,
        seed: u64,
    ) -> Self {
        let road = Self { departures: Arc::default(), dead_ends: Arc::default() };
        let log = road.clone();
        tokio::spawn(async move {
            let mut dice = Dice(seed);
            while let Some(gateway) = far_ends.recv().await {
                let dice = Dice(dice.roll());
                tokio::spawn(log.clone().carry(gateway, omni.clone(), transit, dice));
            }
        });
        road
    }

    /// Who left, in the order of leaving.
    pub(crate) fn departures(&self) -> Vec<Departure> {
        self.departures.lock().unwrap().clone()
    }

    /// The next `count` connections end before a byte has gone over them.
    pub(crate) fn dead_ends(&self, count: usize) {
        self.dead_ends.store(count, Ordering::Relaxed);
    }

    async fn carry(self, gateway: PipeEnd, omni: FakeOmni, transit: Duration, mut dice: Dice) {
        let less = |left: usize| left.checked_sub(1);
        if self.dead_ends.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return;
        }
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move { omni.serve_connection(far).await });
        let (mut from_gateway, mut to_gateway) = tokio::io::split(gateway);
        let (mut from_omni, mut to_omni) = tokio::io::split(near);
        let up = async {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let n = match from_gateway.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(n) => n,
                };
                self.note(&buffer[..n]);
                if !transit.is_zero() {
                    sleep(transit.mul_f64(dice.share())).await;
                }
                if to_omni.write_all(&buffer[..n]).await.is_err() {
                    break;
                }
            }
            let _ = to_omni.shutdown().await;
        };
        let down = async {
            let _ = copy(&mut from_omni, &mut to_gateway).await;
            let _ = to_gateway.shutdown().await;
        };
        // A gateway that hangs up is heard at once, and Omni too.
        tokio::select! {
            () = up => {}
            () = down => {}
        }
    }

    fn note(&self, bytes: &[u8]) {
        let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        let (method, target) = (words.next(), words.next());
        let is_head = words.next() == Some(b"HTTP/1.1") && method.is_some();
        if let Some(target) = target.filter(|_| is_head) {
            let target = String::from_utf8_lossy(target).into_owned();
            self.departures.lock().unwrap().push(Departure { at: Instant::now(), target });
        }
    }
}

/// Small, seeded, and good enough to shake a road (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From 0 to `end`, without it.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }
}

//! The places for connections, and who has to make room when none is left.
//!
//! Whoever was idle or half-open the longest ends for a newcomer; a connection with an exchange
//! under way never does. Nothing here is touched by a request: a connection enters and leaves the
//! list, and the list is looked through only when places or file descriptors have run out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::server::ServerSettings;
use crate::server::activity::Standing;
use crate::server::connection::{Seat, Stop};

/// How often a newcomer looks whether somebody has become idle.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Of how many connections one ends at a time, so that a crowd of newcomers does not cost a look
/// through all of them each.
const SHARE: usize = 100;
/// Nobody is ended along with others before it was silent for so long.
const FAIR: Duration = Duration::from_secs(1);

/// All places.
#[derive(Debug)]
pub(super) struct Seats {
    settings: Arc<ServerSettings>,
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    last: u64,
    seats: HashMap<u64, Seat>,
}

/// One connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    seats: Arc<Seats>,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    pub(super) fn new(settings: Arc<ServerSettings>) -> Arc<Self> {
        let places = settings.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            settings,
            free: Arc::new(Semaphore::new(places)),
            taken: Mutex::default(),
            left: Notify::new(),
        })
    }

    /// Takes a place for a connection. Where there is none, the one that was silent the longest
    /// makes room, now or as soon as one is silent.
    ///
    /// Cancel-safe.
    pub(super) async fn take(self: &Arc<Self>, stop: &Stop) -> (Place, Seat) {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                break permit;
            }
            self.make_room();
            if let Ok(Ok(permit)) =
                timeout(LOOK_EVERY, Arc::clone(&self.free).acquire_owned()).await
            {
                break permit;
            }
        };
        let seat = stop.child(&self.settings);
        let mut taken = self.taken();
        taken.last += 1;
        let number = taken.last;
        taken.seats.insert(number, seat.clone());
        drop(taken);
        (Place { seats: Arc::clone(self), number, _permit: permit }, seat)
    }

    /// Asks those to end that were silent the longest; says how many are about to.
    pub(super) fn make_room(&self) -> usize {
        let (most, leaving, mut silent) = self.look();
        // They have a moment before anybody else is asked.
        if leaving > 0 {
            return leaving;
        }
        silent.sort_unstable_by_key(|(since, _)| *since);
        let fair = |at: usize, since: Instant| at == 0 || since.elapsed() >= FAIR;
        let mut asked = 0;
        for (at, (since, seat)) in silent.into_iter().take(most).enumerate() {
            if !fair(at, since) {
                break;
            }
            if seat.activity.make_room() {
                // Nobody speaks HTTP there yet, so nothing can be under way.
                seat.now.cancel();
            }
            asked += 1;
        }
        debug!(asked, "silent connections are ended to make room");
        asked
    }

    /// How many may be asked at a time, how many were and are still here, and who might be.
    fn look(&self) -> (usize, usize, Vec<(Instant, Seat)>) {
        let taken = self.taken();
        let most = (taken.seats.len() / SHARE).max(1);
        let mut leaving = 0;
        let mut silent = Vec::new();
        for seat in taken.seats.values() {
            match seat.activity.standing() {
                Standing::Busy => {}
                Standing::Leaving => leaving += 1,
                Standing::Silent(since) => silent.push((since, seat.clone())),
            }
        }
        (most, leaving, silent)
    }

    /// Waits until a connection is over and its socket closed, for at most `longest`.
    pub(super) async fn one_leaves(&self, longest: Duration) {
        let _ = timeout(longest, self.left.notified()).await;
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Each change is whole.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.seats.taken().seats.remove(&self.number);
        self.seats.left.notify_one();
    }
}

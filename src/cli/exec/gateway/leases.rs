//! Who needs the gateway: each holds a connection, and with the last of them it ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::folder::Control;
use super::words::{Identity, Line, Word};

/// Whoever connects has said who it is by then.
const HELLO: Duration = Duration::from_secs(5);
/// How long to wait when the system has no more sockets to give.
const PAUSE: Duration = Duration::from_millis(100);

/// Those who need it.
#[derive(Debug)]
pub(super) struct Leases {
    ours: Identity,
    held: Mutex<Held>,
    over: CancellationToken,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    /// By number; the process, where it is known.
    holders: BTreeMap<u64, Option<u32>>,
    /// Nobody comes in any more.
    over: bool,
}

impl Leases {
    pub(super) fn new(ours: Identity) -> Arc<Self> {
        Arc::new(Self { ours, held: Mutex::default(), over: CancellationToken::new() })
    }

    /// One more, unless the last has left already.
    pub(super) fn take(&self, pid: Option<u32>) -> Option<u64> {
        let mut held = self.held();
        if held.over {
            return None;
        }
        let number = held.next;
        held.next += 1;
        held.holders.insert(number, pid);
        Some(number)
    }

    /// One less. Whether somebody stays.
    fn give_back(&self, number: u64) -> bool {
        let mut held = self.held();
        held.holders.remove(&number);
        held.over |= held.holders.is_empty();
        !held.over
    }

    /// Waits until the last has left.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Holds a lease until its holder leaves.
    pub(super) async fn hold(self: Arc<Self>, mut line: Line, number: u64) {
        while let Ok(Some(_)) = line.hear().await {}
        if self.give_back(number) {
            let _ = line.say(&Word::Stays).await;
            return;
        }
        self.over.cancel();
        // The end of the connection tells it that we are gone.
        std::future::pending().await
    }

    /// Lets in who comes, until the last has left.
    pub(super) async fn receive(self: Arc<Self>, control: Control) {
        let accept = async {
            loop {
                match control.listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(self.clone().attend(Line::new(stream)))),
                    Err(error) => {
                        debug!(%error, "nobody can take a lease for a moment");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = self.over() => {}
            () = accept => {}
        }
    }

    async fn attend(self: Arc<Self>, mut line: Line) {
        let pid = match line.peer() {
            Ok(pid) => pid,
            Err(error) => {
                warn!(%error, "somebody else wanted a lease");
                return;
            }
        };
        let Ok(Ok(Some(Word::Hello(theirs)))) = tokio::time::timeout(HELLO, line.hear()).await
        else {
            return;
        };
        if theirs != self.ours {
            let holder = self.held().holders.values().find_map(|pid| *pid);
            let version = !theirs.is_of_version(&self.ours);
            let _ = line.say(&Word::Other { pid: holder, version }).await;
            // It waits for the end of the connection, or leaves before.
            while let Ok(Some(_)) = line.hear().await {}
            return;
        }
        // Where it was the last one that left, the connection ends without a word: it comes again.
        let Some(number) = self.take(pid) else { return };
        // Whoever has left meanwhile is noticed by `hold`.
        let _ = line.say(&Word::Joined).await;
        self.hold(line, number).await;
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

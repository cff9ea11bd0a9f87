//! What the rest of the house sees of the instances that share a budget.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::shape::fleet::membership::Reach;
use crate::shape::fleet::news::Inner;
use crate::shape::fleet::speaker::CURRENT;
use crate::shape::place::Shared;

/// What is done while the store is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLost {
    /// Calls wait until it is back, or their time is over. Never sends too much.
    Hold,
    /// After a quiet window each instance sends its share: the limit divided by so many.
    Share {
        /// How many instances there are.
        instances: std::num::NonZeroU32,
    },
    /// Each instance sends as much as if it were alone. Sends too much, where there are several.
    Local,
}

/// How the budgets are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetSettings {
    /// While the store is lost.
    pub on_lost: OnLost,
    /// Whether an empty store is believed: nothing was sent before.
    pub trust_empty: bool,
    /// What other instances show of this one; a name, a version.
    pub name: String,
}

/// How it stands with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was not reached since the start.
    Joining,
    /// It answers.
    Joined,
    /// It does not, for so long.
    Lost(Duration),
}

/// Why the store lets nobody send for a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// It was empty.
    Empty,
    /// It is another server than before, or was restarted.
    Server,
    /// Its clock has jumped.
    Clock,
    /// Part of what it held is gone.
    Loss,
}

/// What is known of all instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetView {
    /// How it stands with the store.
    pub standing: Standing,
    /// What is done while it is lost.
    pub on_lost: OnLost,
    /// For how long it lets nobody send, and why.
    pub blocked: Option<(Duration, Blocked)>,
    /// What was sent while it was lost, and the others know nothing of.
    pub unshared: u64,
    /// All that have been heard of lately; this one is among them while it is joined.
    pub instances: Vec<InstanceView>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceView {
    /// Made at its start.
    pub id: String,
    /// Its host's name.
    pub name: String,
    /// Of omnigate.
    pub version: String,
    /// How long it has been running.
    pub up: Duration,
    /// When it was last heard of.
    pub heard: Duration,
    /// Whether it is this one.
    pub is_this: bool,
}

/// What other instances have told everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// This, in the words of whoever told it.
    Told(String),
    /// Nobody knows what all: some of it was missed.
    Missed,
}

/// The other instances, as the rest of the house deals with them.
#[derive(Clone, Debug)]
pub struct Fleet {
    inner: Arc<Inner>,
    queue: Arc<Shared>,
    on_lost: OnLost,
}

impl Fleet {
    pub(crate) fn new(inner: Arc<Inner>, queue: Arc<Shared>, on_lost: OnLost) -> Self {
        Self { inner, queue, on_lost }
    }

    /// What is known of all instances.
    pub fn view(&self) -> FleetView {
        let now = Instant::now();
        let (standing, blocked, unshared) = self.queue.with(|queue| match &queue.fleet {
            Some(fleet) => (standing(fleet.reach(), now), fleet.blocked(now), fleet.unshared()),
            None => (Standing::Joining, None, 0),
        });
        let instances = self.inner.table(now);
        FleetView { standing, on_lost: self.on_lost, blocked, unshared, instances }
    }

    /// Tells every instance, this one excepted. Done once each has heard it, or cannot serve anything
    /// that it contradicts: about a second after it was told at the latest, at once where the store is
    /// lost.
    ///
    /// Cancel-safe: what was told is told.
    pub fn tell(&self, news: String) -> impl Future<Output = ()> + Send + use<> {
        let done = self.inner.tell(news);
        async move {
            if let Some(done) = done {
                let _ = timeout(2 * CURRENT, done).await;
            }
        }
    }

    /// Waits until [`Fleet::is_current`] is true: for one call to the store, where nobody has asked for
    /// a while, and for a third of a second at most.
    ///
    /// Cancel-safe.
    pub fn catch_up(&self) -> impl Future<Output = ()> + Send + use<> {
        let inner = self.inner.clone();
        async move { inner.catch_up().await }
    }

    /// Whether this instance knows everything that the others have told it until a second ago; what it
    /// keeps must not be served otherwise. While the store is lost nobody can tell, and it is true.
    pub fn is_current(&self) -> bool {
        self.inner.is_current(Instant::now())
    }
}

fn standing(reach: Reach, now: Instant) -> Standing {
    match reach {
        Reach::Joining { .. } => Standing::Joining,
        Reach::Joined => Standing::Joined,
        Reach::Lost { since } => Standing::Lost(now.saturating_duration_since(since)),
    }
}

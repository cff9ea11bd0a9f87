//! What this instance tells the others, whether it knows what they have told, and who they are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use crate::shape::fleet::call::Generation;
use crate::shape::fleet::handle::{InstanceView, OnLost};
use crate::shape::fleet::store::StoreError;

/// For so long after somebody has looked at the table of instances it is fetched.
const WATCHED: Duration = Duration::from_secs(3);

/// For so long after somebody has asked whether it is current it is kept so.
const ASKED: Duration = Duration::from_secs(30);

/// For so long somebody waits to have it current; then what is kept is not served.
const CATCH_UP: Duration = Duration::from_millis(300);

/// So much is kept to be told once the store is back.
const MOST_UNTOLD: usize = 4096;

/// So many the store takes in one call.
const AT_ONCE: usize = 100;

/// What the handle and the speaker share.
#[derive(Debug)]
pub(crate) struct Inner {
    /// Made at the start.
    pub(super) instance: String,
    /// Rung when there is something to say.
    pub(super) bell: Arc<Notify>,
    /// Rung when it is current again.
    caught_up: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    joined: bool,
    /// It has answered since it was lost, also where that was no more than its clock.
    answers: bool,
    lost_before: bool,
    /// Until when what the others told is known.
    current: Option<Instant>,
    /// When somebody asked.
    asked: Option<Instant>,
    untold: VecDeque<Telling>,
    /// How many tellings there were.
    tellings: u64,
    waiting: Vec<Waiting>,
    table: Vec<InstanceView>,
    watched: Option<Instant>,
}

/// Something that the others are told.
#[derive(Clone, Debug)]
pub(super) struct Telling {
    number: u64,
    pub(super) text: String,
}

/// Somebody who waits until everybody has heard.
#[derive(Debug)]
struct Waiting {
    telling: u64,
    /// Its number, and until when to wait, once it was told.
    told: Option<(Generation, Instant)>,
    done: oneshot::Sender<()>,
}

impl Inner {
    pub(crate) fn new(instance: String, bell: Arc<Notify>) -> Self {
        Self { instance, bell, caught_up: Notify::new(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, text: String) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state();
        state.tellings += 1;
        let number = state.tellings;
        state.untold.push_back(Telling { number, text });
        if state.untold.len() > MOST_UNTOLD {
            state.untold.pop_front();
            tracing::warn!("more was changed here than can be told to the other instances later");
        }
        // Who has just come is heard as well, before anything is granted to it.
        let waits = (state.answers || !state.lost_before).then(oneshot::channel);
        let done = waits.map(|(done, receiver)| {
            state.waiting.push(Waiting { telling: number, told: None, done });
            receiver
        });
        drop(state);
        self.bell.notify_one();
        done
    }

    /// What is to be told in the next call.
    pub(super) fn to_tell(&self) -> Vec<Telling> {
        let mut state = self.state();
        let next = state.untold.len().min(AT_ONCE);
        state.untold.drain(..next).collect()
    }

    /// The call failed that told these.
    pub(super) fn untold(&self, tellings: Vec<Telling>) {
        let mut state = self.state();
        tellings.into_iter().rev().for_each(|telling| state.untold.push_front(telling));
    }

    /// Whether there is more to tell.
    pub(super) fn has_more(&self) -> bool {
        !self.state().untold.is_empty()
    }

    /// These were told, as number `generation` at the latest.
    pub(super) fn told(&self, tellings: &[Telling], generation: Generation, until: Instant) {
        let mut state = self.state();
        for waiting in &mut state.waiting {
            if tellings.iter().any(|telling| telling.number == waiting.telling) {
                waiting.told = Some((generation, until));
            }
        }
    }

    /// Everybody has heard everything up to this.
    pub(super) fn acked(&self, generation: Generation) {
        self.state().answers = true;
        self.end(|told, _| told <= generation);
    }

    /// Who has not heard it by now serves nothing kept any more.
    pub(super) fn end_tells(&self, now: Instant) {
        self.end(|_, until| until <= now);
    }

    fn end(&self, over: impl Fn(Generation, Instant) -> bool) {
        let mut state = self.state();
        let waiting = std::mem::take(&mut state.waiting);
        let is_over = |one: &Waiting| one.told.is_some_and(|(told, until)| over(told, until));
        let (ended, waiting): (Vec<Waiting>, _) = waiting.into_iter().partition(is_over);
        state.waiting = waiting;
        drop(state);
        for one in ended {
            // Who has left does not wait.
            let _ = one.done.send(());
        }
    }

    /// When the first of those who wait has waited long enough.
    pub(super) fn tells_end(&self) -> Option<Instant> {
        let state = self.state();
        state.waiting.iter().filter_map(|one| Some(one.told?.1)).min()
    }

    pub(super) fn current(&self, until: Instant) {
        self.state().current = Some(until);
        self.caught_up.notify_waiters();
    }

    /// Waits until it is current, as long as it is worth it.
    pub(super) async fn catch_up(&self) {
        let caught_up = self.caught_up.notified();
        if self.is_current(Instant::now()) {
            return;
        }
        self.bell.notify_one();
        let _ = timeout(CATCH_UP, caught_up).await;
    }

    pub(super) fn is_current(&self, now: Instant) -> bool {
        let mut state = self.state();
        let idle = state.asked.replace(now).is_none_or(|at| at + ASKED < now);
        let current = !state.joined || state.current.is_some_and(|until| now < until);
        drop(state);
        if idle {
            // From now on it is heard of more often.
            self.bell.notify_one();
        }
        current
    }

    /// Whether somebody has asked lately if it is current.
    pub(super) fn is_asked(&self) -> bool {
        self.state().asked.is_some_and(|at| at.elapsed() < ASKED)
    }

    /// The store answers.
    pub(super) fn joined(&self) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.joined, true) {
            tracing::info!(instance = %self.instance, "the shared budget is joined");
        }
    }

    /// The store does not answer.
    pub(super) fn lost(&self, error: &StoreError, on_lost: OnLost) {
        let mut state = self.state();
        let was_joined = std::mem::replace(&mut state.joined, false);
        state.answers = false;
        let first = !std::mem::replace(&mut state.lost_before, true);
        // Nobody can be told, and nobody waits for it.
        state.waiting.clear();
        drop(state);
        if !was_joined && !first {
            return;
        }
        match on_lost {
            OnLost::Hold => tracing::error!(%error, "the shared budget cannot be used; calls wait"),
            OnLost::Share { instances } => tracing::error!(%error, instances,
                "the shared budget cannot be used; after a quiet window a share of the limit is sent"),
            OnLost::Local => tracing::error!(%error,
                "the shared budget cannot be used; THE LIMIT IS NOT KEPT: each instance sends as if it were alone"),
        }
    }

    /// Whether the table of instances is to be fetched.
    pub(super) fn wants_table(&self, now: Instant) -> bool {
        self.state().watched.is_some_and(|at| now < at + WATCHED)
    }

    pub(super) fn tabled(&self, table: Vec<InstanceView>) {
        self.state().table = table;
    }

    /// Who has been heard of lately. Looking at it has it fetched anew for a while.
    pub(super) fn table(&self, now: Instant) -> Vec<InstanceView> {
        let mut state = self.state();
        let before = state.watched.replace(now);
        if before.is_none_or(|at| at + WATCHED < now) {
            // Not only when it calls next: an idle instance calls so rarely that nobody would see it.
            self.bell.notify_one();
        }
        if state.joined { state.table.clone() } else { Vec::new() }
    }
}

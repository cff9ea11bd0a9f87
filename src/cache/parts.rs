//! The memory of the cache: what is kept, within a bound.
//!
//! # Who goes when it is full
//!
//! Two parts, each of which lets go what was asked longest ago. What is new comes into `once`, a
//! quarter of the room; what is asked for again there moves into `again`. So a crawl of thousands of
//! topics, each asked once, passes through the quarter and leaves the lists that dashboards ask
//! where they are; and what is new always comes in, however often that which is there was asked
//! when it was still good. moka's own TinyLFU does the first, but not the second: a newcomer must have
//! been asked more often than all together that would have to go for it, so that one list of 1 MiB
//! stands against 200 topics of a crawl and is never kept, and what was asked often last week
//! refuses what is new today, dead as it may be.
//!
//! # How the bound holds
//!
//! moka lets go later: it first writes down what was put in, and what goes is freed when no thread may
//! look at it any more, up to 64 values for each thread, of 4 MiB maybe. So whoever puts something in makes
//! moka catch up, and a value is a [`Slot`] that is emptied the moment it leaves. A fill costs a call
//! of the budget, of which there is one a second; that it pays some microseconds more is nothing.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use http::HeaderName;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

use crate::cache::entry::Entry;
use crate::cache::key::Key;

/// What a key stands for.
#[derive(Clone)]
pub(super) enum Held {
    /// An answer.
    Entry(Arc<Entry>),
    /// Answers that differ by these fields, each under a key of its own.
    By(Arc<[HeaderName]>),
    /// Nothing, and calls are not to wait for each other until then.
    Pass(Instant),
}

impl Held {
    /// Whether it is the very same.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Entry(one), Self::Entry(other)) => Arc::ptr_eq(one, other),
            (Self::By(one), Self::By(other)) => Arc::ptr_eq(one, other),
            (Self::Pass(one), Self::Pass(other)) => one == other,
            (Self::Entry(_) | Self::By(_) | Self::Pass(_), _) => false,
        }
    }
}

struct Slot {
    held: Mutex<Option<Held>>,
    weight: u32,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Part = Cache<Key, Arc<Slot>>;

pub(super) struct Parts {
    once: Part,
    again: Part,
    /// How many have moved from `once` to `again`.
    moves: AtomicU64,
    /// Held by whoever changes what is there, so that a key is in one part at most.
    change: Mutex<()>,
}

impl Parts {
    pub(super) fn new(max_bytes: u64) -> Self {
        let once = max_bytes / 4;
        Self {
            once: part(once),
            again: part(max_bytes - once),
            moves: AtomicU64::new(0),
            change: Mutex::default(),
        }
    }

    /// What a key stands for, whether it is good any more or not.
    pub(super) fn get(&self, key: &Key) -> Option<Held> {
        // What moves or is replaced in between may be missed in both parts, or be found as an empty
        // slot. That would cost a call; looking again costs nothing.
        for _ in 0..4 {
            let moves = self.moves.load(SeqCst);
            if let Some(slot) = self.again.get(key) {
                match &*slot.lock() {
                    Some(held) => return Some(held.clone()),
                    None => continue,
                }
            }
            let Some(slot) = self.once.get(key) else {
                if self.moves.load(SeqCst) == moves {
                    return None;
                }
                continue;
            };
            let held = slot.lock().clone();
            if let Some(held) = held {
                self.promote(key, &slot, &held);
                return Some(held);
            }
        }
        None
    }

    /// Keeps it in place of what was there. Nothing is kept that is too heavy.
    pub(super) fn put(&self, key: &Key, held: Held, weight: u32) -> bool {
        let max = |part: &Part| part.policy().max_capacity().unwrap_or(0);
        if u64::from(weight) > max(&self.again) {
            return false;
        }
        let _change = self.lock();
        let light = u64::from(weight) <= max(&self.once);
        let (here, there) = match light && !self.again.contains_key(key) {
            true => (&self.once, &self.again),
            false => (&self.again, &self.once),
        };
        here.insert(key.clone(), slot(held, weight));
        there.invalidate(key);
        self.settle();
        true
    }

    /// Lets go what a key stands for, unless it stands for something else by now.
    pub(super) fn drop(&self, key: &Key, held: &Held) {
        // Somebody who is changing something may be changing this; and who looks next tries again.
        let Some(_change) = self.try_lock() else { return };
        for part in [&self.once, &self.again] {
            if part.get(key).is_some_and(|slot| slot.lock().as_ref().is_some_and(|it| it.is(held)))
            {
                part.invalidate(key);
            }
        }
        self.settle();
    }

    /// Lets go all that `is_dead` says, and says how many that were.
    pub(super) fn sweep(&self, is_dead: impl Fn(&Held) -> bool) -> u64 {
        let _change = self.lock();
        let mut swept = 0;
        for part in [&self.once, &self.again] {
            for (key, slot) in part {
                let dead = slot.lock().as_ref().is_none_or(&is_dead);
                if dead {
                    part.invalidate(&*key);
                    swept += 1;
                }
            }
        }
        self.settle();
        swept
    }

    pub(super) fn bytes(&self) -> u64 {
        self.once.weighted_size() + self.again.weighted_size()
    }

    pub(super) fn entries(&self) -> u64 {
        self.once.entry_count() + self.again.entry_count()
    }

    /// Moves what was asked again out of the way of what is new.
    fn promote(&self, key: &Key, slot: &Arc<Slot>, held: &Held) {
        // It may as well move when it is asked next.
        let Some(_change) = self.try_lock() else { return };
        if !self.once.get(key).is_some_and(|now| Arc::ptr_eq(&now, slot)) {
            return;
        }
        self.again.insert(key.clone(), self::slot(held.clone(), slot.weight));
        // In between, so that whoever looked into `again` before and into `once` after knows.
        self.moves.fetch_add(1, SeqCst);
        self.once.invalidate(key);
        self.settle();
    }

    fn settle(&self) {
        self.once.run_pending_tasks();
        self.again.run_pending_tasks();
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, ()>> {
        match self.change.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

fn slot(held: Held, weight: u32) -> Arc<Slot> {
    Arc::new(Slot { held: Mutex::new(Some(held)), weight })
}

fn part(max: u64) -> Part {
    Cache::builder()
        .max_capacity(max)
        .weigher(|_, slot: &Arc<Slot>| slot.weight)
        .eviction_policy(EvictionPolicy::lru())
        .eviction_listener(|_, slot, _| drop(slot.lock().take()))
        .build()
}

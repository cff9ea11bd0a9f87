//! The memory of the cache: what is kept, within a bound.
//!
//! # Who goes when it is full
//!
//! Two parts, each of which lets go what was asked longest ago. What is new comes into `once`, a
//! quarter of the room; what is asked for again there moves into `again`. So a crawl of thousands
//! of topics, each asked once, passes through the quarter and leaves the lists that dashboards ask
//! where they are. And what is new always comes in, however often that which is there was asked
//! when it was still good: the dead are never asked, so they sink and go.
//!
//! moka's own TinyLFU does the first, but not the second. By it a newcomer must have been asked
//! more often than all together that would go for it: a list of 1 MiB stands against 200 topics
//! and is never kept, and what was asked often last week refuses what is new today.
//!
//! # How the bound holds
//!
//! moka lets go later: it first writes down what was put in, and what goes is freed when no thread
//! may look at it any more, up to 64 values for each thread, of 4 MiB maybe. So whoever puts
//! something in makes moka catch up, and a value is a `Slot` that is emptied the moment it leaves.
//! A fill costs a call of the budget, of which there is one a second; some microseconds more are
//! nothing. What the allocator loses between blocks is beyond us (tests/cache_memory.rs says how
//! much), and a body that is still being sent is freed when that ends.

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
    /// How many may have moved from one part to the other.
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

    /// The same for somebody who only wants to know: it does not count as asked for, and nothing moves.
    /// It looks at every key where this one is there, which takes a while.
    pub(super) fn peek(&self, key: &Key) -> Option<Held> {
        [&self.again, &self.once].into_iter().find_map(|part| {
            // moka has no other look-up that leaves its order as it is.
            let there = part.contains_key(key);
            let slot = there.then(|| part.iter().find(|(one, _)| **one == *key))?.map(|it| it.1)?;
            slot.lock().clone()
        })
    }

    /// Keeps it in place of what was there. Nothing is kept that is too heavy.
    pub(super) fn put(&self, key: &Key, held: Held, weight: u32) -> bool {
        let max = |part: &Part| part.policy().max_capacity().unwrap_or(0);
        if weight == u32::MAX || u64::from(weight) > max(&self.again) {
            return false;
        }
        let _change = self.lock();
        let light = u64::from(weight) <= max(&self.once);
        let (here, there) = match light && !self.again.contains_key(key) {
            true => (&self.once, &self.again),
            false => (&self.again, &self.once),
        };
        here.insert(key.clone(), slot(held, weight));
        self.moves.fetch_add(1, SeqCst);
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

    /// Lets go what a key stands for, if `is_dead` says so.
    pub(super) fn forget(&self, key: &Key, is_dead: impl Fn(&Held) -> bool) {
        let _change = self.lock();
        for part in [&self.once, &self.again] {
            if part.get(key).is_some_and(|slot| slot.lock().as_ref().is_some_and(&is_dead)) {
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

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::base::CredentialId;
    use crate::cache::key::Question;

    const MIB: u64 = 1 << 20;

    fn key(number: usize) -> Key {
        let (fields, id) = (HeaderMap::new(), CredentialId::new(number.to_string()));
        Key::of(&Question {
            keys: &[(&id, 1)],
            path: "/api/v1/labels",
            query: None,
            acts_for: None,
            fields: &fields,
            vary: &[],
        })
    }

    /// Puts something of this weight there, that has nothing to do with it.
    fn put(parts: &Parts, number: usize, weight: u32) -> bool {
        parts.put(&key(number), Held::Pass(Instant::now()), weight)
    }

    fn has(parts: &Parts, number: usize) -> bool {
        parts.get(&key(number)).is_some()
    }

    #[test]
    fn a_crawl_does_not_flush_what_is_asked_often() {
        let parts = Parts::new(64 * MIB);
        for list in 0..40 {
            put(&parts, list, 1 << 20);
            assert!(has(&parts, list));
        }
        for topic in 1000..10_000 {
            assert!(!has(&parts, topic));
            put(&parts, topic, 20 << 10);
        }
        assert!((0..40).all(|list| has(&parts, list)));
        assert!(parts.bytes() <= 64 * MIB);
    }

    #[test]
    fn what_is_new_comes_in_however_often_the_old_was_asked() {
        let parts = Parts::new(64 * MIB);
        for old in 0..10_000 {
            put(&parts, old, 8 << 10);
            (0..5).for_each(|_| drop(parts.get(&key(old))));
        }
        // Large, and never asked for before.
        assert!(put(&parts, 20_000, 4 << 20));
        assert!(has(&parts, 20_000) && has(&parts, 20_000));
    }

    #[test]
    fn what_comes_again_stays_where_it_is_asked_often() {
        let parts = Parts::new(8 * MIB);
        put(&parts, 0, 1 << 10);
        assert!(has(&parts, 0));
        put(&parts, 0, 2 << 10);
        (1..1000).for_each(|other| assert!(put(&parts, other, 10 << 10)));
        assert!(has(&parts, 0));
        assert_eq!(parts.again.weighted_size(), 2 << 10);
    }

    #[test]
    fn what_is_too_heavy_for_the_new_may_come_in_all_the_same() {
        let parts = Parts::new(4 * MIB);
        assert!(put(&parts, 0, 3 << 20));
        assert!(has(&parts, 0));
        assert!(!put(&parts, 1, (3 << 20) + 1));
        assert!(!put(&parts, 2, u32::MAX));
        assert!(has(&parts, 0) && !has(&parts, 1));
        // Nothing is ever kept where nothing may be.
        let none = Parts::new(0);
        assert!(!put(&none, 0, 1));
        assert_eq!((none.entries(), none.bytes()), (0, 0));
    }

    #[test]
    fn what_leaves_is_freed_at_once() {
        let parts = Parts::new(MIB);
        let names: Vec<Arc<[HeaderName]>> = (0..100).map(|_| Arc::from([])).collect();
        for (number, one) in names.iter().enumerate() {
            parts.put(&key(number), Held::By(Arc::clone(one)), 100 << 10);
            parts.get(&key(number));
        }
        let kept = names.iter().filter(|one| Arc::strong_count(one) > 1).count();
        assert_eq!(kept as u64, parts.entries());
        parts.sweep(|_| true);
        assert!(names.iter().all(|one| Arc::strong_count(one) == 1));
        assert_eq!((parts.entries(), parts.bytes()), (0, 0));
    }

    #[test]
    fn what_is_let_go_is_the_very_thing_that_was_seen() {
        let parts = Parts::new(MIB);
        put(&parts, 0, 100);
        let seen = parts.get(&key(0)).unwrap();
        parts.put(&key(0), Held::By(Arc::from([])), 100);
        parts.drop(&key(0), &seen);
        assert!(has(&parts, 0));
        let seen = parts.get(&key(0)).unwrap();
        parts.drop(&key(0), &seen);
        assert!(!has(&parts, 0));
    }

    #[test]
    fn what_is_there_is_found_while_it_moves_and_is_replaced() {
        let parts = Parts::new(64 * MIB);
        put(&parts, 0, 100);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 0..20_000 {
                    // Now light, now too heavy for the first part, so that it moves.
                    put(&parts, 0, if round % 3 == 0 { 20 << 20 } else { 100 });
                }
            });
            while !writer.is_finished() {
                assert!(has(&parts, 0));
            }
        });
        assert_eq!(parts.entries(), 1);
    }
}

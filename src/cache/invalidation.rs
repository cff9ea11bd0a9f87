//! What a write leaves stale, told by counters that only grow. Nothing is searched or listed.
//!
//! Why a kept answer is never older than a write that has ended: whoever fills takes the stamp
//! *before* its request goes out, a write moves its counters *before* its response does, and a
//! look-up takes the stamp again. Stamps are sums of counters that only grow, so two equal sums
//! mean that each counter stood still between the two looks at it, and the write, had it ended
//! between them, would have moved one. That holds for a sum that is not taken in one instant, and
//! whatever is kept too late: it has its old stamp, and is found by nobody. All of it is `SeqCst`;
//! nothing here is asked often enough to make that cost anything.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use http::Method;

use crate::base::RouteId;
use crate::omni::{Collection, Stales, endpoint};

/// Two paths in one bucket are left stale by each other's writes, which costs a fetch and no more.
const BUCKETS: usize = 1024;

/// How often each kind of answer was left stale.
pub struct Generations {
    everything: AtomicU64,
    unknown: AtomicU64,
    collections: [AtomicU64; Collection::ALL.len()],
    paths: Box<[AtomicU64]>,
    routes: Mutex<HashMap<RouteId, RouteMark>>,
    /// With a key of its own, so that nobody can choose paths that share a bucket.
    hash: RandomState,
}

/// How often a route was purged.
#[derive(Clone, Debug)]
pub struct RouteMark(Arc<AtomicU64>);

/// What an answer is about.
#[derive(Clone, Debug)]
pub struct Subject {
    shows: Shows,
    bucket: usize,
    route: RouteMark,
}

#[derive(Clone, Copy, Debug)]
enum Shows {
    Collection(Collection),
    /// Known, and part of no collection.
    Alone,
    /// The catalogue does not know it.
    Unknown,
}

/// The state of a subject: equal stamps of it mean that nothing left it stale between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(u64);

/// What an unsafe call leaves stale.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    bucket: usize,
    stales: Stales,
}

impl Generations {
    /// Nothing is stale yet.
    pub(super) fn new() -> Self {
        Self {
            everything: AtomicU64::default(),
            unknown: AtomicU64::default(),
            collections: Default::default(),
            paths: (0..BUCKETS).map(|_| AtomicU64::default()).collect(),
            routes: Mutex::default(),
            hash: RandomState::new(),
        }
    }

    /// The mark of a route, the same one whenever it is asked for.
    pub fn route(&self, id: &RouteId) -> RouteMark {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || RouteMark(Arc::default());
        routes.entry(id.clone()).or_insert_with(new).clone()
    }

    /// What the answer to a GET of this canonical path is about.
    pub fn subject(&self, path: &str, route: &RouteMark) -> Subject {
        let shows = match endpoint(&Method::GET, path) {
            Some(known) => known.shows().map_or(Shows::Alone, Shows::Collection),
            None => Shows::Unknown,
        };
        Subject { shows, bucket: self.bucket(path), route: route.clone() }
    }

    /// The state of a subject now. Take it before the request is sent.
    pub fn stamp(&self, subject: &Subject) -> Stamp {
        let shown = match subject.shows {
            Shows::Collection(collection) => self.collections[collection as usize].load(SeqCst),
            Shows::Unknown => self.unknown.load(SeqCst),
            Shows::Alone => 0,
        };
        let path = self.paths[subject.bucket].load(SeqCst);
        Stamp(self.everything.load(SeqCst) + shown + path + subject.route.0.load(SeqCst))
    }

    /// What a call to this canonical path leaves stale; nothing where it only asks.
    pub fn write(&self, method: &Method, path: &str) -> Option<Write> {
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE) {
            return None;
        }
        let stales = match endpoint(method, path) {
            Some(known) if !known.writes() => return None,
            Some(known) => known.stales(),
            None => Stales::Everything,
        };
        Some(Write { bucket: self.bucket(path), stales })
    }

    /// Leaves stale what a write does: its path, what the catalogue names, and what nobody knows.
    pub fn apply(&self, write: &Write) {
        match write.stales {
            Stales::Everything => bump(&self.everything),
            Stales::These(these) => {
                these.iter().for_each(|&one| bump(&self.collections[one as usize]));
            }
            Stales::Nothing => {}
        }
        bump(&self.paths[write.bucket]);
        bump(&self.unknown);
    }

    /// Leaves stale all answers of a route, or all there are.
    pub fn purge(&self, route: Option<&RouteMark>) {
        bump(route.map_or(&self.everything, |route| &route.0));
    }

    /// The bucket of a path as Omni's server reads it: letter case and one slash at the end do not
    /// count.
    pub(super) fn bucket(&self, path: &str) -> usize {
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut hasher = self.hash.build_hasher();
        hasher.write(path.to_ascii_lowercase().as_bytes());
        // Below 1024, so that it fits any `usize`.
        (hasher.finish() % BUCKETS as u64) as usize
    }
}

fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, SeqCst);
}

impl fmt::Debug for Generations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generations").field("everything", &self.everything).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    const DOCUMENTS: &str = "/api/v1/documents";
    const SCHEDULES: &str = "/api/v1/schedules";
    const UNKNOWN: &str = "/api/v9/things";
    const BRANDING: &str = "/api/v1/ai/branding";

    /// Whether a write leaves the answer at `read` stale.
    fn stales(method: &str, path: &str, read: &str) -> bool {
        let all = Generations::new();
        let subject = all.subject(read, &all.route(&RouteId::new("route")));
        let before = all.stamp(&subject);
        if let Some(write) = all.write(&method.parse().unwrap(), path) {
            all.apply(&write);
        }
        all.stamp(&subject) != before
    }

    #[test]
    fn a_write_leaves_stale_its_path_and_what_the_catalogue_names() {
        assert!(stales("POST", DOCUMENTS, DOCUMENTS));
        assert!(stales("DELETE", "/api/v1/documents/d", SCHEDULES));
        assert!(stales("PATCH", "/api/v1/Documents/d/", "/api/v1/documents/d"));
        assert!(stales("PUT", "/api/v1/ai/jobs", "/api/v1/ai/jobs/"));
        // One in 1024 shares a bucket with the path that was written to.
        let others = (0..20).filter(|_| stales("POST", SCHEDULES, DOCUMENTS)).count();
        assert!(others < 3, "{others}");
    }

    #[test]
    fn what_nobody_knows_is_left_stale_by_every_write() {
        assert!(stales("POST", SCHEDULES, UNKNOWN));
        assert!(stales("POST", "/api/v1/ai/jobs", UNKNOWN));
    }

    #[test]
    fn a_write_that_nobody_knows_leaves_everything_stale() {
        for read in [DOCUMENTS, UNKNOWN, BRANDING] {
            assert!(stales("POST", "/api/v9/others", read), "{read}");
            assert!(stales("LINK", "/api/v1/documents", read), "{read}");
            assert!(stales("get", "/api/v1/documents", read), "{read}");
            assert!(stales("DELETE", "/api/v1/connections/c", read), "{read}");
        }
    }

    #[test]
    fn a_call_that_only_asks_leaves_nothing_stale() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            assert!(!stales(method, "/api/v9/others", "/api/v9/others"), "{method}");
        }
        assert!(!stales("POST", "/api/v1/query/run", UNKNOWN));
    }

    #[test]
    fn a_route_is_purged_alone() {
        let all = Generations::new();
        let (one, other) = (all.route(&RouteId::new("one")), all.route(&RouteId::new("other")));
        let (one, other) = (all.subject(DOCUMENTS, &one), all.subject(DOCUMENTS, &other));
        let before = (all.stamp(&one), all.stamp(&other));
        all.purge(Some(&all.route(&RouteId::new("one"))));
        assert_ne!(all.stamp(&one), before.0);
        assert_eq!(all.stamp(&other), before.1);
        all.purge(None);
        assert_ne!(all.stamp(&other), before.1);
    }

    #[test]
    fn every_collection_has_a_counter_of_its_own() {
        for (place, collection) in Collection::ALL.into_iter().enumerate() {
            assert_eq!(collection as usize, place);
        }
    }

    #[test]
    fn a_stamp_that_is_the_same_after_a_write_was_taken_after_it() {
        // One writes and says so; the other must not see an old stamp after that.
        let all = Arc::new(Generations::new());
        let subject = all.subject(DOCUMENTS, &all.route(&RouteId::new("route")));
        let write = all.write(&Method::POST, DOCUMENTS).unwrap();
        let ended = AtomicU64::new(0);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    all.apply(&write);
                    ended.fetch_add(1, SeqCst);
                }
                done.store(true, SeqCst);
            });
            while !done.load(SeqCst) {
                let began = all.stamp(&subject);
                let seen = ended.load(SeqCst);
                let now = all.stamp(&subject);
                // As many writes as had ended at the first look are in it, or more; and if one more
                // has ended since, the stamp has moved.
                let after = ended.load(SeqCst);
                assert!(began.0 <= now.0 && now.0 >= seen, "{began:?} {now:?} {seen} {after}");
                assert!(all.stamp(&subject).0 >= after);
            }
        });
    }

    proptest! {
        #[test]
        fn letter_case_and_one_slash_do_not_count(path in "(/[a-zA-Z%]{1,5}){1,4}") {
            let all = Generations::new();
            let other = path.to_ascii_uppercase() + "/";
            prop_assert_eq!(all.bucket(&path), all.bucket(&other));
            prop_assert!(all.bucket(&path) < BUCKETS);
        }
    }
}

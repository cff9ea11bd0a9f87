//! One kept answer, in memory of its own.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::time::Instant;

use crate::cache::freshness::Life;
use crate::cache::invalidation::{Generations, Stamp, Subject};
use crate::cache::key::Key;

/// An answer that can be given again.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// All of its body. A clone shares it.
    pub body: Bytes,
}

/// A kept answer, and how long it is good.
#[derive(Debug)]
pub struct Entry {
    /// What is served.
    pub answer: Answer,
    /// How long it is good.
    pub life: Life,
    subject: Subject,
    stamp: Stamp,
    /// Milliseconds after `life.since` until which upstream is taken to be in trouble.
    troubled: AtomicU64,
}

impl Answer {
    /// Takes an answer into memory of its own: fields and body may be slices of a buffer that many
    /// answers were read into, and one of them would keep all of it.
    pub fn compact(status: StatusCode, headers: &HeaderMap, body: Bytes) -> Self {
        let length = headers.values().map(HeaderValue::len).sum();
        let mut values = Vec::with_capacity(length);
        headers.values().for_each(|value| values.extend_from_slice(value.as_bytes()));
        let mut values = Bytes::from(values);
        let mut own = HeaderMap::with_capacity(headers.keys_len());
        for (name, value) in headers {
            let bytes = values.split_to(value.len());
            // Neither can fail: both were a name and a value before.
            let name = HeaderName::from_bytes(name.as_str().as_bytes());
            let (Ok(name), Ok(mut copy)) = (name, HeaderValue::from_maybe_shared(bytes)) else {
                continue;
            };
            copy.set_sensitive(value.is_sensitive());
            own.append(name, copy);
        }
        Self { status, headers: own, body: alone(body) }
    }

    /// About how many bytes it occupies on the heap.
    fn size(&self) -> usize {
        // http's map: a bucket of each name, an index of 4 bytes for each of up to 4/3 as many
        // places, and a link of each further value of a name.
        const BUCKET: usize = 104;
        const LINK: usize = 72;
        let names = self.headers.capacity();
        let links = self.headers.len() - self.headers.keys_len();
        let own_name = |name: &HeaderName| match is_standard(name) {
            true => 0,
            false => block(name.as_str().len()) + SHARED,
        };
        let values: usize = self.headers.values().map(HeaderValue::len).sum();
        block(names * BUCKET)
            + block(names.next_power_of_two() * 8)
            + block(links.next_power_of_two() * LINK)
            + self.headers.keys().map(own_name).sum::<usize>()
            + block(values)
            + block(self.body.len())
            + 2 * SHARED
    }
}

/// What bytes that are shared have beside them.
const SHARED: usize = 32;

/// An entry itself, its slot and what moka has for it: the nodes of its map and its queue.
const OVERHEAD: usize = 800;

/// Whether http knows a name by heart, so that it occupies nothing. It does not tell; those that it
/// knows have no memory, which cannot be seen from outside either, so a prefix must do.
fn is_standard(name: &HeaderName) -> bool {
    !name.as_str().starts_with("x-")
}

/// What an allocator gives for so many bytes: a multiple of 16 with 8 of its own, and whole pages
/// for much.
pub(super) fn block(bytes: usize) -> usize {
    const MUCH: usize = 128 << 10;
    match bytes {
        0 => 0,
        MUCH.. => (bytes + 16).next_multiple_of(4096),
        _ => (bytes + 8).next_multiple_of(16).max(32),
    }
}

/// The same bytes in an allocation that holds nothing else.
fn alone(body: Bytes) -> Bytes {
    // Where nobody else holds the allocation this takes it as it is, whole, and a larger one is
    // shrunk; else it copies.
    Bytes::from(Vec::from(body).into_boxed_slice())
}

impl Entry {
    /// An answer about `subject` whose request was sent after `stamp` was taken.
    pub fn new(answer: Answer, life: Life, subject: Subject, stamp: Stamp) -> Self {
        Self { answer, life, subject, stamp, troubled: AtomicU64::new(0) }
    }

    /// About how many bytes it occupies under this key, all in all.
    pub fn weight(&self, key: &Key) -> u32 {
        let all = self.answer.size() + block(key.size() + 16) + OVERHEAD;
        u32::try_from(all).unwrap_or(u32::MAX)
    }

    /// Remembers that upstream failed for it; nobody should ask again before `until`.
    pub fn troubled(&self, until: Instant) {
        let millis = until.saturating_duration_since(self.life.since).as_millis();
        self.troubled.fetch_max(u64::try_from(millis).unwrap_or(u64::MAX), Relaxed);
    }

    /// Whether upstream failed for it a moment ago.
    pub fn is_troubled(&self, now: Instant) -> bool {
        let millis = now.saturating_duration_since(self.life.since).as_millis();
        millis < u128::from(self.troubled.load(Relaxed))
    }

    /// Whether nothing has left it stale since its request was sent.
    pub(super) fn is_current(&self, generations: &Generations) -> bool {
        generations.stamp(&self.subject) == self.stamp
    }
}

/// Its status and sizes, and nothing of what it says.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("fields", &self.headers.len())
            .field("bytes", &self.body.len())
            .finish()
    }
}

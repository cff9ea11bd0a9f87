//! One kept answer, in memory of its own.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::time::Instant;

use crate::cache::freshness::Life;
use crate::cache::invalidation::{Generations, Stamp, Subject};
use crate::cache::key::Key;

/// What bytes that are shared have beside them.
const SHARED: usize = 32;

/// An entry itself, its slot and what moka has for it: the nodes of its map and its queue.
const OVERHEAD: usize = 640;

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
            + block(names.next_power_of_two() * 4)
            + block(links.next_power_of_two() * LINK)
            + self.headers.keys().map(own_name).sum::<usize>()
            + block(values)
            + block(self.body.len())
            + 2 * SHARED
    }
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

/// Whether http knows a name by heart, so that it occupies nothing: whoever makes it again gets the
/// very same characters.
fn is_standard(name: &HeaderName) -> bool {
    let again = HeaderName::from_bytes(name.as_str().as_bytes());
    again.is_ok_and(|again| again.as_str().as_ptr() == name.as_str().as_ptr())
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
    // Where nobody else holds the allocation this takes it as it is, all of it; else it copies.
    let whole = Vec::from(body);
    match whole.capacity() / 2 > whole.len() {
        // To shrink a large allocation to almost nothing may leave it among the large ones.
        true => Bytes::from(Box::from(&*whole)),
        false => Bytes::from(whole.into_boxed_slice()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BytesMut;
    use http::header::{AUTHORIZATION, CONTENT_TYPE, VIA};

    use super::*;
    use crate::base::RouteId;

    fn compact(headers: &HeaderMap, body: Bytes) -> Answer {
        Answer::compact(StatusCode::OK, headers, body)
    }

    fn entry(answer: Answer) -> Entry {
        let all = Generations::new();
        let subject = all.subject("/api/v1/labels", &all.route(&RouteId::new("lists")));
        let stamp = all.stamp(&subject);
        let [lifetime, stale] = [Duration::from_secs(60); 2];
        let life = Life { since: Instant::now(), age: Duration::ZERO, lifetime, stale };
        Entry::new(answer, life, subject, stamp)
    }

    #[test]
    fn a_compact_answer_says_what_the_first_said() {
        let mut headers = HeaderMap::new();
        headers.append(VIA, HeaderValue::from_static("1.1 one"));
        headers.append("x-long", HeaderValue::from_bytes(b"\xff").unwrap());
        headers.append(VIA, HeaderValue::from_static("1.1 other"));
        headers.append(CONTENT_TYPE, HeaderValue::from_static(""));
        let mut secret = HeaderValue::from_static("secret");
        secret.set_sensitive(true);
        headers.append(AUTHORIZATION, secret);
        let answer = compact(&headers, Bytes::from_static(b"body"));
        assert_eq!((&answer.headers, &*answer.body), (&headers, &b"body"[..]));
        assert!(answer.headers[AUTHORIZATION].is_sensitive());
        assert_eq!(compact(&HeaderMap::new(), Bytes::new()).headers, HeaderMap::new());
    }

    #[test]
    fn the_buffer_that_an_answer_was_read_into_is_let_go() {
        let buffer = Bytes::from(vec![b'a'; 100_000]);
        let mut headers = HeaderMap::new();
        headers.insert(VIA, HeaderValue::from_maybe_shared(buffer.slice(..9)).unwrap());
        let answer = compact(&headers, buffer.slice(10..20));
        drop(headers);
        assert!(buffer.is_unique());
        assert_eq!(answer.body.len(), 10);
    }

    #[test]
    fn a_body_occupies_no_more_than_it_has() {
        let whole = |body: Bytes| Vec::from(compact(&HeaderMap::new(), body).body);
        let mut roomy = BytesMut::with_capacity(100_000);
        roomy.extend_from_slice(b"body");
        let mut cut = Bytes::from(vec![b'a'; 100_000]);
        // The only one that holds the buffer, and only its end.
        let cut = cut.split_off(99_996);
        let mut half = Vec::with_capacity(100);
        half.extend_from_slice(&[b'a'; 60]);
        for body in [roomy.freeze(), cut, Bytes::from(half), Bytes::from_static(b"a")] {
            let (length, whole) = (body.len(), whole(body));
            assert_eq!((whole.len(), whole.capacity()), (length, length));
        }
        let own = Bytes::from(vec![b'a'; 5000]);
        let place = own.as_ptr();
        assert_eq!(compact(&HeaderMap::new(), own).body.as_ptr(), place);
    }

    #[test]
    fn a_weight_grows_with_all_that_is_kept() {
        let key = |path| {
            let fields = &HeaderMap::new();
            let question = crate::cache::key::Question {
                keys: &[],
                path,
                query: None,
                acts_for: None,
                fields,
                vary: &[],
            };
            Key::of(&question)
        };
        let mut headers = HeaderMap::new();
        let empty = entry(compact(&headers, Bytes::new())).weight(&key(""));
        let body = entry(compact(&headers, Bytes::from(vec![0; 4096]))).weight(&key(""));
        assert!((4096..4300).contains(&(body - empty)), "{empty} {body}");
        let path = "a".repeat(1000);
        let long = entry(compact(&headers, Bytes::new())).weight(&key(&path));
        assert!((1000..1040).contains(&(long - empty)), "{empty} {long}");
        headers.insert(VIA, HeaderValue::from_static("1.1 omnigate"));
        let known = entry(compact(&headers, Bytes::new())).weight(&key(""));
        headers.insert("x-a-name-of-their-own", HeaderValue::from_static("1.1 omnigate"));
        let own = entry(compact(&headers, Bytes::new())).weight(&key(""));
        assert!(empty < known && known + 20 < own, "{empty} {known} {own}");
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_has_an_end() {
        let (entry, now) = (entry(compact(&HeaderMap::new(), Bytes::new())), Instant::now());
        assert!(!entry.is_troubled(now));
        entry.troubled(now + Duration::from_secs(5));
        entry.troubled(now + Duration::from_secs(2));
        assert!(entry.is_troubled(now + Duration::from_secs(4)));
        assert!(!entry.is_troubled(now + Duration::from_secs(5)));
    }

    #[test]
    fn an_answer_does_not_show_what_it_says() {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("Ada"));
        let shown = format!("{:?}", entry(compact(&headers, Bytes::from_static(b"Ada"))));
        assert!(!shown.contains("Ada") && !shown.contains("65, 100"), "{shown}");
    }
}

//! A fetch that several callers wait for: sent once, in a task of its own, and read to its end.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use http::header::{AGE, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::base::{Body, CredentialId};
use crate::cache::{
    Answer, Cache, Entry, Flights, Found, Key, Life, Lifetime, Pilot, Received, Subject, Vary,
    Waits, rfc9111,
};
use crate::credential::Generation;
use crate::proxy::error::Error;
use crate::proxy::exchange::X_REQUEST_ID;
use crate::proxy::landed::Landed;
use crate::proxy::peek::peek_while;
use crate::proxy::plan::PlannedRoute;
use crate::proxy::replay::Replay;
use crate::proxy::trail::{Facts, Trail};
use crate::proxy::{Proxy, Wait};
use crate::shape::{Ask, LaneId, Place, Refused, Terms};

/// How long an answer that upstream could not renew is served without asking again.
const TROUBLED: Duration = Duration::from_secs(10);

/// How long an answer may take from its head to its end, for those who come later to wait for it
/// too.
const WHOLE: Duration = Duration::from_secs(30);

/// How long a key passes alone whose answer is too large to be kept, where its route has no time
/// of its own.
const PASSES: Duration = Duration::from_secs(10);

/// What is fetched, apart from who waits for it.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) route: Arc<PlannedRoute>,
    pub(crate) key: Key,
    /// The fields by which answers may differ.
    pub(crate) fields: HeaderMap,
    /// The request as it goes up.
    pub(crate) head: Parts,
    /// The first caller's fields as they came; where upstream says what may be kept.
    pub(crate) brought: HeaderMap,
    pub(crate) lifetime: Lifetime,
    pub(crate) stale: Duration,
    pub(crate) subject: Subject,
    /// The keys that the answer is kept for, each with its value.
    pub(crate) keys: Vec<(CredentialId, Generation)>,
}

/// Where a fetch tells those who wait for it what becomes of it.
#[derive(Debug)]
pub(crate) struct Aboard {
    pilot: Arc<Pilot<InLine, Landed>>,
    cache: Arc<Cache>,
    subject: Subject,
}

/// A fetch's place in the queue, for those who change how it waits.
#[derive(Clone, Debug)]
pub(crate) struct InLine {
    terms: Terms,
    lane: LaneId,
}

impl InLine {
    fn change(&self, waits: &Waits) {
        let Waits { caller, priority, until } = waits;
        let ask = Ask { lane: self.lane, caller, priority: *priority, max_wait: None };
        self.terms.change(&ask, *until);
    }

    /// Why it is hopeless to wait until then, if it is.
    pub(crate) fn late(&self, until: Instant) -> Option<Refused> {
        self.terms.late(until)
    }
}

/// The fetches under way, and what they are held to.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    pub(crate) flights: Flights<InLine, Landed>,
    pub(crate) tasks: TaskTracker,
    /// Ends them all.
    pub(crate) stop: CancellationToken,
    filling: Filling,
}

/// Bytes of answers that are being read, over all fetches.
#[derive(Debug, Default)]
struct Filling(AtomicU64);

impl Aboard {
    /// Its request is about to be sent: a write that ends from now on makes its answer stale.
    pub(crate) fn goes(&self) {
        self.pilot.goes(self.cache.generations().stamp(&self.subject));
    }

    /// Its request was refused by the limit, and waits again.
    pub(crate) fn waits(&self) {
        self.pilot.waits();
    }
}

impl Proxy {
    /// Sends a fetch on its way. Spawned: it outlives the callers who wait for it, once it was
    /// granted; before that it ends when the last of them leaves.
    pub(super) fn take_off(
        self: &Arc<Self>,
        errand: Errand,
        pilot: Pilot<InLine, Landed>,
        place: Place,
        wait: Wait,
        mut trail: Trail,
    ) {
        pilot.waits_at(InLine { terms: place.terms(), lane: errand.route.lane }, InLine::change);
        let proxy = self.clone();
        let stop = self.fetches.stop.clone();
        let fly = async move {
            let pilot = Arc::new(pilot);
            trail.boards(Aboard {
                pilot: pilot.clone(),
                cache: proxy.cache.clone(),
                subject: errand.subject.clone(),
            });
            let fetch = proxy.fetch(&errand, &pilot, place, &wait, &mut trail);
            let landed = tokio::select! {
                // In this order: nothing is sent once the ledger is about to be closed, and an
                // answer that is there counts more than callers who have left.
                biased;
                () = stop.cancelled() => return,
                landed = AssertUnwindSafe(fetch).catch_unwind() => landed,
                () = pilot.abandoned() => return,
            };
            let landed = landed.unwrap_or_else(|_| Landed::failed(Error::Panic, trail.facts()));
            // It holds the pilot too.
            drop(trail);
            if let Landed::Failed { error, .. } = &landed {
                proxy.tell(error, errand.head.headers.get(X_REQUEST_ID));
            }
            proxy.look_after(&errand, &landed);
            if let Some(pilot) = Arc::into_inner(pilot) {
                pilot.land(landed);
            }
        };
        drop(self.fetches.tasks.spawn(fly));
    }

    async fn fetch(
        &self,
        errand: &Errand,
        pilot: &Pilot<InLine, Landed>,
        place: Place,
        wait: &Wait,
        trail: &mut Trail,
    ) -> Landed {
        let request = Request::from_parts(errand.head.clone(), Replay::nothing());
        match self.travel(&errand.route, request, place, wait, trail).await {
            Ok(response) => {
                let ends = has_an_end(&response);
                let response = self.receive(response);
                self.read_whole(errand, pilot, response, ends, trail).await
            }
            Err(error) => Landed::failed(error, trail.facts()),
        }
    }

    /// Reads an answer to its end, and keeps it where it may be kept.
    async fn read_whole(
        &self,
        errand: &Errand,
        pilot: &Pilot<InLine, Landed>,
        response: Response<Body>,
        has_an_end: bool,
        trail: &Trail,
    ) -> Landed {
        let (facts, received) = (trail.facts(), Instant::now());
        let most = self.cache.settings().max_entry;
        if stated_length(response.headers()).is_some_and(|length| length > most as u64) {
            return self.pass_on(errand, response, true, facts);
        }
        let mut share = self.fetches.filling.share(self.cache.settings().max_bytes);
        let go_on = |read: usize| read <= most && share.grow(read as u64);
        let mut reading = pin!(peek_while(response, go_on));
        let peeked = match timeout(WHOLE, &mut reading).await {
            Ok(peeked) => peeked,
            Err(_) => {
                // Who comes from now on does not wait for what may trickle for ever.
                pilot.close();
                reading.await
            }
        };
        let Some(body) = peeked.whole() else {
            if peeked.broke_off() {
                return Landed::failed(Error::Incomplete, facts);
            }
            let too_large = peeked.read() > most;
            return self.pass_on(errand, peeked.into_response(), too_large, facts);
        };
        let head = peeked.head();
        let Some(life) = errand.life(head.status, &head.headers, facts, received) else {
            // Upstream says that it is for one alone.
            return self.pass_on(errand, peeked.into_response(), false, facts);
        };
        let Some(stamp) = pilot.stamp() else {
            return self.pass_on(errand, peeked.into_response(), false, facts);
        };
        let answer = Answer::compact(head.status, &lasting(&head.headers), body);
        let entry = Arc::new(Entry::new(answer, life, errand.subject.clone(), stamp));
        let vary = errand.vary(&head.headers);
        let kept = has_an_end
            && errand.may_be_kept(&entry, facts)
            && self.cache.keep(&errand.key, &errand.fields, &vary, &entry);
        Landed::Whole { entry, kept, facts: Arc::new(facts.clone()) }
    }

    /// Gives an answer to one caller alone. Where it is too large to be kept, calls for it do not
    /// wait for each other for a while: they would wait for nothing.
    fn pass_on(
        &self,
        errand: &Errand,
        response: Response<Body>,
        too_large: bool,
        facts: &Facts,
    ) -> Landed {
        if too_large {
            let time = match errand.lifetime {
                Lifetime::Ours(ttl) => ttl,
                Lifetime::Upstream => PASSES,
            };
            self.cache.pass(&errand.key, Instant::now() + time);
        }
        Landed::once(response, too_large, facts)
    }

    /// What a fetch says about an older answer: whether it may still be served.
    fn look_after(&self, errand: &Errand, landed: &Landed) {
        let now = Instant::now();
        if landed.is_upstreams_failure() {
            self.trouble(&errand.key, &errand.fields, now);
        } else if landed.drops_the_old(errand.lifetime) {
            // Gone, forbidden, or too large by now. What was sent for later stays.
            self.cache.forget(&errand.key, landed.facts().sent.unwrap_or(now));
        }
    }

    /// Has what is kept served for a while without asking upstream again.
    pub(super) fn trouble(&self, key: &Key, fields: &HeaderMap, now: Instant) {
        if let Found::Entry(entry) = self.cache.find(key, fields, now) {
            debug!("upstream fails; what is kept is served for a while");
            entry.troubled(now + TROUBLED);
        }
    }
}

impl Errand {
    /// How long an answer is good, to those who wait for it and to later ones; `None` when it is
    /// for one alone.
    fn life(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        facts: &Facts,
        received: Instant,
    ) -> Option<Life> {
        let sent = facts.sent.unwrap_or(received);
        match self.lifetime {
            Lifetime::Ours(ttl) => {
                let age = stated_age(headers);
                Some(Life { since: sent, age, lifetime: age + ttl, stale: self.stale })
            }
            Lifetime::Upstream => {
                let wall = SystemTime::now();
                let request = &self.brought;
                let all = Received { request, status, response: headers, sent, received, wall };
                rfc9111::life(&all, self.stale)
            }
        }
    }

    /// By which fields answers differ that the key does not tell apart.
    fn vary(&self, headers: &HeaderMap) -> Vary {
        match (Vary::read(headers), self.lifetime) {
            (Vary::By(_), Lifetime::Ours(_)) => Vary::Nothing,
            (vary, Lifetime::Ours(_) | Lifetime::Upstream) => vary,
        }
    }

    /// Whether an answer is kept, as far as its size and the writes since do not speak against it.
    fn may_be_kept(&self, entry: &Entry, facts: &Facts) -> bool {
        let status = match self.lifetime {
            Lifetime::Ours(_) => entry.answer.status == StatusCode::OK,
            Lifetime::Upstream => true,
        };
        // A key that was replaced on the way may see other rows than the one it is kept for.
        let went = facts.credential.as_ref().zip(facts.generation);
        let same = |(id, generation): &(CredentialId, Generation)| {
            went.is_some_and(|(went, with)| went == id && with == *generation)
        };
        status && self.keys.iter().any(same)
    }
}

impl Filling {
    /// No part of it yet. The sum of all parts is at most `most` bytes.
    fn share(&self, most: u64) -> Share<'_> {
        Share { total: &self.0, mine: 0, most }
    }
}

/// One fetch's part of [`Filling`]. Dropping it gives it back.
struct Share<'a> {
    total: &'a AtomicU64,
    mine: u64,
    most: u64,
}

impl Share<'_> {
    /// Makes the part so large, if there is room.
    fn grow(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.mine);
        let before = self.total.fetch_add(more, Ordering::Relaxed);
        self.mine += more;
        before + more <= self.most
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.total.fetch_sub(self.mine, Ordering::Relaxed);
    }
}

/// Whether it can be told that a body is whole: one that ends with its connection may have been cut
/// (RFC 9112 §8).
fn has_an_end(response: &Response<Body>) -> bool {
    let headers = response.headers();
    let framed = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
    framed || http_body::Body::is_end_stream(response.body())
}

fn stated_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// How old an answer was when it came, as caches on its way say. What cannot be read says nothing
/// here, where it does not decide how long the answer is good.
fn stated_age(headers: &HeaderMap) -> Duration {
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse::<u32>().ok());
    Duration::from_secs(age.unwrap_or(0).into())
}

/// The fields that hold for every later caller too. Its age and its length are told anew each time.
fn lasting(headers: &HeaderMap) -> HeaderMap {
    let mut lasting = headers.clone();
    lasting.remove(AGE);
    lasting.remove(CONTENT_LENGTH);
    if !lasting.contains_key(DATE) {
        // Without it a later caller would be told the time at which it is answered.
        let now = httpdate::fmt_http_date(SystemTime::now());
        if let Ok(now) = HeaderValue::try_from(now) {
            lasting.insert(DATE, now);
        }
    }
    lasting
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    #[test]
    fn a_body_that_ends_with_its_connection_is_not_known_to_be_whole() {
        let endless = || Body::boxed(StreamBody::new(futures_util::stream::pending()));
        let with = |name, value| {
            let mut response = Response::new(endless());
            response.headers_mut().insert(name, HeaderValue::from_static(value));
            has_an_end(&response)
        };
        assert!(!has_an_end(&Response::new(endless())));
        assert!(!with(DATE, "now"));
        assert!(with(CONTENT_LENGTH, "7") && with(TRANSFER_ENCODING, "chunked"));
        assert!(has_an_end(&Response::new(Body::empty())));
    }

    #[test]
    fn all_fetches_together_hold_no_more_than_they_may() {
        let filling = Filling::default();
        let (mut one, mut other) = (filling.share(100), filling.share(100));
        assert!(one.grow(60) && one.grow(60) && other.grow(40));
        assert!(!other.grow(41));
        drop(other);
        assert!(one.grow(100) && !one.grow(101));
    }
}

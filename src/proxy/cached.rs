//! Calls on routes that keep answers: from what is kept, from a fetch under way, or by a new one.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE, USER_AGENT, VIA,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use tokio::time::{Instant, timeout_at};

use crate::base::{Body, CredentialId};
use crate::cache::{
    Entry, Found, Judgement, Key, Lifetime, Question, Rider, Stage, Stamp, Subject, Waits, Wishes,
};
use crate::credential::Generation;
use crate::omni;
use crate::proxy::cache_status::{CacheStatus, Forward, Relief};
use crate::proxy::error::Error;
use crate::proxy::exchange::{Exchange, X_REQUEST_ID};
use crate::proxy::fetch::{Errand, InLine, Landed};
use crate::proxy::plan::{Keeps, PlannedRoute};
use crate::proxy::{Proxy, Wait, headers, kept};
use crate::shape::Refused;

/// What identifies us to upstream where a fetch is for several callers.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("omnigate/", env!("CARGO_PKG_VERSION")));

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Fields that ask for less than the whole answer.
const CONDITIONS: [HeaderName; 6] =
    [IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE];

/// How often a call that waits longer than it would is looked after while it is connecting.
const CONNECTING: Duration = Duration::from_millis(100);

/// How often a call waits for a fetch whose task vanished without a word.
const ROUNDS: u32 = 4;

/// What decides whether and how a call may be answered from what is kept. Read from its fields as they
/// came.
#[derive(Debug)]
pub(super) struct Brought<'a> {
    keeps: &'a Keeps,
    /// The keys that it may go with, each with the value that it has now.
    keys: Vec<(CredentialId, Generation)>,
    wishes: Wishes,
    /// Its fields, where upstream says what may be kept.
    fields: HeaderMap,
}

/// A call that may be answered from what is kept.
pub(super) struct Sought<'a> {
    route: &'a Arc<PlannedRoute>,
    wait: &'a Wait,
    brought: Brought<'a>,
    /// The call as it would go up by itself.
    head: Parts,
    key: Key,
}

/// What is kept says how to go on.
enum Look {
    /// With this answer.
    Answer(Response<Body>),
    /// Past the cache.
    Pass(Forward),
    /// By a fetch; `spare` says that there is an answer past its time, if it comes to that.
    Fetch { why: Forward, spare: bool },
}

/// How a call waits for a fetch.
struct Boarded {
    rider: Rider<InLine, Landed>,
    /// Whether the fetch was begun for this call.
    leads: bool,
}

/// How waiting for a fetch ended.
enum Waited {
    Landed(Landed),
    /// Its task vanished.
    Lost,
    /// Long enough, for a caller to whom something stale can be given.
    Enough,
}

impl<'a> Brought<'a> {
    /// `None` where the call is never answered from what is kept.
    pub(super) fn read(
        route: &'a PlannedRoute,
        head: &Parts,
        path: &str,
        body: &Body,
    ) -> Option<Self> {
        let keeps = route.keeps.as_ref()?;
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        // What a body asks for is in no key.
        if !reads || !http_body::Body::is_end_stream(body) || omni::is_never_kept(path) {
            return None;
        }
        let fields = match keeps.rule.lifetime {
            Lifetime::Ours(_) => HeaderMap::new(),
            Lifetime::Upstream => head.headers.clone(),
        };
        let wishes = Wishes::read(&head.headers);
        Some(Self { keeps, keys: route.keys_now()?, wishes, fields })
    }
}

impl<'a> Sought<'a> {
    /// Names what the call asks for.
    pub(super) fn new(
        route: &'a Arc<PlannedRoute>,
        wait: &'a Wait,
        brought: Brought<'a>,
        mut head: Parts,
    ) -> Self {
        // One coding for all: who can read none but this one can read it, and so can everybody.
        head.headers.insert(ACCEPT_ENCODING, IDENTITY);
        let keys: Vec<(&CredentialId, u64)> =
            brought.keys.iter().map(|(id, generation)| (id, generation.number())).collect();
        let key = Key::of(&Question {
            keys: &keys,
            path: head.uri.path(),
            query: head.uri.query(),
            acts_for: head.headers.get(headers::RUN_AS),
            fields: &head.headers,
            vary: &brought.keeps.rule.vary,
        });
        Self { route, wait, brought, head, key }
    }

    /// What a fetch for all who ask this takes along: nothing by which its answer could differ that is
    /// not in the key. Where upstream's `Vary` says by what answers differ, everything but conditions.
    fn fetch_head(&self) -> Parts {
        let mut head = self.head.clone();
        match self.brought.keeps.rule.lifetime {
            Lifetime::Ours(_) => {
                let plain =
                    [&HOST, &ACCEPT, &ACCEPT_ENCODING, &VIA, &X_REQUEST_ID, &headers::RUN_AS];
                let named = |name: &HeaderName| self.brought.keeps.rule.vary.contains(name);
                headers::retain(&mut head.headers, |name| plain.contains(&name) || named(name));
                head.headers.entry(USER_AGENT).or_insert(AGENT);
            }
            Lifetime::Upstream => {
                headers::retain(&mut head.headers, |name| !CONDITIONS.contains(name));
            }
        }
        head.method = Method::GET;
        head
    }

    fn errand(&self, subject: Subject) -> Errand {
        let head = self.fetch_head();
        Errand {
            route: self.route.clone(),
            key: self.key.clone(),
            fields: self.head.headers.clone(),
            head,
            brought: self.brought.fields.clone(),
            lifetime: self.brought.keeps.rule.lifetime,
            stale: self.brought.keeps.rule.stale,
            subject,
            keys: self.brought.keys.clone(),
        }
    }

    /// What tells flights apart.
    fn flight(&self) -> Key {
        match self.brought.keeps.rule.lifetime {
            Lifetime::Ours(_) => self.key.clone(),
            Lifetime::Upstream => {
                let mut fields = self.fetch_head().headers;
                fields.remove(VIA);
                fields.remove(X_REQUEST_ID);
                self.key.with_all(&fields)
            }
        }
    }

    /// Whether the call is to fail where upstream's state is another than it thinks: that is for
    /// upstream to say (RFC 9111 §4.3.2).
    fn is_conditional_on_state(&self) -> bool {
        let fields = &self.head.headers;
        fields.contains_key(IF_MATCH) || fields.contains_key(IF_UNMODIFIED_SINCE)
    }

    /// The fields that decide which of several kept answers is meant.
    fn fields(&self) -> &HeaderMap {
        &self.head.headers
    }
}

impl Proxy {
    /// Answers a call from what is kept, from a fetch under way, or by a new one.
    ///
    /// Cancel-safe: a fetch that others wait for too, or that was sent, goes on.
    pub(super) async fn seek(
        self: &Arc<Self>,
        sought: Sought<'_>,
        exchange: &mut Exchange,
    ) -> Result<Response<Body>, Error> {
        let mut failed = false;
        for _ in 0..ROUNDS {
            if self.fetches.stop.is_cancelled() {
                let estimate = Duration::ZERO;
                return Err(Refused::Draining { position: 0, estimate }.into());
            }
            let (why, spare) = match self.look(&sought, exchange)? {
                Look::Answer(answer) => return Ok(answer),
                Look::Pass(why) => return self.pass(sought, why, exchange).await,
                Look::Fetch { why, spare } => (why, spare),
            };
            exchange.cached(CacheStatus::forwarded(why));
            let boarded = match self.board(&sought, why, exchange) {
                Ok(Some(boarded)) => boarded,
                // Another's fetch has landed since we looked.
                Ok(None) => continue,
                Err(error) => return self.or_stale(&sought, error, exchange),
            };
            let leads = boarded.leads;
            let landed = match self.ride(&sought, boarded, spare).await {
                Ok(Waited::Landed(landed)) => landed,
                Ok(Waited::Lost) => continue,
                Ok(Waited::Enough) => match self.spare(&sought) {
                    Some(entry) => {
                        return Ok(kept::stale(&sought.head, &entry, Relief::Busy, exchange));
                    }
                    // Not any more: something was written meanwhile.
                    None => continue,
                },
                Err(error) => return self.or_stale(&sought, error, exchange),
            };
            exchange.trail.follows(landed.facts(), leads);
            if landed.is_failure()
                && let Some(entry) = self.spare(&sought)
            {
                return Ok(kept::stale(&sought.head, &entry, Relief::Failed, exchange));
            }
            match landed {
                Landed::Whole { entry, kept, .. } => {
                    let fetched = kept::Fetched { why, kept, collapsed: !leads };
                    return Ok(kept::fetched(&sought.head, &entry, fetched, exchange));
                }
                Landed::Once { response, .. } => match response.take() {
                    Some(response) => return Ok(kept::once(response, why, exchange)),
                    None => return self.pass(sought, why, exchange).await,
                },
                // One of those who waited tries again, once.
                Landed::Failed { error, .. } if leads || failed => {
                    return Err(Error::Shared(error));
                }
                Landed::Failed { .. } => failed = true,
            }
        }
        Err(Error::Panic)
    }

    /// Looks at what is kept.
    fn look(self: &Arc<Self>, sought: &Sought<'_>, exchange: &mut Exchange) -> Result<Look, Error> {
        let (wishes, head) = (&sought.brought.wishes, &sought.head);
        if wishes.no_store || sought.is_conditional_on_state() {
            return Ok(Look::Pass(Forward::Request));
        }
        let now = Instant::now();
        let (stale, why) = match self.cache.find(&sought.key, sought.fields(), now) {
            Found::Entry(entry) => match entry.life.judge(wishes, now) {
                Judgement::Fresh => {
                    return Ok(Look::Answer(kept::hit(head, &entry, now, exchange)));
                }
                Judgement::Welcome => {
                    let answer = kept::stale(head, &entry, Relief::Welcome, exchange);
                    return Ok(Look::Answer(answer));
                }
                Judgement::Stale => (Some(entry), Forward::Stale),
                Judgement::Unwanted => (None, Forward::Request),
                Judgement::Over => (None, Forward::Miss),
            },
            Found::Pass if !wishes.only_if_cached => return Ok(Look::Pass(Forward::Miss)),
            Found::Pass | Found::Nothing => (None, Forward::Miss),
        };
        if wishes.only_if_cached {
            return Err(Error::NotKept);
        }
        if let Some(entry) = &stale
            && let Some(relief) = self.relief(sought, entry, now)
        {
            if relief != Relief::Failed {
                self.refresh(sought, exchange);
            }
            return Ok(Look::Answer(kept::stale(head, entry, relief, exchange)));
        }
        Ok(match () {
            () if head.headers.contains_key(RANGE) => Look::Pass(Forward::Partial),
            () if head.method == Method::HEAD => Look::Pass(why),
            () => Look::Fetch { why, spare: stale.is_some() },
        })
    }

    /// Sends a call up by itself, past all that is kept.
    async fn pass(
        &self,
        sought: Sought<'_>,
        why: Forward,
        exchange: &mut Exchange,
    ) -> Result<Response<Body>, Error> {
        exchange.cached(CacheStatus::forwarded(why));
        let request = Request::from_parts(sought.head, Body::empty());
        let sent = self.attempt(sought.route, request, sought.wait, &mut exchange.trail).await;
        Ok(kept::once(self.receive(sent?), why, exchange))
    }

    /// Why an answer past its time is better than a new one, if it is.
    fn relief(&self, sought: &Sought<'_>, entry: &Entry, now: Instant) -> Option<Relief> {
        if entry.is_troubled(now) {
            return Some(Relief::Failed);
        }
        let outlook = self.shaper.outlook(&sought.wait.ask(sought.route));
        match outlook.next > self.cache.settings().stale_after_wait {
            _ if outlook.paused => Some(Relief::Paused),
            true => Some(Relief::Busy),
            false => None,
        }
    }

    /// What is kept and may be served in need, after something went wrong. Not what another value of
    /// the key has shown, or one that is refused by now.
    fn spare(&self, sought: &Sought<'_>) -> Option<Arc<Entry>> {
        if sought.route.keys_now().is_none_or(|keys| keys != sought.brought.keys) {
            return None;
        }
        let now = Instant::now();
        let Found::Entry(entry) = self.cache.find(&sought.key, sought.fields(), now) else {
            return None;
        };
        match entry.life.judge(&sought.brought.wishes, now) {
            Judgement::Fresh | Judgement::Welcome | Judgement::Stale => Some(entry),
            Judgement::Unwanted | Judgement::Over => None,
        }
    }

    /// An error, unless something that is kept is better.
    fn or_stale(
        &self,
        sought: &Sought<'_>,
        error: Error,
        exchange: &mut Exchange,
    ) -> Result<Response<Body>, Error> {
        match self.spare(sought) {
            Some(entry) => Ok(kept::stale(&sought.head, &entry, Relief::Busy, exchange)),
            None => Err(error),
        }
    }

    /// Joins the fetch of what is sought, or begins one. `None` where it is kept by now.
    fn board(
        self: &Arc<Self>,
        sought: &Sought<'_>,
        why: Forward,
        exchange: &Exchange,
    ) -> Result<Option<Boarded>, Error> {
        let waits = self.waits(sought.route, sought.wait);
        let until = waits.until;
        let subject = self.subject(sought);
        // Who has seen a write must not be given what was sent for before it, nor who wants a newer
        // answer than the kept one.
        let may_join = |stamp: Stamp| {
            why != Forward::Request && stamp == self.cache.generations().stamp(&subject)
        };
        let (rider, pilot) = self.fetches.flights.join(&sought.flight(), waits, may_join);
        let Some(pilot) = pilot else {
            let hopeless = rider.place().and_then(|place| place.late(until));
            return match hopeless {
                Some(refused) => Err(refused.into()),
                None => Ok(Some(Boarded { rider, leads: false })),
            };
        };
        if why != Forward::Request && self.has_landed(sought) {
            return Ok(None);
        }
        match self.line_up(sought.route, sought.wait) {
            Ok(place) => {
                let trail = exchange.trail.of_fetch(sought.wait);
                self.take_off(sought.errand(subject), pilot, place, sought.wait.clone(), trail);
                Ok(Some(Boarded { rider, leads: true }))
            }
            Err(error) => {
                let error = Arc::new(error);
                pilot.land(Landed::refused(error.clone()));
                Err(Error::Shared(error))
            }
        }
    }

    /// Whether there is a fresh answer now, which may not have been there when we looked first.
    fn has_landed(&self, sought: &Sought<'_>) -> bool {
        let now = Instant::now();
        match self.cache.find(&sought.key, sought.fields(), now) {
            Found::Entry(entry) => {
                entry.life.judge(&sought.brought.wishes, now) == Judgement::Fresh
            }
            Found::Pass | Found::Nothing => false,
        }
    }

    /// Fetches anew in the background what was served past its time, unless somebody does.
    fn refresh(self: &Arc<Self>, sought: &Sought<'_>, exchange: &Exchange) {
        let wait = sought.wait.in_background();
        let subject = self.subject(sought);
        let may_join = |stamp: Stamp| stamp == self.cache.generations().stamp(&subject);
        let waits = self.waits(sought.route, &wait);
        let (rider, pilot) = self.fetches.flights.join(&sought.flight(), waits.clone(), may_join);
        // A queue that is full says so here; the next call asks again.
        let Some((pilot, place)) = pilot.zip(self.line_up(sought.route, &wait).ok()) else {
            return;
        };
        let trail = exchange.trail.of_fetch(&wait);
        self.take_off(sought.errand(subject), pilot, place, wait, trail);
        rider.stay(waits);
    }

    /// Waits for a fetch, until it lands or this call's own deadline passes; the time that it takes
    /// from its grant on is not counted. One to whom something stale can be given (`spare`) waits no
    /// longer than `stale_after_wait`.
    async fn ride(
        &self,
        sought: &Sought<'_>,
        boarded: Boarded,
        spare: bool,
    ) -> Result<Waited, Error> {
        let mut rider = boarded.rider;
        let now = Instant::now();
        let deadline = now + self.shaper.max_wait(&sought.wait.ask(sought.route));
        let enough = spare.then(|| now + self.cache.settings().stale_after_wait);
        let mut until = enough.map_or(deadline, |enough| enough.min(deadline));
        loop {
            match rider.stage() {
                Stage::Landed(landed) => return Ok(Waited::Landed(landed)),
                Stage::Lost => return Ok(Waited::Lost),
                Stage::Goes => {
                    rider.moved().await;
                    continue;
                }
                Stage::Waits => {}
            }
            if timeout_at(until, rider.moved()).await.is_ok() {
                continue;
            }
            let now = Instant::now();
            // Where a slot is free, it only waits for its connection, and that is not waiting.
            match rider.place().and_then(|place| place.late(now)) {
                None => until = now + CONNECTING,
                Some(_) if enough.is_some() => {
                    rider.stay(self.waits(sought.route, &sought.wait.in_background()));
                    return Ok(Waited::Enough);
                }
                Some(refused) => return Err(refused.into()),
            }
        }
    }

    fn waits(&self, route: &PlannedRoute, wait: &Wait) -> Waits {
        Waits {
            caller: wait.caller.id.clone(),
            priority: wait.priority,
            until: Instant::now() + self.shaper.max_wait(&wait.ask(route)),
        }
    }

    fn subject(&self, sought: &Sought<'_>) -> Subject {
        self.cache.generations().subject(sought.head.uri.path(), &sought.brought.keeps.mark)
    }
}

//! Calls on routes that keep answers: from what is kept, from a fetch under way, or by a new one.

use std::sync::Arc;
use std::time::Duration;

use http::header::RANGE;
use http::{Method, Request, Response};
use tokio::time::{Instant, timeout_at};

use crate::base::Body;
use crate::cache::{Entry, Found, Judgement, Rider, Stage, Stamp, Subject, Waits};
use crate::proxy::cache_status::{CacheStatus, Forward, Relief};
use crate::proxy::error::Error;
use crate::proxy::exchange::Exchange;
use crate::proxy::fetch::InLine;
use crate::proxy::landed::Landed;
use crate::proxy::plan::PlannedRoute;
use crate::proxy::replay::Replay;
use crate::proxy::sought::Sought;
use crate::proxy::{Proxy, Wait, kept};
use crate::shape::Refused;

/// How often a call that waits longer than it would is looked after while it is connecting.
const CONNECTING: Duration = Duration::from_millis(100);

/// How long past its deadline a call waits for a connection at most.
const GRACE: Duration = Duration::from_secs(10);

/// How long a call to which something stale can be given waits for upstream, once its fetch was
/// sent.
const HANGING: Duration = Duration::from_secs(5);

/// What is kept says how to go on.
enum Look {
    /// With this answer.
    Answer(Response<Body>),
    /// Past the cache.
    Pass(Forward),
    /// By a fetch; `spare` says that there is an answer past its time, if it comes to that.
    Fetch { why: Forward, spare: bool },
}

/// The same, before anything is done about it.
pub(super) enum Sight {
    /// With what is kept. `relief` says why that is better, where it is past its time; then it is to be
    /// fetched anew, unless upstream has just failed.
    Kept { entry: Arc<Entry>, relief: Relief, refresh: bool },
    /// Not at all: the call takes only what is kept, and nothing is.
    NotKept,
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
    Enough(Relief),
}

impl Proxy {
    /// Answers a call from what is kept, from a fetch under way, or by a new one.
    ///
    /// Cancel-safe: a fetch that others wait for too, or that was sent, goes on.
    pub(super) async fn seek(
        self: &Arc<Self>,
        mut sought: Sought<'_>,
        exchange: &mut Exchange,
    ) -> Result<Response<Body>, Error> {
        // One deadline, however often it has to look again.
        let until = Instant::now() + self.shaper.max_wait(&sought.wait.ask(sought.route));
        let (mut failed, mut round) = (false, 0);
        if !self.others.is_current() {
            // Nobody has looked for a while. To ask is cheaper than to fetch.
            self.others.catch_up().await;
        }
        loop {
            // What was kept for an earlier value of the key is not for this call any more.
            if round > 0 && !sought.goes_with_the_same_keys() {
                return self.pass(sought, Forward::Miss, exchange).await;
            }
            round += 1;
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
            let boarded = match self.board(&sought, until, why, exchange) {
                Ok(Some(boarded)) => boarded,
                // Another's fetch has landed since we looked.
                Ok(None) => continue,
                Err(error) => return self.or_stale(&sought, error, exchange),
            };
            let leads = boarded.leads;
            let waited = self.ride(&sought, boarded, until, spare).await;
            sought.wait.max_wait = Some(until.saturating_duration_since(Instant::now()));
            let landed = match waited {
                Ok(Waited::Landed(landed)) => landed,
                Ok(Waited::Lost) => continue,
                Ok(Waited::Enough(relief)) => match self.spare(&sought) {
                    Some(entry) => return Ok(kept::serve(&sought.head, &entry, relief, exchange)),
                    // Not any more: something was written meanwhile.
                    None => continue,
                },
                Err(error) => return self.or_stale(&sought, error, exchange),
            };
            exchange.trail.follows(landed.facts(), leads);
            if let Some(relief) = landed.relief()
                && let Some(entry) = self.spare(&sought)
            {
                return Ok(kept::serve(&sought.head, &entry, relief, exchange));
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
    }

    /// Looks at what is kept.
    fn look(self: &Arc<Self>, sought: &Sought<'_>, exchange: &mut Exchange) -> Result<Look, Error> {
        match self.sight(sought, |now| self.kept(sought, now)) {
            Sight::Kept { entry, relief, refresh } => {
                if refresh {
                    self.refresh(sought, exchange);
                }
                Ok(Look::Answer(kept::serve(&sought.head, &entry, relief, exchange)))
            }
            Sight::NotKept => {
                exchange.cached(CacheStatus::NotKept);
                Err(Error::NotKept)
            }
            Sight::Pass(why) => Ok(Look::Pass(why)),
            Sight::Fetch { why, spare } => Ok(Look::Fetch { why, spare }),
        }
    }

    /// How a call goes on, by what is kept for it. Nothing changes by it.
    pub(super) fn sight(&self, sought: &Sought<'_>, find: impl FnOnce(Instant) -> Found) -> Sight {
        let (wishes, head) = (&sought.brought.wishes, &sought.head);
        if wishes.no_store || sought.is_conditional_on_state() {
            return match wishes.only_if_cached {
                true => Sight::NotKept,
                false => Sight::Pass(Forward::Request),
            };
        }
        let now = Instant::now();
        let (stale, why) = match find(now) {
            Found::Entry(entry) => match entry.life.judge(wishes, now) {
                Judgement::Fresh | Judgement::Welcome => {
                    return Sight::Kept { entry, relief: Relief::Welcome, refresh: false };
                }
                Judgement::Stale => (Some(entry), Forward::Stale),
                Judgement::Unwanted => (None, Forward::Request),
                Judgement::Over => (None, Forward::Miss),
            },
            Found::Pass if !wishes.only_if_cached => return Sight::Pass(Forward::Miss),
            Found::Pass | Found::Nothing => (None, Forward::Miss),
        };
        if wishes.only_if_cached {
            return Sight::NotKept;
        }
        if let Some(entry) = &stale
            && let Some(relief) = self.relief(sought, entry, now)
        {
            let refresh = relief != Relief::Failed;
            return Sight::Kept { entry: entry.clone(), relief, refresh };
        }
        // Of what is not kept whole, upstream gives the part.
        match head.headers.contains_key(RANGE) || head.method == Method::HEAD {
            true => Sight::Pass(why),
            false => Sight::Fetch { why, spare: stale.is_some() },
        }
    }

    /// What is kept for a call, and no write has left stale, here or elsewhere. Nothing, while it is
    /// not known what other gateways have written.
    fn kept(&self, sought: &Sought<'_>, now: Instant) -> Found {
        // In this order: whoever asks after a write was answered finds us behind, or having heard.
        if !self.others.is_current() {
            return Found::Nothing;
        }
        self.cache.find(&sought.key, sought.fields(), now)
    }

    /// Whether no write has ended since this stamp was taken, as `kept` has it.
    fn is_good(&self, stamp: Stamp, subject: &Subject) -> bool {
        self.others.is_current() && stamp == self.cache.generations().stamp(subject)
    }

    /// Sends a call up by itself, past all that is kept.
    async fn pass(
        &self,
        sought: Sought<'_>,
        why: Forward,
        exchange: &mut Exchange,
    ) -> Result<Response<Body>, Error> {
        exchange.cached(CacheStatus::forwarded(why));
        let request = Request::from_parts(sought.head, Replay::nothing());
        let sent = self.attempt(sought.route, request, &sought.wait, &mut exchange.trail).await;
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

    /// What is kept and may be served in need, after something went wrong. Not what another value
    /// of the key has shown, or one that is refused by now.
    fn spare(&self, sought: &Sought<'_>) -> Option<Arc<Entry>> {
        if !sought.goes_with_the_same_keys() {
            return None;
        }
        let now = Instant::now();
        let Found::Entry(entry) = self.kept(sought, now) else {
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
            Some(entry) => Ok(kept::serve(&sought.head, &entry, Relief::Busy, exchange)),
            None => Err(error),
        }
    }

    /// Joins the fetch of what is sought, or begins one. `None` where it is kept by now.
    fn board(
        self: &Arc<Self>,
        sought: &Sought<'_>,
        until: Instant,
        why: Forward,
        exchange: &Exchange,
    ) -> Result<Option<Boarded>, Error> {
        let subject = self.subject(sought);
        // Who has seen a write must not be given what was sent for before it, nor who wants a newer
        // answer than the kept one.
        let anew = why == Forward::Request || sought.brought.wishes.wants_anew();
        let may_join = |stamp: Stamp| !anew && self.is_good(stamp, &subject);
        let waits = waits(&sought.wait, until);
        let (rider, pilot) = self.fetches.flights.join(&sought.flight(), waits, may_join);
        let Some(pilot) = pilot else {
            let hopeless = rider.place().and_then(|place| place.late(until));
            return match hopeless {
                Some(refused) => Err(refused.into()),
                None => Ok(Some(Boarded { rider, leads: false })),
            };
        };
        if !anew && self.has_landed(sought) {
            return Ok(None);
        }
        // Where the queue refuses this call, that is for this call alone: whoever has joined
        // meanwhile finds the pilot gone, and looks again.
        let place = self.line_up(sought.route, &sought.wait)?;
        let trail = exchange.trail.of_fetch(&sought.wait);
        self.take_off(sought.errand(subject), pilot, place, sought.wait.clone(), trail);
        Ok(Some(Boarded { rider, leads: true }))
    }

    /// Whether there is a fresh answer now, which may not have been there when we looked first.
    fn has_landed(&self, sought: &Sought<'_>) -> bool {
        let now = Instant::now();
        match self.kept(sought, now) {
            Found::Entry(entry) => {
                entry.life.judge(&sought.brought.wishes, now) == Judgement::Fresh
            }
            Found::Pass | Found::Nothing => false,
        }
    }

    /// Fetches anew in the background what was served past its time, unless somebody does. A
    /// refresh takes no place in the queue that a call may need.
    fn refresh(self: &Arc<Self>, sought: &Sought<'_>, exchange: &Exchange) {
        let wait = self.background();
        if self.shaper.outlook(&wait.ask(sought.route)).crowded {
            return;
        }
        let subject = self.subject(sought);
        let may_join = |stamp: Stamp| self.is_good(stamp, &subject);
        let waits = self.waits_in_background(sought.route);
        let (rider, pilot) = self.fetches.flights.join(&sought.flight(), waits.clone(), may_join);
        let Some(pilot) = pilot else { return };
        // What the queue says against it now it may not say to the next call.
        let Ok(place) = self.line_up(sought.route, &wait) else { return };
        let trail = exchange.trail.of_fetch(&wait);
        self.take_off(sought.errand(subject), pilot, place, wait, trail);
        rider.stay(waits);
    }

    /// Waits for a fetch, until it lands or this call's deadline passes; the time that it takes
    /// from its grant on is not counted. One to whom something stale can be given (`spare`) waits
    /// no longer than
    /// `stale_after_wait` for the grant, and 5 s for upstream.
    async fn ride(
        &self,
        sought: &Sought<'_>,
        boarded: Boarded,
        deadline: Instant,
        spare: bool,
    ) -> Result<Waited, Error> {
        let mut rider = boarded.rider;
        let began = Instant::now();
        let enough = spare.then(|| began + self.cache.settings().stale_after_wait);
        let mut until = enough.map_or(deadline, |enough| enough.min(deadline));
        loop {
            match rider.stage() {
                Stage::Landed(landed) => return Ok(Waited::Landed(landed)),
                Stage::Lost => return Ok(Waited::Lost),
                Stage::Goes if spare => {
                    if timeout_at(Instant::now() + HANGING, rider.moved()).await.is_err() {
                        self.trouble(&sought.key, sought.fields(), Instant::now());
                        return Ok(Waited::Enough(Relief::Slow));
                    }
                    continue;
                }
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
                None if now >= deadline + GRACE => {
                    let estimate = Duration::ZERO;
                    return Err(Refused::Late { position: 0, estimate }.into());
                }
                None => until = now + CONNECTING,
                Some(_) if spare => {
                    rider.stay(self.waits_in_background(sought.route));
                    return Ok(Waited::Enough(Relief::Busy));
                }
                Some(refused) => return Err(refused.into()),
            }
        }
    }

    fn waits_in_background(&self, route: &PlannedRoute) -> Waits {
        let wait = self.background();
        waits(&wait, Instant::now() + self.shaper.max_wait(&wait.ask(route)))
    }

    fn subject(&self, sought: &Sought<'_>) -> Subject {
        self.cache.generations().subject(sought.head.uri.path(), &sought.brought.keeps.mark)
    }
}

fn waits(wait: &Wait, until: Instant) -> Waits {
    Waits { caller: wait.caller.id.clone(), priority: wait.priority, until }
}

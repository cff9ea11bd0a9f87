//! From a call to upstream's answer: its turn, its key, and as many attempts as it takes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::request::Parts;
use http::{Request, Response, StatusCode};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::base::{Body, CredentialId, chance};
use crate::credential::{Credential, Generation};
use crate::omni;
use crate::proxy::custody::Verdict;
use crate::proxy::error::Error;
use crate::proxy::peek::{Peeked, peek};
use crate::proxy::plan::PlannedRoute;
use crate::proxy::replay::Replay;
use crate::proxy::retry::{self, Next};
use crate::proxy::trail::Trail;
use crate::proxy::{Proxy, Wait};
use crate::proxy::{echo, headers};
use crate::shape::{Ask, Outcome, Permit, Place, Refused};
use crate::telemetry::Retry;
use crate::upstream::{Connection, Leave, SendError};

/// How often a call that was granted may find its connection gone before anything was sent.
const ROUNDS: u32 = 3;

/// How long the beginning of an answer that has to be looked at may take.
const LOOK: Duration = Duration::from_secs(5);

/// How long a call whose key was refused waits at least to learn whether it is the key.
const VERDICT: Duration = Duration::from_secs(10);

/// One call on its way up.
struct Call<'a> {
    route: &'a Arc<PlannedRoute>,
    head: Parts,
    body: Replay,
    place: Place,
    /// When it began to look for a connection.
    connecting: Option<Instant>,
    streaming: bool,
    /// Attempts that upstream may have begun on.
    tries: u32,
    /// Connections that were gone before the head was sent.
    stale: u32,
    /// The keys with which it was sent again because they were replaced; a pool may have several.
    renewed: Vec<CredentialId>,
}

/// An attempt that upstream answered.
struct Sent<'a> {
    credential: &'a Credential,
    /// Which of its values went along.
    generation: Generation,
    outcome: Outcome,
}

/// What an attempt came to.
enum End {
    /// Upstream's answer is the call's.
    Answer(Response<Body>),
    /// The call is sent again, after so long.
    Again(Duration),
}

impl Proxy {
    /// Waits for the call's turn and sends it.
    pub(super) async fn attempt(
        &self,
        route: &Arc<PlannedRoute>,
        request: Request<Replay>,
        wait: &Wait,
        trail: &mut Trail,
    ) -> Result<Response<Body>, Error> {
        let place = self.line_up(route, wait)?;
        self.travel(route, request, place, wait, trail).await
    }

    /// Takes a place in the queue.
    pub(super) fn line_up(&self, route: &PlannedRoute, wait: &Wait) -> Result<Place, Error> {
        // A call whose keys are all missing must not wait a minute to learn it.
        route.any_bearer()?;
        // The queue hears of a key's first value a moment later than the key itself.
        self.custody.settle_all(route.credentials());
        let place = self.shaper.join(&wait.ask(route))?;
        route.retries().called(Instant::now());
        Ok(place)
    }

    /// Waits for the turn of a place and sends its call, in the design's order: the bearer is at
    /// hand, the connection is checked out, the permit is taken, the head is written. A call that
    /// the limit refused waits again, in its old place; one that failed may be sent again.
    pub(super) async fn travel(
        &self,
        route: &Arc<PlannedRoute>,
        request: Request<Replay>,
        place: Place,
        wait: &Wait,
        trail: &mut Trail,
    ) -> Result<Response<Body>, Error> {
        let (head, body) = request.into_parts();
        let mut call = Call {
            route,
            streaming: omni::is_streaming(head.uri.path()),
            body,
            head,
            place,
            connecting: None,
            tries: 0,
            stale: 0,
            renewed: Vec::new(),
        };
        trail.queues(&call.place);
        loop {
            let (connection, permit) = match self.turn(&mut call).await {
                Err(Error::Connect(error)) => {
                    let since = call.connecting.unwrap_or_else(Instant::now);
                    trail.unreachable(since, &call.head, self.upstream.origin());
                    call.tries += 1;
                    let after = call.repeat(retry::Outcome::Unreachable).ok_or(error)?;
                    tokio::time::sleep(after).await;
                    continue;
                }
                ready => ready?,
            };
            trail.granted(call.place.waited());
            // On the heap, so that a call which waits does not carry the room that sending takes.
            let sending = Box::pin(self.send(&mut call, connection, permit, wait, trail));
            match sending.await? {
                End::Answer(answer) => return Ok(answer),
                End::Again(after) => {
                    call.place.again();
                    trail.waits_again();
                    tokio::time::sleep(after).await;
                    trail.queues(&call.place);
                }
            }
        }
    }

    /// Waits for the call's turn, with a connection ready for it.
    async fn turn(&self, call: &mut Call<'_>) -> Result<(Connection, Permit), Error> {
        let Call { place, body, stale, connecting, .. } = call;
        while *stale < ROUNDS {
            place.near().await?;
            *connecting = Some(Instant::now());
            let permitted = async {
                let connection = Box::pin(self.upstream.check_out()).await?;
                let permit = place.turn().await?;
                Ok::<_, Error>((connection, permit))
            };
            let (connection, permit) = tokio::select! {
                // First, so that a caller who has left is seen before its head is sent.
                biased;
                Err(cause) = body.read_ahead() => return Err(Error::upload(cause)),
                permitted = permitted => permitted?,
            };
            if !connection.is_closed() {
                return Ok((connection, permit));
            }
            *stale += 1;
            drop(permit);
            place.again();
        }
        Err(Error::Unsteady)
    }

    /// Sends the call once.
    async fn send(
        &self,
        call: &mut Call<'_>,
        connection: Connection,
        permit: Permit,
        wait: &Wait,
        trail: &mut Trail,
    ) -> Result<End, Error> {
        let route = call.route;
        let credential = route.credential(permit.credential());
        if credential.is_rejected() {
            // Refused since the permit was granted: the queue says what now.
            return Ok(End::Again(Duration::ZERO));
        }
        let Some(body) = call.body.attempt() else { return Err(self.busy(route, wait)) };
        let mut head = call.head.clone();
        // Now and not at arrival: a token that was rotated meanwhile is the new one. It goes in
        // last, so that nothing the caller said can take it out again.
        let bearer = credential.bearer()?;
        trail.goes_with(credential.id(), bearer.generation);
        trail.sends(&head, self.upstream.origin());
        headers::set_trace(&mut head.headers, &route.policy, &trail.trace);
        headers::set_bearer(&mut head.headers, bearer.field);
        let request = Request::from_parts(head, body);
        let outcome = permit.outcome();
        let leave = Leave::new(Some(permit.expires()), move || permit.begin());
        let sent = Instant::now();
        let answer = self.upstream.send(connection, request, leave, route.response_timeout).await;
        let error = match answer {
            Ok(answer) => {
                let answer =
                    echo::blotted(answer, &bearer.blot, credential.id(), &self.telemetry.metrics);
                trail.received(&answer, sent.elapsed());
                call.tries += 1;
                let sent = Sent { credential, generation: bearer.generation, outcome };
                return self.read(call, answer, sent, wait, trail).await;
            }
            Err(SendError::NotBegun) => {
                debug!(route = %route.id, "the connection was gone before the head was sent");
                call.stale += 1;
                trail.not_sent();
                let again = call.repeat(retry::Outcome::Stale);
                return again.map(End::Again).ok_or(Error::Unsteady);
            }
            Err(error @ SendError::Upload(_)) => return Err(error.into()),
            Err(error) => error,
        };
        drop(outcome);
        let (how, why) = match error {
            SendError::Timeout { .. } => (retry::Outcome::Silent, "timeout"),
            _ => (retry::Outcome::Broken, "connection_broken"),
        };
        trail.unanswered(why, sent.elapsed());
        call.tries += 1;
        call.repeat(how).map(End::Again).ok_or_else(|| error.into())
    }

    /// Reads upstream's answer: is it the call's, or is the call to be sent again?
    async fn read(
        &self,
        call: &mut Call<'_>,
        answer: Response<Body>,
        sent: Sent<'_>,
        wait: &Wait,
        trail: &mut Trail,
    ) -> Result<End, Error> {
        let Sent { credential, generation, outcome } = sent;
        let status = answer.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let peeked = peek(answer, omni::LOOKED_AT, LOOK).await;
            let body = peeked.whole().unwrap_or_default();
            if omni::is_application_429(&peeked.head().headers, &body) {
                outcome.taken();
                return Ok(End::Answer(peeked.into_response()));
            }
            return self.limited(call, &peeked, outcome, wait, trail);
        }
        outcome.taken();
        if matches!(status.as_u16(), 400 | 401 | 403) {
            let peeked = peek(answer, omni::LOOKED_AT, LOOK).await;
            let body = peeked.whole().unwrap_or_default();
            if omni::is_rejection(status, &body) {
                return self.refused_key(call, peeked, credential.id(), generation).await;
            }
            return Ok(End::Answer(peeked.into_response()));
        }
        let how = retry::Outcome::answered(status, answer.headers(), SystemTime::now());
        Ok(match call.repeat(how) {
            Some(after) => End::Again(after),
            None => End::Answer(answer),
        })
    }

    /// Omni's limit refused the call: nobody sends for a while, and this call goes again.
    fn limited(
        &self,
        call: &mut Call<'_>,
        answer: &Peeked,
        outcome: Outcome,
        wait: &Wait,
        trail: &mut Trail,
    ) -> Result<End, Error> {
        let retry_after = omni::retry_after(&answer.head().headers, SystemTime::now());
        outcome.limited(retry_after);
        trail.limited();
        // It never reached Omni's application, so it does not count as a try.
        call.tries -= 1;
        warn!(route = %call.route.id, retry_after_s = retry_after.map(|wait| wait.as_secs()),
            "Omni's limit refused a call although we were within it; pausing");
        if call.body.recall() {
            Ok(End::Again(Duration::ZERO))
        } else {
            Err(self.busy(call.route, wait))
        }
    }

    /// Omni seems to refuse the key. Whether it does is found out once for all calls that were
    /// refused; then this one goes with the new value, or with another key of its pool.
    async fn refused_key(
        &self,
        call: &mut Call<'_>,
        answer: Peeked,
        credential: &CredentialId,
        generation: Generation,
    ) -> Result<End, Error> {
        let within = call.place.left().max(VERDICT);
        let verdict = timeout(within, self.custody.judge(credential, generation)).await;
        match verdict.unwrap_or(Verdict::Unclear) {
            Verdict::Sound | Verdict::Unclear => return Ok(End::Answer(answer.into_response())),
            Verdict::Renewed if call.renewed.contains(credential) => {
                return Ok(End::Answer(answer.into_response()));
            }
            Verdict::Renewed => call.renewed.push(credential.clone()),
            Verdict::Rejected if call.route.is_pool() => {}
            Verdict::Rejected => {
                return Err(Refused::Rejected { credential: credential.clone() }.into());
            }
        }
        // It never reached Omni's application, so it does not count as a try.
        call.tries -= 1;
        if call.body.recall() {
            call.route.series.retried(Retry::Credential);
            Ok(End::Again(Duration::ZERO))
        } else {
            Err(Error::Replaced { credential: credential.clone() })
        }
    }

    /// The call cannot be sent again, since its body is gone.
    fn busy(&self, route: &PlannedRoute, wait: &Wait) -> Error {
        Error::Busy { retry_after: self.shaper.outlook(&wait.ask(route)).next }
    }
}

impl Call<'_> {
    /// Whether the call is sent again after what became of it, and when.
    fn repeat(&self, outcome: retry::Outcome) -> Option<Duration> {
        let call = retry::Call {
            idempotent: retry::is_idempotent(&self.head.method),
            at_hand: self.body.is_at_hand(),
            streaming: self.streaming,
            attempts: self.tries,
        };
        match retry::next(call, outcome, chance()) {
            Next::Done => None,
            Next::Again { after, .. } if after >= self.place.left() => None,
            Next::Again { after, reason, budgeted } => {
                let allowed = !budgeted || self.route.retries().take(Instant::now());
                // Taken back from the attempt that failed, while it is whole.
                (allowed && self.body.recall()).then(|| {
                    self.route.series.retried(reason);
                    after
                })
            }
        }
    }
}

impl Wait {
    pub(super) fn ask<'a>(&'a self, route: &PlannedRoute) -> Ask<'a> {
        Ask {
            lane: route.lane,
            caller: &self.caller.id,
            priority: self.priority,
            max_wait: self.max_wait,
        }
    }
}

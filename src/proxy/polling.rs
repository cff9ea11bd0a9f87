//! Calls that ask how far a job is: not too often, and once for all who ask at the same time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{USER_AGENT, VIA};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use tokio::time::Instant;
use tracing::debug;

use crate::base::{Body, CredentialId};
use crate::proxy::error::Error;
use crate::proxy::exchange::{Exchange, X_REQUEST_ID};
use crate::proxy::peek::peek;
use crate::proxy::plan::PlannedRoute;
use crate::proxy::replay::Replay;
use crate::proxy::sought::TRACES;
use crate::proxy::trail::Facts;
use crate::proxy::{Proxy, Wait, headers, kept};
use crate::saver::{Ask, Likeness, Question, Subject, Turn};

/// The longest answer that several are given. What is said of a job is much shorter.
const LONGEST: usize = 64 * 1024;

/// How long such an answer may take to come whole. After that everybody asks for himself.
const WHOLE: Duration = Duration::from_secs(2);

/// What several are told.
pub(super) type Told = Arc<Answer>;

/// The answer to a question about a job.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// How it was come by.
    facts: Facts,
}

impl Proxy {
    /// Holds a question about a job back until its route's `min_interval` has passed since the last one
    /// was sent. Gives the answer, where another went meanwhile and asked the same. What `wait` has
    /// left is less by then.
    ///
    /// Cancel-safe: dropping the future gives the turn back.
    pub(super) async fn poll(
        &self,
        route: &Arc<PlannedRoute>,
        head: &Parts,
        body: &Replay,
        wait: &mut Wait,
        exchange: &mut Exchange,
    ) -> Result<Option<Response<Body>>, Error> {
        let interval = route.savers.interval(&head.method, head.uri.path());
        let Some(interval) = interval.filter(|_| body.is_nothing()) else { return Ok(None) };
        let began = Instant::now();
        let until = began + self.shaper.max_wait(&wait.ask(route));
        let (subject, likeness) = (subject(route, head), likeness(head));
        let ask = Ask {
            subject: &subject,
            likeness: &likeness,
            caller: &wait.caller.id,
            priority: wait.priority,
            interval,
            until,
        };
        let turn = self.pollers.turn(&ask).await?;
        wait.max_wait = Some(until.saturating_duration_since(Instant::now()));
        let (paced, shared) = (began.elapsed(), matches!(turn, Turn::Shared(_)));
        let answer = match turn {
            Turn::Goes(slot) => {
                exchange.trail.asks(slot);
                None
            }
            Turn::Shared(told) => {
                exchange.trail.follows(&told.facts, false);
                Some(kept::shared(told.response(), exchange))
            }
        };
        if !paced.is_zero() {
            exchange.trail.paced(paced);
            let (route, paced_ms) = (&route.id, paced.as_millis() as u64);
            debug!(%route, paced_ms, shared, "a question about a job was held back");
        }
        Ok(answer)
    }

    /// Tells an answer to those who asked the same before it was sent for.
    ///
    /// Cancel-safe: if it is dropped, they go on waiting for their own turn.
    pub(super) async fn share(
        &self,
        response: Response<Body>,
        exchange: &mut Exchange,
    ) -> Response<Body> {
        let Some(slot) = exchange.trail.asked().filter(|slot| slot.is_awaited()) else {
            return response;
        };
        let peeked = peek(response, LONGEST, WHOLE).await;
        if let Some(body) = peeked.whole() {
            let (head, facts) = (peeked.head(), exchange.trail.facts().clone());
            let (status, headers) = (head.status, head.headers.clone());
            slot.landed(&Arc::new(Answer { status, headers, body, facts }));
        }
        peeked.into_response()
    }
}

impl Answer {
    fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::full(self.body.clone()));
        *response.status_mut() = self.status;
        response.headers_mut().clone_from(&self.headers);
        response
    }
}

fn subject(route: &PlannedRoute, head: &Parts) -> Subject {
    let keys: Vec<&CredentialId> = route.credentials().iter().map(|key| key.id()).collect();
    Subject::of(&Question {
        keys: &keys,
        path: head.uri.path(),
        query: head.uri.query(),
        acts_for: head.headers.get(headers::RUN_AS),
    })
}

/// By what goes to Omni, but for what says nothing of what is asked.
fn likeness(head: &Parts) -> Likeness {
    let mut fields = head.headers.clone();
    for name in [VIA, USER_AGENT, X_REQUEST_ID] {
        fields.remove(name);
    }
    for name in TRACES {
        fields.remove(name);
    }
    Likeness::of(&fields)
}

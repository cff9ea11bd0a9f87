//! What becomes of a call on its way to upstream: its turn, its key, its attempts.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use tokio::time::Instant;

use crate::base::{Body, CredentialId};
use crate::credential::Generation;
use crate::proxy::Wait;
use crate::proxy::fetch::Aboard;
use crate::proxy::plan::PlannedRoute;
use crate::proxy::polling::Told;
use crate::proxy::writing::Writing;
use crate::saver::Slot;
use crate::shape::Place;
use crate::telemetry::{Attempt, Retry, SpanRef, Telemetry, Trace};
use crate::upstream::Origin;

/// The id that Omni gives to what it did.
const OMNI_TRACE: &str = "x-trace-id";

/// Follows one call up, be it a caller's own or a fetch for several.
#[derive(Debug)]
pub(crate) struct Trail {
    telemetry: Telemetry,
    /// Its spans.
    pub(crate) trace: Trace,
    method: Method,
    route: Option<Arc<PlannedRoute>>,
    /// How it waits, once it may be made at all.
    wait: Option<Wait>,
    facts: Facts,
    /// The fetch that those who wait for it are told of.
    aboard: Option<Aboard>,
    /// What the call leaves stale, where it is a write.
    writing: Option<Writing>,
    /// Its right to ask about a job, where that is not always given.
    polling: Option<Slot<Told>>,
}

/// What is known of the way up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Whose bearer went along the last time.
    pub(crate) credential: Option<CredentialId>,
    /// And which of its values.
    pub(crate) generation: Option<Generation>,
    /// Before it joined the queue, where it had asked the same a moment before.
    pub(crate) paced: Option<Duration>,
    /// From joining the queue to the last permit.
    pub(crate) waited: Option<Duration>,
    /// Attempts that upstream may have begun on.
    pub(crate) attempts: u32,
    /// When the last one was sent.
    pub(crate) sent: Option<Instant>,
    /// From then to the response head.
    pub(crate) upstream: Option<Duration>,
    /// Its span, where there is one.
    pub(crate) span: Option<SpanRef>,
}

impl Trail {
    pub(crate) fn open(method: Method, telemetry: Telemetry) -> Self {
        Self {
            telemetry,
            trace: Trace::default(),
            method,
            route: None,
            wait: None,
            facts: Facts::default(),
            aboard: None,
            writing: None,
            polling: None,
        }
    }

    /// The trail of a fetch on this route, which waits so.
    pub(crate) fn of_fetch(&self, wait: &Wait) -> Self {
        let mut trail = Self::open(Method::GET, self.telemetry.clone());
        trail.route.clone_from(&self.route);
        trail.wait = Some(wait.clone());
        trail.trace = self.trace.of_fetch();
        trail
    }

    /// Tells those who wait for the fetch what becomes of it.
    pub(crate) fn boards(&mut self, aboard: Aboard) {
        self.aboard = Some(aboard);
    }

    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    pub(crate) fn route(&self) -> Option<&Arc<PlannedRoute>> {
        self.route.as_ref()
    }

    pub(crate) fn wait(&self) -> Option<&Wait> {
        self.wait.as_ref()
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn goes_by(&mut self, route: &Arc<PlannedRoute>) {
        self.route = Some(route.clone());
    }

    /// The call may be made, and waits so.
    pub(crate) fn waits(&mut self, wait: &Wait) {
        self.wait = Some(wait.clone());
    }

    /// The call leaves something stale once its head was sent.
    pub(crate) fn writes(&mut self, writing: Option<Writing>) {
        self.writing = writing;
    }

    /// The call may ask about a job, which others wait for.
    pub(crate) fn asks(&mut self, slot: Slot<Told>) {
        self.polling = Some(slot);
    }

    /// Who waits for the answer of such a call is told by whoever takes this.
    pub(crate) fn asked(&mut self) -> Option<Slot<Told>> {
        self.polling.take()
    }

    /// The call goes with this key now.
    pub(crate) fn goes_with(&mut self, credential: &CredentialId, generation: Generation) {
        self.facts.credential = Some(credential.clone());
        self.facts.generation = Some(generation);
    }

    /// The call's route and how it waits, where it got so far.
    pub(crate) fn waits_as(&self) -> Option<(&Arc<PlannedRoute>, &Wait)> {
        self.route.as_ref().zip(self.wait.as_ref())
    }

    /// The call waits for its turn from now on.
    pub(crate) fn queues(&mut self, place: &Place) {
        if !self.trace.is_recorded() {
            return;
        }
        if let Some((route, wait)) = self.route.as_ref().zip(self.wait.as_ref())
            && let Some(quota) = route.budgets.first()
        {
            let priority = wait.priority.as_str();
            self.trace.waits(place.position(), priority, quota.budget.as_str());
        }
    }

    /// A permit was granted after `waited`.
    pub(crate) fn granted(&mut self, waited: Duration) {
        self.facts.waited = Some(waited);
        self.trace.granted();
        if let Some(aboard) = &self.aboard {
            aboard.goes();
        }
        if let Some((route, wait)) = self.waits_as() {
            route.series.granted(waited, &wait.caller.id, wait.priority);
            for quota in &route.budgets {
                self.telemetry.board.granted(Instant::now(), &quota.budget, wait.priority);
            }
        }
    }

    /// The call waits for its turn once more.
    pub(crate) fn waits_again(&mut self) {
        if let Some(aboard) = &self.aboard {
            aboard.waits();
        }
        if let Some(slot) = &mut self.polling {
            slot.waits_again();
        }
    }

    /// The head is handed to the connection.
    pub(crate) fn sends(&mut self, head: &Parts, origin: &Origin) {
        self.facts.sent = Some(Instant::now());
        if self.trace.is_recorded() {
            let (origin, host, port) = (origin.to_string(), origin.host(), origin.port());
            let key = self.facts.credential.as_ref().map(CredentialId::as_str);
            self.trace.sends(&attempt(head, &origin, (host, port), key));
        }
        if let Some(writing) = &mut self.writing {
            writing.begins();
        }
        if let Some(slot) = &mut self.polling {
            slot.sent();
        }
    }

    /// Omni's limit refused an attempt. Our own count was within it, as it always is.
    pub(crate) fn limited(&self) {
        if let Some(route) = &self.route {
            route.series.limited(true);
            route.series.retried(Retry::Limited);
        }
    }

    /// No connection to upstream was to be had since then.
    pub(crate) fn unreachable(&mut self, since: Instant, head: &Parts, origin: &Origin) {
        if self.trace.is_recorded() {
            let (text, host, port) = (origin.to_string(), origin.host(), origin.port());
            self.trace.unreachable(since, &attempt(head, &text, (host, port), None));
        }
    }

    /// The head could not be handed over after all: upstream knows nothing of it.
    pub(crate) fn not_sent(&mut self) {
        self.trace.failed("not_sent");
        if let Some(slot) = &mut self.polling {
            slot.not_sent();
        }
    }

    /// Upstream answered an attempt.
    pub(crate) fn received(&mut self, answer: &Response<Body>, took: Duration) {
        self.trace.answered(answer.status().as_u16(), answer.headers().get(OMNI_TRACE));
        self.attempted(Some(answer.status()), took);
    }

    /// Upstream did not answer an attempt; `why` is a fixed word.
    pub(crate) fn unanswered(&mut self, why: &'static str, took: Duration) {
        self.trace.failed(why);
        self.attempted(None, took);
    }

    fn attempted(&mut self, status: Option<StatusCode>, took: Duration) {
        self.facts.span = self.trace.attempted();
        self.facts.attempts += 1;
        self.facts.upstream = Some(took);
        if let Some(route) = &self.route {
            route.series.attempted(&self.method, status, took);
        }
        if let Some(writing) = &mut self.writing {
            writing.attempted(status);
        }
    }

    /// Upstream's answer is the call's, and is about to go out.
    pub(crate) async fn answered(&mut self, status: StatusCode) {
        if let Some(writing) = &mut self.writing {
            writing.answered(status).await;
        }
    }

    /// The call came to nothing, and its caller is about to be told.
    pub(crate) async fn failed(&mut self) {
        // Whoever waits for it must not wait until this caller has read why.
        self.polling = None;
        // It may have been done all the same.
        if let Some(writing) = self.writing.take() {
            writing.failed().await;
        }
    }

    /// The call's answer has come to its end.
    pub(crate) fn complete(&mut self) {
        if let Some(writing) = &mut self.writing {
            writing.complete();
        }
    }

    /// The call was held back for so long, since a question like it was asked a moment before.
    pub(crate) fn paced(&mut self, time: Duration) {
        self.facts.paced = Some(time);
    }

    /// The call waited for a fetch with these facts, which was begun for it or for another.
    pub(crate) fn follows(&mut self, facts: &Facts, leads: bool) {
        self.facts = facts.clone();
        if !leads {
            self.facts.attempts = 0;
            if let Some(span) = &facts.span {
                self.trace.follows(span);
            }
        }
    }
}

fn attempt<'a>(
    head: &'a Parts,
    origin: &'a str,
    server: (&'a str, u16),
    credential: Option<&'a str>,
) -> Attempt<'a> {
    let (path, query) = (head.uri.path(), head.uri.query());
    Attempt { method: &head.method, origin, server, path, query, credential }
}

impl Facts {
    /// W3C Server Timing: milliseconds.
    pub(crate) fn timing(&self) -> Option<HeaderValue> {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let all = [("paced", self.paced), ("queue", self.waited), ("upstream", self.upstream)];
        let known = all.into_iter().filter_map(|(name, time)| Some((name, time?)));
        let texts: Vec<_> =
            known.map(|(name, time)| format!("{name};dur={:.1}", ms(time))).collect();
        if texts.is_empty() {
            return None;
        }
        let text = texts.join(", ");
        HeaderValue::try_from(text).ok()
    }
}

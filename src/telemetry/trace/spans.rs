//! The spans of one exchange: the server's, those of its waits, and one for each attempt.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, Version};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer,
};
use opentelemetry::{Context, KeyValue, StringValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use tokio::time::Instant;

use super::context::{self, TraceId};
use super::say::{self, int, shown_method, shown_name, text};
use super::{Traces, words};

/// What begins a server span.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// The request's fields, as they came.
    pub headers: &'a HeaderMap,
    /// Its method.
    pub method: &'a Method,
    /// Its path, as it came.
    pub path: &'a str,
    /// Its query, as it came.
    pub query: Option<&'a str>,
    /// The version of HTTP in which it came.
    pub version: Version,
    /// Whether it came by TLS.
    pub secure: bool,
    /// Where it came from, where that is an IP socket.
    pub remote: Option<SocketAddr>,
    /// Where it came to, where that is an IP socket.
    pub local: Option<SocketAddr>,
}

/// What a server span says at its end.
#[derive(Clone, Copy, Debug)]
pub struct Closing<'a> {
    /// The template of its route, such as `/api/v1/documents/{id}`.
    pub template: Option<&'a str>,
    /// Its route's name.
    pub route: Option<&'a str>,
    /// Who asked.
    pub caller: Option<&'a str>,
    /// Whose bearer went along the last time.
    pub credential: Option<&'a str>,
    /// What the cache did.
    pub cache: Option<&'static str>,
    /// The name of the problem that omnigate answered with.
    pub refusal: Option<&'static str>,
    /// What was answered; nothing when the caller left first.
    pub status: Option<u16>,
    /// Whether the caller had all of the answer.
    pub complete: bool,
    /// Whether upstream broke off in the middle of it.
    pub broken: bool,
    /// How urgent it was.
    pub priority: Option<&'static str>,
    /// How long it waited for its turn.
    pub waited: Option<Duration>,
    /// Attempts that were sent for it alone.
    pub attempts: u32,
    /// Bytes of the answer's body that went out.
    pub bytes: u64,
    /// Its id.
    pub request_id: &'a str,
}

/// What begins the span of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The method.
    pub method: &'a Method,
    /// Scheme and authority of upstream.
    pub origin: &'a str,
    /// Upstream's host and port.
    pub server: (&'a str, u16),
    /// The path as it is sent.
    pub path: &'a str,
    /// The query as it is sent.
    pub query: Option<&'a str>,
    /// Whose bearer goes along; nothing where it did not come so far.
    pub credential: Option<&'a str>,
}

/// A span of this process that others may point to.
#[derive(Clone, Debug)]
pub struct SpanRef(SpanContext);

/// The spans of one exchange, or of a fetch on behalf of it. Dropping it ends what is open.
#[derive(Debug, Default)]
pub struct Trace(State);

#[derive(Debug, Default)]
enum State {
    /// Nothing is recorded; the caller's trace, where it named one.
    #[default]
    Unknown,
    Unrecorded(SpanContext),
    Recorded(Box<Recorded>),
}

#[derive(Debug)]
struct Recorded {
    tracer: SdkTracer,
    /// The server span's.
    own: SpanContext,
    /// The same as a parent.
    parent: Context,
    method: &'static str,
    /// The server span; none in the trace of a fetch.
    server: Option<Span>,
    /// The wait that is under way.
    wait: Option<Waiting>,
    /// The attempt that is under way.
    attempt: Option<Span>,
    attempts: u32,
    /// The last attempt, or what stood for it.
    last: Option<SpanContext>,
    /// The same moment by two clocks, so that what was measured by one can be told by the other.
    began: (SystemTime, Instant),
}

/// A call in the queue.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    position: usize,
    priority: &'static str,
    budget: StringValue,
}

/// Shorter waits are no waits.
const WAITED: Duration = Duration::from_millis(1);

impl Trace {
    /// Begins a server span, where one is wanted: the caller's trace says so, or chance.
    pub fn open(traces: &Traces, opening: &Opening<'_>) -> Self {
        let said = context::parent(opening.headers);
        let Some(tracer) = traces.tracer() else {
            return Self(said.map_or(State::Unknown, State::Unrecorded));
        };
        let parent = match said {
            None => Context::new(),
            Some(said) => Context::new().with_remote_span_context(said),
        };
        let began = (SystemTime::now(), Instant::now());
        let method = shown_method(opening.method);
        let builder = SpanBuilder::from_name(shown_name(method))
            .with_kind(SpanKind::Server)
            .with_start_time(began.0);
        let mut server = tracer.build_with_context(builder, &parent);
        if !server.is_recording() {
            return Self(State::Unrecorded(server.span_context().clone()));
        }
        server.set_attributes(say::opened(opening, method));
        let own = server.span_context().clone();
        Self(State::Recorded(Box::new(Recorded {
            tracer: tracer.clone(),
            parent: Context::new().with_remote_span_context(own.clone()),
            own,
            method,
            server: Some(server),
            wait: None,
            attempt: None,
            attempts: 0,
            last: None,
            began,
        })))
    }

    /// The trace of a fetch that this exchange begins: its spans are children of the same server span,
    /// and may end after it.
    pub fn of_fetch(&self) -> Self {
        let State::Recorded(recorded) = &self.0 else { return Self::default() };
        Self(State::Recorded(Box::new(Recorded {
            tracer: recorded.tracer.clone(),
            own: recorded.own.clone(),
            parent: recorded.parent.clone(),
            method: recorded.method,
            server: None,
            wait: None,
            attempt: None,
            attempts: 0,
            last: None,
            began: recorded.began,
        })))
    }

    /// The trace's id, where it has one: ours, or else the caller's.
    pub fn id(&self) -> Option<TraceId> {
        let context = match &self.0 {
            State::Unknown => return None,
            State::Unrecorded(context) => context,
            State::Recorded(recorded) => &recorded.own,
        };
        context.is_valid().then(|| TraceId(context.trace_id()))
    }

    /// Whether spans of it are kept, so that it is worth finding out more for them.
    pub fn is_recorded(&self) -> bool {
        matches!(self.0, State::Recorded(_))
    }

    /// The call waits for its turn from now on.
    pub fn waits(&mut self, position: usize, priority: &'static str, budget: &str) {
        let State::Recorded(recorded) = &mut self.0 else { return };
        let (since, budget) = (Instant::now(), text(budget));
        recorded.wait = Some(Waiting { since, position, priority, budget });
    }

    /// Its wait is over.
    pub fn granted(&mut self) {
        let State::Recorded(recorded) = &mut self.0 else { return };
        recorded.end_wait(Instant::now(), true);
    }

    /// No connection to upstream was to be had since then.
    pub fn unreachable(&mut self, since: Instant, what: &Attempt<'_>) {
        let State::Recorded(recorded) = &mut self.0 else { return };
        recorded.begin_attempt(since, what);
        let now = recorded.wall(Instant::now());
        recorded.end_attempt(now, "connection_failed");
    }

    /// The head of an attempt is handed to the connection.
    pub fn sends(&mut self, what: &Attempt<'_>) {
        let State::Recorded(recorded) = &mut self.0 else { return };
        let now = Instant::now();
        recorded.cut_off(now);
        recorded.begin_attempt(now, what);
    }

    /// The attempt under way was answered; `omni_trace` is the `X-Trace-Id` of the answer.
    pub fn answered(&mut self, status: u16, omni_trace: Option<&HeaderValue>) {
        let State::Recorded(recorded) = &mut self.0 else { return };
        let now = recorded.wall(Instant::now());
        let Some(mut span) = recorded.attempt.take() else { return };
        span.set_attribute(KeyValue::new(words::STATUS, i64::from(status)));
        if let Some(id) = omni_trace.and_then(say::plain) {
            span.set_attribute(KeyValue::new(words::OMNI_TRACE, id));
        }
        if status >= 400 {
            span.set_attribute(KeyValue::new(words::ERROR, status.to_string()));
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(now);
    }

    /// The attempt under way brought no answer.
    pub fn failed(&mut self, why: &'static str) {
        let State::Recorded(recorded) = &mut self.0 else { return };
        let now = recorded.wall(Instant::now());
        recorded.end_attempt(now, why);
    }

    /// What upstream is told of the trace, where it is told; nothing where we take no part in it.
    pub fn field(&self) -> Option<HeaderValue> {
        let context = match &self.0 {
            State::Unknown => return None,
            State::Unrecorded(context) => context,
            State::Recorded(recorded) => recorded.current(),
        };
        let ours = context.is_valid() && !context.is_remote();
        ours.then(|| context::field(context)).flatten()
    }

    /// The span of the last attempt, for those whose answer it brought too.
    pub fn attempted(&self) -> Option<SpanRef> {
        let State::Recorded(recorded) = &self.0 else { return None };
        recorded.last.clone().map(SpanRef)
    }

    /// The exchange was answered by an attempt that another made.
    pub fn follows(&mut self, other: &SpanRef) {
        let State::Recorded(recorded) = &mut self.0 else { return };
        if let Some(server) = &mut recorded.server {
            server.add_link(other.0.clone(), Vec::new());
        }
    }

    /// Ends the server span.
    pub fn close(&mut self, closing: &Closing<'_>) {
        let State::Recorded(recorded) = &mut self.0 else { return };
        let now = Instant::now();
        recorded.cut_off(now);
        let now = recorded.wall(now);
        let Some(mut server) = recorded.server.take() else { return };
        if let Some(template) = closing.template {
            server.update_name(format!("{} {template}", shown_name(recorded.method)));
        }
        say::closed(&mut server, closing);
        server.end_with_timestamp(now);
    }
}

impl Recorded {
    fn wall(&self, at: Instant) -> SystemTime {
        self.began.0 + at.saturating_duration_since(self.began.1)
    }

    fn current(&self) -> &SpanContext {
        self.attempt.as_ref().map_or(&self.own, |attempt| attempt.span_context())
    }

    fn begin_attempt(&mut self, now: Instant, what: &Attempt<'_>) {
        let method = shown_method(what.method);
        let attributes = say::attempted(what, method, self.attempts);
        self.attempts += 1;
        let builder = SpanBuilder::from_name(shown_name(method))
            .with_kind(SpanKind::Client)
            .with_start_time(self.wall(now))
            .with_attributes(attributes);
        let span = self.tracer.build_with_context(builder, &self.parent);
        self.last = Some(span.span_context().clone());
        self.attempt = Some(span);
    }

    fn end_wait(&mut self, now: Instant, granted: bool) {
        let Some(wait) = self.wait.take() else { return };
        let waited = now.saturating_duration_since(wait.since);
        if waited < WAITED {
            return;
        }
        let builder = SpanBuilder::from_name("omnigate.queue")
            .with_kind(SpanKind::Internal)
            .with_start_time(self.wall(wait.since))
            .with_attributes([
                KeyValue::new(words::WAIT, waited.as_secs_f64()),
                KeyValue::new(words::POSITION, int(wait.position)),
                KeyValue::new(words::PRIORITY, wait.priority),
                KeyValue::new(words::BUDGET, wait.budget),
                KeyValue::new(words::GRANTED, granted),
            ]);
        let mut span = self.tracer.build_with_context(builder, &self.parent);
        span.end_with_timestamp(self.wall(now));
    }

    fn end_attempt(&mut self, now: SystemTime, why: &'static str) {
        let Some(mut span) = self.attempt.take() else { return };
        span.set_attribute(KeyValue::new(words::ERROR, why));
        span.set_status(Status::error(""));
        span.end_with_timestamp(now);
    }

    /// Nobody waits for it any more. What is ended on purpose is no error.
    fn cut_off(&mut self, now: Instant) {
        self.end_wait(now, false);
        let Some(mut span) = self.attempt.take() else { return };
        span.set_attribute(KeyValue::new(words::LEFT, true));
        span.end_with_timestamp(self.wall(now));
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.cut_off(Instant::now());
    }
}

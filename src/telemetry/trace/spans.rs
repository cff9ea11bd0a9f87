//! The spans of one exchange: the server's, those of its waits, and one for each attempt.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, Version};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer,
};
use opentelemetry::{Context, KeyValue, StringValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use tokio::time::Instant;

use super::context::{self, TraceId};
use super::{Traces, url, words};

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
        server.set_attributes(opened(opening, method));
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
        if let Some(id) = omni_trace.and_then(plain) {
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
        close(&mut server, closing);
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
        let mut full = format!("{}{}", what.origin, url::path(what.path));
        if let Some(query) = what.query {
            full.push('?');
            full.push_str(&url::query(query));
        }
        let mut attributes = Vec::with_capacity(12);
        attributes.extend([
            KeyValue::new(words::METHOD, method),
            KeyValue::new(words::FULL, full),
            KeyValue::new(words::SERVER_ADDRESS, text(what.server.0)),
            KeyValue::new(words::SERVER_PORT, i64::from(what.server.1)),
            KeyValue::new(words::PROTOCOL_VERSION, "1.1"),
        ]);
        attributes.extend(what.credential.map(|id| KeyValue::new(words::CREDENTIAL, text(id))));
        if self.attempts > 0 {
            attributes.push(KeyValue::new(words::RESEND_COUNT, i64::from(self.attempts)));
        }
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

/// For a method that is not registered (semantic conventions of HTTP): what a caller made up is in no
/// span.
const OTHER: &str = "_OTHER";

fn shown_method(method: &Method) -> &'static str {
    match crate::telemetry::labels::method_word(method) {
        "other" => OTHER,
        known => known,
    }
}

/// How a span of this method is called.
fn shown_name(method: &'static str) -> &'static str {
    if method == OTHER { "HTTP" } else { method }
}

fn opened(opening: &Opening<'_>, method: &'static str) -> Vec<KeyValue> {
    let mut all = Vec::with_capacity(20);
    all.push(KeyValue::new(words::METHOD, method));
    all.push(KeyValue::new(words::SCHEME, if opening.secure { "https" } else { "http" }));
    all.push(KeyValue::new(words::PATH, url::path(opening.path)));
    if let Some(query) = opening.query {
        all.push(KeyValue::new(words::QUERY, url::query(query)));
    }
    let version = match opening.version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    all.push(KeyValue::new(words::PROTOCOL_VERSION, version));
    if let Some(local) = opening.local {
        all.push(KeyValue::new(words::SERVER_ADDRESS, address(local.ip())));
        all.push(KeyValue::new(words::SERVER_PORT, i64::from(local.port())));
    }
    if let Some(remote) = opening.remote {
        all.push(KeyValue::new(words::CLIENT_ADDRESS, address(remote.ip())));
        all.push(KeyValue::new(words::PEER_ADDRESS, address(remote.ip())));
        all.push(KeyValue::new(words::PEER_PORT, i64::from(remote.port())));
    }
    all
}

fn close(server: &mut Span, closing: &Closing<'_>) {
    let mut all = Vec::with_capacity(12);
    all.push(KeyValue::new(words::REQUEST_ID, text(closing.request_id)));
    if let Some(template) = closing.template {
        all.push(KeyValue::new(words::ROUTE, text(template)));
    }
    for (name, value) in [
        (words::ROUTE_NAME, closing.route),
        (words::CALLER, closing.caller),
        (words::CREDENTIAL, closing.credential),
        (words::CACHE, closing.cache),
        (words::REFUSAL, closing.refusal),
        (words::PRIORITY, closing.priority),
    ] {
        all.extend(value.map(|value| KeyValue::new(name, text(value))));
    }
    all.extend(closing.waited.map(|waited| KeyValue::new(words::WAIT, waited.as_secs_f64())));
    all.push(KeyValue::new(words::ATTEMPTS, i64::from(closing.attempts)));
    all.push(KeyValue::new(words::SIZE, int(closing.bytes)));
    all.extend(closing.status.map(|status| KeyValue::new(words::STATUS, i64::from(status))));
    // A server's 4xx is the caller's mistake and no error of the span; nor is a caller who left.
    let error = match closing.status {
        Some(status) if status >= 500 => {
            Some(closing.refusal.map_or_else(|| status.to_string(), str::to_owned))
        }
        _ if closing.broken => Some("response_broken_off".to_owned()),
        _ => None,
    };
    if let Some(error) = error {
        all.push(KeyValue::new(words::ERROR, error));
        server.set_status(Status::error(""));
    } else if !closing.complete {
        all.push(KeyValue::new(words::LEFT, true));
    }
    server.set_attributes(all);
}

/// An id of Omni's, if it is one: it is upstream's text, and goes to who knows where.
fn plain(value: &HeaderValue) -> Option<String> {
    let id = value.to_str().ok().filter(|id| (1..=128).contains(&id.len()))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=;:".contains(&byte);
    let fits = id.bytes().all(plain) && !id.contains(crate::omni::TOKEN_PREFIX);
    fits.then(|| id.to_owned())
}

fn text(value: &str) -> StringValue {
    value.to_owned().into()
}

fn address(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}

fn int(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

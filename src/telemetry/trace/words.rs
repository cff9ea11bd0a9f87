//! The names of attributes: those of OpenTelemetry's semantic conventions (HTTP spans, stable, 1.44.0) and our own, which begin with `omnigate.`; `omni.` is what Omni says.

/// The version of the conventions.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";

pub(super) const METHOD: &str = "http.request.method";
pub(super) const RESEND_COUNT: &str = "http.request.resend_count";
pub(super) const STATUS: &str = "http.response.status_code";
pub(super) const ROUTE: &str = "http.route";
pub(super) const ERROR: &str = "error.type";
pub(super) const SCHEME: &str = "url.scheme";
pub(super) const PATH: &str = "url.path";
pub(super) const QUERY: &str = "url.query";
pub(super) const FULL: &str = "url.full";
pub(super) const SERVER_ADDRESS: &str = "server.address";
pub(super) const SERVER_PORT: &str = "server.port";
pub(super) const CLIENT_ADDRESS: &str = "client.address";
pub(super) const PROTOCOL_VERSION: &str = "network.protocol.version";

pub(super) const REQUEST_ID: &str = "omnigate.request_id";
pub(super) const ROUTE_NAME: &str = "omnigate.route";
pub(super) const CALLER: &str = "omnigate.caller";
pub(super) const CREDENTIAL: &str = "omnigate.credential";
pub(super) const CACHE: &str = "omnigate.cache";
/// Bytes of the body that went out.
pub(super) const SIZE: &str = "omnigate.response.size";
/// Whether the caller left before it had all of the answer.
pub(super) const LEFT: &str = "omnigate.caller_left";
pub(super) const REFUSAL: &str = "omnigate.refusal";
pub(super) const ATTEMPTS: &str = "omnigate.attempts";
/// In seconds.
pub(super) const WAIT: &str = "omnigate.queue.wait";
/// How many calls of its class were sure to go first when it joined.
pub(super) const POSITION: &str = "omnigate.queue.position";
/// Whether a permit came of the wait.
pub(super) const GRANTED: &str = "omnigate.queue.granted";
pub(super) const PRIORITY: &str = "omnigate.queue.priority";
pub(super) const BUDGET: &str = "omnigate.budget";
pub(super) const OMNI_TRACE: &str = "omni.trace_id";

/// In place of every value of a query, and of what has the form of a key.
pub(super) const REDACTED: &str = "REDACTED";

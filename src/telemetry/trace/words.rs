//! The names of attributes: those of OpenTelemetry's semantic conventions (HTTP spans, stable, v1.37 and
//! later) and our own, which begin with `omnigate.`; `omni.` is what Omni says.

pub(super) const METHOD: &str = "http.request.method";
pub(super) const RESEND_COUNT: &str = "http.request.resend_count";
pub(super) const STATUS: &str = "http.response.status_code";
pub(super) const RESPONSE_SIZE: &str = "http.response.body.size";
pub(super) const ROUTE: &str = "http.route";
pub(super) const ERROR: &str = "error.type";
pub(super) const SCHEME: &str = "url.scheme";
pub(super) const PATH: &str = "url.path";
pub(super) const QUERY: &str = "url.query";
pub(super) const FULL: &str = "url.full";
pub(super) const SERVER_ADDRESS: &str = "server.address";
pub(super) const SERVER_PORT: &str = "server.port";
pub(super) const CLIENT_ADDRESS: &str = "client.address";
pub(super) const PEER_ADDRESS: &str = "network.peer.address";
pub(super) const PEER_PORT: &str = "network.peer.port";
pub(super) const PROTOCOL_VERSION: &str = "network.protocol.version";

pub(super) const REQUEST_ID: &str = "omnigate.request_id";
pub(super) const ROUTE_NAME: &str = "omnigate.route";
pub(super) const CALLER: &str = "omnigate.caller";
pub(super) const CREDENTIAL: &str = "omnigate.credential";
pub(super) const CACHE: &str = "omnigate.cache";
pub(super) const REFUSAL: &str = "omnigate.refusal";
pub(super) const ATTEMPTS: &str = "omnigate.attempts";
/// In seconds.
pub(super) const WAIT: &str = "omnigate.queue.wait";
/// How many calls of its class were sure to go first when it joined.
pub(super) const POSITION: &str = "omnigate.queue.position";
pub(super) const PRIORITY: &str = "omnigate.queue.priority";
pub(super) const BUDGET: &str = "omnigate.budget";
pub(super) const OMNI_TRACE: &str = "omni.trace_id";

/// In place of every value of a query, and of what has the form of a key.
pub(super) const REDACTED: &str = "REDACTED";

//! Spans: who waited for what.

/// The id of a trace (W3C Trace Context §3.2.2.3): 32 digits of lower-case hex, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub(crate) u128);

impl std::fmt::Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Where spans go.
#[derive(Clone, Debug, Default)]
pub struct Traces {}

/// The spans of one exchange.
#[derive(Debug, Default)]
pub struct Trace {}

impl Trace {
    /// Its trace, where it has one.
    pub fn id(&self) -> Option<TraceId> {
        None
    }
}

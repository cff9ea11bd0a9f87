//! What series are told apart by: names from the config and fixed words.

use std::sync::Arc;

use http::Method;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CallLabels {
    pub(crate) route: Arc<str>,
    pub(crate) method: Word,
    pub(crate) status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct BudgetRoute {
    pub(crate) budget: Arc<str>,
    pub(crate) route: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct GrantLabels {
    pub(crate) budget: Arc<str>,
    pub(crate) caller: Arc<str>,
    pub(crate) priority: Word,
}

/// A budget; `budget/key` where each of its keys has a ledger of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct BudgetLabel {
    pub(crate) budget: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LimitLabels {
    pub(crate) budget: Arc<str>,
    pub(crate) within_budget: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RetryLabels {
    pub(crate) route: Arc<str>,
    pub(crate) reason: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CacheLabels {
    pub(crate) route: Arc<str>,
    pub(crate) outcome: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CredentialLabel {
    pub(crate) credential: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ProbeLabels {
    pub(crate) credential: Arc<str>,
    pub(crate) outcome: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CredentialState {
    pub(crate) credential: Arc<str>,
    pub(crate) state: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PauseLabels {
    pub(crate) budget: Arc<str>,
    pub(crate) by: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct QueueLabels {
    pub(crate) budget: Arc<str>,
    pub(crate) priority: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ListenerLabel {
    pub(crate) listener: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    pub(crate) outcome: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct VersionLabel {
    pub(crate) version: Word,
}

/// A fixed word of ours as a label value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Word(pub(crate) &'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

/// How the cache answered a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOutcome {
    /// From what is kept and fresh.
    Hit,
    /// From what is kept, past its time.
    Stale,
    /// By the request of another call that wanted the same.
    Collapsed,
    /// By a request of its own, whose answer may be kept; or not at all, since nothing was kept.
    Miss,
    /// By a request of its own, past the cache.
    Bypass,
}

impl CacheOutcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Hit, Self::Stale, Self::Collapsed, Self::Miss, Self::Bypass];

    /// The name that it has in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Collapsed => "collapsed",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }

    /// Whether the call cost no request.
    pub fn saves(self) -> bool {
        matches!(self, Self::Hit | Self::Stale | Self::Collapsed)
    }
}

/// Why a call is sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// A kept connection was gone before the head was handed to it.
    Stale,
    /// No connection was to be had.
    Unreachable,
    /// The connection broke before there was a response head.
    Broken,
    /// No response head in time.
    Silent,
    /// 502.
    BadGateway,
    /// 503.
    Unavailable,
    /// 504.
    GatewayTimeout,
    /// 429 of the limit.
    Limited,
    /// The key was refused; it has another value by now, or its pool another key.
    Credential,
}

/// What came of asking Omni who a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It takes the key.
    Accepted,
    /// It refuses the key.
    Refused,
    /// It did not say.
    Unclear,
}

impl Probe {
    pub(crate) fn word(self) -> Word {
        Word(match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Unclear => "unclear",
        })
    }
}

impl Retry {
    pub(crate) fn word(self) -> Word {
        Word(match self {
            Self::Stale => "stale",
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::Silent => "timeout",
            Self::Credential => "credential",
            Self::BadGateway => "502",
            Self::Unavailable => "503",
            Self::GatewayTimeout => "504",
            Self::Limited => "429",
        })
    }
}

/// A method as a label, and in the log: the registered ones, and `other` for what a caller made up.
pub(crate) fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

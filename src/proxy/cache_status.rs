//! `Cache-Status` (RFC 9211): what the cache did with a call, and why.

use http::{HeaderValue, Method, StatusCode};

use crate::telemetry::CacheOutcome;

/// What the cache did with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheStatus {
    /// Answered from what was kept.
    Hit {
        /// Whole seconds for which the answer stays fresh.
        ttl: i64,
    },
    /// Answered from what was kept, although it is past its time.
    Stale {
        /// Whole seconds since then, as a negative number.
        ttl: i64,
        /// Why that was better.
        why: Relief,
    },
    /// Nothing is kept for it, and the caller takes nothing else.
    NotKept,
    /// Passed on to upstream, or meant to be.
    Forwarded {
        /// Why.
        why: Forward,
        /// What upstream answered, where it did.
        status: Option<StatusCode>,
        /// For how long the answer is kept, in whole seconds; where it is.
        kept: Option<i64>,
        /// Whether another call's request brought the answer.
        collapsed: bool,
    },
}

/// Why an answer past its time was better than a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relief {
    /// The caller said that it takes one.
    Welcome,
    /// The turn would have come too late.
    Busy,
    /// Nobody sends for a while, because Omni said 429.
    Paused,
    /// Upstream does not answer, so far.
    Slow,
    /// Upstream failed.
    Failed,
}

/// Why a call went on to upstream (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forward {
    /// The route keeps nothing, or this call is never kept.
    Bypass,
    /// Not a method that is answered from what is kept.
    Method,
    /// Nothing was kept for it.
    Miss,
    /// What was kept is past its time.
    Stale,
    /// The caller wants a newer one, or none that is kept.
    Request,
}

impl CacheStatus {
    /// A call that was passed on, before it is known what came of it.
    pub(crate) fn forwarded(why: Forward) -> Self {
        Self::Forwarded { why, status: None, kept: None, collapsed: false }
    }

    /// The value of the field, where there is something to say; `was_sent` says whether upstream may
    /// have seen the call.
    pub(crate) fn field(&self, was_sent: bool) -> Option<HeaderValue> {
        let text = match *self {
            Self::Hit { ttl } => format!("omnigate; hit; ttl={ttl}"),
            Self::Stale { ttl, why } => {
                format!("omnigate; hit; ttl={ttl}; detail={}", why.as_str())
            }
            Self::NotKept => "omnigate; detail=not-kept".to_owned(),
            // It never got its turn.
            Self::Forwarded { status: None, .. } if !was_sent => return None,
            Self::Forwarded { why, status, kept, collapsed } => {
                let status = status.map(|status| format!("; fwd-status={}", status.as_u16()));
                let kept = kept.map(|ttl| format!("; ttl={ttl}; stored"));
                let (status, kept) = (status.unwrap_or_default(), kept.unwrap_or_default());
                let collapsed = if collapsed { "; collapsed" } else { "" };
                format!("omnigate; fwd={}{status}{kept}{collapsed}", why.as_str())
            }
        };
        HeaderValue::try_from(text).ok()
    }

    /// What it is counted as.
    pub(crate) fn outcome(&self) -> CacheOutcome {
        match self {
            Self::Hit { .. } => CacheOutcome::Hit,
            Self::Stale { .. } => CacheOutcome::Stale,
            Self::Forwarded { collapsed: true, .. } => CacheOutcome::Collapsed,
            Self::NotKept | Self::Forwarded { why: Forward::Miss | Forward::Stale, .. } => {
                CacheOutcome::Miss
            }
            Self::Forwarded {
                why: Forward::Bypass | Forward::Method | Forward::Request, ..
            } => CacheOutcome::Bypass,
        }
    }
}

impl Relief {
    fn as_str(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::Busy => "busy",
            Self::Paused => "paused",
            Self::Slow => "upstream-slow",
            Self::Failed => "upstream-failed",
        }
    }
}

impl Forward {
    /// Why a call goes on that is not looked for in what is kept.
    pub(crate) fn unkept(method: &Method) -> Self {
        if method.is_safe() { Self::Bypass } else { Self::Method }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::Miss => "uri-miss",
            Self::Stale => "stale",
            Self::Request => "request",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(status: CacheStatus) -> String {
        status.field(true).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_hit_says_how_long_it_stays_one() {
        assert_eq!(field(CacheStatus::Hit { ttl: 41 }), "omnigate; hit; ttl=41");
        let stale = CacheStatus::Stale { ttl: -3, why: Relief::Busy };
        assert_eq!(field(stale), "omnigate; hit; ttl=-3; detail=busy");
    }

    #[test]
    fn what_went_on_says_why_and_what_came_of_it() {
        assert_eq!(field(CacheStatus::forwarded(Forward::Bypass)), "omnigate; fwd=bypass");
        let kept = CacheStatus::Forwarded {
            why: Forward::Miss,
            status: Some(StatusCode::OK),
            kept: Some(30),
            collapsed: true,
        };
        let text = "omnigate; fwd=uri-miss; fwd-status=200; ttl=30; stored; collapsed";
        assert_eq!(field(kept), text);
    }

    #[test]
    fn what_did_not_go_on_is_not_said_to_have() {
        assert_eq!(CacheStatus::forwarded(Forward::Miss).field(false), None);
        assert_eq!(field(CacheStatus::NotKept), "omnigate; detail=not-kept");
    }
}

//! What a fetch comes to, for those who wait for it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Response, StatusCode};

use crate::base::Body;
use crate::cache::{Answer, Entry, Lifetime};
use crate::omni;
use crate::proxy::cache_status::Relief;
use crate::proxy::error::Error;
use crate::proxy::trail::Facts;

/// What a fetch came to.
#[derive(Clone, Debug)]
pub(crate) enum Landed {
    /// A complete answer, for all who wait.
    Whole {
        entry: Arc<Entry>,
        /// Whether it is kept.
        kept: bool,
        facts: Arc<Facts>,
    },
    /// An answer for one of them alone: too large, or not to be shared, or there is no room for it
    /// now.
    Once { response: Arc<Single>, status: StatusCode, too_large: bool, facts: Arc<Facts> },
    /// None.
    Failed { error: Arc<Error>, facts: Arc<Facts> },
}

/// An answer that the first takes who comes for it.
pub(crate) struct Single(Mutex<Option<Response<Body>>>);

impl Landed {
    pub(crate) fn facts(&self) -> &Facts {
        match self {
            Self::Whole { facts, .. } | Self::Once { facts, .. } | Self::Failed { facts, .. } => {
                facts
            }
        }
    }

    pub(crate) fn once(response: Response<Body>, too_large: bool, facts: &Facts) -> Self {
        let status = response.status();
        let response = Arc::new(Single(Mutex::new(Some(response))));
        Self::Once { response, status, too_large, facts: Arc::new(facts.clone()) }
    }

    pub(crate) fn failed(error: Error, facts: &Facts) -> Self {
        Self::Failed { error: Arc::new(error), facts: Arc::new(facts.clone()) }
    }

    /// Whether upstream failed, and not the queue or a key. What the firewall says, or an
    /// application that is busy, is nothing about what was asked for either.
    pub(crate) fn is_upstreams_failure(&self) -> bool {
        match self {
            Self::Whole { entry, .. } => {
                let Answer { status, headers, .. } = &entry.answer;
                status.is_server_error()
                    || matches!(status.as_u16(), 408 | 425 | 429)
                    || omni::is_of_the_firewall(headers)
            }
            Self::Once { .. } => false,
            Self::Failed { error, .. } => error.is_upstreams(),
        }
    }

    /// Whether what an older answer says is not so any more: it is gone, forbidden, or too large to
    /// be kept; or, where all of 200 is kept, anything else.
    pub(crate) fn drops_the_old(&self, lifetime: Lifetime) -> bool {
        let is_gone = |status: &StatusCode| matches!(status.as_u16(), 401 | 403 | 404 | 410);
        match self {
            Self::Whole { entry, kept, .. } => {
                let ours = matches!(lifetime, Lifetime::Ours(_));
                !kept && (ours || is_gone(&entry.answer.status))
            }
            Self::Once { status, too_large, .. } => *too_large || is_gone(status),
            Self::Failed { .. } => false,
        }
    }

    /// Why something that is kept would be better, if it would.
    pub(crate) fn relief(&self) -> Option<Relief> {
        match self {
            _ if self.is_upstreams_failure() => Some(Relief::Failed),
            Self::Failed { .. } => Some(Relief::Busy),
            Self::Whole { .. } | Self::Once { .. } => None,
        }
    }
}

impl Single {
    pub(crate) fn take(&self) -> Option<Response<Body>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Single")
    }
}

//! What a fetch comes to, for those who wait for it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::Response;

use crate::base::Body;
use crate::cache::Entry;
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
    /// An answer for one of them alone: too long, too slow, or not to be shared.
    Once { response: Arc<Single>, facts: Arc<Facts> },
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

    pub(crate) fn once(response: Response<Body>, facts: &Facts) -> Self {
        let response = Arc::new(Single(Mutex::new(Some(response))));
        Self::Once { response, facts: Arc::new(facts.clone()) }
    }

    pub(crate) fn failed(error: Error, facts: &Facts) -> Self {
        Self::Failed { error: Arc::new(error), facts: Arc::new(facts.clone()) }
    }

    /// Whether upstream failed, and not the queue or a key.
    pub(crate) fn is_upstreams_failure(&self) -> bool {
        match self {
            Self::Whole { entry, .. } => entry.answer.status.is_server_error(),
            Self::Once { .. } => false,
            Self::Failed { error, .. } => error.is_upstreams(),
        }
    }

    /// Whether it is no longer so what an older answer says.
    pub(crate) fn drops_the_old(&self) -> bool {
        match self {
            Self::Once { .. } => true,
            Self::Whole { entry, kept, .. } => {
                !kept && !omni::is_of_the_firewall(&entry.answer.headers)
            }
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

//! Why a call does not get its turn.

use std::time::Duration;

use crate::base::{CallerId, CredentialId};

/// Why a call does not get its turn. Every estimate is from now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many calls wait as may.
    #[error("the queue is full ({queued} waiting)")]
    Full {
        /// How many wait in it.
        queued: usize,
        /// When a call at its end would have gone.
        estimate: Duration,
    },
    /// As many calls of this caller wait as may.
    #[error("caller `{caller}` has {queued} calls waiting, as many as it may")]
    CallerFull {
        /// Whose.
        caller: CallerId,
        /// How many wait.
        queued: usize,
        /// When a call at its end would have gone.
        estimate: Duration,
    },
    /// The caller has made as many calls in its window as it may.
    #[error("caller `{caller}` has made as many calls as it may for now")]
    CallerLimit {
        /// Whose.
        caller: CallerId,
        /// When it may call again.
        retry_after: Duration,
    },
    /// Its turn comes after its deadline.
    #[error("the turn comes too late ({position} calls before this one)")]
    Late {
        /// How many calls go before it.
        position: usize,
        /// When it would have gone.
        estimate: Duration,
    },
    /// Somebody has paused what it is charged to by hand, for longer than it waits.
    #[error("sending is paused by hand, for longer than this call waits")]
    Paused {
        /// How long the pause still lasts, or when to ask again where nobody knows.
        retry_after: Duration,
    },
    /// What the budget is shared through was lost, and the turn did not come before it was back.
    #[error("the shared budget cannot be reached, and nothing is sent without it")]
    Unshared {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The process ends before its turn.
    #[error("omnigate is shutting down ({position} calls before this one)")]
    Draining {
        /// How many calls go before it.
        position: usize,
        /// When it would have gone.
        estimate: Duration,
    },
    /// Omni refuses the key, and every other that it might have used.
    #[error("Omni refuses the credential `{credential}`")]
    Rejected {
        /// The key, or the first of a pool.
        credential: CredentialId,
    },
}

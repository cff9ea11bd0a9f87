//! What a budget is told; the types cannot hold a budget that makes no sense.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::base::{BudgetId, CredentialId};

/// How many requests may be sent in which window, and how they are spread over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetSettings {
    /// The budget's name.
    pub id: BudgetId,
    /// Sends per window.
    pub limit: NonZeroU32,
    /// The length of the window; at least a millisecond.
    pub window: Duration,
    /// How much longer than `window` a send is counted, so that the bound also holds at arrival
    /// while network times differ by less than this.
    pub guard: Duration,
    /// How sends are spread over the window.
    pub profile: Profile,
    /// Sends of the window that are for interactive calls alone: less than `limit` (with
    /// [`Profile::Strict`] than `limit` - 1), and no more than a bucket holds.
    pub reserve: u32,
    /// What the limit is a limit of.
    pub scope: Scope,
    /// How many calls may wait.
    pub max_queued: usize,
    /// How long a call waits where neither itself nor its route nor its caller says.
    pub max_wait: Duration,
    /// The same for calls of the lowest priority.
    pub batch_max_wait: Duration,
    /// What the first start ever may assume.
    pub cold_start: ColdStart,
}

/// How sends are spread over the window (all profiles have the exact ledger beneath).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The ledger alone: the whole window may be spent at once.
    Burst,
    /// Also a bucket of `burst` refilled at limit / (window + guard).
    Smooth {
        /// The bucket's size.
        burst: NonZeroU32,
    },
    /// Also a bucket of `burst` refilled at (limit - 1) / (window + guard).
    Strict {
        /// The bucket's size.
        burst: NonZeroU32,
    },
}

/// What a limit is a limit of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All credentials that are charged to the budget have one ledger: the strictest reading.
    Organization,
    /// Each credential that is charged to the budget has a ledger of its own.
    Credential,
}

/// What a start may assume when nothing tells what was sent before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColdStart {
    /// Begins at pace: one send each (window + guard) / limit until a window has passed.
    Pace,
    /// Begins with the whole budget free. For demos and tests.
    Trust,
}

/// A key that calls may go with, and the budgets that each of them is charged to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Whose bearer is attached.
    pub credential: CredentialId,
    /// All of them are charged; none for paths outside Omni's limit.
    pub budgets: Vec<BudgetId>,
}

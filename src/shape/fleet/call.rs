//! What an instance says to the store in one call, and what the store says.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::Priority;
use crate::shape::fleet::handle::Blocked;
use crate::shape::line::Ticket;

/// The number of the latest news.
pub(crate) type Generation = u64;

/// The store's yes for one send, by the call that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GrantId {
    pub(crate) call: u64,
    /// Its number among all grants of the store.
    pub(crate) number: u64,
    /// Whether it took nothing that is reserved.
    pub(crate) unreserved: bool,
}

/// A call that waits, as the store is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) ticket: Ticket,
    pub(crate) class: Priority,
    pub(crate) caller: String,
    pub(crate) arrived: Instant,
    /// For each key that it may go with, the meters that are charged.
    pub(crate) ways: Vec<Vec<usize>>,
}

/// What became of a send, where the store has to know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Report {
    /// Omni said that it is too much.
    Limited { meters: Vec<usize>, number: Option<u64>, retry_after: Option<Duration>, jitter: f64 },
    /// Omni took it, and a pause is known of.
    Taken { meters: Vec<usize>, number: Option<u64> },
    /// It brought no answer, and a pause is known of.
    Lost { meters: Vec<usize>, number: Option<u64> },
}

/// A send that the store may not know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) id: SentId,
    pub(crate) at: Instant,
    pub(crate) meters: Vec<usize>,
}

/// By what a send is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentId {
    /// The store granted it.
    Granted(GrantId),
    /// It was made without the store.
    Own(u64),
}

/// Until when an operator has paused a budget, or everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StopTold {
    /// Everything, where there is none.
    pub(crate) budget: Option<String>,
    pub(crate) until: StopUntil,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopUntil {
    Resumed,
    At(Instant),
    /// Somebody has to resume.
    WhenResumed,
}

/// What the queue has to say in one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// Replaces what the store knew.
    pub(crate) heads: Vec<Head>,
    pub(crate) returns: Vec<GrantId>,
    pub(crate) reports: Vec<Report>,
    pub(crate) stops: Vec<StopTold>,
}

/// What the store answers to the queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) grants: Vec<Granted>,
    /// When to ask again for those who wait.
    pub(crate) look: Option<Duration>,
    pub(crate) blocked: Option<(Duration, Blocked)>,
    /// In the order in which the call named them.
    pub(crate) meters: Vec<MeterTold>,
    pub(crate) stops: Vec<(Option<String>, Option<Duration>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) ticket: Ticket,
    pub(crate) id: GrantId,
    /// Which of the head's ways.
    pub(crate) way: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MeterTold {
    pub(crate) used: usize,
    pub(crate) others: [usize; 3],
    pub(crate) pause: PauseTold,
    /// For how long it sends as `strict` does.
    pub(crate) strict: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PauseTold {
    Open,
    Closed(Duration),
    /// The probe is out, and is taken to be good after so long.
    Probe(Duration),
}

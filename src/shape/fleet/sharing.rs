//! What a meter may do by itself, where its budget is shared with other instances.

use std::num::NonZeroU32;

use tokio::time::Instant;

use crate::shape::meter::later;
use crate::shape::schedule::{Next, Schedule, Share};
use crate::shape::settings::{BudgetSettings, Profile};

/// Who decides whether a slot is free. The meter's own ledger always has to agree.
#[derive(Debug, Default)]
pub(crate) enum Sharing {
    /// Its own schedule alone: the budget is this process's, or it acts as if it were.
    #[default]
    Nobody,
    /// The store, whose yes each send needs. It paces the sends, too.
    Store(Seen),
    /// Nobody sends; until when, where that is known.
    Shut(Option<Instant>),
    /// Its own schedule, and one of the instance's share of the limit.
    Part(Box<Part>),
}

/// What the store said of a budget when it was last asked. It is shown, and decides nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Sends of all instances that count.
    pub(crate) used: usize,
    /// The calls that other instances have told it of, by class.
    pub(crate) others: [usize; 3],
    /// Before then it will not say yes to the first call of this instance.
    pub(crate) from: Option<Instant>,
}

/// What an instance may send by itself while the store is lost.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) schedule: Schedule,
    /// Grants from before know nothing of it.
    pub(crate) since: Instant,
    /// Nothing is sent by it for the moment, and it is kept.
    pub(crate) rests: bool,
}

impl Part {
    /// The share of one of so many instances; none where there are more of them than sends.
    pub(crate) fn of(
        settings: &BudgetSettings,
        instances: NonZeroU32,
        now: Instant,
    ) -> Option<Self> {
        let limit = NonZeroU32::new(settings.limit.get() / instances)?;
        let least = |burst: NonZeroU32| burst.min(limit);
        let profile = match settings.profile {
            Profile::Burst => Profile::Burst,
            Profile::Smooth { burst } => Profile::Smooth { burst: least(burst) },
            Profile::Strict { burst } => Profile::Strict { burst: least(burst) },
        };
        let most = match profile {
            Profile::Strict { .. } => limit.get().saturating_sub(2),
            Profile::Burst | Profile::Smooth { .. } => limit.get() - 1,
        };
        let reserve = (settings.reserve / instances).min(most);
        let settings = BudgetSettings { limit, profile, reserve, ..settings.clone() };
        let mut schedule = Schedule::new(&settings, now);
        // Nobody knows what the others do: it begins at pace.
        schedule.empty(now);
        Some(Self { schedule, since: now, rests: false })
    }
}

impl Sharing {
    /// When the next send may go, as far as this instance can tell. With [`Sharing::Store`] the store
    /// has to be asked then.
    pub(crate) fn next(&self, own: &Schedule, now: Instant, share: Share) -> Next {
        match self {
            Self::Nobody => own.next(now, share),
            Self::Store(_) => own.next_slot(share),
            Self::Shut(until) => until.map_or(Next::Untold, Next::At),
            Self::Part(part) if part.rests => Next::Untold,
            Self::Part(part) => later(own.next_slot(share), part.schedule.next(now, share)),
        }
    }

    /// Whether each send needs the store's yes.
    pub(crate) fn asks_store(&self) -> bool {
        matches!(self, Self::Store(_))
    }

    /// Before then surely nobody sends.
    pub(crate) fn until(&self) -> Option<Instant> {
        match self {
            Self::Shut(until) => *until,
            Self::Nobody | Self::Store(_) | Self::Part(_) => None,
        }
    }

    /// The schedule of the share, where there is one that knows of a grant of then.
    pub(crate) fn part(&mut self, granted: Instant) -> Option<&mut Schedule> {
        match self {
            Self::Part(part) if granted >= part.since => Some(&mut part.schedule),
            Self::Part(_) | Self::Nobody | Self::Store(_) | Self::Shut(_) => None,
        }
    }
}

//! How urgent a call is.

use std::fmt;

/// How urgent a call is; the more urgent is the lesser, so that `max` is the lower of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody looks at a screen and waits.
    Interactive,
    /// A service that wants an answer soon.
    Normal,
    /// Crawls, exports, refreshes: whenever there is room.
    Batch,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Normal, Self::Batch];

    /// The name that it has in the config, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Normal => "normal",
            Self::Batch => "batch",
        }
    }

    /// What an urgency of RFC 9218 means here; `None` beyond 7, where that ends.
    pub fn from_urgency(urgency: u8) -> Option<Self> {
        match urgency {
            0..=2 => Some(Self::Interactive),
            3..=4 => Some(Self::Normal),
            5..=7 => Some(Self::Batch),
            8.. => None,
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_urgent_comes_first() {
        assert!(Priority::ALL.is_sorted());
        assert_eq!(Priority::Interactive.max(Priority::Batch), Priority::Batch);
    }

    #[test]
    fn every_urgency_up_to_7_has_a_priority() {
        use Priority::{Batch, Interactive, Normal};
        let all = [Interactive, Interactive, Interactive, Normal, Normal, Batch, Batch, Batch];
        let read: Vec<_> = (0..=8).map_while(Priority::from_urgency).collect();
        assert_eq!(read, all);
    }
}

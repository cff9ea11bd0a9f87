//! A request body that comes too slowly.

use std::time::Duration;

/// What a request body ends in when its caller was waited for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooSlow {
    /// Nothing came at all.
    #[error("no byte of the request body came for {} s", .after.as_secs_f64())]
    Silent {
        /// How long it was waited for.
        after: Duration,
    },
    /// Bytes came, and too few.
    #[error("the request body came at less than {rate} bytes a second")]
    Trickle {
        /// How many bytes a second are asked for.
        rate: u64,
    },
    /// It had to be there as a whole before its call could wait.
    #[error("the request body was not whole within {} s", .within.as_secs_f64())]
    Unfinished {
        /// How long it was waited for.
        within: Duration,
    },
}

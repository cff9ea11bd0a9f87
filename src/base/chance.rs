//! Chance, for jitter and for marks.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A number from 0 to 1 (never 1), another one each time. For jitter, not for secrets.
pub fn chance() -> f64 {
    (chance_bits() >> 11) as f64 / (1u64 << 53) as f64
}

/// 64 bits, others each time and in each process. For marks, not for secrets.
pub fn chance_bits() -> u64 {
    RandomState::new().build_hasher().finish()
}

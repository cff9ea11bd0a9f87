//! Chance, for jitter.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A number from 0 to 1 (never 1), another one each time. For jitter, not for secrets.
pub fn chance() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

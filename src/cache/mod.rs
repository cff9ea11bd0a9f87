//! ROOM: answers that are kept for the next caller.

mod settings;

pub use settings::{CacheSettings, Lifetime, Rule};

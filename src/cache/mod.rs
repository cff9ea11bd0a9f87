//! ROOM: answers that are kept for the next caller.

pub mod conditional;
mod directives;
mod entry;
mod flight;
mod freshness;
mod invalidation;
mod key;
mod parts;
pub mod range;
pub mod rfc9111;
mod settings;
mod store;

pub use directives::Wishes;
pub use entry::{Answer, Entry};
pub use flight::{Flights, Pilot, Rider, Stage, Waits};
pub use freshness::{Judgement, Life};
pub use invalidation::{Generations, RouteMark, Stamp, Subject, Write};
pub use key::{Key, Question};
pub use rfc9111::{Received, Vary};
pub use settings::{CacheSettings, Lifetime, Rule};
pub use store::{Cache, Found};

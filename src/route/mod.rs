//! ROOM: from a request to its route, on the one canonical path.

mod order;
mod path;
mod pattern;
mod router;
mod target;

pub use order::{Lost, Rival, in_order};
pub use path::{BadPath, CanonicalPath};
pub use pattern::{Methods, Pattern, PatternError};
pub use router::{Collision, Found, Router};
pub use target::{BadTarget, Target};

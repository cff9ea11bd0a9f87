//! ROOM: from a request to its route, on the one canonical path.

mod path;
mod pattern;
mod router;
mod target;

pub use path::{BadPath, CanonicalPath};
pub use pattern::{Methods, Pattern, PatternError};
pub use router::{Collision, Found, Router};
pub use target::{BadTarget, Target};

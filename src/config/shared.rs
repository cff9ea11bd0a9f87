//! What `[shared]` comes to.

use crate::credential::Source;
use crate::net::RedisPlace;
use crate::shape::OnLost;

/// Where the budgets are shared, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSettings {
    /// The server.
    pub place: RedisPlace,
    /// Where its password is read; `None` for one that asks for none.
    pub password: Option<Source>,
    /// What is done while it is lost.
    pub on_lost: OnLost,
    /// Whether an empty store is believed: nothing was sent before.
    pub trust_empty: bool,
}

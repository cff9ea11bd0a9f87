//! Several instances that share their budgets: what each keeps of it, and how it talks to the store.
//!
//! The queue decides who goes next here; the store says when, in the order of all instances. A call
//! that is ready is told to the store (a *head*), the store grants it a send, and the queue hands it
//! over, if its own ledger agrees. One task talks to the store, one call at a time.

mod asking;
mod call;
mod credits;
mod handle;
mod hearing;
mod membership;
mod news;
mod replies;
mod sharing;
mod speaker;
mod stops;
mod store;
#[cfg(test)]
mod tests;
mod timing;
mod wire;

pub(crate) use asking::PER_ROW;
pub(crate) use call::{GrantId, Report};
pub use handle::{Blocked, Fleet, FleetSettings, FleetView, InstanceView, News, OnLost, Standing};
pub(crate) use membership::Membership;
pub(crate) use news::Inner;
pub(crate) use sharing::{Seen, Sharing};
pub(crate) use speaker::{Constants, Speaker};
pub use store::{BudgetStore, Connection, Running, Script, StoreError};
pub(crate) use wire::meter as meter_words;

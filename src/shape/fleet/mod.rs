//! Several instances that share their budgets: what each keeps of it, and how it talks to the store.

mod handle;
mod store;

pub use handle::{Blocked, Fleet, FleetSettings, FleetView, InstanceView, News, OnLost, Standing};
pub use store::{BudgetStore, Connection, Running, Script, StoreError};

//! ROOM: the budget. Who may send, and when.
//!
//! A call takes a [`Place`] in the line, is told when its turn is near, and is handed a [`Permit`] in
//! its order. A permit is charged when the request's head is handed to the socket, and goes back when
//! it is dropped before that. What became of the send is told by its [`Outcome`]: a refusal by Omni
//! pauses everybody. The ledger of what was sent survives a restart in a file.

mod bucket;
mod callers;
mod clock;
mod evict;
mod fleet;
mod folder;
mod journal;
mod lane;
mod ledger;
mod line;
mod meter;
mod outlook;
mod pause;
mod place;
mod queue;
mod record;
mod redis;
mod refused;
mod schedule;
mod sent;
mod settings;
mod shaper;
mod stop;
mod takeover;
mod terms;
mod view;

pub use callers::CallerRules;
pub use fleet::{
    Blocked, BudgetStore, Connection, Fleet, FleetSettings, FleetView, InstanceView, News, OnLost,
    Running, Script, Standing, StoreError,
};
pub use folder::{StateError, StatePlace};
pub use lane::Service;
pub use place::{Outcome, Permit, Place};
pub use redis::{Passwords, ReadPassword, RedisStore};
pub use refused::Refused;
pub use settings::{BudgetSettings, ColdStart, Key, Profile, Scope};
pub use shaper::{Ask, Foreseen, LaneId, Outlook, Shaper, ShaperSettings, Snapshot};
pub use terms::Terms;
pub use view::{BudgetView, By, CallerView, Held, SentView, View, Waiting};

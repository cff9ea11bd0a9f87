//! The whole gateway, from a caller's bytes to what the fake Omni saw, by behaviour.
//!
//! Everything about minutes runs in virtual time: both ends are pipes in memory and the clock is
//! tokio's paused one.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop, and shows its figures"
)]

#[path = "../engine/mod.rs"]
mod engine;
mod harness;

mod browser;
mod cache;
mod cache_attack;
mod cache_crowd;
mod cache_isolation;
mod cache_keeping;
mod cache_writes;
mod cache_writes_storm;
mod callers;
mod echo;
mod explain;
mod hygiene;
mod impersonation;
mod impersonation_body;
mod instances;
mod instances_shared;
mod limit;
mod mcp;
mod paths;
mod pause;
mod queue;
mod revocation;
mod revocation_storm;
mod rotation;
mod saver;
mod sensitive;
mod shaping;
mod shaping_bound;
mod shaping_keys;
mod shaping_posts;
mod shaping_priority;
mod shaping_storm;
mod status;
mod streams;
mod traces;
mod upstream;
mod vault_trouble;

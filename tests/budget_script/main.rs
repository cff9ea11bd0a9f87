//! The script of the shared budget: rule by rule, against a real Redis, and at random.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "../engine/mod.rs"]
mod engine;

mod cost;
mod crowd;
mod random;
mod real;
mod rules;
mod stage;

//! `omnigate vault`, run as people run it, beside the `age` of others.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
#![cfg(feature = "vault-age")]

mod age;
mod export;
mod first_start;
mod harness;
mod input;
mod keys;
mod online;
mod safety;

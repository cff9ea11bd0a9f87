//! Clients that others have written, as they are published, before a real gateway and a fake Omni that
//! judges by what arrived.
//!
//! They are given its address and a key that is none, and nothing else. `tests/clients/install` fetches
//! them. Everything is in real time, with a window of two seconds. `OMNIGATE` names another program than
//! the one just built.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test may stop, and shows its figures"
)]

mod crawler;
mod crews;
mod mcp;
mod sdk;
mod stage;

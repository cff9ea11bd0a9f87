//! Several gateways that share one budget: real processes, a real Redis, and a fake Omni that judges
//! by what arrived.
//!
//! Everything here is in real time, with a window of two seconds. What is asserted at every size is
//! the bound; what took how long is asserted in the full sizes alone, and shown in all of them, a
//! line each that begins with `figure:`. `OMNIGATE` names another program than the one just built.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test may stop, and shows its figures"
)]

mod harness;

mod cost;
mod deaths;
mod judge;
mod partition;
mod pause;
mod people;
mod saturation;
mod trouble;
mod writes;

//! `omnigate exec` as a process, with real children: what they see, how they end, what becomes of their calls.
//!
//! In real time, so nothing waits for a time to pass: a test waits for what must happen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may stop, and shows its figures"
)]

mod harness;
mod stage;

mod child;
mod line;
mod two;
mod via;

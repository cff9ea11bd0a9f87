//! The gateway as a process: signals, kill -9, sockets, memory, what it says and how it ends.
//!
//! Everything here is in real time, so nothing waits for a time to pass: a test waits for what
//! must happen, and a figure is compared with that of a run in which the cause was left out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may stop, and shows its figures"
)]

mod harness;

mod admin;
mod bodies;
mod drain;
mod echo;
mod exec;
mod greedy;
mod hang_up;
mod hanging_secret;
mod hardening;
mod hygiene;
mod leakage;
mod leakage_vaults;
mod redirects;
mod restart;
mod rotation;
mod series;
mod smuggling;
mod start;
mod status;
mod tls;
mod tricks;
mod trouble;

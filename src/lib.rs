//! omnigate: a proxy between a company's internal services and its Omni Analytics instance.
//!
//! Callers speak plain HTTP to it and hold no key. It decides which key a call needs, waits its
//! turn in the organization's budget, sends it with the right bearer token and leaves a trace.
//!
//! # The map of the house
//!
//! A module imports only from lower floors; rooms do not know each other. `tests/architecture.rs`
//! holds the house to that.
//!
//! | floor | modules |
//! | --- | --- |
//! | 1 | [`base`]: nouns that rooms share |
//! | 2 | [`omni`]: what is known of Omni |
//! | 3 | [`net`]: connecting, TLS; above it [`fake_vault`], which only tests see |
//! | 4 | the rooms [`caller`], [`route`], [`policy`], [`saver`], [`cache`], [`shape`], [`credential`], [`upstream`]; [`telemetry`]; [`fake_omni`] |
//! | 5 | [`proxy`]: the corridor, the only one who knows the order |
//! | 6 | [`server`], [`admin`] |
//! | 7 | [`config`]: TOML to settings |
//! | 8 | [`app`]: settings to a running gateway |
//! | 9 | [`cli`]: the commands |

pub mod base;

pub mod omni;

pub mod net;

pub mod fake_vault;

pub mod cache;
pub mod caller;
pub mod credential;
pub mod fake_omni;
pub mod policy;
pub mod route;
pub mod saver;
pub mod shape;
pub mod telemetry;
pub mod upstream;

pub mod proxy;

pub mod admin;
pub mod server;

pub mod config;

pub mod app;

pub mod cli;

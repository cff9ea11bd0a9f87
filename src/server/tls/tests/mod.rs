//! What callers of a TLS listener see.

mod callers;
mod files;
mod handshake;
mod reload;
mod stage;
mod stall;

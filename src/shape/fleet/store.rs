//! What a budget is shared through: an engine that runs one script, one run at a time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use tokio::sync::mpsc;

/// What a call of a trait returns that must be usable as an object.
pub type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The engine that several instances share. It is only ever asked to run the script `budget.lua`.
pub trait BudgetStore: fmt::Debug + Send + Sync {
    /// Opens a connection, asks who is at its other end, and subscribes to what is told to `instance`
    /// and to everybody. It ends by itself after a while.
    ///
    /// Cancel-safe: dropping the future closes what was opened.
    fn connect<'a>(&'a self, instance: &'a str) -> Running<'a, Connection>;
}

/// A connection to the engine. Dropped after its first error: what it was asked may still be done.
#[derive(Debug)]
pub struct Connection {
    /// Who is at its other end; another one after a restart or a failover.
    pub identity: String,
    /// Where the script runs.
    pub script: Box<dyn Script>,
    /// What the engine tells by itself. Closed when it can tell nothing any more; the connection may
    /// go on without.
    pub pushes: mpsc::Receiver<String>,
}

/// Where the script runs.
pub trait Script: fmt::Debug + Send {
    /// Runs the script on these budgets' ledgers, and returns its reply. It ends by itself after a
    /// while; then the script may have run, or may run later.
    fn run<'a>(&'a mut self, meters: &'a [String], request: &'a str) -> Running<'a, String>;
}

/// Why the engine could not be asked. It says nothing that it was told in confidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It does not answer in time.
    #[error("does not answer in time")]
    Slow,
    /// It does not let us in.
    #[error("does not let us in: {0}")]
    Refused(String),
    /// It answers what nobody can use; for instance it is a replica, or is loading its data.
    #[error("cannot be used: {0}")]
    Unusable(String),
}

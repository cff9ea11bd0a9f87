//! An upstream that behaves like Omni, its limit included. For `omnigate demo`, tests and benches.
//!
//! What is known of Omni is answered as Omni answers it: the error shapes, the key kinds, cursor
//! and SCIM lists, NDJSON, long polls, multipart, files, server-sent events, and a limit per exact
//! `Authorization` value by one of seven [`Algorithm`]s. What is not known is a setting.
//!
//! It keeps an [`Arrival`] for every request head, with the time on tokio's clock, so that a test
//! can say what reached upstream; and it can be told to fail by [`Rule`]s.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use omnigate::fake_omni::{FakeOmni, Key, KeyKind, Settings};
//! use tokio_util::sync::CancellationToken;
//!
//! let key = Key::made_up(KeyKind::Organization, "ada");
//! let omni = FakeOmni::new(Settings { keys: vec![key], ..Settings::default() });
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! tokio::spawn(omni.clone().serve(listener, CancellationToken::new()));
//! // ... call it ...
//! assert!(omni.highest_in_any_window(std::time::Duration::from_secs(60)) <= 60);
//! # Ok(())
//! # }
//! ```

mod answer;
mod api;
mod areas;
mod bearer;
mod bodies;
mod content;
mod exchange;
mod faults;
mod fields;
mod files;
mod generic;
mod held;
mod holdings;
mod limit;
mod lists;
mod log;
mod mcp;
mod paths;
mod query;
mod scim;
mod settings;
mod text;
mod writes;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use areas::{made_up, reads, write_body, writes};
pub use bodies::pattern;
pub use faults::{Fault, Reset, Rule};
pub use held::Hold;
pub use limit::{Algorithm, Limit, Meter};
pub use log::{Arrival, BodySeen, Sender, Verdict};
pub use settings::{Key, KeyKind, Mcp, Refusal, RetryAfter, Settings, Standing};

use faults::Rules;
use fields::Fields;
use holdings::Holdings;
use limit::Gate;
use log::Log;
use mcp::Sessions;

/// A fake Omni instance. Clones are the same instance.
#[derive(Clone)]
pub struct FakeOmni(Arc<Instance>);

/// What the clones of one [`FakeOmni`] share.
struct Instance {
    settings: Settings,
    keys: Mutex<Vec<Key>>,
    front: Mutex<Front>,
    arrived: Notify,
    rules: Mutex<Rules>,
    fields: Mutex<Fields>,
    holdings: Mutex<Holdings>,
    sessions: Mutex<Sessions>,
    connections: AtomicU64,
}

/// The limit and the log, behind one lock, so that the log's order is the limit's.
struct Front {
    gate: Gate,
    log: Log,
}

impl FakeOmni {
    /// Builds an instance. Aligned windows are counted from this moment.
    pub fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self(Arc::new(Instance {
            keys: Mutex::new(settings.keys.clone()),
            front: Mutex::new(Front {
                gate: Gate::new(settings.limit, now),
                log: Log::new(settings.keep_arrivals),
            }),
            arrived: Notify::new(),
            rules: Mutex::new(Rules::default()),
            fields: Mutex::new(Fields::default()),
            holdings: Mutex::new(Holdings::new(settings.seed, settings.records)),
            sessions: Mutex::default(),
            connections: AtomicU64::new(0),
            settings,
        }))
    }

    /// Serves HTTP/1.1 with keep-alive on any stream until either side ends it.
    ///
    /// Cancel-safe: dropping the future closes the connection.
    pub async fn serve_connection<I>(&self, io: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = self.0.connections.fetch_add(1, Ordering::Relaxed);
        let service = service_fn(|request| exchange::serve(&self.0, connection, request));
        // An error here is a caller who left, or a reset that a rule ordered.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(io), service).await;
    }

    /// Accepts connections until `stop`, then drops those that are open.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(_) = open.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((socket, _)) => {
                        let omni = self.clone();
                        let _ = socket.set_nodelay(true);
                        open.spawn(async move { omni.serve_connection(socket).await });
                    }
                    // Out of file descriptors, most likely: some must be closed first.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
            }
        }
    }

    /// Replaces the keys that are accepted, as a rotation or a revocation does.
    pub fn set_keys(&self, keys: Vec<Key>) {
        *hold(&self.0.keys) = keys;
    }

    /// Adds a rule by which requests fail. Rules are asked in the order in which they came.
    pub fn fail(&self, rule: Rule) {
        hold(&self.0.rules).push(rule);
    }

    /// Gives this field to every answer of the application whose path begins like this, in place of
    /// its own. Given twice, it comes twice.
    ///
    /// It counts for conditions too: an `If-None-Match` with this `ETag` is answered 304.
    pub fn set_field(&self, prefix: &str, name: HeaderName, value: HeaderValue) {
        hold(&self.0.fields).push(prefix, name, Some(value));
    }

    /// Takes this field from every answer of the application whose path begins like this.
    pub fn drop_field(&self, prefix: &str, name: HeaderName) {
        hold(&self.0.fields).push(prefix, name, None);
    }

    /// Drops every rule, and what was said of fields. What is held stays held.
    pub fn heal(&self) {
        hold(&self.0.rules).clear();
        hold(&self.0.fields).clear();
    }

    /// The last [`Settings::keep_arrivals`] arrivals, oldest first.
    pub fn arrivals(&self) -> Vec<Arrival> {
        hold(&self.0.front).log.arrivals()
    }

    /// How many request heads arrived, refused ones too.
    pub fn arrived(&self) -> usize {
        hold(&self.0.front).log.count()
    }

    /// Waits until `count` request heads have arrived since the start or [`forget`](Self::forget).
    pub async fn wait_for_arrivals(&self, count: usize) {
        loop {
            let more = self.0.arrived.notified();
            if self.arrived() >= count {
                return;
            }
            more.await;
        }
    }

    /// The most arrivals in any half-open rolling `window`, over all keys, refused ones too.
    pub fn highest_in_any_window(&self, window: Duration) -> usize {
        hold(&self.0.front).log.highest_in_any_window(window, None)
    }

    /// As [`highest_in_any_window`](Self::highest_in_any_window), for the keys of one owner.
    pub fn highest_for_owner(&self, owner: &str, window: Duration) -> usize {
        hold(&self.0.front).log.highest_in_any_window(window, Some(owner))
    }

    /// How many requests the limit refused. Refusals that a rule ordered do not count.
    pub fn refusals(&self) -> usize {
        hold(&self.0.front).log.refusals()
    }

    /// How many different `Authorization` values, byte by byte, came with an owner's keys.
    pub fn distinct_authorizations(&self, owner: &str) -> usize {
        hold(&self.0.front).log.distinct_authorizations(owner)
    }

    /// How often the write that bears this serial took effect.
    ///
    /// A write's serial is its `x-serial` field, or else the member `serial` or `name` of its JSON
    /// body, or else the SHA-256 of its body in hexadecimal digits.
    pub fn applied(&self, serial: &str) -> u32 {
        hold(&self.0.front).log.applied(serial)
    }

    /// Empties the log. The limit and what writes have changed stay.
    pub fn forget(&self) {
        hold(&self.0.front).log.forget();
    }
}

impl fmt::Debug for FakeOmni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeOmni").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

/// Locks; a test that panicked elsewhere must not hide its own message behind ours.
fn hold<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

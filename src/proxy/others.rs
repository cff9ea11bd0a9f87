//! Other gateways that keep answers of the same Omni: what one leaves stale, all leave stale.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method;
use tokio::runtime::Handle;

use crate::base::RouteId;
use crate::proxy::Proxy;

/// What one gateway has left stale, and the others are to leave stale too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// What this call does.
    Written {
        /// Its method.
        method: Method,
        /// Its canonical path.
        path: Arc<str>,
    },
    /// All answers of a route.
    Route(RouteId),
    /// All there are.
    Everything,
}

/// The other gateways.
pub trait Others: fmt::Debug + Send + Sync {
    /// Tells all of them; it is told when this returns. The future is done once each of them has left
    /// it stale, or serves nothing that is kept: soon, whatever they do.
    fn tell(&self, touched: &Touched) -> BoxFuture<'static, ()>;

    /// Whether everything that they have told and been answered for was heard here. Ask before you
    /// look at what is kept: what is found then is no older than any write that ended before.
    fn is_current(&self) -> bool;

    /// Waits until that is so, for a moment; it may not be so after it.
    fn catch_up(&self) -> BoxFuture<'static, ()>;
}

impl Proxy {
    /// Leaves stale here what another gateway has touched, before it returns. What it took up is
    /// given back by and by. Where it cannot be told what that is here, everything is stale.
    pub fn hear(&self, touched: &Touched) {
        let generations = self.cache.generations();
        match touched {
            Touched::Written { method, path } => match generations.write(method, path) {
                Some(write) => return generations.apply(&write),
                // Who told it knows of something that this call writes, and we do not.
                None => generations.purge(None),
            },
            // Another config may give other paths to routes of other names.
            Touched::Route(route) if self.knows(route) => {
                generations.purge(Some(&generations.route(route)));
            }
            Touched::Route(_) | Touched::Everything => generations.purge(None),
        }
        let cache = self.cache.clone();
        if let Ok(runtime) = Handle::try_current() {
            // It looks at every entry, and who told waits for us to go on.
            runtime.spawn_blocking(move || cache.sweep());
        }
    }
}

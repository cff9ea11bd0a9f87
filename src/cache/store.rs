//! What is kept, and whether it may be served.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

use crate::base::RouteId;
use crate::cache::entry::{Entry, block};
use crate::cache::invalidation::Generations;
use crate::cache::key::Key;
use crate::cache::parts::{Held, Parts};
use crate::cache::rfc9111::Vary;
use crate::cache::settings::CacheSettings;

/// All that is kept, of all routes.
pub struct Cache {
    settings: CacheSettings,
    generations: Generations,
    parts: Parts,
}

/// What there is for a question.
#[derive(Clone, Debug)]
pub enum Found {
    /// An answer that no write and no purge has left stale; it may be past its lifetime.
    Entry(Arc<Entry>),
    /// Nothing, and calls are not to wait for each other's.
    Pass,
    /// Nothing.
    Nothing,
}

impl Cache {
    /// An empty one.
    pub fn new(settings: CacheSettings) -> Self {
        let parts = Parts::new(settings.max_bytes);
        Self { settings, generations: Generations::new(), parts }
    }

    /// What it was told.
    pub fn settings(&self) -> &CacheSettings {
        &self.settings
    }

    /// What writes and purges have left stale.
    pub fn generations(&self) -> &Generations {
        &self.generations
    }

    /// Looks for an answer to a question that came with these fields. What was left stale before
    /// the look-up began, or is past all use, is let go and not found.
    ///
    /// To be found is to be asked for: look once for each call.
    pub fn find(&self, key: &Key, fields: &HeaderMap, now: Instant) -> Found {
        let held = match self.look(key, now) {
            Some(Held::By(names)) => self.look(&key.with(fields, &names), now),
            other => other,
        };
        found(held)
    }

    /// What [`Cache::find`] would find, for somebody who only wants to know: nothing changes by it. It
    /// may look at every key.
    pub fn peek(&self, key: &Key, fields: &HeaderMap, now: Instant) -> Found {
        let look = |key: &Key| self.parts.peek(key).filter(|held| self.is_good(held, now));
        let held = match look(key) {
            Some(Held::By(names)) => look(&key.with(fields, &names)),
            other => other,
        };
        found(held)
    }

    /// Keeps an answer to a request with these fields, where it may be kept: its body is not too
    /// large, nothing has left it stale meanwhile, it is known by what answers differ, and no answer
    /// is kept whose request was sent later.
    pub fn keep(&self, key: &Key, fields: &HeaderMap, vary: &Vary, entry: &Arc<Entry>) -> bool {
        // A write that comes between this look and the next line is seen by whoever finds it.
        if entry.answer.body.len() > self.settings.max_entry || !entry.is_current(&self.generations)
        {
            return false;
        }
        let names = match vary {
            Vary::Everything => return false,
            Vary::By(names) => Some(names),
            Vary::Nothing => None,
        };
        let variant = names.map(|names| key.with(fields, names));
        let own = variant.as_ref().unwrap_or(key);
        if self.has_newer(own, entry) {
            return false;
        }
        if !self.parts.put(own, Held::Entry(Arc::clone(entry)), entry.weight(own)) {
            return false;
        }
        if let Some(names) = names {
            self.mark(key, names);
        }
        true
    }

    /// Lets go what is kept for a key, unless it was sent for after `sent`; with it goes the way to
    /// its variants. That calls pass alone stays.
    pub fn forget(&self, key: &Key, sent: Instant) {
        self.parts.forget(key, |held| match held {
            Held::Entry(entry) => entry.life.since <= sent,
            Held::By(_) => true,
            Held::Pass(_) => false,
        });
    }

    /// Has calls for this key not wait for each other until then: what they get is not kept.
    pub fn pass(&self, key: &Key, until: Instant) {
        self.parts.put(key, Held::Pass(until), small(key, 0));
    }

    /// Lets go all answers of a route, or all there are, also those that are on their way. Says how
    /// many things went.
    pub fn purge(&self, route: Option<&RouteId>) -> u64 {
        match route {
            Some(route) => self.generations.purge(Some(&self.generations.route(route))),
            None => self.generations.purge(None),
        }
        self.parts.sweep(|held| match held {
            Held::Entry(entry) => !entry.is_current(&self.generations),
            Held::By(_) | Held::Pass(_) => route.is_none(),
        })
    }

    /// Lets go the answers that were left stale. It looks at each, which takes a while.
    pub fn sweep(&self) {
        self.parts.sweep(|held| match held {
            Held::Entry(entry) => !entry.is_current(&self.generations),
            Held::By(_) | Held::Pass(_) => false,
        });
    }

    /// About how many bytes are occupied.
    pub fn bytes(&self) -> u64 {
        self.parts.bytes()
    }

    /// How many things are kept.
    pub fn entries(&self) -> u64 {
        self.parts.entries()
    }

    /// Whether what is kept was sent for later, and is good: who asked for a new answer has seen it.
    fn has_newer(&self, key: &Key, entry: &Entry) -> bool {
        match self.parts.get(key) {
            Some(Held::Entry(there)) => {
                there.life.since > entry.life.since && there.is_current(&self.generations)
            }
            Some(Held::By(_) | Held::Pass(_)) | None => false,
        }
    }

    /// What a key stands for, where it is good for anything.
    fn look(&self, key: &Key, now: Instant) -> Option<Held> {
        let held = self.parts.get(key)?;
        let good = self.is_good(&held, now);
        if !good {
            self.parts.drop(key, &held);
        }
        good.then_some(held)
    }

    fn is_good(&self, held: &Held, now: Instant) -> bool {
        match held {
            Held::Entry(entry) => entry.is_current(&self.generations) && !entry.life.is_over(now),
            Held::Pass(until) => now < *until,
            Held::By(_) => true,
        }
    }

    /// Says at a key that its answers differ by these fields.
    fn mark(&self, key: &Key, names: &[HeaderName]) {
        if let Some(Held::By(before)) = self.parts.get(key)
            && *before == *names
        {
            return;
        }
        self.parts.put(key, Held::By(names.into()), small(key, names.len()));
    }
}

fn found(held: Option<Held>) -> Found {
    match held {
        Some(Held::Entry(entry)) => Found::Entry(entry),
        Some(Held::Pass(_)) => Found::Pass,
        // A variant does not lead to further variants.
        Some(Held::By(_)) | None => Found::Nothing,
    }
}

/// About how many bytes something occupies that is no answer.
fn small(key: &Key, names: usize) -> u32 {
    u32::try_from(block(key.size()) + 64 * names + 640).unwrap_or(u32::MAX)
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("settings", &self.settings)
            .field("entries", &self.entries())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

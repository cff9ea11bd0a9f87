//! Tokens and their leases.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// What a token is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long it lives, and how much a renewal gives it; zero is for ever.
    pub ttl: Duration,
    /// The age beyond which no renewal gets it.
    pub max_ttl: Option<Duration>,
    /// Whether it can be renewed.
    pub renewable: bool,
}

impl Terms {
    /// Renewable without end.
    pub fn renewable(ttl: Duration) -> Self {
        Self { ttl, max_ttl: None, renewable: true }
    }
}

/// What a request's token was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSeen {
    /// There was none.
    Absent,
    /// It was good.
    Good,
    /// It had been good once.
    Ended,
    /// It was never good.
    Unknown,
}

/// Those that live, and those that did.
#[derive(Default)]
pub(super) struct Tokens {
    living: BTreeMap<String, Token>,
    ended: BTreeSet<String>,
}

#[derive(Clone, Copy)]
pub(super) struct Token {
    pub(super) terms: Terms,
    born: Instant,
    until: Option<Instant>,
}

impl Token {
    /// What is left to it, in whole seconds; zero is for ever.
    pub(super) fn left(&self) -> u64 {
        self.until.map_or(0, |until| (until - Instant::now()).as_secs())
    }
}

impl Tokens {
    pub(super) fn add(&mut self, text: &str, terms: Terms) {
        let born = Instant::now();
        let until = (!terms.ttl.is_zero()).then(|| born + terms.ttl);
        self.living.insert(text.to_owned(), Token { terms, born, until });
    }

    pub(super) fn seen(&mut self, text: Option<&str>) -> TokenSeen {
        match text {
            None => TokenSeen::Absent,
            Some(text) if self.get(text).is_some() => TokenSeen::Good,
            Some(text) if self.ended.contains(text) => TokenSeen::Ended,
            Some(_) => TokenSeen::Unknown,
        }
    }

    /// One that lives.
    pub(super) fn get(&mut self, text: &str) -> Option<Token> {
        let now = Instant::now();
        let over = |token: &Token| token.until.is_some_and(|until| until <= now);
        let ended = self.living.extract_if(.., |_, token| over(token));
        self.ended.extend(ended.map(|(text, _)| text));
        self.living.get(text).copied()
    }

    /// Prolongs one that lives, by what it asks for and may have.
    pub(super) fn renew(&mut self, text: &str, increment: Option<Duration>) -> Option<Token> {
        let mut token = self.get(text).filter(|token| token.terms.renewable)?;
        let now = Instant::now();
        let wanted = now + increment.unwrap_or(token.terms.ttl);
        let most = token.terms.max_ttl.map(|most| token.born + most);
        token.until = Some(most.map_or(wanted, |most| most.min(wanted)));
        self.living.insert(text.to_owned(), token);
        Some(token)
    }

    pub(super) fn revoke(&mut self) {
        self.ended.extend(std::mem::take(&mut self.living).into_keys());
    }
}

/// A token that nobody has seen before.
pub(super) fn unheard_of() -> String {
    format!("hvs.CAES{}fake", Uuid::now_v7().simple())
}

//! How a credential stands, and what changes that. Pure: time comes as a value.

use std::sync::Arc;

use tokio::time::Instant;

use super::store::SecretError;
use super::token::Token;

/// Which value of a credential: another one has another number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

impl Generation {
    /// Its number.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// What is known of a credential now.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    Held { kept: Kept, trouble: Option<Trouble>, rejected: Option<Instant> },
    Missing(Trouble),
}

/// The last good value.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) token: Arc<Token>,
    pub(super) since: Instant,
    pub(super) generation: Generation,
}

/// Why a credential's place cannot be read, and since when.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) since: Instant,
    pub(super) why: Arc<SecretError>,
}

/// How a credential stands.
#[derive(Clone, Debug)]
pub enum State {
    /// It is held, and its place still says the same.
    Ready {
        /// When this value was first read.
        since: Instant,
    },
    /// Its last good value is held, but its place cannot be read.
    Stale {
        /// When the trouble began.
        since: Instant,
        /// What the trouble is.
        why: Arc<SecretError>,
    },
    /// Upstream refuses its value; its calls fail at once until there is another one, or upstream
    /// takes it again.
    Rejected {
        /// Since when.
        since: Instant,
    },
    /// It never had a value; its calls are refused.
    Missing {
        /// Why.
        why: Arc<SecretError>,
    },
}

impl State {
    /// The word for it in metrics and on the operators' pages.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::Stale { .. } => "stale",
            Self::Rejected { .. } => "rejected",
            Self::Missing { .. } => "missing",
        }
    }
}

/// What another look at a secret's place found, where that is news.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// Another value than before, or the first one.
    Refreshed,
    /// The place can be read again and says what it said before the trouble.
    Recovered,
    /// The place can no longer be read; the last good value, if there is one, stays.
    Failed(Arc<SecretError>),
}

impl Standing {
    /// What a first look found.
    pub(super) fn first(read: Result<Token, SecretError>, at: Instant) -> Self {
        match read {
            Ok(token) => Self::held(token, at, Generation(1)),
            Err(why) => Self::Missing(Trouble { since: at, why: Arc::new(why) }),
        }
    }

    fn held(token: Token, since: Instant, generation: Generation) -> Self {
        let kept = Kept { token: Arc::new(token), since, generation };
        Self::Held { kept, trouble: None, rejected: None }
    }

    /// Takes over what another look found, and says what of it is news.
    pub(super) fn take(
        &self,
        read: Result<Token, SecretError>,
        at: Instant,
    ) -> (Self, Option<News>) {
        match (read, self) {
            (Ok(token), Self::Held { kept, trouble, rejected }) if *kept.token == token => {
                let news = trouble.as_ref().map(|_| News::Recovered);
                let (kept, rejected) = (kept.clone(), *rejected);
                (Self::Held { kept, trouble: None, rejected }, news)
            }
            (Ok(token), Self::Held { .. } | Self::Missing(_)) => {
                let next = Generation(self.generation().0 + 1);
                (Self::held(token, at, next), Some(News::Refreshed))
            }
            (Err(why), Self::Held { kept, trouble, rejected }) => {
                let why = Arc::new(why);
                // Known already, where there was trouble; its cause may be another by now.
                let news = trouble.is_none().then(|| News::Failed(why.clone()));
                let since = trouble.as_ref().map_or(at, |trouble| trouble.since);
                let trouble = Some(Trouble { since, why });
                (Self::Held { kept: kept.clone(), trouble, rejected: *rejected }, news)
            }
            (Err(why), Self::Missing(Trouble { since, .. })) => {
                (Self::Missing(Trouble { since: *since, why: Arc::new(why) }), None)
            }
        }
    }

    /// Upstream refuses this value, or takes it again; `None` where it is another by now, or that is
    /// no news.
    pub(super) fn judged(
        &self,
        generation: Generation,
        refused: bool,
        at: Instant,
    ) -> Option<Self> {
        let Self::Held { kept, trouble, rejected } = self else { return None };
        (kept.generation == generation && rejected.is_some() != refused).then(|| Self::Held {
            kept: kept.clone(),
            trouble: trouble.clone(),
            rejected: refused.then_some(at),
        })
    }

    pub(super) fn kept(&self) -> Option<&Kept> {
        match self {
            Self::Held { kept, .. } => Some(kept),
            Self::Missing(_) => None,
        }
    }

    pub(super) fn generation(&self) -> Generation {
        self.kept().map(|kept| kept.generation).unwrap_or_default()
    }

    pub(super) fn is_rejected(&self) -> bool {
        matches!(self, Self::Held { rejected: Some(_), .. })
    }

    pub(super) fn state(&self) -> State {
        match self {
            Self::Held { rejected: Some(since), .. } => State::Rejected { since: *since },
            Self::Held { kept, trouble: None, .. } => State::Ready { since: kept.since },
            Self::Held { trouble: Some(Trouble { since, why }), .. } => {
                State::Stale { since: *since, why: why.clone() }
            }
            Self::Missing(Trouble { why, .. }) => State::Missing { why: why.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Result<Token, SecretError> {
        Ok(Token::parse(text.as_bytes()).unwrap())
    }

    fn trouble() -> Result<Token, SecretError> {
        Err(SecretError::BadName)
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_value_stays_refused_through_trouble_and_not_beyond_itself() {
        let at = Instant::now();
        let first = Standing::first(token("one"), at);
        let rejected = first.judged(first.generation(), true, at).unwrap();
        assert!(rejected.judged(first.generation(), true, at).is_none(), "no news");
        let (still, _) = rejected.take(trouble(), at);
        let (still, _) = still.take(token("one"), at);
        assert!(still.is_rejected());
        let (healed, news) = still.take(token("two"), at);
        assert!(matches!(news, Some(News::Refreshed)) && !healed.is_rejected());
        assert!(healed.generation() > first.generation());
        assert!(healed.judged(first.generation(), true, at).is_none(), "an older value's verdict");
        assert!(
            matches!(rejected.judged(first.generation(), false, at), Some(s) if !s.is_rejected())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_had_a_value_cannot_be_refused() {
        let missing = Standing::first(trouble(), Instant::now());
        assert!(missing.judged(missing.generation(), true, Instant::now()).is_none());
        let (held, _) = missing.take(token("one"), Instant::now());
        assert!(held.generation() > missing.generation());
    }
}

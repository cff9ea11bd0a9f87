//! What a fake Omni is told when it is built.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::limit::Limit;

/// How a fake Omni behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The keys that are accepted.
    pub keys: Vec<Key>,
    /// The limit, per exact `Authorization` value.
    pub limit: Limit,
    /// What a refusal of the limit looks like.
    pub refusal: Refusal,
    /// Makes the ids: instances of different seeds share none.
    pub seed: u64,
    /// How many records each list holds at first, labels and keys excepted, in place of its own
    /// number. Content is the documents and the folders together.
    pub records: Option<u64>,
    /// The time between a request and the head of its answer. What a read shows is settled before,
    /// what a write does takes effect after it.
    pub answer_time: Duration,
    /// The time between two chunks of an NDJSON or server-sent-events answer.
    pub pace: Duration,
    /// How long a query runs.
    pub query_time: Duration,
    /// How long `query/run` waits for its job before it says `timed_out`.
    pub query_patience: Duration,
    /// The longest that `query/wait` holds a call.
    pub long_poll: Duration,
    /// How long after `suggestions/generate` the next one is refused.
    pub suggestions_cooldown: Duration,
    /// The size of a file whose request has no `bytes` parameter.
    pub download_bytes: u64,
    /// How many arrivals are kept whole. The times of all of them are kept in any case.
    pub keep_arrivals: usize,
    /// What the MCP endpoint is like.
    pub mcp: Mcp,
    /// Whether uploads are hashed. Off by default, as it costs seconds for a gibibyte.
    pub digest_uploads: bool,
}

impl Default for Settings {
    /// One organization key of the owner `org`, 60 requests per rolling minute.
    fn default() -> Self {
        Self {
            keys: vec![Key::made_up(KeyKind::Organization, "org")],
            limit: Limit::default(),
            refusal: Refusal::default(),
            seed: 0,
            records: None,
            answer_time: Duration::ZERO,
            pace: Duration::from_millis(20),
            query_time: Duration::from_millis(100),
            query_patience: Duration::from_secs(10),
            long_poll: Duration::from_secs(30),
            suggestions_cooldown: Duration::from_secs(300),
            download_bytes: 64 * 1024,
            keep_arrivals: 100_000,
            mcp: Mcp::default(),
            digest_uploads: false,
        }
    }
}

/// What the MCP endpoint is like. Omni's own is not on record, but for a client that named no session
/// and was served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mcp {
    /// Gives sessions, and serves who names none as well.
    #[default]
    Sessions,
    /// Gives sessions, and refuses who names none.
    SessionsRequired,
    /// Gives none: there is no stream to listen on and nothing to end.
    NoSessions,
    /// Has the revision 2026-07-28 alone, which knows neither a handshake nor sessions.
    Stateless,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Acts as its creator, may act for others, may use SCIM.
    Organization,
    /// A personal access token: its user's rights, no SCIM.
    Personal,
    /// A personal access token that the MCP log-in made.
    Mcp,
}

/// Whether a key's user may still hold keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The key works.
    Active,
    /// The user was demoted: the key is known and refused.
    Demoted,
}

/// One key that the fake Omni knows.
#[derive(Clone)]
pub struct Key {
    token: Arc<str>,
    kind: KeyKind,
    owner: Arc<str>,
    standing: Standing,
}

impl Key {
    /// A key with a token of the caller's choice.
    pub fn new(kind: KeyKind, owner: &str, token: &str) -> Self {
        Self { token: token.into(), kind, owner: owner.into(), standing: Standing::Active }
    }

    /// A key with a token of Omni's form that is the same in every run and valid nowhere else.
    pub fn made_up(kind: KeyKind, owner: &str) -> Self {
        let mut body = String::with_capacity(50);
        for block in 0..2u8 {
            let seed = [format!("{kind:?}/{owner}/").as_bytes(), &[block]].concat();
            body.extend(Sha256::digest(seed).iter().map(|&byte| base62(u32::from(byte))));
        }
        body.truncate(50);
        let mut rest = crc32fast::hash(body.as_bytes());
        let mut check = [' '; 6];
        for digit in check.iter_mut().rev() {
            *digit = base62(rest);
            rest /= 62;
        }
        let check: String = check.iter().collect();
        Self::new(kind, owner, &format!("omni_osk_{body}{check}"))
    }

    /// The same key after its user lost the right to hold keys.
    pub fn demoted(self) -> Self {
        Self { standing: Standing::Demoted, ..self }
    }

    /// The token, for whoever is to hold the key.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What the key may do.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The name that logs and answers use for the key.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("owner", &self.owner)
            .field("kind", &self.kind)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}

/// What a refusal of the limit looks like. Omni's own is not on record, so both fields vary.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Whether it says when to come back.
    pub retry_after: RetryAfter,
    /// Whether it carries `X-Omni-Waf-Action: block`.
    pub action_field: bool,
}

impl Default for Refusal {
    fn default() -> Self {
        Self { retry_after: RetryAfter::Absent, action_field: true }
    }
}

/// A `Retry-After` field (RFC 9110 section 10.2.3), or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// No field.
    Absent,
    /// A number of seconds.
    Seconds(u64),
    /// The date that lies this far ahead on the wall clock, in whole seconds.
    Date(Duration),
    /// Something else, readable or not.
    Text(String),
}

fn base62(n: u32) -> char {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    char::from(DIGITS[(n % 62) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_token_has_omnis_form() {
        let key = Key::made_up(KeyKind::Organization, "ada");
        let digits = key.token().strip_prefix("omni_osk_").unwrap();
        assert_eq!(digits.len(), 56);
        assert!(digits.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(key.token(), Key::made_up(KeyKind::Organization, "ada").token());
        assert_ne!(key.token(), Key::made_up(KeyKind::Personal, "ada").token());
    }

    #[test]
    fn debug_output_shows_no_token() {
        let settings = Settings::default();
        let shown = format!("{settings:?} {:?}", crate::fake_omni::FakeOmni::new(settings.clone()));
        assert!(!shown.contains(settings.keys[0].token()));
        assert!(!shown.contains("omni_osk_"));
    }
}

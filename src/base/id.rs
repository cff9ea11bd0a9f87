//! Names from the config, and the id of one exchange.

use std::fmt;
use std::sync::Arc;

/// Declares a name that the config gives to one kind of thing. Cloning is cheap.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes a name as it stands in the config.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as it stands in the config.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(
    /// The name of a `[[routes]]` entry.
    RouteId
);
name!(
    /// The name of a `[credentials.NAME]` table.
    CredentialId
);
name!(
    /// The name of a `[budgets.NAME]` table.
    BudgetId
);
name!(
    /// The name of a `[callers.NAME]` table, or `anonymous`.
    CallerId
);

/// The id of one exchange, sent upstream and answered as `X-Request-Id`.
///
/// A caller's own id is kept when it is 1 to 128 characters of `A-Z a-z 0-9 . _ : = + / -`;
/// otherwise a UUID version 7 (RFC 9562) is made, so that ids sort by time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Makes a new id.
    pub fn fresh() -> Self {
        let mut text = [0u8; uuid::fmt::Hyphenated::LENGTH];
        Self(Arc::from(&*uuid::Uuid::now_v7().hyphenated().encode_lower(&mut text)))
    }

    /// Keeps a caller's id when it is harmless in a log line, a header and a URL.
    pub fn from_caller(value: &[u8]) -> Option<Self> {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._:=+/-".contains(b);
        let fits = (1..=128).contains(&value.len()) && value.iter().all(plain);
        fits.then(|| std::str::from_utf8(value).ok()).flatten().map(|s| Self(Arc::from(s)))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harmless_id_of_the_caller_is_kept() {
        assert_eq!(RequestId::from_caller(b"job-7/a=b").unwrap().as_str(), "job-7/a=b");
    }

    #[test]
    fn an_id_that_could_forge_a_log_line_is_not_kept() {
        for bad in [&b""[..], b"a b", b"a\nb", b"a\"b", "é".as_bytes(), &[b'a'; 129]] {
            assert_eq!(RequestId::from_caller(bad), None);
        }
    }
}

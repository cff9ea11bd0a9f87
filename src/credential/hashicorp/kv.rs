//! Secrets in an engine of KV version 2.

use std::collections::BTreeMap;

use http::{HeaderValue, Method};
use secrecy::SecretSlice;
use serde::de::IgnoredAny;
use tracing::debug;

use super::error::HashicorpError;
use super::server::{Answered, Ask, Server};
use super::wire::{self, Answer, Field, Versioned};

const READING: &str = "a read of a secret";

/// Where a secret is, below the mount.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    /// As policies have it: `secret/data/omni`.
    pub(super) path: String,
    pub(super) field: String,
}

impl Spot {
    /// # Errors
    /// Refuses what no URL carries as it stands.
    pub(super) fn new(mount: &str, path: &str, field: &str) -> Result<Self, HashicorpError> {
        if !is_path(mount) || !is_path(path) || field.is_empty() {
            return Err(HashicorpError::BadPath);
        }
        Ok(Self { path: format!("{mount}/data/{path}"), field: field.to_owned() })
    }
}

/// Whether a text is a path that needs no escapes in a URL.
pub(super) fn is_path(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let plain = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(byte);
    text.split('/').all(plain)
}

/// Reads the newest version of a secret's field.
///
/// Cancel-safe.
pub(super) async fn read(
    server: &Server,
    token: &HeaderValue,
    spot: &Spot,
) -> Result<SecretSlice<u8>, HashicorpError> {
    let path = spot.path.as_str();
    let ask = Ask { method: Method::GET, path, token: Some(token), body: None, to: READING };
    let body = match server.ask(ask).await? {
        Answered::Done(body) => body,
        Answered::Refused { status: 403, .. } => {
            return Err(HashicorpError::Denied { path: path.to_owned() });
        }
        Answered::Refused { status: 404, body } => return Err(not_there(&body)),
        Answered::Refused { .. } => return Err(HashicorpError::BadAnswer { to: READING }),
    };
    let Ok(answer) = wire::read::<Answer<Versioned>>(&body, READING) else {
        // Version 1 has the fields where version 2 has `data` and `metadata`.
        let other = wire::read::<Answer<BTreeMap<String, IgnoredAny>>>(&body, READING)?;
        let to = READING;
        return Err(other
            .data
            .map_or(HashicorpError::BadAnswer { to }, |_| HashicorpError::NotKv2));
    };
    let Some(Versioned { data, metadata }) = answer.data else {
        return Err(HashicorpError::BadAnswer { to: READING });
    };
    let version = metadata.version;
    let mut fields = data.ok_or(HashicorpError::Deleted { version })?;
    match fields.remove(&spot.field) {
        Some(Field::Text(mut text)) => {
            debug!(path, version, "vault secret read");
            // Moved, not copied; what is left behind is empty.
            Ok(SecretSlice::from(std::mem::take(&mut *text.0).into_bytes()))
        }
        Some(Field::Other) => Err(HashicorpError::NotText { version }),
        None => Err(HashicorpError::NoField { version }),
    }
}

/// A version that is deleted or destroyed is answered 404 too, but with what is known of it.
fn not_there(body: &[u8]) -> HashicorpError {
    match wire::read::<Answer<Versioned>>(body, READING) {
        Ok(Answer { data: Some(Versioned { metadata, .. }), .. }) => {
            HashicorpError::Deleted { version: metadata.version }
        }
        _ => HashicorpError::NotThere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_plain_and_does_not_climb() {
        for path in ["omni", "omni/org", "a-b_c.d/e"] {
            assert!(is_path(path), "{path}");
        }
        for path in ["", "/", "a/", "/a", "a//b", "..", "a/../b", ".", "a b", "a?b", "a%2fb", "é"]
        {
            assert!(!is_path(path), "{path}");
        }
    }
}

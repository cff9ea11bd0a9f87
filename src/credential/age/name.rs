//! The names of secrets, which are no secret, and never one by mistake.

use std::fmt;

use crate::omni;

/// The longest name.
const MAX_CHARS: usize = 64;
/// From this length on, capitals, small letters and digits together are taken for a secret.
const RANDOM: usize = 32;

/// A secret's name in a vault: letters, digits, `-`, `_` and `.`, the first one a letter, digit or `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(String);

/// Why a text is not taken as a name. It is not repeated: it may be the secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It looks like a key.
    #[error(
        "what was given as the name looks like a secret. Arguments are seen by others on this \
         machine and are kept in the shell's history: if it is one, revoke it"
    )]
    Secret,
    /// It has other characters, or too many.
    #[error(
        "that is no name for a secret: a name has at most 64 letters, digits, `-`, `_` and `.`, and \
         begins with a letter, a digit or `_`"
    )]
    NotPlain,
}

impl SecretName {
    /// Takes a name.
    ///
    /// # Errors
    /// Says why this is none, and does not repeat it.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if looks_like_a_secret(text) {
            return Err(BadName::Secret);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = (1..=MAX_CHARS).contains(&text.len())
            && text.chars().all(plain)
            && !text.starts_with(['-', '.']);
        if fits { Ok(Self(text.to_owned())) } else { Err(BadName::NotPlain) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// These names, the one that is most like `wanted` first.
pub(super) fn nearest_first<'a>(
    wanted: &SecretName,
    names: impl IntoIterator<Item = &'a SecretName>,
) -> Vec<SecretName> {
    let mut names: Vec<SecretName> = names.into_iter().cloned().collect();
    names.sort_by_cached_key(|name| strsim::osa_distance(&wanted.0, &name.0));
    names
}

fn looks_like_a_secret(text: &str) -> bool {
    let small = text.to_ascii_lowercase();
    let has = |kind: fn(&char) -> bool| text.chars().any(|c| kind(&c));
    small.contains(omni::TOKEN_PREFIX)
        || small.contains("age-secret-key")
        || small.starts_with("bearer ")
        || (text.starts_with("eyJ") && text.split('.').count() == 3)
        || (text.len() >= RANDOM
            && has(char::is_ascii_uppercase)
            && has(char::is_ascii_lowercase)
            && has(char::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain() {
        for name in ["org", "OMNI_API_KEY", "team-2.read", "_x", "0", &"a".repeat(64)] {
            assert_eq!(SecretName::parse(name).unwrap().as_str(), name);
        }
        for name in ["", "-x", ".x", "..", "a/b", "a b", "é", "a\n", "\"a\"", &"a".repeat(65)] {
            assert_eq!(SecretName::parse(name), Err(BadName::NotPlain), "{name}");
        }
    }

    #[test]
    fn a_secret_is_not_taken_as_a_name() {
        let key = format!("{}{}", omni::TOKEN_PREFIX, "a1".repeat(28));
        for text in [
            &*key,
            &key.to_uppercase(),
            "x-omni_osk_y",
            "AGE-SECRET-KEY-1ABC",
            "Bearer abc",
            "eyJhbGciOi.eyJzdWIi.c2ln",
            "Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZmdoaWo",
        ] {
            let error = SecretName::parse(text).unwrap_err();
            assert_eq!(error, BadName::Secret, "{text}");
            assert!(!error.to_string().contains(text));
        }
    }

    #[test]
    fn the_nearest_name_comes_first() {
        let names = ["mcp", "org", "pat"].map(|name| SecretName::parse(name).unwrap());
        let wanted = SecretName::parse("ogr").unwrap();
        assert_eq!(nearest_first(&wanted, &names)[0], names[1]);
    }
}

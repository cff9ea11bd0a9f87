//! `GET /api/v1/whoami`, which every key may ask: whether a key is good, and what kind it is.

use serde_json::Value;

/// Where it is asked.
pub const WHOAMI: &str = "/api/v1/whoami";

/// What a key may act as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    /// The whole organization.
    Organization,
    /// One person.
    User,
}

impl KeyScope {
    /// The word that Omni has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::User => "user",
        }
    }

    /// Reads the answer to `whoami`; `None` where it does not say.
    pub fn of_answer(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        match body.get("keyScope")?.as_str()? {
            "organization" => Some(Self::Organization),
            "user" => Some(Self::User),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_is_said_in_one_word() {
        let of = |text: &str| KeyScope::of_answer(text.as_bytes());
        assert_eq!(
            of(r#"{"keyScope":"organization","orgRole":"x"}"#),
            Some(KeyScope::Organization)
        );
        assert_eq!(of(r#"{"keyScope":"user"}"#), Some(KeyScope::User));
        for text in ["", "[]", r#"{"keyScope":1}"#, r#"{"keyScope":"team"}"#] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}

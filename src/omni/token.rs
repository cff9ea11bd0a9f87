//! The form of Omni's keys.

/// What every organization key and personal token begins with.
pub const TOKEN_PREFIX: &str = "omni_osk_";

/// How many letters and digits follow: 50 at random and a checksum of 6.
const TOKEN_REST: usize = 56;

/// Whether this has the form of an Omni key. A no proves nothing: the form of tokens from the MCP
/// OAuth flow is not known.
pub fn looks_like_token(text: &[u8]) -> bool {
    text.strip_prefix(TOKEN_PREFIX.as_bytes())
        .is_some_and(|rest| rest.len() == TOKEN_REST && rest.iter().all(u8::is_ascii_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_form() {
        let key = format!("{TOKEN_PREFIX}{}", "aZ9".repeat(19).get(..TOKEN_REST).unwrap());
        assert!(looks_like_token(key.as_bytes()));
        assert!(!looks_like_token(&key.as_bytes()[..40]));
        assert!(!looks_like_token(key.to_uppercase().as_bytes()));
        assert!(!looks_like_token(b"dummy"));
    }
}

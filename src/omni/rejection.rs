//! How Omni says that a key is no good.

use http::StatusCode;

/// Whether an answer says that the bearer itself is refused: a 401, or one of the bodies that Omni's
/// authentication is known to send, as a whole. A body that merely contains such words is not one:
/// an application may quote them.
pub fn is_rejection(status: StatusCode, body: &[u8]) -> bool {
    let known: &[&str] = match status {
        StatusCode::UNAUTHORIZED => return true,
        StatusCode::FORBIDDEN => &[
            "Invalid bearer token",
            "User no longer has the required permissions to use this API key",
        ],
        StatusCode::BAD_REQUEST => {
            &["Bad authorization header, must be formatted as Bearer <token>"]
        }
        _ => return false,
    };
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else { return false };
    let said = [body.pointer("/error/message"), body.get("detail"), body.get("message")];
    said.into_iter().flatten().filter_map(|text| text.as_str()).any(|text| known.contains(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_of_a_known_body_is_a_rejection() {
        let forbidden = StatusCode::FORBIDDEN;
        let of = |text: &str| is_rejection(forbidden, text.as_bytes());
        assert!(of(r#"{"error":{"code":403,"message":"Invalid bearer token"}}"#));
        assert!(of(
            r#"{"detail":"User no longer has the required permissions to use this API key","status":403}"#
        ));
        assert!(!of(
            r#"{"detail":"Invalid bearer token, or caller lacks permissions","status":403}"#
        ));
        assert!(!of(r#"{"detail":"Permission denied","status":403}"#));
        assert!(!of("Invalid bearer token"));
        assert!(is_rejection(StatusCode::UNAUTHORIZED, b""));
        assert!(!is_rejection(StatusCode::OK, br#"{"message":"Invalid bearer token"}"#));
    }
}

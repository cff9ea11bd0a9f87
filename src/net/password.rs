//! A password that cannot be shown.

use std::fmt;
use std::sync::Arc;

use secrecy::zeroize::Zeroizing;
use subtle::ConstantTimeEq;

/// The longest password.
const MAX_BYTES: usize = 4 * 1024;

/// A password for another server. It has no `Display`, `Debug` shows nothing of it, it is compared in
/// constant time (for values of one length), and its own bytes are overwritten when it is dropped.
#[derive(Clone)]
pub struct Password(Arc<Zeroizing<String>>);

/// Why a secret is no password. Nothing of it is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPassword {
    /// Nothing, or nothing but a line end.
    #[error("it is empty")]
    Empty,
    /// More than a password can be.
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Bytes that are no text.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// A control character, a line end inside included: perhaps two secrets, or a whole file.
    #[error("it has a control character")]
    Control,
}

impl Password {
    /// Takes the secret as files store it: line ends behind it are dropped.
    ///
    /// # Errors
    /// [`BadPassword`].
    pub fn parse(secret: &[u8]) -> Result<Self, BadPassword> {
        let text = std::str::from_utf8(secret).map_err(|_| BadPassword::NotUtf8)?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(BadPassword::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(BadPassword::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(BadPassword::Control);
        }
        Ok(Self(Arc::new(Zeroizing::new(text.to_owned()))))
    }

    /// What it says; for the wire alone.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// The text without the password, wherever it stands in it.
    pub(super) fn blot(&self, text: &str) -> String {
        text.replace(self.text(), "***")
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.text().as_bytes().ct_eq(other.text().as_bytes()).into()
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_a_line_of_text_and_shows_nothing() {
        for (secret, text) in [("zq secret\n", "zq secret"), ("é\r\n", "é"), (" x", " x")] {
            let password = Password::parse(secret.as_bytes()).unwrap();
            assert_eq!(password.text(), text);
            assert_eq!(format!("{password:?}"), "Password(***)");
        }
        for (secret, why) in [
            (&b"\n"[..], BadPassword::Empty),
            (b"a\nb", BadPassword::Control),
            (b"a\0", BadPassword::Control),
            (b"\xff", BadPassword::NotUtf8),
            (&[b'x'; MAX_BYTES + 1], BadPassword::TooLong),
        ] {
            assert_eq!(Password::parse(secret).unwrap_err(), why);
        }
    }
}

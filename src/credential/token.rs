//! A bearer token that cannot be shown.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::echo::Blot;
use crate::omni;

/// The longest token.
const MAX_BYTES: usize = 4 * 1024;

/// A bearer token. It has no `Display` and no `Clone`, `Debug` shows nothing of it, and it is
/// compared in constant time (for values of one length).
///
/// Our own copy is overwritten when it is dropped. Not overwritten are the copies inside the header
/// value, those by which it is found in answers, and those that hyper, rustls and the kernel make of it when it is sent.
pub struct Token {
    text: SecretSlice<u8>,
    /// Made once, so that one token's field is byte-identical on every call: Omni's limit counts by
    /// it.
    bearer: HeaderValue,
    blot: Arc<Blot>,
}

/// Why a secret is no bearer token. Nothing of it is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Nothing but blanks, or nothing after `Bearer`.
    #[error("it is empty")]
    Empty,
    /// More than a token can be.
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// A control character, a line end inside included: perhaps two secrets, or a whole file.
    #[error("it has a control character at byte {at}")]
    Control {
        /// Its position in the secret, from 0.
        at: usize,
    },
    /// A blank inside.
    #[error("it has a blank at byte {at}")]
    Blank {
        /// Its position in the secret, from 0.
        at: usize,
    },
    /// Not ASCII.
    #[error("it has a byte that is not ASCII at byte {at}")]
    NotAscii {
        /// Its position in the secret, from 0.
        at: usize,
    },
    /// A key of Omni's with something in front of it, such as `OMNI_API_KEY=`.
    #[error("an Omni key begins at byte {at}; leave out what stands before it")]
    Before {
        /// Where the key begins in the secret, from 0.
        at: usize,
    },
    /// Something that no bearer token has (RFC 6750 §2.1), such as a quotation mark.
    #[error("it has a character that no bearer token has at byte {at}; is it quoted?")]
    Character {
        /// Its position in the secret, from 0.
        at: usize,
    },
}

impl Token {
    /// Takes the secret as people store it: blanks and line ends around it and a `Bearer` pasted
    /// along with it are dropped.
    ///
    /// # Errors
    /// Says what no bearer token has, and where.
    pub fn parse(secret: &[u8]) -> Result<Self, BadToken> {
        let text = without_bearer(secret.trim_ascii());
        if text.is_empty() {
            return Err(BadToken::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(BadToken::TooLong);
        }
        // Both are slices of one allocation.
        let offset = text.as_ptr().addr() - secret.as_ptr().addr();
        if let Some((at, &byte)) = text.iter().enumerate().find(|(_, byte)| !is_token_byte(**byte))
        {
            return Err(odd(byte, offset + at));
        }
        let prefix = omni::TOKEN_PREFIX.as_bytes();
        if let Some(at) = text.windows(prefix.len()).position(|part| part == prefix)
            && at > 0
        {
            return Err(BadToken::Before { at: offset + at });
        }
        let line = Zeroizing::new([b"Bearer ", text].concat());
        let mut bearer = HeaderValue::from_bytes(&line).map_err(|_| BadToken::Control { at: 0 })?;
        bearer.set_sensitive(true);
        let blot = Arc::new(Blot::of(text));
        Ok(Self { text: SecretSlice::from(text.to_vec()), bearer, blot })
    }

    /// The value of the `Authorization` field, marked sensitive and byte-identical every time.
    pub(super) fn bearer(&self) -> HeaderValue {
        self.bearer.clone()
    }

    /// What it looks like in an answer.
    pub(super) fn blot(&self) -> Arc<Blot> {
        self.blot.clone()
    }

    /// The first eight digits of its SHA-256 in hexadecimal, by which people tell keys apart.
    pub fn fingerprint(&self) -> String {
        const BYTES: usize = 4;
        let digest = Sha256::digest(self.text.expose_secret());
        digest.iter().take(BYTES).map(|byte| format!("{byte:02x}")).collect()
    }

    /// A copy of its text, for who keeps it.
    pub(super) fn text(&self) -> SecretSlice<u8> {
        self.text.clone()
    }

    /// Whether it has the form of an Omni key. A no is worth a warning, and no more.
    pub fn looks_like_omni(&self) -> bool {
        omni::looks_like_token(self.text.expose_secret())
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.text.expose_secret().ct_eq(other.text.expose_secret()).into()
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

fn without_bearer(text: &[u8]) -> &[u8] {
    match text.split_at_checked(b"Bearer".len()) {
        Some((scheme, [])) if scheme.eq_ignore_ascii_case(b"Bearer") => &[],
        Some((scheme, rest @ [b' ' | b'\t', ..])) if scheme.eq_ignore_ascii_case(b"Bearer") => {
            rest.trim_ascii_start()
        }
        _ => text,
    }
}

/// RFC 6750 §2.1, `b64token`.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

fn odd(byte: u8, at: usize) -> BadToken {
    match byte {
        b' ' | b'\t' => BadToken::Blank { at },
        0x80.. => BadToken::NotAscii { at },
        _ if byte.is_ascii_control() => BadToken::Control { at },
        _ => BadToken::Character { at },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "omni_osk_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN012345";

    #[test]
    fn what_people_store_becomes_one_bearer() {
        for stored in [
            KEY.to_owned(),
            format!("{KEY}\n"),
            format!("  {KEY}\r\n"),
            format!("Bearer {KEY}"),
            format!("bearer \t{KEY}\n"),
        ] {
            let token = Token::parse(stored.as_bytes()).unwrap();
            assert_eq!(token.bearer(), format!("Bearer {KEY}"));
            assert!(token.bearer().is_sensitive());
            assert!(token.looks_like_omni());
        }
    }

    #[test]
    fn another_form_is_taken_and_said_to_be_another() {
        let token = Token::parse(b"eyJhbGciOi.eyJzdWIi.c2ln-_~+/=").unwrap();
        assert!(!token.looks_like_omni());
    }

    #[test]
    fn what_is_no_token_is_refused_with_its_place() {
        use BadToken::*;
        let long = "a".repeat(MAX_BYTES + 1);
        for (stored, why) in [
            (&b""[..], Empty),
            (b" \n\t", Empty),
            (b"Bearer", Empty),
            (b"Bearer  \n", Empty),
            (b"abc def", Blank { at: 3 }),
            (b" \nabc\tdef", Blank { at: 5 }),
            (b"Bearer abc def", Blank { at: 10 }),
            (b"Bearer Bearer abc", Blank { at: 13 }),
            (b"abc\ndef", Control { at: 3 }),
            (b"abc\0", Control { at: 3 }),
            (b"ab\x7f", Control { at: 2 }),
            (b"ab\xc3\xa9", NotAscii { at: 2 }),
            (b"\xef\xbb\xbfabc", NotAscii { at: 0 }),
            (b"\"abc\"", Character { at: 0 }),
            (b"key=abc,b", Character { at: 7 }),
            (b"OMNI_API_KEY=omni_osk_abc", Before { at: 13 }),
            (long.as_bytes(), TooLong),
        ] {
            assert_eq!(Token::parse(stored).err(), Some(why), "{stored:?}");
        }
    }

    #[test]
    fn tokens_are_equal_when_their_text_is() {
        let token = |text: &str| Token::parse(text.as_bytes()).unwrap();
        assert_eq!(token(KEY), token(&format!("Bearer {KEY}\n")));
        assert_ne!(token("abc"), token("abd"));
        assert_ne!(token("abc"), token("abcd"));
    }
}

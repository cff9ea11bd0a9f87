//! The tokens by which callers are told, kept as digests.

use std::fmt;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::{Caller, Twice, Unknown, once};

/// How a caller shows its token where `Authorization` is taken by something else.
pub(crate) const TOKEN: HeaderName = HeaderName::from_static("x-omnigate-token");

/// The SHA-256 of a token.
///
/// Its `Debug` shows nothing of it: who reads a log could try short tokens against it.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 has 64 hexadecimal digits")]
pub struct BadDigest;

impl TokenDigest {
    /// Reads 64 hexadecimal digits, in either letter case.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, BadDigest> {
        let mut digest = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(BadDigest);
        }
        for (at, byte) in digest.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2).ok_or(BadDigest)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| BadDigest)?;
        }
        Ok(Self(digest))
    }

    /// The digest of a token.
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether it is that of no token at all, as when a variable was empty; who shows nothing would be
    /// taken for its owner.
    pub fn is_of_nothing(&self) -> bool {
        *self == Self::of(b"")
    }

    /// Whether a request shows the one token that this is the digest of, as `Authorization: Bearer
    /// TOKEN`, once. The comparison takes as long for every token of the same length.
    pub fn is_shown_by(&self, headers: &HeaderMap) -> bool {
        match bearer(headers) {
            Ok(Some(token)) => self.ct_eq(&Self::of(token)).into(),
            Ok(None) | Err(Twice) => false,
        }
    }
}

impl ConstantTimeEq for TokenDigest {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

/// The digests of all tokens, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Tokens(Vec<(TokenDigest, Arc<Caller>)>);

/// A token that a request shows, and whose it is.
struct Shown<'a> {
    digest: TokenDigest,
    of: Option<&'a Arc<Caller>>,
}

impl Tokens {
    pub(super) fn add(&mut self, digest: TokenDigest, caller: Arc<Caller>) {
        self.0.push((digest, caller));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose token a request shows; `None` where it shows none that is meant for us.
    ///
    /// `X-Omnigate-Token` is meant for nobody else, so a wrong one is refused. In `Authorization` a
    /// client may have to send whatever it calls its key, such as `Bearer dummy`; that says
    /// nothing where `strangers` are let in, or where nobody is told by a token.
    ///
    /// # Errors
    /// It shows a wrong one, or more than one.
    pub(super) fn whose(
        &self,
        headers: &HeaderMap,
        strangers: bool,
    ) -> Result<Option<&Arc<Caller>>, Unknown> {
        let own = once(headers, &TOKEN).map_err(|Twice| Unknown::Tokens)?;
        let own = own.map(|token| self.look_up(token.as_bytes()));
        let bearer = bearer(headers).map_err(|Twice| Unknown::Tokens)?;
        let bearer = bearer.map(|token| self.look_up(token));
        let bearer = match bearer {
            Some(Shown { of: None, .. }) if strangers || self.is_empty() => None,
            other => other,
        };
        let shown = match (own, bearer) {
            (None, None) => return Ok(None),
            (Some(own), Some(bearer)) => {
                if !bool::from(own.digest.ct_eq(&bearer.digest)) {
                    return Err(Unknown::Tokens);
                }
                own
            }
            (Some(one), None) | (None, Some(one)) => one,
        };
        shown.of.map(Some).ok_or(Unknown::Token)
    }

    /// Compares with all of them, to the end, whether or not one of them was it. So the time tells
    /// neither which token was nearly right nor how many callers there are before it. Where two are
    /// the same, the first counts.
    fn look_up(&self, token: &[u8]) -> Shown<'_> {
        let digest = TokenDigest::of(token);
        let (mut at, mut found) = (u64::MAX, Choice::from(0));
        for (index, (known, _)) in (0u64..).zip(&self.0) {
            let same = known.ct_eq(&digest);
            at.conditional_assign(&index, same & !found);
            found |= same;
        }
        // Only who showed a right token gets to see the difference.
        let at = usize::try_from(at).ok();
        Shown { digest, of: at.and_then(|at| self.0.get(at)).map(|(_, caller)| caller) }
    }
}

/// The token of `Authorization: Bearer TOKEN`; other schemes are not about us.
fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>, Twice> {
    let Some(value) = once(headers, &AUTHORIZATION)? else { return Ok(None) };
    let value = value.as_bytes();
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    Ok(scheme.eq_ignore_ascii_case(b"bearer").then(|| token.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_digest_has_64_hexadecimal_digits() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenDigest::parse(abc), Ok(TokenDigest::of(b"abc")));
        assert_eq!(TokenDigest::parse(&abc.to_uppercase()), Ok(TokenDigest::of(b"abc")));
        let long = format!("{abc}00");
        let sign = abc.replacen("ba", "+a", 1);
        let wide = "\u{e9}".repeat(32);
        for text in
            ["", &abc[1..], &long, &sign, &wide, &abc.replace('c', "g"), &format!(" {}", &abc[1..])]
        {
            assert_eq!(TokenDigest::parse(text), Err(BadDigest), "{text}");
        }
        assert_eq!(format!("{:?}", TokenDigest::of(b"abc")), "TokenDigest(…)");
    }

    #[test]
    fn a_bearer_is_read_in_one_way() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("BEARER   abc ", Some("abc")),
            ("Bearer a b", Some("a b")),
            ("Bearer", Some("")),
            ("Bearer ", Some("")),
            ("Bearerabc", None),
            ("Bearer\tabc", None),
            ("Basic abc", None),
            ("Token Bearer abc", None),
            ("abc", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            let read = bearer(&headers).ok().unwrap();
            assert_eq!(read, token.map(str::as_bytes), "{value}");
            assert_eq!(TokenDigest::of(b"abc").is_shown_by(&headers), token == Some("abc"));
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            assert!(bearer(&headers).is_err() && !TokenDigest::of(b"abc").is_shown_by(&headers));
        }
        assert!(!TokenDigest::of(b"").is_shown_by(&HeaderMap::new()));
    }

    #[test]
    fn every_token_is_found_wherever_it_stands() {
        let names: Vec<String> = (0..40).map(|n| format!("c{n}")).collect();
        let mut tokens = Tokens::default();
        for name in names.iter().chain(&names[..1]) {
            let id = crate::base::CallerId::new(name.as_str());
            let caller = Arc::new(Caller { id, ..Caller::anonymous() });
            tokens.add(TokenDigest::of(name.as_bytes()), caller);
        }
        for name in &names {
            assert_eq!(tokens.look_up(name.as_bytes()).of.unwrap().id.as_str(), name);
        }
        assert!(Arc::ptr_eq(tokens.look_up(b"c0").of.unwrap(), &tokens.0[0].1));
        for wrong in ["", "c", "c40", "C0", "c0 "] {
            assert!(tokens.look_up(wrong.as_bytes()).of.is_none(), "{wrong}");
            assert!(Tokens::default().look_up(wrong.as_bytes()).of.is_none(), "{wrong}");
        }
    }
}

//! Finds what looks like a secret, so that no report ever shows it.
//!
//! A report is pasted into tickets and kept in build logs. Blotting out a harmless word costs
//! nothing there, so this errs on that side.

use std::ops::Range;

use crate::config::at::At;
use crate::omni::TOKEN_PREFIX;

/// Capitals, small letters and digits in a row, from which on they are taken for a secret.
const MIXED_RUN: usize = 12;
/// The same for two of the three kinds.
const RUN: usize = 20;
/// The same for all three with `-` and `_` between them, as base64url has them.
const LONG_RUN: usize = 32;

/// How identities of age and tokens of Vault begin.
const KEYS: [&str; 4] = ["AGE-SECRET-KEY-1", "hvs.", "hvb.", "hvr."];

/// Whether a value that should name a secret is one.
///
/// Stricter than [`spans`], because whoever is told so wrongly must rename a file.
pub(super) fn is_token(value: &str) -> bool {
    let value = value.trim();
    let bytes = value.as_bytes();
    let word = |b: &u8| b.is_ascii_alphanumeric() || b"-_".contains(b);
    find(bytes, TOKEN_PREFIX.as_bytes()).is_some()
        || find(bytes, b"bearer ").is_some()
        || (bytes.len() >= LONG_RUN && bytes.iter().all(word) && Mix::of(bytes).all())
        || KEYS.iter().any(|key| value.starts_with(key))
        // Three parts in base64url: a JSON web token.
        || (value.starts_with("eyJ") && value.split('.').count() == 3)
}

/// The parts of a text that look like a secret.
pub(super) fn spans(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let mut found = Vec::new();
    for run in runs(bytes, 0..bytes.len(), word) {
        let of_run = &bytes[run.clone()];
        // Before the prefix may stand another token whose own prefix was cut.
        let token = find(of_run, TOKEN_PREFIX.as_bytes()).is_some();
        if token || (run.len() >= LONG_RUN && Mix::of(of_run).all()) {
            found.push(run);
        } else {
            let random = |piece: &Range<usize>| {
                let mix = Mix::of(&bytes[piece.clone()]);
                (piece.len() >= MIXED_RUN && mix.all()) || (piece.len() >= RUN && mix.two())
            };
            let pieces = runs(bytes, run, |b| b.is_ascii_alphanumeric());
            found.extend(pieces.filter(random));
        }
    }
    found.extend(after_bearer(bytes));
    found.extend(user_info(bytes));
    found
}

/// The text with every secret-looking part and every character that could play tricks on a
/// terminal replaced.
pub(super) fn blot(text: &str) -> String {
    let hidden = mask(text.len(), &spans(text));
    text.char_indices().map(|(at, c)| if hidden[at] { '*' } else { plain(c) }).collect()
}

/// For each byte of a text of this length, whether it lies in one of the spans.
pub(super) fn mask(length: usize, spans: &[Range<usize>]) -> Vec<bool> {
    let mut mask = vec![false; length];
    for span in spans {
        mask[span.start.min(length)..span.end.min(length)].fill(true);
    }
    mask
}

/// The character, or a stand-in where it would move the cursor, turn the writing direction or
/// not be seen.
pub(super) fn plain(c: char) -> char {
    let tricky = c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}');
    if tricky { '\u{FFFD}' } else { c }
}

/// Strings that a look at the tree found to be none of a report's business.
#[derive(Default)]
pub(super) struct Hidden(pub(super) Vec<Range<usize>>);

impl Hidden {
    /// Keeps a value out of every excerpt.
    pub(super) fn hide<T>(&mut self, value: &At<T>) {
        self.0.push(value.span.clone());
    }
}

/// Which kinds of characters a run has.
struct Mix {
    upper: bool,
    lower: bool,
    digit: bool,
}

impl Mix {
    fn of(bytes: &[u8]) -> Self {
        Self {
            upper: bytes.iter().any(u8::is_ascii_uppercase),
            lower: bytes.iter().any(u8::is_ascii_lowercase),
            digit: bytes.iter().any(u8::is_ascii_digit),
        }
    }

    fn all(&self) -> bool {
        self.upper && self.lower && self.digit
    }

    fn two(&self) -> bool {
        u8::from(self.upper) + u8::from(self.lower) + u8::from(self.digit) >= 2
    }
}

/// The maximal runs of bytes that `belongs` takes, within `within`.
fn runs(
    bytes: &[u8],
    within: Range<usize>,
    belongs: impl Fn(u8) -> bool,
) -> impl Iterator<Item = Range<usize>> {
    let mut at = within.start;
    std::iter::from_fn(move || {
        while at < within.end && !belongs(bytes[at]) {
            at += 1;
        }
        let start = at;
        while at < within.end && belongs(bytes[at]) {
            at += 1;
        }
        (start < at).then_some(start..at)
    })
}

/// What follows the word `Bearer`.
fn after_bearer(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = find(&bytes[from..], b"bearer ") {
        from += at + b"bearer ".len();
        let visible = |b: u8| !b.is_ascii_whitespace() && b != b'"' && b != b'\'';
        found.extend(runs(bytes, from..bytes.len(), visible).next());
    }
    found
}

/// What stands between `://` and `@` in a URL.
fn user_info(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = find(&bytes[from..], b"://") {
        from += at + b"://".len();
        let authority = |b: u8| !b.is_ascii_whitespace() && !b"/\"'?#".contains(&b);
        let length = bytes[from..].iter().take_while(|b| authority(**b)).count();
        let end = bytes[from..from + length].iter().rposition(|b| *b == b'@');
        found.extend(end.map(|end| from..from + end));
    }
    found
}

/// Where `needle`, in lower case, begins in `bytes`, whatever their case.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window.eq_ignore_ascii_case(needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_token_is_blotted_out() {
        let cases = [
            ("x = \"omni_osk_short\"", "x = \"\""),
            ("OMNI_OSK_abc,", ","),
            ("Bearer hunter2 x", "Bearer  x"),
            ("q7Zk3mT9xW2b ok", " ok"),
            ("https://me:pw@acme.omniapp.co/", "https://@acme.omniapp.co/"),
            ("0123456789abcdef0123456789abcdef.", "."),
            ("'ab-CD_3f-GH-ij-KL-mn-OP-qr-ST-uv'", "''"),
        ];
        for (text, rest) in cases {
            let shown = blot(text);
            assert_eq!(shown.replace('*', ""), rest, "{text}");
            assert_eq!(shown.len(), text.len(), "the caret must stay right: {text}");
        }
    }

    #[test]
    fn names_and_paths_of_every_day_stay_readable() {
        for text in [
            "path = \"/api/v1/documents/{identifier}/access-list\"",
            "forward_headers = [\"x-request-source\"]",
            "secret = \"OMNI_ORGANIZATION_API_KEY_2\"",
            "/run/secrets/omni-organization-key",
            "base_url = \"https://acme.playground.exploreomni.dev\"",
        ] {
            assert_eq!(blot(text), text);
        }
    }

    #[test]
    fn a_terminal_is_not_steered() {
        assert_eq!(blot("a\u{1b}[2Jb\u{202e}c"), "a\u{FFFD}[2Jb\u{FFFD}c");
    }

    #[test]
    fn a_name_is_not_taken_for_a_token() {
        for name in ["org", "OMNI_API_KEY", "omni-organization-key-eu-1", "secrets/OrgKey.txt"] {
            assert!(!is_token(name), "{name}");
        }
        for token in [
            "omni_osk_x",
            "Bearer x",
            "q7Zk3mT9xW2bV8nR5cY1q7Zk3mT9xW2b",
            "eyJhbGciOi.eyJzdWIi.c2ln",
        ] {
            assert!(is_token(token), "{token}");
        }
    }
}

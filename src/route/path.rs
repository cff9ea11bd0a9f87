//! The one canonical path: what is matched is, byte for byte, what is sent.
//!
//! Every proxy that matched one reading of a path and sent another has been walked around. So there
//! is one reading here, and a path that some server on the way might read otherwise is refused.

use std::fmt;

use crate::omni;

/// The longest path, before and after it is made canonical.
const MAX_BYTES: usize = 8 * 1024;

/// How often an escape may be escaped again.
const MAX_ROUNDS: usize = 3;

/// A path in its one canonical form.
///
/// Unreserved characters (RFC 3986 §2.3) stand for themselves; every other escape keeps its bytes,
/// in upper case; of the other characters, those that may stand in a path stay as they were sent
/// (`+` and `%2B` mean different things to some servers) and `"<>[]^{|}` and the backtick are
/// escaped. There is no dot segment, empty segment, backslash or control character in it, however
/// often it is decoded. Letter case and a trailing slash are kept and sent, although routes and
/// Omni take no notice of them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CanonicalPath {
    text: Box<str>,
    /// A `%2F`, `%25`, `%3B`, `%3F` or `%23` stands in a free-text parameter of Omni's.
    escaped_separator: bool,
}

/// Why a path has no canonical form. Nothing of the path is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Longer than 8 KiB.
    #[error("the path is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Not in origin form.
    #[error("the path does not begin with `/`")]
    NoSlash,
    /// A byte that must be escaped, or cannot stand in a path at all.
    #[error("byte {at} of the path may only stand there percent-encoded")]
    Unescaped {
        /// Its position, from 0.
        at: usize,
    },
    /// A `%` without two hexadecimal digits after it.
    #[error("byte {at} of the path begins a broken percent-escape")]
    BrokenEscape {
        /// The position of the `%`, from 0.
        at: usize,
    },
    /// A path parameter, which servers read in different ways.
    #[error("the path has a `;`, which servers read in different ways")]
    Semicolon,
    /// `.` or `..`, plain or escaped.
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
    /// `//`, plain or escaped.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A backslash, plain or escaped.
    #[error("the path has a backslash")]
    Backslash,
    /// NUL, a line end or another control character.
    #[error("the path has a control character")]
    Control,
    /// Escapes that are not UTF-8, overlong forms included.
    #[error("the path is not UTF-8")]
    NotUtf8,
    /// Escapes of escapes of escapes.
    #[error("the path is percent-encoded more than {MAX_ROUNDS} times over")]
    TooDeep,
    /// An escaped `/`, `%`, `;`, `?` or `#` outside the one free-text parameter that may hold it.
    #[error("the path has an escaped `/`, `%`, `;`, `?` or `#` where Omni takes none")]
    EscapedSeparator,
}

impl CanonicalPath {
    /// Reads a path as it stands in a request, without its query.
    ///
    /// # Errors
    /// Says why no one reading of it can be agreed on.
    pub fn parse(raw: &str) -> Result<Self, BadPath> {
        if raw.len() > MAX_BYTES {
            return Err(BadPath::TooLong);
        }
        if !raw.starts_with('/') {
            return Err(BadPath::NoSlash);
        }
        let text = canonical(raw)?;
        if text.len() > MAX_BYTES {
            return Err(BadPath::TooLong);
        }
        check_every_form(text.as_bytes())?;
        let escaped_separator = check_separators(&text)?;
        Ok(Self { text: text.into_boxed_str(), escaped_separator })
    }

    /// The canonical form, ASCII throughout.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a free-text parameter in it holds an escaped `/`, `%`, `;`, `?` or `#`.
    pub fn has_escaped_separator(&self) -> bool {
        self.escaped_separator
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// Spells every character in the one way that it has.
fn canonical(raw: &str) -> Result<String, BadPath> {
    let bytes = raw.as_bytes();
    let mut text = String::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let value = escape_at(bytes, at).ok_or(BadPath::BrokenEscape { at })?;
                if is_unreserved(value) {
                    text.push(char::from(value));
                } else {
                    push_escape(&mut text, value);
                }
                at += 3;
                continue;
            }
            b';' => return Err(BadPath::Semicolon),
            b'\\' => return Err(BadPath::Backslash),
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                push_escape(&mut text, byte);
            }
            0..0x20 | 0x7f => return Err(BadPath::Control),
            b' ' | b'?' | b'#' | 0x80.. => return Err(BadPath::Unescaped { at }),
            // What is left of ASCII: unreserved, the slash, `!$&'()*+,=:@`.
            _ => text.push(char::from(byte)),
        }
        at += 1;
    }
    Ok(text)
}

/// Holds the path, and what it becomes each time a server on the way decodes it, to the rules.
fn check_every_form(path: &[u8]) -> Result<(), BadPath> {
    check_form(path)?;
    let Some(mut form) = decode_once(path) else { return Ok(()) };
    for _ in 1..MAX_ROUNDS {
        check_form(&form)?;
        let Some(next) = decode_once(&form) else { return Ok(()) };
        form = next;
    }
    check_form(&form)?;
    if decode_once(&form).is_some() { Err(BadPath::TooDeep) } else { Ok(()) }
}

fn check_form(form: &[u8]) -> Result<(), BadPath> {
    let text = std::str::from_utf8(form).map_err(|_| BadPath::NotUtf8)?;
    if text.contains('\\') {
        return Err(BadPath::Backslash);
    }
    // C1 controls too: U+0085 is a line end to some readers.
    if text.chars().any(char::is_control) {
        return Err(BadPath::Control);
    }
    if text.contains("//") {
        return Err(BadPath::EmptySegment);
    }
    // `..;x=y` is `..` to a server that drops path parameters, and `..?` to one that parses anew.
    let name = |segment: &str| {
        let plain = segment.split([';', '?', '#']).next();
        matches!(plain, Some("." | ".."))
    };
    if text.split('/').any(name) { Err(BadPath::DotSegment) } else { Ok(()) }
}

/// Finds out whether separators are escaped in one free-text parameter; anywhere else is refused.
fn check_separators(text: &str) -> Result<bool, BadPath> {
    let is_one = |segment: &str| {
        segment.match_indices('%').any(|(at, _)| {
            matches!(escape_at(segment.as_bytes(), at), Some(b'/' | b'%' | b';' | b'?' | b'#'))
        })
    };
    let mut with_one = text.split('/').skip(1).enumerate().filter(|(_, segment)| is_one(segment));
    match (with_one.next(), with_one.next()) {
        (None, _) => Ok(false),
        (Some((at, _)), None) if omni::is_free_text(text, at) => Ok(true),
        (Some(_), _) => Err(BadPath::EscapedSeparator),
    }
}

/// Decodes every whole escape once; `None` when there is none.
fn decode_once(form: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(form.len());
    let mut at = 0;
    while let Some(&byte) = form.get(at) {
        match escape_at(form, at) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    (decoded.len() < form.len()).then_some(decoded)
}

/// The byte that the escape at `at` stands for, if one begins there.
fn escape_at(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    match bytes.get(at..at + 3)? {
        [b'%', high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

fn push_escape(text: &mut String, value: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(HEX[usize::from(value >> 4)]));
    text.push(char::from(HEX[usize::from(value & 15)]));
}

/// RFC 3986 §2.3: means the same whether escaped or not.
pub(super) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ok(raw: &str) -> String {
        CanonicalPath::parse(raw).unwrap_or_else(|e| panic!("{raw}: {e}")).as_str().to_owned()
    }

    fn refused(raw: &str) -> BadPath {
        CanonicalPath::parse(raw).err().unwrap_or_else(|| panic!("{raw} was taken"))
    }

    #[test]
    fn plain_paths_stay_as_they_are() {
        for path in ["/", "/api/v1/documents", "/api/scim/v2/Users/", "/a/b.c/~d-_/1", "/a+b/@:,$"]
        {
            assert_eq!(ok(path), path);
        }
    }

    #[test]
    fn one_character_has_one_spelling() {
        assert_eq!(ok("/%61pi/%7Ex%2d"), "/api/~x-");
        assert_eq!(ok("/caf%c3%a9"), "/caf%C3%A9");
        assert_eq!(ok("/a%20b"), "/a%20b");
        assert_eq!(ok("/{\"a\"|b}"), "/%7B%22a%22%7Cb%7D");
    }

    #[test]
    fn what_servers_may_read_apart_stays_apart() {
        assert_eq!(ok("/a+b"), "/a+b");
        assert_eq!(ok("/a%2bb"), "/a%2Bb");
    }

    #[test]
    fn dot_segments_are_refused_however_they_are_spelt() {
        for raw in [
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/%2e%2e/b",
            "/.%2E/b",
            "/%2e",
            "/a/%2E%2e",
            "/api/v1/labels/..%2Fx",
            "/api/v1/labels/x%2F..",
            "/api/v1/labels/%2e%2e%2fx",
            "/api/v1/labels/..%3Bx=y",
            "/api/v1/labels/.%3Ba",
            "/api/v1/labels/%252e%252e",
            "/api/v1/labels/..%3Fa",
            "/api/v1/labels/%25252e",
            "/api/v1/labels/..%23",
        ] {
            assert_eq!(refused(raw), BadPath::DotSegment, "{raw}");
        }
        assert_eq!(ok("/a/.../b"), "/a/.../b");
        assert_eq!(ok("/a/.well-known"), "/a/.well-known");
    }

    #[test]
    fn what_has_no_one_reading_is_refused() {
        use BadPath::*;
        let long = format!("/{}", "a".repeat(MAX_BYTES));
        let growing = format!("/{}", "|".repeat(MAX_BYTES / 2));
        for (raw, why) in [
            ("", NoSlash),
            ("*", NoSlash),
            ("a/b", NoSlash),
            ("//a", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a//", EmptySegment),
            ("/api/v1/labels/a%2F%2Fb", EmptySegment),
            ("/api/v1/labels/%2Fb", EmptySegment),
            ("/a\\b", Backslash),
            ("/a%5Cb", Backslash),
            ("/api/v1/labels/a%255cb", Backslash),
            ("/a%00", Control),
            ("/a%0d%0ab", Control),
            ("/a%7F", Control),
            ("/a\u{7f}", Control),
            ("/a%c2%85b", Control),
            ("/a\tb", Control),
            ("/a b", Unescaped { at: 2 }),
            ("/a?b", Unescaped { at: 2 }),
            ("/a#b", Unescaped { at: 2 }),
            ("/é", Unescaped { at: 1 }),
            ("/a%", BrokenEscape { at: 2 }),
            ("/a%4", BrokenEscape { at: 2 }),
            ("/a%zz", BrokenEscape { at: 2 }),
            ("/%u002e", BrokenEscape { at: 1 }),
            ("/a%+1", BrokenEscape { at: 2 }),
            ("/%c0%ae%c0%ae/a", NotUtf8),
            ("/%e0%80%af", NotUtf8),
            ("/%ed%a0%80", NotUtf8),
            ("/%ff", NotUtf8),
            ("/a;b=c", Semicolon),
            ("/..;/a", Semicolon),
            ("/api/v1/labels/%25252541", TooDeep),
            (&long, TooLong),
            (&growing, TooLong),
        ] {
            assert_eq!(refused(raw), why, "{raw}");
        }
    }

    #[test]
    fn separators_are_escaped_only_in_one_free_text_parameter() {
        for raw in [
            "/api/v1/labels/a%2Fb",
            "/api/v1/labels/100%25",
            "/api/v1/labels/a%3Bb",
            "/api/v1/models/m/branch/feature%2fnew-metrics/merge",
            "/api/v1/labels/Q1%3F",
            "/api/v1/models/m/view/a%2Fb/field/c",
            "/api/v1/labels/50%2520",
            "/API/v1/Labels/a%2Fb/",
        ] {
            assert!(CanonicalPath::parse(raw).unwrap().has_escaped_separator(), "{raw}");
        }
        for raw in [
            "/api%2Fv1/labels/a",
            "/a%2Fb",
            "/a%25",
            "/a%3Bb",
            "/a%3Fb",
            "/a%23b",
            "/a%2541",
            "/api/v1/documents/a%2Fb",
            "/api/v1/models/m%2Fx/branch/b",
            "/api/v1/labels/a%2Fb/c",
            "/api/v1/models/m/view/a%2Fb/field/c%2Fd",
            "/api/v1/labels/a%2Fb/c/",
            "/api/v1/x%2Flabels/a",
        ] {
            assert_eq!(refused(raw), BadPath::EscapedSeparator, "{raw}");
        }
        assert!(!CanonicalPath::parse("/api/v1/labels/a%20b").unwrap().has_escaped_separator());
    }

    #[test]
    fn an_error_repeats_nothing_of_the_path() {
        let error = refused("/omni_osk_secret/../x");
        assert!(!format!("{error} {error:?}").contains("osk"));
    }

    /// Paths made of the pieces that have fooled proxies.
    fn tricky() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("/"),
            Just("."),
            Just(".."),
            Just("%2e"),
            Just("%2E%2e"),
            Just("%252e"),
            Just("%2f"),
            Just("%5c"),
            Just("%25"),
            Just("%"),
            Just(";"),
            Just("%3b"),
            Just("a"),
            Just("%61"),
            Just("%c3%a9"),
            Just("%c0%af"),
            Just("%00"),
            Just("|"),
            Just("+"),
            Just("%2B"),
            Just("?"),
            Just("/api/v1/labels/"),
            Just("/api/v1/models/m/branch/"),
            Just("merge"),
            Just("\""),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    fn likely() -> impl Strategy<Value = String> {
        prop_oneof![
            tricky(),
            tricky().prop_map(|tail| format!("/api/v1/labels/x{}", tail.replacen('/', "", 1))),
            "/[ -~]{0,40}",
            "/\\PC{0,20}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_canonical_path_is_its_own_canonical_form(raw in likely()) {
            if let Ok(once) = CanonicalPath::parse(&raw) {
                prop_assert_eq!(CanonicalPath::parse(once.as_str()), Ok(once));
            }
        }

        #[test]
        fn a_canonical_path_is_sent_as_it_was_matched(raw in likely()) {
            if let Ok(path) = CanonicalPath::parse(&raw) {
                let sent: http::uri::PathAndQuery = path.as_str().parse().unwrap();
                prop_assert_eq!(sent.path(), path.as_str());
                prop_assert!(sent.query().is_none());
            }
        }

        #[test]
        fn no_number_of_decodings_climbs_out(raw in likely()) {
            if let Ok(path) = CanonicalPath::parse(&raw) {
                let mut form = path.as_str().as_bytes().to_vec();
                for _ in 0..10 {
                    let text = String::from_utf8(form.clone()).unwrap();
                    let plain = text.split('/').map(|s| s.split([';', '?', '#']).next().unwrap());
                    prop_assert!(!plain.into_iter().any(|s| s == "." || s == ".."), "{}", text);
                    prop_assert!(!text.contains("//") && !text.contains('\\'));
                    prop_assert!(!text.chars().any(char::is_control));
                    let Some(next) = decode_once(&form) else { break };
                    form = next;
                }
                prop_assert!(decode_once(&form).is_none());
            }
        }

        #[test]
        fn the_first_decoding_is_what_the_caller_meant(raw in likely()) {
            if let Ok(path) = CanonicalPath::parse(&raw) {
                let decoded = |text: &str| decode_once(text.as_bytes()).unwrap_or(text.into());
                prop_assert_eq!(decoded(&raw), decoded(path.as_str()));
            }
        }
    }
}

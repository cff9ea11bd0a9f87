//! What Cache-Control says, in a request and in a response.
//!
//! A field is read twice. What *forbids* (`no-store`, `private`, `no-cache`, …) counts wherever it
//! stands as a whole word: in any case, in quotes, as the argument of something else, in a field
//! that is no list at all; nginx looks for these words in the same way. What *allows*, or gives a
//! time, counts as a well-formed member of the list alone, and a time that cannot be read is the
//! one that has the answer fetched.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CDN_CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName};

/// The longest time that is told apart, 2³¹ s (RFC 9111 §1.2.2).
pub(super) const LONGEST: Duration = Duration::from_secs(1 << 31);

/// Fields for caches of other kinds. They do not speak to us, yet what should not lie in one of
/// those should not lie here either.
const FOR_OTHERS: [HeaderName; 2] =
    [HeaderName::from_static("surrogate-control"), CDN_CACHE_CONTROL];

/// What a request wants of a cache (RFC 9111 §5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Nothing kept before the request arrived will do.
    pub no_cache: bool,
    /// The answer may not be kept.
    pub no_store: bool,
    /// Upstream must not be asked.
    pub only_if_cached: bool,
    /// Nothing older than this will do.
    pub max_age: Option<Duration>,
    /// So long past its lifetime an answer is welcome; `Duration::MAX`: however long.
    pub max_stale: Option<Duration>,
    /// The answer must stay fresh for so long.
    pub min_fresh: Option<Duration>,
}

/// What a response allows a shared cache (RFC 9111 §5.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// It may not be kept, or not for others, or not without asking each time.
    pub(super) forbids: bool,
    /// It may be kept only where its status is understood.
    pub(super) must_understand: bool,
    /// It may not be served past its lifetime.
    pub(super) no_stale: bool,
    /// It is for everybody, whatever its status.
    pub(super) public: bool,
    /// It may be shared although its request brought `Authorization` (§3.5).
    pub(super) for_all: bool,
    /// How long it is fresh, by `s-maxage` or else `max-age`; zero where that cannot be read.
    pub(super) lifetime: Option<Duration>,
}

impl Wishes {
    /// Reads what a request wants; where it does not say so clearly, that its answer is fetched.
    ///
    /// Of several values of one directive the strictest counts. Without `Cache-Control` and
    /// `Pragma` this costs two look-ups.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut wishes = Self::default();
        let mut said = false;
        for field in headers.get_all(CACHE_CONTROL) {
            said = true;
            for word in words(field.as_bytes()) {
                wishes.no_cache |= is(word, "no-cache");
                wishes.no_store |= is(word, "no-store");
            }
            each(field.as_bytes(), |name, argument| wishes.take(name, argument));
        }
        wishes.no_cache |= !said && pragma(headers);
        wishes
    }

    fn take(&mut self, name: &[u8], argument: Argument<'_>) {
        if is(name, "max-age") {
            shortest(&mut self.max_age, argument.seconds().unwrap_or(Duration::ZERO));
        } else if is(name, "max-stale") {
            let any = (argument == Argument::Absent).then_some(Duration::MAX);
            shortest(&mut self.max_stale, any.or(argument.seconds()).unwrap_or(Duration::ZERO));
        } else if is(name, "min-fresh") {
            let asked = argument.seconds().unwrap_or(Duration::MAX);
            self.min_fresh = self.min_fresh.max(Some(asked));
        } else if is(name, "only-if-cached") {
            self.only_if_cached |= argument == Argument::Absent;
        }
    }
}

impl Terms {
    /// Reads what a response allows; of several values of one directive the strictest counts.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut terms = Self::default();
        let (mut shared, mut any_cache, mut said) = (None, None, false);
        for field in headers.get_all(CACHE_CONTROL) {
            said = true;
            words(field.as_bytes()).for_each(|word| terms.heed(word));
            each(field.as_bytes(), |name, argument| {
                let lifetime = argument.seconds();
                if is(name, "s-maxage") {
                    terms.for_all |= lifetime.is_some();
                    shortest(&mut shared, lifetime.unwrap_or(Duration::ZERO));
                } else if is(name, "max-age") {
                    shortest(&mut any_cache, lifetime.unwrap_or(Duration::ZERO));
                } else if argument == Argument::Absent {
                    terms.public |= is(name, "public");
                    terms.for_all |= is(name, "public") || is(name, "must-revalidate");
                }
            });
        }
        for field in FOR_OTHERS.iter().flat_map(|name| headers.get_all(name)) {
            let mut words = words(field.as_bytes());
            terms.forbids |= words.any(|word| is(word, "no-store") || is(word, "private"));
        }
        // What a response means by it is not specified (RFC 9111 §5.4), what its author wants is.
        terms.forbids |= !said && pragma(headers);
        terms.lifetime = shared.or(any_cache);
        terms
    }

    /// Takes a word that forbids something.
    fn heed(&mut self, word: &[u8]) {
        self.forbids |= is(word, "no-store") || is(word, "private") || is(word, "no-cache");
        self.must_understand |= is(word, "must-understand");
        self.no_stale |=
            is(word, "must-revalidate") || is(word, "proxy-revalidate") || is(word, "s-maxage");
    }
}

/// What follows the name of a directive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Argument<'a> {
    Absent,
    /// A token, or what a quoted string holds.
    Text(&'a [u8]),
    Unreadable,
}

impl<'a> Argument<'a> {
    /// What stands between a name and the end of a member.
    fn read(rest: &'a [u8]) -> Self {
        match rest {
            [] => Self::Absent,
            [b'=', b'"', inner @ .., b'"'] if is_quotable(inner) => Self::Text(inner),
            [b'=', token @ ..] if token.iter().all(is_tchar) => Self::Text(token),
            _ => Self::Unreadable,
        }
    }

    /// The time that it gives, if it gives one.
    fn seconds(&self) -> Option<Duration> {
        match self {
            Self::Text(text) => seconds(text),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

/// Calls `take` with each directive of a field, and with each word of what is no directive.
fn each(field: &[u8], mut take: impl FnMut(&[u8], Argument<'_>)) {
    let mut rest = field;
    while !rest.is_empty() {
        let end = end_of_member(rest);
        // An unclosed quote takes everything behind it, and is nothing that can be read.
        let member = rest[..end].trim_ascii();
        rest = rest.get(end + 1..).unwrap_or_default();
        let (name, behind) =
            member.split_at(member.iter().take_while(|byte| is_tchar(byte)).count());
        match Argument::read(behind) {
            Argument::Unreadable => {
                words(member).for_each(|word| take(word, Argument::Unreadable));
            }
            argument => take(name, argument),
        }
    }
}

/// Whole seconds: digits and nothing else, of which too many are `LONGEST`.
pub(super) fn seconds(digits: &[u8]) -> Option<Duration> {
    let add = |sum: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit))
    };
    let sum = digits.iter().try_fold(0, add)?;
    (!digits.is_empty()).then(|| Duration::from_secs(sum).min(LONGEST))
}

/// Where the first comma outside quotes is, or the end.
fn end_of_member(list: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    let ends = |byte: &u8| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return true,
            _ => {}
        }
        false
    };
    list.iter().position(ends).unwrap_or(list.len())
}

/// Whether this can stand between two quotes and leave them two.
fn is_quotable(inner: &[u8]) -> bool {
    let mut escaped = false;
    let closes = |byte: &u8| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    };
    !inner.iter().any(closes) && !escaped
}

/// The words of a field, whatever stands between them.
fn words(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let between = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte != b'-' && *byte != b'_';
    field.split(between).filter(|word| !word.is_empty())
}

fn pragma(headers: &HeaderMap) -> bool {
    headers.get_all(PRAGMA).iter().any(|field| words(field.as_bytes()).any(|w| is(w, "no-cache")))
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

fn is_tchar(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

fn shortest(known: &mut Option<Duration>, said: Duration) {
    *known = Some(known.map_or(said, |known| known.min(said)));
}

#[cfg(test)]
mod tests;

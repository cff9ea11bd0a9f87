//! What a route matches.

use std::borrow::Cow;

use http::Method;

use super::path::{BadPath, CanonicalPath, is_unreserved};

/// A path in matchit's syntax, such as `/api/v1/documents/{identifier}` or `/api/v1/{*rest}`.
///
/// It can be matched: what stands outside its parameters is canonical. ASCII letter case and one
/// trailing slash do not count, neither here nor in a call, because Omni's server ignores them: a
/// call that goes past a route in other letters would be served all the same. A wildcard also takes
/// the empty rest: `/api/{*rest}` takes `/api/` and so `/api`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// What calls are held against.
    folded: String,
    wildcard: bool,
}

/// Why a pattern cannot stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Every path begins with a slash.
    #[error("a path begins with `/`")]
    NoSlash,
    /// A brace without its partner, or no name between them; braces cannot be escaped.
    #[error("a parameter is written `{{name}}`, a wildcard `{{*name}}`")]
    Parameter,
    /// Two parameters in one segment.
    #[error("only one parameter may stand between two slashes")]
    TwoParameters,
    /// A wildcard in the middle, or after other text.
    #[error("a wildcard is the whole last segment, such as `/api/{{*rest}}`")]
    Wildcard,
    /// A character that callers may spell in two ways, so that some calls would go past the route.
    #[error("`{0}` cannot stand outside a parameter: letters, digits and `-._~/` can")]
    Character(char),
    /// The text outside the parameters is no path that ever reaches the router.
    #[error("no call can match it: {0}")]
    Unmatchable(BadPath),
    /// The text outside the parameters is spelt otherwise than calls are.
    #[error("no call can match it: escapes are in upper case, and only where they are needed")]
    Spelling,
}

/// Which methods a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Methods {
    /// All that pass through at all (not CONNECT and TRACE).
    Any,
    /// These; GET brings HEAD along (RFC 9110 §9.1) unless another route of the same path lists it.
    Only(Vec<Method>),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.starts_with('/') {
            return Err(PatternError::NoSlash);
        }
        let plain = with_parameters_as("x", text)?;
        if let Some(odd) = plain
            .chars()
            .find(|&c| !matches!(c, '/' | '%') && !u8::try_from(c).is_ok_and(is_unreserved))
        {
            return Err(PatternError::Character(odd));
        }
        let path = CanonicalPath::parse(&plain).map_err(PatternError::Unmatchable)?;
        if path.as_str() != plain {
            return Err(PatternError::Spelling);
        }
        let folded = fold(text).into_owned();
        // matchit has the last word on its own syntax.
        matchit::Router::new().insert(&folded, ()).map_err(|error| match error {
            matchit::InsertError::InvalidParamSegment => PatternError::TwoParameters,
            matchit::InsertError::InvalidCatchAll => PatternError::Wildcard,
            _ => PatternError::Parameter,
        })?;
        Ok(Self { text: text.to_owned(), folded, wildcard: text.contains("{*") })
    }

    /// The pattern as it stands in the config.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it ends in a wildcard.
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// One path that it takes: its own text, with a plain word in place of each parameter. `None` for
    /// a wildcard, which does not say what it takes.
    pub fn example(&self) -> Option<String> {
        if self.wildcard {
            return None;
        }
        with_parameters_as("x", &self.text).ok()
    }

    /// The pattern that a folded path is held against.
    pub(super) fn folded(&self) -> &str {
        &self.folded
    }

    /// Whether it takes exactly the paths that the other one takes, whatever the parameters' names.
    pub(super) fn same_paths(&self, other: &Self) -> bool {
        let shape = |pattern: &Self| with_parameters_as("{}", &pattern.folded);
        self.wildcard == other.wildcard && shape(self) == shape(other)
    }

    /// For a wildcard, the folded pattern of the empty rest: `/api` for `/api/{*rest}`.
    pub(super) fn empty_rest(&self) -> Option<&str> {
        self.folded.split_once("{*").map(|(before, _)| without_trailing_slash(before))
    }
}

impl Methods {
    /// Whether a route with these methods takes `method`.
    pub fn takes(&self, method: &Method) -> bool {
        if matches!(*method, Method::CONNECT | Method::TRACE) {
            return false;
        }
        match self {
            Self::Any => true,
            Self::Only(methods) => {
                methods.contains(method)
                    || *method == Method::HEAD && methods.contains(&Method::GET)
            }
        }
    }
}

/// A path or pattern as it is matched: in lower case and without a trailing slash.
///
/// The names of parameters are folded along, since nobody asks for them. Escapes are too, on both
/// sides alike, and stay the same escapes.
pub(super) fn fold(text: &str) -> Cow<'_, str> {
    let text = without_trailing_slash(text);
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// The root keeps its slash.
fn without_trailing_slash(path: &str) -> &str {
    path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path)
}

/// The pattern with `mark` in place of each parameter.
fn with_parameters_as(mark: &str, pattern: &str) -> Result<String, PatternError> {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(open) = rest.find(['{', '}']) {
        plain.push_str(&rest[..open]);
        let name = rest[open..].strip_prefix('{').ok_or(PatternError::Parameter)?;
        let close = name.find(['{', '}', '/']).ok_or(PatternError::Parameter)?;
        if !name[close..].starts_with('}') {
            return Err(PatternError::Parameter);
        }
        let after = &name[close + 1..];
        if name.starts_with('*') && !(plain.ends_with('/') && after.is_empty()) {
            return Err(PatternError::Wildcard);
        }
        plain.push_str(mark);
        rest = after;
    }
    plain.push_str(rest);
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_the_reference_stand() {
        for text in [
            "/",
            "/{*rest}",
            "/api/v1/documents",
            "/api/v1/documents/{identifier}",
            "/files/a-{x}.png",
            "/api/v1/{*rest}",
            "/api/scim/v2/Users/",
            "/caf%C3%A9",
            "/a/{b}/c/{d}",
        ] {
            let pattern = Pattern::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(pattern.as_str(), text);
            assert_eq!(pattern.is_wildcard(), text.ends_with("rest}"));
        }
    }

    #[test]
    fn patterns_that_nobody_could_match_are_refused() {
        use PatternError::*;
        for (text, why) in [
            ("", NoSlash),
            ("api", NoSlash),
            ("{*rest}", NoSlash),
            ("/{}", Parameter),
            ("/{*}", Parameter),
            ("/{a", Parameter),
            ("/a}", Parameter),
            ("/{a/b}", Parameter),
            ("/{{a}}", Parameter),
            ("/{a}{b}", TwoParameters),
            ("/{a}-{b}", TwoParameters),
            ("/{*rest}/a", Wildcard),
            ("/a{*rest}", Wildcard),
            ("/{*rest}a", Wildcard),
            ("/a b", Character(' ')),
            ("/é", Character('é')),
            ("/a?b=c", Character('?')),
            ("/a+b", Character('+')),
            ("/a;b", Character(';')),
            ("/a//b", Unmatchable(BadPath::EmptySegment)),
            ("/a/../b", Unmatchable(BadPath::DotSegment)),
            ("/a%2Fb", Unmatchable(BadPath::EscapedSeparator)),
            ("/a%zz", Unmatchable(BadPath::BrokenEscape { at: 2 })),
            ("/caf%c3%a9", Spelling),
            ("/%61", Spelling),
        ] {
            assert_eq!(Pattern::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_fold_has_no_capital_and_no_trailing_slash() {
        for (text, folded) in [
            ("/", "/"),
            ("/A/", "/a"),
            ("/a", "/a"),
            ("/%C3%A9", "/%c3%a9"),
            ("/A/{*R}", "/a/{*r}"),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
        let empty_rest = |text| Pattern::parse(text).unwrap().empty_rest().map(str::to_owned);
        assert_eq!(empty_rest("/{*rest}").as_deref(), Some("/"));
        assert_eq!(empty_rest("/API/{*rest}").as_deref(), Some("/api"));
        assert_eq!(empty_rest("/api/{rest}"), None);
    }

    #[test]
    fn names_of_parameters_do_not_tell_patterns_apart() {
        let same = |a, b| Pattern::parse(a).unwrap().same_paths(&Pattern::parse(b).unwrap());
        assert!(same("/a/{x}/b/{y}", "/a/{longer}/b/{z}"));
        assert!(same("/{*a}", "/{*rest}"));
        assert!(same("/A/{x}/", "/a/{X}"));
        assert!(same("/caf%C3%A9/{*a}", "/CAF%C3%A9/{*b}"));
        assert!(!same("/a/{x}", "/a/x"));
        assert!(!same("/{x}", "/{*x}"));
    }
}

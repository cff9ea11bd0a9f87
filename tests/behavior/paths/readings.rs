//! How servers have been seen to read paths: each of these readings has led somebody around a proxy.

use std::collections::BTreeSet;

/// Whose route a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// The personal token.
    Pat,
    /// The organization key.
    Org,
    /// The key of everything else.
    Rest,
}

/// What a server may do before it looks at a path.
#[derive(Clone, Copy)]
struct Habits {
    backslash_is_slash: bool,
    drops_parameters: bool,
    collapses_slashes: bool,
    cuts_queries: bool,
    ends_at_nul: bool,
    takes_overlong: bool,
}

impl Habits {
    fn all() -> impl Iterator<Item = Self> {
        (0..64u8).map(|bits| {
            let has = |bit: u8| bits >> bit & 1 == 1;
            Self {
                backslash_is_slash: has(0),
                drops_parameters: has(1),
                collapses_slashes: has(2),
                cuts_queries: has(3),
                ends_at_nul: has(4),
                takes_overlong: has(5),
            }
        })
    }
}

/// Everybody to whom a path leads, however it is read.
pub(super) fn owners(path: &[u8]) -> BTreeSet<Owner> {
    let mut found = BTreeSet::new();
    let mut form = path.to_vec();
    for _ in 0..=3 {
        // Where there is nothing odd, all habits come to the same.
        let is_odd = |byte: &u8| b"\\;?#\0".contains(byte) || *byte >= 0x80;
        let odd = form.iter().any(is_odd) || form.windows(2).any(|two| two == b"//");
        for habits in Habits::all().take(if odd { usize::MAX } else { 1 }) {
            found.insert(owner(&read(&form, habits)));
        }
        let next = decoded(&form);
        if next == form {
            break;
        }
        form = next;
    }
    found
}

/// Every whole escape, decoded once.
pub(super) fn decoded(path: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        rest = after;
        let value = match after {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match value {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = &after[2..];
            }
            None => out.push(*first),
        }
    }
    out
}

fn read(form: &[u8], habits: Habits) -> Vec<u8> {
    let mut form = form.to_vec();
    if habits.takes_overlong {
        for (long, byte) in [
            (&b"\xc0\xae"[..], b'.'),
            (b"\xe0\x80\xae", b'.'),
            (b"\xc0\xaf", b'/'),
            (b"\xe0\x80\xaf", b'/'),
            (b"\xc1\x9c", b'\\'),
        ] {
            form = replaced(&form, long, byte);
        }
    }
    let mut cut_at = |ends: &[u8]| {
        let end = form.iter().position(|byte| ends.contains(byte));
        form.truncate(end.unwrap_or(form.len()));
    };
    if habits.cuts_queries {
        cut_at(b"?#");
    }
    if habits.ends_at_nul {
        cut_at(b"\0");
    }
    if habits.backslash_is_slash {
        form = replaced(&form, b"\\", b'/');
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in form.split(|byte| *byte == b'/').skip(1) {
        let plain = match segment.iter().position(|byte| *byte == b';') {
            Some(at) if habits.drops_parameters => &segment[..at],
            _ => segment,
        };
        match plain {
            b"." => {}
            b".." => {
                segments.pop();
            }
            b"" if habits.collapses_slashes => {}
            other => segments.push(other),
        }
    }
    let joined = segments.join(&b'/');
    [b"/", &*joined].concat().to_ascii_lowercase()
}

fn replaced(form: &[u8], long: &[u8], byte: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(form.len());
    let mut rest = form;
    while let [first, after @ ..] = rest {
        match rest.strip_prefix(long) {
            Some(after) => {
                out.push(byte);
                rest = after;
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// The routes of the house, told by prefixes alone.
fn owner(reading: &[u8]) -> Owner {
    let mut path = reading;
    while let [shorter @ .., b'/'] = path {
        path = shorter;
    }
    let under = |prefix: &[u8]| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    if under(b"/api/v1/users") || under(b"/api/scim") {
        Owner::Org
    } else if under(b"/api/v1/documents") {
        Owner::Pat
    } else {
        Owner::Rest
    }
}

#[test]
fn the_readings_would_notice_each_trick() {
    for (path, trick) in [
        ("/api/v1/documents/../users/1", "dot segments"),
        ("/api/v1/documents/%2e%2e/users/1", "escaped ones"),
        ("/api/v1/documents/%25252e%25252e/users/1", "thrice escaped ones"),
        ("/api/v1/documents/..;x=y/users/1", "parameters"),
        ("/api/v1/documents/..%3bx/users/1", "escaped parameters"),
        ("/api/v1/documents/..\\users/1", "backslashes"),
        ("/api/v1/documents/..%5cusers/1", "escaped backslashes"),
        ("/api/v1/documents/%c0%ae%c0%ae/users/1", "overlong dots"),
        ("/api/v1/documents/..%e0%80%afusers/1", "overlong slashes"),
        ("/x/..//api/v1/USERS/1", "two slashes"),
        ("/api/v1/documents/..%23/users/1", "fragments"),
        ("/api/v1/documents/..%00/x/../../users", "NUL"),
    ] {
        let matched = BTreeSet::from([owner(path.as_bytes())]);
        assert_ne!(owners(path.as_bytes()), matched, "{trick}");
    }
    for (path, one) in [
        ("/api/v1/documents/x", Owner::Pat),
        ("/API/v1/Users/", Owner::Org),
        ("/api/v1/folders", Owner::Rest),
        ("/api/v1/labels/a%2Fb", Owner::Rest),
    ] {
        assert_eq!(owners(path.as_bytes()), BTreeSet::from([one]), "{path}");
    }
}

//! A URL as a span may show it: what has the form of a key is blotted out, and so is every value of a
//! query, which may be a filter, a user's id or a cursor.

use percent_encoding::percent_decode_str;

use super::words::REDACTED;
use crate::omni;

/// The most that is shown of a path or a query.
const MOST: usize = 512;

/// A name of a query's field that is shown: longer ones, and those with other characters, may be values.
const MOST_OF_A_NAME: usize = 40;

/// A path, its segments without keys.
pub(super) fn path(path: &str) -> String {
    // Nearly all of them.
    if path.len() <= MOST && !path.contains('%') && !has_key(path) {
        return path.to_owned();
    }
    let shown: Vec<&str> =
        path.split('/').map(|segment| if is_key(segment) { REDACTED } else { segment }).collect();
    short(shown.join("/"))
}

/// The names of a query, without its values.
pub(super) fn query(query: &str) -> String {
    let shown: Vec<String> = query
        .split('&')
        .map(|field| {
            let name = field.split_once('=').map_or(field, |(name, _)| name);
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.[]".contains(&byte);
            let is_plain = name.len() <= MOST_OF_A_NAME && name.bytes().all(plain);
            let name = if is_plain && !has_key(name) { name } else { REDACTED };
            // A word alone may be a value.
            if field.contains('=') { format!("{name}={REDACTED}") } else { redacted(field) }
        })
        .collect();
    short(shown.join("&"))
}

/// Nothing stays nothing.
fn redacted(text: &str) -> String {
    if text.is_empty() { String::new() } else { REDACTED.to_owned() }
}

/// Also one that is only a part of a segment, or stands there percent-encoded.
fn is_key(segment: &str) -> bool {
    has_key(segment)
        || segment.contains('%') && has_key(&percent_decode_str(segment).decode_utf8_lossy())
}

/// In whatever case: somebody may have changed it on the way.
fn has_key(text: &str) -> bool {
    let prefix = omni::TOKEN_PREFIX.as_bytes();
    text.as_bytes().windows(prefix.len()).any(|part| part.eq_ignore_ascii_case(prefix))
}

fn short(mut text: String) -> String {
    if let Some((cut, _)) = text.char_indices().find(|(index, _)| *index >= MOST) {
        text.truncate(cut);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "omni_osk_PLANTED0q7Zk3mT9xW2bV8nR5cY1aD4eF6gH7iJ0kL2oP5sU8tX";

    #[test]
    fn a_query_shows_what_was_asked_by_and_no_value() {
        for (said, shown) in [
            ("userId=7&pageSize=20", "userId=REDACTED&pageSize=REDACTED"),
            ("flag&a[b]=", "REDACTED&a[b]=REDACTED"),
            (&format!("{KEY}=1&x={KEY}"), "REDACTED=REDACTED&x=REDACTED"),
            (KEY, "REDACTED"),
            ("a%3Db", "REDACTED"),
            ("", ""),
        ] {
            assert_eq!(query(said), shown);
        }
        assert_eq!(query(&"a=b&".repeat(1_000)).len(), MOST);
    }

    #[test]
    fn a_path_shows_everything_but_keys() {
        for (said, shown) in [
            ("/api/v1/documents/1f2e", "/api/v1/documents/1f2e".to_owned()),
            (&format!("/a/{KEY}/b"), "/a/REDACTED/b".to_owned()),
            (&format!("/a/x{KEY}y"), "/a/REDACTED".to_owned()),
            (&format!("/a/{}", KEY.replace('_', "%5F")), "/a/REDACTED".to_owned()),
            ("/100%/%zz/é", "/100%/%zz/é".to_owned()),
        ] {
            assert_eq!(path(said), shown);
        }
        assert!(path(&"/é".repeat(2_000)).len() <= MOST + 2);
    }
}

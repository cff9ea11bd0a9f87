//! Which questions are the same.

use std::fmt;

use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};

use crate::base::CredentialId;

/// A question about a job.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The keys that it may go with.
    pub keys: &'a [&'a CredentialId],
    /// The canonical path.
    pub path: &'a str,
    /// The query, to the byte.
    pub query: Option<&'a str>,
    /// For whom it acts.
    pub acts_for: Option<&'a HeaderValue>,
}

/// What a question is about: two that have the same one ask for the same. A digest, so that it is as
/// small for a long query.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Subject([u8; 32]);

/// How a question is put. Two about one subject that are alike have the same answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Likeness([u8; 32]);

impl Subject {
    /// Of a question.
    pub fn of(question: &Question<'_>) -> Self {
        let mut digest = Sha256::new();
        let Question { keys, path, query, acts_for } = *question;
        for key in keys {
            part(&mut digest, Some(key.as_str().as_bytes()));
        }
        part(&mut digest, None);
        part(&mut digest, Some(path.as_bytes()));
        part(&mut digest, query.map(str::as_bytes));
        part(&mut digest, acts_for.map(HeaderValue::as_bytes));
        Self(digest.finalize().into())
    }
}

impl Likeness {
    /// Of the fields that go to Omni and by which answers may differ.
    pub fn of(fields: &HeaderMap) -> Self {
        let mut names: Vec<&str> = fields.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        let mut digest = Sha256::new();
        for name in names {
            part(&mut digest, Some(name.as_bytes()));
            for value in fields.get_all(name) {
                part(&mut digest, Some(value.as_bytes()));
            }
            part(&mut digest, None);
        }
        Self(digest.finalize().into())
    }
}

/// Puts a part in so that where it ends is part of it, and none is another than an empty one.
fn part(digest: &mut Sha256, bytes: Option<&[u8]>) {
    match bytes {
        None => digest.update([0]),
        Some(bytes) => {
            digest.update([1]);
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subject(…)")
    }
}

impl fmt::Debug for Likeness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Likeness(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(keys: &[&str], path: &str, query: Option<&str>, member: Option<&str>) -> Subject {
        let keys: Vec<CredentialId> = keys.iter().map(|key| CredentialId::new(*key)).collect();
        let acts_for = member.map(|member| HeaderValue::from_str(member).unwrap());
        let acts_for = acts_for.as_ref();
        let keys: Vec<&CredentialId> = keys.iter().collect();
        Subject::of(&Question { keys: &keys, path, query, acts_for })
    }

    #[test]
    fn key_path_query_and_member_tell_questions_apart() {
        let all = [
            subject(&["org"], "/a", None, None),
            subject(&["two"], "/a", None, None),
            subject(&["org", "two"], "/a", None, None),
            subject(&["org"], "/b", None, None),
            subject(&["org"], "/a", Some(""), None),
            subject(&["org"], "/a", Some("q"), None),
            subject(&["org"], "/a", None, Some("q")),
            subject(&["org"], "/a", None, Some("")),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == one), Some(at));
        }
        assert!(subject(&["org"], "/a", None, None) == all[0]);
    }

    #[test]
    fn the_order_of_different_fields_does_not_count_and_that_of_one_does() {
        let of = |fields: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(*name, HeaderValue::from_static(value));
            }
            Likeness::of(&map)
        };
        assert!(of(&[("a", "1"), ("b", "2")]) == of(&[("b", "2"), ("a", "1")]));
        assert!(of(&[("a", "1"), ("a", "2")]) != of(&[("a", "2"), ("a", "1")]));
        assert!(of(&[("a", "12")]) != of(&[("a", "1"), ("a", "2")]));
        assert!(of(&[("a", "")]) != of(&[]));
    }
}

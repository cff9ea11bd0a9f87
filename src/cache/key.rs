//! What an answer is kept under: everything that decides what it says.

use std::fmt;
use std::iter::repeat_n;
use std::sync::Arc;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::base::CredentialId;

/// What an answer is kept under. Two questions have the same key only when they are the same
/// question.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Arc<[u8]>);

/// A GET that may be answered from what is kept.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Name and generation of the credential, or of each of a pool. Another value of a key may
    /// belong to another user, who sees other rows.
    pub keys: &'a [(&'a CredentialId, u64)],
    /// The canonical path.
    pub path: &'a str,
    /// The query byte for byte, since cursors are opaque. An empty one differs from none.
    pub query: Option<&'a str>,
    /// For whom the call acts.
    pub acts_for: Option<&'a HeaderValue>,
    /// The request's fields, of which `Accept` counts, and those that `vary` names.
    pub fields: &'a HeaderMap,
    /// What else the route says that answers differ by.
    pub vary: &'a [HeaderName],
}

/// What follows in a key. A base key is complete in itself, so what is added to it cannot be read
/// as a part of it.
#[derive(Clone, Copy)]
enum Added {
    Some = 1,
    All = 2,
}

type Out<'o> = &'o mut dyn FnMut(&[u8]);

impl Key {
    /// The key of a question.
    pub fn of(question: &Question<'_>) -> Self {
        Self::made(&|out| {
            count(out, question.keys.len());
            for (name, generation) in question.keys {
                part(out, name.as_str().as_bytes());
                out(&generation.to_le_bytes());
            }
            part(out, question.path.as_bytes());
            option(out, question.query.map(str::as_bytes));
            option(out, question.acts_for.map(HeaderValue::as_bytes));
            field(out, question.fields, &ACCEPT);
            count(out, question.vary.len());
            for name in question.vary {
                field(out, question.fields, name);
            }
        })
    }

    /// The key of the variant for a request with these fields, where answers differ by `names`.
    pub fn with(&self, fields: &HeaderMap, names: &[HeaderName]) -> Self {
        self.added(Added::Some, fields, names)
    }

    /// The key of a request with exactly these fields, whatever answers differ by.
    pub fn with_all(&self, fields: &HeaderMap) -> Self {
        let mut names: Vec<&HeaderName> = fields.keys().collect();
        names.sort_unstable_by_key(|name| name.as_str());
        self.added(Added::All, fields, &names)
    }

    /// How many bytes it occupies on the heap.
    pub(super) fn size(&self) -> usize {
        self.0.len()
    }

    fn added<N: AsRef<str>>(&self, added: Added, fields: &HeaderMap, names: &[N]) -> Self {
        Self::made(&|out| {
            out(&self.0);
            out(&[added as u8]);
            count(out, names.len());
            for name in names {
                field(out, fields, name.as_ref());
            }
        })
    }

    /// Puts the parts into one allocation: they are told twice, to be counted and to be copied.
    fn made(parts: &dyn Fn(Out<'_>)) -> Self {
        let mut length = 0;
        parts(&mut |part| length += part.len());
        let mut bytes: Arc<[u8]> = repeat_n(0, length).collect();
        // Nobody else has it yet.
        let mut rest = Arc::get_mut(&mut bytes).unwrap_or_default();
        parts(&mut |part| {
            let (here, after) = std::mem::take(&mut rest).split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        });
        Self(bytes)
    }
}

/// Fields and paths are far shorter than 4 GiB.
fn count(out: Out<'_>, number: usize) {
    out(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn part(out: Out<'_>, bytes: &[u8]) {
    count(out, bytes.len());
    out(bytes);
}

fn option(out: Out<'_>, bytes: Option<&[u8]>) {
    out(&[u8::from(bytes.is_some())]);
    part(out, bytes.unwrap_or_default());
}

fn field(out: Out<'_>, fields: &HeaderMap, name: impl AsRef<str>) {
    let name = name.as_ref();
    part(out, name.as_bytes());
    let values = fields.get_all(name);
    count(out, values.iter().count());
    values.iter().for_each(|value| part(out, value.as_bytes()));
}

/// Only the length: a query may hold names.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT_LANGUAGE, COOKIE};
    use proptest::prelude::*;

    use super::*;

    /// A question that owns its parts; equal ones must have equal keys, others must not.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Owned {
        keys: Vec<(String, u64)>,
        path: String,
        query: Option<String>,
        acts_for: Option<String>,
        accept: Vec<String>,
        vary: Vec<(String, Vec<String>)>,
    }

    impl Owned {
        fn key(&self) -> Key {
            let ids: Vec<_> = self.keys.iter().map(|(id, _)| CredentialId::new(&**id)).collect();
            let keys: Vec<_> = ids.iter().zip(self.keys.iter().map(|(_, of)| *of)).collect();
            let acts_for = self.acts_for.as_deref().map(|one| one.parse().unwrap());
            let names: Vec<HeaderName> =
                self.vary.iter().map(|(name, _)| name.parse().unwrap()).collect();
            Key::of(&Question {
                keys: &keys,
                path: &self.path,
                query: self.query.as_deref(),
                acts_for: acts_for.as_ref(),
                fields: &self.fields(),
                vary: &names,
            })
        }

        fn fields(&self) -> HeaderMap {
            let mut fields = HeaderMap::new();
            let accept = ("accept".to_owned(), self.accept.clone());
            for (name, values) in self.vary.iter().chain([&accept]) {
                for value in values {
                    let name: HeaderName = name.parse().unwrap();
                    fields.append(name, value.parse().unwrap());
                }
            }
            fields
        }
    }

    /// Parts of few letters, so that questions are often nearly the same.
    fn owned() -> impl Strategy<Value = Owned> {
        let text = || "[a0,]{0,3}";
        let values = || prop::collection::vec(text(), 0..3);
        let vary = prop::collection::btree_map("x-[ab]{1,2}", values(), 0..3);
        (
            prop::collection::vec((text(), 0..2u64), 0..3),
            text(),
            prop::option::of(text()),
            prop::option::of(text()),
            values(),
            vary,
        )
            .prop_map(|(keys, path, query, acts_for, accept, vary)| {
                let vary = vary.into_iter().collect();
                Owned { keys, path, query, acts_for, accept, vary }
            })
    }

    fn fields(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            fields.append(name, HeaderValue::from_static(value));
        }
        fields
    }

    fn plain() -> Owned {
        let keys = vec![("org".to_owned(), 1)];
        let path = "/api/v1/documents".to_owned();
        let (accept, vary) = (Vec::new(), Vec::new());
        Owned { keys, path, query: None, acts_for: None, accept, vary }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn different_questions_have_different_keys(one in owned(), other in owned()) {
            prop_assert_eq!(one == other, one.key() == other.key());
            prop_assert_eq!(one.key(), one.clone().key());
        }

        #[test]
        fn different_variants_have_different_keys(
            base in owned(), one in owned(), other in owned(), named in 0..3usize,
        ) {
            let names = [ACCEPT, HeaderName::from_static("x-a"), HeaderName::from_static("x-b")];
            let (base, names) = (base.key(), &names[..named]);
            let (one, other) = (one.fields(), other.fields());
            let same = names.iter().all(|name| {
                one.get_all(name).iter().eq(other.get_all(name).iter())
            });
            prop_assert_eq!(same, base.with(&one, names) == base.with(&other, names));
            prop_assert_eq!(one == other, base.with_all(&one) == base.with_all(&other));
            prop_assert_ne!(base.with_all(&one), base.with(&one, names));
            prop_assert_ne!(base.with(&one, names), base);
        }

        #[test]
        fn a_variant_is_no_other_question(base in owned(), other in owned(), one in owned()) {
            let names = [ACCEPT];
            prop_assert_ne!(base.key().with(&one.fields(), &names), other.key());
            prop_assert_ne!(base.key().with_all(&one.fields()), other.key());
        }
    }

    #[test]
    fn every_part_counts() {
        let plain = plain();
        let mut others = vec![plain.clone(); 6];
        others[0].keys[0].1 = 2;
        others[1].keys[0].0 = "batch".to_owned();
        others[2].path.push('/');
        others[3].query = Some(String::new());
        others[4].acts_for = Some("user".to_owned());
        others[5].accept = vec!["application/json".to_owned()];
        for other in others {
            assert_ne!(other.key(), plain.key(), "{other:?}");
        }
    }

    #[test]
    fn fields_that_nobody_named_do_not_count() {
        let id = CredentialId::new("org");
        let key = |fields: &HeaderMap| {
            let (keys, path, vary) = (&[(&id, 1)][..], "/a", &[ACCEPT_LANGUAGE][..]);
            Key::of(&Question { keys, path, query: None, acts_for: None, fields, vary })
        };
        let german = fields(&[(ACCEPT_LANGUAGE, "de")]);
        assert_eq!(key(&german), key(&fields(&[(ACCEPT_LANGUAGE, "de"), (COOKIE, "a=b")])));
        assert_ne!(key(&german), key(&fields(&[(ACCEPT_LANGUAGE, "en")])));
        assert_ne!(key(&german), key(&HeaderMap::new()));
    }

    #[test]
    fn the_order_of_fields_does_not_count() {
        let base = plain().key();
        let one = fields(&[(COOKIE, "a"), (ACCEPT, "b")]);
        let other = fields(&[(ACCEPT, "b"), (COOKIE, "a")]);
        assert_eq!(base.with_all(&one), base.with_all(&other));
    }

    #[test]
    fn a_key_shows_only_its_length() {
        let mut question = plain();
        question.query = Some("name=Ada".to_owned());
        let shown = format!("{:?}", question.key());
        assert!(shown.starts_with("Key(") && shown.ends_with(" bytes)"), "{shown}");
    }
}

//! What an answer is kept under: everything that decides what it says.

use std::fmt;
use std::iter::repeat_n;
use std::sync::Arc;

use http::header::{ACCEPT, ACCEPT_LANGUAGE};
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
    /// What means the same is the same here: several lines of a field and one with all members, and
    /// blanks around commas (RFC 9111 §4.1).
    pub fn with(&self, fields: &HeaderMap, names: &[HeaderName]) -> Self {
        let values: Vec<Option<Vec<u8>>> = names.iter().map(|name| normal(fields, name)).collect();
        self.added(Added::Some, names.len(), &|out| {
            for (name, value) in names.iter().zip(&values) {
                part(out, name.as_str().as_bytes());
                option(out, value.as_deref());
            }
        })
    }

    /// The key of a request with exactly these fields, whatever answers differ by.
    pub fn with_all(&self, fields: &HeaderMap) -> Self {
        let mut names: Vec<&HeaderName> = fields.keys().collect();
        names.sort_unstable_by_key(|name| name.as_str());
        self.added(Added::All, names.len(), &|out| {
            names.iter().for_each(|name| field(out, fields, name));
        })
    }

    /// How many bytes it occupies on the heap.
    pub(super) fn size(&self) -> usize {
        self.0.len()
    }

    fn added(&self, added: Added, number: usize, more: &dyn Fn(Out<'_>)) -> Self {
        Self::made(&|out| {
            out(&self.0);
            out(&[added as u8]);
            count(out, number);
            more(out);
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

/// All lines of a field as one, without the blanks that mean nothing. Language tags have no letter
/// case (RFC 5646 §2.1.1); their order is left, since some servers prefer the first of equals.
fn normal(fields: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let first = lines.first()?;
    let mut value = Vec::with_capacity(first.len());
    let (mut quoted, mut escaped) = (false, false);
    for byte in lines.join(&b","[..]) {
        let blank = matches!(byte, b' ' | b'\t') && !quoted;
        if byte == b',' && !quoted {
            value.truncate(value.trim_ascii_end().len());
        }
        if !(blank && matches!(value.last(), None | Some(b','))) {
            value.push(byte);
        }
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && quoted && !escaped;
    }
    value.truncate(value.trim_ascii_end().len());
    if *name == ACCEPT_LANGUAGE {
        value.make_ascii_lowercase();
    }
    Some(value)
}

/// Only the length: a query may hold names.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;
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
            // Several lines are one list.
            let joined = |fields: &HeaderMap, name: &HeaderName| {
                let lines: Vec<_> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                (!lines.is_empty()).then(|| lines.join(&b","[..]))
            };
            let same = names.iter().all(|name| joined(&one, name) == joined(&other, name));
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
    fn a_variant_is_told_by_what_its_fields_mean() {
        let (base, foo) = (plain().key(), HeaderName::from_static("foo"));
        let key = |lines: &[&'static str]| {
            let all: Vec<_> = lines.iter().map(|line| (foo.clone(), *line)).collect();
            base.with(&fields(&all), std::slice::from_ref(&foo))
        };
        for same in [&["1,2"][..], &["1 ,\t2 "], &["1", "2"], &["1", " 2"]] {
            assert_eq!(key(same), key(&["1, 2"]), "{same:?}");
        }
        for (one, other) in [
            (&["1, 2"][..], &["2, 1"][..]),
            (&["1 2"], &["12"]),
            (&["\"1, 2\""], &["\"1,2\""]),
            (&["\"\\\" , \""], &["\"\\\",\""]),
            (&["a"], &["A"]),
            (&[""], &[]),
            (&["", ""], &[""]),
        ] {
            assert_ne!(key(one), key(other), "{one:?} {other:?}");
        }
        let language = |text| base.with(&fields(&[(ACCEPT_LANGUAGE, text)]), &[ACCEPT_LANGUAGE]);
        assert_eq!(language("en-US, DE"), language("en-us,de"));
        assert_ne!(language("en, de"), language("de, en"));
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

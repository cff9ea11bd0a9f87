//! For whom a call would act by its JSON body.
//!
//! Six of Omni's endpoints take a `userId` there. What upstream's parser makes of a body must be what
//! is read here, so whatever two parsers might read in two ways is refused: another media type or
//! charset, bytes that are not UTF-8 (a byte order mark included), more than one document, lone
//! surrogates, numbers beyond an `f64`, and nesting that is too deep for a parser that recurses.
//!
//! **Where a name counts.** Omni reads `userId` from the top of the body; there, any name counts in
//! which `userId` is a word, in any letter case and however it is escaped (`userId[]`, `a.userId`:
//! parsers that take dots and brackets for paths make a top-level name of them). Further down it is
//! somebody's own word: the `query` of `query/run` has filters and fields that are named after the
//! columns of a model, `userId` among them. The one way up from there is JavaScript's: an object that
//! is merged into another with `__proto__` or `constructor.prototype` in it gives that, or every,
//! object its members. No query needs those names, so they are refused at any depth, as Fastify's
//! parser does (secure-json-parse).

use std::fmt;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::impersonation::{Membership, USER_ID, WrongUser, may_be_user_id};

/// Why it cannot be told for whom a body would have its call act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// A form, no type at all, several, or a charset of its own.
    #[error("send it as `Content-Type: application/json`, in UTF-8, with that field once")]
    MediaType,
    /// Bytes that no UTF-8 text has.
    #[error("send it in UTF-8")]
    NotUtf8,
    /// Not one JSON document, or one that some parsers do not read.
    #[error("send one JSON object, nested less than 128 deep, with nothing before or after it")]
    NotJson,
    /// A name with which JavaScript gives all objects members.
    #[error("leave out `__proto__` and `constructor.prototype`")]
    Prototype,
}

/// What has to be found out about a call's body before the call may be made.
#[derive(Clone, Copy, Debug)]
pub struct Inspection<'a> {
    /// The one member for whom the call may act.
    member: Option<&'a Membership>,
    /// Whether the query names the member already. Omni refuses it in both.
    by_query: bool,
    /// Whether the fields say that it is JSON.
    is_json: bool,
}

impl<'a> Inspection<'a> {
    pub(super) fn new(member: Option<&'a Membership>, by_query: bool, headers: &HeaderMap) -> Self {
        Self { member, by_query, is_json: is_json(headers) }
    }

    /// Looks into the whole body.
    ///
    /// # Errors
    /// The call would act for somebody for whom it must not, or nobody can tell.
    pub fn check(&self, body: &[u8]) -> Result<(), WrongUser> {
        let named = match body {
            [] => Named::default(),
            _ if !self.is_json => return Err(Unread::MediaType.into()),
            _ => Named::read(body, self.member.map(Membership::as_bytes))?,
        };
        match (self.member, self.by_query, named.times) {
            (None, _, 0) | (Some(_), true, 0) => Ok(()),
            (None, _, _) => Err(WrongUser::Body),
            (Some(_), false, 1) if named.member => Ok(()),
            (Some(_), false, 0) if body.is_empty() => Err(WrongUser::NotPinnedQuery),
            (Some(_), _, _) => Err(WrongUser::NotPinnedBody),
        }
    }
}

/// Whether the fields say `application/json`, once, and no other charset than UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(value) = value.to_str() else { return false };
    let mut parts = value.split(';').map(str::trim);
    let is_type = parts.next().is_some_and(|it| it.eq_ignore_ascii_case("application/json"));
    let mut charset = parts.next();
    if charset.is_some_and(str::is_empty) {
        charset = None;
    }
    is_type && parts.next().is_none() && charset.is_none_or(is_utf8)
}

fn is_utf8(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let value = quoted.unwrap_or(value);
    let utf8 = ["utf-8", "utf8"].iter().any(|one| one.eq_ignore_ascii_case(value));
    name.eq_ignore_ascii_case("charset") && utf8
}

/// Whom a body names.
#[derive(Debug, Default)]
struct Named {
    /// How many names there are for a user, to any parser.
    times: usize,
    /// Whether one is spelt as Omni spells it, and has the member's id as its value.
    member: bool,
}

impl Named {
    fn read(body: &[u8], member: Option<&[u8]>) -> Result<Self, Unread> {
        let text = std::str::from_utf8(body).map_err(|_| Unread::NotUtf8)?;
        let mut found = Found { named: Self::default(), member, prototype: false };
        let mut json = serde_json::Deserializer::from_str(text);
        let walked = Walk { found: &mut found, place: Place::Top }.deserialize(&mut json);
        match walked.and_then(|()| json.end()) {
            Ok(()) => Ok(found.named),
            Err(_) if found.prototype => Err(Unread::Prototype),
            Err(_) => Err(Unread::NotJson),
        }
    }
}

/// What is known while the document is walked through.
struct Found<'a> {
    named: Named,
    member: Option<&'a [u8]>,
    prototype: bool,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The document itself, which must be an object.
    Top,
    /// The value of a `constructor`.
    Constructor,
    /// The value of a plain `userId` at the top.
    UserId,
    Elsewhere,
}

/// Walks through a value and builds nothing of it.
struct Walk<'f, 'a> {
    found: &'f mut Found<'a>,
    place: Place,
}

impl Walk<'_, '_> {
    fn scalar<E: Error>(self) -> Result<(), E> {
        match self.place {
            Place::Top => Err(E::custom("not an object")),
            Place::Constructor | Place::UserId | Place::Elsewhere => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.scalar()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.scalar()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.scalar()
    }

    /// A string with an escape in it.
    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.scalar()
    }

    /// A string that stands in the document as it is.
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        if self.place == Place::UserId && self.found.member == Some(text.as_bytes()) {
            self.found.named.member = true;
        }
        self.scalar()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if self.place == Place::Top {
            return Err(A::Error::custom("not an object"));
        }
        let Self { found, .. } = self;
        while items.next_element_seed(Walk { found, place: Place::Elsewhere })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { found, place } = self;
        while let Some(name) = members.next_key_seed(Name { place })? {
            let place = match name {
                Spelt::Prototype => {
                    found.prototype = true;
                    return Err(A::Error::custom("a prototype"));
                }
                Spelt::User { plainly } => {
                    found.named.times += 1;
                    if plainly { Place::UserId } else { Place::Elsewhere }
                }
                Spelt::Constructor => Place::Constructor,
                Spelt::Other => Place::Elsewhere,
            };
            members.next_value_seed(Walk { found, place })?;
        }
        Ok(())
    }
}

/// What a member's name says.
enum Spelt {
    User { plainly: bool },
    Constructor,
    Prototype,
    Other,
}

/// Reads the name of a member of an object that stands at this place.
struct Name {
    place: Place,
}

impl Name {
    fn read(self, name: &str, escaped: bool) -> Spelt {
        if name.contains("__proto__") || self.place == Place::Constructor && name == "prototype" {
            return Spelt::Prototype;
        }
        match name {
            "constructor" => Spelt::Constructor,
            _ if self.place == Place::Top && may_be_user_id(name) => {
                Spelt::User { plainly: name == USER_ID && !escaped }
            }
            _ => Spelt::Other,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Spelt;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<Spelt, D::Error> {
        name.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Spelt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Spelt, E> {
        Ok(self.read(name, true))
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Spelt, E> {
        Ok(self.read(name, false))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const MEMBER: &str = "9f1c2d3e-0a1b-4c5d-8e9f-001122334455";

    fn typed(types: &[&str]) -> HeaderMap {
        let value = |text: &&str| HeaderValue::try_from(*text).unwrap();
        types.iter().map(|one| (CONTENT_TYPE, value(one))).collect()
    }

    fn denied(body: &[u8]) -> Result<(), WrongUser> {
        Inspection::new(None, false, &typed(&["application/json"])).check(body)
    }

    fn pinned(by_query: bool, body: &str) -> Result<(), WrongUser> {
        let member = Membership::parse(MEMBER).unwrap();
        Inspection::new(Some(&member), by_query, &typed(&["application/json"]))
            .check(body.as_bytes())
    }

    fn unread(why: Unread) -> Result<(), WrongUser> {
        Err(WrongUser::Unread(why))
    }

    #[test]
    fn no_spelling_of_user_id_passes_where_it_is_denied() {
        for name in [
            "userId",
            "userid",
            "USERID",
            r"user\u0049d",
            r"\u0075\u0073\u0065\u0072\u0049\u0064",
            "user%49d",
            "userId[]",
            "[userId]",
            "a[userId]",
            "userId.x",
            "a.userId",
            " userId",
            r"userId\u0000",
            r"\ufeffuserId",
            "u\u{17f}erId",
            "user\u{131}d",
        ] {
            for value in ["7", "null", "\"\"", "[\"7\"]", "{\"$ne\":1}", "\"x\""] {
                let body = format!("{{\"a\":{{}},\"{name}\" : {value}}}");
                assert_eq!(denied(body.as_bytes()), Err(WrongUser::Body), "{body}");
                let body = format!("{{\"{name}\":1,\"b\":[1.5e3,-2,true,{{\"c\":{value}}}]}}");
                assert_eq!(denied(body.as_bytes()), Err(WrongUser::Body), "{body}");
            }
        }
    }

    #[test]
    fn what_two_parsers_may_read_in_two_ways_is_refused() {
        for body in [
            "\u{feff}{}",
            "{} {}",
            "{}\0",
            "{}x",
            "{'a':1}",
            "{a:1}",
            "{\"a\":1,}",
            "{/**/}",
            "[]",
            "[{\"userId\":7}]",
            "\"userId=7\"",
            "null",
            "7",
            "userId=7",
            " ",
            "{\"a\":NaN}",
            "{\"a\":01}",
            "{\"a\":1e999}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\\x41\"}",
            "{\"\\ud800\":1}",
            "{\"a\":1",
            &format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200)),
            &format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)),
        ] {
            let short: String = body.chars().take(40).collect();
            assert_eq!(denied(body.as_bytes()), unread(Unread::NotJson), "{short}");
        }
        let utf16: Vec<u8> = "{\"userId\":7}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(denied(&utf16), unread(Unread::NotJson));
        assert_eq!(denied(b"{\"a\":\"\xff\"}"), unread(Unread::NotUtf8));
        assert_eq!(denied(b"{\"a\":\"\xc0\xaf\"}"), unread(Unread::NotUtf8));
    }

    #[test]
    fn nothing_can_be_merged_up_into_the_body() {
        for body in [
            r#"{"__proto__":{"userId":"7"}}"#,
            r#"{"__proto__":1}"#,
            r#"{"\u005f_proto__":{"userId":"7"}}"#,
            r#"{"query":{"__proto__":{"userId":"7"}}}"#,
            r#"{"query":[{"a":{"__proto__":{}}}]}"#,
            r#"{"a.__proto__.b":1}"#,
            r#"{"constructor":{"prototype":{"userId":"7"}}}"#,
            r#"{"query":{"constructor":{"a":1,"protot\u0079pe":{}}}}"#,
        ] {
            assert_eq!(denied(body.as_bytes()), unread(Unread::Prototype), "{body}");
            assert_eq!(pinned(true, body), unread(Unread::Prototype), "{body}");
        }
        let harmless = r#"{"constructor":"Ferrari","query":{"prototype":1,"constructor":{"a":1}}}"#;
        assert_eq!(denied(harmless.as_bytes()), Ok(()));
    }

    #[test]
    fn queries_may_speak_of_user_ids_of_their_own() {
        for body in [
            "",
            "{}",
            " {\r\n\t} ",
            r#"{"query":{"table":"orders","fields":["users.userId"],"limit":10,
                "filters":{"userId":{"kind":"EQUALS","values":["7"],"is_negative":false}},
                "sorts":[{"column_name":"userId","sort_descending":true}],
                "userEditedSQL":"select \"userId\" from t where x = 'é'"},"resultType":"csv"}"#,
            r#"{"name":"userId","scope":"restricted","parentFolderId":null}"#,
            r#"{"userIds":["7"],"user_id":1,"prompt":"\ud83d\ude00 userId=7"}"#,
        ] {
            assert_eq!(denied(body.as_bytes()), Ok(()), "{body}");
        }
    }

    #[test]
    fn only_one_media_type_says_json() {
        let check = |types: &[&str]| Inspection::new(None, false, &typed(types)).check(b"{}");
        for good in [
            "application/json",
            "Application/JSON",
            "application/json;charset=utf-8",
            "application/json; charset=\"UTF-8\"",
            "application/json;",
        ] {
            assert_eq!(check(&[good]), Ok(()), "{good}");
        }
        for bad in [
            "",
            "text/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=a",
            "application/vnd.api+json",
            "application/json, text/plain",
            "application/json; charset=utf-16",
            "application/json; charset=utf-7",
            "application/json; charset=utf-8; charset=utf-7",
            "application/json; boundary=a",
            "application/json; charset",
            "application/json charset=utf-8",
        ] {
            assert_eq!(check(&[bad]), unread(Unread::MediaType), "{bad}");
        }
        assert_eq!(check(&[]), unread(Unread::MediaType));
        let twice = ["application/json", "application/json"];
        assert_eq!(check(&twice), unread(Unread::MediaType));
        assert_eq!(Inspection::new(None, false, &typed(&[])).check(b""), Ok(()));
    }

    #[test]
    fn a_pinned_body_names_the_one_user_once_unless_the_query_does() {
        let good = format!("{{\"userId\":\"{MEMBER}\",\"a\":1}}");
        assert_eq!(pinned(false, &good), Ok(()));
        assert_eq!(pinned(true, &good), Err(WrongUser::NotPinnedBody));
        for nobody in ["{}", "{\"a\":{\"userId\":7}}"] {
            assert_eq!(pinned(true, nobody), Ok(()));
            assert_eq!(pinned(false, nobody), Err(WrongUser::NotPinnedBody));
        }
        assert_eq!(pinned(true, ""), Ok(()));
        assert_eq!(pinned(false, ""), Err(WrongUser::NotPinnedQuery));
        for bad in [
            format!("{{\"userId\":\"{MEMBER}\",\"userId\":\"{MEMBER}\"}}"),
            format!("{{\"userId\":\"{MEMBER}\",\"userid\":\"7\"}}"),
            format!("{{\"userId\":\"7\",\"userId\":\"{MEMBER}\"}}"),
            format!("{{\"userid\":\"{MEMBER}\"}}"),
            format!("{{\"user\\u0049d\":\"{MEMBER}\"}}"),
            format!("{{\"userId\":\"{MEMBER} \"}}"),
            format!("{{\"userId\":[\"{MEMBER}\"]}}"),
            format!("{{\"userId\":{{\"a\":\"{MEMBER}\"}}}}"),
            format!("{{\"userId\":\"{}\"}}", MEMBER.replace('-', "\\u002d")),
            format!("{{\"a\":{{\"userId\":\"{MEMBER}\"}}}}"),
            "{\"userId\":null}".to_owned(),
        ] {
            assert_eq!(pinned(false, &bad), Err(WrongUser::NotPinnedBody), "{bad}");
        }
    }

    /// A value as JSON text.
    fn value() -> impl Strategy<Value = String> {
        let scalar = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|it| it.to_string()),
            any::<i64>().prop_map(|it| it.to_string()),
            any::<String>().prop_map(|it| serde_json::to_string(&it).unwrap()),
            Just("\"userId\"".to_owned()),
        ];
        scalar.prop_recursive(6, 40, 6, |inner| {
            let name = prop_oneof![any::<String>(), Just("userId".to_owned())];
            let name = name.prop_filter("a prototype", |it| !it.contains("proto"));
            let name = name.prop_map(|it| serde_json::to_string(&it).unwrap());
            let member = (name, inner.clone()).prop_map(|(name, value)| format!("{name}:{value}"));
            prop_oneof![
                proptest::collection::vec(inner, 0..5).prop_map(|it| format!("[{}]", it.join(","))),
                proptest::collection::vec(member, 0..5)
                    .prop_map(|it| format!("{{{}}}", it.join(" ,"))),
            ]
        })
    }

    /// `userId` as JSON text: each letter in either case, plain or escaped.
    fn user_id() -> impl Strategy<Value = String> {
        proptest::collection::vec((any::<bool>(), any::<bool>()), USER_ID.len()).prop_map(|how| {
            let letter = |(c, (upper, escaped)): (char, (bool, bool))| {
                let c = if upper { c.to_ascii_uppercase() } else { c };
                if escaped { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }
            };
            USER_ID.chars().zip(how).map(letter).collect()
        })
    }

    fn name() -> impl Strategy<Value = String> {
        any::<String>()
            .prop_filter("another name", |name| !name.contains("proto") && !may_be_user_id(name))
    }

    proptest! {
        #[test]
        fn no_document_that_names_a_user_passes(
            before in proptest::collection::vec((name(), value()), 0..4),
            said in user_id(),
            said_value in value(),
            after in proptest::collection::vec((name(), value()), 0..4),
            blank in "[ \t\r\n]{0,3}",
        ) {
            let plain = |all: &[(String, String)]| -> Vec<String> {
                let name = |it: &String| serde_json::to_string(it).unwrap();
                all.iter().map(|(key, value)| format!("{}:{value}", name(key))).collect()
            };
            let (before, after) = (plain(&before), plain(&after));
            let members = [before.clone(), after.clone()].concat();
            let without = format!("{blank}{{{}}}{blank}", members.join(","));
            prop_assert_eq!(denied(without.as_bytes()), Ok(()), "{}", without);
            let user = vec![format!("\"{said}\"{blank}:{blank}{said_value}")];
            let with = format!("{blank}{{{}}}", [before, user, after].concat().join(","));
            prop_assert_eq!(denied(with.as_bytes()), Err(WrongUser::Body), "{}", with);
            prop_assert!(pinned(false, &with).is_err());
        }

        /// What any parser reads as a user is refused.
        #[test]
        fn any_bytes_that_pass_are_an_object_without_a_user(
            body in proptest::collection::vec(
                prop_oneof![
                    Just("{"), Just("}"), Just("["), Just("]"), Just(":"), Just(","), Just("\""),
                    Just("\"userId\""), Just("userId"), Just("1"), Just(" "), Just("\"a\""),
                    Just("\\u0049"), Just("\u{feff}"), Just("null"), Just("user"), Just("d"),
                ],
                0..14,
            ),
        ) {
            let body = body.concat();
            if !body.is_empty() && denied(body.as_bytes()).is_ok() {
                let read: serde_json::Value = serde_json::from_str(&body).unwrap();
                prop_assert!(read.as_object().unwrap().get(USER_ID).is_none(), "{}", body);
            }
        }
    }
}

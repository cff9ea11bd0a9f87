//! The shapes of Vault's requests and answers. What is secret in them is wiped when it is dropped.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use http::HeaderValue;
use secrecy::zeroize::Zeroizing;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::error::HashicorpError;

/// The form that every good answer has.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(super) struct Answer<T> {
    pub(super) data: Option<T>,
    pub(super) auth: Option<Auth>,
}

/// The form of a refusal. Vault's words are looked at, never repeated.
#[derive(Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) errors: Vec<String>,
}

/// What a log-in or a renewal gives.
#[derive(Deserialize)]
pub(super) struct Auth {
    pub(super) client_token: Text,
    pub(super) lease_duration: u64,
    pub(super) renewable: bool,
}

/// What a token says of itself. A root token leaves `renewable` out.
#[derive(Deserialize)]
pub(super) struct About {
    pub(super) ttl: u64,
    #[serde(default)]
    pub(super) creation_ttl: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

/// What is in the wrapping of a secret id.
#[derive(Deserialize)]
pub(super) struct Unwrapped {
    pub(super) secret_id: Text,
}

/// A version of a secret in a KV engine of version 2. Where it is deleted, `data` is null.
#[derive(Deserialize)]
pub(super) struct Versioned {
    pub(super) data: Option<BTreeMap<String, Field>>,
    pub(super) metadata: Metadata,
}

#[derive(Deserialize)]
pub(super) struct Metadata {
    pub(super) version: u64,
}

#[derive(Serialize)]
pub(super) struct AppRole<'a> {
    pub(super) role_id: &'a str,
    pub(super) secret_id: &'a str,
}

#[derive(Serialize)]
pub(super) struct Kubernetes<'a> {
    pub(super) role: &'a str,
    pub(super) jwt: &'a str,
}

#[derive(Serialize)]
pub(super) struct Renewal {
    /// With its unit: `30s`.
    pub(super) increment: String,
}

/// A text that is wiped when it is dropped.
pub(super) struct Text(pub(super) Zeroizing<String>);

/// A field of a secret.
pub(super) enum Field {
    Text(Text),
    Other,
}

/// Writes a request's body into memory that is wiped when its last owner drops it. `secret` is how
/// long the secret in it is: the memory must not move while it is written.
pub(super) fn body<T: Serialize>(request: &T, secret: usize) -> Bytes {
    // An escaped character is six bytes at most; roles and the like are short.
    let mut text = Zeroizing::new(Vec::with_capacity(6 * secret + 8 * 1024));
    // These shapes have nothing in them that JSON cannot say.
    let _ = serde_json::to_writer(&mut *text, request);
    Bytes::from_owner(text)
}

/// Reads an answer to the question `to`.
pub(super) fn read<'a, T: Deserialize<'a>>(
    body: &'a [u8],
    to: &'static str,
) -> Result<T, HashicorpError> {
    // serde's error would quote what it read.
    serde_json::from_slice(body).map_err(|_| HashicorpError::BadAnswer { to })
}

/// Makes a token a field's value: shown to nobody, and wiped when its last copy is dropped, unlike
/// one that is made of a text.
pub(super) fn sensitive(token: &[u8]) -> Option<HeaderValue> {
    let owned = Bytes::from_owner(Zeroizing::new(token.to_vec()));
    let mut value = HeaderValue::from_maybe_shared(owned).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Field::deserialize(deserializer)? {
            Field::Text(text) => Ok(text),
            Field::Other => Err(serde::de::Error::custom("no text")),
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(Text(Zeroizing::new(text.to_owned()))))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Field, A::Error> {
        while table.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}

//! What may stand in the file, as a look at its tree needs it.
//!
//! Derived from the JSON schema of [`File`], which is derived from its types: a key is written
//! down in one place only.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::config::file::File;
use crate::config::units;

/// The JSON schema of a config file, in draft 2020-12.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<File>().to_value()
}

/// What one value may be.
#[derive(Debug, PartialEq)]
pub(super) enum Allowed {
    Text,
    Period,
    Size,
    /// One of these words.
    Word(Vec<String>),
    /// A whole number up to this.
    Number(u64),
    /// A number, not always whole.
    Fraction,
    Flag,
    List(Box<Allowed>),
    Table(BTreeMap<String, Key>),
    /// A table whose keys are names.
    Named(Box<Allowed>),
    /// Text, or else this.
    TextOr(Box<Allowed>),
}

/// One key of a table.
#[derive(Debug, PartialEq)]
pub(super) struct Key {
    pub(super) allowed: Allowed,
    pub(super) required: bool,
    /// The line to add where it is missing.
    pub(super) add: Option<String>,
}

impl Allowed {
    /// What a whole file may say.
    pub(super) fn file() -> Self {
        Self::from_schema(&schema())
    }

    /// What is expected, as in "must be …".
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Text => "a string".into(),
            Self::Period => "a duration such as \"30s\"".into(),
            Self::Size => "a size such as \"4MiB\"".into(),
            Self::Word(words) => format!("one of {}", quoted(words)),
            Self::Number(_) => "a whole number".into(),
            Self::Fraction => "a number".into(),
            Self::Flag => "true or false".into(),
            Self::List(item) => match **item {
                Self::Table(_) => "a list of tables".into(),
                _ => "a list".into(),
            },
            Self::Table(_) | Self::Named(_) => "a table".into(),
            Self::TextOr(other) => format!("a string or {}", other.expected()),
        }
    }

    fn from_schema(schema: &Value) -> Self {
        // `Option` adds null, which TOML does not have.
        let is_null = |schema: &&Value| schema["type"] != "null";
        let either = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
        if let Some(either) = either {
            let choices: Vec<&Value> = either.iter().filter(is_null).collect();
            return match choices.as_slice() {
                [only] => Self::from_schema(only),
                [text, other] if text["type"] == "string" && text.get("const").is_none() => {
                    Self::TextOr(Box::new(Self::from_schema(other)))
                }
                words => Self::Word(words.iter().flat_map(|word| words_of(word)).collect()),
            };
        }
        let words = words_of(schema);
        if !words.is_empty() {
            return Self::Word(words);
        }
        let types = &schema["type"];
        let is = |name: &str| {
            types == name || types.as_array().is_some_and(|t| t.iter().any(|t| t == name))
        };
        if is("string") {
            match schema["format"].as_str() {
                Some(units::PERIOD) => Self::Period,
                Some(units::SIZE) => Self::Size,
                _ => Self::Text,
            }
        } else if is("integer") {
            let narrow = schema["format"] == "uint32";
            Self::Number(if narrow { u32::MAX.into() } else { u64::MAX })
        } else if is("number") {
            Self::Fraction
        } else if is("boolean") {
            Self::Flag
        } else if is("array") {
            Self::List(Box::new(Self::from_schema(&schema["items"])))
        } else if let Some(keys) = schema["properties"].as_object() {
            Self::table(keys, &schema["required"])
        } else {
            Self::Named(Box::new(Self::from_schema(&schema["additionalProperties"])))
        }
    }

    fn table(keys: &Map<String, Value>, required: &Value) -> Self {
        let required = |name: &str| {
            required.as_array().is_some_and(|required| required.iter().any(|key| key == name))
        };
        let key = |(name, schema): (&String, &Value)| {
            let key = Key {
                allowed: Self::from_schema(schema),
                required: required(name),
                add: schema["x-add"].as_str().map(str::to_owned),
            };
            (name.clone(), key)
        };
        Self::Table(keys.iter().map(key).collect())
    }
}

/// The words of an `enum`, as schemars writes them with and without a description.
fn words_of(schema: &Value) -> Vec<String> {
    let several = schema["enum"].as_array().into_iter().flatten();
    let one = schema.get("const");
    several.chain(one).filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key<'a>(allowed: &'a Allowed, path: &[&str]) -> &'a Key {
        let Allowed::Table(keys) = allowed else { panic!("{allowed:?} is not a table") };
        let key = &keys[path[0]];
        match (&path[1..], &key.allowed) {
            ([], _) => key,
            (rest, Allowed::Named(inner) | Allowed::List(inner)) => self::key(inner, rest),
            (rest, inner) => self::key(inner, rest),
        }
    }

    #[test]
    fn every_kind_of_key_is_read_from_the_schema() {
        let file = Allowed::file();
        let of = |path: &[&str]| &key(&file, path).allowed;
        assert_eq!(*of(&["state_dir"]), Allowed::Text);
        assert_eq!(*of(&["server", "drain_timeout"]), Allowed::Period);
        assert_eq!(*of(&["server", "max_header_bytes"]), Allowed::Size);
        assert_eq!(*of(&["listeners", "allow_anonymous"]), Allowed::Flag);
        assert_eq!(*of(&["telemetry", "otlp", "sample"]), Allowed::Fraction);
        assert_eq!(*of(&["budgets", "limit"]), Allowed::Number(u32::MAX.into()));
        assert_eq!(*of(&["routes", "methods"]), Allowed::List(Box::new(Allowed::Text)));
        let listen = Allowed::TextOr(Box::new(Allowed::List(Box::new(Allowed::Text))));
        assert_eq!(*of(&["server", "listen"]), listen);
        assert_eq!(of(&["budgets", "profile"]).expected(), r#"one of "burst", "smooth", "strict""#);
        assert_eq!(of(&["credentials", "secret"]).expected(), "a string or a table");
    }

    #[test]
    fn what_is_required_says_what_to_add() {
        let file = Allowed::file();
        let base_url = key(&file, &["upstream", "base_url"]);
        assert!(base_url.required);
        assert_eq!(base_url.add.as_deref(), Some("base_url = \"https://acme.omniapp.co\""));
        assert!(key(&file, &["routes"]).required && key(&file, &["routes"]).add.is_some());
        assert!(!key(&file, &["budgets", "limit"]).required);
    }
}

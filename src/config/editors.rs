//! The schema for editors: that of [`schema`](crate::config::schema), in the draft that they read,
//! without what only we understand, and with the defaults.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::config::file::File;
use crate::config::units;

/// Every key, with its default; `tests/config_files.rs` holds it to what is so.
const REFERENCE: &str = include_str!("../../config/reference.toml");

/// The JSON schema of a config file in draft-07, for editors.
pub fn schema_for_editors() -> Value {
    let settings = SchemaSettings::draft07().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<File>().to_value();
    tidy(&mut schema);
    // The reference is a part of the program and its tests: it parses.
    if let Ok(mut reference) = REFERENCE.parse::<toml::Table>() {
        // Where secrets are has no default: what stands there are examples.
        reference.retain(|section, _| !matches!(section, "vault" | "credentials"));
        add_defaults(&mut schema, &reference);
    }
    schema["title"] = json!("omnigate.toml");
    schema
}

/// Makes one schema, and all in it, what editors know.
fn tidy(schema: &mut Value) {
    if let Value::Array(several) = schema {
        several.iter_mut().for_each(tidy);
    }
    let Value::Object(said) = schema else { return };
    said.retain(|key, _| !key.starts_with("x-"));
    without_null(said);
    words_in_one(said);
    let format = said.get("format").and_then(Value::as_str).map(str::to_owned);
    match format.as_deref() {
        Some("uint32") => {
            said.insert("maximum".into(), json!(u32::MAX));
        }
        Some(units::PERIOD) => {
            said.insert("examples".into(), json!(["500ms", "30s", "2m", "1h"]));
        }
        Some(units::SIZE) => {
            said.insert("examples".into(), json!(["64KiB", "4MiB"]));
        }
        Some(_) | None => {}
    }
    // All are ours or Rust's.
    said.remove("format");
    for (key, inner) in said.iter_mut() {
        match key.as_str() {
            // The names of keys, which may be those of words of the schema.
            "properties" => {
                inner.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(tidy);
            }
            "items" | "additionalProperties" | "anyOf" | "oneOf" | "allOf" => tidy(inner),
            _ => {}
        }
    }
}

/// `Option` adds null, which TOML does not have.
fn without_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            // What is said of the key goes before what is said of its type.
            for (key, value) in only {
                schema.entry(key).or_insert(value);
            }
        }
    }
}

/// Words that each have a description become one list, which editors offer.
fn words_in_one(schema: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = schema.get("oneOf") else { return };
    let word =
        |choice: &Value| Some((choice.get("const")?.clone(), choice.get("description").cloned()));
    let Some(words) = choices.iter().map(word).collect::<Option<Vec<_>>>() else { return };
    let mut description =
        schema.get("description").and_then(Value::as_str).unwrap_or("").to_owned();
    for (word, about) in &words {
        if let (Some(word), Some(about)) = (word.as_str(), about.as_ref().and_then(Value::as_str)) {
            description.push_str(&format!("\n\n- `{word}`: {about}"));
        }
    }
    schema.remove("oneOf");
    schema.insert("type".into(), json!("string"));
    schema.insert("enum".into(), words.into_iter().map(|(word, _)| word).collect());
    schema.insert("description".into(), json!(description.trim_start()));
}

/// What stands in the reference, and need not stand in a config, is the default.
fn add_defaults(schema: &mut Value, document: &toml::Table) {
    for (key, value) in document {
        let Some((inner, may_be_left_out)) = below(schema, key) else { continue };
        match value {
            toml::Value::Table(table) => add_defaults(inner, table),
            toml::Value::Array(list) if list.iter().any(toml::Value::is_table) => {
                let tables = list.iter().filter_map(toml::Value::as_table);
                let items = inner.get_mut("items");
                items.into_iter().zip(tables).for_each(|(items, table)| add_defaults(items, table));
            }
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_) => {
                if let (true, Some(inner), Ok(value)) =
                    (may_be_left_out, inner.as_object_mut(), serde_json::to_value(value))
                {
                    inner.insert("default".into(), value);
                }
            }
        }
    }
}

/// The schema of one key, and whether a table that follows `schema` may do without it.
fn below<'a>(schema: &'a mut Value, key: &str) -> Option<(&'a mut Value, bool)> {
    let Value::Object(said) = schema else { return None };
    let required = said.get("required").and_then(Value::as_array);
    let required = required.is_some_and(|all| all.iter().any(|name| name == key));
    if said.get("properties").is_some_and(|keys| keys.get(key).is_some()) {
        return Some((said.get_mut("properties")?.get_mut(key)?, !required));
    }
    if said.contains_key("anyOf") {
        return said.get_mut("anyOf")?.as_array_mut()?.iter_mut().find_map(|one| below(one, key));
    }
    // A name of somebody's own.
    Some((said.get_mut("additionalProperties").filter(|rest| rest.is_object())?, false))
}

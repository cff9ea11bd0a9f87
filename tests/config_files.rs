//! The files in `config/` are right, and the reference says what is so.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use omnigate::config;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn reference() -> String {
    std::fs::read_to_string(folder().join("reference.toml")).unwrap()
}

#[test]
fn every_example_passes_check() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        config::load(&path).unwrap_or_else(|report| panic!("{report}"));
        count += 1;
    }
    assert!(count >= 5);
}

#[test]
fn the_defaults_in_the_reference_are_the_real_ones() {
    let least = r#"
        [upstream]
        base_url = "https://acme.omniapp.co"
        [vault]
        backend = "env"
        [vault.providers.files]
        backend = "file"
        [vault.providers.mounted]
        backend = "dir"
        path = "/run/secrets"
        [credentials.org]
        kind = "organization"
        secret = "OMNI_API_KEY"
        [credentials.person]
        kind = "personal"
        secret = { provider = "files", path = "person.token" }
        on_missing = "degrade"
        [credentials.agent]
        kind = "mcp"
        secret = { provider = "mounted", name = "omni-agent" }
        on_missing = "degrade"
        [[routes]]
        name = "all"
        path = "/{*rest}"
        credential = "org"
    "#;
    let path = folder().join("reference.toml");
    let told = config::parse(&reference(), &path).unwrap();
    let real = config::parse(least, &path).unwrap();
    assert_eq!(format!("{told:#?}"), format!("{real:#?}"));
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let on: Vec<String> = reference()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => {
                key.into()
            }
            _ => line.to_owned(),
        })
        .collect();
    let document: toml::Table = on.join("\n").parse().unwrap();
    let mut known = BTreeSet::new();
    keys_of_schema(&config::schema(), "", &mut known);
    let mut told = BTreeSet::new();
    keys_of_document(&toml::Value::Table(document), &config::schema(), "", &mut told);
    // The default provider has the keys of any other; the reference tells them once.
    let twin = |key: &String| key.replacen(".vault.", ".vault.providers.", 1);
    // So is what tells where a secret is.
    let as_secret = |key: &String| key.replacen(".shared.password.", ".credentials.secret.", 1);
    known.retain(|key| {
        told.contains(key) || !(told.contains(&twin(key)) || told.contains(&as_secret(key)))
    });
    assert_eq!(told, known);
}

/// The schemas that a value may follow, without the wrappings of `Option` and of choices.
fn choices(schema: &Value) -> Vec<&Value> {
    match schema["anyOf"].as_array() {
        Some(choices) => choices.iter().flat_map(self::choices).collect(),
        None => vec![schema],
    }
}

fn keys_of_schema(schema: &Value, path: &str, keys: &mut BTreeSet<String>) {
    for schema in choices(schema) {
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            keys_of_schema(inner, &path, keys);
            keys.insert(path);
        }
        for inner in [&schema["items"], &schema["additionalProperties"]] {
            if inner.is_object() {
                keys_of_schema(inner, path, keys);
            }
        }
    }
}

fn keys_of_document(value: &toml::Value, schema: &Value, path: &str, keys: &mut BTreeSet<String>) {
    for schema in choices(schema) {
        match value {
            toml::Value::Table(table) => {
                for (name, value) in table {
                    if let Some(inner) = schema["additionalProperties"].as_object() {
                        let inner = Value::Object(inner.clone());
                        keys_of_document(value, &inner, path, keys);
                    } else if schema["properties"].is_object() {
                        let path = format!("{path}.{name}");
                        keys_of_document(value, &schema["properties"][name], &path, keys);
                        keys.insert(path);
                    }
                }
            }
            toml::Value::Array(list) => {
                for value in list {
                    keys_of_document(value, &schema["items"], path, keys);
                }
            }
            _ => {}
        }
    }
}

//! `[vault]`: where secrets are kept, never what they are.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};

use crate::config::at::At;
use crate::config::file::Named;
use crate::config::units::Period;

/// Where secrets are kept: the default provider, and others by name.
pub(in crate::config) struct Vault {
    /// The default provider, whose keys stand in `[vault]` itself.
    pub(in crate::config) default: Provider,
    pub(in crate::config) rest: Rest,
}

/// What stands in `[vault]` besides the default provider.
#[derive(Default, JsonSchema)]
pub(in crate::config) struct Rest {
    /// More providers.
    #[schemars(default)]
    pub(in crate::config) providers: Named<At<Provider>>,
    /// The programs that providers may run, by their absolute paths; none, unless they stand here.
    pub(in crate::config) allow_exec: Option<At<Vec<At<PathBuf>>>>,
}

/// One place where secrets are kept.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Provider {
    /// What kind of store it is.
    #[schemars(required, extend("x-add" = "backend = \"env\""))]
    pub(in crate::config) backend: Option<At<Backend>>,
    /// The folder of `dir` and `file`; the encrypted file of `age`.
    pub(in crate::config) path: Option<At<PathBuf>>,
    /// The file with the identity that opens an age file.
    pub(in crate::config) identity: Option<At<PathBuf>>,
    /// The program of `exec`, by its absolute path, and its arguments; `{name}` in one stands for the
    /// secret's name.
    pub(in crate::config) command: Option<At<Vec<At<String>>>>,
    /// Names of variables that the program gets besides the usual few.
    pub(in crate::config) env: Option<At<Vec<At<String>>>>,
    /// How long the program may run, and how long a request to a Vault server may take.
    pub(in crate::config) timeout: Option<At<Period>>,
    /// How often the program or the Vault server is asked again.
    pub(in crate::config) refresh: Option<At<Period>>,
    /// The Vault server, such as `https://vault.internal:8200`.
    pub(in crate::config) address: Option<At<String>>,
    /// `system`, or a PEM file with the certificates to believe.
    pub(in crate::config) tls_roots: Option<At<String>>,
    /// The Vault server's namespace.
    pub(in crate::config) namespace: Option<At<String>>,
    /// Where the KV engine is mounted.
    pub(in crate::config) mount: Option<At<String>>,
    /// How to log in to the Vault server.
    pub(in crate::config) auth: Option<At<Auth>>,
}

/// What kind of store secrets are kept in.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Backend {
    /// A folder with one file for each secret.
    Dir,
    /// Files that hold one secret each; refused while others may read them.
    File,
    /// Variables of the environment.
    Env,
    /// One file, encrypted with age.
    Age,
    /// A program that prints a secret.
    Exec,
    /// HashiCorp Vault or OpenBao, KV version 2.
    Hashicorp,
}

/// How to log in to a Vault server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Auth {
    /// The method.
    #[schemars(required, extend("x-add" = "method = \"token\""))]
    pub(in crate::config) method: Option<At<Method>>,
    /// Where the method is mounted; by default, its own name.
    pub(in crate::config) mount: Option<At<String>>,
    /// The file with the token.
    pub(in crate::config) token_file: Option<At<PathBuf>>,
    /// The variable with the token.
    pub(in crate::config) token_env: Option<At<String>>,
    /// The role id of AppRole.
    pub(in crate::config) role_id: Option<At<String>>,
    /// The file with the secret id of AppRole.
    pub(in crate::config) secret_id_file: Option<At<PathBuf>>,
    /// The variable with the secret id of AppRole.
    pub(in crate::config) secret_id_env: Option<At<String>>,
    /// Whether a wrapping token stands there in place of the secret id.
    pub(in crate::config) wrapped: Option<At<bool>>,
    /// The role that the Kubernetes service account is bound to.
    pub(in crate::config) role: Option<At<String>>,
    /// The file with the service account's token.
    pub(in crate::config) jwt_file: Option<At<PathBuf>>,
}

/// How to log in to a Vault server.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Method {
    /// With a token that somebody else made.
    Token,
    /// As an application, with a role id and a secret id.
    AppRole,
    /// As a Kubernetes service account.
    Kubernetes,
}

/// Where a secret is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Secret {
    /// The name of a `[vault.providers.NAME]`; by default the default provider.
    pub(in crate::config) provider: Option<At<String>>,
    /// The file's name in the folder, the variable's, the age entry's, or what the program calls it.
    pub(in crate::config) name: Option<At<String>>,
    /// The file, where the provider's backend is `file`; the path in the engine, where it is
    /// `hashicorp`.
    pub(in crate::config) path: Option<At<String>>,
    /// The field of a secret in a Vault server.
    pub(in crate::config) field: Option<At<String>>,
}

/// A key of `[vault]` that is none of a provider's.
const REST: [&str; 2] = ["providers", "allow_exec"];

// Written by hand, since serde's `flatten` loses where a value stands.
impl<'de> Deserialize<'de> for Vault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Both)
    }
}

struct Both;

impl<'de> Visitor<'de> for Both {
    type Value = Vault;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Vault, A::Error> {
        let mut rest = Rest::default();
        let default = MapAccessDeserializer::new(Apart { table, rest: &mut rest });
        Ok(Vault { default: Provider::deserialize(default)?, rest })
    }
}

/// A table without the keys that are none of a provider's; those are read into `rest`.
struct Apart<'a, A> {
    table: A,
    rest: &'a mut Rest,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Apart<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.table.next_key::<String>()? {
            match REST.iter().position(|rest| *rest == key) {
                Some(0) => self.rest.providers = self.table.next_value()?,
                Some(_) => self.rest.allow_exec = self.table.next_value()?,
                None => return seed.deserialize(key.into_deserializer()).map(Some),
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.table.next_value_seed(seed)
    }
}

impl JsonSchema for Vault {
    fn schema_name() -> Cow<'static, str> {
        "Vault".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Provider::json_schema(generator);
        let rest = Rest::json_schema(generator);
        let more = rest.get("properties").and_then(|more| more.as_object()).cloned();
        if let Some(keys) = schema.get_mut("properties").and_then(|keys| keys.as_object_mut()) {
            keys.extend(more.into_iter().flatten());
        }
        // Who has providers alone needs no default one.
        schema.remove("required");
        schema.insert(
            "description".into(),
            "Where secrets are kept: the default provider, and others by name.".into(),
        );
        schema
    }
}

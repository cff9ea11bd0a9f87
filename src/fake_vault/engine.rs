//! A KV engine.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};

use super::answer;

/// The one KV engine of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Of version 1, where a path has no `data` in it.
    V1 {
        /// Where it is mounted.
        mount: &'static str,
    },
    /// Of version 2.
    V2 {
        /// Where it is mounted.
        mount: &'static str,
    },
}

pub(super) struct Secrets {
    engine: Engine,
    all: BTreeMap<String, Vec<Version>>,
}

struct Version {
    fields: Value,
    deleted: bool,
    destroyed: bool,
}

impl Secrets {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, all: BTreeMap::new() }
    }

    pub(super) fn mount(&self) -> &'static str {
        match self.engine {
            Engine::V1 { mount } | Engine::V2 { mount } => mount,
        }
    }

    pub(super) fn write(&mut self, path: &str, fields: Value) -> u64 {
        let versions = self.all.entry(path.to_owned()).or_default();
        versions.push(Version { fields, deleted: false, destroyed: false });
        versions.len() as u64
    }

    pub(super) fn end(&mut self, path: &str, destroyed: bool) {
        if let Some(version) = self.all.get_mut(path).and_then(|versions| versions.last_mut()) {
            (version.deleted, version.destroyed) = (!destroyed, destroyed);
        }
    }

    /// Reads what is below the mount.
    pub(super) fn read(&self, path: &str) -> Response<Full<Bytes>> {
        let secret = match self.engine {
            Engine::V1 { .. } => Some(path),
            Engine::V2 { .. } => path.strip_prefix("data/"),
        };
        let versions = secret.and_then(|secret| self.all.get(secret));
        let Some((number, version)) = versions.and_then(|all| all.iter().enumerate().next_back())
        else {
            return answer::refusal(404, &[]);
        };
        if matches!(self.engine, Engine::V1 { .. }) {
            return answer::data(200, &version.fields);
        }
        let gone = version.deleted || version.destroyed;
        let metadata = json!({
            "created_time": "2026-01-02T03:04:05.678901234Z",
            "custom_metadata": null,
            "deletion_time": if version.deleted { "2026-02-03T04:05:06.789012345Z" } else { "" },
            "destroyed": version.destroyed,
            "version": number + 1,
        });
        let fields = if gone { &Value::Null } else { &version.fields };
        let data = json!({ "data": fields, "metadata": metadata });
        answer::data(if gone { 404 } else { 200 }, &data)
    }
}

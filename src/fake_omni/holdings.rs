//! What the fake organization holds: made in code, the same in every run, changed by writes.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::areas::Revisions;

/// Kinds of things that have ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Kind {
    Folder = 1,
    Model = 2,
    User = 3,
    Group = 4,
    Connection = 5,
    Schedule = 6,
    Upload = 7,
    ApiKey = 8,
    Job = 9,
    EmailOnly = 10,
    Attribute = 11,
    Run = 12,
    Other = 13,
}

/// The records of each list in the order of their cursor, and what is under way.
#[derive(Debug)]
pub(super) struct Holdings {
    seed: u64,
    made: u64,
    sizes: Sizes,
    pub(super) revisions: Revisions,
    pub(super) folders: Vec<Value>,
    pub(super) documents: Vec<Value>,
    pub(super) models: Vec<Value>,
    pub(super) users: Vec<Value>,
    pub(super) groups: Vec<Value>,
    pub(super) email_only: Vec<Value>,
    pub(super) connections: Vec<Value>,
    pub(super) environments: Vec<Value>,
    pub(super) attributes: Vec<Value>,
    pub(super) schedules: Vec<Value>,
    pub(super) uploads: Vec<Value>,
    pub(super) labels: Vec<Value>,
    /// Query jobs that nobody has fetched yet, with the time at which they are done.
    pub(super) jobs: HashMap<String, Instant>,
    /// When the suggestions of a model were last made.
    pub(super) suggested: HashMap<String, Instant>,
}

/// How many there are at first of what others refer to.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    folders: u64,
    users: u64,
}

/// Records of which generic writes know no more than the name.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) records: &'a mut Vec<Value>,
    /// The member that holds the id.
    pub(super) key: &'static str,
    kind: Kind,
}

impl Holdings {
    /// `records` is how many each list holds, in place of its own number.
    pub(super) fn new(seed: u64, records: Option<u64>) -> Self {
        let id = |kind, n| id_of(seed, kind, n);
        let list = |usual, record: &dyn Fn(u64) -> Value| {
            (0..records.unwrap_or(usual)).map(record).collect()
        };
        // What refers to one of none refers to the first.
        let sizes =
            Sizes { folders: records.unwrap_or(120).max(1), users: records.unwrap_or(40).max(1) };
        Self {
            seed,
            made: 1_000_000,
            sizes,
            revisions: Revisions::default(),
            folders: list(120, &|n| {
                json!({
                    "id": id(Kind::Folder, n), "name": format!("Folder {n}"),
                    "path": format!("folder-{n}"), "scope": "organization",
                    "ownerId": id(Kind::User, n % sizes.users), "labels": [],
                    "url": format!("https://acme.omniapp.co/f/folder-{n}"),
                })
            }),
            documents: list(300, &|n| document(seed, n, sizes)),
            models: list(12, &|n| {
                json!({
                    "id": id(Kind::Model, n), "name": format!("Model {n}"),
                    "modelKind": if n.is_multiple_of(3) { "SCHEMA" } else { "SHARED" },
                    "connectionId": id(Kind::Connection, n % 3), "baseModelId": null,
                    "createdAt": WHEN, "updatedAt": WHEN, "deletedAt": null,
                })
            }),
            users: list(40, &|n| {
                json!({
                    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
                    "id": id(Kind::User, n), "userName": format!("user{n}@acme.example"),
                    "displayName": format!("User {n}"), "active": true,
                })
            }),
            groups: list(5, &|n| {
                json!({
                    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
                    "id": id(Kind::Group, n), "displayName": format!("Group {n}"),
                    "members": [{ "value": id(Kind::User, n) }],
                })
            }),
            email_only: list(25, &|n| {
                json!({
                    "email": format!("reader{n:03}@acme.example"),
                    "user_id": id(Kind::EmailOnly, n), "user_attributes": {},
                })
            }),
            connections: list(3, &|n| {
                json!({
                    "id": id(Kind::Connection, n), "name": format!("Warehouse {n}"),
                    "dialect": "postgres", "database": "analytics", "deletedAt": null,
                })
            }),
            environments: list(
                2,
                &|n| json!({ "id": n, "connectionId": id(Kind::Connection, n), "name": "staging" }),
            ),
            attributes: list(
                4,
                &|n| json!({ "id": id(Kind::Attribute, n), "name": format!("attribute_{n}") }),
            ),
            schedules: list(30, &|n| {
                json!({
                    "id": id(Kind::Schedule, n), "name": format!("Schedule {n}"),
                    "identifier": identifier(n), "schedule": "0 9 * * *",
                })
            }),
            uploads: list(0, &|n| upload(&id(Kind::Upload, n), 100)),
            labels: ["deprecated", "finance", "important", "verified"].map(label).into(),
            jobs: HashMap::new(),
            suggested: HashMap::new(),
        }
    }

    /// An id that nothing has had before.
    pub(super) fn fresh(&mut self, kind: Kind) -> String {
        id_of(self.seed, kind, self.fresh_number())
    }

    /// A number that nothing has had before.
    pub(super) fn fresh_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// A document that nothing has been before.
    pub(super) fn fresh_document(&mut self) -> Value {
        let number = self.fresh_number();
        document(self.seed, number, self.sizes)
    }

    /// The records behind the path of a list.
    pub(super) fn table(&mut self, list: &str) -> Option<Table<'_>> {
        let (records, key, kind) = match list {
            "/api/v1/folders" => (&mut self.folders, "id", Kind::Folder),
            "/api/v1/documents" => (&mut self.documents, "identifier", Kind::Other),
            "/api/v1/models" => (&mut self.models, "id", Kind::Model),
            "/api/v1/connections" => (&mut self.connections, "id", Kind::Connection),
            "/api/v1/schedules" => (&mut self.schedules, "id", Kind::Schedule),
            "/api/v1/user-attributes" => (&mut self.attributes, "id", Kind::Attribute),
            "/api/scim/v2/Users" => (&mut self.users, "id", Kind::User),
            "/api/scim/v2/Groups" => (&mut self.groups, "id", Kind::Group),
            _ => return None,
        };
        Some(Table { records, key, kind })
    }

    /// Adds a record to the list of this path, and gives its id.
    pub(super) fn add(&mut self, list: &str, name: &str) -> Option<String> {
        let (seed, number) = (self.seed, self.fresh_number());
        let table = self.table(list)?;
        let id = id_of(seed, table.kind, number);
        table.records.push(json!({ table.key: id, "name": name, "displayName": name }));
        Some(id)
    }

    /// The membership that a key's owner has. One of the users.
    pub(super) fn membership(&self, owner: &str) -> String {
        id_of(
            self.seed,
            Kind::User,
            u64::from(crc32fast::hash(owner.as_bytes())) % self.sizes.users,
        )
    }

    /// The id of a key in the list of keys.
    pub(super) fn key_id(&self, token: &str) -> String {
        id_of(self.seed, Kind::ApiKey, u64::from(crc32fast::hash(token.as_bytes())))
    }

    pub(super) fn has_user(&self, id: &str) -> bool {
        self.users.iter().any(|user| user["id"] == id)
    }

    /// The labels with their counts of use, as they are now.
    pub(super) fn counted_labels(&self) -> Vec<Value> {
        let count = |name: &Value| {
            let bears = |document: &&Value| {
                document["labels"].as_array().is_some_and(|labels| labels.contains(name))
            };
            self.documents.iter().filter(bears).count()
        };
        let mut labels = self.labels.clone();
        for label in &mut labels {
            label["usage_count"] = count(&label["name"]).into();
        }
        labels
    }

    /// Folders and documents together, in the order of their `key`.
    pub(super) fn content(&self) -> Vec<Value> {
        let tagged = |record: &Value, kind: &str, key: &Value| {
            let mut record = record.clone();
            record["type"] = kind.into();
            record["key"] = format!("{kind}/{}", key.as_str().unwrap_or_default()).into();
            record
        };
        let documents = self.documents.iter().map(|r| tagged(r, "document", &r["identifier"]));
        let folders = self.folders.iter().map(|r| tagged(r, "folder", &r["id"]));
        documents.chain(folders).collect()
    }
}

const WHEN: &str = "2026-01-15T10:00:00.000Z";

/// A document as lists show it.
fn document(seed: u64, n: u64, sizes: Sizes) -> Value {
    let folder = n % sizes.folders;
    let user = n % sizes.users;
    let identifier = identifier(n);
    json!({
        "identifier": identifier, "name": format!("Document {n}"), "type": "document",
        "connectionId": id_of(seed, Kind::Connection, n % 3), "deleted": false,
        "folder": {
            "id": id_of(seed, Kind::Folder, folder), "name": format!("Folder {folder}"),
            "path": format!("folder-{folder}"), "scope": "organization",
        },
        "folderId": id_of(seed, Kind::Folder, folder),
        "hasDashboard": n.is_multiple_of(2),
        "labels": if n.is_multiple_of(10) { json!(["verified"]) } else { json!([]) },
        "owner": { "id": id_of(seed, Kind::User, user), "name": format!("User {user}") },
        "scope": "organization", "updatedAt": WHEN,
        "url": format!("https://acme.omniapp.co/dashboards/{identifier}"),
    })
}

/// A label with no one to use it.
pub(super) fn label(name: &str) -> Value {
    json!({
        "name": name, "color": "#0366d6", "description": null, "homepage": false,
        "verified": name == "verified", "usage_count": 0,
    })
}

fn identifier(n: u64) -> String {
    format!("d{n:07x}")
}

/// An upload as lists show it.
pub(super) fn upload(id: &str, bytes: u64) -> Value {
    json!({
        "id": id, "file_name": "upload.csv", "size_bytes": bytes, "view_name": "upload",
        "created_at": WHEN, "updated_at": WHEN,
    })
}

/// Whether an id has the form of those that the fake gives; others are made up by a test.
pub(super) fn is_ours(id: &str) -> bool {
    let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let document = id.strip_prefix('d').is_some_and(|rest| rest.len() == 7 && hexadecimal(rest));
    document || (id.len() == 36 && id.contains("-4000-8000-"))
}

/// Ids of one kind sort by their number.
pub(super) fn id_of(seed: u64, kind: Kind, n: u64) -> String {
    format!("{:08x}-{:04x}-4000-8000-{n:012x}", seed as u32, kind as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_were_given_are_told_from_those_that_were_made_up() {
        let mut holdings = Holdings::new(7, Some(25));
        assert_eq!(holdings.documents.len(), 25);
        let document = holdings.fresh_document();
        assert!(is_ours(document["identifier"].as_str().unwrap()));
        assert!(is_ours(&holdings.fresh(Kind::Folder)));
        for id in ["made-up", "d1", "docs1234", "0d6cfa1e-0000-4b4b-9c9c-000000000000"] {
            assert!(!is_ours(id), "{id}");
        }
    }
}

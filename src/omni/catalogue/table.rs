//! The rows, by family; and what the writes of several families leave stale.

mod ai;
mod connections;
mod content;
mod models;
mod people;
mod work;

use super::Collection::{
    self, Connections, Content, Documents, Folders, Labels, Models, Schedules,
};
use super::Endpoint;

pub(super) static FAMILIES: &[&[Endpoint]] = &[
    content::ENDPOINTS,
    models::ENDPOINTS,
    connections::ENDPOINTS,
    people::ENDPOINTS,
    work::ENDPOINTS,
    ai::ENDPOINTS,
];

/// A document counts in folders and for labels, and brings a model and its deliveries along.
const DOCUMENT: &[Collection] = &[Documents, Content, Folders, Labels, Models, Schedules];

/// Whoever gains or loses a right sees other lists.
const PERMISSIONS: &[Collection] = DOCUMENT;

const FAVORITE: &[Collection] = &[Documents, Content];

/// The path of a document goes through its folders.
const FOLDER: &[Collection] = &[Folders, Content, Documents];

const LABEL: &[Collection] = &[Labels, Documents, Content, Folders];

/// Its models and documents come and go with a connection.
const CONNECTION: &[Collection] = &[Connections, Models, Documents, Content];

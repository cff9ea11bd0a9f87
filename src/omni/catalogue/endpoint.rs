//! One endpoint, and how a row of the table is written.

use std::fmt;

use http::Method;

use super::{Collection, Stales};
use crate::omni::families;

/// An endpoint of Omni's and what is known of it.
#[derive(Debug)]
pub struct Endpoint {
    method: Method,
    template: &'static str,
    list: Option<Paging>,
    largest_page: Option<u32>,
    polled: bool,
    streams: bool,
    writes: bool,
    keys: Keys,
    needs_admin: bool,
    user_in_body: bool,
    free_text: &'static [&'static str],
    shows: Option<Collection>,
    stales: Stales,
}

/// How a list comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// All of it at once.
    Whole,
    /// `cursor` and `pageSize`.
    Cursor,
    /// `startIndex` and `count`.
    Scim,
    /// Nobody knows.
    Unknown,
}

/// Which keys an endpoint takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Every kind.
    Any,
    /// Every kind, but only an organization key may name another user in `userId`.
    OrganizationForOthers,
    /// Organization keys alone: it refuses personal and MCP tokens.
    Organization,
    /// Nobody knows whether it takes other than organization keys.
    Unknown,
}

impl Endpoint {
    /// Its method; a HEAD is for the row of the GET.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Its path with parameters in braces, such as `/api/v1/documents/{identifier}`.
    pub fn template(&self) -> &'static str {
        self.template
    }

    /// The segments of its template; a parameter is one.
    pub fn segments(&self) -> std::str::Split<'static, char> {
        self.template.strip_prefix('/').unwrap_or(self.template).split('/')
    }

    /// How the list comes, where it is one.
    pub fn list(&self) -> Option<Paging> {
        self.list
    }

    /// The largest `pageSize` that it takes, where Omni's API document has that parameter for it.
    pub fn largest_page(&self) -> Option<u32> {
        self.largest_page
    }

    /// Whether it says how far a job is, so that clients ask it again and again.
    pub fn is_polled(&self) -> bool {
        self.polled
    }

    /// Whether the answer comes bit by bit, over minutes.
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// Whether it changes something at Omni. Some that are asked with POST do not.
    pub fn writes(&self) -> bool {
        self.writes
    }

    /// Which keys it takes.
    pub fn keys(&self) -> Keys {
        self.keys
    }

    /// Whether it refuses personal and MCP tokens.
    pub fn refuses_personal(&self) -> bool {
        self.keys == Keys::Organization
    }

    /// Whether the key must be an administrator's, of the organization or of the connection. Every
    /// organization key is.
    pub fn needs_admin(&self) -> bool {
        self.needs_admin
    }

    /// Whether a `userId` in its JSON body makes an organization key act as that user.
    pub fn user_in_body(&self) -> bool {
        self.user_in_body
    }

    /// The parameters that hold free text; the others are ids.
    pub fn free_text(&self) -> &'static [&'static str] {
        self.free_text
    }

    /// The collection that its answer shows, where it is known to be one.
    pub fn shows(&self) -> Option<Collection> {
        self.shows
    }

    /// What a call leaves stale.
    pub fn stales(&self) -> Stales {
        self.stales
    }

    /// Whether its answers are never kept, whatever the config says.
    pub fn is_never_kept(&self) -> bool {
        families::is_never_kept(self.template)
    }

    /// Whether it can do harm that no wildcard route should do by chance.
    pub fn is_sensitive(&self) -> bool {
        families::is_sensitive(&self.method, self.template)
    }

    /// Whether this segment is a free-text parameter.
    pub(super) fn is_free_text(&self, segment: usize) -> bool {
        !self.free_text.is_empty()
            && self
                .segments()
                .nth(segment)
                .and_then(|one| one.strip_prefix('{')?.strip_suffix('}'))
                .is_some_and(|name| self.free_text.contains(&name))
    }
}

/// `GET /api/v1/documents/{identifier}`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.template)
    }
}

const fn row(method: Method, template: &'static str, writes: bool) -> Endpoint {
    Endpoint {
        method,
        template,
        list: None,
        largest_page: None,
        polled: false,
        streams: false,
        writes,
        keys: Keys::Any,
        needs_admin: false,
        user_in_body: false,
        free_text: &[],
        shows: None,
        // A row that forgets to say is on the safe side.
        stales: if writes { Stales::Everything } else { Stales::Nothing },
    }
}

pub(super) const fn get(template: &'static str) -> Endpoint {
    row(Method::GET, template, false)
}

pub(super) const fn post(template: &'static str) -> Endpoint {
    row(Method::POST, template, true)
}

/// A POST that changes nothing.
pub(super) const fn ask(template: &'static str) -> Endpoint {
    row(Method::POST, template, false)
}

pub(super) const fn put(template: &'static str) -> Endpoint {
    row(Method::PUT, template, true)
}

pub(super) const fn patch(template: &'static str) -> Endpoint {
    row(Method::PATCH, template, true)
}

pub(super) const fn delete(template: &'static str) -> Endpoint {
    row(Method::DELETE, template, true)
}

/// What a row may add. A GET shows; the others leave stale.
impl Endpoint {
    pub(super) const fn lists(mut self, collection: Collection, paging: Paging) -> Self {
        self.list = Some(paging);
        self.of(collection)
    }

    /// It takes `pageSize` up to this many. For documents, folders and models the API document names no
    /// most; there it is the one that Omni's documentation gives for all lists with a cursor.
    pub(super) const fn up_to(mut self, largest_page: u32) -> Self {
        self.largest_page = Some(largest_page);
        self
    }

    pub(super) const fn polled(mut self) -> Self {
        self.polled = true;
        self
    }

    pub(super) const fn of(mut self, collection: Collection) -> Self {
        self.shows = Some(collection);
        self
    }

    pub(super) const fn stale(mut self, these: &'static [Collection]) -> Self {
        self.stales = if these.is_empty() { Stales::Nothing } else { Stales::These(these) };
        self
    }

    pub(super) const fn streaming(mut self) -> Self {
        self.streams = true;
        self
    }

    /// An organization key may name another user in the query.
    pub(super) const fn for_others(mut self) -> Self {
        self.keys = Keys::OrganizationForOthers;
        self
    }

    pub(super) const fn organization(mut self) -> Self {
        self.keys = Keys::Organization;
        self.admin()
    }

    pub(super) const fn unknown_keys(mut self) -> Self {
        self.keys = Keys::Unknown;
        self
    }

    pub(super) const fn admin(mut self) -> Self {
        self.needs_admin = true;
        self
    }

    pub(super) const fn names_user(mut self) -> Self {
        self.user_in_body = true;
        self
    }

    pub(super) const fn free(mut self, parameters: &'static [&'static str]) -> Self {
        self.free_text = parameters;
        self
    }
}

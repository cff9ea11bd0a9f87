//! What a call asks for, where it may be answered from what is kept.

use std::sync::Arc;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE, USER_AGENT, VIA,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::base::{Body, CredentialId};
use crate::cache::{Key, Lifetime, Question, Subject, Wishes};
use crate::credential::Generation;
use crate::omni;
use crate::proxy::exchange::X_REQUEST_ID;
use crate::proxy::fetch::Errand;
use crate::proxy::plan::{Keeps, PlannedRoute};
use crate::proxy::{Wait, headers};

/// What identifies us to upstream where a fetch is for several callers.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("omnigate/", env!("CARGO_PKG_VERSION")));

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Fields that ask for less than the whole answer.
const CONDITIONS: [HeaderName; 6] =
    [IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE];

/// Fields that are another with each call, and say nothing of what is asked. A fetch for several
/// callers goes without.
pub(super) const TRACES: [&str; 2] = ["traceparent", "tracestate"];

/// What decides whether and how a call may be answered from what is kept. Read from its fields as
/// they came.
#[derive(Debug)]
pub(super) struct Brought<'a> {
    pub(super) keeps: &'a Keeps,
    /// The keys that it may go with, each with the value that it has now.
    pub(super) keys: Vec<(CredentialId, Generation)>,
    pub(super) wishes: Wishes,
    /// Its fields, where upstream says what may be kept.
    fields: HeaderMap,
}

/// Why a call is never answered from what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsought {
    /// Its route keeps nothing.
    NoRule,
    /// It is no GET and no HEAD.
    Method,
    /// It has a body.
    Body,
    /// It names more than one user.
    Users,
    /// Answers of its endpoint are true once, or decide about rights.
    Never,
    /// None of its keys is good.
    NoKey,
}

/// A call that may be answered from what is kept.
pub(super) struct Sought<'a> {
    pub(super) route: &'a Arc<PlannedRoute>,
    /// How it waits; less long with each time that it looks again.
    pub(super) wait: Wait,
    pub(super) brought: Brought<'a>,
    /// The call as it would go up by itself.
    pub(super) head: Parts,
    pub(super) key: Key,
}

impl<'a> Brought<'a> {
    pub(super) fn read(
        route: &'a PlannedRoute,
        head: &Parts,
        path: &str,
        body: &Body,
    ) -> Result<Self, Unsought> {
        let keeps = route.keeps.as_ref().ok_or(Unsought::NoRule)?;
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return Err(Unsought::Method);
        }
        // What a body asks for is in no key, nor is a second user.
        if !http_body::Body::is_end_stream(body) {
            return Err(Unsought::Body);
        }
        if head.headers.get_all(headers::RUN_AS).iter().count() > 1 {
            return Err(Unsought::Users);
        }
        if omni::is_never_kept(path) {
            return Err(Unsought::Never);
        }
        let fields = match keeps.rule.lifetime {
            Lifetime::Ours(_) => HeaderMap::new(),
            Lifetime::Upstream => head.headers.clone(),
        };
        let wishes = Wishes::read(&head.headers);
        let keys = route.keys_now().ok_or(Unsought::NoKey)?;
        Ok(Self { keeps, keys, wishes, fields })
    }
}

impl<'a> Sought<'a> {
    /// Names what the call asks for.
    pub(super) fn new(
        route: &'a Arc<PlannedRoute>,
        wait: Wait,
        brought: Brought<'a>,
        mut head: Parts,
    ) -> Self {
        // One coding for all: who can read none but this one can read it, and so can everybody.
        head.headers.insert(ACCEPT_ENCODING, IDENTITY);
        let keys: Vec<(&CredentialId, u64)> =
            brought.keys.iter().map(|(id, generation)| (id, generation.number())).collect();
        let key = Key::of(&Question {
            keys: &keys,
            path: head.uri.path(),
            query: head.uri.query(),
            acts_for: head.headers.get(headers::RUN_AS),
            fields: &head.headers,
            vary: &brought.keeps.rule.vary,
        });
        Self { route, wait, brought, head, key }
    }

    /// What a fetch for all who ask this takes along: nothing by which its answer could differ that
    /// is not in the key. Where upstream's `Vary` says by what answers differ, everything but
    /// conditions.
    pub(super) fn fetch_head(&self) -> Parts {
        let mut head = self.head.clone();
        match self.brought.keeps.rule.lifetime {
            Lifetime::Ours(_) => {
                let plain =
                    [&HOST, &ACCEPT, &ACCEPT_ENCODING, &VIA, &X_REQUEST_ID, &headers::RUN_AS];
                let named = |name: &HeaderName| self.brought.keeps.rule.vary.contains(name);
                headers::retain(&mut head.headers, |name| plain.contains(&name) || named(name));
                head.headers.entry(USER_AGENT).or_insert(AGENT);
            }
            Lifetime::Upstream => headers::retain(&mut head.headers, |name| {
                !CONDITIONS.contains(name) && !TRACES.contains(&name.as_str())
            }),
        }
        // The last is our own; the others are one caller's, and no part of the question.
        if let Some(own) = head.headers.get_all(VIA).iter().next_back().cloned() {
            head.headers.insert(VIA, own);
        }
        head.method = Method::GET;
        head
    }

    pub(super) fn errand(&self, subject: Subject) -> Errand {
        let head = self.fetch_head();
        Errand {
            route: self.route.clone(),
            key: self.key.clone(),
            fields: self.head.headers.clone(),
            head,
            brought: self.brought.fields.clone(),
            lifetime: self.brought.keeps.rule.lifetime,
            stale: self.brought.keeps.rule.stale,
            subject,
            keys: self.brought.keys.clone(),
        }
    }

    /// What tells flights apart.
    pub(super) fn flight(&self) -> Key {
        match self.brought.keeps.rule.lifetime {
            Lifetime::Ours(_) => self.key.clone(),
            Lifetime::Upstream => {
                let mut fields = self.fetch_head().headers;
                fields.remove(VIA);
                fields.remove(X_REQUEST_ID);
                self.key.with_all(&fields)
            }
        }
    }

    /// Whether the call is to fail where upstream's state is another than it thinks: that is for
    /// upstream to say (RFC 9111 §4.3.2).
    pub(super) fn is_conditional_on_state(&self) -> bool {
        let fields = &self.head.headers;
        fields.contains_key(IF_MATCH) || fields.contains_key(IF_UNMODIFIED_SINCE)
    }

    /// Whether its keys have the same values as when it came, and any of them is usable.
    pub(super) fn goes_with_the_same_keys(&self) -> bool {
        self.route.keys_now().is_some_and(|keys| keys == self.brought.keys)
    }

    /// The fields that decide which of several kept answers is meant.
    pub(super) fn fields(&self) -> &HeaderMap {
        &self.head.headers
    }
}

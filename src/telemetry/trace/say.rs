//! What spans say, from what is known of an exchange.

use std::net::IpAddr;

use http::{HeaderValue, Method, Version};
use opentelemetry::trace::{Span as _, Status};
use opentelemetry::{KeyValue, StringValue};
use opentelemetry_sdk::trace::Span;

use super::spans::{Attempt, Closing, Opening};
use super::{url, words};

/// For a method that is not registered (semantic conventions of HTTP): what a caller made up is in no
/// span.
const OTHER: &str = "_OTHER";

pub(super) fn shown_method(method: &Method) -> &'static str {
    match crate::telemetry::labels::method_word(method) {
        "other" => OTHER,
        known => known,
    }
}

/// How a span of this method is called.
pub(super) fn shown_name(method: &'static str) -> &'static str {
    if method == OTHER { "HTTP" } else { method }
}

pub(super) fn opened(opening: &Opening<'_>, method: &'static str) -> Vec<KeyValue> {
    let mut all = Vec::with_capacity(8);
    all.push(KeyValue::new(words::METHOD, method));
    all.push(KeyValue::new(words::SCHEME, if opening.secure { "https" } else { "http" }));
    all.push(KeyValue::new(words::PATH, url::path(opening.path)));
    if let Some(query) = opening.query {
        all.push(KeyValue::new(words::QUERY, url::query(query)));
    }
    let version = match opening.version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    all.push(KeyValue::new(words::PROTOCOL_VERSION, version));
    if let Some(local) = opening.local {
        all.push(KeyValue::new(words::SERVER_ADDRESS, address(local.ip())));
        all.push(KeyValue::new(words::SERVER_PORT, i64::from(local.port())));
    }
    if let Some(remote) = opening.remote {
        all.push(KeyValue::new(words::CLIENT_ADDRESS, address(remote.ip())));
    }
    all
}

/// `before` is how many attempts there were already.
pub(super) fn attempted(what: &Attempt<'_>, method: &'static str, before: u32) -> Vec<KeyValue> {
    let mut full = format!("{}{}", what.origin, url::path(what.path));
    if let Some(query) = what.query {
        full.push('?');
        full.push_str(&url::query(query));
    }
    let mut all = Vec::with_capacity(12);
    all.extend([
        KeyValue::new(words::METHOD, method),
        KeyValue::new(words::FULL, full),
        KeyValue::new(words::SERVER_ADDRESS, text(what.server.0)),
        KeyValue::new(words::SERVER_PORT, i64::from(what.server.1)),
        KeyValue::new(words::PROTOCOL_VERSION, "1.1"),
    ]);
    all.extend(what.credential.map(|id| KeyValue::new(words::CREDENTIAL, text(id))));
    if before > 0 {
        all.push(KeyValue::new(words::RESEND_COUNT, i64::from(before)));
    }
    all
}

pub(super) fn closed(server: &mut Span, closing: &Closing<'_>) {
    let mut all = Vec::with_capacity(12);
    all.push(KeyValue::new(words::REQUEST_ID, text(closing.request_id)));
    if let Some(template) = closing.template {
        all.push(KeyValue::new(words::ROUTE, text(template)));
    }
    for (name, value) in [
        (words::ROUTE_NAME, closing.route),
        (words::CALLER, closing.caller),
        (words::CREDENTIAL, closing.credential),
        (words::CACHE, closing.cache),
        (words::REFUSAL, closing.refusal),
        (words::PRIORITY, closing.priority),
    ] {
        all.extend(value.map(|value| KeyValue::new(name, text(value))));
    }
    all.extend(closing.waited.map(|waited| KeyValue::new(words::WAIT, waited.as_secs_f64())));
    all.push(KeyValue::new(words::ATTEMPTS, i64::from(closing.attempts)));
    all.push(KeyValue::new(words::SIZE, int(closing.bytes)));
    all.extend(closing.status.map(|status| KeyValue::new(words::STATUS, i64::from(status))));
    // A server's 4xx is the caller's mistake and no error of the span; nor is a caller who left.
    let error = match closing.status {
        Some(status) if status >= 500 => {
            Some(closing.refusal.map_or_else(|| status.to_string(), str::to_owned))
        }
        _ if closing.broken => Some("response_broken_off".to_owned()),
        _ => None,
    };
    if let Some(error) = error {
        all.push(KeyValue::new(words::ERROR, error));
        server.set_status(Status::error(""));
    } else if !closing.complete {
        all.push(KeyValue::new(words::LEFT, true));
    }
    server.set_attributes(all);
}

/// An id of Omni's, if it is one: it is upstream's text, and goes to who knows where.
pub(super) fn plain(value: &HeaderValue) -> Option<String> {
    let id = value.to_str().ok().filter(|id| (1..=128).contains(&id.len()))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=;:".contains(&byte);
    let fits = id.bytes().all(plain) && !id.contains(crate::omni::TOKEN_PREFIX);
    fits.then(|| id.to_owned())
}

pub(super) fn text(value: &str) -> StringValue {
    value.to_owned().into()
}

fn address(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}

pub(super) fn int(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

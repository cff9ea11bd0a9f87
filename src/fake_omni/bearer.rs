//! Who asks: the bearer, and for whom it acts.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;

use super::answer;
use super::holdings::Holdings;
use super::log::Sender;
use super::settings::{Key, KeyKind, Standing};
use super::text::Query;
use crate::base::Body;

/// What a request's `Authorization` turned out to be.
#[derive(Debug)]
pub(super) enum Bearer {
    /// A key that the instance knows.
    Known(Key),
    /// Well-formed, but no key of ours.
    Invalid,
    /// Absent, there more than once, or not `Bearer <token>`.
    Malformed,
}

impl Bearer {
    pub(super) fn read(fields: &HeaderMap, keys: &[Key]) -> Self {
        let mut values = fields.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Self::Malformed };
        let token = value.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default();
        if token.is_empty() || token.iter().any(u8::is_ascii_whitespace) {
            return Self::Malformed;
        }
        let known = keys.iter().find(|key| key.token().as_bytes() == token);
        known.map_or(Self::Invalid, |key| Self::Known(key.clone()))
    }

    pub(super) fn sender(&self) -> Sender {
        match self {
            Self::Known(key) => Sender::Owner(Arc::from(key.owner())),
            Self::Invalid => Sender::Invalid,
            Self::Malformed => Sender::Malformed,
        }
    }

    /// The key, if it may be used.
    pub(super) fn key(&self) -> Result<&Key, Unfit> {
        match self {
            Self::Known(key) => match key.standing() {
                Standing::Active => Ok(key),
                Standing::Demoted => Err(Unfit::Demoted),
            },
            Self::Invalid => Err(Unfit::Invalid),
            Self::Malformed => Err(Unfit::Malformed),
        }
    }
}

/// Why a bearer is not let through, or not for the user whom it names. In Omni's own words.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("Bad authorization header, must be formatted as Bearer <token>")]
    Malformed,
    #[error("Invalid bearer token")]
    Invalid,
    #[error("User no longer has the required permissions to use this API key")]
    Demoted,
    #[error("userId must not be given both in the query and in the body")]
    TwoUsers,
    #[error("User with id {0} does not exist")]
    NoSuchUser(String),
    #[error("User-scoped API keys can only be used to act on behalf of the authenticated user.")]
    NotYourself,
}

impl Unfit {
    /// The middleware that checks the bearer and the application have shapes of their own.
    pub(super) fn answer(&self) -> Response<Body> {
        let message = self.to_string();
        match self {
            Self::Malformed => answer::bearer(StatusCode::BAD_REQUEST, &message),
            Self::Invalid | Self::Demoted => answer::bearer(StatusCode::FORBIDDEN, &message),
            Self::TwoUsers => answer::detail(StatusCode::BAD_REQUEST, &message),
            Self::NoSuchUser(_) => answer::detail(StatusCode::NOT_FOUND, &message),
            Self::NotYourself => answer::detail(StatusCode::FORBIDDEN, &message),
        }
    }
}

/// The membership for which a call acts by `userId`, if any.
pub(super) fn acting_for(
    key: &Key,
    query: &Query,
    document: &Value,
    holdings: &Holdings,
) -> Result<Option<String>, Unfit> {
    let user = match (query.get("userId"), document["userId"].as_str()) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(Unfit::TwoUsers),
        (Some(user), None) | (None, Some(user)) => user,
    };
    match key.kind() {
        KeyKind::Organization if !holdings.has_user(user) => {
            Err(Unfit::NoSuchUser(user.to_owned()))
        }
        KeyKind::Personal | KeyKind::Mcp if holdings.membership(key.owner()) != user => {
            Err(Unfit::NotYourself)
        }
        KeyKind::Organization | KeyKind::Personal | KeyKind::Mcp => Ok(Some(user.to_owned())),
    }
}

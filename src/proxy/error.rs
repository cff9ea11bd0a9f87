//! Every way in which a call is not answered by upstream: one variant per room.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::base::{BoxError, CallerId, CredentialId, RouteId, TooSlow};
use crate::caller::{FromAPage, Unknown};
use crate::credential::Unavailable;
use crate::policy::Denied;
use crate::proxy::headers::{BadFraming, Loop};
use crate::proxy::replay::NotWhole;
use crate::route::BadTarget;
use crate::saver::TooSoon;
use crate::shape::Refused;
use crate::upstream::{ConnectError, SendError};

/// Why a call got no answer from upstream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Target(#[from] BadTarget),
    #[error(transparent)]
    Framing(#[from] BadFraming),
    #[error(transparent)]
    Loop(#[from] Loop),
    #[error(transparent)]
    Browser(#[from] FromAPage),
    #[error(transparent)]
    Caller(#[from] Unknown),
    /// The caller is held to other routes.
    #[error("the caller `{caller}` is not let onto the route `{route}`")]
    RouteDenied { caller: CallerId, route: RouteId },
    #[error("no route takes this path")]
    NoRoute { nearest: Vec<RouteId> },
    #[error("an escaped separator in the path is not taken by a wildcard route")]
    EscapedSeparator,
    #[error("no route of this path takes this method")]
    Method { allowed: Vec<Method> },
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    TooSoon(#[from] TooSoon),
    #[error(transparent)]
    Credential(#[from] Unavailable),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Send(SendError),
    /// The caller's body broke off, or its framing is wrong.
    #[error("the request body broke off: {0}")]
    Upload(BoxError),
    /// The caller's body came too slowly, while it was asked for.
    #[error(transparent)]
    TooSlow(TooSlow),
    /// Upstream took connections and closed them again before a head could be sent.
    #[error("upstream closes its connections before anything is sent")]
    Unsteady,
    /// Omni's limit refused the call, and its body is no longer at hand to be sent again.
    #[error("Omni is busy, and the request body is too large to be kept and sent again")]
    Busy { retry_after: Duration },
    /// The key was replaced while the call was under way, and its body is no longer at hand.
    #[error(
        "Omni refused the credential `{credential}`, which was replaced meanwhile; the request body is \
         too large to be kept and sent again"
    )]
    Replaced { credential: CredentialId },
    /// A body must be looked into, and the memory for bodies is taken.
    #[error("there is no room now for a body that must be read before its call may wait")]
    Overloaded,
    /// The answer broke off before it could be given to those who wait for it.
    #[error("the answer broke off before its end")]
    Incomplete,
    /// The caller takes only what is kept.
    #[error("nothing is kept for this, and the call says `only-if-cached`")]
    NotKept,
    /// What a fetch failed with that several callers waited for.
    #[error(transparent)]
    Shared(Arc<Self>),
    #[error("a panic in the gateway")]
    Panic,
}

impl Error {
    /// A request body ended in an error: ours, where it grew too large or came too slowly, or the
    /// caller's.
    pub(crate) fn upload(cause: BoxError) -> Self {
        if let Some(slow) = cause.downcast_ref::<TooSlow>() {
            return Self::TooSlow(*slow);
        }
        match cause.downcast::<Denied>() {
            Ok(denied) => Self::Denied(*denied),
            Err(cause) => Self::Upload(cause),
        }
    }

    /// Whether upstream failed, and not the call, the queue or a key.
    pub(crate) fn is_upstreams(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Send(_) | Self::Unsteady | Self::Incomplete => true,
            Self::Shared(error) => error.is_upstreams(),
            Self::Target(_)
            | Self::Framing(_)
            | Self::Loop(_)
            | Self::Browser(_)
            | Self::Caller(_)
            | Self::RouteDenied { .. }
            | Self::NoRoute { .. }
            | Self::EscapedSeparator
            | Self::Method { .. }
            | Self::Denied(_)
            | Self::Refused(_)
            | Self::TooSoon(_)
            | Self::Credential(_)
            | Self::Upload(_)
            | Self::TooSlow(_)
            | Self::Busy { .. }
            | Self::Replaced { .. }
            | Self::Overloaded
            | Self::NotKept
            | Self::Panic => false,
        }
    }

    /// Whether the caller itself ended the call: its connection or stream is gone, so that a
    /// body that broke off is no mistake of its bytes, and nobody reads an answer.
    pub(crate) fn caller_left(&self) -> bool {
        use std::io::ErrorKind as K;
        if let Self::Shared(error) = self {
            return error.caller_left();
        }
        let Self::Upload(cause) = self else { return false };
        let lost = |error: &std::io::Error| {
            matches!(
                error.kind(),
                K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::UnexpectedEof
            )
        };
        let reset = |error: &h2::Error| error.is_reset() || error.is_go_away();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&**cause);
        while let Some(error) = cause {
            if error.downcast_ref().is_some_and(lost) || error.downcast_ref().is_some_and(reset) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl From<NotWhole> for Error {
    fn from(why: NotWhole) -> Self {
        match why {
            NotWhole::TooLarge { limit } => Self::Denied(Denied::BodyUnseen { limit }),
            NotWhole::NoRoom => Self::Overloaded,
            NotWhole::Broken(cause) => Self::upload(cause),
            NotWhole::Late(slow) => Self::TooSlow(slow),
        }
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Upload(cause) => Self::upload(cause),
            other @ (SendError::NotBegun
            | SendError::Broken(_)
            | SendError::Timeout { .. }
            | SendError::Switched) => Self::Send(other),
        }
    }
}

//! ROOM: who is asking.
//!
//! A caller is told by what it cannot choose, in this order: a token that it shows, the certificate
//! with which it proved who it is, the user at the other end of a unix socket, the address at the
//! other end of a TCP one. `X-Omnigate-Caller: NAME` is a word of honour, for callers on the same
//! machine that want to be told apart. It counts only
//!
//! - from loopback, a unix socket or a pipe in this process,
//! - from a peer that no rule identifies: who has a name cannot take another one, and so cannot
//!   leave its own limits behind,
//! - and only towards callers that have no rules: nobody poses as one who is told by a rule, to
//!   spend its share or to fill its queue.
//!
//! Anywhere else it is ignored. So it gives nothing that `anonymous` could not ask for; a limit
//! of a caller that has only a name holds for those who use the name. A listener that does not let
//! `anonymous` in does not let a word of honour in either.
//!
//! [`check`] keeps web pages away, before anybody is asked for a name.

mod browser;
mod cidr;
mod identity;
mod token;

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::base::{CallerId, Priority, RouteId};

pub use browser::{BadHost, FromAPage, Host, Hosts, Pages, check};
pub use cidr::{Cidr, CidrError};
pub use identity::{Callers, ToldBy, Unknown};
pub(crate) use token::TOKEN;
pub use token::{BadDigest, TokenDigest};

/// One caller, and how it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerSettings {
    /// Any of these; without any, it is told by its own word.
    pub matches: Vec<Match>,
    /// Who it is.
    pub caller: Caller,
}

/// What a peer is told by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The user id at the other end of a unix socket.
    Uid(u32),
    /// The address at the other end of a TCP socket. Of several ranges that have an address, the
    /// smallest counts.
    Cidr(Cidr),
    /// A subject alternative name of its certificate.
    San(String),
    /// The token that it shows.
    Token(TokenDigest),
}

/// Who is asking, and what it may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its name.
    pub id: CallerId,
    /// The priority of its calls where neither they nor their route say.
    pub priority: Priority,
    /// The most urgent that its calls can be.
    pub max_priority: Priority,
    /// How many of its calls may wait; `None` for as many as the budget takes.
    pub max_queued: Option<usize>,
    /// How long its calls wait where neither they nor their route say.
    pub max_wait: Option<Duration>,
    /// How many calls it may make.
    pub rate: Option<Rate>,
    /// The routes that its calls may take; `None` for all.
    pub routes: Option<Vec<RouteId>>,
}

/// So many calls in any window of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls per window.
    pub limit: NonZeroU32,
    /// The length of the window; not zero.
    pub window: Duration,
}

impl Caller {
    /// The name of whoever is nobody else; no other caller has it.
    pub const ANONYMOUS: &str = "anonymous";
    /// The name under which we make calls of our own; no caller has it.
    pub const OURSELVES: &str = "omnigate";

    /// Whoever is nobody else.
    pub fn anonymous() -> Self {
        Self {
            id: CallerId::new(Self::ANONYMOUS),
            priority: Priority::Normal,
            max_priority: Priority::Interactive,
            max_queued: None,
            max_wait: None,
            rate: None,
            routes: None,
        }
    }

    /// Who makes the calls that no caller makes.
    pub fn ourselves() -> Self {
        Self { id: CallerId::new(Self::OURSELVES), ..Self::anonymous() }
    }

    /// How urgent a call is: as it asks itself, or else as its route says, or else as this caller's
    /// calls are; never more than this caller may.
    pub fn priority_of(&self, route: Option<Priority>, asked: Option<Priority>) -> Priority {
        asked.or(route).unwrap_or(self.priority).max(self.max_priority)
    }

    /// Whether its calls may go by this route.
    pub fn may_take(&self, route: &RouteId) -> bool {
        // A few names at most: shorter than a look-up.
        self.routes.as_ref().is_none_or(|routes| routes.contains(route))
    }
}

/// A field that may come once came more often.
struct Twice;

/// A field's one value.
fn once<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Twice> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(Twice) } else { Ok(first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_as_urgent_as_it_asks_within_what_its_caller_may() {
        use Priority::{Batch as B, Interactive as I, Normal as N};
        #[rustfmt::skip]
        let table = [
            // usual, most, route,   asked,   is
            (N, I, None,    None,    N),
            (B, I, None,    None,    B),
            (N, I, Some(B), None,    B),
            (N, I, Some(I), None,    I),
            (B, I, Some(I), None,    I),
            // The call's own word: it lowers freely, and raises as far as its caller may.
            (N, I, None,    Some(B), B),
            (N, I, None,    Some(I), I),
            (N, I, Some(B), Some(I), I),
            (I, I, Some(I), Some(B), B),
            (B, N, None,    Some(I), N),
            (N, N, Some(B), Some(I), N),
            (N, N, None,    Some(B), B),
            // A caller that is kept at batch stays there, whatever is said.
            (B, B, None,    None,    B),
            (B, B, Some(I), None,    B),
            (B, B, None,    Some(I), B),
            (B, B, Some(I), Some(I), B),
            (N, B, None,    None,    B),
        ];
        for (priority, max_priority, route, asked, is) in table {
            let caller = Caller { priority, max_priority, ..Caller::anonymous() };
            assert_eq!(caller.priority_of(route, asked), is, "{caller:?} {route:?} {asked:?}");
        }
    }

    #[test]
    fn a_caller_takes_the_routes_that_it_is_held_to_and_no_others() {
        let held = |routes: &[&str]| Caller {
            routes: Some(routes.iter().map(|name| RouteId::new(*name)).collect()),
            ..Caller::anonymous()
        };
        let lists = RouteId::new("lists");
        assert!(Caller::anonymous().may_take(&lists));
        assert!(held(&["rest", "lists"]).may_take(&lists));
        for routes in [&[][..], &["rest"], &["list", "listss", "Lists", ""]] {
            assert!(!held(routes).may_take(&lists), "{routes:?}");
        }
    }
}

//! ROOM: who is asking.
//!
//! A caller is told by what it cannot choose: the user at the other end of a unix socket, or the
//! address at the other end of a TCP one. `X-Omnigate-Caller: NAME` is a word of honour, for
//! callers on the same machine that want to be told apart. It counts only
//!
//! - from loopback, a unix socket or a pipe in this process,
//! - from a peer that no rule identifies: who has a name cannot take another one, and so cannot
//!   leave its own limits behind,
//! - and only towards callers that have no rules: nobody poses as one who is told by its user or
//!   address, to spend its share or to fill its queue.
//!
//! Anywhere else it is ignored. So it gives nothing that `anonymous` could not ask for; a limit
//! of a caller that has only a name holds for those who use the name.

mod cidr;
mod token;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::base::{CallerId, Peer, Priority, Remote, RouteId};

pub use cidr::{Cidr, CidrError};
pub use token::{BadDigest, TokenDigest};

/// How a caller on the same machine says its name.
const CALLER: HeaderName = HeaderName::from_static("x-omnigate-caller");

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

/// All callers.
#[derive(Debug)]
pub struct Callers {
    all: Vec<Arc<Caller>>,
    users: HashMap<u32, Arc<Caller>>,
    /// The smallest range first.
    ranges: Vec<(Cidr, Arc<Caller>)>,
    /// Those that have no rules.
    names: HashMap<String, Arc<Caller>>,
    anonymous: Arc<Caller>,
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
}

impl Callers {
    /// Gathers the callers. Where two are told by the same user or range, the first one counts.
    pub fn new(settings: Vec<CallerSettings>) -> Self {
        let anonymous = Arc::new(Caller::anonymous());
        let mut callers = Self {
            all: Vec::new(),
            users: HashMap::new(),
            ranges: Vec::new(),
            names: HashMap::new(),
            anonymous: anonymous.clone(),
        };
        for CallerSettings { matches, caller } in settings {
            let caller = Arc::new(caller);
            if matches.is_empty() {
                callers.names.insert(caller.id.as_str().to_owned(), caller.clone());
            }
            for rule in matches {
                match rule {
                    Match::Uid(uid) => {
                        callers.users.entry(uid).or_insert_with(|| caller.clone());
                    }
                    Match::Cidr(range) => callers.ranges.push((range, caller.clone())),
                    Match::San(_) | Match::Token(_) => {}
                }
            }
            callers.all.push(caller);
        }
        callers.ranges.sort_by_key(|(range, _)| std::cmp::Reverse(range.prefix()));
        callers.all.push(anonymous);
        callers
    }

    /// Everybody that [`identify`](Self::identify) can give, `anonymous` included.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Caller>> {
        self.all.iter()
    }

    /// Who is asking: whom a rule identifies, or else whom the peer says it is, as far as that is
    /// believed, or else `anonymous`.
    pub fn identify(&self, peer: &Peer, headers: &HeaderMap) -> Arc<Caller> {
        let known = self.by_rule(&peer.remote).or_else(|| self.by_word(&peer.remote, headers));
        known.unwrap_or(&self.anonymous).clone()
    }

    fn by_rule(&self, remote: &Remote) -> Option<&Arc<Caller>> {
        match remote {
            Remote::Tcp(address) => {
                let mut ranges = self.ranges.iter();
                ranges.find(|(range, _)| range.contains(address.ip())).map(|(_, caller)| caller)
            }
            Remote::Unix { uid } => self.users.get(uid.as_ref()?),
            Remote::Pipe => None,
        }
    }

    fn by_word(&self, remote: &Remote, headers: &HeaderMap) -> Option<&Arc<Caller>> {
        let here = match remote {
            Remote::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Remote::Unix { .. } | Remote::Pipe => true,
        };
        let mut words = headers.get_all(CALLER).iter();
        let word = words.next().filter(|_| here)?;
        // Who says two names says none.
        if words.next().is_some() {
            return None;
        }
        self.names.get(word.to_str().ok()?)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::HeaderValue;

    use super::*;

    fn caller(name: &str, matches: &[Match]) -> CallerSettings {
        let caller = Caller { id: CallerId::new(name), ..Caller::anonymous() };
        CallerSettings { matches: matches.to_vec(), caller }
    }

    fn range(text: &str) -> Match {
        Match::Cidr(Cidr::parse(text).unwrap())
    }

    fn callers() -> Callers {
        Callers::new(vec![
            caller("nightly", &[Match::Uid(1001)]),
            caller("cluster", &[range("10.0.0.0/8"), range("fd00::/8")]),
            caller("reports", &[range("10.1.0.0/16"), Match::Uid(1002)]),
            caller("laptop", &[range("127.0.0.2"), range("::1")]),
            caller("notebook", &[]),
            caller("script", &[]),
        ])
    }

    fn tcp(address: &str) -> Peer {
        let remote = Remote::Tcp(SocketAddr::new(address.parse().unwrap(), 50_000));
        Peer::plain(remote, None)
    }

    fn unix(uid: Option<u32>) -> Peer {
        Peer::plain(Remote::Unix { uid }, None)
    }

    fn saying(names: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append(CALLER, HeaderValue::from_bytes(name.as_bytes()).unwrap());
        }
        headers
    }

    fn who(peer: &Peer, says: &[&str]) -> String {
        callers().identify(peer, &saying(says)).id.as_str().to_owned()
    }

    #[test]
    fn a_peer_is_told_by_its_user_or_its_address() {
        assert_eq!(who(&unix(Some(1001)), &[]), "nightly");
        assert_eq!(who(&unix(Some(1002)), &[]), "reports");
        assert_eq!(who(&tcp("10.2.3.4"), &[]), "cluster");
        assert_eq!(who(&tcp("::ffff:10.2.3.4"), &[]), "cluster");
        assert_eq!(who(&tcp("fd00::7"), &[]), "cluster");
        for nobody in
            [unix(Some(0)), unix(None), tcp("192.168.0.1"), tcp("127.0.0.1"), Peer::pipe()]
        {
            assert_eq!(who(&nobody, &[]), "anonymous", "{nobody:?}");
        }
    }

    #[test]
    fn the_smallest_range_counts_in_whatever_order_they_stand() {
        assert_eq!(who(&tcp("10.1.3.4"), &[]), "reports");
        assert_eq!(who(&tcp("::ffff:10.1.3.4"), &[]), "reports");
    }

    #[test]
    fn on_this_machine_a_name_is_enough_where_no_rule_speaks() {
        let here = [
            tcp("127.0.0.1"),
            tcp("127.8.0.1"),
            tcp("::ffff:127.0.0.1"),
            unix(None),
            unix(Some(5)),
            Peer::pipe(),
        ];
        for peer in here {
            assert_eq!(who(&peer, &["notebook"]), "notebook", "{peer:?}");
            for ignored in [
                &["unknown"][..],
                &[""],
                &["Notebook"],
                &["notebook, script"],
                &["anonymous"],
                &["notebook", "script"],
                &["notebook", "notebook"],
                &["\u{e9}"],
            ] {
                assert_eq!(who(&peer, ignored), "anonymous", "{peer:?} says {ignored:?}");
            }
        }
    }

    #[test]
    fn from_elsewhere_a_name_is_only_a_word() {
        for peer in [tcp("192.168.0.1"), tcp("::ffff:192.168.0.1"), tcp("2001:db8::1")] {
            assert_eq!(who(&peer, &["notebook"]), "anonymous", "{peer:?}");
        }
        assert_eq!(who(&tcp("10.2.3.4"), &["notebook"]), "cluster");
    }

    #[test]
    fn whom_a_rule_identifies_cannot_leave_its_limits_behind() {
        for name in ["notebook", "reports", "anonymous"] {
            assert_eq!(who(&unix(Some(1001)), &[name]), "nightly");
            assert_eq!(who(&tcp("127.0.0.2"), &[name]), "laptop");
            assert_eq!(who(&tcp("::1"), &[name]), "laptop");
        }
    }

    #[test]
    fn nobody_poses_as_one_who_is_told_by_a_rule() {
        for peer in [tcp("127.0.0.1"), unix(Some(5)), Peer::pipe()] {
            for name in ["nightly", "cluster", "laptop"] {
                assert_eq!(who(&peer, &[name]), "anonymous", "{peer:?} says {name}");
            }
        }
    }

    #[test]
    fn everybody_is_listed_once() {
        let callers = callers();
        let names: Vec<&str> = callers.iter().map(|caller| caller.id.as_str()).collect();
        let all = ["nightly", "cluster", "reports", "laptop", "notebook", "script", "anonymous"];
        assert_eq!(names, all);
        let known = callers.identify(&Peer::pipe(), &saying(&["script"]));
        assert!(callers.iter().any(|caller| Arc::ptr_eq(caller, &known)));
    }

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
}

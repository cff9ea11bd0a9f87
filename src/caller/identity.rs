//! From what a peer shows to who it is.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::token::Tokens;
use super::{Caller, CallerSettings, Cidr, Match};
use crate::base::{Certificate, Entrance, Peer, Remote};

/// How a caller on the same machine says its name.
const CALLER: HeaderName = HeaderName::from_static("x-omnigate-caller");

/// Why nobody is known to be asking. Repeats nothing of what was shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The listener asks for a field, which is not there, more than once there, or says something else.
    #[error(
        "this listener takes only requests with the field `{name}`, once and with the value that it is \
         configured for"
    )]
    Header {
        /// The field's name.
        name: HeaderName,
    },
    /// A token that is nobody's.
    #[error(
        "the token is no caller's; show the right one in `X-Omnigate-Token`, or as a bearer in \
         `Authorization`, or leave both out"
    )]
    Token,
    /// More than one token.
    #[error(
        "the request shows more than one token; show one, in `X-Omnigate-Token` or as a bearer in \
         `Authorization`"
    )]
    Tokens,
    /// No token, where strangers are not let in and some callers have one.
    #[error(
        "this listener is for known callers; show a token in `X-Omnigate-Token`, or as a bearer in \
         `Authorization`"
    )]
    NoToken,
    /// Nobody whom a rule identifies, where strangers are not let in and nobody has a token.
    #[error("this listener is for known callers, and no rule of its config knows this one")]
    Nobody,
}

/// What a caller was told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// The token that it showed.
    Token,
    /// The certificate that it proved to have.
    Certificate,
    /// The user at the other end of a unix socket.
    User,
    /// The address at the other end of a TCP socket.
    Address,
    /// Its own word, `X-Omnigate-Caller`.
    Word,
    /// Nothing: it is whoever is nobody else.
    Nothing,
}

/// All callers.
#[derive(Debug)]
pub struct Callers {
    all: Vec<Arc<Caller>>,
    tokens: Tokens,
    /// Names of certificates, in the order of the callers.
    certified: Vec<(String, Arc<Caller>)>,
    users: HashMap<u32, Arc<Caller>>,
    /// The smallest range first.
    ranges: Vec<(Cidr, Arc<Caller>)>,
    /// Those that have no rules.
    names: HashMap<String, Arc<Caller>>,
    anonymous: Arc<Caller>,
}

impl Callers {
    /// Gathers the callers. Where two are told by the same thing, the first one counts.
    pub fn new(settings: Vec<CallerSettings>) -> Self {
        let anonymous = Arc::new(Caller::anonymous());
        let mut callers = Self {
            all: Vec::new(),
            tokens: Tokens::default(),
            certified: Vec::new(),
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
                    Match::San(name) => {
                        callers.certified.push((comparable(name), caller.clone()));
                    }
                    Match::Token(digest) => callers.tokens.add(digest, caller.clone()),
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

    /// Who is asking: whose token it shows, whose certificate it proved to have, whom its user or address
    /// identifies, or else whom it says it is, as far as that is believed, or else `anonymous`. The
    /// last two only where its listener lets strangers in.
    ///
    /// # Errors
    /// [`Unknown`], where a token is wrong, or the listener asks for more than was shown.
    pub fn identify(&self, peer: &Peer, headers: &HeaderMap) -> Result<Arc<Caller>, Unknown> {
        self.tell(peer, headers).map(|(caller, _)| caller)
    }

    /// The same, and what told it.
    ///
    /// # Errors
    /// As [`identify`](Self::identify).
    pub fn tell(&self, peer: &Peer, headers: &HeaderMap) -> Result<(Arc<Caller>, ToldBy), Unknown> {
        let Entrance { anonymous, required } = &*peer.entrance;
        if let Some((name, value)) = required {
            let mut fields = headers.get_all(name).iter();
            if fields.next() != Some(value) || fields.next().is_some() {
                return Err(Unknown::Header { name: name.clone() });
            }
        }
        let by_token = self.tokens.whose(headers, *anonymous)?.map(|one| (one, ToldBy::Token));
        let by_certificate = || {
            let caller = self.by_certificate(peer.certificate.as_deref()?)?;
            Some((caller, ToldBy::Certificate))
        };
        let known = by_token.or_else(by_certificate).or_else(|| self.by_socket(&peer.remote));
        match known {
            Some((caller, told_by)) => Ok((caller.clone(), told_by)),
            None if *anonymous => Ok(match self.by_word(&peer.remote, headers) {
                Some(caller) => (caller.clone(), ToldBy::Word),
                None => (self.anonymous.clone(), ToldBy::Nothing),
            }),
            None if self.tokens.is_empty() => Err(Unknown::Nobody),
            None => Err(Unknown::NoToken),
        }
    }

    fn by_certificate(&self, certificate: &Certificate) -> Option<&Arc<Caller>> {
        let mut rules = self.certified.iter();
        rules.find(|(name, _)| certificate.names.contains(name)).map(|(_, caller)| caller)
    }

    fn by_socket(&self, remote: &Remote) -> Option<(&Arc<Caller>, ToldBy)> {
        match remote {
            Remote::Tcp(address) => {
                let mut ranges = self.ranges.iter();
                let (_, caller) = ranges.find(|(range, _)| range.contains(address.ip()))?;
                Some((caller, ToldBy::Address))
            }
            Remote::Unix { uid } => Some((self.users.get(uid.as_ref()?)?, ToldBy::User)),
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

/// DNS names in lower case, as certificates' are; a URI, which has a `:`, as it is.
fn comparable(name: String) -> String {
    if name.contains(':') { name } else { name.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::HeaderValue;
    use http::header::AUTHORIZATION;
    use proptest::prelude::*;

    use super::*;
    use crate::base::CallerId;
    use crate::caller::TokenDigest;
    use crate::caller::token::TOKEN;

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
        callers().identify(peer, &saying(says)).unwrap().id.as_str().to_owned()
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
        let known = callers.identify(&Peer::pipe(), &saying(&["script"])).unwrap();
        assert!(callers.iter().any(|caller| Arc::ptr_eq(caller, &known)));
    }

    const SPIFFE: &str = "spiffe://acme/ns/bi/sa/Reports";

    fn token(text: &str) -> Match {
        Match::Token(TokenDigest::of(text.as_bytes()))
    }

    /// Some for each way in which a caller is told.
    fn all_ways() -> Callers {
        Callers::new(vec![
            caller("keyed", &[token("t-one"), token("t-two")]),
            caller("other", &[token("t-three")]),
            caller("mesh", &[Match::San(SPIFFE.to_owned())]),
            caller("named", &[Match::San("Reports.Acme.Internal".to_owned())]),
            caller("user", &[Match::Uid(1001)]),
            caller("cluster", &[range("10.0.0.0/8")]),
            caller("notebook", &[]),
        ])
    }

    fn certified(mut peer: Peer, names: &[&str]) -> Peer {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        peer.certificate = Some(Arc::new(Certificate { names }));
        peer
    }

    fn strict(mut peer: Peer) -> Peer {
        peer.entrance = Arc::new(Entrance { anonymous: false, required: None });
        peer
    }

    fn fields(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn name(callers: &Callers, peer: &Peer, shows: &[(&str, &str)]) -> Result<String, Unknown> {
        let known = callers.identify(peer, &fields(shows));
        known.map(|caller| caller.id.as_str().to_owned())
    }

    #[test]
    fn a_token_tells_its_caller_on_every_listener_and_before_all_else() {
        let (here, cluster) = (Peer::pipe(), certified(tcp("10.1.1.1"), &[SPIFFE]));
        for peer in [here, unix(Some(1001)), tcp("192.168.0.1"), cluster] {
            for peer in [peer.clone(), strict(peer)] {
                for (shows, who) in [
                    (&[("x-omnigate-token", "t-one")][..], "keyed"),
                    (&[("x-omnigate-token", "t-two")], "keyed"),
                    (&[("authorization", "Bearer t-three")], "other"),
                    (&[("authorization", "bearer  t-three")], "other"),
                    (&[("x-omnigate-token", "t-one"), ("authorization", "Bearer t-one")], "keyed"),
                    (&[("x-omnigate-token", "t-one"), ("authorization", "Basic eDp5")], "keyed"),
                    (&[("x-omnigate-token", "t-one"), ("x-omnigate-caller", "notebook")], "keyed"),
                ] {
                    let is = name(&all_ways(), &peer, shows);
                    assert_eq!(is.as_deref(), Ok(who), "{peer:?} {shows:?}");
                }
            }
        }
    }

    #[test]
    fn a_wrong_token_of_ours_and_two_tokens_are_refused_everywhere() {
        for peer in [Peer::pipe(), unix(Some(1001)), certified(tcp("10.1.1.1"), &[SPIFFE])] {
            for peer in [peer.clone(), strict(peer)] {
                for wrong in
                    ["", "t", "t-on", "t-one ", "T-ONE", "t-one, t-one", "Bearer t-one", "\u{e9}"]
                {
                    for callers in [all_ways(), callers()] {
                        let is = name(&callers, &peer, &[("x-omnigate-token", wrong)]);
                        assert_eq!(is, Err(Unknown::Token), "{wrong}");
                    }
                }
                let (own, bearer) = ("x-omnigate-token", "authorization");
                for two in [
                    [(own, "t-one"), (own, "t-one")],
                    [(own, "t-one"), (own, "t-two")],
                    [(own, "t-one"), (bearer, "Bearer t-two")],
                    [(own, "t-one"), (bearer, "Bearer t-three")],
                    [(own, "wrong"), (bearer, "Bearer t-three")],
                    [(bearer, "Bearer t-one"), (bearer, "Bearer t-one")],
                    [(bearer, "Bearer dummy"), (bearer, "Basic eDp5")],
                ] {
                    let is = name(&all_ways(), &peer, &two);
                    assert_eq!(is, Err(Unknown::Tokens), "{two:?}");
                }
            }
        }
    }

    #[test]
    fn a_foreign_bearer_says_nothing_where_strangers_are_let_in() {
        let dummy = ("authorization", "Bearer dummy");
        for shows in [dummy, ("authorization", "Bearer"), ("authorization", "Basic eDp5")] {
            let is = |peer: &Peer| name(&all_ways(), peer, &[shows]);
            assert_eq!(is(&Peer::pipe()).as_deref(), Ok("anonymous"));
            assert_eq!(is(&tcp("10.1.1.1")).as_deref(), Ok("cluster"));
        }
        let both = [dummy, ("x-omnigate-token", "t-one")];
        assert_eq!(name(&all_ways(), &Peer::pipe(), &both).as_deref(), Ok("keyed"));
        assert_eq!(name(&all_ways(), &strict(Peer::pipe()), &both), Err(Unknown::Tokens));
        let cluster = strict(tcp("10.1.1.1"));
        assert_eq!(name(&all_ways(), &cluster, &[dummy]), Err(Unknown::Token));
        let basic = [("authorization", "Basic eDp5")];
        assert_eq!(name(&all_ways(), &cluster, &basic).as_deref(), Ok("cluster"));
        // Where nobody has a token, none can be a wrong one of ours.
        assert_eq!(name(&callers(), &cluster, &[dummy]).as_deref(), Ok("reports"));
    }

    #[test]
    fn a_certificate_tells_its_owner_by_any_of_its_names() {
        let is =
            |names: &[&str]| name(&all_ways(), &certified(tcp("10.1.1.1"), names), &[]).unwrap();
        assert_eq!(is(&[SPIFFE]), "mesh");
        assert_eq!(is(&["x.internal", "reports.acme.internal"]), "named");
        // Of two, the first caller.
        assert_eq!(is(&["reports.acme.internal", SPIFFE]), "mesh");
        for other in [
            "spiffe://acme/ns/bi/sa/reports",
            "spiffe://acme/ns/bi/sa/Reports/",
            "spiffe://acme/ns/bi/sa/Report",
            "*.acme.internal",
            "acme.internal",
            "",
        ] {
            assert_eq!(is(&[other]), "cluster", "{other}");
        }
        assert_eq!(is(&[]), "cluster");
    }

    #[test]
    fn strangers_come_in_only_where_they_may() {
        let word = [("x-omnigate-caller", "notebook")];
        for peer in [Peer::pipe(), unix(Some(5)), tcp("127.0.0.1"), certified(tcp("::1"), &["x"])] {
            let peer = strict(peer);
            for shows in [&[][..], &word] {
                assert_eq!(name(&all_ways(), &peer, shows), Err(Unknown::NoToken), "{peer:?}");
            }
            assert_eq!(name(&Callers::new(Vec::new()), &peer, &word), Err(Unknown::Nobody));
        }
        assert_eq!(name(&all_ways(), &strict(unix(Some(1001))), &[]).as_deref(), Ok("user"));
        assert_eq!(name(&all_ways(), &strict(tcp("10.1.1.1")), &[]).as_deref(), Ok("cluster"));
    }

    #[test]
    fn a_field_that_a_listener_asks_for_is_there_once_or_nothing_is_answered() {
        let mut peer = Peer::pipe();
        let required = HeaderName::from_static("x-omnigate");
        let asked = (required.clone(), HeaderValue::from_static("1"));
        peer.entrance = Arc::new(Entrance { anonymous: true, required: Some(asked) });
        let right = ("x-omnigate-token", "t-one");
        assert_eq!(name(&all_ways(), &peer, &[("x-omnigate", "1")]).as_deref(), Ok("anonymous"));
        assert_eq!(name(&all_ways(), &peer, &[("x-omnigate", "1"), right]).as_deref(), Ok("keyed"));
        for wrong in [
            &[right][..],
            &[right, ("x-omnigate", "")],
            &[right, ("x-omnigate", "11")],
            &[right, ("x-omnigate", "1, 1")],
            &[right, ("x-omnigate", "1"), ("x-omnigate", "1")],
            &[right, ("x-omnigate", "1"), ("x-omnigate", "2")],
        ] {
            let refused = Unknown::Header { name: required.clone() };
            assert_eq!(name(&all_ways(), &peer, wrong), Err(refused), "{wrong:?}");
        }
    }

    #[test]
    fn a_refusal_repeats_nothing_of_a_token() {
        for shows in [&["secret-of-mine"][..], &["secret-of-mine", "t-one"]] {
            let shows: Vec<_> = shows.iter().map(|token| ("x-omnigate-token", *token)).collect();
            let refused = name(&all_ways(), &Peer::pipe(), &shows).unwrap_err();
            assert!(!format!("{refused} {refused:?}").contains("secret"), "{refused}");
        }
    }

    fn any_rule() -> impl Strategy<Value = Match> {
        prop_oneof![
            (0..4u32).prop_map(Match::Uid),
            (0..4u8, 8..=32u8).prop_map(|(net, bits)| {
                let range = format!("10.{net}.0.0/{}", bits.max(16));
                Match::Cidr(Cidr::parse(&range).unwrap())
            }),
            prop::sample::select(vec!["a.b", "A.b", "spiffe://a/B", "c"])
                .prop_map(|name| Match::San(name.to_owned())),
            (0..4u8).prop_map(|n| token(&format!("t{n}"))),
        ]
    }

    fn any_peer() -> impl Strategy<Value = Peer> {
        let remote = prop_oneof![
            Just(Remote::Pipe),
            prop::option::of(0..5u32).prop_map(|uid| Remote::Unix { uid }),
            (0..5u8, 0..2u8).prop_map(|(net, host)| {
                Remote::Tcp(SocketAddr::from(([10, net, 0, host], 50_000)))
            }),
            Just(Remote::Tcp(SocketAddr::from(([127, 0, 0, 1], 50_000)))),
        ];
        let names = prop::collection::vec(
            prop::sample::select(vec!["a.b", "spiffe://a/B", "spiffe://a/b", "c", "d"]),
            0..3,
        );
        (remote, prop::option::of(names), any::<bool>()).prop_map(|(remote, names, anonymous)| {
            let mut peer = Peer::plain(remote, None);
            peer.entrance = Arc::new(Entrance { anonymous, required: None });
            match names {
                Some(names) => certified(peer, &names),
                None => peer,
            }
        })
    }

    fn any_fields() -> impl Strategy<Value = HeaderMap> {
        let token = prop::option::of((0..6u8).prop_map(|n| format!("t{n}")));
        let word = prop::option::of((0..6u8).prop_map(|n| format!("c{n}")));
        (token.clone(), token, word).prop_map(|(own, bearer, word)| {
            let mut headers = HeaderMap::new();
            let mut add = |name: &HeaderName, value: String| {
                headers.insert(name, HeaderValue::try_from(value).unwrap());
            };
            own.into_iter().for_each(|token| add(&TOKEN, token));
            bearer.into_iter().for_each(|token| add(&AUTHORIZATION, format!("Bearer {token}")));
            word.into_iter().for_each(|word| add(&CALLER, word));
            headers
        })
    }

    /// Whether a rule is about this peer: the naive reading, rule by rule.
    fn fits(rule: &Match, peer: &Peer, headers: &HeaderMap) -> bool {
        let shows = |name: &HeaderName, start: &str, digest: &TokenDigest| {
            let text = headers.get(name).and_then(|value| value.to_str().ok());
            let token = text.and_then(|text| text.strip_prefix(start));
            token.is_some_and(|token| TokenDigest::of(token.as_bytes()) == *digest)
        };
        match (rule, &peer.remote) {
            (Match::Uid(uid), Remote::Unix { uid: is }) => Some(*uid) == *is,
            (Match::Cidr(range), Remote::Tcp(address)) => range.contains(address.ip()),
            (Match::Uid(_) | Match::Cidr(_), _) => false,
            (Match::San(name), _) => peer.certificate.as_ref().is_some_and(|certificate| {
                let dns = !name.contains(':');
                let same = |is: &String| is == name || dns && is.eq_ignore_ascii_case(name);
                certificate.names.iter().any(same)
            }),
            (Match::Token(digest), _) => {
                shows(&TOKEN, "", digest) || shows(&AUTHORIZATION, "Bearer ", digest)
            }
        }
    }

    proptest! {
        #[test]
        fn nobody_is_told_by_a_rule_that_is_not_about_it(
            rules in prop::collection::vec(prop::collection::vec(any_rule(), 0..3), 0..6),
            peer in any_peer(),
            headers in any_fields(),
        ) {
            let settings: Vec<_> = rules
                .iter()
                .enumerate()
                .map(|(at, rules)| caller(&format!("c{at}"), rules))
                .collect();
            let callers = Callers::new(settings.clone());
            let about = |one: &CallerSettings, kind: fn(&Match) -> bool| {
                one.matches.iter().any(|rule| kind(rule) && fits(rule, &peer, &headers))
            };
            let any = |kind| settings.iter().any(|one| about(one, kind));
            let by_any = |_: &Match| true;
            let by_token = |rule: &Match| matches!(rule, Match::Token(_));
            match callers.identify(&peer, &headers) {
                Ok(known) if known.id.as_str() == Caller::ANONYMOUS => {
                    prop_assert!(peer.entrance.anonymous && !any(by_any));
                }
                Ok(known) => {
                    let one = settings.iter().find(|one| one.caller.id == known.id).unwrap();
                    if one.matches.is_empty() {
                        prop_assert!(peer.entrance.anonymous && !any(by_any));
                        prop_assert_eq!(headers[&CALLER].to_str().unwrap(), known.id.as_str());
                    } else {
                        // No weaker evidence where there is a stronger one.
                        let told = if any(by_token) { about(one, by_token) } else { about(one, by_any) };
                        prop_assert!(told);
                    }
                }
                Err(Unknown::Token) => {
                    let wrong = headers.contains_key(TOKEN) || !peer.entrance.anonymous;
                    prop_assert!(wrong && !any(by_token));
                }
                Err(Unknown::Tokens) => {
                    let bearer = headers[&AUTHORIZATION].to_str().unwrap();
                    prop_assert_ne!(bearer.strip_prefix("Bearer ").unwrap(), &headers[&TOKEN]);
                }
                Err(Unknown::NoToken | Unknown::Nobody) => {
                    prop_assert!(!peer.entrance.anonymous && !any(by_any));
                }
                Err(Unknown::Header { .. }) => prop_assert!(false, "no listener asks for one"),
            }
        }
    }
}

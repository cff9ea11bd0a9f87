//! `[callers.NAME]`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::base::{CallerId, Priority, RouteId};
use crate::caller::{self, CallerSettings, Cidr, CidrError, Rate};
use crate::config::at::At;
use crate::config::file::{self, Caller, File, Match, Route};
use crate::config::resolve::listeners::digest;
use crate::config::resolve::{Notes, name_is_plain, some_time};
use crate::server::{Listen, Listener};

/// Omni's own window.
const WINDOW: Duration = Duration::from_secs(60);

/// By what callers are told apart so far.
struct Told<'a> {
    users: BTreeMap<u32, &'a str>,
    ranges: BTreeMap<Cidr, &'a str>,
    names: BTreeMap<String, &'a str>,
    tokens: BTreeMap<String, &'a str>,
    /// `None` where the listeners have a problem.
    listeners: Option<&'a [Listener]>,
}

/// `listeners` is `None` where they have a problem.
pub(super) fn resolve(
    file: &File,
    listeners: Option<&[Listener]>,
    notes: &mut Notes,
) -> Option<Vec<CallerSettings>> {
    let routes: Vec<&str> = file.routes.iter().flatten().filter_map(route_name).collect();
    let mut told = Told {
        users: BTreeMap::new(),
        ranges: BTreeMap::new(),
        names: BTreeMap::new(),
        tokens: BTreeMap::new(),
        listeners,
    };
    let mut callers = Vec::new();
    for (name, said) in &file.callers {
        let mut fits = name_is_plain(&name.value, &name.span, "caller", notes);
        if name.value == caller::Caller::ANONYMOUS {
            notes.problems.at(&name.span, "a caller cannot be named `anonymous`").help(
                "that is whoever is nobody else; to set limits for all who come over TCP, name \
                     a caller with match = { cidr = [\"0.0.0.0/0\", \"::/0\"] }",
            );
            fits = false;
        }
        if name.value == caller::Caller::OURSELVES {
            let help = "that is who asks Omni whether a key is good; take another name";
            notes.problems.at(&name.span, "a caller cannot be named `omnigate`").help(help);
            fits = false;
        }
        let matches = match &said.matches {
            None => Some(Vec::new()),
            Some(rules) => told.rules(&name.value, rules, notes),
        };
        warn_of_open_doors(said, listeners.unwrap_or_default(), notes);
        let caller = caller(name, said, &routes, notes);
        let both = matches.zip(caller).filter(|_| fits);
        callers.push(both.map(|(matches, caller)| CallerSettings { matches, caller }));
    }
    callers.into_iter().collect()
}

/// Who is held to routes, and can leave out by what it is told, comes in as `anonymous` instead, who
/// may take all.
fn warn_of_open_doors(said: &Caller, listeners: &[Listener], notes: &mut Notes) {
    let (Some(routes), Some(rule)) = (&said.routes, &said.matches) else { return };
    let Match { uid, cidr: _, san, token_sha256 } = &rule.value;
    let can_be_nobody = |listener: &&Listener| {
        let tls = listener.tls.as_ref();
        let must_certify = tls.is_some_and(|tls| tls.client_ca.is_some() && !tls.client_optional);
        let is_unix = matches!(listener.listen, Listen::Unix { .. });
        listener.entrance.anonymous
            && (token_sha256.is_some()
                || san.is_some() && !must_certify
                || uid.is_some() && !is_unix)
    };
    if let Some(open) = listeners.iter().find(can_be_nobody) {
        let message = format!(
            "`routes` holds nobody who does not want to be held: on `{}` this caller can be \
             `anonymous`, who may take all routes",
            open.listen
        );
        notes
            .warnings
            .at(&routes.span, message)
            .help("write that address as [[listeners]] with allow_anonymous = false");
    }
}

/// The priority that the file names.
pub(super) fn priority(said: file::Priority) -> Priority {
    match said {
        file::Priority::Interactive => Priority::Interactive,
        file::Priority::Normal => Priority::Normal,
        file::Priority::Batch => Priority::Batch,
    }
}

fn route_name(route: &At<Route>) -> Option<&str> {
    route.value.name.as_ref().map(|name| name.value.as_str())
}

fn caller(
    name: &At<String>,
    said: &Caller,
    known: &[&str],
    notes: &mut Notes,
) -> Option<caller::Caller> {
    let usual = caller::Caller::anonymous();
    let most = said.max_priority.as_ref().map_or(usual.max_priority, |most| priority(most.value));
    // A default must not be what is wrong with a low `max_priority`.
    let own = said.priority.as_ref();
    let own_priority = own.map_or(usual.priority.max(most), |own| priority(own.value));
    if let (Some(own), true) = (own, own_priority < most) {
        notes
            .problems
            .at(&own.span, format!("`priority` is more urgent than the `max_priority`, {most}"))
            .help(format!("write \"{most}\", or raise `max_priority`"));
        return None;
    }
    let rate = match &said.rate {
        None => None,
        Some(said) => Some(rate(&said.value, notes)?),
    };
    let routes = match &said.routes {
        None => None,
        Some(said) => Some(routes(said, known, notes)?),
    };
    let max_queued = match &said.max_queued {
        None => None,
        Some(said) => Some(usize::try_from(said.value).ok()?),
    };
    Some(caller::Caller {
        id: CallerId::new(name.value.as_str()),
        priority: own_priority,
        max_priority: most,
        max_queued,
        max_wait: said.max_wait.as_ref().map(|at| at.value.0),
        rate,
        routes,
    })
}

/// The routes that a caller may take, of those that there are.
fn routes(said: &At<Vec<At<String>>>, known: &[&str], notes: &mut Notes) -> Option<Vec<RouteId>> {
    if said.value.is_empty() {
        notes
            .problems
            .at(&said.span, "`routes` is empty, so that every call would be refused")
            .help("leave it out for all routes");
        return None;
    }
    let one = |name: &At<String>| {
        let there = known.contains(&name.value.as_str());
        if !there {
            notes
                .problems
                .at(&name.span, format!("there is no route named `{}`", name.value))
                .help_with_name(&name.value, known.iter().copied());
        }
        there.then(|| RouteId::new(name.value.as_str()))
    };
    let found: Vec<_> = said.value.iter().map(one).collect();
    found.into_iter().collect()
}

fn rate(said: &file::Rate, notes: &mut Notes) -> Option<Rate> {
    let window = some_time("window", &said.window, WINDOW, notes);
    let limit = said.limit.as_ref().and_then(|said| {
        let limit = NonZeroU32::new(said.value);
        if limit.is_none() {
            notes.problems.at(&said.span, "`limit` must be at least 1");
        }
        limit
    });
    Some(Rate { limit: limit?, window: window? })
}

impl<'a> Told<'a> {
    fn rules(
        &mut self,
        name: &'a str,
        said: &At<Match>,
        notes: &mut Notes,
    ) -> Option<Vec<caller::Match>> {
        let Match { uid, cidr, san, token_sha256 } = &said.value;
        let lists = [
            ("cidr", cidr, "10.0.0.0/8"),
            ("san", san, "spiffe://corp/nightly"),
            ("token_sha256", token_sha256, "the output of: printf %s TOKEN | sha256sum"),
        ];
        let uid_span = uid.as_ref().map(|uid| (&uid.span, "uid"));
        let list_spans =
            lists.iter().filter_map(|(key, list, _)| Some((&list.as_ref()?.span, *key)));
        let keys: Vec<_> = uid_span.into_iter().chain(list_spans).collect();
        if let [(_, first), (span, second), ..] = keys[..] {
            notes
                .problems
                .at(span, format!("`match` says both `{first}` and `{second}`"))
                .help("a caller is told by one of them: make two callers");
            return None;
        }
        if let Some(uid) = uid {
            return self.user(name, uid, notes).map(|rule| vec![rule]);
        }
        let Some((key, list, example)) =
            lists.iter().find_map(|(key, list, example)| Some((*key, list.as_ref()?, *example)))
        else {
            // A rule that could not be read was told, and taken out.
            if !notes.problems.any_in(&said.span) {
                notes
                    .problems
                    .at(&said.span, "`match` says none of `uid`, `cidr`, `san` and `token_sha256`")
                    .help("leave it out for a caller that says its name itself");
            }
            return None;
        };
        if list.texts().is_empty() {
            notes
                .problems
                .at(&list.span, format!("`{key}` is empty"))
                .help(format!("such as \"{example}\""));
            return None;
        }
        let rules: Vec<_> = list
            .texts()
            .iter()
            .map(|one| match key {
                "cidr" => self.range(name, one, notes),
                "san" => self.certificate(name, one, notes),
                _ => self.token(name, one, notes),
            })
            .collect();
        rules.into_iter().collect()
    }

    fn user(&mut self, name: &'a str, uid: &At<u32>, notes: &mut Notes) -> Option<caller::Match> {
        if !self.listens(|listen| matches!(listen, Listen::Unix { .. })) {
            notes
                .problems
                .at(&uid.span, "users are known on unix sockets only, and no listener is one")
                .help("add a listener \"unix:/run/omnigate/omnigate.sock\", or match by `cidr`");
            return None;
        }
        if let Some(other) = self.users.insert(uid.value, name) {
            notes.problems.at(&uid.span, format!("`{other}` is told by this user already"));
            return None;
        }
        Some(caller::Match::Uid(uid.value))
    }

    fn range(
        &mut self,
        name: &'a str,
        said: &At<String>,
        notes: &mut Notes,
    ) -> Option<caller::Match> {
        let range = match Cidr::parse(&said.value) {
            Ok(range) => range,
            Err(error) => {
                let problem = notes.problems.at(&said.span, format!("`cidr`: {error}"));
                match error {
                    CidrError::NotTheFirst { begin } => {
                        let host = said.value.split('/').next().unwrap_or_default();
                        problem.help(format!("write \"{begin}\", or \"{host}\" for this address"));
                    }
                    CidrError::Address | CidrError::Prefix { .. } => {
                        problem.help("such as \"10.0.0.0/8\", \"fd00::/8\" or \"10.1.2.3\"");
                    }
                }
                return None;
            }
        };
        if !self.listens(|listen| matches!(listen, Listen::Tcp(_))) {
            notes
                .problems
                .at(
                    &said.span,
                    "addresses are known on TCP only, and all listeners are unix sockets",
                )
                .help("match by `uid`, or add a listener such as \"127.0.0.1:6664\"");
            return None;
        }
        if let Some(other) = self.ranges.insert(range, name) {
            notes.problems.at(&said.span, format!("`{other}` is told by this range already"));
            return None;
        }
        Some(caller::Match::Cidr(range))
    }

    fn certificate(
        &mut self,
        name: &'a str,
        said: &At<String>,
        notes: &mut Notes,
    ) -> Option<caller::Match> {
        let fits = !said.value.is_empty() && said.value.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits || said.value.contains('*') {
            notes
                .problems
                .at(&said.span, "`san` is neither a DNS name nor a URI")
                .help("as it stands in the certificate, such as \"spiffe://corp/nightly\"");
            return None;
        }
        let asks =
            |listener: &Listener| listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if self.listeners.is_some_and(|listeners| !listeners.iter().any(asks)) {
            notes
                .problems
                .at(&said.span, "no listener asks for certificates")
                .help("add client_ca = \"ca.pem\" to the `tls` of one of [[listeners]]");
            return None;
        }
        // Letter case counts in a URI, and not in a DNS name.
        let is_uri = said.value.contains(':');
        let san = if is_uri { said.value.clone() } else { said.value.to_ascii_lowercase() };
        if let Some(other) = self.names.insert(san.clone(), name) {
            notes.problems.at(&said.span, format!("`{other}` is told by this name already"));
            return None;
        }
        Some(caller::Match::San(san))
    }

    fn token(
        &mut self,
        name: &'a str,
        said: &At<String>,
        notes: &mut Notes,
    ) -> Option<caller::Match> {
        let digest = digest(said, notes)?;
        if let Some(other) = self.tokens.insert(said.value.to_ascii_lowercase(), name) {
            notes.problems.at(&said.span, format!("`{other}` is told by this token already"));
            return None;
        }
        Some(caller::Match::Token(digest))
    }

    fn listens(&self, fits: impl Fn(&Listen) -> bool) -> bool {
        self.listeners.is_none_or(|listeners| listeners.iter().any(|one| fits(&one.listen)))
    }
}

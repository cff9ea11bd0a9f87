//! `[callers.NAME]`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::base::{CallerId, Priority};
use crate::caller::{self, CallerSettings, Cidr, CidrError, Rate};
use crate::config::at::At;
use crate::config::file::{self, Caller, Match};
use crate::config::resolve::{Notes, name_is_plain, some_time};
use crate::server::{Listen, Listener};

/// Omni's own window.
const WINDOW: Duration = Duration::from_secs(60);

/// By what callers are told apart so far.
struct Told<'a> {
    users: BTreeMap<u32, &'a str>,
    ranges: BTreeMap<Cidr, &'a str>,
    /// `None` where the listeners have a problem.
    listeners: Option<&'a [Listener]>,
}

/// `listeners` is `None` where they have a problem.
pub(super) fn resolve(
    said: &BTreeMap<At<String>, Caller>,
    listeners: Option<&[Listener]>,
    notes: &mut Notes,
) -> Option<Vec<CallerSettings>> {
    let mut told = Told { users: BTreeMap::new(), ranges: BTreeMap::new(), listeners };
    let mut callers = Vec::new();
    for (name, said) in said {
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
        let caller = caller(name, said, notes);
        let both = matches.zip(caller).filter(|_| fits);
        callers.push(both.map(|(matches, caller)| CallerSettings { matches, caller }));
    }
    callers.into_iter().collect()
}

/// The priority that the file names.
pub(super) fn priority(said: file::Priority) -> Priority {
    match said {
        file::Priority::Interactive => Priority::Interactive,
        file::Priority::Normal => Priority::Normal,
        file::Priority::Batch => Priority::Batch,
    }
}

fn caller(name: &At<String>, said: &Caller, notes: &mut Notes) -> Option<caller::Caller> {
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
        routes: None,
    })
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
        match (&said.value.uid, &said.value.cidr) {
            (Some(uid), None) => self.user(name, uid, notes).map(|rule| vec![rule]),
            (None, Some(cidr)) => {
                if cidr.texts().is_empty() {
                    notes.problems.at(&cidr.span, "`cidr` is empty").help("such as \"10.0.0.0/8\"");
                    return None;
                }
                let rules: Vec<_> =
                    cidr.texts().iter().map(|range| self.range(name, range, notes)).collect();
                rules.into_iter().collect()
            }
            // A rule that could not be read was told, and taken out.
            (None, None) if notes.problems.any_in(&said.span) => None,
            (None, None) => {
                notes
                    .problems
                    .at(&said.span, "`match` says neither `uid` nor `cidr`")
                    .help("leave it out for a caller that says its name itself");
                None
            }
            (Some(_), Some(cidr)) => {
                notes
                    .problems
                    .at(
                        &cidr.span,
                        "`match` says both `uid` and `cidr`, and no connection has both",
                    )
                    .help("a user is known on a unix socket, an address on TCP: make two callers");
                None
            }
        }
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

    fn listens(&self, fits: impl Fn(&Listen) -> bool) -> bool {
        self.listeners.is_none_or(|listeners| listeners.iter().any(|one| fits(&one.listen)))
    }
}

//! `[shared]`: whether the budgets are this process's own, and what may come of it where they are.

use std::net::IpAddr;

use crate::config::at::At;
use crate::config::blot;
use crate::config::file::{Empty, File, Lost, Shared, Store};
use crate::config::resolve::secrets::{self, Owner, Stores};
use crate::config::resolve::store_url::{self, BadUrl, StoreUrl, Way};
use crate::config::resolve::{Notes, Surroundings, upstream};
use crate::config::shared::SharedSettings;
use crate::credential::Source;
use crate::net::{Redis, RedisPlace, RedisWay};
use crate::server::{Listen, Listener};
use crate::shape::{BudgetSettings, OnLost};

/// What the section comes to.
pub(super) enum Sharing {
    /// The budgets are this process's own.
    Own,
    /// They are shared.
    With(Box<SharedSettings>),
}

/// `None` for a mistake.
pub(super) fn resolve(
    file: &File,
    stores: &Stores,
    budgets: Option<&[BudgetSettings]>,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<Sharing> {
    let Some(At { value: said, span }) = &file.shared else { return Some(Sharing::Own) };
    // What is missing may stand there and be of a wrong type, which the walk over the tree has said.
    let slip = notes.problems.any_in(&(span.start..end(said).max(span.end)));
    // What stands there must be right, also where it is switched off.
    let url = said.url.as_ref().map(|said| url(said, notes));
    let password = said.password.as_ref().map(|secret| {
        let source = stores.source(secret, notes)?;
        let way_out = "put the password into this file, and nothing else";
        let span = &secret.span;
        let owner = Owner { who: "[shared]", span, may_be_missing: false, way_out };
        secrets::is_there(&source, &owner, notes).then_some(source)
    });
    let username = said.username.as_ref().map(|said| username(said, notes));
    let on_lost = on_lost(said, budgets, slip, notes);
    match said.backend.as_ref().map(|backend| backend.value) {
        Some(Store::Redis) => {}
        Some(Store::None) => return Some(Sharing::Own),
        None => {
            if let (Some(url), false) = (&said.url, slip) {
                notes
                    .problems
                    .at(&url.span, "[shared] has a `url`, but no `backend`")
                    .help("add backend = \"redis\"");
                return None;
            }
            return Some(Sharing::Own);
        }
    }
    let at = said.backend.as_ref().map(|backend| &backend.span);
    if let (None, Some(span), false) = (&said.url, at, slip) {
        notes
            .problems
            .at(span, "backend \"redis\" needs a `url`: the server")
            .help("add url = \"rediss://redis.internal:6379/0\"");
    }
    let place = place(said, url??, username, slip, around, notes);
    let password = match password {
        None => None,
        Some(password) => Some(password?),
    };
    let place = place?;
    warn_of_readable_password(said, &place, password.as_ref(), notes);
    let empty = said.cold_start.as_ref().map(|start| start.value);
    Some(Sharing::With(Box::new(SharedSettings {
        place,
        password,
        on_lost: on_lost?,
        trust_empty: empty == Some(Empty::Trust),
    })))
}

/// Where the last key stands that could be read.
fn end(said: &Shared) -> usize {
    fn of<T>(said: &Option<At<T>>) -> usize {
        said.as_ref().map_or(0, |said| said.span.end)
    }
    let Shared { backend, url, username, password, tls_roots, on_lost, instances, cold_start } =
        said;
    let names = of(username).max(of(password)).max(of(tls_roots)).max(of(url));
    names.max(of(backend)).max(of(on_lost)).max(of(instances)).max(of(cold_start))
}

fn url(said: &At<String>, notes: &mut Notes) -> Option<StoreUrl> {
    let why = match store_url::parse(&said.value) {
        Ok(url) => return Some(url),
        Err(why) => why,
    };
    // Whatever it is, it may have a password in it.
    notes.hidden.hide(said);
    let problem = notes.problems.at(&said.span, format!("`url`: {why}"));
    problem.help(match why {
        BadUrl::Password => {
            "only where a password is may stand in the config: leave it out here, write\n\
             password = \"NAME\"\n\
             for a secret of that name in [vault], and change it if others may have seen this file"
        }
        BadUrl::Scheme
        | BadUrl::NoHost
        | BadUrl::Host
        | BadUrl::Port
        | BadUrl::Username
        | BadUrl::Database
        | BadUrl::More => {
            "such as \"rediss://redis.internal:6379/0\", or \"unix:///run/redis.sock?db=0\""
        }
        BadUrl::Path => "such as \"unix:///run/redis.sock\"",
    });
    None
}

fn username(said: &At<String>, notes: &mut Notes) -> Option<String> {
    let fits = store_url::is_username(&said.value) && !blot::is_token(&said.value);
    if !fits {
        notes.hidden.hide(said);
        notes
            .problems
            .at(&said.span, "`username` is none")
            .help("the name of a user in Redis' ACL, without blanks; leave it out for `default`");
    }
    fits.then(|| said.value.clone())
}

fn place(
    said: &Shared,
    url: StoreUrl,
    username: Option<Option<String>>,
    slip: bool,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<RedisPlace> {
    let roots = upstream::tls_roots(&said.tls_roots, around, notes);
    let StoreUrl { way, username: of_url, database } = url;
    if let (Some(said), Some(_)) = (&said.username, &of_url) {
        notes.problems.at(&said.span, "`url` names a user too").help("leave one of them out");
        return None;
    }
    let username = match username {
        None => of_url,
        Some(username) => Some(username?),
    };
    let named = said.username.as_ref().or(said.url.as_ref());
    if let (Some(_), None, Some(named)) = (&username, &said.password, named) {
        if !slip {
            notes
                .problems
                .at(&named.span, "a user logs in with a password, and there is no `password`")
                .help("add password = \"NAME\", the name of a secret in [vault]");
        }
        return None;
    }
    let speaks_tls = matches!(way, Way::Tcp { tls: true, .. });
    if let (Some(file), false) = (&said.tls_roots, speaks_tls)
        && file.value != "system"
    {
        notes
            .problems
            .at(&file.span, "`tls_roots` has no meaning here: `url` does not speak TLS")
            .help("write rediss:// in `url`, or leave it out");
        return None;
    }
    let way = match way {
        Way::Tcp { host, port, tls: true } => RedisWay::Tcp { host, port, tls: Some(roots?) },
        Way::Tcp { host, port, tls: false } => RedisWay::Tcp { host, port, tls: None },
        Way::Unix(path) => RedisWay::Unix(path),
    };
    let place = RedisPlace { way, username, database };
    if let (Err(error), Some(url)) = (Redis::new(&place), &said.url) {
        notes.problems.at(&url.span, format!("`url`: {error}"));
        return None;
    }
    Some(place)
}

/// What is done while the store is lost; `None` after a mistake was noted.
fn on_lost(
    said: &Shared,
    budgets: Option<&[BudgetSettings]>,
    slip: bool,
    notes: &mut Notes,
) -> Option<OnLost> {
    let smallest = budgets?.iter().map(|budget| budget.limit).min()?;
    let instances = match &said.instances {
        None => None,
        Some(said) => {
            let instances = std::num::NonZeroU32::new(said.value);
            if instances.is_none() {
                notes.problems.at(&said.span, "`instances` must be at least 1");
                return None;
            }
            instances
        }
    };
    let lost = said.on_lost.as_ref();
    match lost.map(|lost| lost.value) {
        None | Some(Lost::Hold) => Some(OnLost::Hold),
        Some(Lost::Local) => Some(OnLost::Local),
        Some(Lost::Share) => {
            let (Some(instances), Some(at)) = (instances, &said.instances) else {
                if let (Some(lost), false) = (lost, slip) {
                    notes
                        .problems
                        .at(&lost.span, "on_lost \"share\" needs `instances`: how many there are")
                        .help("add instances = 3, and never run more");
                }
                return None;
            };
            if instances > smallest {
                let message = format!(
                    "a limit of {smallest} cannot be shared out to {instances} instances while the \
                     store is lost"
                );
                let help = format!("at most {smallest}; or on_lost = \"hold\"");
                notes.problems.at(&at.span, message).help(help);
                return None;
            }
            Some(OnLost::Share { instances })
        }
    }
}

fn warn_of_readable_password(
    said: &Shared,
    place: &RedisPlace,
    password: Option<&Source>,
    notes: &mut Notes,
) {
    let (RedisWay::Tcp { host, tls: None, .. }, Some(_)) = (&place.way, password) else { return };
    let here = host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if let (false, Some(url)) = (here, &said.url) {
        notes
            .warnings
            .at(&url.span, "the password for the store can be read on the way: redis:// is not TLS")
            .help("write rediss://, unless the network encrypts");
    }
}

/// Where several processes are likely, and the budgets are each one's own, that is said: once, and
/// where it is seen best. Who says `instances = 1` has answered.
pub(super) fn warn_of_own_budgets(
    file: &File,
    listeners: &[Listener],
    around: &Surroundings<'_>,
    notes: &mut Notes,
) {
    const HELP: &str = "share them: [shared] with backend = \"redis\" and its `url`; or, where there is only ever one:\n\
         [shared]\ninstances = 1";
    let shared = file.shared.as_ref().map(|shared| &shared.value);
    let instances = shared.and_then(|shared| shared.instances.as_ref());
    if let Some(said) = instances {
        if said.value > 1 {
            let message = format!(
                "the budgets are not shared: {0} instances may send {0} times as much as the limit",
                said.value
            );
            notes.warnings.at(&said.span, message).help(
                "share them: backend = \"redis\" and its `url`; or give each instance a part of the limit, and \
                 leave `instances` out",
            );
        }
        return;
    }
    let is_exposed = |listener: &&Listener| match &listener.listen {
        Listen::Tcp(address) => !address.ip().is_loopback(),
        Listen::Unix { .. } => false,
    };
    let each = "the budgets are not shared, so that each replica spends a whole budget of its own";
    if let Some(Listener { listen: Listen::Tcp(exposed), .. }) = listeners.iter().find(is_exposed) {
        let short = file.server.listen.as_ref().map(At::texts).unwrap_or_default();
        let long = file.listeners.iter().filter_map(|said| said.value.address.clone());
        let text = exposed.to_string();
        let mut all = short.into_iter().chain(long);
        let message = format!("`{text}` serves other machines, and {each}");
        let problem = match all.find(|said| said.value.parse() == Ok(*exposed)) {
            Some(said) => notes.warnings.at(&said.span, message),
            None => notes.warnings.whole(message),
        };
        problem.help(HELP);
        return;
    }
    if (around.variable)("KUBERNETES_SERVICE_HOST").is_some() {
        notes.warnings.whole(format!("this runs in Kubernetes, and {each}")).help(HELP);
    }
}

//! Which key a route's calls are made with, and which budgets pay.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{BudgetId, CredentialId};
use crate::config::at::{At, TextOr};
use crate::config::file::Route;
use crate::config::resolve::Notes;
use crate::config::resolve::budgets::{self, Budgets};
use crate::config::resolve::credentials::{Credentials, Known};
use crate::shape::Key;

/// One credential of a route, and where that stands.
struct Member<'a> {
    name: At<String>,
    known: &'a Known<'a>,
}

/// The keys of a route: its credential or its pool, each with the budgets that pay.
pub(super) fn of_route(
    said: &Route,
    budgets: &Budgets<'_>,
    credentials: &Credentials<'_>,
    notes: &mut Notes,
) -> Option<Vec<Key>> {
    let pool = said.credential.as_ref().and_then(|said| pool(said, credentials, notes));
    let pays = said.budget.as_ref().map(|said| pays(said, budgets, notes));
    let pool = pool?;
    match pays {
        Some(pays) => {
            let pays = pays?;
            let key = |member: &Member<'_>| Key {
                credential: CredentialId::new(member.name.value.as_str()),
                budgets: pays.clone(),
            };
            Some(pool.iter().map(key).collect())
        }
        None => as_credentials_say(&pool, notes),
    }
}

/// The credentials that are named, alike enough for a call to take any of them.
fn pool<'a>(
    said: &At<TextOr<Vec<At<String>>>>,
    credentials: &'a Credentials<'_>,
    notes: &mut Notes,
) -> Option<Vec<Member<'a>>> {
    let names = said.texts();
    if names.is_empty() {
        notes
            .problems
            .at(&said.span, "`credential` is empty")
            .help("name one, or a pool of several");
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut members: Vec<Option<Member<'_>>> = Vec::new();
    for name in names {
        if !seen.insert(name.value.clone()) {
            notes.problems.at(&name.span, format!("`{}` stands here twice", name.value));
        }
        let known = known(&name, credentials, notes);
        members.push(known.map(|known| Member { name, known }));
    }
    let members = members.into_iter().collect::<Option<Vec<_>>>()?;
    let first = members.first()?;
    for other in &members {
        // A personal key sees what its person may see, an organization key everything.
        if first.known.kind.zip(other.known.kind).is_some_and(|(a, b)| a != b) {
            let (first, name) = (&first.name.value, &other.name.value);
            notes
                .problems
                .at(&other.name.span, format!("`{name}` is of another kind than `{first}`"))
                .help("which of a pool's keys makes a call is chance: they must be of one kind");
            return None;
        }
    }
    Some(members)
}

fn known<'a>(
    said: &At<String>,
    credentials: &'a Credentials<'_>,
    notes: &mut Notes,
) -> Option<&'a Known<'a>> {
    let found = credentials.known.get(said.value.as_str());
    if found.is_none() {
        let problem =
            notes.problems.at(&said.span, format!("there is no credential `{}`", said.value));
        if credentials.known.is_empty() {
            problem.help(format!("add a table [credentials.{}]", said.value));
        } else {
            problem.help_with_name(&said.value, credentials.known.keys().copied());
        }
    }
    found
}

/// Who pays, as the route says; nobody for `none`.
fn pays(
    said: &At<TextOr<Vec<At<String>>>>,
    budgets: &Budgets<'_>,
    notes: &mut Notes,
) -> Option<Vec<BudgetId>> {
    match &said.value {
        TextOr::Text(name) if name == budgets::NONE => Some(Vec::new()),
        TextOr::Text(_) | TextOr::Other(_) => budgets.find_all(said, notes),
    }
}

/// The keys of a pool wait in one queue, so the same budgets must pay for each.
fn as_credentials_say(pool: &[Member<'_>], notes: &mut Notes) -> Option<Vec<Key>> {
    let first = pool.first()?;
    let set = |member: &Member<'_>| -> Option<BTreeSet<BudgetId>> {
        Some(member.known.budgets.as_ref()?.iter().cloned().collect())
    };
    for other in pool {
        if set(first).zip(set(other)).is_some_and(|(a, b)| a != b) {
            let (first, name) = (&first.name.value, &other.name.value);
            notes
                .problems
                .at(&other.name.span, format!("`{name}` is charged to other budgets than `{first}`"))
                .help(
                    "the same budgets must pay for all keys of a pool; where each key has a limit of \
                     its own, charge them to one budget with scope = \"credential\"",
                );
            return None;
        }
    }
    let key = |member: &Member<'_>| {
        Some(Key {
            credential: CredentialId::new(member.name.value.as_str()),
            budgets: first.known.budgets.clone()?,
        })
    };
    pool.iter().map(key).collect()
}

/// Notes credentials that are one key under two names where each would be counted on its own: Omni
/// counts by the key, so that together they would spend twice its limit.
pub(super) fn told_apart(
    keys: &[Key],
    budgets: &Budgets<'_>,
    credentials: &Credentials<'_>,
    notes: &mut Notes,
) {
    let mut charged: BTreeMap<&BudgetId, BTreeSet<&str>> = BTreeMap::new();
    for key in keys {
        for budget in key.budgets.iter().filter(|budget| budgets.counts_by_credential(budget)) {
            charged.entry(budget).or_default().insert(key.credential.as_str());
        }
    }
    let mut noted = BTreeSet::new();
    for (budget, names) in charged {
        let mut earlier: Vec<(&str, &Known<'_>)> = Vec::new();
        for name in names {
            let Some(known) = credentials.known.get(name) else { continue };
            let twin = earlier
                .iter()
                .find(|(_, twin)| twin.source.is_some() && twin.source == known.source);
            if let (Some((twin, _)), Some(secret), true) = (twin, known.secret, noted.insert(name))
            {
                notes
                    .problems
                    .at(
                        &secret.span,
                        format!("`{name}` is the same key as `{twin}`, and budget `{budget}` would count each on its own"),
                    )
                    .help("use one of them alone, or say scope = \"organization\"");
            }
            earlier.push((name, known));
        }
    }
}

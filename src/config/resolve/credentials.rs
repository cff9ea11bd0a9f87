//! `[credentials.NAME]`: which keys there are, and who pays for their calls.

use std::collections::BTreeMap;

use crate::base::{BudgetId, CredentialId};
use crate::config::at::{At, TextOr};
use crate::config::file::{self, Credential, File, Secret};
use crate::config::resolve::budgets::Budgets;
use crate::config::resolve::secrets::{self, Owner, Stores};
use crate::config::resolve::{Notes, Surroundings, name_is_plain};
use crate::credential::{CredentialSettings, Kind, OnMissing, Source};
use crate::proxy::RouteSettings;
use crate::shape::Key;

/// What to do where the file with a key is missing.
const WAY_OUT: &str =
    "put the token into this file, or say on_missing = \"degrade\" to start without it";

/// The credentials of a file.
pub(super) struct Credentials<'a> {
    /// All that stand there, also those that have a problem.
    pub(super) known: BTreeMap<&'a str, Known<'a>>,
    pub(super) settings: Option<Vec<CredentialSettings>>,
    /// Where their secrets may be, and others'.
    pub(super) stores: Stores,
}

/// What routes need to know of a credential; `None` for what has a problem.
pub(super) struct Known<'a> {
    pub(super) kind: Option<Kind>,
    /// The budgets that it is charged to.
    pub(super) budgets: Option<Vec<BudgetId>>,
    pub(super) secret: Option<&'a At<TextOr<Secret>>>,
    pub(super) source: Option<Source>,
}

impl Credentials<'_> {
    /// Who pays when Omni is asked whether a key is good: the credential's budgets, and those that
    /// all of its routes charge. What only some of them charge is about those calls, not the key.
    pub(super) fn probes(&self, routes: &[RouteSettings]) -> Vec<Key> {
        let key = |(name, known): (&&str, &Known<'_>)| {
            let credential = CredentialId::new(*name);
            let mut budgets = known.budgets.clone()?;
            let keys = routes.iter().flat_map(|route| &route.keys);
            let mut charged = keys.filter(|key| key.credential == credential);
            let mut all: Vec<BudgetId> =
                charged.next().map(|key| key.budgets.clone()).unwrap_or_default();
            charged.for_each(|key| all.retain(|budget| key.budgets.contains(budget)));
            all.retain(|budget| !budgets.contains(budget));
            budgets.append(&mut all);
            Some(Key { credential, budgets })
        };
        self.known.iter().filter_map(key).collect()
    }
}

pub(super) fn resolve<'a>(
    file: &'a File,
    budgets: &Budgets<'_>,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Credentials<'a> {
    let stores = Stores::of(file, around, notes);
    let mut known = BTreeMap::new();
    let mut settings = Vec::new();
    for (name, said) in file.credentials.iter().flatten() {
        let budgets = charged_to(name, said, budgets, notes);
        let fits = name_is_plain(&name.value, &name.span, "credential", notes);
        let on_missing = match said.on_missing.as_ref().map(|on_missing| on_missing.value) {
            None | Some(file::OnMissing::Fail) => OnMissing::Fail,
            Some(file::OnMissing::Degrade) => OnMissing::Degrade,
        };
        let source = said.secret.as_ref().and_then(|secret| stores.source(secret, notes));
        let source = source.filter(|source| {
            let Some(secret) = &said.secret else { return true };
            let who = format!("credential `{}`", name.value);
            let may_be_missing = on_missing == OnMissing::Degrade;
            let owner = Owner { who: &who, span: &secret.span, may_be_missing, way_out: WAY_OUT };
            secrets::is_there(source, &owner, notes)
        });
        let kind = said.kind.as_ref().map(|kind| match kind.value {
            file::Kind::Organization => Kind::Organization,
            file::Kind::Personal => Kind::Personal,
            file::Kind::Mcp => Kind::Mcp,
        });
        let (secret, of) = (said.secret.as_ref(), source.clone());
        known.insert(name.value.as_str(), Known { kind, budgets, secret, source: of });
        settings.push(kind.zip(source).filter(|_| fits).map(|(kind, source)| CredentialSettings {
            id: CredentialId::new(name.value.as_str()),
            kind,
            source,
            on_missing,
        }));
    }
    if file.credentials.as_ref().is_some_and(BTreeMap::is_empty) {
        notes
            .problems
            .whole("[credentials] is empty")
            .help("add\n[credentials.org]\nkind = \"organization\"\nsecret = \"OMNI_API_KEY\"");
    }
    let settings = file.credentials.as_ref().and_then(|_| settings.into_iter().collect());
    Credentials { known, settings, stores }
}

fn charged_to(
    name: &At<String>,
    said: &Credential,
    budgets: &Budgets<'_>,
    notes: &mut Notes,
) -> Option<Vec<BudgetId>> {
    if let Some(said) = &said.budget {
        return budgets.find_all(said, notes);
    }
    let only = budgets.only();
    if only.is_none() {
        let message =
            format!("[credentials.{}] must say which budget it is charged to", name.value);
        let help = format!("add budget = \"…\", one of: {}", budgets.names.join(", "));
        notes.problems.at(&name.span, message).help(help);
    }
    only.map(|only| vec![only])
}

//! `vault test`, and the trial that a new value stands before it replaces the old one.

use std::path::{Path, absolute};
use std::sync::Arc;

use crate::base::CredentialId;
use crate::cli::check::wrong;
use crate::cli::online::{Asker, Told};
use crate::cli::vault::{Failed, Here, name};
use crate::cli::{UNAVAILABLE, start};
use crate::config::{self, Config};
use crate::credential::age::{Edit, SecretName};
use crate::credential::{CredentialSettings, Kind, Source, Token};

/// The name of a secret that Omni is asked about.
#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// Its name.
    name: String,
}

/// What came of asking.
enum Asked {
    /// What Omni said, and who asked.
    Told(Told, &'static str),
    /// A gateway has the budget, and a value that is not its own is not asked about.
    Gateway,
}

/// A secret's place in a config: which Omni it is for, and who pays for the question.
pub(super) struct Trial {
    config: Config,
    id: CredentialId,
    kind: Kind,
}

pub(super) fn test(here: &Here, args: &TestArgs) -> Result<(), Failed> {
    let name = name(&args.name)?;
    here.open()?.find(&name)?;
    let trial = Trial::find(here, &name).map_err(Failed::refused)?;
    let Asked::Told(told, asker) = trial.ask(None)? else { return Ok(()) };
    println!("1 request was sent by {asker} and charged to the budget");
    match wrong(trial.kind, &told) {
        None => {
            println!("`{name}` is good");
            Ok(())
        }
        Some(said) => Err(Failed::refused(format!("`{name}`: {said}"))),
    }
}

impl Trial {
    /// # Errors
    /// Says why Omni cannot be asked about this secret.
    pub(super) fn find(here: &Here, name: &SecretName) -> Result<Self, String> {
        let Some(path) = &here.config else {
            return Err("there is no config, so nobody says which Omni it is for".to_owned());
        };
        let Ok(config) = config::load(path) else {
            return Err(format!(
                "{} is not right yet; see: omnigate check {}",
                path.display(),
                path.display()
            ));
        };
        let is_it = |credential: &&CredentialSettings| match &credential.source {
            Source::Age { vault, name: of } => {
                same(&vault.path, &here.files.path) && of == name.as_str()
            }
            Source::Dir { .. }
            | Source::File { .. }
            | Source::Env { .. }
            | Source::Exec { .. }
            | Source::Hashicorp { .. }
            | Source::Given { .. } => false,
        };
        let found = config.credentials.iter().find(is_it).map(|it| (it.id.clone(), it.kind));
        let (id, kind) = found.ok_or_else(|| {
            format!("no credential in {} uses `{name}` of this vault", path.display())
        })?;
        Ok(Self { config, id, kind })
    }

    /// Asks Omni about what the vault holds, or about `value` where one is given.
    ///
    /// # Errors
    /// Nobody could ask, or Omni did not say.
    fn ask(&self, value: Option<&Arc<Token>>) -> Result<Asked, Failed> {
        let unavailable = |why| Failed { code: UNAVAILABLE, why };
        start(async {
            let mut config = self.config.clone();
            let mine = config.credentials.iter_mut().find(|one| one.id == self.id);
            if let (Some(mine), Some(token)) = (mine, value) {
                mine.source = Source::Given { token: token.clone() };
            }
            let asker = Asker::open(&config).await.map_err(unavailable)?;
            if value.is_some() && asker.is_gateway() {
                return Ok(Asked::Gateway);
            }
            asker.reload().await.map_err(unavailable)?;
            let told = asker.ask(&self.id).await.map_err(|untold| unavailable(untold.why));
            let name = asker.name();
            asker.close();
            Ok(Asked::Told(told?, name))
        })?
    }

    /// Has a running gateway look at its secrets again.
    fn reload(&self) -> Result<(), Failed> {
        let unavailable = |why| Failed { code: UNAVAILABLE, why };
        start(async {
            let asker = Asker::open(&self.config).await.map_err(unavailable)?;
            let done = asker.reload().await.map_err(unavailable);
            asker.close();
            done
        })?
    }
}

/// What is left to do once a new value is in the vault.
pub(super) enum After {
    Nothing,
    /// The running gateway has the budget, so it asks.
    Ask(Box<Trial>),
}

/// Tries a new value at Omni, unless a running gateway has the budget: then that asks, when it has
/// the value.
///
/// # Errors
/// Omni does not take the value, or cannot be asked.
pub(super) fn before_it_replaces(
    here: &Here,
    name: &SecretName,
    token: &Arc<Token>,
) -> Result<After, Failed> {
    let trial = match Trial::find(here, name) {
        Ok(trial) => trial,
        Err(why) => {
            eprintln!("warning: Omni is not asked about the new value: {why}");
            return Ok(After::Nothing);
        }
    };
    match trial.ask(Some(token)) {
        Err(failed) => {
            let why = format!(
                "Omni cannot be asked about the new value: {}; `{name}` keeps its old one. To put it in \
                 without asking, say --untried",
                failed.why
            );
            return Err(Failed { why, ..failed });
        }
        Ok(Asked::Gateway) => return Ok(After::Ask(Box::new(trial))),
        Ok(Asked::Told(told, asker)) => {
            println!("1 request was sent by {asker} and charged to the budget");
            if let Some(said) = wrong(trial.kind, &told) {
                let why = format!("{said}; `{name}` keeps its old value");
                return Err(Failed::refused(why));
            }
        }
    }
    println!("Omni takes the new value");
    Ok(After::Nothing)
}

/// Has the running gateway take the new value and ask Omni about it; puts the old one back where that
/// does not go well.
///
/// # Errors
/// The old value is back.
pub(super) fn while_it_serves(
    here: &Here,
    name: &SecretName,
    trial: &Trial,
    new: &Token,
    old: &Token,
) -> Result<(), Failed> {
    let failed = match trial.ask(None) {
        Ok(Asked::Told(told, asker)) => {
            println!("1 request was sent by {asker} and charged to the budget");
            wrong(trial.kind, &told).map(Failed::refused)
        }
        Ok(Asked::Gateway) => None,
        Err(failed) => Some(failed),
    };
    let Some(failed) = failed else {
        println!("Omni takes the new value, and the gateway has it");
        return Ok(());
    };
    if !put_back(here, name, new, old, trial.kind)? {
        let why = format!(
            "{}; somebody else has changed `{name}` meanwhile, and it stays as they left it",
            failed.why
        );
        return Err(Failed { why, ..failed });
    }
    // It looks every 5 s in any case.
    let _ = trial.reload();
    Err(Failed { why: format!("{}; `{name}` has its old value again", failed.why), ..failed })
}

/// Puts the old value back; false where somebody else has replaced the new one or taken it out.
fn put_back(
    here: &Here,
    name: &SecretName,
    new: &Token,
    old: &Token,
    kind: Kind,
) -> Result<bool, Failed> {
    let mut edit = Edit::begin(&here.files)?;
    if !edit.vault.holds(name, new) {
        return Ok(false);
    }
    edit.vault.set(name, old, kind);
    edit.save()?;
    Ok(true)
}

fn same(one: &Path, other: &Path) -> bool {
    match (absolute(one), absolute(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

// Without it there is no vault to test with.
#[cfg(feature = "vault-age")]
#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::credential::AgeSettings;
    use crate::credential::age::Vault;

    #[test]
    fn the_old_value_comes_back_unless_somebody_else_has_changed_it_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let files = AgeSettings {
            path: folder.path().join("vault.age"),
            identity: folder.path().join("identity.txt"),
        };
        Vault::create(&files).unwrap();
        let here = Here { files, config: None, configured: false, kinds: BTreeMap::new() };
        let name = SecretName::parse("org").unwrap();
        let [old, new, theirs] =
            ["old", "new", "theirs"].map(|it| Token::parse(it.as_bytes()).unwrap());
        for (now, put, then) in [(&new, true, &old), (&theirs, false, &theirs)] {
            let mut edit = Edit::begin(&here.files).unwrap();
            edit.vault.set(&name, now, Kind::Organization);
            edit.save().unwrap();
            let done = put_back(&here, &name, &new, &old, Kind::Organization).unwrap();
            assert_eq!(done, put);
            assert!(here.open().unwrap().holds(&name, then));
        }
        let mut edit = Edit::begin(&here.files).unwrap();
        edit.vault.remove(&name).unwrap();
        edit.save().unwrap();
        assert!(!put_back(&here, &name, &new, &old, Kind::Organization).unwrap());
        assert!(here.open().unwrap().find(&name).is_err());
    }
}

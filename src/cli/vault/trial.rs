//! `vault test`, and the trial that a new value stands before it replaces the old one.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::cli::online::{Asker, Told, Verdict};
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
    credential: CredentialSettings,
}

/// Why there is no trial.
pub(super) enum NoTrial {
    /// There is no config: nobody says which Omni the secret is for.
    NoConfig,
    /// There is one that cannot be used for it.
    Because(String),
}

pub(super) fn test(here: &Here, args: &TestArgs) -> Result<(), Failed> {
    let name = name(&args.name)?;
    let vault = here.open()?;
    vault.find(&name)?;
    let trial = Trial::find(here, &name).map_err(|no| Failed::refused(no.to_string()))?;
    let asked = trial.ask(None).map_err(|failed| Failed {
        why: format!("Omni cannot be asked about `{name}`: {}", failed.why),
        ..failed
    });
    let Asked::Told(told, asker) = asked? else { return Ok(()) };
    println!("1 request was sent by {asker} and charged to the budget");
    if told.sha256.as_deref() != Some(&*vault.token(&name)?.fingerprint()) {
        return Err(Failed::refused(other_value(&name)));
    }
    match told.verdict(trial.credential.kind) {
        Verdict::Good => {
            println!("`{name}` is good");
            Ok(())
        }
        Verdict::Wrong(what) => Err(Failed::refused(format!("`{name}`: {what}"))),
        Verdict::Unclear(why) => Err(Failed { code: UNAVAILABLE, why: format!("`{name}`: {why}") }),
    }
}

/// What Omni said was about something else than the vault holds.
fn other_value(name: &SecretName) -> String {
    format!(
        "the gateway that runs has another value than `{name}` in this vault; see its /readyz, and \
         whether its config names this vault"
    )
}

impl Trial {
    /// # Errors
    /// Says why Omni cannot be asked about this secret.
    pub(super) fn find(here: &Here, name: &SecretName) -> Result<Self, NoTrial> {
        let path = here.config.as_ref().ok_or(NoTrial::NoConfig)?;
        let shown = path.display();
        let config = config::load(path).map_err(|_| {
            NoTrial::Because(format!("{shown} is not right yet; see: omnigate check {shown}"))
        })?;
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
        let credential = config.credentials.iter().find(is_it).cloned().ok_or_else(|| {
            NoTrial::Because(format!(
                "no credential in {shown} uses `{name}` of this vault; name one that it uses"
            ))
        })?;
        Ok(Self { config, credential })
    }

    /// Asks Omni about what the vault holds, or about `value` where one is given.
    ///
    /// # Errors
    /// Nobody could ask.
    fn ask(&self, value: Option<&Arc<Token>>) -> Result<Asked, Failed> {
        let unavailable = |why| Failed { code: UNAVAILABLE, why };
        start(async {
            let mut credential = self.credential.clone();
            if let Some(token) = value {
                credential.source = Source::Given { token: token.clone() };
            }
            let asker = Asker::open(&self.config).map_err(unavailable)?;
            if value.is_some() && asker.is_gateway() {
                return Ok(Asked::Gateway);
            }
            asker.reload().await.map_err(unavailable)?;
            let told = asker.ask(&credential).await;
            let name = asker.name();
            asker.close();
            let told = told.map_err(|untold| {
                let spent = if untold.spent { " (1 request was sent)" } else { "" };
                unavailable(format!("{}{spent}", untold.why))
            });
            Ok(Asked::Told(told?, name))
        })?
    }

    /// Has a running gateway look at its secrets again.
    fn reload(&self) -> Result<(), Failed> {
        let unavailable = |why| Failed { code: UNAVAILABLE, why };
        start(async {
            let asker = Asker::open(&self.config).map_err(unavailable)?;
            let done = asker.reload().await.map_err(unavailable);
            asker.close();
            done
        })?
    }
}

impl fmt::Display for NoTrial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConfig => f.write_str(
                "there is no config that says which Omni it is for; name one with -c FILE",
            ),
            Self::Because(why) => f.write_str(why),
        }
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
    let untried = |why: &str| {
        format!(
            "Omni cannot be asked about the new value: {why}; `{name}` keeps its old one. To put it in \
             without asking, say --untried"
        )
    };
    let trial = match Trial::find(here, name) {
        Ok(trial) => trial,
        Err(no @ NoTrial::NoConfig) => {
            eprintln!("warning: Omni is not asked about the new value: {no}");
            return Ok(After::Nothing);
        }
        Err(NoTrial::Because(why)) => return Err(Failed::refused(untried(&why))),
    };
    let (told, asker) = match trial.ask(Some(token)) {
        Err(failed) => return Err(Failed { why: untried(&failed.why), ..failed }),
        Ok(Asked::Gateway) => return Ok(After::Ask(Box::new(trial))),
        Ok(Asked::Told(told, asker)) => (told, asker),
    };
    println!("1 request was sent by {asker} and charged to the budget");
    match told.verdict(trial.credential.kind) {
        Verdict::Good => {
            println!("Omni takes the new value");
            Ok(After::Nothing)
        }
        Verdict::Wrong(what) => {
            Err(Failed::refused(format!("{what}; `{name}` keeps its old value")))
        }
        Verdict::Unclear(why) => Err(Failed { code: UNAVAILABLE, why: untried(&why) }),
    }
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
            match told.verdict(trial.credential.kind) {
                // It asked about the old value.
                _ if told.sha256.as_deref() != Some(&*new.fingerprint()) => {
                    Some(Failed::refused(other_value(name)))
                }
                Verdict::Good => None,
                Verdict::Wrong(what) => Some(Failed::refused(what)),
                Verdict::Unclear(why) => Some(Failed { code: UNAVAILABLE, why }),
            }
        }
        Ok(Asked::Gateway) => None,
        Err(failed) => Some(failed),
    };
    let Some(failed) = failed else {
        println!("Omni takes the new value, and the gateway has it");
        return Ok(());
    };
    if !put_back(here, name, new, old, trial.credential.kind)? {
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

/// Whether two paths lead to one file.
fn same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
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
        let here =
            Here { files, config: None, named: false, configured: false, kinds: BTreeMap::new() };
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

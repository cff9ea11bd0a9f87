//! `vault list` and `vault rm`.

use serde_json::json;

use crate::cli::vault::{Failed, Here, confirmed, name, warn_of_unnamed};
use crate::credential::Kind;
use crate::credential::age::{Edit, Listed, Stamp};

/// How the list is shown.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// As JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// What is taken out.
#[derive(Debug, clap::Args)]
pub(super) struct RmArgs {
    /// Its name.
    name: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(super) fn list(here: &Here, args: &ListArgs) -> Result<(), Failed> {
    let (all, now) = (here.open()?.list(), Stamp::now());
    if args.json {
        let all: Vec<_> = all.iter().map(|one| as_json(one, now)).collect();
        println!("{:#}", serde_json::Value::Array(all));
        return Ok(());
    }
    let vault = here.files.path.display();
    if all.is_empty() {
        println!("{vault} is empty; put a secret in with: omnigate vault set NAME");
        return Ok(());
    }
    let width = all.iter().map(|one| one.name.as_str().len()).max().unwrap_or(0).max("name".len());
    println!("{:width$}  {:12}  {:8}  sha256", "name", "kind", "age");
    for one in &all {
        let kind = one.kind.map_or("-", Kind::as_str);
        let age = one.set_at.map_or("-".into(), |set_at| for_people(set_at.age_seconds(now)));
        let fingerprint = one.fingerprint.as_deref().unwrap_or("no token");
        println!("{:width$}  {kind:12}  {age:8}  {fingerprint}", one.name.as_str());
    }
    Ok(())
}

pub(super) fn rm(here: &Here, args: &RmArgs) -> Result<(), Failed> {
    let name = name(&args.name)?;
    here.open()?.find(&name)?;
    let vault = here.files.path.display();
    confirmed(args.yes, &format!("Take `{name}` out of {vault}?"))?;
    let mut edit = Edit::begin(&here.files)?;
    let unnamed = edit.vault.unnamed();
    edit.vault.remove(&name)?;
    edit.save()?;
    println!(
        "`{name}` is no longer in {vault}; the key itself is good until it is revoked in Omni"
    );
    warn_of_unnamed(unnamed);
    Ok(())
}

fn as_json(one: &Listed, now: Stamp) -> serde_json::Value {
    json!({
        "name": one.name.as_str(),
        "kind": one.kind.map(Kind::as_str),
        "set_at": one.set_at.map(|set_at| set_at.to_string()),
        "age_seconds": one.set_at.map(|set_at| set_at.age_seconds(now)),
        "sha256": one.fingerprint,
    })
}

/// A length of time in its largest unit.
fn for_people(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        for (seconds, told) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (86_400 * 90, "90 d")]
        {
            assert_eq!(for_people(seconds), told);
        }
    }
}

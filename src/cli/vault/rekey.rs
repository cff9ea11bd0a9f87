//! `vault rekey` and `vault recipients`: who can open the vault.

use clap::Subcommand;

use crate::cli::vault::{Failed, Here, warn_of_unnamed};
use crate::credential::age::{self, Edit, Recipient};

/// Whether the former identity is to go.
#[derive(Debug, clap::Args)]
pub(super) struct RekeyArgs {
    /// Remove the identity that the last rekey kept, and change nothing else.
    #[arg(long)]
    forget: bool,
}

/// Who is let in, or out.
#[derive(Debug, clap::Args)]
pub(super) struct RecipientsArgs {
    #[command(subcommand)]
    change: Option<WhoChanges>,
}

#[derive(Debug, Subcommand)]
enum WhoChanges {
    /// Let somebody open the vault.
    Add {
        /// The public key that age-keygen printed for them: age1…
        recipient: String,
    },
    /// Let somebody open the vault no longer.
    Rm {
        /// Their public key.
        recipient: String,
        /// Also where it is our own.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) fn rekey(here: &Here, args: &RekeyArgs) -> Result<(), Failed> {
    if args.forget {
        match age::forget(&here.files)? {
            Some(old) => println!(
                "{} is removed. Copies of it still open older copies of the vault",
                old.display()
            ),
            None => println!("there is no former identity; nothing was changed"),
        }
        return Ok(());
    }
    let rekeyed = age::rekey(&here.files)?;
    let (vault, identity) = (here.files.path.display(), here.files.identity.display());
    println!("{identity} is new ({}), and {vault} is encrypted to it", rekeyed.recipient);
    match rekeyed.others {
        0 => {}
        1 => println!("One other can open it as before"),
        others => println!("{others} others can open it as before"),
    }
    println!("The former identity is {}. Other machines that used it need", rekeyed.old.display());
    println!("the new one, or a recipient of their own. When everything works, run:");
    println!("  omnigate vault rekey --forget");
    println!("Whoever has the former identity and an older copy of the vault still has what is in");
    println!("it: if it was lost to somebody, rotate every secret.");
    warn_of_unnamed(rekeyed.unnamed);
    Ok(())
}

pub(super) fn recipients(here: &Here, args: RecipientsArgs) -> Result<(), Failed> {
    match args.change {
        None => list(here),
        Some(WhoChanges::Add { recipient }) => add(here, &recipient),
        Some(WhoChanges::Rm { recipient, yes }) => rm(here, &recipient, yes),
    }
}

fn list(here: &Here) -> Result<(), Failed> {
    let vault = here.open()?;
    for (recipient, ours) in vault.recipients() {
        println!("{recipient}{}", if ours { "  (yours)" } else { "" });
    }
    let unnamed = vault.unnamed();
    if unnamed > 0 {
        eprintln!(
            "warning: {unnamed} more can open it, and the vault does not say who; the next change \
             leaves them out"
        );
    }
    Ok(())
}

fn add(here: &Here, recipient: &str) -> Result<(), Failed> {
    let new = Recipient::parse(recipient)?;
    let mut edit = Edit::begin(&here.files)?;
    let unnamed = edit.vault.unnamed();
    if !edit.vault.add_recipient(new.clone()) {
        println!("{new} can open it already; nothing was changed");
        return Ok(());
    }
    edit.save()?;
    println!("{new} can open {} now", here.files.path.display());
    warn_of_unnamed(unnamed);
    Ok(())
}

fn rm(here: &Here, recipient: &str, yes: bool) -> Result<(), Failed> {
    let gone = Recipient::parse(recipient)?;
    let mut edit = Edit::begin(&here.files)?;
    let unnamed = edit.vault.unnamed();
    let ours = edit.vault.recipients().contains(&(gone.clone(), true));
    edit.vault.remove_recipient(&gone)?;
    if ours && !yes {
        let identity = here.files.identity.display();
        let why = format!("this is the key of {identity}, which could not open the vault any more");
        return Err(Failed::refused(format!("{why}; if that is what you want, say --yes")));
    }
    edit.save()?;
    println!("{gone} cannot open {} any more", here.files.path.display());
    println!(
        "Whoever has that key has seen what is in it, or has an older copy: rotate every secret."
    );
    warn_of_unnamed(unnamed);
    Ok(())
}

//! `impersonation` of a route.

use crate::config::at::{At, TextOr};
use crate::config::blot;
use crate::config::file::Pin;
use crate::config::resolve::Notes;
use crate::policy::{Impersonation, Membership};

/// The other way to write it.
const PIN: &str = "{ pin = \"MEMBERSHIP_ID\" }";

pub(super) fn resolve(said: &At<TextOr<Pin>>, notes: &mut Notes) -> Option<Impersonation> {
    match &said.value {
        TextOr::Text(text) => match text.as_str() {
            "deny" => Some(Impersonation::Deny),
            "allow" => Some(Impersonation::Allow),
            _ => {
                if blot::is_token(text) {
                    notes.hidden.0.push(said.span.clone());
                }
                notes
                    .problems
                    .at(&said.span, "`impersonation` is neither \"deny\" nor \"allow\"")
                    .help(format!("for one user alone, write impersonation = {PIN}"));
                None
            }
        },
        // Where it is missing, the walk over the tree has said so.
        TextOr::Other(table) => member(table.pin.as_ref()?, notes).map(Impersonation::Pin),
    }
}

fn member(said: &At<String>, notes: &mut Notes) -> Option<Membership> {
    if blot::is_token(&said.value) {
        notes.hidden.0.push(said.span.clone());
        notes
            .problems
            .at(&said.span, "`pin` looks like a token")
            .help("write the id of a user's membership, which is no secret");
        return None;
    }
    let member = Membership::parse(&said.value);
    if member.is_none() {
        notes
            .problems
            .at(&said.span, "a membership's id has 1 to 128 letters, digits and `-`, `_`, `.`")
            .help("it is what Omni takes as `userId`");
    }
    member
}

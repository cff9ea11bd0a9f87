//! Where each secret is, and whether it can be there. Never what it is.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::at::{At, TextOr};
use crate::config::blot;
use crate::config::file::{File, Secret};
use crate::config::resolve::providers::{self, Store};
use crate::config::resolve::{Notes, Surroundings, name_is_plain};
use crate::credential::{AgeSettings, Source};

/// Where secrets may be.
pub(super) struct Stores {
    /// The default one: `None` without a `[vault]` that names a backend.
    default: Option<Store>,
    /// `None` for one that has a problem.
    named: BTreeMap<String, Option<Store>>,
    /// Whether the default store has a problem that was noted.
    noted: bool,
}

impl Stores {
    pub(super) fn of(file: &File, around: &Surroundings<'_>, notes: &mut Notes) -> Self {
        let Some(At { value: vault, span }) = &file.vault else {
            return Self { default: None, named: BTreeMap::new(), noted: false };
        };
        let may_run = vault.rest.allow_exec.as_ref();
        let said = &vault.default;
        let default = said
            .backend
            .as_ref()
            .map(|backend| providers::store(backend.value, said, span, may_run, around, notes));
        let lost = providers::without_backend(said, notes);
        let mut named = BTreeMap::new();
        for (name, At { value: said, span }) in &vault.rest.providers {
            let backend = said.backend.as_ref();
            let store = backend
                .and_then(|it| providers::store(it.value, said, span, may_run, around, notes));
            let fits = name_is_plain(&name.value, &name.span, "provider", notes);
            named.insert(name.value.clone(), store.filter(|_| fits));
        }
        let noted = matches!(default, Some(None)) || lost;
        Self { default: default.flatten(), named, noted }
    }

    /// Where the secret is; `None` after the reason was noted.
    pub(super) fn source(&self, said: &At<TextOr<Secret>>, notes: &mut Notes) -> Option<Source> {
        match &said.value {
            TextOr::Text(name) => {
                let at = At { span: said.span.clone(), value: name.clone() };
                let named = is_a_name(&at, notes);
                let store = self.default(&said.span, notes)?;
                named.then(|| store.source(&at, None, notes)).flatten()
            }
            TextOr::Other(secret) => self.source_of_table(secret, &said.span, notes),
        }
    }

    fn source_of_table(
        &self,
        said: &Secret,
        span: &Range<usize>,
        notes: &mut Notes,
    ) -> Option<Source> {
        // All are looked at before anything else can end this: a token must not stay unnoticed.
        let mut named = true;
        for text in [&said.name, &said.path, &said.field].into_iter().flatten() {
            named &= is_a_name(text, notes);
        }
        let store = match &said.provider {
            None => self.default(span, notes)?,
            Some(provider) => self.provider(provider, notes)?,
        };
        let told_by = store.told_by();
        let others = [("name", &said.name), ("path", &said.path), ("field", &said.field)];
        for (key, other) in others {
            if let (Some(other), false) = (other, told_by.contains(&key)) {
                notes
                    .problems
                    .at(
                        &other.span,
                        format!("this provider's secrets are told by `{}`", told_by[0]),
                    )
                    .help(format!("write {} = \"…\"", told_by[0]));
                return None;
            }
        }
        let wanted = if told_by[0] == "path" { &said.path } else { &said.name };
        let Some(wanted) = wanted else {
            notes.problems.at(span, format!("`{}` is missing in `secret`", told_by[0]));
            return None;
        };
        named.then(|| store.source(wanted, said.field.as_ref(), notes)).flatten()
    }

    fn default(&self, span: &Range<usize>, notes: &mut Notes) -> Option<&Store> {
        if self.default.is_none() && !self.noted {
            notes
                .problems
                .at(span, "there is no [vault] that says where this name is looked up")
                .help("add\n[vault]\nbackend = \"dir\"\npath = \"/run/secrets\"");
        }
        self.default.as_ref()
    }

    fn provider(&self, said: &At<String>, notes: &mut Notes) -> Option<&Store> {
        let found = self.named.get(&said.value);
        if found.is_none() {
            let message = format!("there is no provider `{}`", said.value);
            let problem = notes.problems.at(&said.span, message);
            problem.help(format!("add a table [vault.providers.{}]", said.value));
            problem.help_with_name(&said.value, self.named.keys().map(String::as_str));
        }
        found?.as_ref()
    }
}

/// Whether a text can say where a secret is. One that cannot is never shown: it may be one.
fn is_a_name(said: &At<String>, notes: &mut Notes) -> bool {
    let text = said.value.as_str();
    if blot::is_token(text) {
        notes.hidden.hide(said);
        notes.problems.at(&said.span, "a token stands here in place of its name").help(
            "only where a secret is may stand in the config: put the token where [vault] points to,\n\
             name that place here, and revoke the token if others may have seen this file",
        );
        return false;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let fits = (1..=255).contains(&text.len()) && text.chars().all(plain);
    if !fits {
        notes.hidden.hide(said);
        notes
            .problems
            .at(&said.span, "this cannot name a secret")
            .help("the name or path of a secret has letters, digits and `-`, `_`, `.`, `/`");
    }
    fits
}

/// Whose secret it is.
pub(super) struct Owner<'a> {
    pub(super) who: &'a str,
    /// Where that stands in the file.
    pub(super) span: &'a Range<usize>,
    /// Whether a start may do without it.
    pub(super) may_be_missing: bool,
    /// What to do where its file is missing.
    pub(super) way_out: &'static str,
}

/// Whether a file is where it should be, and nobody's who should not have it. Its content is the
/// credential room's business, and so are variables: they are there when the service starts.
pub(super) fn is_there(source: &Source, owner: &Owner<'_>, notes: &mut Notes) -> bool {
    let (path, private) = match source {
        Source::Dir { path, name } => (path.join(name), false),
        Source::File { path } => (path.clone(), true),
        Source::Age { vault, .. } => return age_is_there(vault, owner, notes),
        Source::Env { .. }
        | Source::Exec { .. }
        | Source::Hashicorp { .. }
        | Source::Given { .. } => return true,
    };
    match look(&path, private) {
        Ok(()) => true,
        Err(Trouble::Missing) if owner.may_be_missing => true,
        Err(trouble) => {
            let message =
                format!("{}: {}", trouble.message("secret file", owner.who), path.display());
            notes.problems.at(owner.span, message).help(trouble.way_out(&path, owner));
            false
        }
    }
}

/// Whether an age file and its identity are there. What is in it is the credential room's business.
fn age_is_there(vault: &AgeSettings, owner: &Owner<'_>, notes: &mut Notes) -> bool {
    for (path, what, private) in
        [(&vault.path, "vault file", false), (&vault.identity, "identity file", true)]
    {
        let trouble = match look(path, private) {
            Ok(()) => continue,
            Err(Trouble::Missing) if owner.may_be_missing => continue,
            Err(trouble) => trouble,
        };
        let message = format!("{}: {}", trouble.message(what, owner.who), path.display());
        let help = match trouble {
            Trouble::Missing => "run: omnigate vault init".into(),
            other => other.way_out(path, owner),
        };
        notes.problems.at(owner.span, message).help(help);
        return false;
    }
    true
}

enum Trouble {
    Missing,
    NoFile,
    NotAllowed,
    ReadByOthers,
    Other(io::ErrorKind),
}

fn look(path: &Path, private: bool) -> Result<(), Trouble> {
    let meta = path.metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Trouble::Missing,
        io::ErrorKind::PermissionDenied => Trouble::NotAllowed,
        other => Trouble::Other(other),
    })?;
    if !meta.is_file() {
        return Err(Trouble::NoFile);
    }
    if private && meta.permissions().mode() & 0o077 != 0 {
        return Err(Trouble::ReadByOthers);
    }
    Ok(())
}

impl Trouble {
    fn message(&self, what: &str, who: &str) -> String {
        let file = format!("the {what} of {who}");
        match self {
            Self::Missing => format!("{file} is missing"),
            Self::NoFile => format!("{file} is no file"),
            Self::NotAllowed => format!("we may not look at {file}"),
            Self::ReadByOthers => format!("{file} can be read by others"),
            Self::Other(kind) => format!("{file} cannot be looked at ({kind})"),
        }
    }

    fn way_out(&self, path: &Path, owner: &Owner<'_>) -> String {
        match self {
            Self::Missing => owner.way_out.into(),
            Self::NoFile => "name the file that holds the token, and nothing else".into(),
            Self::NotAllowed => "run this as the user who runs the service, or give that user the \
                                 file and its folders"
                .into(),
            Self::ReadByOthers => format!("chmod 600 {}", path.display()),
            Self::Other(_) => "see whether its folder is mounted".into(),
        }
    }
}

//! `[vault]` and `[credentials.NAME]`: where secrets are, never what they are.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::base::{BudgetId, CredentialId};
use crate::config::at::{At, TextOr};
use crate::config::blot;
use crate::config::file::{self, Backend, Credential, File, Secret};
use crate::config::resolve::budgets::Budgets;
use crate::config::resolve::{Notes, Surroundings, name_is_plain};
use crate::credential::{CredentialSettings, Kind, OnMissing, Source};

/// The credentials of a file.
pub(super) struct Credentials<'a> {
    /// All that stand there, also those that have a problem.
    pub(super) known: BTreeMap<&'a str, Known<'a>>,
    pub(super) settings: Option<Vec<CredentialSettings>>,
}

/// What routes need to know of a credential; `None` for what has a problem.
pub(super) struct Known<'a> {
    pub(super) kind: Option<Kind>,
    /// The budgets that it is charged to.
    pub(super) budgets: Option<Vec<BudgetId>>,
    pub(super) secret: Option<&'a At<TextOr<Secret>>>,
    pub(super) source: Option<Source>,
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
        let source = source.filter(|source| is_there(source, said, on_missing, notes));
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
    Credentials { known, settings }
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

/// Where secrets may be.
struct Stores {
    /// The default one: `None` without a `[vault]` that names a backend.
    default: Option<Store>,
    /// `None` for one that has a problem.
    named: BTreeMap<String, Option<Store>>,
    /// Whether the default store has a problem that was noted.
    noted: bool,
}

#[derive(Clone)]
enum Store {
    Dir(PathBuf),
    /// The folder that relative paths start from.
    File(PathBuf),
    Env,
}

impl Stores {
    fn of(file: &File, around: &Surroundings<'_>, notes: &mut Notes) -> Self {
        let Some(At { value: vault, span }) = &file.vault else {
            return Self { default: None, named: BTreeMap::new(), noted: false };
        };
        let default = vault.backend.as_ref().map(|it| store(it, &vault.path, span, around, notes));
        if let (None, Some(path)) = (&vault.backend, &vault.path) {
            notes
                .problems
                .at(&path.span, "[vault] has a `path`, but no `backend`")
                .help("add backend = \"dir\"");
        }
        let mut named = BTreeMap::new();
        for (name, At { value: said, span }) in &vault.providers {
            let backend = said.backend.as_ref();
            let store = backend.and_then(|it| store(it, &said.path, span, around, notes));
            let fits = name_is_plain(&name.value, &name.span, "provider", notes);
            named.insert(name.value.clone(), store.filter(|_| fits));
        }
        let noted = matches!(default, Some(None)) || vault.path.is_some();
        Self { default: default.flatten(), named, noted }
    }

    /// Where the secret is; `None` after the reason was noted.
    fn source(&self, said: &At<TextOr<Secret>>, notes: &mut Notes) -> Option<Source> {
        match &said.value {
            TextOr::Text(name) => {
                let at = At { span: said.span.clone(), value: name.clone() };
                let named = is_a_name(&at, notes);
                let store = self.default(&said.span, notes)?;
                named.then(|| store.source(&at, notes)).flatten()
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
        // Both are looked at before anything else can end this: a token must not stay unnoticed.
        let mut named = true;
        for text in [&said.name, &said.path].into_iter().flatten() {
            named &= is_a_name(text, notes);
        }
        let store = match &said.provider {
            None => self.default(span, notes)?,
            Some(provider) => self.provider(provider, notes)?,
        };
        let (wanted, other, missing) = match store {
            Store::File(_) => (&said.path, &said.name, "path"),
            Store::Dir(_) | Store::Env => (&said.name, &said.path, "name"),
        };
        if let Some(other) = other {
            notes
                .problems
                .at(&other.span, format!("this provider's secrets are told by `{missing}`"))
                .help(format!("write {missing} = \"…\""));
            return None;
        }
        let Some(wanted) = wanted else {
            notes.problems.at(span, format!("`{missing}` is missing in `secret`"));
            return None;
        };
        named.then(|| store.source(wanted, notes)).flatten()
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

fn store(
    backend: &At<Backend>,
    path: &Option<At<PathBuf>>,
    span: &Range<usize>,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<Store> {
    match (backend.value, path) {
        (Backend::Dir, Some(path)) => Some(Store::Dir(around.path(&path.value))),
        (Backend::Dir, None) => {
            notes
                .problems
                .at(span, "backend \"dir\" needs a `path`: the folder with the secrets")
                .help("add path = \"/run/secrets\"");
            None
        }
        (Backend::File, path) => {
            let base =
                path.as_ref().map_or_else(|| around.path(""), |path| around.path(&path.value));
            Some(Store::File(base))
        }
        (Backend::Env, None) => Some(Store::Env),
        (Backend::Env, Some(path)) => {
            notes.problems.at(&path.span, "backend \"env\" has no `path`").help("leave it out");
            None
        }
    }
}

impl Store {
    fn source(&self, said: &At<String>, notes: &mut Notes) -> Option<Source> {
        let text = said.value.as_str();
        match self {
            Self::Dir(path) => {
                // Names in `..` are Kubernetes' own.
                let fits = !text.contains('/') && text != "." && !text.starts_with("..");
                if !fits {
                    notes
                        .problems
                        .at(&said.span, "a secret of backend \"dir\" is a plain file's name")
                        .help("for a path there is backend \"file\"");
                }
                fits.then(|| Source::Dir { path: path.clone(), name: text.to_owned() })
            }
            Self::File(base) => Some(Source::File { path: base.join(text) }),
            Self::Env => {
                let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                let fits =
                    text.bytes().all(word) && !text.starts_with(|c: char| c.is_ascii_digit());
                if !fits {
                    notes
                        .problems
                        .at(&said.span, "this is not the name of a variable")
                        .help("letters, digits and `_`, such as OMNI_API_KEY");
                }
                fits.then(|| Source::Env { name: text.to_owned() })
            }
        }
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

/// Whether a file is where it should be, and nobody's who should not have it. Its content is the
/// credential room's business, and so are variables: they are there when the service starts.
fn is_there(source: &Source, said: &Credential, on_missing: OnMissing, notes: &mut Notes) -> bool {
    let (path, private) = match source {
        Source::Dir { path, name } => (path.join(name), false),
        Source::File { path } => (path.clone(), true),
        Source::Env { .. } => return true,
    };
    let Some(secret) = &said.secret else { return true };
    match look(&path, private) {
        Ok(()) => true,
        Err(Trouble::Missing) if on_missing == OnMissing::Degrade => true,
        Err(trouble) => {
            let message = format!("{}: {}", trouble.message(), path.display());
            notes.problems.at(&secret.span, message).help(trouble.way_out(&path));
            false
        }
    }
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
    fn message(&self) -> String {
        match self {
            Self::Missing => "the secret file is missing".into(),
            Self::NoFile => "the secret is not a file".into(),
            Self::NotAllowed => "we may not look at the secret file".into(),
            Self::ReadByOthers => "the secret file can be read by others".into(),
            Self::Other(kind) => format!("the secret file cannot be looked at ({kind})"),
        }
    }

    fn way_out(&self, path: &Path) -> String {
        match self {
            Self::Missing => "put the token into this file, or say on_missing = \"degrade\" to \
                              start without it"
                .into(),
            Self::NoFile => "name the file that holds the token, and nothing else".into(),
            Self::NotAllowed => "run this as the user who runs the service, or give that user the \
                                 file and its folders"
                .into(),
            Self::ReadByOthers => format!("chmod 600 {}", path.display()),
            Self::Other(_) => "see whether its folder is mounted".into(),
        }
    }
}

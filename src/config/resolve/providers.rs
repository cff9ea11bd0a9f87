//! `[vault]` and `[vault.providers.NAME]`: the places where secrets are kept.

use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::at::At;
use crate::config::blot;
use crate::config::file::{Backend, Provider};
use crate::config::resolve::{Notes, Surroundings, login, some_time, upstream};
use crate::config::units::Period;
use crate::credential::{AgeSettings, ExecSettings, HashicorpSettings, Source};

/// How often a Vault server is asked again.
const VAULT_REFRESH: Duration = Duration::from_secs(60);
/// How long a program may run, and a request to a Vault server take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The field of a secret in a Vault server, where none is said.
const FIELD: &str = "token";

/// One place where secrets are kept.
#[derive(Clone)]
pub(super) enum Store {
    Dir(PathBuf),
    /// The folder that relative paths start from.
    File(PathBuf),
    Env,
    Age(AgeSettings),
    Exec(ExecSettings),
    Hashicorp(Arc<HashicorpSettings>),
}

/// What a provider that stands at `span` is; `None` after the reason was noted.
pub(super) fn store(
    backend: Backend,
    said: &Provider,
    span: &Range<usize>,
    may_run: Option<&At<Vec<At<PathBuf>>>>,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<Store> {
    let mut fits = has_only(backend, said, notes);
    for path in [&said.path, &said.identity].into_iter().flatten() {
        fits &= login::no_secret(path, notes);
    }
    let path = said.path.as_ref().map(|path| around.path(&path.value));
    let store = match backend {
        Backend::Dir => {
            let help = "add path = \"/run/secrets\"";
            let what = "backend \"dir\" needs a `path`: the folder with the secrets";
            Store::Dir(needed(path, span, what, help, notes)?)
        }
        Backend::File => Store::File(path.unwrap_or_else(|| around.path(""))),
        Backend::Env => Store::Env,
        Backend::Age => {
            let identity = said.identity.as_ref().map(|identity| around.path(&identity.value));
            let what = "backend \"age\" needs a `path`: the encrypted file";
            let path = needed(path, span, what, "add path = \"vault.age\"", notes);
            let what = "backend \"age\" needs an `identity`: the file with the key that opens it";
            let identity = needed(identity, span, what, "add identity = \"identity.txt\"", notes);
            Store::Age(AgeSettings { path: path?, identity: identity? })
        }
        Backend::Exec => Store::Exec(program(said, span, may_run, notes)?),
        Backend::Hashicorp => Store::Hashicorp(Arc::new(hashicorp(said, span, around, notes)?)),
    };
    fits.then_some(store)
}

/// Notes keys of `[vault]` that belong to a backend where none is named.
pub(super) fn without_backend(said: &Provider, notes: &mut Notes) -> bool {
    let lost = keys(said).into_iter().find_map(|(key, span)| Some((key, span?)));
    let (None, Some((key, span))) = (&said.backend, lost) else { return false };
    let message = format!("[vault] has a `{key}`, but no `backend`");
    let backends: Vec<_> = BACKENDS
        .into_iter()
        .filter(|(_, keys)| keys.contains(&key))
        .map(|(backend, _)| backend)
        .collect();
    notes
        .problems
        .at(span, message)
        .help(format!("add backend = \"{}\"", backends.join("\" or \"")));
    true
}

/// Which keys each backend has.
const BACKENDS: [(&str, &[&str]); 6] = [
    ("dir", &["path"]),
    ("file", &["path"]),
    ("env", &[]),
    ("age", &["path", "identity"]),
    ("exec", &["command", "env", "timeout", "refresh"]),
    ("hashicorp", &["address", "tls_roots", "namespace", "mount", "auth", "timeout", "refresh"]),
];

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::Dir => "dir",
            Self::File => "file",
            Self::Env => "env",
            Self::Age => "age",
            Self::Exec => "exec",
            Self::Hashicorp => "hashicorp",
        }
    }
}

fn keys(said: &Provider) -> [(&'static str, Option<&Range<usize>>); 11] {
    fn span<T>(said: &Option<At<T>>) -> Option<&Range<usize>> {
        said.as_ref().map(|said| &said.span)
    }
    [
        ("path", span(&said.path)),
        ("identity", span(&said.identity)),
        ("command", span(&said.command)),
        ("env", span(&said.env)),
        ("timeout", span(&said.timeout)),
        ("refresh", span(&said.refresh)),
        ("address", span(&said.address)),
        ("tls_roots", span(&said.tls_roots)),
        ("namespace", span(&said.namespace)),
        ("mount", span(&said.mount)),
        ("auth", span(&said.auth)),
    ]
}

/// Whether a provider has no key of another backend.
fn has_only(backend: Backend, said: &Provider, notes: &mut Notes) -> bool {
    let own = BACKENDS.into_iter().find(|(name, _)| *name == backend.name());
    let own = own.map_or(&[][..], |(_, keys)| keys);
    let mut fits = true;
    for (key, span) in keys(said) {
        if let (Some(span), false) = (span, own.contains(&key)) {
            let message = format!("backend \"{}\" has no `{key}`", backend.name());
            notes.problems.at(span, message).help("leave it out");
            fits = false;
        }
    }
    fits
}

/// A key that a provider cannot do without.
pub(super) fn needed<T>(
    said: Option<T>,
    span: &Range<usize>,
    what: &str,
    help: &str,
    notes: &mut Notes,
) -> Option<T> {
    if said.is_none() {
        notes.problems.at(span, what).help(help);
    }
    said
}

/// The program of an `exec` provider, where the config allows it to be run.
fn program(
    said: &Provider,
    span: &Range<usize>,
    may_run: Option<&At<Vec<At<PathBuf>>>>,
    notes: &mut Notes,
) -> Option<ExecSettings> {
    let timeout = some_time("timeout", &said.timeout, TIMEOUT, notes);
    let refresh = match &said.refresh {
        None => Some(None),
        refresh => self::refresh(refresh, TIMEOUT, notes).map(Some),
    };
    let what = "backend \"exec\" needs a `command`: a program and its arguments";
    let help = "add command = [\"/usr/bin/op\", \"read\", \"op://omni/{name}/token\"]";
    let command = needed(said.command.as_ref(), span, what, help, notes)?;
    let mut fits = true;
    for word in &command.value {
        if blot::is_token(&word.value) {
            notes.hidden.hide(word);
            notes.problems.at(&word.span, "a token stands here").help(
                "arguments can be read by everybody on the machine; let the program find its own key",
            );
            fits = false;
        }
    }
    let Some((program, args)) = command.value.split_first() else {
        notes.problems.at(&command.span, "`command` is empty").help(help);
        return None;
    };
    fits &= may_be_run(program, may_run, notes);
    let names = said.env.as_ref().map_or(&[][..], |env| &env.value);
    for name in names {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.value.is_empty() || !name.value.bytes().all(word) || blot::is_token(&name.value) {
            notes.hidden.hide(name);
            notes
                .problems
                .at(&name.span, "this is not the name of a variable")
                .help("letters, digits and `_`; the value comes from our own environment");
            fits = false;
        }
    }
    let text = |said: &At<String>| said.value.clone();
    let settings = ExecSettings {
        program: program.value.clone().into(),
        args: args.iter().map(text).collect(),
        env: names.iter().map(text).collect(),
        timeout: timeout?,
        refresh: refresh?,
    };
    fits.then_some(settings)
}

/// How often a place is asked again; each time costs it something.
fn refresh(said: &Option<At<Period>>, default: Duration, notes: &mut Notes) -> Option<Duration> {
    match said {
        Some(at) if at.value.0 < Duration::from_secs(1) => {
            notes.problems.at(&at.span, "`refresh` must be at least 1s");
            None
        }
        said => Some(said.as_ref().map_or(default, |at| at.value.0)),
    }
}

/// Whether the list allows a program, and nobody else can have put another in its place.
fn may_be_run(
    said: &At<String>,
    may_run: Option<&At<Vec<At<PathBuf>>>>,
    notes: &mut Notes,
) -> bool {
    let program = Path::new(&said.value);
    if !program.is_absolute() {
        notes
            .problems
            .at(&said.span, "the program must be an absolute path: no PATH is searched")
            .help(format!("such as \"/usr/bin/{}\"", said.value));
        return false;
    }
    let listed = may_run.is_some_and(|list| list.value.iter().any(|one| one.value == program));
    if !listed {
        let [first, second] = match may_run {
            Some(_) => ["add it to", ""],
            None => ["add", " to [vault]"],
        };
        notes
            .problems
            .at(
                &said.span,
                format!("{} is not on the list of programs that may be run", said.value),
            )
            .help(format!("{first} allow_exec = [\"{}\"]{second}", said.value));
        return false;
    }
    let other = || "name the program that prints the secret".to_owned();
    let (message, help) = match program.metadata() {
        Err(error) => (format!("{} cannot be looked at: {error}", said.value), other()),
        Ok(meta) if !meta.is_file() => (format!("{} is no file", said.value), other()),
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => {
            let help = format!("run: chmod u+x {}", said.value);
            (format!("{} cannot be executed", said.value), help)
        }
        Ok(meta) if meta.permissions().mode() & 0o002 != 0 => {
            let help = format!("see who changed it, and run: chmod o-w {}", said.value);
            (format!("{} can be changed by everybody on this machine", said.value), help)
        }
        Ok(_) => return true,
    };
    notes.problems.at(&said.span, message).help(help);
    false
}

fn hashicorp(
    said: &Provider,
    span: &Range<usize>,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<HashicorpSettings> {
    let what = "backend \"hashicorp\" needs an `address`: the Vault server";
    let help = "add address = \"https://vault.internal:8200\"";
    let address = needed(said.address.as_ref(), span, what, help, notes);
    let origin = address.and_then(|address| upstream::origin("address", address, notes));
    let roots = upstream::tls_roots(&said.tls_roots, around, notes);
    let timeout = some_time("timeout", &said.timeout, TIMEOUT, notes);
    let refresh = refresh(&said.refresh, VAULT_REFRESH, notes);
    let what = "backend \"hashicorp\" needs an `auth`: how to log in";
    let help = "add auth = { method = \"token\", token_file = \"/run/secrets/vault-token\" }";
    let auth = needed(said.auth.as_ref(), span, what, help, notes);
    let login = auth.and_then(|auth| login::resolve(auth, around, notes));
    let mount = match &said.mount {
        None => Some("secret".to_owned()),
        Some(mount) => login::mount(mount, notes),
    };
    let namespace = match &said.namespace {
        None => Some(None),
        Some(namespace) => login::mount(namespace, notes).map(Some),
    };
    let origin = origin?;
    Some(HashicorpSettings {
        host: origin.host().to_owned(),
        port: origin.port(),
        tls: origin.is_https().then_some(roots?),
        namespace: namespace?,
        mount: mount?,
        login: login?,
        refresh: refresh?,
        timeout: timeout?,
    })
}

impl Store {
    /// The keys of `secret` that tell one of its secrets; the first one must be there.
    pub(super) fn told_by(&self) -> &'static [&'static str] {
        match self {
            Self::Dir(_) | Self::Env | Self::Age(_) | Self::Exec(_) => &["name"],
            Self::File(_) => &["path"],
            Self::Hashicorp(_) => &["path", "field"],
        }
    }

    /// Where the secret of that name or path is.
    pub(super) fn source(
        &self,
        said: &At<String>,
        field: Option<&At<String>>,
        notes: &mut Notes,
    ) -> Option<Source> {
        let text = said.value.as_str();
        let name = || text.to_owned();
        let mut check = |fits: bool, message: &str, help: &str| {
            if !fits {
                notes.problems.at(&said.span, message).help(help);
            }
            fits
        };
        match self {
            Self::Dir(path) => {
                // Names in `..` are Kubernetes' own.
                let fits = !text.contains('/') && text != "." && !text.starts_with("..");
                let message = "a secret of backend \"dir\" is a plain file's name";
                check(fits, message, "for a path there is backend \"file\"")
                    .then(|| Source::Dir { path: path.clone(), name: name() })
            }
            Self::File(base) => Some(Source::File { path: base.join(text) }),
            Self::Env => {
                let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                let fits =
                    text.bytes().all(word) && !text.starts_with(|c: char| c.is_ascii_digit());
                let help = "letters, digits and `_`, such as OMNI_API_KEY";
                check(fits, "this is not the name of a variable", help)
                    .then(|| Source::Env { name: name() })
            }
            Self::Age(vault) => {
                let help = "as `omnigate vault list` shows it";
                check(!text.contains('/'), "a secret of backend \"age\" is an entry's name", help)
                    .then(|| Source::Age { vault: vault.clone(), name: name() })
            }
            Self::Exec(command) => {
                let message = "the name would be read as an option of the program";
                check(!text.starts_with('-'), message, "take another name")
                    .then(|| Source::Exec { command: command.clone(), name: name() })
            }
            Self::Hashicorp(vault) => {
                let odd = |part: &str| part.is_empty() || part == "." || part == "..";
                let help = "below the mount, such as \"omni/org\"; without the word `data`";
                check(!text.split('/').any(odd), "this is no path of a secret", help).then(|| {
                    let field = field.map_or(FIELD, |field| &field.value).to_owned();
                    Source::Hashicorp { vault: vault.clone(), path: name(), field }
                })
            }
        }
    }
}

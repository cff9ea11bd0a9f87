//! `auth` of a Vault server: how to log in to it.

use std::ops::Range;
use std::path::PathBuf;

use crate::config::at::At;
use crate::config::blot;
use crate::config::file::{Auth, Method};
use crate::config::resolve::providers::needed;
use crate::config::resolve::{Notes, Surroundings};
use crate::credential::{Held, Login};

/// Where Kubernetes mounts the token of a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How to log in; `None` after the reason was noted.
pub(super) fn resolve(
    At { value: said, span }: &At<Auth>,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<Login> {
    let method = said.method.as_ref()?.value;
    let fits = has_only(method, said, notes);
    let mount = match (&said.mount, method) {
        (Some(said), _) => mount(said, notes),
        (None, Method::AppRole) => Some("approle".to_owned()),
        (None, Method::Kubernetes | Method::Token) => Some("kubernetes".to_owned()),
    };
    let login = match method {
        Method::Token => Login::Token(held(
            &said.token_file,
            &said.token_env,
            ["token_file", "token_env"],
            span,
            around,
            notes,
        )?),
        Method::AppRole => {
            let help = "add role_id = \"…\"; it is not a secret";
            let role_id =
                needed(said.role_id.as_ref(), span, "AppRole needs a `role_id`", help, notes);
            let secret_id = held(
                &said.secret_id_file,
                &said.secret_id_env,
                ["secret_id_file", "secret_id_env"],
                span,
                around,
                notes,
            );
            Login::AppRole {
                mount: mount?,
                role_id: role_id?.value.clone(),
                secret_id: secret_id?,
                wrapped: said.wrapped.as_ref().is_some_and(|wrapped| wrapped.value),
            }
        }
        Method::Kubernetes => {
            let help = "add role = \"…\", the role that the service account is bound to";
            let role = needed(said.role.as_ref(), span, "Kubernetes needs a `role`", help, notes);
            let jwt = match &said.jwt_file {
                Some(jwt) => no_secret(jwt, notes).then(|| around.path(&jwt.value)),
                None => Some(PathBuf::from(SERVICE_ACCOUNT)),
            };
            Login::Kubernetes { mount: mount?, role: role?.value.clone(), jwt: jwt? }
        }
    };
    fits.then_some(login)
}

/// A path of a Vault server, as it stands in a URL.
pub(super) fn mount(said: &At<String>, notes: &mut Notes) -> Option<String> {
    let text = said.value.trim_matches('/');
    let plain = |part: &str| {
        let byte = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(byte)
    };
    if text.split('/').all(plain) {
        return Some(text.to_owned());
    }
    notes
        .problems
        .at(&said.span, "this is no path of a Vault server")
        .help("letters, digits and `-`, `_`, `.`, with `/` between them");
    None
}

/// Whether a path is one. A secret that was put in its place is never shown.
pub(super) fn no_secret(said: &At<PathBuf>, notes: &mut Notes) -> bool {
    let secret = blot::is_token(&said.value.to_string_lossy());
    if secret {
        notes.hidden.hide(said);
        notes
            .problems
            .at(&said.span, "a secret stands here in place of a path")
            .help("put it into a file that only the service may read, and write that file's path");
    }
    !secret
}

/// The one of two places that a log-in's secret is said to be in.
fn held(
    file: &Option<At<PathBuf>>,
    variable: &Option<At<String>>,
    [file_key, variable_key]: [&str; 2],
    span: &Range<usize>,
    around: &Surroundings<'_>,
    notes: &mut Notes,
) -> Option<Held> {
    match (file, variable) {
        (Some(file), None) => no_secret(file, notes).then(|| Held::File(around.path(&file.value))),
        (None, Some(variable)) => {
            let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            let text = &variable.value;
            if text.is_empty() || !text.bytes().all(word) || blot::is_token(text) {
                notes.hidden.hide(variable);
                notes.problems.at(&variable.span, "this is not the name of a variable").help(
                    "only where the secret is may stand in the config, never the secret itself",
                );
                return None;
            }
            Some(Held::Env(text.clone()))
        }
        (Some(_), Some(variable)) => {
            notes
                .problems
                .at(&variable.span, format!("`{file_key}` and `{variable_key}` exclude each other"))
                .help("leave one of them out");
            None
        }
        (None, None) => {
            notes
                .problems
                .at(span, format!("`{file_key}` or `{variable_key}` is missing"))
                .help(format!("add {file_key} = \"…\""));
            None
        }
    }
}

/// Whether the table has no key of another method.
fn has_only(method: Method, said: &Auth, notes: &mut Notes) -> bool {
    fn span<T>(said: &Option<At<T>>) -> Option<&Range<usize>> {
        said.as_ref().map(|said| &said.span)
    }
    let name = match method {
        Method::Token => "token",
        Method::AppRole => "approle",
        Method::Kubernetes => "kubernetes",
    };
    let keys = [
        ("mount", span(&said.mount), method != Method::Token),
        ("token_file", span(&said.token_file), method == Method::Token),
        ("token_env", span(&said.token_env), method == Method::Token),
        ("role_id", span(&said.role_id), method == Method::AppRole),
        ("secret_id_file", span(&said.secret_id_file), method == Method::AppRole),
        ("secret_id_env", span(&said.secret_id_env), method == Method::AppRole),
        ("wrapped", span(&said.wrapped), method == Method::AppRole),
        ("role", span(&said.role), method == Method::Kubernetes),
        ("jwt_file", span(&said.jwt_file), method == Method::Kubernetes),
    ];
    let mut fits = true;
    for (key, span, own) in keys {
        if let (Some(span), false) = (span, own) {
            notes
                .problems
                .at(span, format!("method \"{name}\" has no `{key}`"))
                .help("leave it out");
            fits = false;
        }
    }
    fits
}

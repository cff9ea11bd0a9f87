//! Secrets on their way to another place. They go to a writer or a file, and never through a `String`.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice};

use super::disk;
use super::error::{AgeError, unwritable};
use super::name::SecretName;
use super::vault::Vault;
use crate::credential::token::Token;

/// How secrets are written in one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `NAME=value` in lines, for `--env-file` and `EnvironmentFile=`.
    Env,
    /// A Kubernetes manifest.
    K8sSecret,
}

/// A secret's name and its token's text.
type Named = (SecretName, SecretSlice<u8>);

impl Vault {
    /// Writes these secrets, or all of them where none is named.
    ///
    /// # Errors
    /// There is no such secret, one is no token or fits not into the form, or the writer fails.
    pub fn export(
        &self,
        form: Form,
        names: &[SecretName],
        out: &mut dyn Write,
    ) -> Result<(), AgeError> {
        let text = text(form, &self.chosen(names)?)?;
        out.write_all(&text).and_then(|()| out.flush()).map_err(AgeError::Output)
    }

    /// The same into a file that only its owner may read. It is overwritten only with `force`.
    ///
    /// # Errors
    /// As for [`Self::export`], or the file is there already.
    pub fn export_file(
        &self,
        form: Form,
        names: &[SecretName],
        path: &Path,
        force: bool,
    ) -> Result<(), AgeError> {
        put(path, &text(form, &self.chosen(names)?)?, force)
    }

    /// Writes a file for each secret into a folder that only its owner may enter, which is made if it
    /// is missing. Files are overwritten only with `force`. Gives back how many there are.
    ///
    /// # Errors
    /// As for [`Self::export`], others may enter the folder, or a file is there already; then
    /// nothing was written.
    pub fn export_folder(
        &self,
        names: &[SecretName],
        folder: &Path,
        force: bool,
    ) -> Result<usize, AgeError> {
        let chosen = self.chosen(names)?;
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mode = fs::metadata(folder).map_err(unwritable(folder))?.permissions().mode();
                if mode & 0o077 != 0 {
                    return Err(AgeError::OpenFolder { path: folder.to_owned() });
                }
            }
            made => made.map_err(unwritable(folder))?,
        }
        let paths: Vec<_> = chosen.iter().map(|(name, _)| folder.join(name.as_str())).collect();
        let there = paths.iter().find(|path| path.symlink_metadata().is_ok());
        if let (Some(path), false) = (there, force) {
            return Err(AgeError::Exists { path: path.clone() });
        }
        for (path, (_, text)) in paths.iter().zip(&chosen) {
            put(path, text.expose_secret(), force)?;
        }
        Ok(chosen.len())
    }

    fn chosen(&self, names: &[SecretName]) -> Result<Vec<Named>, AgeError> {
        let all = || self.document.entries.keys().cloned().collect();
        let names: BTreeSet<SecretName> =
            if names.is_empty() { all() } else { names.iter().cloned().collect() };
        let named = |name: SecretName| {
            let token = Token::parse(self.secret(&name)?.expose_secret());
            let token = token.map_err(|source| AgeError::BadValue {
                vault: self.path().to_owned(),
                name: name.clone(),
                source,
            })?;
            Ok((name, token.text()))
        };
        names.into_iter().map(named).collect()
    }
}

fn put(path: &Path, content: &[u8], force: bool) -> Result<(), AgeError> {
    match disk::create(path, content) {
        Err(AgeError::Exists { .. }) if force => disk::overwrite(path, content),
        done => done,
    }
}

fn text(form: Form, secrets: &[Named]) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    // Large enough from the start: a vector that grows leaves copies behind.
    const AROUND: usize = 256;
    let values = secrets.iter().map(|(_, text)| text.expose_secret().len());
    let room = values.map(|length| length * 2 + AROUND).sum::<usize>() + AROUND;
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    match form {
        Form::Env => env(secrets, &mut text)?,
        Form::K8sSecret => k8s_secret(secrets, &mut text),
    }
    Ok(text)
}

fn env(secrets: &[Named], text: &mut Vec<u8>) -> Result<(), AgeError> {
    let mut taken = BTreeSet::new();
    for (name, value) in secrets {
        let variable = name.as_str().replace(['-', '.'], "_");
        let digit_first = variable.starts_with(|c: char| c.is_ascii_digit());
        text.extend_from_slice(variable.as_bytes());
        if digit_first || !taken.insert(variable) {
            return Err(AgeError::NotAVariable { name: name.clone() });
        }
        // A token has no character that needs quotation marks, and Docker would keep them.
        text.push(b'=');
        text.extend_from_slice(value.expose_secret());
        text.push(b'\n');
    }
    Ok(())
}

fn k8s_secret(secrets: &[Named], text: &mut Vec<u8>) {
    text.extend_from_slice(b"apiVersion: v1\nkind: Secret\nmetadata:\n  name: omnigate\n");
    text.extend_from_slice(b"type: Opaque\ndata:");
    // `data:` with nothing below it is null.
    text.extend_from_slice(if secrets.is_empty() { b" {}\n" } else { b"\n" });
    for (name, value) in secrets {
        text.extend_from_slice(format!("  \"{name}\": \"").as_bytes());
        base64(value.expose_secret(), text);
        text.extend_from_slice(b"\"\n");
    }
}

/// RFC 4648 §4.
fn base64(bytes: &[u8], text: &mut Vec<u8>) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() { letter } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(named: &[(&str, &str)]) -> Vec<Named> {
        let secret = |text: &str| SecretSlice::from(text.as_bytes().to_vec());
        named.iter().map(|(name, text)| (SecretName::parse(name).unwrap(), secret(text))).collect()
    }

    fn written(form: Form, named: &[(&str, &str)]) -> Result<String, AgeError> {
        text(form, &secrets(named)).map(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn variables_are_one_line_each() {
        let text = written(Form::Env, &[("OMNI_API_KEY", "a"), ("team-2.read", "b=")]).unwrap();
        assert_eq!(text, "OMNI_API_KEY=a\nteam_2_read=b=\n");
    }

    #[test]
    fn what_would_be_no_variable_of_its_own_is_refused() {
        for named in [&[("0rg", "a")][..], &[("a-b", "a"), ("a.b", "b")]] {
            let error = written(Form::Env, named).unwrap_err();
            assert!(matches!(error, AgeError::NotAVariable { .. }), "{error}");
        }
    }

    #[test]
    fn a_manifest_has_base64() {
        let text = written(Form::K8sSecret, &[("org", "omni")]).unwrap();
        assert!(text.starts_with("apiVersion: v1\nkind: Secret\n"));
        assert!(text.ends_with("type: Opaque\ndata:\n  \"org\": \"b21uaQ==\"\n"));
        assert!(written(Form::K8sSecret, &[]).unwrap().ends_with("data: {}\n"));
    }

    #[test]
    fn base64_is_as_the_rfc_has_it() {
        for (plain, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut text = Vec::new();
            base64(plain.as_bytes(), &mut text);
            assert_eq!(text, expected.as_bytes());
        }
    }
}

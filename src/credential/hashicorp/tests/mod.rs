//! Against the fake Vault, over pipes and in virtual time.

mod leakage;
mod leases;
mod login;
mod secrets;
mod trouble;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::HashicorpError;
use super::kv::Spot;
use super::session::Session;
use crate::credential::{HashicorpSettings, Held, Login};
use crate::fake_vault::{FakeVault, Terms, TokenSeen};
use crate::net::Dial;

const ROLE_ID: &str = "59d6d1ca-47bb-4e7e-a40b-8be3bc5a0ba8";
const SECRET_ID: &str = "84896a0c-1347-aa90-a4f6-aca8b7558780";
const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(30);

/// A fake Vault with the secret `omni` in it, and a folder for what we log in with.
struct House {
    vault: FakeVault,
    folder: TempDir,
    settings: HashicorpSettings,
}

impl House {
    /// One in which an application with `terms` may log in.
    fn new(terms: Terms) -> Self {
        let vault = FakeVault::default();
        let folder = tempfile::tempdir().unwrap();
        vault.app_role("approle", ROLE_ID, SECRET_ID, terms);
        vault.write("omni", json!({ "token": "first", "other": "value" }));
        let path = folder.path().join("secret-id");
        let settings = settings(app_role(&path, false));
        let house = Self { vault, folder, settings };
        house.keep("secret-id", SECRET_ID);
        house
    }

    /// Keeps a text in a file that only we may read.
    fn keep(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn log_in_by(&mut self, login: Login) {
        self.settings.login = login;
    }

    fn way(&self) -> Dial {
        let (dial, pipes) = Dial::pipe();
        tokio::spawn(self.vault.clone().serve_pipes(pipes));
        dial
    }

    fn session(&self) -> Arc<Session> {
        Session::new(Arc::new(self.settings.clone()), Some(self.way())).unwrap()
    }

    /// The same, with its lease kept, by three as if it had three secrets.
    fn kept(&self) -> Kept {
        let session = self.session();
        let stop = CancellationToken::new();
        for _ in 0..3 {
            let (session, stop) = (session.clone(), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(session.keep()).await });
        }
        Kept { session, _stop: stop.drop_guard() }
    }

    /// Checks that nothing was asked that a right client would not ask, nor with a dead token.
    fn check(&self) {
        assert_eq!(self.vault.complaints(), Vec::<String>::new());
        for asked in self.vault.asked() {
            assert!(matches!(asked.token, TokenSeen::Good | TokenSeen::Absent), "{asked:?}");
        }
    }

    fn log_ins(&self) -> usize {
        self.vault.count("/login")
    }

    fn renewals(&self) -> usize {
        self.vault.count("/renew-self")
    }
}

struct Kept {
    session: Arc<Session>,
    _stop: tokio_util::sync::DropGuard,
}

fn settings(login: Login) -> HashicorpSettings {
    HashicorpSettings {
        host: "vault.internal".to_owned(),
        port: 8200,
        tls: None,
        namespace: None,
        mount: "secret".to_owned(),
        login,
        refresh: Duration::from_secs(60),
        timeout: Duration::from_secs(10),
    }
}

fn app_role(secret_id: &Path, wrapped: bool) -> Login {
    let (mount, role_id) = ("approle".to_owned(), ROLE_ID.to_owned());
    Login::AppRole { mount, role_id, secret_id: Held::File(secret_id.to_owned()), wrapped }
}

async fn read_at(
    session: &Arc<Session>,
    path: &str,
    field: &str,
) -> Result<String, HashicorpError> {
    let secret = session.read(&Spot::new("secret", path, field).unwrap()).await?;
    Ok(String::from_utf8(secret.expose_secret().to_vec()).unwrap())
}

async fn read(session: &Arc<Session>) -> Result<String, HashicorpError> {
    read_at(session, "omni", "token").await
}

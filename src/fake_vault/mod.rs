//! A Vault server as its public API documentation has it, as far as a gateway needs one. For tests.
//!
//! It answers log-ins (AppRole, Kubernetes), tokens and their leases, response wrapping, and a KV
//! engine, in Vault's shapes; and it judges what it is asked: paths, methods, fields and bodies. A
//! request that a right client would not make is refused, and noted as a *complaint*. Leases run on
//! tokio's clock. Nothing in a config leads here.

mod answer;
mod api;
mod engine;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::net::PipeEnd;

pub use engine::Engine;
pub use tokens::{Terms, TokenSeen};

use engine::Secrets;
use tokens::Tokens;

/// A fake Vault server. Clones are the same server.
#[derive(Clone)]
pub struct FakeVault(Arc<Mutex<Inside>>);

struct Inside {
    namespace: Option<String>,
    secrets: Secrets,
    tokens: Tokens,
    app_roles: BTreeMap<String, AppRole>,
    accounts: BTreeMap<String, Account>,
    /// Wrapping tokens that were not used yet, and the secret ids in them.
    wrapped: BTreeMap<String, (String, Instant)>,
    denied: BTreeSet<String>,
    renews: bool,
    trouble: Option<Trouble>,
    asked: Vec<Asked>,
    complaints: Vec<String>,
}

/// A role of the AppRole method; the map's key is its mount.
struct AppRole {
    role_id: String,
    secret_id: String,
    terms: Terms,
}

/// A role of the Kubernetes method; the map's key is its mount.
struct Account {
    role: String,
    jwt: String,
    terms: Terms,
}

/// What ails the server, whatever it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It closes every connection without a word.
    Down,
    /// It is sealed.
    Sealed,
    /// It answers so late.
    Slow(Duration),
    /// It answers this status, as a standby or a load balancer does.
    Status(u16),
    /// It answers this text with status 200.
    Says(&'static str),
}

/// A request that came, and what became of it. No secret is in it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When it came.
    pub at: Instant,
    /// Its method.
    pub method: String,
    /// Its path, with `/v1`.
    pub path: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// What its token was worth then.
    pub token: TokenSeen,
    /// What was answered; 0 is nothing.
    pub status: u16,
}

impl Default for FakeVault {
    fn default() -> Self {
        Self::new(Engine::V2 { mount: "secret" }, None)
    }
}

impl FakeVault {
    /// A server with one KV engine; all of it is in `namespace`.
    pub fn new(engine: Engine, namespace: Option<&str>) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            namespace: namespace.map(str::to_owned),
            secrets: Secrets::new(engine),
            tokens: Tokens::default(),
            app_roles: BTreeMap::new(),
            accounts: BTreeMap::new(),
            wrapped: BTreeMap::new(),
            denied: BTreeSet::new(),
            renews: true,
            trouble: None,
            asked: Vec::new(),
            complaints: Vec::new(),
        })))
    }

    /// Serves HTTP/1.1 on any stream until either side ends it.
    ///
    /// Cancel-safe: dropping the future closes the connection.
    pub async fn serve_connection<I>(&self, io: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.hold().trouble == Some(Trouble::Down) {
            return;
        }
        let service = service_fn(|request| self.answer(request));
        // An error here is a caller who left, or trouble.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(io), service).await;
    }

    /// Accepts connections until `stop`, then drops those that are open.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(_) = open.join_next() => {}
                accepted = listener.accept() => if let Ok((socket, _)) = accepted {
                    let vault = self.clone();
                    open.spawn(async move { vault.serve_connection(socket).await });
                },
            }
        }
    }

    /// Serves what a [`Dial::pipe`](crate::net::Dial::pipe) opens, until that is gone.
    pub async fn serve_pipes(self, mut pipes: mpsc::UnboundedReceiver<PipeEnd>) {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = open.join_next() => {}
                pipe = pipes.recv() => match pipe {
                    Some(pipe) => {
                        let vault = self.clone();
                        open.spawn(async move { vault.serve_connection(pipe).await });
                    }
                    None => return,
                },
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let body =
            Limited::new(body, 1 << 20).collect().await.map_err(io::Error::other)?.to_bytes();
        let trouble = self.hold().trouble;
        if let Some(Trouble::Slow(late)) = trouble {
            sleep(late).await;
        }
        let mut inside = self.hold();
        let mut asked = Asked {
            at: Instant::now(),
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            namespace: api::namespace(&head.headers),
            token: inside.tokens.seen(api::token(&head.headers)),
            status: 0,
        };
        let answer = match trouble {
            Some(Trouble::Down) => {
                inside.asked.push(asked);
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Some(Trouble::Sealed) => answer::refusal(503, &["Vault is sealed"]),
            Some(Trouble::Status(status)) => answer::plain(status, ""),
            Some(Trouble::Says(text)) => answer::plain(200, text),
            Some(Trouble::Slow(_)) | None => inside.serve(&head, &body),
        };
        asked.status = answer.status().as_u16();
        inside.asked.push(asked);
        Ok(answer)
    }

    /// Writes a secret's next version, an object of fields; gives its number.
    pub fn write(&self, path: &str, fields: Value) -> u64 {
        self.hold().secrets.write(path, fields)
    }

    /// Deletes a secret's newest version, which can be undone.
    pub fn delete(&self, path: &str) {
        self.hold().secrets.end(path, false);
    }

    /// Destroys a secret's newest version.
    pub fn destroy(&self, path: &str) {
        self.hold().secrets.end(path, true);
    }

    /// Makes a token.
    pub fn token(&self, terms: Terms) -> String {
        let text = tokens::unheard_of();
        self.adopt_token(&text, terms);
        text
    }

    /// Takes a text as a token.
    pub fn adopt_token(&self, text: &str, terms: Terms) {
        self.hold().tokens.add(text, terms);
    }

    /// Ends all tokens.
    pub fn revoke_tokens(&self) {
        self.hold().tokens.revoke();
    }

    /// Allows a log-in by the AppRole method at `mount`, or changes what is allowed there.
    pub fn app_role(&self, mount: &str, role_id: &str, secret_id: &str, terms: Terms) {
        let (role_id, secret_id) = (role_id.to_owned(), secret_id.to_owned());
        self.hold().app_roles.insert(mount.to_owned(), AppRole { role_id, secret_id, terms });
    }

    /// Allows a log-in by the Kubernetes method at `mount`, or changes what is allowed there.
    pub fn kubernetes(&self, mount: &str, role: &str, jwt: &str, terms: Terms) {
        let (role, jwt) = (role.to_owned(), jwt.to_owned());
        self.hold().accounts.insert(mount.to_owned(), Account { role, jwt, terms });
    }

    /// Wraps a secret id; gives the wrapping token.
    pub fn wrap(&self, secret_id: &str, good_for: Duration) -> String {
        let token = tokens::unheard_of();
        let until = Instant::now() + good_for;
        self.hold().wrapped.insert(token.clone(), (secret_id.to_owned(), until));
        token
    }

    /// Denies reading a path, such as `secret/data/omni`, or allows it again.
    pub fn deny(&self, path: &str, denied: bool) {
        let mut inside = self.hold();
        if denied {
            inside.denied.insert(path.to_owned());
        } else {
            inside.denied.remove(path);
        }
    }

    /// Whether renewals are granted.
    pub fn set_renews(&self, renews: bool) {
        self.hold().renews = renews;
    }

    /// Ails from now on, or recovers.
    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        self.hold().trouble = trouble;
    }

    /// All requests that came, oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        self.hold().asked.clone()
    }

    /// How many requests came whose path ends so.
    pub fn count(&self, path_end: &str) -> usize {
        self.hold().asked.iter().filter(|asked| asked.path.ends_with(path_end)).count()
    }

    /// What came that a right client would not have sent.
    pub fn complaints(&self) -> Vec<String> {
        self.hold().complaints.clone()
    }

    /// Locks; a test that panicked elsewhere must not hide its own message behind ours.
    fn hold(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for FakeVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeVault").field("asked", &self.asked().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

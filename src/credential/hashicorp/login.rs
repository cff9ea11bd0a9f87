//! Logging in: how a token is come by.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::{Digest, Sha256};
use tokio::time::{Duration, Instant};

use crate::credential::env::Env;
use crate::credential::file::{Readers, read_file};
use crate::credential::settings::{Held, Login};
use crate::credential::store::SecretStore;

use super::error::HashicorpError;
use super::lease::{Lease, Terms};
use super::server::{Answered, Ask, Server};
use super::wire::{self, About, Answer, Auth, Unwrapped};

/// The longest that a server which did not answer is left alone. Shorter than a read may take, so
/// that one which comes meanwhile waits and then finds it back; half of that where it may take less.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long the same log-in is not tried again that was refused: at first, and at most. Vault locks
/// a role out for 15 min after five wrong secret ids within 15 min.
const REFUSED: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(5 * 60)];

/// Where log-ins are made, one at a time, and what is remembered between them.
#[derive(Default)]
pub(super) struct Entrance {
    /// How often in a row the server did not answer as it should, and until when it has peace.
    failures: u32,
    peace: Option<Instant>,
    refused: Option<Refused>,
    unwrapped: Option<Exchanged>,
}

/// A log-in that was refused.
struct Refused {
    with: [u8; 32],
    times: u32,
    until: Instant,
    why: HashicorpError,
}

/// A wrapping token, which is spent, and the secret id that was in it.
struct Exchanged {
    wrapping: [u8; 32],
    secret_id: SecretSlice<u8>,
}

impl Entrance {
    /// Logs in, and waits first while the server has peace. `number` is the new lease's.
    ///
    /// Not cancel-safe: a wrapping token may be spent for nothing.
    pub(super) async fn log_in(
        &mut self,
        server: &Server,
        number: u64,
    ) -> Result<Lease, HashicorpError> {
        if let Some(until) = self.peace.take() {
            tokio::time::sleep_until(until).await;
        }
        let held = read_held(&server.settings.login).await;
        let held = held.or_else(|error| self.instead().ok_or(error))?;
        let with = print_of(held.expose_secret());
        if let Some(refused) = &self.refused
            && refused.with == with
            && Instant::now() < refused.until
        {
            return Err(refused.why.clone());
        }
        let result = self.try_with(server, &held, number).await;
        match &result {
            Ok(_) => (self.failures, self.refused) = (0, None),
            Err(why) if is_refusal(why) => self.remember(with, why),
            Err(_) => {
                let pause = Duration::from_millis(500) * 2u32.pow(self.failures.min(8));
                let longest = LONGEST_PAUSE.min(server.settings.timeout / 2);
                self.peace = Some(Instant::now() + pause.min(longest));
                self.failures += 1;
            }
        }
        result
    }

    /// A wrapping token is often removed once it is spent: what was in it is known.
    fn instead(&self) -> Option<SecretSlice<u8>> {
        self.unwrapped.as_ref().map(|exchanged| exchanged.secret_id.clone())
    }

    fn remember(&mut self, with: [u8; 32], why: &HashicorpError) {
        let before = self.refused.take().filter(|refused| refused.with == with);
        let times = before.map_or(0, |refused| refused.times + 1);
        let [first, longest] = REFUSED;
        let until = Instant::now() + (first * 2u32.pow(times.min(8))).min(longest);
        self.refused = Some(Refused { with, times, until, why: why.clone() });
    }

    async fn try_with(
        &mut self,
        server: &Server,
        held: &SecretSlice<u8>,
        number: u64,
    ) -> Result<Lease, HashicorpError> {
        let settings = server.settings.clone();
        match &settings.login {
            Login::Token(_) => given(server, plain(held, "token")?, number).await,
            Login::AppRole { mount, role_id, wrapped, .. } => {
                let exchanged;
                let held = if *wrapped {
                    exchanged = self.secret_id(server, held).await?;
                    &exchanged
                } else {
                    held
                };
                let secret_id = plain(held, "secret id")?;
                let body = wire::body(&wire::AppRole { role_id, secret_id }, secret_id.len());
                post(server, "AppRole", mount, body, number).await
            }
            Login::Kubernetes { mount, role, .. } => {
                let jwt = plain(held, "service account token")?;
                let body = wire::body(&wire::Kubernetes { role, jwt }, jwt.len());
                post(server, "Kubernetes", mount, body, number).await
            }
        }
    }

    /// Exchanges a wrapping token for the secret id, once; after that it is known.
    async fn secret_id(
        &mut self,
        server: &Server,
        held: &SecretSlice<u8>,
    ) -> Result<SecretSlice<u8>, HashicorpError> {
        const UNWRAPPING: &str = "unwrapping the secret id";
        let wrapping = print_of(held.expose_secret());
        if let Some(known) = &self.unwrapped
            && (known.wrapping == wrapping || print_of(known.secret_id.expose_secret()) == wrapping)
        {
            return Ok(known.secret_id.clone());
        }
        // As the request's own token; said in the body as well, it would be spent twice.
        let token = token(plain(held, "wrapping token")?.as_bytes(), UNWRAPPING)?;
        let path = "sys/wrapping/unwrap";
        let (to, token) = (UNWRAPPING, Some(&token));
        let body =
            match server.ask(Ask { method: Method::POST, path, token, body: None, to }).await? {
                Answered::Done(body) => body,
                Answered::Refused { status: 400 | 403, .. } => {
                    return Err(HashicorpError::WrappingSpent);
                }
                Answered::Refused { .. } => return Err(HashicorpError::BadAnswer { to }),
            };
        let inside = wire::read::<Answer<Unwrapped>>(&body, to)?.data;
        let inside = inside.ok_or(HashicorpError::BadAnswer { to })?;
        let secret_id = SecretSlice::from(inside.secret_id.0.as_bytes().to_vec());
        self.unwrapped = Some(Exchanged { wrapping, secret_id: secret_id.clone() });
        Ok(secret_id)
    }
}

/// What the server decided, other than what it failed to do.
fn is_refusal(why: &HashicorpError) -> bool {
    matches!(
        why,
        HashicorpError::LoginRefused { .. }
            | HashicorpError::TokenRefused
            | HashicorpError::WrappingSpent
            | HashicorpError::BadLoginSecret { .. }
    )
}

/// The secret that we log in with, anew from its place.
async fn read_held(login: &Login) -> Result<SecretSlice<u8>, HashicorpError> {
    let read = match login {
        Login::Token(Held::File(path)) | Login::AppRole { secret_id: Held::File(path), .. } => {
            read_file(path.clone(), Readers::Owner).await
        }
        Login::Token(Held::Env(name)) | Login::AppRole { secret_id: Held::Env(name), .. } => {
            match Env::new(name) {
                Ok(variable) => variable.read().await.map(|found| found.secret),
                Err(error) => Err(error),
            }
        }
        // Mounted by Kubernetes, readable for the pod.
        Login::Kubernetes { jwt, .. } => read_file(jwt.clone(), Readers::Anyone).await,
    };
    read.map_err(|error| HashicorpError::LoginSecret(Arc::new(error)))
}

/// The one word that a secret is, without blanks and line ends around it.
fn plain<'a>(secret: &'a SecretSlice<u8>, what: &'static str) -> Result<&'a str, HashicorpError> {
    let word = secret.expose_secret().trim_ascii();
    let fits = !word.is_empty() && word.iter().all(u8::is_ascii_graphic);
    let word = str::from_utf8(word).ok().filter(|_| fits);
    word.ok_or(HashicorpError::BadLoginSecret { what })
}

fn print_of(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret.trim_ascii()).into()
}

fn token(text: &[u8], to: &'static str) -> Result<HeaderValue, HashicorpError> {
    wire::sensitive(text).ok_or(HashicorpError::BadAnswer { to })
}

/// Logs in with a token that somebody else made: asks what it is.
async fn given(server: &Server, text: &str, number: u64) -> Result<Lease, HashicorpError> {
    const LOOKING: &str = "a look at the token";
    let token = token(text.as_bytes(), LOOKING)?;
    let asked = Instant::now();
    let About { ttl, creation_ttl, renewable } =
        about(server, &token).await?.ok_or(HashicorpError::TokenRefused)?;
    // A zero is for ever only where it was so from the first; else it is the last second.
    let ttl = if creation_ttl > 0 { ttl.max(1) } else { ttl };
    let at_first = Terms::new(creation_ttl.max(ttl), renewable).ttl;
    let terms = Terms { at_first, ..Terms::new(ttl, renewable) };
    Ok(Lease::new(token, number, terms, asked))
}

/// What the server knows of a token; `None` when it does not take it.
pub(super) async fn about(
    server: &Server,
    token: &HeaderValue,
) -> Result<Option<About>, HashicorpError> {
    let (path, to) = ("auth/token/lookup-self", "a look at the token");
    let ask = Ask { method: Method::GET, path, token: Some(token), body: None, to };
    match server.ask(ask).await? {
        Answered::Done(body) => {
            let about = wire::read::<Answer<About>>(&body, to)?.data;
            about.map(Some).ok_or(HashicorpError::BadAnswer { to })
        }
        Answered::Refused { status: 401 | 403, .. } => Ok(None),
        Answered::Refused { status, .. } => {
            Err(HashicorpError::LoginRefused { method: "token", status })
        }
    }
}

async fn post(
    server: &Server,
    method: &'static str,
    mount: &str,
    body: Bytes,
    number: u64,
) -> Result<Lease, HashicorpError> {
    let (path, to) = (format!("auth/{mount}/login"), "the log-in");
    let asked = Instant::now();
    let ask = Ask { method: Method::POST, path: &path, token: None, body: Some(body), to };
    match server.ask(ask).await? {
        Answered::Done(body) => {
            let auth = wire::read::<Answer<Auth>>(&body, to)?.auth;
            let Auth { client_token, lease_duration, renewable } =
                auth.ok_or(HashicorpError::BadAnswer { to })?;
            let token = token(client_token.0.as_bytes(), to)?;
            Ok(Lease::new(token, number, Terms::new(lease_duration, renewable), asked))
        }
        Answered::Refused { status, .. } => Err(HashicorpError::LoginRefused { method, status }),
    }
}

/// Renews a lease; `None` when the server will not.
///
/// Cancel-safe: a renewal that was made and not heard of does no harm.
pub(super) async fn renew(server: &Server, lease: &Lease) -> Result<Option<Lease>, HashicorpError> {
    let (path, to) = ("auth/token/renew-self", "the renewal");
    let body = wire::body(&wire::Renewal { increment: format!("{}s", lease.asks.as_secs()) }, 0);
    let asked = Instant::now();
    let token = Some(&lease.token);
    match server.ask(Ask { method: Method::POST, path, token, body: Some(body), to }).await? {
        Answered::Done(body) => {
            let auth = wire::read::<Answer<Auth>>(&body, to)?.auth;
            let auth = auth.ok_or(HashicorpError::BadAnswer { to })?;
            Ok(Some(lease.renewed(Terms::new(auth.lease_duration, auth.renewable), asked)))
        }
        Answered::Refused { .. } => Ok(None),
    }
}

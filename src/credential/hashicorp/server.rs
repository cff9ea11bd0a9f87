//! One request to a Vault server, and what its status says to every kind of them.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};

use crate::credential::HashicorpSettings;
use crate::net::{Client, Dial, Limits};

use super::error::HashicorpError;
use super::wire::{self, Refusal};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Vault's own guard against requests that a browser or a careless program was tricked into.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// A Vault server.
#[derive(Debug)]
pub(super) struct Server {
    client: Client,
    pub(super) settings: Arc<HashicorpSettings>,
    namespace: Option<HeaderValue>,
}

/// What is asked.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Below `/v1/`, fit for a URL.
    pub(super) path: &'a str,
    pub(super) token: Option<&'a HeaderValue>,
    pub(super) body: Option<Bytes>,
    /// For people: the answer to what.
    pub(super) to: &'static str,
}

/// What was answered: done, or refused for a reason that depends on what was asked.
pub(super) enum Answered {
    Done(Bytes),
    Refused { status: u16, body: Bytes },
}

impl Server {
    /// Opens nothing yet. `dial` is for a server inside this process.
    pub(super) fn new(
        settings: Arc<HashicorpSettings>,
        dial: Option<Dial>,
    ) -> Result<Self, HashicorpError> {
        let (host, port) = (settings.host.as_str(), settings.port);
        let dial = match (dial, &settings.tls) {
            (Some(dial), _) => dial,
            (None, None) => Dial::tcp(host, port),
            (None, Some(roots)) => Dial::tls(host, port, roots)
                .map_err(|error| HashicorpError::Roots(Arc::new(error)))?,
        };
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let authority = Authority::try_from(authority).map_err(|_| HashicorpError::BadPath)?;
        let namespace = settings.namespace.as_deref().map(HeaderValue::from_str).transpose();
        let namespace = namespace.map_err(|_| HashicorpError::BadPath)?;
        Ok(Self { client: Client::new(dial, authority, Limits::default()), settings, namespace })
    }

    /// Asks once.
    ///
    /// Cancel-safe: dropping the future closes the connection. The server may have done it.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Answered, HashicorpError> {
        let Ask { method, path, token, body, to } = ask;
        let mut request = Request::new(body.unwrap_or_default());
        *request.method_mut() = method;
        let uri = format!("/v1/{path}").parse().map_err(|_| HashicorpError::BadPath)?;
        *request.uri_mut() = uri;
        let has_body = !request.body().is_empty();
        let fields = request.headers_mut();
        fields.insert(REQUEST, HeaderValue::from_static("true"));
        fields.extend(token.map(|token| (TOKEN, token.clone())));
        fields.extend(self.namespace.clone().map(|namespace| (NAMESPACE, namespace)));
        if has_body {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let answer = self.client.send(request, self.settings.timeout).await?;
        let (status, body) = (answer.status(), answer.into_body());
        judge(status, body, to)
    }
}

/// Statuses that mean the same whatever was asked.
fn judge(status: StatusCode, body: Bytes, to: &'static str) -> Result<Answered, HashicorpError> {
    let number = status.as_u16();
    match number {
        200..=299 => Ok(Answered::Done(body)),
        300..=399 => Err(HashicorpError::Redirected { status: number }),
        // https://developer.hashicorp.com/vault/api-docs/system/health
        429 | 472..=474 => Err(HashicorpError::Standby { status: number }),
        400..=499 => Ok(Answered::Refused { status: number, body }),
        // A load balancer says 503 too, but not in these words.
        503 if says(&body, "sealed") => Err(HashicorpError::Sealed),
        500..=599 => Err(HashicorpError::Failing { status: number }),
        _ => Err(HashicorpError::BadAnswer { to }),
    }
}

/// Whether a refusal has this word in it.
pub(super) fn says(body: &[u8], word: &str) -> bool {
    let refusal = wire::read::<Refusal>(body, "");
    refusal.is_ok_and(|refusal| refusal.errors.iter().any(|error| error.contains(word)))
}

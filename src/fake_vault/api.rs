//! What is asked, judged and answered.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Inside, answer, tokens};

type Answer = Response<Full<Bytes>>;

/// The token of a request.
pub(super) fn token(fields: &HeaderMap) -> Option<&str> {
    fields.get("x-vault-token")?.to_str().ok()
}

/// The namespace of a request.
pub(super) fn namespace(fields: &HeaderMap) -> Option<String> {
    Some(fields.get("x-vault-namespace")?.to_str().ok()?.trim_matches('/').to_owned())
}

impl Inside {
    pub(super) fn serve(&mut self, head: &Parts, body: &Bytes) -> Answer {
        let path = head.uri.path();
        let Some(path) = path.strip_prefix("/v1/").filter(|_| head.uri.query().is_none()) else {
            return self.complain(404, "a path outside of /v1/, or a query");
        };
        if head.headers.get("x-vault-request").is_none_or(|value| value != "true") {
            return self.complain(412, "no X-Vault-Request: true");
        }
        let doubled = ["x-vault-token", "x-vault-namespace", "host", "content-type"]
            .iter()
            .any(|name| head.headers.get_all(*name).iter().count() > 1);
        if doubled || head.headers.get("authorization").is_some() {
            return self.complain(400, "a doubled field, or one too many");
        }
        if namespace(&head.headers) != self.namespace {
            self.complaints.push(format!("{path}: another namespace"));
            return no_handler(path);
        }
        let bearer = token(&head.headers);
        match (&head.method, path) {
            (&Method::POST, "sys/wrapping/unwrap") => self.unwrap(bearer, body),
            (&Method::GET, "auth/token/lookup-self") => self.look_up(bearer, body),
            (&Method::POST, "auth/token/renew-self") => match self.object(head, body) {
                Ok(asked) => self.renew(bearer, &asked),
                Err(answer) => *answer,
            },
            (&Method::POST, _) if path.starts_with("auth/") && path.ends_with("/login") => {
                if bearer.is_some() {
                    return self.complain(400, "a token at a log-in");
                }
                let mount = &path["auth/".len()..path.len() - "/login".len()];
                match self.object(head, body) {
                    Ok(asked) => self.log_in(mount, &asked),
                    Err(answer) => *answer,
                }
            }
            (&Method::GET, _) => self.read(path, bearer, body),
            _ => {
                self.complaints.push(format!("{} {path}", head.method));
                answer::refusal(405, &["1 error occurred:\n\t* unsupported operation\n\n"])
            }
        }
    }

    fn complain(&mut self, status: u16, about: &str) -> Answer {
        self.complaints.push(about.to_owned());
        answer::refusal(status, &[about])
    }

    /// A body that is a JSON object, and says so.
    fn object(&mut self, head: &Parts, body: &Bytes) -> Result<Map<String, Value>, Box<Answer>> {
        if head.headers.get(CONTENT_TYPE).is_none_or(|value| value != "application/json") {
            return Err(self.complain(400, "a body that is not said to be JSON").into());
        }
        serde_json::from_slice(body)
            .map_err(|_| self.complain(400, "failed to parse JSON input").into())
    }

    /// The texts under exactly these names.
    fn texts<const N: usize>(
        &mut self,
        asked: &Map<String, Value>,
        names: [&str; N],
    ) -> Result<[String; N], Box<Answer>> {
        if asked.keys().any(|key| !names.contains(&key.as_str())) {
            return Err(self.complain(400, "a body with members that nobody asked for").into());
        }
        let texts = names.map(|name| asked.get(name).and_then(Value::as_str));
        if texts.contains(&None) {
            return Err(self.complain(400, "a body with a member missing or no text").into());
        }
        Ok(texts.map(|text| text.unwrap_or_default().to_owned()))
    }

    fn log_in(&mut self, mount: &str, asked: &Map<String, Value>) -> Answer {
        let terms = if let Some(role) = self.app_roles.get(mount) {
            let right = [role.role_id.clone(), role.secret_id.clone()];
            let terms = role.terms;
            match self.texts(asked, ["role_id", "secret_id"]) {
                Ok(brought) if brought == right => terms,
                Ok(_) => return answer::refusal(400, &["invalid role or secret ID"]),
                Err(answer) => return *answer,
            }
        } else if let Some(account) = self.accounts.get(mount) {
            let (role, jwt) = (account.role.clone(), account.jwt.clone());
            let terms = account.terms;
            match self.texts(asked, ["role", "jwt"]) {
                Ok([brought, _]) if brought != role => {
                    return answer::refusal(400, &[&format!("invalid role name \"{brought}\"")]);
                }
                Ok([_, brought]) if brought != jwt => {
                    return answer::refusal(403, &["permission denied"]);
                }
                Ok(_) => terms,
                Err(answer) => return *answer,
            }
        } else {
            return no_handler(&format!("auth/{mount}/login"));
        };
        let token = tokens::unheard_of();
        self.tokens.add(&token, terms);
        answer::auth(&token, terms.ttl.as_secs(), terms.renewable)
    }

    fn unwrap(&mut self, bearer: Option<&str>, body: &Bytes) -> Answer {
        let Some(bearer) = bearer.filter(|_| body.is_empty()) else {
            return self.complain(400, "a wrapping token elsewhere than in its field");
        };
        // Used once, whatever comes of it.
        match self.wrapped.remove(bearer).filter(|(_, until)| Instant::now() < *until) {
            Some((secret_id, _)) => answer::data(
                200,
                &json!({
                    "secret_id": secret_id,
                    "secret_id_accessor": "the-accessor-of-it",
                    "secret_id_num_uses": 0,
                    "secret_id_ttl": 0,
                }),
            ),
            None => answer::refusal(400, &["wrapping token is not valid or does not exist"]),
        }
    }

    fn look_up(&mut self, bearer: Option<&str>, body: &Bytes) -> Answer {
        if !body.is_empty() {
            return self.complain(400, "a body where there is nothing to say");
        }
        let Some((text, token)) = bearer.and_then(|text| Some((text, self.tokens.get(text)?)))
        else {
            return denied();
        };
        if self.denied.contains("auth/token/lookup-self") {
            return denied();
        }
        let mut about = json!({
            "accessor": "the-accessor-of-it",
            "creation_ttl": token.terms.ttl.as_secs(),
            "display_name": "token",
            "entity_id": "",
            "explicit_max_ttl": 0,
            "id": text,
            "meta": null,
            "num_uses": 0,
            "orphan": true,
            "path": "auth/token/create",
            "policies": ["default", "omnigate"],
            "ttl": token.left(),
            "type": "service",
        });
        // A root token says nothing of renewals.
        if !token.terms.ttl.is_zero() {
            about["renewable"] = json!(token.terms.renewable);
        }
        answer::data(200, &about)
    }

    fn renew(&mut self, bearer: Option<&str>, asked: &Map<String, Value>) -> Answer {
        let Some(text) = bearer.filter(|text| self.tokens.get(text).is_some()) else {
            return denied();
        };
        let increment = match asked.get("increment") {
            None => None,
            Some(said) => match seconds(said) {
                Some(increment) => Some(increment),
                None => return self.complain(400, "an increment that is no duration"),
            },
        };
        if asked.keys().any(|key| key != "increment") {
            return self.complain(400, "a body with members that nobody asked for");
        }
        if !self.renews {
            return denied();
        }
        match self.tokens.renew(text, increment) {
            Some(token) => answer::auth(text, token.left(), true),
            None => answer::refusal(400, &["lease is not renewable"]),
        }
    }

    fn read(&mut self, path: &str, bearer: Option<&str>, body: &Bytes) -> Answer {
        if !body.is_empty() {
            return self.complain(400, "a body where there is nothing to say");
        }
        if bearer.is_none_or(|text| self.tokens.get(text).is_none()) || self.denied.contains(path) {
            return denied();
        }
        let below = path.strip_prefix(self.secrets.mount());
        match below.and_then(|below| below.strip_prefix('/')) {
            Some(below) => self.secrets.read(below),
            // Vault hides from most what is not mounted.
            None => denied(),
        }
    }
}

fn denied() -> Answer {
    answer::refusal(403, &["1 error occurred:\n\t* permission denied\n\n"])
}

fn no_handler(path: &str) -> Answer {
    let text = format!("no handler for route \"{path}\". route entry not found.");
    answer::refusal(404, &[&text])
}

/// A duration as Vault takes it: seconds, or a text such as `30s`.
fn seconds(said: &Value) -> Option<Duration> {
    let number = match said {
        Value::String(text) => text.strip_suffix('s')?.parse().ok(),
        other => other.as_u64(),
    };
    number.map(Duration::from_secs)
}

//! A Vault server, which is a fake one on a real socket.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use omnigate::fake_vault::{FakeVault, Terms, Trouble};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Harm, Parts, Planted, first, harm, write};
use crate::harness::SECOND;

/// How the gateway logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    AppRole,
    /// With a wrapping token in place of the secret id.
    Wrapped,
    Kubernetes,
    Token,
}

/// A server that listens.
pub(super) struct Address {
    fake: FakeVault,
    at: SocketAddr,
    serving: DropGuard,
}

impl Address {
    pub(super) async fn open() -> Self {
        let (fake, stop) = (FakeVault::default(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(fake.clone().serve(listener, stop.clone()));
        Self { fake, at, serving: stop.drop_guard() }
    }
}

/// The server, and what the gateway logs in with, which is another one each time: Vault and we
/// remember what was refused.
struct Server {
    method: Method,
    fake: FakeVault,
    held: PathBuf,
    times: AtomicUsize,
    planted: Planted,
    _serving: DropGuard,
}

impl Server {
    /// Lets in whoever brings this, and nobody else. Who is in stays in.
    fn allow(&self, held: &str) {
        let terms = Terms::renewable(3600 * SECOND);
        match self.method {
            Method::AppRole | Method::Wrapped => {
                self.fake.app_role("approle", "omnigate", held, terms);
            }
            Method::Kubernetes => self.fake.kubernetes("kubernetes", "omnigate", held, terms),
            Method::Token => self.fake.adopt_token(held, terms),
        }
    }

    fn mend(&self, secret: &str) {
        let nth = self.times.fetch_add(1, Ordering::Relaxed);
        let held = match self.method {
            Method::AppRole | Method::Wrapped => {
                format!("zqsecretid+/=-1347-aa90-a4f6-aca8b7558780-{nth:04}")
            }
            Method::Kubernetes => format!("eyJzqjwt{nth:04}.9xW2bV8nR5cY1aD4eF6gH7iJ0kL2.c2lnbm_-"),
            Method::Token => format!("hvs.zqgiven9xW2bV8nR5cY1aD4eF6gH7iJ0kL2{nth:04}"),
        };
        self.planted.plant(&held);
        self.fake.set_trouble(None);
        self.fake.deny("secret/data/omni/org", false);
        self.allow(&held);
        if self.method == Method::Wrapped {
            let wrapping = self.fake.wrap(&held, 3600 * SECOND);
            self.planted.plant(&wrapping);
            write(&self.held, &wrapping);
        } else {
            write(&self.held, &held);
        }
        self.hold(&json!({ "token": secret }));
    }

    fn hold(&self, fields: &serde_json::Value) {
        self.fake.write("omni/org", fields.clone());
    }
}

pub(super) fn server(method: Method, address: Address, folder: PathBuf, planted: Planted) -> Parts {
    let Address { fake, at, serving } = address;
    let held = folder.join("held");
    // What Vault makes is known by how it begins.
    planted.plant("hvs.CAES");
    let (name, auth) = match method {
        Method::AppRole => ("approle", "role_id = \"omnigate\", secret_id_file"),
        Method::Wrapped => ("approle", "wrapped = true, role_id = \"omnigate\", secret_id_file"),
        Method::Kubernetes => ("kubernetes", "role = \"omnigate\", jwt_file"),
        Method::Token => ("token", "token_file"),
    };
    let vault = format!(
        "backend = \"hashicorp\"\naddress = \"http://{at}\"\ntimeout = \"1s\"\n\
         auth = {{ method = \"{name}\", {auth} = \"{}\" }}",
        held.display()
    );
    let times = AtomicUsize::new(0);
    let server = Arc::new(Server { method, fake, held, times, planted, _serving: serving });
    let harms = harms(&server);
    Parts {
        name: format!("hashicorp by {method:?}"),
        lines: [vault, "secret = \"omni/org\"".to_owned()],
        place: "the field token of secret/data/omni/org in the Vault server 127.0.0.1".to_owned(),
        mend: Box::new(move |secret| server.mend(secret)),
        harms,
    }
}

fn harms(server: &Arc<Server>) -> Vec<Harm> {
    let of = |does: fn(&Server)| {
        let server = server.clone();
        move || does(&server)
    };
    let ails = |trouble: Trouble| {
        let server = server.clone();
        move || server.fake.set_trouble(Some(trouble))
    };
    let refused = match server.method {
        Method::AppRole | Method::Wrapped => "refuses the log-in by AppRole (status 400)",
        Method::Kubernetes => "refuses the log-in by Kubernetes (status 403)",
        Method::Token => "does not take the token: it has expired",
    };
    let mut harms = vec![
        harm("the Vault server cannot be reached", ails(Trouble::Down)),
        harm("the Vault server is sealed; it must be unsealed", ails(Trouble::Sealed)),
        harm("the Vault server did not answer within 1 s", ails(Trouble::Slow(5 * SECOND))),
        harm("the Vault server fails (status 500)", ails(Trouble::Status(500))),
        harm("is not a Vault server's; is `address` right?", ails(Trouble::Says("<html>"))),
        harm(
            "its policy must allow `read` on secret/data/omni/org",
            of(|it| it.fake.deny("secret/data/omni/org", true)),
        ),
        harm("is deleted; write a new one or undelete it", of(|it| it.fake.delete("omni/org"))),
        harm("the field is not a text", of(|it| it.hold(&json!({ "token": ["a"] })))),
        harm("holds no token: it is empty", of(|it| it.hold(&json!({ "token": " \n" })))),
        harm(
            "holds no token: it has a blank at byte",
            of(|it| {
                let secret = it.planted.all().pop().unwrap();
                it.hold(&json!({ "token": format!("{secret} {secret}") }));
            }),
        ),
    ];
    harms.extend([
        first(
            refused,
            of(|it| {
                it.allow("another-one-that-the-gateway-has-not");
                it.fake.revoke_tokens();
            }),
        ),
        first("to log in to the Vault server: ", of(|it| fs::remove_file(&it.held).unwrap())),
    ]);
    harms
}

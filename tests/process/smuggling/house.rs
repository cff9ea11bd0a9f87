//! A gateway with a route for each way to be refused, in front of a witness.

use std::net::SocketAddr;

use rustix::process::Signal;

use super::witness::Witness;
use crate::harness::{Gateway, key, replace};

pub(super) struct House {
    pub(super) witness: Witness,
    gateway: Gateway,
    _folder: tempfile::TempDir,
}

impl House {
    pub(super) async fn open() -> Self {
        let witness = Witness::open().await;
        let folder = tempfile::tempdir().unwrap();
        let upstream = witness.address();
        let text = format!(
            r#"
            state_dir = "state"
            [server]
            listen = "127.0.0.1:0"
            header_timeout = "300ms"
            idle_timeout = "300ms"
            [admin]
            listen = "127.0.0.1:0"
            [upstream]
            base_url = "http://{upstream}"
            [vault]
            backend = "file"
            path = "."
            [credentials.org]
            kind = "organization"
            secret = "org.token"
            [budgets.omni]
            cold_start = "trust"
            limit = 20000
            profile = "burst"
            [[routes]]
            name = "plain"
            path = "/x"
            credential = "org"
            [[routes]]
            name = "get"
            path = "/get"
            methods = ["GET"]
            credential = "org"
            [[routes]]
            name = "kept"
            path = "/kept"
            methods = ["GET"]
            credential = "org"
            cache = {{ ttl = "10m" }}
            [[routes]]
            name = "small"
            path = "/small"
            credential = "org"
            max_body = "10B"
            [[routes]]
            name = "slow"
            path = "/slow"
            credential = "org"
            timeout = "100ms"
            [telemetry]
            log = "info"
            "#
        );
        let config = folder.path().join("omnigate.toml");
        std::fs::write(&config, text).unwrap();
        replace(&folder.path().join("org.token"), key().token().as_bytes());
        let mut gateway = Gateway::spawn(&config, &[]);
        gateway.serves().await;
        Self { witness, gateway, _folder: folder }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// Ends the gateway; gives all that upstream has seen from its first connection to its last.
    pub(super) async fn end(self) -> Vec<Vec<u8>> {
        self.gateway.signal(Signal::TERM);
        let ended = self.gateway.ends().await;
        assert!(ended.status.success() && !ended.said.contains("panic"), "{}", ended.said);
        self.witness.seen()
    }
}

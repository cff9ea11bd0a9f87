//! The rooms behind ports, from their opening to their drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::Request;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{Admin, Place, Role, Rules};
use crate::app::apart::{is_stranger, turned_away};
use crate::app::office::Office;
use crate::app::sign::{Posted, Sign};
use crate::app::signals::Reread;
use crate::app::{Rooms, Signals, StartError, Ways, gauges};
use crate::base::{Body, Peer};
use crate::config::Config;
use crate::server::{Bound, Listen, Server, ServerSettings, bind};

/// How many connections the operators' port has: for 64 who watch the events, and for those who ask
/// something meanwhile.
const MOST_OPERATORS: usize = 96;
/// How many the probes' port has.
const MOST_PROBES: usize = 32;

/// A gateway whose ports are open.
#[derive(Debug)]
pub struct Gateway {
    pub(super) rooms: Rooms,
    pub(super) server: ServerSettings,
    pub(super) bound: Vec<Bound>,
    pub(super) admin: Vec<(Bound, Role)>,
    pub(super) operators: Rules,
    /// Up for as long as callers are let in.
    pub(super) sign: Option<Posted>,
    /// The only user who is let in, where there is one.
    pub(super) only: Option<u32>,
}

impl Gateway {
    /// Puts the rooms together and then opens the ports: a gateway that cannot serve opens none.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(config: Config) -> Result<Self, StartError> {
        let rooms = Rooms::open(&config, Ways::default()).await?;
        let is_kept = rooms.shaper.is_kept();
        if is_kept {
            Sign::clear(&config.state_dir);
        }
        let bound = bind(&config.server)?;
        let mut admin = Vec::new();
        let operators = match config.admin.listen {
            Place::Tcp(address) => Listen::Tcp(address),
            Place::Unix { path, mode } => Listen::Unix { path, mode },
        };
        let probes = config.admin.probe_listen.map(|address| (Listen::Tcp(address), Role::Probe));
        for (listen, role) in [(operators, Role::Operator)].into_iter().chain(probes) {
            let one = ServerSettings { listeners: vec![listen.into()], ..config.server.clone() };
            admin.extend(bind(&one)?.into_iter().map(|bound| (bound, role)));
        }
        let operators = Rules { hosts: config.hosts.clone(), token: config.admin.token };
        let sign = Sign::of(config.upstream.origin.to_string(), &config.server, &bound);
        let sign = is_kept.then(|| sign.put_up(&config.state_dir)).flatten();
        Ok(Self { rooms, server: config.server, bound, admin, operators, sign, only: None })
    }

    /// The rooms behind the ports.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Where callers connect over TCP.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().filter_map(Bound::local_addr).collect()
    }

    /// Where operators connect, where it is an IP socket.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.first().and_then(|(bound, _)| bound.local_addr())
    }

    /// Every place where callers connect.
    pub fn places(&self) -> impl Iterator<Item = &Bound> {
        self.bound.iter()
    }

    /// Where operators connect.
    pub fn admin_place(&self) -> Option<&Bound> {
        self.admin.first().map(|(bound, _)| bound)
    }

    fn reread(&self) -> Reread {
        let certificates = self.bound.iter().filter_map(Bound::certificates).collect();
        Reread { credentials: self.rooms.credentials.clone(), certificates }
    }

    /// Serves until `stop` is cancelled, then drains: queued calls whose turn comes within
    /// `drain_timeout` are finished, the rest is refused at once.
    ///
    /// Dropping the future ends everything at once.
    pub async fn serve(self, stop: CancellationToken) {
        let reread = self.reread();
        let Self { rooms, mut server, bound, admin, operators: rules, sign, only } = self;
        let over = CancellationToken::new();
        let _over_if_dropped = over.clone().drop_guard();
        let draining = Arc::new(AtomicBool::new(false));
        let mut kept = vec![tokio::spawn(rooms.clone().keep_keys(over.clone()))];
        for certificates in &reread.certificates {
            kept.push(tokio::spawn(certificates.clone().keep(over.clone())));
        }
        server.fit_descriptors(MOST_OPERATORS + MOST_PROBES);
        let callers = Server::new(server.clone());
        let (front, ends) = (callers.clone(), draining.clone());
        let certified = gauges::certified(&bound);
        let office =
            Office { rooms: rooms.clone(), callers: front, draining: ends, reread, certified };
        let office = Arc::new(office);
        let operators: Vec<_> = admin
            .into_iter()
            .map(|(bound, role)| {
                let settings = for_operators(&server, role);
                let admin = Admin::new(role, rules.clone(), office.clone())
                    .with_places(settings.max_connections);
                let answer = move |request: Request<Body>, peer: Peer| {
                    let admin = admin.clone();
                    async move { admin.answer(request, peer).await }
                };
                tokio::spawn(Server::new(settings).serve(vec![bound], answer, over.clone()))
            })
            .collect();

        let answer = {
            let rooms = rooms.clone();
            move |request, peer: Peer| {
                let answer = (!is_stranger(only, &peer)).then(|| rooms.answer(request, peer));
                async move {
                    match answer {
                        Some(answer) => answer.await,
                        None => turned_away(),
                    }
                }
            }
        };
        let serving = callers.serve(bound, answer, stop.clone());
        let draining_begins = async {
            stop.cancelled().await;
            drop(sign);
            draining.store(true, Ordering::Relaxed);
            rooms.shaper.drain(server.drain_timeout);
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = serving => {}
            () = draining_begins => {}
        }
        over.cancel();
        for operator in operators {
            let _ = operator.await;
        }
        join_all(kept).await;
        // Before the ledger is closed: nothing may be sent that it does not know of.
        rooms.proxy.end_fetches().await;
        rooms.shaper.close();
        rooms.telemetry.end().await;
    }

    /// Serves until SIGTERM or SIGINT, then drains; a second one ends at once. SIGHUP reads the
    /// secrets and the certificates again.
    pub async fn serve_until(self, signals: Signals) {
        self.serve_while(signals, std::future::pending()).await;
    }

    /// Serves until `over` is, or a signal says so, and then drains; a second signal ends at once.
    /// SIGHUP reads the secrets and the certificates again.
    pub async fn serve_while(self, mut signals: Signals, over: impl Future<Output = ()>) {
        let stop = CancellationToken::new();
        let reread = self.reread();
        let mut serving = std::pin::pin!(self.serve(stop.clone()));
        let mut over = std::pin::pin!(over);
        loop {
            tokio::select! {
                () = &mut serving => return,
                () = &mut over, if !stop.is_cancelled() => {
                    stop.cancel();
                    continue;
                }
                _ = signals.terminate.recv() => {}
                _ = signals.interrupt.recv() => {}
                _ = signals.hangup.recv() => {
                    // In a task of its own: a place that hangs must not keep callers from us, nor
                    // the signal to end.
                    tokio::spawn(reread.clone().now());
                    continue;
                }
            }
            if stop.is_cancelled() {
                warn!("second signal: ending at once");
                return;
            }
            info!("shutting down; a second signal ends at once");
            stop.cancel();
        }
    }
}

/// The same server, for operators and for probes. Who may connect there is asked nothing, and must not
/// have the file descriptors that callers and upstream need: a few places are shared out among all who
/// come, and who was silent the longest makes room.
fn for_operators(server: &ServerSettings, role: Role) -> ServerSettings {
    let most = match role {
        Role::Operator => MOST_OPERATORS,
        Role::Probe => MOST_PROBES,
    };
    let max_connections = server.max_connections.min(most);
    ServerSettings { drain_timeout: Duration::ZERO, max_connections, ..server.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_and_probes_take_few_of_the_descriptors() {
        for (callers, operators, probes) in [(1, 1, 1), (40, 40, 32), (10_000, 96, 32)] {
            let mut server = ServerSettings::new(Vec::new());
            server.max_connections = callers;
            for (role, places) in [(Role::Operator, operators), (Role::Probe, probes)] {
                assert_eq!(for_operators(&server, role).max_connections, places);
            }
        }
    }
}

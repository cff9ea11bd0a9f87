//! A gateway apart: for the programs of one user, at one unix socket and for as long as they need it.

use std::path::PathBuf;
use std::time::Duration;

use http::{Response, StatusCode};

use crate::admin::Rules;
use crate::app::{Gateway, Rooms, StartError, Ways};
use crate::base::{Body, Peer, Remote};
use crate::config::Config;
use crate::server::{Listen, bind};

/// Nobody is there any more when it ends; who sees it end all the same is not kept for long.
const DRAIN: Duration = Duration::from_millis(500);

impl Gateway {
    /// Puts the rooms together and opens one unix socket, for this user alone. The config's own ports and
    /// sockets stay shut: they may be somebody else's.
    ///
    /// # Errors
    /// [`StartError`]. Without a ledger it does not start: another process could have it, and then each
    /// would spend the budget.
    pub async fn open_apart(config: Config, socket: PathBuf) -> Result<Self, StartError> {
        let rooms = Rooms::open(&config, Ways::default()).await?;
        if !rooms.shaper.is_kept() {
            return Err(StartError::Unkept { folder: config.state_dir });
        }
        let mut server = config.server;
        server.listeners = vec![Listen::Unix { path: socket, mode: 0o600 }.into()];
        server.drain_timeout = server.drain_timeout.min(DRAIN);
        let bound = bind(&server).inspect_err(|_| rooms.shaper.close())?;
        let (admin, operators) = (Vec::new(), Rules::default());
        let only = Some(rustix::process::geteuid().as_raw());
        Ok(Self { rooms, server, bound, admin, operators, sign: None, only })
    }
}

/// Whether a caller is none of those whom a gateway is for.
pub(super) fn is_stranger(only: Option<u32>, peer: &Peer) -> bool {
    match (only, &peer.remote) {
        (None, _) => false,
        (Some(ours), Remote::Unix { uid }) => *uid != Some(ours),
        (Some(_), Remote::Tcp(_) | Remote::Pipe) => true,
    }
}

/// What such a caller is told.
pub(super) fn turned_away() -> Response<Body> {
    let mut answer = Response::new(Body::full("this gateway is another user's\n"));
    *answer.status_mut() = StatusCode::FORBIDDEN;
    answer
}

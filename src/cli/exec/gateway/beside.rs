//! Another process has the state folder: a gateway that runs, or somebody to wait for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use http::uri::Authority;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::gone::gone;
use super::keeper::Keeper;
use super::listeners;
use super::words::Line;
use super::{Unfound, Way};
use crate::app::{Door, Sign};
use crate::config::Config;
use crate::net::Dial;

/// A question to Omni waits its turn for 2 m, and whoever asks some holds the folder as long.
const PATIENCE: Duration = Duration::from_secs(150);
/// How often a gateway that is just starting is looked for.
const LOOK: Duration = Duration::from_millis(250);
/// How often the folder is tried: it may have been given back by a process that goes on.
const TRY: Duration = Duration::from_secs(2);
/// Waits that are shorter are not worth a word.
const SAY: Duration = Duration::from_secs(1);

/// Somebody who has the state folder, and since when we know.
#[derive(Debug, Default)]
pub(super) struct Holder {
    known: Option<(Option<u32>, Instant)>,
    told: bool,
}

impl Holder {
    /// Waits until this process serves; nothing where it has ended, or it is time to try the folder again.
    ///
    /// # Errors
    /// It serves, and not so that a program could go through it; or it does neither for a long time.
    pub(super) async fn wait(
        &mut self,
        config: &Config,
        pid: Option<u32>,
    ) -> Result<Option<Way>, Unfound> {
        let now = Instant::now();
        let since = match self.known {
            Some((known, since)) if known == pid => since,
            Some(_) | None => self.known.insert((pid, now)).1,
        };
        self.tell(config, pid, since);
        if since.elapsed() >= PATIENCE {
            return Err(held_for_long(config, pid));
        }
        let Some(pid) = pid else {
            // It has not written down who it is.
            tokio::time::sleep(LOOK).await;
            return Ok(None);
        };
        let mut ended = std::pin::pin!(gone(pid));
        while now.elapsed() < TRY {
            if let Some(sign) = Sign::read(&config.state_dir).filter(|sign| sign.pid == pid)
                && let Some(way) = through(config, &sign).await?
            {
                return Ok(Some(way));
            }
            self.tell(config, Some(pid), since);
            tokio::select! {
                () = &mut ended => {
                    // Where it cannot be seen from here, it is there all the same.
                    tokio::time::sleep(LOOK).await;
                    return Ok(None);
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        Ok(None)
    }

    /// Says once for whom we wait.
    fn tell(&mut self, config: &Config, pid: Option<u32>, since: Instant) {
        if since.elapsed() >= SAY && !std::mem::replace(&mut self.told, true) {
            eprintln!(
                "omnigate: another omnigate{} uses {}; waiting for it to end. Ctrl-C gives up",
                shown(pid),
                config.state_dir.display()
            );
        }
    }
}

fn held_for_long(config: &Config, pid: Option<u32>) -> Unfound {
    Unfound::unavailable(format!(
        "another omnigate{} has used {} for {} s; end it, or go through it with --via URL if it is a gateway",
        shown(pid),
        config.state_dir.display(),
        PATIENCE.as_secs()
    ))
}

fn shown(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// The way through a gateway that runs; nothing where it is about to end.
async fn through(config: &Config, sign: &Sign) -> Result<Option<Way>, Unfound> {
    let pid = sign.pid;
    let folder = config.state_dir.display();
    let upstream = config.upstream.origin.to_string();
    if sign.upstream != upstream {
        return Err(Unfound::unavailable(format!(
            "the gateway that runs on {folder} (pid {pid}) speaks to {}, and this config to {upstream}; give \
             one of them a `state_dir` of its own",
            sign.upstream
        )));
    }
    let mut doors: Vec<&Door> = sign.doors.iter().filter(|door| door.plain).collect();
    doors.sort_by_key(|door| (!door.anonymous, rank(&door.at)));
    let Some(door) = doors.first() else {
        let all: Vec<&str> = sign.doors.iter().map(|door| door.at.as_str()).collect();
        return Err(Unfound::unavailable(format!(
            "the gateway that runs on {folder} (pid {pid}) takes calls at {} only, with TLS or with a field of \
             its own; go through it with --via URL",
            all.join(", ")
        )));
    };
    let note = Some(format!("going through the gateway that runs at {} (pid {pid})", door.at));
    match door.at.strip_prefix("unix:").map(Path::new) {
        Some(path) => {
            let Ok(stream) = UnixStream::connect(path).await else { return Ok(None) };
            let peer = Line::new(stream).peer().map_err(|error| stranger(&door.at, &error))?;
            if peer.is_some_and(|peer| peer != pid) {
                return Err(stranger(&door.at, &"it is another process's"));
            }
            // One that was started anew by then will do.
            Ok(Some(Way::beside(Dial::unix(path), Keeper::Process(None), None, note)))
        }
        None => {
            let Ok(address) = door.at.parse::<SocketAddr>() else { return Ok(None) };
            let near = reachable(address);
            if TcpStream::connect(near).await.is_err() {
                return Ok(None);
            }
            listeners::ours(address).map_err(|error| stranger(&door.at, &error))?;
            // Any loopback name is one of the gateway's, and redirects then lead back to us.
            let named = (!near.ip().is_loopback()).then(|| near.to_string().parse::<Authority>());
            let host = named.and_then(Result::ok);
            let dial = Dial::tcp(&near.ip().to_string(), near.port());
            Ok(Some(Way::beside(dial, Keeper::Port(address), host, note)))
        }
    }
}

fn stranger(at: &str, why: &dyn std::fmt::Display) -> Unfound {
    Unfound::unavailable(format!(
        "nothing is sent to {at}, where the gateway should be: {why}. If that is meant, say --via URL"
    ))
}

/// Unix sockets, then loopback, then what includes it.
fn rank(at: &str) -> u8 {
    match at.parse::<SocketAddr>().map(|address| address.ip()) {
        Err(_) => 0,
        Ok(ip) if ip.is_loopback() => 1,
        Ok(ip) if ip.is_unspecified() => 2,
        Ok(_) => 3,
    }
}

/// Nobody is reached at `0.0.0.0`, though some systems take it for this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

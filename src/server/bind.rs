//! Opens the listeners: all of them or none.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use crate::base::Entrance;
use crate::server::{Certificates, Listen, Listener, ServerSettings, TlsError};

const BACKLOG: u32 = 4096;

/// A caller whose machine vanished is noticed after `IDLE + COUNT * EVERY`, about a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_COUNT: u32 = 3;

/// A listener that is open. A unix socket's file goes when this is dropped.
#[derive(Debug)]
pub struct Bound {
    pub(super) door: Door,
    pub(super) entrance: Arc<Entrance>,
    pub(super) certificates: Option<Arc<Certificates>>,
}

#[derive(Debug)]
pub(super) enum Door {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}{}", way_out(source))]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The path cannot be looked at, made, or given its mode.
    #[error("cannot listen on unix:{path}: {source}{}", way_out(source))]
    Unix {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody answers on this socket.
    #[error(
        "cannot listen on unix:{path}: another process is serving there; stop it, or choose another path"
    )]
    Served {
        /// Where.
        path: PathBuf,
    },
    /// What lies at the path is not a socket, and not ours to remove.
    #[error(
        "cannot listen on unix:{path}: a file that is not a socket is in the way; move it away, or choose \
         another path"
    )]
    InTheWay {
        /// Where.
        path: PathBuf,
    },
    /// The files that TLS needs there are no good.
    #[error("cannot speak TLS on {listener}: {source}")]
    Tls {
        /// Where.
        listener: String,
        /// Which file, and what to do.
        source: TlsError,
    },
}

fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; stop what has it, or choose another port",
        io::ErrorKind::AddrNotAvailable => {
            "; this machine has no such address: choose one of its own"
        }
        io::ErrorKind::PermissionDenied => {
            "; choose a port from 1024 on, or a folder that the gateway's user may write"
        }
        io::ErrorKind::NotFound => "; make its folder first",
        _ => "",
    }
}

impl Bound {
    /// Where callers connect, with the port that the kernel chose; `None` for a unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.door {
            Door::Tcp(_, address) => Some(*address),
            Door::Unix(..) => None,
        }
    }

    /// What it shows callers, where it speaks TLS.
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        self.certificates.clone()
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.door {
            Door::Tcp(_, address) => write!(f, "{address}"),
            Door::Unix(_, file) => write!(f, "unix:{}", file.path.display()),
        }
    }
}

/// Opens every listener of the settings, in their order, or none.
///
/// Nobody is accepted before [`Server::serve`](crate::server::Server::serve) runs; until then
/// callers wait in the kernel's backlog. Needs a tokio runtime.
///
/// The files of all that speak TLS are read before any port is open.
///
/// # Errors
/// Names the first listener that cannot be opened; those before it are closed again.
pub fn bind(settings: &ServerSettings) -> Result<Vec<Bound>, BindError> {
    let secure = |listener: &Listener| {
        let Some(tls) = &listener.tls else { return Ok(None) };
        let name = listener.listen.to_string();
        match Certificates::open(name.clone(), tls) {
            Ok(certificates) => Ok(Some(Arc::new(certificates))),
            Err(source) => Err(BindError::Tls { listener: name, source }),
        }
    };
    let all: Result<Vec<_>, _> = settings.listeners.iter().map(secure).collect();
    let one = |(listener, certificates): (&Listener, Option<Arc<Certificates>>)| {
        let door = match &listener.listen {
            Listen::Tcp(address) => {
                tcp(*address).map_err(|source| BindError::Tcp { address: *address, source })
            }
            Listen::Unix { path, mode } => unix(path, *mode),
        };
        Ok(Bound { door: door?, entrance: listener.entrance.clone(), certificates })
    };
    settings.listeners.iter().zip(all?).map(one).collect()
}

fn tcp(address: SocketAddr) -> io::Result<Door> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Else a restart would wait for the last run's connections to leave TIME_WAIT.
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit what is set here.
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_COUNT)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok(Door::Tcp(listener, address))
}

fn unix(path: &Path, mode: u32) -> Result<Door, BindError> {
    make_way(path)?;
    open_unix(path, mode).map_err(|source| BindError::Unix { path: path.to_owned(), source })
}

fn open_unix(path: &Path, mode: u32) -> io::Result<Door> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile::at(path)?;
    // Until `listen` every connect is refused, so nobody comes in before the mode is right.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(Door::Unix(socket.listen(BACKLOG)?, file))
}

/// Removes a socket that a dead process left behind, and nothing else.
fn make_way(path: &Path) -> Result<(), BindError> {
    let failed = |source: io::Error| BindError::Unix { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::InTheWay { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match knock(path) {
        // A full backlog is a sign of life too.
        Ok(()) | Err(Errno::AGAIN) => Err(BindError::Served { path: path.to_owned() }),
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path).map_err(failed),
        Err(Errno::NOENT) => Ok(()),
        Err(other) => Err(failed(other.into())),
    }
}

/// Connects and hangs up, without waiting.
fn knock(path: &Path) -> rustix::io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
}

/// The file of a unix socket that we made; removed on drop, unless it is no longer ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours {
            // What cannot be removed now is replaced by the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};

    use super::*;

    fn settings(path: &Path, mode: u32) -> ServerSettings {
        ServerSettings::new(vec![Listen::Unix { path: path.to_owned(), mode }])
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("omnigate.sock");
        (folder, path)
    }

    #[tokio::test]
    async fn a_port_of_0_becomes_a_real_one() {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = bind(&ServerSettings::new(vec![Listen::Tcp(free), Listen::Tcp(free)])).unwrap();
        assert_ne!(bound[0].local_addr().unwrap().port(), 0);
        assert_ne!(bound[0].local_addr(), bound[1].local_addr());
    }

    #[tokio::test]
    async fn when_one_listener_fails_none_stays_open() {
        let (_folder, path) = folder();
        let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
        let listeners =
            vec![Listen::Unix { path: path.clone(), mode: 0o600 }, Listen::Tcp(taken.1)];
        let refused = bind(&ServerSettings::new(listeners)).unwrap_err();
        assert!(matches!(refused, BindError::Tcp { address, .. } if address == taken.1));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_unix_socket_has_its_mode_and_goes_when_it_is_dropped() {
        let (_folder, path) = folder();
        for mode in [0o600, 0o660, 0o666] {
            let bound = bind(&settings(&path, mode)).unwrap();
            let found = std::fs::symlink_metadata(&path).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode);
            StdStream::connect(&path).unwrap();
            drop(bound);
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn a_socket_that_a_dead_process_left_is_replaced() {
        let (_folder, path) = folder();
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists());
        let _bound = bind(&settings(&path, 0o600)).unwrap();
        StdStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_somebody_serves_is_left_alone() {
        let (_folder, path) = folder();
        let living = bind(&settings(&path, 0o600)).unwrap();
        let refused = bind(&settings(&path, 0o600)).unwrap_err();
        assert!(matches!(refused, BindError::Served { .. }), "{refused}");
        StdStream::connect(&path).unwrap();
        drop(living);
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_never_removed() {
        let (_folder, path) = folder();
        std::fs::write(&path, "precious").unwrap();
        let refused = bind(&settings(&path, 0o600)).unwrap_err();
        assert!(matches!(refused, BindError::InTheWay { .. }), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_that_is_no_longer_ours_is_not_removed() {
        let (_folder, path) = folder();
        let bound = bind(&settings(&path, 0o600)).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = StdListener::bind(&path).unwrap();
        drop(bound);
        StdStream::connect(&path).unwrap();
    }
}

//! Opens a connection to one fixed place.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::DuplexStream;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::net::roots::{RootsError, TlsRoots};
use crate::net::stream::Stream;

/// How many bytes a pipe holds each way before its writer waits.
const PIPE_BYTES: usize = 64 * 1024;

/// The far end of a pipe that was just opened.
pub type PipeEnd = DuplexStream;

/// One place to connect to, and how.
#[derive(Clone)]
pub struct Dial(Kind);

#[derive(Clone)]
enum Kind {
    Tcp { host: Arc<str>, port: u16 },
    Tls { host: Arc<str>, port: u16, name: ServerName<'static>, connector: TlsConnector },
    Unix(PathBuf),
    Pipe(mpsc::UnboundedSender<PipeEnd>),
}

impl Dial {
    /// Plain TCP.
    pub fn tcp(host: &str, port: u16) -> Self {
        Self(Kind::Tcp { host: host.into(), port })
    }

    /// TLS 1.2 or 1.3 over TCP, for HTTP/1.1, believing `roots`.
    ///
    /// # Errors
    /// [`RootsError`], when the roots cannot be loaded or `host` is no name for a certificate.
    pub fn tls(host: &str, port: u16, roots: &TlsRoots) -> Result<Self, RootsError> {
        Self::tls_for(host, port, roots, vec![b"http/1.1".to_vec()])
    }

    /// The same for what is no HTTP: nothing is said of what is spoken over it.
    ///
    /// # Errors
    /// Those of [`Dial::tls`].
    pub fn bare_tls(host: &str, port: u16, roots: &TlsRoots) -> Result<Self, RootsError> {
        Self::tls_for(host, port, roots, Vec::new())
    }

    fn tls_for(
        host: &str,
        port: u16,
        roots: &TlsRoots,
        protocols: Vec<Vec<u8>>,
    ) -> Result<Self, RootsError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| RootsError::HostName { host: host.to_owned() })?;
        let mut config = roots.client_config()?;
        config.alpn_protocols = protocols;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self(Kind::Tls { host: host.into(), port, name, connector }))
    }

    /// A unix socket.
    pub fn unix(path: &Path) -> Self {
        Self(Kind::Unix(path.to_owned()))
    }

    /// A server inside this process: each connection is a pipe whose far end arrives at the
    /// receiver. For the demo and for tests in virtual time.
    pub fn pipe() -> (Self, mpsc::UnboundedReceiver<PipeEnd>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Kind::Pipe(sender)), receiver)
    }

    /// Opens a connection. The caller sets the time limit.
    ///
    /// Cancel-safe: dropping the future closes what was opened.
    ///
    /// # Errors
    /// Name look-up, TCP and TLS errors as they are.
    pub async fn connect(&self) -> io::Result<Stream> {
        match &self.0 {
            Kind::Tcp { host, port } => Ok(Stream::Tcp(tcp(host, *port).await?)),
            Kind::Tls { host, port, name, connector } => {
                let socket = tcp(host, *port).await?;
                let stream = connector.connect(name.clone(), socket).await?;
                Ok(Stream::Tls(Box::new(stream)))
            }
            Kind::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
            Kind::Pipe(sender) => {
                let (near, far) = tokio::io::duplex(PIPE_BYTES);
                sender.send(far).map_err(|_| io::ErrorKind::ConnectionRefused)?;
                Ok(Stream::Pipe(near))
            }
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let socket = TcpStream::connect((host, port)).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp { host, port } => write!(f, "Dial(tcp {host}:{port})"),
            Kind::Tls { host, port, .. } => write!(f, "Dial(tls {host}:{port})"),
            Kind::Unix(path) => write!(f, "Dial(unix {})", path.display()),
            Kind::Pipe(_) => f.write_str("Dial(pipe)"),
        }
    }
}

//! The handshake, in front of everything that a connection says.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::names::{Unclear, names};
use crate::base::{Certificate, Peer};
use crate::server::begun::Begun;
use crate::server::connection::{self, Seat};
use crate::server::tls::Certificates;
use crate::server::wire::Outgoing;
use crate::server::{Answer, ServerSettings};

/// The type of the record that every handshake begins with (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// A caller who was refused may still be writing. It is heard for so long and so far, or the answer
/// would be lost to the reset that a close with unread bytes is.
const HEARD_FOR: Duration = Duration::from_secs(1);
const HEARD: u64 = 64 * 1024;

/// The answer to whoever speaks plain HTTP to us.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    connection: close\r\n\
    content-type: text/plain\r\n\
    content-length: 49\r\n\r\n\
    this port speaks TLS; ask it by https, not http.\n";

/// Why no handshake came about.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the caller speaks plain HTTP")]
    Plain,
    #[error("what the caller speaks is not TLS")]
    NotTls,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Unclear(#[from] Unclear),
}

/// Shakes hands, and then speaks HTTP as [`connection::run`] does. The handshake and the first head
/// have one `header_timeout` together.
pub(in crate::server) async fn run<S, A>(
    certificates: &Certificates,
    stream: S,
    left: impl Future<Output = ()>,
    peer: Peer,
    settings: &ServerSettings,
    answer: A,
    stop: Seat,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Answer,
{
    let stream = Outgoing::new(stream, Arc::clone(&stop.activity));
    let entering = tokio::time::timeout(settings.header_timeout, enter(stream, certificates));
    let entered = tokio::select! {
        biased;
        () = stop.now.cancelled() => return,
        // Nothing is under way yet that could be finished.
        () = stop.gently.cancelled() => return,
        entered = entering => entered,
    };
    let (stream, certificate) = match entered {
        Ok(Ok(entered)) => entered,
        Ok(Err(refused)) => {
            debug!(peer = %peer.remote, error = %refused, "no TLS handshake");
            return;
        }
        Err(_) => {
            debug!(peer = %peer.remote, "caller dawdled in the TLS handshake");
            return;
        }
    };
    let peer = Peer { secure: true, certificate: certificate.map(Arc::new), ..peer };
    connection::speak(stream, left, peer, settings, answer, stop).await;
}

type Entered<S> = (TlsStream<Begun<S>>, Option<Certificate>);

async fn enter<S>(mut stream: S, certificates: &Certificates) -> Result<Entered<S>, Refused>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = stream.read_u8().await?;
    if first != HANDSHAKE {
        // Every method begins with a capital, and so does the preface of h2.
        if !first.is_ascii_uppercase() {
            return Err(Refused::NotTls);
        }
        stream.write_all(PLAIN).await?;
        see_off(stream).await;
        return Err(Refused::Plain);
    }
    let stream = Begun { begun: Bytes::copy_from_slice(&[first]), stream };
    let acceptor = TlsAcceptor::from(certificates.config());
    match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let certificate = shown.map(names).transpose()?;
            Ok((stream, certificate))
        }
        Err((error, stream)) => {
            // The alert that says why is on its way.
            see_off(stream).await;
            Err(error.into())
        }
    }
}

/// Ends the stream so that the caller can read what was said last.
async fn see_off<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let ending = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(HEARD), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(HEARD_FOR, ending).await;
}

//! Who must be at the other end of a connection, looked at for each one anew: a gateway may end while its
//! callers go on, and its place may be another's by then.

use std::io;
use std::net::SocketAddr;

use super::listeners;
use crate::net::Stream;

/// Who must be there.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::exec) enum Keeper {
    /// Whoever is: the user named the place.
    Anybody,
    /// At a unix socket a process of this user; this one, where it is known.
    Process(Option<u32>),
    /// At a TCP port a process of this user, which listens at this address.
    Port(SocketAddr),
}

impl Keeper {
    /// Looks who is at the other end.
    ///
    /// # Errors
    /// Somebody else is, or nobody can tell.
    pub(in crate::cli::exec) fn check(self, stream: &Stream) -> io::Result<()> {
        match (self, stream) {
            (Self::Anybody, _) => Ok(()),
            (Self::Process(process), Stream::Unix(stream)) => {
                let peer = stream.peer_cred()?;
                if peer.uid() != rustix::process::geteuid().as_raw() {
                    return Err(stranger(&format!("the user {} listens there", peer.uid())));
                }
                let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
                match (process, pid) {
                    (Some(wanted), Some(pid)) if wanted != pid => {
                        Err(stranger(&format!("another process ({pid}) listens there")))
                    }
                    (_, _) => Ok(()),
                }
            }
            (Self::Port(address), Stream::Tcp(_)) => {
                listeners::ours(address).map_err(|error| stranger(&error.to_string()))
            }
            (Self::Process(_) | Self::Port(_), _) => Err(stranger("it is no such place")),
        }
    }
}

fn stranger(who: &str) -> io::Error {
    let said = format!("{who}, where the gateway was; start this anew");
    io::Error::new(io::ErrorKind::PermissionDenied, said)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpStream, UnixListener, UnixStream};

    use super::*;

    #[tokio::test]
    async fn a_socket_of_another_process_is_not_the_gateways() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.sock");
        let _there = UnixListener::bind(&path).unwrap();
        let stream = Stream::Unix(UnixStream::connect(&path).await.unwrap());
        assert!(Keeper::Anybody.check(&stream).is_ok());
        assert!(Keeper::Process(None).check(&stream).is_ok());
        assert!(Keeper::Process(Some(std::process::id())).check(&stream).is_ok());
        let error = Keeper::Process(Some(1)).check(&stream).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_port_counts_while_this_user_listens_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = Stream::Tcp(TcpStream::connect(address).await.unwrap());
        let keeper = Keeper::Port(address);
        assert!(keeper.check(&stream).is_ok());
        drop(listener);
        assert!(keeper.check(&stream).is_err());
    }
}

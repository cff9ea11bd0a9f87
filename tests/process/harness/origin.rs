//! An upstream without a will of its own: the test reads and writes on its sockets.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::harness::soon;

pub(crate) struct Origin(TcpListener);

/// A call whose head has been read.
pub(crate) struct Call {
    pub(crate) head: String,
    /// The body follows.
    pub(crate) stream: BufReader<TcpStream>,
}

impl Origin {
    pub(crate) fn open() -> Self {
        let socket = small_socket();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self(socket.listen(64).unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Accepts a connection and reads the head of its first request.
    pub(crate) async fn call(&self) -> Call {
        soon(async {
            let (stream, _) = self.0.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert_ne!(stream.read_line(&mut head).await.unwrap(), 0, "{head}");
            }
            Call { head, stream }
        })
        .await
    }
}

/// A socket whose own buffers hold next to nothing, so that what was sent on the other side and
/// not read on this one must be somewhere in between.
pub(crate) fn small_socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(64 * 1024).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket
}

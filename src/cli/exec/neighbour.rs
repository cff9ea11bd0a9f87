//! Whose socket is at the other end of a loopback connection.
//!
//! Everybody on the machine reaches a loopback port, and behind this one is a gateway that asks nobody for
//! a key. The kernel knows which user holds the other end.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// Who may come in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neighbours {
    /// Our own user; `None` where the system does not tell whose a connection is.
    us: Option<u32>,
}

impl Neighbours {
    /// Finds out whether the system tells, by asking it about a connection of our own to `relay`.
    pub(super) fn at(relay: SocketAddr) -> Self {
        let us = rustix::process::geteuid().as_raw();
        let told = match std::net::TcpStream::connect(relay) {
            Ok(mine) => mine
                .local_addr()
                .and_then(|near| holder(near, relay))
                .is_ok_and(|holder| holder == Some(us)),
            // Somebody else may keep us from asking, so that is no answer.
            Err(_) => cfg!(target_os = "linux"),
        };
        Self { us: told.then_some(us) }
    }

    /// Whether whoever holds the far end of this connection may make calls: our own user, and root, who
    /// can read our memory anyway.
    pub(super) fn may_come_in(&self, remote: SocketAddr, local: SocketAddr) -> bool {
        let Some(us) = self.us else { return true };
        holder(remote, local).is_ok_and(|holder| holder.is_some_and(|uid| uid == us || uid == 0))
    }
}

/// The user who holds the end `near` of the connection from there to `far`; `None` if nobody does any
/// more.
fn holder(near: SocketAddr, far: SocketAddr) -> io::Result<Option<u32>> {
    // A socket of IPv6 may hold a connection of IPv4.
    for (file, six) in [("/proc/net/tcp", false), ("/proc/net/tcp6", true)] {
        let table = match std::fs::read_to_string(file) {
            Err(error) if six && error.kind() == io::ErrorKind::NotFound => continue,
            table => table?,
        };
        let ends = (written(near, six), written(far, six));
        if let Some(uid) = table.lines().find_map(|line| holder_in(line, &ends)) {
            return Ok(Some(uid));
        }
    }
    Ok(None)
}

/// The user of one line of `/proc/net/tcp` (proc(5)), if it is about this connection.
fn holder_in(line: &str, (near, far): &(String, String)) -> Option<u32> {
    let mut words = line.split_ascii_whitespace().skip(1);
    if words.next()? != near || words.next()? != far {
        return None;
    }
    let (uid, inode) = (words.nth(4)?, words.nth(1)?);
    // A socket that no process holds any more shows as root's.
    if inode == "0" { None } else { uid.parse().ok() }
}

/// An address as the kernel writes it there: words of four bytes in the machine's order.
fn written(address: SocketAddr, six: bool) -> String {
    let octets = match (address.ip(), six) {
        (IpAddr::V4(ip), false) => ip.octets().to_vec(),
        (IpAddr::V4(ip), true) => ip.to_ipv6_mapped().octets().to_vec(),
        (IpAddr::V6(ip), _) => ip.octets().to_vec(),
    };
    let words = octets.chunks_exact(4).map(|word| {
        let word: [u8; 4] = [word[0], word[1], word[2], word[3]];
        format!("{:08X}", u32::from_ne_bytes(word))
    });
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_of_our_own_is_known_as_that() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        let neighbours = Neighbours::at(here);
        assert!(neighbours.us.is_some(), "this system does not tell");
        let mine = TcpStream::connect(here).unwrap();
        let near = mine.local_addr().unwrap();
        assert!(neighbours.may_come_in(near, here));
        // By the mapped address too, as Java and Node have it; where there is IPv6.
        if let Ok(six) = TcpStream::connect(("::ffff:127.0.0.1", here.port())) {
            let near = six.local_addr().unwrap();
            let near = SocketAddr::new(near.ip().to_canonical(), near.port());
            assert!(neighbours.may_come_in(near, here));
        }
    }

    #[test]
    fn where_it_could_not_be_asked_whether_the_system_tells_it_is_taken_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        drop(listener);
        assert!(Neighbours::at(here).us.is_some());
    }

    #[test]
    fn a_connection_that_nobody_holds_is_nobodys() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        let neighbours = Neighbours::at(here);
        let mine = TcpStream::connect(here).unwrap();
        let near = mine.local_addr().unwrap();
        // Its bytes are still on their way to us; the kernel shows the rest of it as root's.
        drop(mine);
        assert!(!neighbours.may_come_in(near, here));
    }

    #[test]
    fn another_user_is_no_neighbour() {
        let ends = ("0100007F:1F90".to_owned(), "0100007F:0050".to_owned());
        let line = "   3: 0100007F:1F90 0100007F:0050 01 00000000:00000000 00:00000000 00000000  1001        0 4711 1";
        assert_eq!(holder_in(line, &ends), Some(1001));
        assert_eq!(holder_in(&line.replace("4711", "0"), &ends), None);
        assert_eq!(holder_in(line, &(ends.1, ends.0)), None);
        assert_eq!(written("127.0.0.1:8080".parse().unwrap(), false).len(), 13);
    }
}

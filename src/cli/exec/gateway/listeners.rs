//! Whose a TCP port of this machine is.

use std::net::SocketAddr;

/// Why a port is not taken for ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotOurs {
    #[error("the user {0} listens there")]
    Other(u32),
    #[error("nobody can tell who listens there")]
    Unknown,
}

/// Sees to it that nobody but this user listens at the address.
///
/// # Errors
/// [`NotOurs`].
#[cfg(target_os = "linux")]
pub(super) fn ours(address: SocketAddr) -> Result<(), NotOurs> {
    // proc(5): the sockets of our own network namespace.
    let table = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let table = std::fs::read_to_string(table).map_err(|_| NotOurs::Unknown)?;
    judge(&table, address, rustix::process::geteuid().as_raw())
}

/// Where the system does not tell, the sign in the state folder has to do.
#[cfg(not(target_os = "linux"))]
pub(super) fn ours(_: SocketAddr) -> Result<(), NotOurs> {
    Ok(())
}

#[cfg(any(target_os = "linux", test))]
fn judge(table: &str, address: SocketAddr, ours: u32) -> Result<(), NotOurs> {
    let place = written(address);
    let mut found = false;
    for line in table.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        // `0A` is LISTEN; the eighth field is the user.
        let [_, local, _, "0A", _, _, _, uid, ..] = fields[..] else { continue };
        if local != place {
            continue;
        }
        let uid = uid.parse().map_err(|_| NotOurs::Unknown)?;
        if uid != ours {
            return Err(NotOurs::Other(uid));
        }
        found = true;
    }
    if found { Ok(()) } else { Err(NotOurs::Unknown) }
}

/// As the table writes it: words of the machine's own order.
#[cfg(any(target_os = "linux", test))]
fn written(address: SocketAddr) -> String {
    let octets = match address {
        SocketAddr::V4(four) => four.ip().octets().to_vec(),
        SocketAddr::V6(six) => six.ip().octets().to_vec(),
    };
    let words = octets.chunks_exact(4).map(|word| {
        let word = [word[0], word[1], word[2], word[3]];
        format!("{:08X}", u32::from_ne_bytes(word))
    });
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_of_this_user_is_ours_and_a_free_one_is_not() {
        for place in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(place) else { continue };
            let address = listener.local_addr().unwrap();
            assert_eq!(ours(address), Ok(()), "{address}");
            drop(listener);
            assert_eq!(ours(address), Err(NotOurs::Unknown), "{address}");
        }
    }

    #[test]
    fn a_port_of_another_user_is_not_ours() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   \
                     0: 0100007F:1A08 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001 0 9 1\n";
        let address = "127.0.0.1:6664".parse().unwrap();
        assert_eq!(judge(table, address, 1001), Ok(()));
        assert_eq!(judge(table, address, 1000), Err(NotOurs::Other(1001)));
        assert_eq!(judge(table, "127.0.0.1:6663".parse().unwrap(), 1001), Err(NotOurs::Unknown));
    }
}

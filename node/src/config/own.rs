//! Whether an address leads back to this node: who asks there asks itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Addresses that no machine has (RFC 1112 section 4, RFC 6666): who can bind to them can bind to anything.
const NOBODY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(240, 0, 0, 1));
const NOBODY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1));

/// Whether a query to `endpoint` would come back to a node that listens at these addresses. Behind a wildcard all
/// addresses of this machine are its own, as it has them now.
#[must_use]
pub(crate) fn answers_to_itself(listening: &[SocketAddr], endpoint: SocketAddr) -> bool {
    let ip = endpoint.ip().to_canonical();
    listening
        .iter()
        .filter(|listen| listen.port() == endpoint.port())
        .map(|listen| listen.ip().to_canonical())
        .any(|listen| listen == ip || (listen.is_unspecified() && is_of_this_machine(ip)))
}

/// Whether this is an address of this machine: one that a socket can have. Where the system lets sockets have any
/// (`ip_nonlocal_bind`), only loopback is known to be.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let can_have = |ip: IpAddr| UdpSocket::bind((ip, 0)).is_ok();
    let nobody = if ip.is_ipv4() { NOBODY_V4 } else { NOBODY_V6 };
    ip.is_loopback() || (can_have(ip) && !can_have(nobody))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_own(listening: &str, endpoint: &str) -> bool {
        answers_to_itself(&[listening.parse().unwrap()], endpoint.parse().unwrap())
    }

    #[test]
    fn behind_a_wildcard_every_address_of_this_machine_is_its_own() {
        assert!(is_own("0.0.0.0:53", "127.0.0.2:53"));
        assert!(is_own("[::]:53", "127.0.0.2:53"));
        assert!(is_own("[::]:53", "[::1]:53"));
        assert!(is_own("[::]:53", "[::ffff:127.0.0.2]:53"));
        assert!(!is_own("0.0.0.0:53", "127.0.0.2:54"));
        assert!(!is_own("0.0.0.0:53", "192.0.2.1:53"));
        assert!(!is_own("[::]:53", "[2001:db8::1]:53"));
        // The one it would send from, where it has a way out at all.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:53").is_ok() {
            let own = SocketAddr::new(socket.local_addr().unwrap().ip(), 53);
            assert!(is_own("0.0.0.0:53", &own.to_string()), "{own}");
            assert!(!is_own("127.0.0.1:53", &own.to_string()), "{own}");
        }
    }

    #[test]
    fn an_address_that_is_listened_on_is_its_own_however_it_is_written() {
        assert!(is_own("192.0.2.9:53", "192.0.2.9:53"));
        assert!(is_own("127.0.0.1:53", "[::ffff:127.0.0.1]:53"));
        assert!(!is_own("127.0.0.1:53", "127.0.0.2:53"));
        assert!(!is_own("127.0.0.1:53", "127.0.0.1:54"));
    }
}

//! Whose datagram it is: the process behind a client's port, as the system tells it in /proc.
//!
//! Nodes on one machine share loopback's address, so it takes this to break the way of one of them and of nobody else.
//! Only the rig's own children are looked at, which needs no privilege.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// How long a look is taken for true: a port that is given back is another's soon.
const FRESH: Duration = Duration::from_millis(300);

/// What is known of ports.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Whether the process has it, as of the last look.
    known: BTreeMap<u16, bool>,
    /// Which process, and when that look was.
    looked: Option<(u32, Instant)>,
}

impl Owners {
    /// Whether this process sends from there, over IPv4. Who closed the port meanwhile is nobody.
    pub(super) fn is_of(&mut self, peer: SocketAddr, process: u32, now: Instant) -> bool {
        let is_fresh = |(own, at): (u32, Instant)| own == process && at + FRESH > now;
        let is_known = self.known.contains_key(&peer.port());
        if !is_known || !self.looked.is_some_and(is_fresh) {
            self.known = look(process);
            self.looked = Some((process, now));
        }
        *self.known.entry(peer.port()).or_insert(false)
    }
}

/// All UDP ports in use, and whether this process has them: proc(5), /proc/net/udp and /proc/PID/fd.
fn look(process: u32) -> BTreeMap<u16, bool> {
    let table = fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let sockets = sockets_of(process);
    let rows = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (_, port) = words.nth(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let inode: u64 = words.nth(7)?.parse().ok()?;
        Some((port, sockets.contains(&inode)))
    });
    rows.collect()
}

/// The inodes of its sockets.
fn sockets_of(process: u32) -> BTreeSet<u64> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inodes = targets.filter_map(|target| {
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        inode.parse().ok()
    });
    inodes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::net::UdpSocket;

    #[test]
    fn a_port_is_its_process() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = socket.local_addr().unwrap();
        let (own, now) = (std::process::id(), clock::now());
        let mut owners = Owners::default();
        assert!(owners.is_of(peer, own, now));
        assert!(!owners.is_of(peer, 1, now));
        assert!(owners.is_of(peer, own, now));
        drop(socket);
        assert!(!owners.is_of(peer, own, now + FRESH));
    }
}

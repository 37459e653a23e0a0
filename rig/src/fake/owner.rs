//! Whose datagram it is: the process behind a client's port, as the system tells it in /proc.
//!
//! Nodes on one machine share loopback's address, so it takes this to break the way of one of them and of nobody else.
//! Only the rig's own children are looked at, which needs no privilege.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// How long an answer is taken for true: a port that is given back is another's soon.
const FRESH: Duration = Duration::from_millis(500);
/// Ports remembered; all are forgotten when there are more.
const PORTS_MAX: usize = 4_096;

/// What is known of ports.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Whether the process asked for last has it, and since when that is known.
    known: BTreeMap<u16, (bool, Instant)>,
    process: u32,
}

impl Owners {
    /// Whether this process sends from there, over IPv4. Who closed the port meanwhile is nobody.
    pub(super) fn is_of(&mut self, peer: SocketAddr, process: u32, now: Instant) -> bool {
        if self.process != process || self.known.len() >= PORTS_MAX {
            self.known.clear();
            self.process = process;
        }
        let known = self.known.get(&peer.port()).filter(|(_, since)| *since + FRESH > now);
        if let Some((is_own, _)) = known {
            return *is_own;
        }
        let is_own = socket_at(peer.port()).is_some_and(|inode| holds(process, &inode));
        self.known.insert(peer.port(), (is_own, now));
        is_own
    }
}

/// The inode of the UDP socket at this port: proc(5), /proc/net/udp.
fn socket_at(port: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/udp").ok()?;
    let local = format!(":{port:04X}");
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| words.get(1).is_some_and(|address| address.ends_with(&local)))?;
    line.get(9).map(|inode| (*inode).to_owned())
}

/// Whether one of its descriptors is this socket.
fn holds(process: u32, inode: &str) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    let targets = descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.into_iter().any(|target| target.as_os_str() == wanted.as_str())
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
        drop(socket);
        assert!(!owners.is_of(peer, own, now + FRESH));
    }
}

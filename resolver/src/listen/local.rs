//! The machine's own addresses, found and followed: a wildcard is served by one UDP socket per address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use tokio::net::UnixDatagram;

use super::udp;
use crate::forwarder::Shared;

/// Netlink multicast groups of address changes, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR.
const ADDRESS_GROUPS: u32 = 0x10 | 0x100;
/// Several addresses change at once when an interface comes up.
const SETTLE: Duration = Duration::from_millis(100);
/// Addresses are looked at this often even if nothing was announced.
const RECHECK: Duration = Duration::from_secs(60);

/// All addresses of one family, link-local IPv6 left out: they mean nothing without their interface.
#[must_use]
pub fn addresses(v6: bool) -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let mut found: Vec<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            if v6 {
                let ip = address.as_sockaddr_in6()?.ip();
                (!ip.is_unicast_link_local()).then_some(IpAddr::V6(ip))
            } else {
                Some(IpAddr::V4(address.as_sockaddr_in()?.ip()))
            }
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Opens a socket for each address that appears; sockets of addresses that go stay until shutdown and receive
/// nothing.
pub(super) async fn follow(shared: &Arc<Shared>, wildcard: SocketAddr, mut running: Vec<IpAddr>) {
    let announcements = announcements();
    if let Err(error) = &announcements {
        tracing::warn!(%error, "address changes are noticed every minute only");
    }
    let announcements = announcements.ok();
    loop {
        tokio::select! {
            // Cancel safe: an announcement only says that addresses are to be read anew.
            () = changed(announcements.as_ref()) => tokio::time::sleep(SETTLE).await,
            // Cancel safe: a timer.
            () = tokio::time::sleep(RECHECK) => {}
            // Cancel safe: the token stays cancelled.
            () = shared.tasks.draining().cancelled() => return,
        }
        for ip in addresses(wildcard.is_ipv6()) {
            if running.contains(&ip) {
                continue;
            }
            let address = SocketAddr::new(ip, wildcard.port());
            match super::bind_udp(address) {
                Ok(socket) => {
                    tracing::info!(%address, "serving a new local address");
                    udp::spawn(shared, socket, true);
                    running.push(ip);
                }
                Err(error) => tracing::warn!(%address, %error, "cannot serve a new local address"),
            }
        }
    }
}

/// A netlink socket that hears of address changes. To the runtime it is a datagram socket like any other.
fn announcements() -> io::Result<UnixDatagram> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, ADDRESS_GROUPS))?;
    UnixDatagram::from_std(netlink.into())
}

/// Waits for an announcement; for ever without a socket. What it says is not read: the addresses are.
async fn changed(announcements: Option<&UnixDatagram>) {
    let mut buffer = [0_u8; 4_096];
    let heard = match announcements {
        Some(socket) => socket.recv(&mut buffer).await.is_ok(),
        None => false,
    };
    if !heard {
        // Overrun or broken: the regular look goes on.
        std::future::pending::<()>().await;
    }
}

//! Follows the network of this machine: which way packets to each endpoint take, whenever the kernel says that
//! something changed.
//!
//! What the kernel says is not read, only that it does: addresses, links and routes change in dozens of ways, and a
//! look at the outcome is right for all of them. The source is what a connected socket gets, which is also how an
//! endpoint without a route is told: attempts would fail in the same way. Interface and next hop come from a route
//! request. No packet leaves for any of this. What follows is [`detour_core::network`]'s to decide.

mod message;
mod netlink;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use detour_core::network::{Network, Output, Seen, Way};
use detour_core::{EndpointId, Time};
use detour_resolver::exchange::Addresses;
use nix::errno::Errno;

use self::netlink::{Asker, Listener};

/// The kernel's side; both sockets or none.
#[derive(Debug)]
struct Kernel {
    listener: Listener,
    asker: Asker,
}

/// The network of this machine as the control task sees it.
#[derive(Debug)]
pub(crate) struct NetworkWatch {
    network: Network,
    /// Of the endpoints, by [`EndpointId`].
    addresses: Vec<Addresses>,
    /// `None`: changes are not told here, and nothing is looked at.
    kernel: Option<Kernel>,
}

impl NetworkWatch {
    /// Follows the ways to these addresses; where the system does not let it, that is said once.
    pub(crate) fn open(addresses: Vec<Addresses>, now: Time) -> Self {
        let kernel = Listener::open().and_then(|listener| {
            let asker = Asker::open()?;
            Ok(Kernel { listener, asker })
        });
        let kernel = kernel
            .inspect_err(|error| tracing::info!(%error, "changes of the network are not told here: going on without"));
        Self {
            network: Network::new(addresses.len(), now),
            addresses,
            kernel: kernel.ok(),
        }
    }

    /// Endpoints are others: `known` has the number each had before.
    pub(crate) fn follow(&mut self, addresses: Vec<Addresses>, known: &[Option<EndpointId>], now: Time) {
        self.addresses = addresses;
        self.network.handle_configuration(known, now);
    }

    /// Some endpoint has another address.
    pub(crate) fn note_moved(&mut self, now: Time) {
        self.network.handle_notice(now);
    }

    /// Waits until there is something to look at; for ever where nothing changes. Cancel safe.
    pub(crate) async fn wait(&self, now: Time) {
        let Some(kernel) = &self.kernel else {
            return std::future::pending().await;
        };
        let due = self.network.poll_timeout().map(|(at, _why)| at);
        let timer = async {
            match due {
                Some(at) => tokio::time::sleep(Duration::from_micros(at.since(now))).await,
                None => std::future::pending().await,
            }
        };
        let notice = async {
            if self.network.wants_notices() {
                kernel.listener.notice().await;
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            // Cancel safe: a timer.
            () = timer => {}
            // Cancel safe: what was said stays in the socket.
            () = notice => {}
        }
    }

    /// Takes what was said, looks if it is time to; what follows.
    pub(crate) fn look(&mut self, now: Time) -> Vec<Output> {
        let Some(kernel) = &mut self.kernel else {
            return Vec::new();
        };
        if kernel.listener.take() {
            self.network.handle_notice(now);
        }
        if self.network.poll_timeout().is_some_and(|(at, _why)| at <= now) {
            let seen: Vec<Seen> = self
                .addresses
                .iter()
                .map(|to| seen(&mut kernel.asker, to.first()))
                .collect();
            self.network.handle_look(&seen, now);
        }
        std::iter::from_fn(|| self.network.poll_output()).collect()
    }
}

/// Which way packets to `address` take now.
fn seen(asker: &mut Asker, address: Option<SocketAddr>) -> Seen {
    // A name that is not resolved leads nowhere.
    let Some(address) = address else {
        return Seen::Unclear;
    };
    let source = match source(address) {
        Ok(source) => source,
        Err(error) if is_no_route(&error) => return Seen::NoRoute,
        Err(_) => return Seen::Unclear,
    };
    match asker.ask(address.ip()) {
        Ok(hop) => Seen::Way(Way {
            interface: hop.interface,
            source,
            gateway: hop.gateway,
        }),
        // Attempts get through: an odd routing policy, or a kernel that is busy.
        Err(_) => Seen::Unclear,
    }
}

/// Where packets to `address` would come from.
fn source(address: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    Ok(socket.local_addr()?.ip())
}

/// Whether the system has no way to an address, or not even its family.
fn is_no_route(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::BootClock;
    use crate::output::print_line;
    use detour_core::Clock as _;

    #[tokio::test]
    async fn the_way_to_loopback_is_there_and_does_not_change() {
        let now = BootClock.now();
        let loopback: SocketAddr = "127.0.0.1:53".parse().unwrap();
        let mut watch = NetworkWatch::open(vec![loopback.into()], now);
        let Some(kernel) = &mut watch.kernel else {
            print_line("skipped: no netlink here").unwrap();
            return;
        };
        let Seen::Way(way) = seen(&mut kernel.asker, Some(loopback)) else {
            panic!("no way to loopback");
        };
        assert_eq!(
            (way.source, way.gateway, way.interface > 0),
            (loopback.ip(), None, true)
        );
        watch.wait(now).await;
        assert_eq!(watch.look(now), [Output::Routed(vec![EndpointId(0)])]);
    }

    #[test]
    fn errors_that_mean_no_route_are_told_from_others() {
        for errno in [Errno::ENETUNREACH, Errno::EAFNOSUPPORT] {
            assert!(is_no_route(&errno.into()));
        }
        assert!(!is_no_route(&Errno::EMFILE.into()));
    }
}

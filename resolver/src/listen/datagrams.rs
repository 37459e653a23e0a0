//! A UDP socket for clients that replies from the address that was asked.
//!
//! A socket bound to one address does that by itself. A wildcard socket has to be told: each datagram comes with the
//! address it was sent to (IP_PKTINFO, RFC 3542 section 6.1), and its reply goes out with that as source. One socket
//! so serves addresses that come and go, and those that no interface lists (127.0.0.3, AnyIP routes).
//!
//! One thread reads it; replies are sent from any. Neither ever waits.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};

/// What the system says of where an IPv4 datagram was sent. Where it has no IP_PKTINFO, the address alone.
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(super) type InfoV4 = nix::libc::in_pktinfo;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) type InfoV4 = nix::libc::in_addr;
/// What it says of an IPv6 one.
pub(super) type InfoV6 = nix::libc::in6_pktinfo;

/// The address a datagram was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The socket's own.
    Own,
    V4(InfoV4),
    V6(InfoV6),
}

impl Asked {
    /// What a part of a datagram's control data says of it.
    pub(super) fn of(part: ControlMessageOwned) -> Option<Self> {
        #[cfg(not(any(target_os = "linux", target_os = "macos")))]
        if let ControlMessageOwned::Ipv4RecvDstAddr(address) = part {
            return Some(Self::V4(address));
        }
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        if let ControlMessageOwned::Ipv4PacketInfo(info) = part {
            // The route decides the interface; the source is what was asked.
            return Some(Self::V4(InfoV4 {
                ipi_ifindex: 0,
                ipi_spec_dst: info.ipi_addr,
                ipi_addr: info.ipi_addr,
            }));
        }
        if let ControlMessageOwned::Ipv6PacketInfo(info) = part {
            return Some(Self::V6(info));
        }
        None
    }

    /// The control data of a reply from this address.
    pub(super) fn control(&self) -> Option<ControlMessage<'_>> {
        match self {
            Self::Own => None,
            #[cfg(any(target_os = "linux", target_os = "macos"))]
            Self::V4(info) => Some(ControlMessage::Ipv4PacketInfo(info)),
            #[cfg(not(any(target_os = "linux", target_os = "macos")))]
            Self::V4(address) => Some(ControlMessage::Ipv4SendSrcAddr(address)),
            Self::V6(info) => Some(ControlMessage::Ipv6PacketInfo(info)),
        }
    }
}

/// Who asked, and where: all a reply needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// The client.
    pub(super) client: SocketAddr,
    pub(super) asked: Asked,
}

/// A bound socket.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UdpSocket,
    is_wildcard: bool,
    is_ipv4: bool,
}

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Datagrams {
    /// Takes a bound socket; one that is bound to a wildcard is told to say where datagrams were sent.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let own = socket.local_addr()?;
        let (is_wildcard, is_ipv4) = (own.ip().is_unspecified(), own.is_ipv4());
        if is_wildcard && is_ipv4 {
            #[cfg(any(target_os = "linux", target_os = "macos"))]
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            #[cfg(not(any(target_os = "linux", target_os = "macos")))]
            setsockopt(&socket, sockopt::Ipv4RecvDstAddr, &true)?;
        } else if is_wildcard {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        Ok(Self {
            socket,
            is_wildcard,
            is_ipv4,
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.is_wildcard
    }

    pub(super) fn is_ipv4(&self) -> bool {
        self.is_ipv4
    }

    /// Sends a reply now or not at all: a full buffer loses the datagram, and the client asks again.
    pub(super) fn reply(&self, reply: &[u8], peer: &Peer) {
        let client = SockaddrStorage::from(peer.client);
        let parts = [IoSlice::new(reply)];
        let control = peer.asked.control();
        if let Err(error) = sendmsg(
            self.fd(),
            &parts,
            control.as_slice(),
            MsgFlags::MSG_DONTWAIT,
            Some(&client),
        ) {
            tracing::trace!(%error, "a reply was not sent");
        }
    }
}

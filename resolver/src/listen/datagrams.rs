//! A UDP socket for clients that replies from the address that was asked.
//!
//! A socket bound to one address does that by itself. A wildcard socket has to be told: each datagram comes with the
//! address it was sent to (IP_PKTINFO, RFC 3542 section 6.1), and its reply goes out with that as source. One socket
//! so serves addresses that come and go, and those that no interface lists (127.0.0.3, AnyIP routes).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use nix::cmsg_space;
use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The address a datagram was sent to.
#[derive(Debug, Clone, Copy)]
enum Asked {
    /// The socket's own.
    Own,
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

/// Who asked, and where: all a reply needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// The client.
    pub(super) client: SocketAddr,
    asked: Asked,
}

/// A bound socket.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UdpSocket,
    is_wildcard: bool,
}

impl Datagrams {
    /// Takes a bound socket; one that is bound to a wildcard is told to say where datagrams were sent.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let own = socket.local_addr()?;
        let is_wildcard = own.ip().is_unspecified();
        if is_wildcard {
            if own.is_ipv4() {
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            } else {
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
        Ok(Self { socket, is_wildcard })
    }

    /// Waits for a datagram.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Reads a datagram that is there.
    pub(super) fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        if !self.is_wildcard {
            let (size, client) = self.socket.try_recv_from(buffer)?;
            let asked = Asked::Own;
            return Ok((size, Peer { client, asked }));
        }
        self.socket.try_io(Interest::READABLE, || {
            let mut control = cmsg_space!(in6_pktinfo);
            let mut parts = [IoSliceMut::new(buffer)];
            let message = recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::empty(),
            )?;
            let client = message
                .address
                .as_ref()
                .and_then(to_std)
                .ok_or(io::ErrorKind::InvalidData)?;
            let mut asked = Asked::Own;
            for part in message.cmsgs()? {
                if let ControlMessageOwned::Ipv4PacketInfo(info) = part {
                    asked = Asked::V4(info);
                } else if let ControlMessageOwned::Ipv6PacketInfo(info) = part {
                    asked = Asked::V6(info);
                }
            }
            Ok((message.bytes, Peer { client, asked }))
        })
    }

    /// Sends a reply now or not at all: a full buffer loses the datagram, and the client asks again.
    pub(super) fn reply(&self, reply: &[u8], peer: &Peer) {
        let client = SockaddrStorage::from(peer.client);
        let fd = self.socket.as_raw_fd();
        let parts = [IoSlice::new(reply)];
        let send = |control: &[ControlMessage<'_>]| {
            if let Err(error) = sendmsg(fd, &parts, control, MsgFlags::MSG_DONTWAIT, Some(&client)) {
                tracing::trace!(%error, "a reply was not sent");
            }
        };
        match peer.asked {
            Asked::Own => drop(self.socket.try_send_to(reply, peer.client)),
            Asked::V4(info) => send(&[ControlMessage::Ipv4PacketInfo(&in_pktinfo {
                // The route decides the interface; the source is what was asked.
                ipi_ifindex: 0,
                ipi_spec_dst: info.ipi_addr,
                ipi_addr: info.ipi_addr,
            })]),
            Asked::V6(info) => send(&[ControlMessage::Ipv6PacketInfo(&info)]),
        }
    }
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

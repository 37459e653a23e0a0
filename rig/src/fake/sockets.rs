//! The sockets of a fake: both cleartext transports on one port, and a UDP port that can be closed without being given away.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::config::StartError;
use crate::transport::Transport;

/// Attempts to find a port that is free for both transports.
const PORT_ATTEMPTS: usize = 64;
/// Asked of the kernel for each socket, which grants what it may: a burst must not be lost on loopback.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// TCP first: a port the kernel chose for a listener is rarely taken for UDP, and if it is we ask for another.
pub(crate) fn bind(mut udp: SocketAddr, mut tcp: SocketAddr) -> Result<(UdpSocket, TcpListener), StartError> {
    if udp.port() == 0 {
        udp.set_port(tcp.port());
    } else if tcp.port() == 0 {
        tcp.set_port(udp.port());
    }
    if udp.port() != 0 {
        return Ok((bind_udp(udp, false)?, bind_tcp(tcp, Transport::Tcp)?));
    }
    for _ in 0..PORT_ATTEMPTS {
        let listener = bind_tcp(tcp, Transport::Tcp)?;
        let port = listener
            .local_addr()
            .map_err(|source| StartError::Register { source })?
            .port();
        udp.set_port(port);
        match bind_udp(udp, false) {
            Ok(socket) => return Ok((socket, listener)),
            Err(StartError::Bind { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(StartError::NoCommonPort { address: tcp })
}

/// `shared` allows a second socket on a port whose first one allows it too.
pub(super) fn bind_udp(address: SocketAddr, shared: bool) -> Result<UdpSocket, StartError> {
    bind_datagrams(address, Transport::Udp, shared)
}

/// A socket for datagrams of this transport.
pub(crate) fn bind_datagrams(address: SocketAddr, transport: Transport, shared: bool) -> Result<UdpSocket, StartError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.set_reuse_port(shared)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    bind().map_err(|source| StartError::Bind {
        transport,
        address,
        source,
    })
}

pub(crate) fn bind_tcp(address: SocketAddr, transport: Transport) -> Result<TcpListener, StartError> {
    let bind = || {
        let listener = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        listener.set_nonblocking(true)?;
        listener.set_reuse_address(true)?;
        listener.bind(&address.into())?;
        listener.listen(1024)?;
        Ok(listener.into())
    };
    bind().map_err(|source| StartError::Bind {
        transport,
        address,
        source,
    })
}

/// Makes the kernel answer queries with "port unreachable" while the port stays ours: a connected socket takes
/// datagrams of its peer only, and nobody sends from the peer it is given here. Closing the socket would do the same,
/// but anybody's next socket could then be given the port.
pub(super) fn unlisten(socket: &tokio::net::UdpSocket, local: SocketAddr) -> io::Result<()> {
    let mut nobody = local;
    nobody.set_port(1);
    if local.ip().is_unspecified() {
        nobody.set_ip(if local.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    let socket = SockRef::from(socket);
    socket.set_reuse_port(true)?;
    socket.connect(&nobody.into())
}

/// A fresh socket on a port that [`unlisten`] holds; the caller drops the old one.
pub(super) fn listen_again(local: SocketAddr) -> io::Result<tokio::net::UdpSocket> {
    let socket = bind_udp(local, true).map_err(|error| match error {
        StartError::Bind { source, .. } | StartError::Register { source } => source,
        StartError::NoCommonPort { .. } | StartError::Certificate(_) => io::ErrorKind::AddrInUse.into(),
    })?;
    // From here on another socket on this port is a mistake again.
    SockRef::from(&socket).set_reuse_port(false)?;
    tokio::net::UdpSocket::from_std(socket)
}

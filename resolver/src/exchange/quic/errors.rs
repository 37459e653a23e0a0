//! What the system says of datagrams that did not arrive, each with the address it is about.
//!
//! Linux keeps such errors (ICMP) in a queue beside the socket's datagrams. A datagram that is sent before the queue is
//! read may be refused for the error of another one; QUIC repeats it. Elsewhere nothing is heard of them: a closed
//! port is then known by its silence.

#[cfg(not(target_os = "linux"))]
pub(super) use self::deaf::Errors;
#[cfg(target_os = "linux")]
pub(super) use self::queue::Errors;

#[cfg(target_os = "linux")]
mod queue {
    use std::io::{self, IoSliceMut};
    use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
    use std::os::fd::{AsRawFd as _, RawFd};

    use nix::errno::Errno;
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
    use tokio::io::Interest;

    /// Errors read in one go; what is left is told again.
    const ERRORS_AT_ONCE: usize = 64;

    /// The errors of one socket.
    pub(in crate::exchange::quic) struct Errors(tokio::net::UdpSocket);

    impl Errors {
        /// Of a socket that somebody else reads and writes.
        pub(in crate::exchange::quic) fn of(socket: UdpSocket) -> io::Result<Self> {
            if socket.local_addr()?.is_ipv4() {
                setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
            } else {
                setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
            }
            tokio::net::UdpSocket::from_std(socket).map(Self)
        }

        /// Tells of every address that cannot be reached, until the socket fails.
        pub(in crate::exchange::quic) async fn read(self, tell: impl Fn(SocketAddr)) {
            while self.0.ready(Interest::ERROR).await.is_ok() {
                for _ in 0..ERRORS_AT_ONCE {
                    match self.0.try_io(Interest::ERROR, || read_error(self.0.as_raw_fd())) {
                        Ok(Some(address)) => tell(address),
                        Ok(None) => {}
                        Err(_) => break,
                    }
                }
            }
        }
    }

    /// One error: whom it is about, if a datagram to somebody was refused.
    fn read_error(socket: RawFd) -> io::Result<Option<SocketAddr>> {
        let mut head = [0_u8; 64];
        let mut parts = [IoSliceMut::new(&mut head)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let mut control = nix::cmsg_space!([u8; 256]);
        let message = recvmsg::<SockaddrStorage>(socket, &mut parts, Some(&mut control), flags)?;
        // A path with smaller packets is a matter of the library's search for them.
        let is_about_size = message.cmsgs().is_ok_and(|mut all| all.any(|one| is_too_large(&one)));
        let address = message.address.filter(|_| !is_about_size);
        Ok(address.and_then(|address| address_of(&address)))
    }

    fn is_too_large(message: &ControlMessageOwned) -> bool {
        let (ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _)) = message else {
            return false;
        };
        i32::try_from(error.ee_errno).is_ok_and(|number| Errno::from_raw(number) == Errno::EMSGSIZE)
    }

    fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
        let v4 = address
            .as_sockaddr_in()
            .map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
        v4.or_else(|| {
            address
                .as_sockaddr_in6()
                .map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6)))
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod deaf {
    use std::io;
    use std::net::{SocketAddr, UdpSocket};

    /// Nothing is heard.
    pub(in crate::exchange::quic) struct Errors;

    impl Errors {
        /// Of a socket that somebody else reads and writes.
        pub(in crate::exchange::quic) fn of(_socket: UdpSocket) -> io::Result<Self> {
            Ok(Self)
        }

        /// Never ends.
        pub(in crate::exchange::quic) async fn read(self, _tell: impl Fn(SocketAddr)) {
            std::future::pending().await
        }
    }
}

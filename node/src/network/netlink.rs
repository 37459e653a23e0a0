//! The two sockets to the kernel's routing: one that hears that something changed, one that asks for a route.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::message::{self, Hop};

/// Groups of `linux/rtnetlink.h`: links, and addresses and routes of both families.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// Messages taken at once; more wait for the next look.
const TAKEN_MAX: usize = 1_024;
/// Messages read for one answer: what an earlier question left behind, and the answer.
const READS_MAX: usize = 4;
/// More than an answer takes.
const ANSWER_BYTES: usize = 4_096;

/// A socket that does not block.
fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    Ok(socket)
}

/// Hears that links, addresses or routes changed.
#[derive(Debug)]
pub(super) struct Listener {
    socket: AsyncFd<OwnedFd>,
}

impl Listener {
    /// # Errors
    ///
    /// The system has no netlink for this process.
    pub(super) fn open() -> io::Result<Self> {
        let socket = open()?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        #[expect(
            deprecated,
            reason = "deprecated for types whose descriptor may be another's or change; an OwnedFd's cannot"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { socket })
    }

    /// Waits until something was said. Cancel safe.
    pub(super) async fn notice(&self) {
        if self.socket.readable().await.is_err() {
            // Only while the runtime ends.
            std::future::pending().await
        }
    }

    /// Takes what was said; whether it was anything. That some was lost for want of room says enough.
    pub(super) fn take(&self) -> bool {
        let mut first_bytes = [0_u8; 16];
        for taken in 0..TAKEN_MAX {
            let read = self.socket.try_io(Interest::READABLE, |socket| {
                Ok(recv(socket.as_raw_fd(), &mut first_bytes, MsgFlags::empty())?)
            });
            match read {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return taken > 0,
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {}
                Err(_) => return true,
            }
        }
        true
    }
}

/// Asks for routes. The kernel has answered when the question is sent, so nothing waits.
#[derive(Debug)]
pub(super) struct Asker {
    socket: OwnedFd,
    sequence: u32,
}

impl Asker {
    /// # Errors
    ///
    /// The system has no netlink for this process.
    pub(super) fn open() -> io::Result<Self> {
        let socket = open()?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Interface and next hop towards an address.
    ///
    /// # Errors
    ///
    /// There is no route, or the kernel does not tell.
    pub(super) fn ask(&mut self, address: IpAddr) -> io::Result<Hop> {
        self.sequence = self.sequence.wrapping_add(1);
        let socket = self.socket.as_raw_fd();
        send(
            socket,
            &message::route_request(address, self.sequence),
            MsgFlags::empty(),
        )?;
        let mut buffer = [0_u8; ANSWER_BYTES];
        for _ in 0..READS_MAX {
            let size = recv(socket, &mut buffer, MsgFlags::empty())?;
            if let Some(answer) = message::answer(buffer.get(..size).unwrap_or_default(), self.sequence) {
                return answer;
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

//! Up to a batch a call, as Linux does it.

use std::io::{self, IoSlice, IoSliceMut};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg, sendto};

use super::{Address, Arrivals, Arrived, BATCH, Buffer, Calls};
use crate::listen::datagrams::{Asked, Datagrams};

/// Headers for a batch.
#[derive(Debug)]
pub(in crate::listen) struct ManyACall<A> {
    /// Two sets: each keeps pointers to what it was last used for.
    incoming: MultiHeaders<A>,
    outgoing: MultiHeaders<A>,
}

impl<A: Address> Calls<A> for ManyACall<A> {
    fn new(socket: &Datagrams) -> Self {
        let control = || socket.is_wildcard().then(A::control_space);
        Self {
            incoming: MultiHeaders::preallocate(BATCH, control()),
            outgoing: MultiHeaders::preallocate(BATCH, control()),
        }
    }

    fn receive(&mut self, socket: &Datagrams, buffers: &mut [Buffer], arrived: &mut Arrivals<A>) -> io::Result<()> {
        let mut buffers = buffers.iter_mut();
        let mut parts: [_; BATCH] = std::array::from_fn(|_| {
            let buffer = buffers.next().map(|buffer| buffer.as_mut_slice());
            [IoSliceMut::new(buffer.unwrap_or_default())]
        });
        let fd = socket.fd();
        let messages = recvmmsg(fd, &mut self.incoming, &mut parts, MsgFlags::MSG_DONTWAIT, None)?;
        for (place, message) in arrived.iter_mut().zip(messages) {
            let asked = if socket.is_wildcard() {
                message.cmsgs().ok().and_then(|mut parts| parts.find_map(Asked::of))
            } else {
                None
            };
            let client = message.address;
            *place = client.map(|client| Arrived::new(message.bytes, client, asked));
        }
        Ok(())
    }

    fn send<'b>(
        &'b mut self,
        socket: &Datagrams,
        replies: &'b [[IoSlice<'b>; 1]],
        clients: &'b [Option<A>],
        asked: &'b Asked,
    ) -> Result<usize, Errno> {
        let is_one = replies.len() == 1 || socket.is_wildcard();
        if let ([[reply], ..], [Some(client), ..], Asked::Own, true) = (replies, clients, asked, is_one) {
            // Headers of a wildcard socket still have what was said of the source last time.
            return sendto(socket.fd(), reply, client, MsgFlags::MSG_DONTWAIT).map(|_bytes| 1);
        }
        let control = asked.control();
        let sent = sendmmsg(
            socket.fd(),
            &mut self.outgoing,
            replies,
            clients,
            control.as_slice(),
            MsgFlags::MSG_DONTWAIT,
        )?;
        Ok(sent.count())
    }
}

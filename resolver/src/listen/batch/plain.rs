//! A call for each datagram, as every system does it.

use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recvmsg, sendmsg};

use super::{Address, Arrivals, Arrived, Buffer, Calls};
use crate::listen::datagrams::{Asked, Datagrams};

/// Room for what is said of one datagram.
#[derive(Debug)]
pub(in crate::listen) struct OneACall<A> {
    control: Option<Vec<u8>>,
    family: PhantomData<A>,
}

impl<A: Address> Calls<A> for OneACall<A> {
    fn new(socket: &Datagrams) -> Self {
        Self {
            control: socket.is_wildcard().then(A::control_space),
            family: PhantomData,
        }
    }

    fn receive(&mut self, socket: &Datagrams, buffers: &mut [Buffer], arrived: &mut Arrivals<A>) -> io::Result<()> {
        let mut is_first = true;
        for (buffer, place) in buffers.iter_mut().zip(arrived) {
            let mut parts = [IoSliceMut::new(buffer)];
            let control = self.control.as_deref_mut();
            let message = match recvmsg::<A>(socket.fd(), &mut parts, control, MsgFlags::MSG_DONTWAIT) {
                Ok(message) => message,
                Err(error) if is_first => return Err(error.into()),
                // Mostly: no more. Else it is told again if it lasts.
                Err(_) => break,
            };
            let asked = if socket.is_wildcard() {
                message.cmsgs().ok().and_then(|mut parts| parts.find_map(Asked::of))
            } else {
                None
            };
            let client = message.address;
            *place = client.map(|client| Arrived::new(message.bytes, client, asked));
            is_first = false;
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
        let ([reply, ..], [client, ..]) = (replies, clients) else {
            return Ok(0);
        };
        let control = asked.control();
        let flags = MsgFlags::MSG_DONTWAIT;
        sendmsg(socket.fd(), reply, control.as_slice(), flags, client.as_ref()).map(|_bytes| 1)
    }
}

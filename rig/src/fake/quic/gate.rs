//! A UDP socket that says nothing while its fake is silent.
//!
//! It lies under QUIC, which speaks without being asked: acknowledgements, handshakes, repetitions. What is written
//! meanwhile is lost, as it is on a cable that is pulled; reading goes on, so that the fake can count what is asked of
//! it.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::watch;

use crate::clock;
use crate::fault::{Conduct, Fault};

/// The first bits of a packet that asks a client to come again (RFC 9000 section 17.2.5).
const RETRY: u8 = 0xf0;

/// The first bit of a packet of a handshake (RFC 9000 section 17.2); what comes after one has it clear.
const LONG_HEADER: u8 = 0x80;

/// The socket of one endpoint.
pub(super) struct Gate {
    inner: Arc<dyn AsyncUdpSocket>,
    conduct: watch::Receiver<Conduct>,
}

impl Gate {
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, conduct: watch::Receiver<Conduct>) -> Self {
        Self { inner, conduct }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Gate")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Gate {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let fault = self.conduct.borrow().effective(clock::now());
        let first = transmit.contents.first().copied().unwrap_or_default();
        if fault.is_deaf() && first & LONG_HEADER == 0 {
            return Ok(());
        }
        let is_retry = first & RETRY == RETRY;
        if fault.is_silent() && !(fault == Fault::TlsStall && is_retry) {
            return Ok(());
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

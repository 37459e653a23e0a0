//! The socket under QUIC, with its ears open: who sent anything at all, and who cannot be reached.
//!
//! A socket for many addresses does not tell a QUIC library that a port is closed, and a library that waits for a
//! handshake does not tell that something has come. Both decide between causes: a port that is closed is known at once
//! instead of after two seconds, and a server that answers without shaking hands is not one that is silent.
//!
//! The system's errors (ICMP) are read where each comes with the address it is about (`errors.rs`), so that one closed
//! port does not become the trouble of all connections.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::Notify;
use tokio_util::sync::DropGuard;

use super::errors::Errors;
use crate::tasks::Tasks;

/// A UDP socket for QUIC.
pub(super) struct WatchedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    heard: Arc<Heard>,
    /// Ends the task that holds the socket, too.
    _reader: DropGuard,
}

/// Who is watched for.
#[derive(Debug, Default)]
struct Heard {
    /// As many as connections are being opened; held for a look through them.
    watched: Mutex<Vec<Arc<Watched>>>,
    /// How many there are: nobody looks at datagrams while it is none.
    count: AtomicUsize,
}

/// An address, and what was heard of it.
#[derive(Debug)]
struct Watched {
    address: SocketAddr,
    has_sent: AtomicBool,
    is_unreachable: AtomicBool,
    told: Notify,
}

/// An address is watched until this is dropped.
pub(super) struct Watch {
    own: Arc<Watched>,
    heard: Arc<Heard>,
}

impl fmt::Debug for WatchedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedSocket")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl WatchedSocket {
    /// Around a socket; `errors` is the same socket again.
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, errors: UdpSocket, tasks: &Tasks) -> io::Result<Arc<Self>> {
        let errors = Errors::of(errors)?;
        let (heard, stop) = (Arc::<Heard>::default(), tasks.token().child_token());
        let socket = Self {
            inner,
            heard: Arc::clone(&heard),
            _reader: stop.clone().drop_guard(),
        };
        tasks.spawn_job(async move {
            tokio::select! {
                // Cancel safe: the token stays cancelled.
                () = stop.cancelled() => {}
                // It is not polled again.
                () = errors.read(|address| heard.note_unreachable(address)) => {}
            }
        });
        Ok(Arc::new(socket))
    }

    /// Watches an address.
    pub(super) fn watch(&self, address: SocketAddr) -> Watch {
        let own = Arc::new(Watched {
            address,
            has_sent: AtomicBool::new(false),
            is_unreachable: AtomicBool::new(false),
            told: Notify::new(),
        });
        self.heard.watched.lock().push(Arc::clone(&own));
        self.heard.count.fetch_add(1, Ordering::Relaxed);
        Watch {
            own,
            heard: Arc::clone(&self.heard),
        }
    }
}

impl Watch {
    /// Whether anything came from there.
    pub(super) fn has_sent(&self) -> bool {
        self.own.has_sent.load(Ordering::Relaxed)
    }

    /// Waits until the system says that nobody is there. Cancel safe: what was told stays told.
    pub(super) async fn unreachable(&self) {
        loop {
            let told = self.own.told.notified();
            if self.own.is_unreachable.load(Ordering::Relaxed) {
                return;
            }
            told.await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.heard.count.fetch_sub(1, Ordering::Relaxed);
        self.heard.watched.lock().retain(|other| !Arc::ptr_eq(other, &self.own));
    }
}

impl Watched {
    /// Whether an address is this one; flow labels are nobody's business.
    fn is(&self, address: SocketAddr) -> bool {
        (self.address.ip(), self.address.port()) == (address.ip(), address.port())
    }
}

impl Heard {
    fn note_sent(&self, address: SocketAddr) {
        for watched in self.watched.lock().iter().filter(|watched| watched.is(address)) {
            watched.has_sent.store(true, Ordering::Relaxed);
        }
    }

    fn note_unreachable(&self, address: SocketAddr) {
        for watched in self.watched.lock().iter().filter(|watched| watched.is(address)) {
            watched.is_unreachable.store(true, Ordering::Relaxed);
            watched.told.notify_one();
        }
    }
}

impl AsyncUdpSocket for WatchedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = &received
            && self.heard.count.load(Ordering::Relaxed) > 0
        {
            for one in meta.iter().take(*count) {
                self.heard.note_sent(one.addr);
            }
        }
        received
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

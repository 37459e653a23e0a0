//! The sockets clients ask at.
//!
//! All are bound before anything is served. Replies leave from the address that was asked, at a wildcard too. TCP is
//! bound first and without sharing, because that is how a busy port is noticed; so is the first UDP socket, and only
//! then it shares its port (SO_REUSEPORT) with the others of this process, one for each thread that reads.

mod accept;
mod backlog;
mod batch;
pub mod certificate;
mod datagrams;
mod doors;
mod framed;
mod gathered;
mod guests;
mod http;
mod job;
mod overseer;
mod paced;
mod quic;
pub mod secure;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use self::accept::Protocol;
pub(crate) use self::backlog::Backlogs;
use self::datagrams::Datagrams;
use self::secure::{SecureBound, SecureSocket};
use crate::forwarder::Shared;
use crate::readers;
use crate::wire::Via;

pub(crate) use self::doors::Doors;
pub use self::doors::StreamLimits;

/// Connections the kernel holds for us before they are accepted.
const BACKLOG: i32 = 1_024;
/// Bytes of replies that the system takes of a connection and does not send yet, because its client does not read: else
/// it would take megabytes of each.
const UNSENT_BYTES: u32 = 16 * 1024;
/// Receive buffer of a UDP socket: half a second of a busy node's queries.
const UDP_BUFFER_BYTES: usize = 1 << 20;
/// Tries to find one free port for both transports when the system chooses it.
const PORT_TRIES: usize = 16;

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there. Happens in normal operation; nothing was changed.
    #[error("{address} is in use by another program")]
    InUse {
        /// Which.
        address: SocketAddr,
    },
    /// Ports below 1024 need a privilege. Happens in normal operation; nothing was changed.
    #[error("no permission to listen on {address}")]
    Denied {
        /// Which.
        address: SocketAddr,
    },
    /// The address is not one of this machine's.
    #[error("{address} is no address of this machine")]
    NotHere {
        /// Which.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}")]
    Other {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let kind = source.kind();
        if kind == Kind::AddrInUse {
            Self::InUse { address }
        } else if kind == Kind::PermissionDenied {
            Self::Denied { address }
        } else if kind == Kind::AddrNotAvailable || source.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) {
            Self::NotHere { address }
        } else {
            Self::Other { address, source }
        }
    }

    /// Whether the machine does not have this address (no IPv6, say), which need not keep the others from being
    /// served.
    #[must_use]
    pub fn is_not_here(&self) -> bool {
        matches!(self, Self::NotHere { .. })
    }
}

/// One listen address, bound.
#[derive(Debug)]
pub struct Bound {
    /// The address, with the port the system chose.
    pub address: SocketAddr,
    tcp: TcpListener,
    /// One for each thread that reads.
    udp: Vec<Arc<Datagrams>>,
}

/// Binds one address for UDP and TCP.
///
/// # Errors
/// When either cannot be had; nothing stays bound then.
pub fn bind(address: SocketAddr) -> Result<Bound, BindError> {
    let mut last = None;
    for _ in 0..PORT_TRIES {
        match try_bind(address) {
            // A port of the system's choice that is free for TCP may be taken for UDP.
            Err(BindError::InUse { .. }) if address.port() == 0 => last = Some(BindError::InUse { address }),
            result => return result,
        }
    }
    Err(last.unwrap_or(BindError::InUse { address }))
}

fn try_bind(address: SocketAddr) -> Result<Bound, BindError> {
    let (tcp, bound) = bind_tcp(address).map_err(|source| BindError::new(address, source))?;
    let udp = bind_udp(bound).map_err(|source| BindError::new(bound, source))?;
    Ok(Bound {
        address: bound,
        tcp,
        udp,
    })
}

fn bind_tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = socket(address, socket2::Type::STREAM)?;
    // Only against the leftovers of own connections: without SO_REUSEPORT a listener elsewhere still shows.
    socket.set_reuse_address(true)?;
    // Connections take it over. Without it they cost more where a client does not read, and nothing else.
    #[cfg(target_os = "linux")]
    drop(socket.set_tcp_notsent_lowat(UNSENT_BYTES));
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Sockets that share one port, as many as there are cores for them.
fn bind_udp(address: SocketAddr) -> io::Result<Vec<Arc<Datagrams>>> {
    let first = udp_socket(address)?;
    // Alone: whoever has the port shows, even one who would share it.
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    let mut sockets = vec![first];
    // Only Linux divides the clients among sockets that share a port; elsewhere one thread has them all.
    let count = if cfg!(target_os = "linux") { readers::count() } else { 1 };
    for _ in 1..count {
        let next = udp_socket(address)?;
        next.set_reuse_port(true)?;
        next.bind(&address.into())?;
        sockets.push(next);
    }
    let sockets = sockets.into_iter();
    sockets
        .map(|socket| Datagrams::new(socket.into()).map(Arc::new))
        .collect()
}

fn udp_socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket(address, socket2::Type::DGRAM)?;
    // A smaller buffer than asked for is no reason not to serve.
    drop(socket.set_recv_buffer_size(UDP_BUFFER_BYTES));
    Ok(socket)
}

fn socket(address: SocketAddr, kind: socket2::Type) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Serves all that was bound until shutdown. Must be called within the runtime, and once.
pub fn serve(shared: &Arc<Shared>, all: Vec<Bound>, secure: Vec<SecureBound>) {
    shared.tasks.spawn_pillar("lookups", Arc::clone(shared).tend_lookups());
    let (sockets, listeners): (Vec<_>, Vec<_>) = all.into_iter().map(|bound| (bound.udp, bound.tcp)).unzip();
    worker::start(shared, &sockets);
    for listener in listeners {
        let accept = accept::accept(Arc::clone(shared), listener, Protocol::Tcp);
        shared.tasks.spawn_pillar("tcp listener", accept);
    }
    for bound in secure {
        let own = Arc::clone(shared);
        match bound.socket {
            SecureSocket::Tcp(listener, tls) if bound.via == Via::Https => {
                let accept = accept::accept(own, listener, Protocol::Https(tls));
                shared.tasks.spawn_pillar("https listener", accept);
            }
            SecureSocket::Tcp(listener, tls) => {
                let accept = accept::accept(own, listener, Protocol::Tls(tls));
                shared.tasks.spawn_pillar("tls listener", accept);
            }
            SecureSocket::Quic(endpoint) => {
                let accept = quic::accept(own, endpoint, bound.via);
                shared.tasks.spawn_pillar("quic listener", accept);
            }
        }
    }
}

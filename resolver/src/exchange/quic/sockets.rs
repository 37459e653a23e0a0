//! The sockets of QUIC: one per address family, for all endpoints and both protocols.
//!
//! They are opened when the first connection needs one and stay as long as the process: a reload keeps them. When the
//! way out of this machine changes they are exchanged for new ones, and connections move with them (RFC 9000 section
//! 9): what is in flight is answered on the new path.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use detour_core::Time;
use detour_core::outcome::Failure;
use detour_core::time::SEC;
use parking_lot::Mutex;
use quinn::{ClientConfig, ConnectError, Connecting, Endpoint, EndpointConfig, Runtime, TokioRuntime};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::watched::{Watch, WatchedSocket};
use crate::exchange::line::failure_of;
use crate::tasks::Tasks;

/// A change of way is told once for each endpoint: one new socket is enough for all of them.
const REBIND_APART_US: u64 = SEC;
/// Asked of the kernel, which grants what it may: answers of many providers meet in one buffer.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// The sockets of both families.
pub(crate) struct QuicSockets {
    tasks: Tasks,
    v4: Mutex<Family>,
    v6: Mutex<Family>,
}

/// One family; held while a socket is opened or a connection begun, which waits for nothing.
#[derive(Default)]
struct Family {
    open: Option<Open>,
    rebound: Option<Time>,
}

struct Open {
    endpoint: Endpoint,
    socket: Arc<WatchedSocket>,
}

impl fmt::Debug for QuicSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicSockets").finish_non_exhaustive()
    }
}

impl QuicSockets {
    /// Nothing is opened yet.
    pub(crate) fn new(tasks: &Tasks) -> Arc<Self> {
        Arc::new(Self {
            tasks: tasks.clone(),
            v4: Mutex::default(),
            v6: Mutex::default(),
        })
    }

    /// Begins to connect, and watches what the socket hears about the address meanwhile.
    ///
    /// # Errors
    ///
    /// This machine has no way there, or no socket.
    pub(super) fn connect(
        &self,
        config: &ClientConfig,
        address: SocketAddr,
        name: &str,
    ) -> Result<(Connecting, Watch), Failure> {
        has_route(address)?;
        let mut family = self.family(address).lock();
        // A second try where the endpoint of the first had been given up by its driver.
        for _ in 0..2 {
            let open = match &mut family.open {
                Some(open) => open,
                closed @ None => closed.insert(self.open(address).map_err(local)?),
            };
            let watch = open.socket.watch(address);
            match open.endpoint.connect_with(config.clone(), address, name) {
                Ok(connecting) => return Ok((connecting, watch)),
                Err(ConnectError::EndpointStopping) => family.open = None,
                Err(ConnectError::InvalidServerName(_)) => return Err(Failure::Tls),
                Err(
                    ConnectError::CidsExhausted
                    | ConnectError::InvalidRemoteAddress(_)
                    | ConnectError::NoDefaultClientConfig
                    | ConnectError::UnsupportedVersion,
                ) => return Err(Failure::Local),
            }
        }
        Err(Failure::Local)
    }

    /// The way to an address is another one: connections of its family move to a new socket, where one can be had.
    pub(crate) fn renew(&self, address: SocketAddr, now: Time) {
        let mut family = self.family(address).lock();
        let is_done = family
            .rebound
            .is_some_and(|rebound| now.since(rebound) < REBIND_APART_US);
        let Some(open) = family.open.as_mut().filter(|_| !is_done) else {
            return;
        };
        let renewed = self.socket(address).and_then(|socket| {
            open.endpoint.rebind_abstract(Arc::<WatchedSocket>::clone(&socket))?;
            open.socket = socket;
            Ok(())
        });
        match renewed {
            Ok(()) => family.rebound = Some(now),
            // The old one stays, and with it what it carries.
            Err(error) => tracing::debug!(%error, "no new socket for QUIC"),
        }
    }

    fn family(&self, address: SocketAddr) -> &Mutex<Family> {
        if address.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    fn open(&self, address: SocketAddr) -> io::Result<Open> {
        let socket = self.socket(address)?;
        let endpoint = Endpoint::new_with_abstract_socket(
            EndpointConfig::default(),
            None,
            Arc::<WatchedSocket>::clone(&socket),
            Arc::new(TokioRuntime),
        )?;
        Ok(Open { endpoint, socket })
    }

    fn socket(&self, address: SocketAddr) -> io::Result<Arc<WatchedSocket>> {
        let any: IpAddr = if address.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.bind(&SockAddr::from(SocketAddr::new(any, 0)))?;
        let socket = UdpSocket::from(socket);
        let errors = socket.try_clone()?;
        WatchedSocket::new(TokioRuntime.wrap_udp_socket(socket)?, errors, &self.tasks)
    }
}

/// Whether this machine has a way to an address: a datagram that is never sent tells.
fn has_route(address: SocketAddr) -> Result<(), Failure> {
    let any: IpAddr = if address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let asked = UdpSocket::bind(SocketAddr::new(any, 0)).and_then(|socket| socket.connect(address));
    asked.map_err(local)
}

fn local(error: io::Error) -> Failure {
    failure_of(&error).unwrap_or(Failure::Local)
}

//! A server by hand, which does what a test says, and lines to it.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use detour_core::health::Purpose;
use detour_core::lookup::Via;
use detour_core::outcome::{Failure, Signal};
use detour_core::{Clock, EndpointId, Time, Transport};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::ask::Ask;
use crate::exchange::tls::{Group, TlsName, Trust};
use crate::exchange::{
    Attempt, AttemptEvent, ExchangeParts, Exchanges, Listener, QuicSockets, Remote, RemoteTls, SourcePorts,
};
use crate::readers::Readers;
use crate::report::Reporter;
use crate::tasks::Tasks;
use crate::testing::topology;
use crate::wire::NameBuf;
use crate::wire::code::{class, rtype};

/// How long a test waits for what must happen.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// A server of `dns.example`.
pub(super) struct Server {
    endpoint: Endpoint,
    trust: Trust,
    _files: TempDir,
}

impl Server {
    /// One that speaks `protocol` and allows so many streams.
    pub(super) fn new(protocol: &[u8], streams: u32) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let root = root.self_signed(&root_key).unwrap();
        let own = CertificateParams::new(vec!["dns.example".to_owned()]).unwrap();
        let own = own.signed_by(&key, &root, &root_key).unwrap();
        let pem = files.path().join("ca.pem");
        std::fs::write(&pem, root.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![protocol.to_vec()];
        tls.max_early_data_size = u32::MAX;
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let mut transport = TransportConfig::default();
        transport.max_concurrent_bidi_streams(VarInt::from_u32(streams));
        config.transport_config(Arc::new(transport));
        Self {
            endpoint: Endpoint::server(config, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap(),
            trust: Trust::load(&[pem], &Group::ALL).unwrap(),
            _files: files,
        }
    }

    /// The next connection, its handshake done.
    pub(super) async fn connection(&self) -> Connection {
        let incoming = timeout(DEADLINE, self.endpoint.accept()).await.unwrap().unwrap();
        timeout(DEADLINE, incoming.into_future()).await.unwrap().unwrap()
    }

    /// The next handshake, which must fail.
    pub(super) async fn refused(&self) {
        let incoming = timeout(DEADLINE, self.endpoint.accept()).await.unwrap().unwrap();
        timeout(DEADLINE, incoming.into_future()).await.unwrap().unwrap_err();
    }

    /// The next connection, from its first packet on.
    pub(super) async fn early_connection(&self) -> Connection {
        let incoming = timeout(DEADLINE, self.endpoint.accept()).await.unwrap().unwrap();
        incoming.accept().unwrap().into_0rtt().unwrap().0
    }
}

/// The next stream, and the frame on it to its end.
pub(super) async fn query(connection: &Connection) -> (SendStream, RecvStream, Vec<u8>) {
    let (send, mut recv) = timeout(DEADLINE, connection.accept_bi()).await.unwrap().unwrap();
    let frame = timeout(DEADLINE, recv.read_to_end(1 << 16)).await.unwrap().unwrap();
    let (length, message) = frame.split_first_chunk().unwrap();
    assert_eq!(usize::from(u16::from_be_bytes(*length)), message.len());
    (send, recv, message.to_vec())
}

/// The query, said to be an answer without records, in a frame.
pub(super) fn answer(query: &[u8]) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2] |= 0x80;
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&length[..], &message].concat()
}

/// Why a connection was closed by the one under test: the code it gave.
pub(super) async fn closed_with(connection: &Connection) -> u64 {
    let ended = timeout(DEADLINE, connection.closed()).await.unwrap();
    let quinn::ConnectionError::ApplicationClosed(close) = ended else {
        panic!("{ended}");
    };
    close.error_code.into_inner()
}

/// Time that passes when the test says so; timers go on by themselves.
#[derive(Debug)]
struct Set(AtomicU64);

impl Clock for Set {
    fn now(&self) -> Time {
        Time::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// Passes on what it hears.
#[derive(Debug)]
struct Ear(mpsc::Sender<AttemptEvent>);

impl Listener for Ear {
    fn hear(self: Arc<Self>, event: AttemptEvent, _now: Time) {
        self.0.try_send(event).unwrap();
    }

    fn is_over(&self) -> bool {
        self.0.is_closed()
    }
}

/// What comes of one query.
pub(super) struct Asked(mpsc::Receiver<AttemptEvent>);

impl Asked {
    async fn signal(&mut self) -> Signal {
        timeout(DEADLINE, self.0.recv()).await.unwrap().unwrap().signal
    }

    /// It must be answered.
    pub(super) async fn answered(mut self) {
        let signal = self.signal().await;
        assert!(matches!(signal, Signal::Answered(_)), "{signal:?}");
    }

    /// It must fail, for this.
    pub(super) async fn failed(mut self, failure: Failure) {
        assert_eq!(self.signal().await, Signal::Failed(failure));
    }
}

/// Lines to a server.
pub(super) struct Bench {
    exchanges: Exchanges,
    clock: Arc<Set>,
    next: u64,
}

impl Bench {
    pub(super) fn new(server: &Server, transport: Transport, early_data: bool) -> Self {
        let address = server.endpoint.local_addr().unwrap();
        let mut topology = topology(&address.to_string());
        topology.endpoints[0].transport = transport;
        let remote = Remote {
            addresses: address.into(),
            tls: Some(RemoteTls {
                name: TlsName::new("dns.example").unwrap(),
                trust: server.trust.clone(),
                url: Some("https://dns.example/dns-query".parse().unwrap()),
                early_data,
            }),
        };
        let clock = Arc::new(Set(AtomicU64::new(1_000_000)));
        let (tasks, own): (_, Arc<dyn Clock>) = (Tasks::default(), Arc::<Set>::clone(&clock));
        let parts = ExchangeParts {
            reporter: Arc::new(Reporter::new().0),
            readers: Readers::new(&tasks, &own),
            clock: own,
            quic: QuicSockets::new(&tasks),
            tasks,
            source_ports: SourcePorts::Pool,
        };
        Self {
            exchanges: Exchanges::new(&topology, &[remote], &parts),
            clock,
            next: 0,
        }
    }

    pub(super) fn pass(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap();
        self.clock.0.fetch_add(us, Ordering::Relaxed);
    }

    /// The way to the server is another one.
    pub(super) fn renew(&self) {
        self.exchanges.renew(EndpointId(0));
    }

    /// Begins to ask.
    pub(super) fn ask(&mut self) -> Asked {
        let name = NameBuf::from_wire(b"\x01a\x07example\x00").unwrap();
        let (heard, events) = mpsc::channel(4);
        self.next += 1;
        let attempt = Attempt {
            id: self.next,
            purpose: Purpose::Client,
            ask: Arc::new(Ask::new(
                &name,
                rtype::A,
                class::IN,
                (false, false),
                crate::ask::GroupKey::PUBLIC,
                1,
            )),
            slot: 0,
            reply_to: Some(Arc::new(Ear(heard))),
            without_edns: false,
            made: self.clock.now(),
            via: Via::Own,
        };
        self.exchanges.begin(EndpointId(0), attempt);
        Asked(events)
    }
}

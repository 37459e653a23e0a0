//! A node that serves encrypted DNS, and clients of every transport that say exactly what a test wants them to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use detour_rig::{Authority, Fake};
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig as QuicConfig, Connection, Endpoint};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{PATIENCE, Tcp};
use crate::message::{Message, Reply};
use crate::node::{Node, config, udp_blocks};

/// The name in the node's certificate.
pub(crate) const NAME: &str = "dns.office.test";
/// Where it takes DNS over HTTPS.
pub(crate) const PATH: &str = "/dns-query";

/// A node on all transports, and what its certificate is from.
pub(crate) struct Site {
    pub(crate) node: Node,
    pub(crate) authority: Authority,
    directory: TempDir,
    /// Its configuration.
    pub(crate) config: String,
}

/// What came back from a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn reply(&self) -> Reply {
        assert_eq!(self.status, 200, "{self:?}");
        Reply::read(&self.body)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Site {
    pub(crate) async fn before(fakes: &[&Fake]) -> Self {
        Self::with(fakes, "", "").await
    }

    /// With more lines in `[listen]`, and more sections.
    pub(crate) async fn with(fakes: &[&Fake], listen: &str, rest: &str) -> Self {
        let authority = Authority::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = authority.write_pair(NAME, directory.path()).unwrap();
        let lines = format!(
            "[listen]\ntls = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\nh3 = [\"127.0.0.1:0\"]\n\
             quic = [\"127.0.0.1:0\"]\ncert = {cert:?}\nkey = {key:?}\n{listen}"
        );
        let text = config(&udp_blocks(fakes)).replacen("[listen]", &lines, 1) + rest;
        let node = Node::start(&text).await;
        node.has_looked(fakes.len()).await;
        Self {
            node,
            authority,
            directory,
            config: text,
        }
    }

    /// Another pair in the place of the one there is; the certificate.
    pub(crate) fn renew(&self) -> CertificateDer<'static> {
        let (cert, _) = self.authority.write_pair(NAME, self.directory.path()).unwrap();
        CertificateDer::from_pem_file(cert).unwrap()
    }

    /// Writes a pair that ended long ago.
    pub(crate) fn renew_too_late(&self) {
        self.authority.write_expired_pair(NAME, self.directory.path()).unwrap();
    }

    /// The certificate's file and its key's.
    pub(crate) fn files(&self) -> [PathBuf; 2] {
        ["cert.pem", "key.pem"].map(|name| self.directory.path().join(name))
    }

    /// How TLS is spoken to it.
    pub(crate) fn tls(&self, protocols: &[&[u8]]) -> ClientConfig {
        tls_trusting(&self.authority.pem(), protocols)
    }

    /// A connection under TLS from an address of one's choice.
    pub(crate) async fn connect(
        &self,
        own: &str,
        what: &str,
        protocols: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(own.parse().unwrap(), 0))?;
        let connecting = async {
            let stream = socket.connect(self.node.listening(what)).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(NAME).unwrap();
            TlsConnector::from(Arc::new(self.tls(protocols)))
                .connect(name, stream)
                .await
        };
        timeout(PATIENCE, connecting).await.expect("a connection in time")
    }

    /// A client of DNS over TLS.
    pub(crate) async fn dot(&self) -> Tcp<TlsStream<TcpStream>> {
        Tcp::over(self.connect("127.0.0.1", "tls", &[b"dot"]).await.unwrap())
    }

    /// A client of HTTP/2.
    pub(crate) async fn two(&self) -> Two {
        let stream = self.connect("127.0.0.1", "https", &[b"h2"]).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Two { sender, tasks }
    }

    /// A connection of QUIC.
    pub(crate) async fn quic(&self, what: &str, protocol: &[u8]) -> Quic {
        self.quic_at(self.node.listening(what), protocol).await
    }

    pub(crate) async fn quic_at(&self, address: SocketAddr, protocol: &[u8]) -> Quic {
        let endpoint = self.quic_endpoint(protocol);
        let connecting = endpoint.connect(address, NAME).unwrap();
        let connection = timeout(PATIENCE, connecting)
            .await
            .expect("a connection in time")
            .unwrap();
        Quic {
            connection,
            _endpoint: endpoint,
        }
    }

    /// An endpoint whose clients speak this.
    pub(crate) fn quic_endpoint(&self, protocol: &[u8]) -> Endpoint {
        let mut endpoint = Endpoint::client(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).unwrap();
        let config = QuicClientConfig::try_from(self.tls(&[protocol])).unwrap();
        endpoint.set_default_client_config(QuicConfig::new(Arc::new(config)));
        endpoint
    }

    /// A client of DNS over QUIC.
    pub(crate) async fn doq(&self) -> Quic {
        self.quic("quic", b"doq").await
    }

    /// A client of HTTP/3.
    pub(crate) async fn three(&self) -> Three {
        let quic = self.quic("h3", b"h3").await;
        let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(quic.connection.clone()))
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        Three {
            sender,
            _tasks: tasks,
            quic,
        }
    }
}

/// How TLS is spoken by a client that trusts this certificate alone.
pub(crate) fn tls_trusting(pem: &str, protocols: &[&[u8]]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

/// A request for DNS over HTTPS by POST.
pub(crate) fn post() -> Request<()> {
    request(Method::POST, PATH, &[("content-type", "application/dns-message")])
}

/// The same by GET.
pub(crate) fn get(message: &[u8]) -> Request<()> {
    request(Method::GET, &format!("{PATH}?dns={}", base64url(message)), &[])
}

pub(crate) fn request(method: Method, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("https://{NAME}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// Base64url without padding (RFC 4648 section 5).
pub(crate) fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(LETTERS[bits >> (18 - 6 * place) & 63]));
        }
    }
    text
}

/// A client of HTTP/2.
pub(crate) struct Two {
    pub(crate) sender: SendRequest<Bytes>,
    tasks: JoinSet<Result<(), h2::Error>>,
}

impl Two {
    pub(crate) async fn send(&self, request: Request<()>, body: Option<&[u8]>) -> Result<Answer, h2::Error> {
        let asking = async {
            let mut sender = self.sender.clone().ready().await?;
            let (response, mut stream) = sender.send_request(request, body.is_none())?;
            if let Some(body) = body {
                stream.send_data(Bytes::copy_from_slice(body), true)?;
            }
            let (head, mut rest) = response.await?.into_parts();
            let mut body = Vec::new();
            while let Some(data) = rest.data().await {
                let data = data?;
                rest.flow_control().release_capacity(data.len())?;
                body.extend_from_slice(&data);
            }
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
            })
        };
        timeout(PATIENCE, asking).await.expect("an answer in time")
    }

    pub(crate) async fn ask(&self, query: &Message) -> Answer {
        self.send(post(), Some(&query.bytes())).await.unwrap()
    }

    /// How the connection ends.
    pub(crate) async fn end(mut self) -> Result<(), h2::Error> {
        let ended = timeout(PATIENCE, self.tasks.join_next()).await.expect("an end in time");
        ended.unwrap().unwrap()
    }
}

/// A connection of QUIC.
pub(crate) struct Quic {
    pub(crate) connection: Connection,
    _endpoint: Endpoint,
}

impl Quic {
    /// Sends these bytes on a stream of their own; what comes back.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (mut send, mut receive) = self.connection.open_bi().await.ok()?;
        send.write_all(bytes).await.ok()?;
        send.finish().ok()?;
        let read = timeout(PATIENCE, receive.read_to_end(1 << 17)).await;
        read.expect("an answer in time").ok()
    }

    /// Asks a query, whose id must be 0.
    pub(crate) async fn ask(&self, query: &Message) -> Reply {
        let bytes = self
            .exchange(&crate::client::framed(&query.bytes()))
            .await
            .expect("a reply");
        let (length, message) = bytes.split_first_chunk::<2>().unwrap();
        assert_eq!(usize::from(u16::from_be_bytes(*length)), message.len());
        Reply::read(message)
    }

    /// The code by which the node closed it.
    pub(crate) async fn close_code(&self) -> u64 {
        let ended = timeout(PATIENCE, self.connection.closed())
            .await
            .expect("an end in time");
        let quinn::ConnectionError::ApplicationClosed(close) = ended else {
            panic!("{ended:?}");
        };
        close.error_code.into_inner()
    }
}

/// A client of HTTP/3.
pub(crate) struct Three {
    pub(crate) sender: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    _tasks: JoinSet<h3::error::ConnectionError>,
    pub(crate) quic: Quic,
}

impl Three {
    pub(crate) async fn send(
        &self,
        request: Request<()>,
        body: Option<&[u8]>,
    ) -> Result<Answer, h3::error::StreamError> {
        let asking = async {
            let mut stream = self.sender.clone().send_request(request).await?;
            if let Some(body) = body {
                stream.send_data(Bytes::copy_from_slice(body)).await?;
            }
            stream.finish().await?;
            let (head, ()) = stream.recv_response().await?.into_parts();
            let mut body = Vec::new();
            while let Some(mut data) = stream.recv_data().await? {
                let bytes = data.copy_to_bytes(data.remaining());
                body.extend_from_slice(&bytes);
            }
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
            })
        };
        timeout(PATIENCE, asking).await.expect("an answer in time")
    }

    pub(crate) async fn ask(&self, query: &Message) -> Answer {
        self.send(post(), Some(&query.bytes())).await.unwrap()
    }
}
